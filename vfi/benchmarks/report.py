"""Shows what was measured: tables as text, and a page to look at the pictures.

The page is report.html with its data filled in. It is static; its only other files are the pictures beside it.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from PIL import Image

from vfi import pictures
from vfi.benchmarks.results import Key, Results, Settings
from vfi.benchmarks.triplets import Benchmark, Frame, Triplet
from vfi.errors import BenchmarkError, reason
from vfi.files import new_folder, write_text
from vfi.metrics import METRICS

TEMPLATE = Path(__file__).with_name("report.html")
SCENES_IN_TEXT = 30  # of a single method are listed one by one; more are not listed
LEFT_OUT_SHOWN = 20  # lines; the JSON file has all of them
SCENES_ON_PAGE = 48  # evenly spread over larger benchmarks, whose pictures would be many gigabytes
THUMBNAIL = (240, 180)  # pixels
ERROR_COLOURS = ((0, 0, 0), (60, 15, 110), (190, 50, 90), (250, 140, 20), (252, 255, 190))
ERROR_MOST = 64  # grey levels of mean difference from which on the last of these colours is shown


# --- Tables ------------------------------------------------------------------------------------------------------


def tables(results: Results, benchmark: Benchmark) -> list[dict[str, Any]]:
    """The means of each subset, and below them what was published.

    Returns:
        For each subset a dict of "title", "columns" (titles of the metrics), and "rows": dicts of "label", "cells"
        (text), and "source": the number of the source in `sources`, or None for what was measured.
    """
    metrics = results.settings.metrics
    made = []
    for subset in results.subsets():
        rows: list[dict[str, Any]] = []
        for index, label in enumerate(results.settings.labels):
            means = {name: results.mean(subset, index, name) for name in metrics}
            rows.append({"label": label, "cells": _cells(means, metrics), "source": None})
        for entry in benchmark.published:
            if entry.subset == subset:
                cells = [entry.values.get(name, "") for name in metrics]
                number = sources(results, benchmark).index(entry.source) + 1
                rows.append({"label": f"published: {entry.label}", "cells": cells, "source": number})
        measured = len(results.of(subset))
        known = measured + sum(name == subset for name, _ in results.left_out)
        whole = max(benchmark.count or 0, known)
        scenes = _scenes(measured) if measured == whole else f"{measured} of {_scenes(whole)}"
        title = ", ".join(filter(None, (benchmark.title, subset, scenes)))
        made.append({"title": title, "columns": [METRICS[name].title for name in metrics], "rows": rows})
    return made


def sources(results: Results, benchmark: Benchmark) -> list[str]:
    """The sources of the published figures that the tables show, each once, in their order."""
    subsets = results.subsets()
    return list(
        dict.fromkeys(entry.source for subset in subsets for entry in benchmark.published if entry.subset == subset)
    )


def _scenes(count: int) -> str:
    return "1 scene" if count == 1 else f"{count} scenes"


def _cells(values: dict[str, float | None], metrics: Sequence[str]) -> list[str]:
    return [
        "n/a" if value is None else f"{value:.{METRICS[name].decimals}f}"  # infinity is "inf"
        for name, value in ((name, values[name]) for name in metrics)
    ]


def notes(results: Results) -> list[str]:
    """What a reader of the tables has to know, in sentences."""
    said = [f"{METRICS[name].title} is not available: {why}" for name, why in results.settings.unavailable.items()]
    for subset in results.subsets():
        scenes = results.of(subset)
        for index, label in enumerate(results.settings.labels):
            name = f"{label}{subset and f' ({subset})'}"
            finite = [scene[index]["psnr"] for scene in scenes if math.isfinite(scene[index]["psnr"])]
            if len(finite) < len(scenes):
                others = f", without them it is {np.mean(finite):.2f} dB" if finite else ""
                said.append(f"{name}: the PSNR of exact pictures ({len(scenes) - len(finite)}) is infinite{others}")
            differences = [scene[index]["from_float32"] for scene in scenes if "from_float32" in scene[index]]
            if differences:
                most = f"{max(differences):.0f} of 255 levels"
                decibels = _decibels(scenes, index)
                said.append(f"{name}: no pixel is more than {most} from the picture in float32{decibels}")
    return said


def _decibels(scenes: Sequence[Sequence[dict[str, Any]]], index: int) -> str:
    """The PSNR of all pictures of a method together, against those in float32; nothing if these are the same."""
    name = "psnr_from_float32"
    errors = [10 ** (-scene[index][name] / 10) for scene in scenes if name in scene[index]]
    return f", PSNR {-10 * math.log10(np.mean(errors)):.1f} dB" if any(errors) else ""


def left_out(results: Results) -> list[str]:
    """A line for each scene that was left out, with the reason; only the first ones if there are many."""
    lines = [f"left out: {_name(*key)}: {why}" for key, why in results.left_out.items()]
    more = [f"left out: {len(lines) - LEFT_OUT_SHOWN} more; --json names them all"]
    return lines if len(lines) <= LEFT_OUT_SHOWN else lines[:LEFT_OUT_SHOWN] + more


def text(results: Results, benchmark: Benchmark) -> str:
    """Tables, sources and notes for a terminal."""
    metrics = results.settings.metrics
    labels = results.settings.labels
    blocks = []
    for table in tables(results, benchmark):
        rows = [(table["title"], table["columns"])]
        for row in table["rows"]:
            mark = f" [{row['source']}]" if row["source"] else ""
            rows.append((row["label"] + mark, row["cells"]))
        blocks.append(_aligned(rows))
    if len(labels) == 1 and len(results.scenes) <= SCENES_IN_TEXT:
        rows = [(labels[0], [METRICS[name].title for name in metrics])]
        rows += [(" ".join(filter(None, key)), _cells(values[0], metrics)) for key, values in results.scenes.items()]
        blocks.insert(0, _aligned(rows))
    numbered = [f"[{number}] {source}" for number, source in enumerate(sources(results, benchmark), 1)]
    blocks.append("\n".join(numbered + notes(results)))
    return "\n\n".join(filter(None, blocks))


def _aligned(rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    labels = max(len(label) for label, _ in rows)
    widths = [max(len(cells[column]) for _, cells in rows) + 2 for column in range(len(rows[0][1]))]
    return "\n".join(
        (f"{label:{labels}}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))).rstrip()
        for label, cells in rows
    )


# --- The page ----------------------------------------------------------------------------------------------------


class Page:
    """A folder with index.html and the pictures that it shows.

    Args:
        folder: is made when the block of a `with` begins; if the block fails before there is a picture, it is removed.
        settings: of the results; the folder of the pictures is named after them, so that pictures of other weights, for
            example, are never used for these.
        triplets: all that are measured; the page shows at most SCENES_ON_PAGE of them, evenly spread.
    """

    def __init__(self, folder: Path, settings: Settings, triplets: Sequence[Triplet]) -> None:
        self.folder = folder
        self.name = "pictures-" + hashlib.sha256(json.dumps(asdict(settings), sort_keys=True).encode()).hexdigest()[:12]
        count = min(len(triplets), SCENES_ON_PAGE)
        shown = (triplets[number * len(triplets) // count] for number in range(count))
        self.numbers = {triplet.key: number for number, triplet in enumerate(shown)}
        self.labels = settings.labels
        self._making = new_folder(folder / self.name)

    def __enter__(self) -> Self:
        try:
            self._making.__enter__()
        except OSError as error:
            raise BenchmarkError(f"--html {self.folder} cannot be made: {reason(error)}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._making.__exit__(kind, error, traceback)

    def _file(self, key: Key, what: str) -> str:
        return f"{self.name}/{self.numbers[key]:02}-{what}"

    def _files(self, key: Key) -> dict[str, Any]:
        """The files of a scene, by what they show."""
        return {
            "truth": self._file(key, "truth.png"),
            "thumbnail": self._file(key, "small.jpg"),
            "results": [self._file(key, f"{index}.png") for index in range(len(self.labels))],
            "errors": [self._file(key, f"{index}-error.png") for index in range(len(self.labels))],
        }

    def lacks(self, triplet: Triplet) -> bool:
        """Whether the page shows a scene whose pictures do not exist yet."""
        key = triplet.key
        return key in self.numbers and not (self.folder / self._files(key)["thumbnail"]).exists()

    def add(self, triplet: Triplet, results: Sequence[Frame], truth: Frame) -> None:
        """Writes the pictures of a scene, one for each method, uint8 (H, W, 3)."""
        key = triplet.key
        if key not in self.numbers:
            return
        files = self._files(key)
        self._write(files["truth"], truth)
        for picture, name, error in zip(results, files["results"], files["errors"], strict=True):
            self._write(name, picture)
            self._write(error, error_map(picture, truth))
        small = Image.fromarray(truth)
        small.thumbnail(THUMBNAIL)
        self._write(files["thumbnail"], np.asarray(small))  # last: it says that all are there

    def _write(self, name: str, pixels: Frame) -> None:
        pictures.write(self.folder / name, pictures.Picture(pixels))

    def write(self, results: Results, benchmark: Benchmark) -> Path:
        """Writes index.html; returns its path."""
        metrics = results.settings.metrics
        data = {
            "tables": tables(results, benchmark),
            "sources": sources(results, benchmark),
            "notes": notes(results) + left_out(results),
            "methods": self.labels,
            "metrics": [METRICS[name].title for name in metrics],
            "scenes": [
                {
                    "name": _name(*key),
                    "values": [_cells(values, metrics) for values in results.scenes[key]],
                    "files": self._files(key),
                }
                for key in self.numbers
                if key in results.scenes
            ],
            "measured": len(results.scenes),
            "errorColours": ["#" + bytes(colour).hex() for colour in ERROR_COLOURS],
            "errorMost": ERROR_MOST,
        }
        page = TEMPLATE.read_text(encoding="utf-8")
        page = page.replace("{{ title }}", benchmark.title)
        # Within a script, HTML only sees "</script" and "<!--".
        page = page.replace("{{ data }}", json.dumps(data, ensure_ascii=False).replace("<", "\\u003c"))
        path = self.folder / "index.html"
        write_text(path, page)
        return path


def _name(subset: str, scene: str) -> str:
    return f"{subset} {scene}" if subset else scene


def error_map(picture: Frame, truth: Frame) -> Frame:
    """The mean absolute difference of each pixel's channels, in colours from black (none) to pale yellow."""
    error = np.abs(picture.astype(np.float32) - truth).mean(axis=2)
    stops = np.linspace(0, ERROR_MOST, len(ERROR_COLOURS))
    channels = [np.interp(error, stops, [colour[channel] for colour in ERROR_COLOURS]) for channel in range(3)]
    return np.rint(np.stack(channels, axis=2)).astype(np.uint8)
