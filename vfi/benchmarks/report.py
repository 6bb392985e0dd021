"""What was measured, for people: tables as text, and a page to look at the pictures.

The page is report.html with its data put in: static, with no other files than the pictures beside it.
"""

import hashlib
import json
import math
from pathlib import Path

import numpy as np
from PIL import Image

from vfi import pictures
from vfi.errors import BenchmarkError
from vfi.files import new_folder, write_text
from vfi.metrics import METRICS

TEMPLATE = Path(__file__).with_name("report.html")
SCENES_IN_TEXT = 30  # up to so many scenes of a single method are listed one by one
LEFT_OUT_SHOWN = 20  # the JSON file has them all
SCENES_ON_PAGE = 48  # evenly spread over the larger benchmarks: their pictures would be many gigabytes
THUMBNAIL = (240, 180)  # pixels
ERROR_COLOURS = ((0, 0, 0), (60, 15, 110), (190, 50, 90), (250, 140, 20), (252, 255, 190))
ERROR_MOST = 64  # grey levels of mean difference that have the last of these colours, as has all beyond


# --- Tables ------------------------------------------------------------------------------------------------------


def tables(results, benchmark):
    """The means of each subset, and below them what was published.

    Returns:
        For each subset a dict of "title", "columns" (titles of the metrics), and "rows": dicts of "label", "cells"
        (text), and "source", which is empty for what was measured.
    """
    metrics = results.settings["metrics"]
    made = []
    for subset in results.subsets():
        rows = []
        for index, method in enumerate(results.settings["methods"]):
            means = {name: results.mean(subset, index, name) for name in metrics}
            rows.append({"label": method["label"], "cells": _cells(means, metrics), "source": ""})
        for entry in benchmark.published:
            if entry.subset == subset:
                cells = [entry.values.get(name, "") for name in metrics]
                rows.append({"label": f"published: {entry.label}", "cells": cells, "source": entry.source})
        measured = len(results.of(subset))
        known = measured + sum(name == subset for name, _ in results.left_out)
        whole = max(benchmark.count or 0, known)
        scenes = _scenes(measured) if measured == whole else f"{measured} of {_scenes(whole)}"
        title = ", ".join(filter(None, (benchmark.title, subset, scenes)))
        made.append({"title": title, "columns": [METRICS[name].title for name in metrics], "rows": rows})
    return made


def _scenes(count):
    return "1 scene" if count == 1 else f"{count} scenes"


def _cells(values, metrics):
    return [
        "n/a" if values[name] is None else f"{values[name]:.{METRICS[name].decimals}f}"  # infinity is "inf"
        for name in metrics
    ]


def notes(results):
    """What a reader of the tables has to know, in sentences."""
    said = [
        f"{METRICS[name].title} is not to be had here: {why}" for name, why in results.settings["unavailable"].items()
    ]
    for subset in results.subsets():
        scenes = results.of(subset)
        for index, method in enumerate(results.settings["methods"]):
            label = f"{method['label']}{subset and f' ({subset})'}"
            finite = [scene[index]["psnr"] for scene in scenes if math.isfinite(scene[index]["psnr"])]
            if len(finite) < len(scenes):
                others = f", without them it is {np.mean(finite):.2f} dB" if finite else ""
                said.append(f"{label}: the PSNR of exact pictures ({len(scenes) - len(finite)}) is infinite{others}")
            differences = [scene[index]["from_float32"] for scene in scenes if "from_float32" in scene[index]]
            if differences:
                most = f"{max(differences):.0f} of 255 levels"
                said.append(f"{label}: no pixel is more than {most} from the picture in float32")
    return said


def left_out(results):
    """What was left out and why, line by line, up to a number that one still reads."""
    lines = [f"left out: {_name(*key)}: {why}" for key, why in results.left_out.items()]
    more = [f"left out: {len(lines) - LEFT_OUT_SHOWN} more; --json names them all"]
    return lines if len(lines) <= LEFT_OUT_SHOWN else lines[:LEFT_OUT_SHOWN] + more


def text(results, benchmark):
    """All of it for a terminal."""
    metrics = results.settings["metrics"]
    methods = results.settings["methods"]
    blocks, sources = [], []
    for table in tables(results, benchmark):
        rows = [(table["title"], table["columns"])]
        for row in table["rows"]:
            if row["source"] and row["source"] not in sources:
                sources.append(row["source"])
            mark = f" [{sources.index(row['source']) + 1}]" if row["source"] else ""
            rows.append((row["label"] + mark, row["cells"]))
        blocks.append(_aligned(rows))
    if len(methods) == 1 and len(results.scenes) <= SCENES_IN_TEXT:
        rows = [(methods[0]["label"], [METRICS[name].title for name in metrics])]
        rows += [(" ".join(filter(None, key)), _cells(values[0], metrics)) for key, values in results.scenes.items()]
        blocks.insert(0, _aligned(rows))
    blocks.append("\n".join([f"[{number}] {source}" for number, source in enumerate(sources, 1)] + notes(results)))
    return "\n\n".join(filter(None, blocks))


def _aligned(rows):
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
        folder: is made when the block of a `with` begins; if that fails before there is a picture, it is removed.
        settings: those of the results, by which the folder of the pictures is called: pictures of other weights, say,
            are never taken for these.
        triplets: all that are measured; of many, those shown are spread evenly.
    """

    def __init__(self, folder, settings, triplets):
        self.folder = folder
        self.name = "pictures-" + hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
        count = min(len(triplets), SCENES_ON_PAGE)
        shown = (triplets[number * len(triplets) // count] for number in range(count))
        self.numbers = {(triplet.subset, triplet.scene): number for number, triplet in enumerate(shown)}
        self.methods = settings["methods"]
        self._making = new_folder(folder / self.name)

    def __enter__(self):
        try:
            self._making.__enter__()
        except OSError as error:
            raise BenchmarkError(f"--html {self.folder} cannot be made: {error.strerror.lower()}") from error

    def __exit__(self, *error):
        return self._making.__exit__(*error)

    def _file(self, key, what):
        return f"{self.name}/{self.numbers[key]:02}-{what}"

    def _files(self, key):
        """The files of a scene, by what they show."""
        return {
            "truth": self._file(key, "truth.png"),
            "thumbnail": self._file(key, "small.jpg"),
            "results": [self._file(key, f"{index}.png") for index in range(len(self.methods))],
            "errors": [self._file(key, f"{index}-error.png") for index in range(len(self.methods))],
        }

    def lacks(self, triplet):
        """Whether a scene is to be shown whose pictures were not made yet."""
        key = (triplet.subset, triplet.scene)
        return key in self.numbers and not (self.folder / self._files(key)["thumbnail"]).exists()

    def add(self, triplet, results, truth):
        """The pictures of a scene, one for each method, uint8 (H, W, 3)."""
        key = (triplet.subset, triplet.scene)
        if key not in self.numbers:
            return
        files = self._files(key)
        self._write(files["truth"], truth)
        for picture, name, error in zip(results, files["results"], files["errors"], strict=True):
            self._write(name, picture)
            self._write(error, error_map(picture, truth))
        small = Image.fromarray(truth)
        small.thumbnail(THUMBNAIL)
        self._write(files["thumbnail"], np.asarray(small))  # last: that it is there says that all are

    def _write(self, name, pixels):
        pictures.write(self.folder / name, pictures.Picture(pixels))

    def write(self, results, benchmark):
        """index.html; returns its path."""
        metrics = results.settings["metrics"]
        data = {
            "tables": tables(results, benchmark),
            "notes": notes(results) + left_out(results),
            "methods": [method["label"] for method in self.methods],
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
        # Within a script, nothing but "</script" and "<!--" would be taken for HTML.
        page = page.replace("{{ data }}", json.dumps(data, ensure_ascii=False).replace("<", "\\u003c"))
        path = self.folder / "index.html"
        write_text(path, page)
        return path


def _name(subset, scene):
    return f"{subset} {scene}" if subset else scene


def error_map(picture, truth):
    """The mean absolute difference of each pixel's channels, in colours from black (none) to pale yellow."""
    error = np.abs(picture.astype(np.float32) - truth).mean(axis=2)
    stops = np.linspace(0, ERROR_MOST, len(ERROR_COLOURS))
    channels = [np.interp(error, stops, [colour[channel] for colour in ERROR_COLOURS]) for channel in range(3)]
    return np.rint(np.stack(channels, axis=2)).astype(np.uint8)
