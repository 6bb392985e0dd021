"""What benchmark.py has measured, scene by scene; kept in a JSON file, so that an interrupted run can go on."""

import csv
import io
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vfi.benchmarks.triplets import Triplet
from vfi.errors import BenchmarkError, reason
from vfi.files import write_text

FORMAT = 1  # of the JSON file
SAVE_SECONDS = 30  # of measuring are lost, at most, if the program is killed


Key = tuple[str, str]  # subset, scene
Values = dict[str, Any]  # by metric


@dataclass(frozen=True)
class Settings:
    """All that the values depend on, as in the JSON file.

    Attributes:
        benchmark: its title.
        folder: where its frames lie.
        truncate: whether fractions are dropped instead of rounded.
        metrics: their names.
        unavailable: {metric: why it cannot be computed here}.
        methods: for each a dict with its "label" and its settings.
    """

    benchmark: str
    folder: str
    truncate: bool
    metrics: list[str]
    unavailable: dict[str, str]
    methods: list[dict[str, Any]]

    @property
    def labels(self) -> list[str]:
        return [method["label"] for method in self.methods]


class Results:
    """Values by scene and method.

    Args:
        path: of the JSON file, or None.

    Attributes:
        scenes: (subset, scene) -> for each method a dict of values by metric, None where a metric is unavailable; also
            "from_float32", the largest difference of any pixel, and "psnr_from_float32", if the same method is measured
            in float32, too.
        left_out: (subset, scene) -> reason.
    """

    def __init__(self, settings: Settings, path: Path | None = None) -> None:
        self.settings = settings
        self.path = path
        self.scenes: dict[Key, list[Values]] = {}
        self.left_out: dict[Key, str] = {}
        self._others_open = False  # whether subsets that are not measured now may lack scenes
        self._saved = time.monotonic()

    def load(self, resume: bool, triplets: Sequence[Triplet]) -> None:
        """Takes over what an earlier run has left in the file, if the file exists and `resume` is true.

        Of the subsets that are measured now, scenes that are no longer among the `triplets` are dropped. Of other
        subsets everything is kept.

        Raises:
            BenchmarkError: the file is not a results file, or has other settings; or it holds an unfinished run, and
                `resume` is false, which is probably a mistake.
        """
        if not self.path or not os.path.exists(self.path):
            return
        try:
            content = json.loads(Path(self.path).read_text(encoding="utf-8"))
            known = content["format"] == FORMAT
            if known:
                complete, settings = content["complete"], dict(content["settings"])
                scenes = {(entry["subset"], entry["scene"]): _values(entry, settings) for entry in content["scenes"]}
                left_out = {(entry["subset"], entry["scene"]): entry["why"] for entry in content["left_out"]}
        except OSError as error:
            raise BenchmarkError(f"{self.path} cannot be read: {reason(error)}") from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise BenchmarkError(
                f"{self.path} is damaged, or is not a results file: remove it, or name another file"
            ) from error
        if not known:
            raise BenchmarkError(f"{self.path} is in format {content['format']}; this version reads format {FORMAT}")
        for name, value in asdict(self.settings).items():
            if settings.get(name) != value:
                raise BenchmarkError(f"{self.path} was measured with another {name!r}: name another file, or remove it")
        if not resume:
            if not complete:
                raise BenchmarkError(f"{self.path} holds an unfinished run: go on with --resume, or remove it")
            return
        subsets = {triplet.subset for triplet in triplets}
        present = {triplet.key for triplet in triplets}
        self.scenes = {key: values for key, values in scenes.items() if key[0] not in subsets or key in present}
        self.left_out = {key: why for key, why in left_out.items() if key[0] not in subsets}
        self._others_open = not complete and any(key[0] not in subsets for key in [*scenes, *left_out])

    def add(self, triplet: Triplet, values: list[Values]) -> None:
        """Adds the values of a scene, a dict for each method; saves the file now and then."""
        self.scenes[triplet.key] = values
        if self.path and time.monotonic() - self._saved > SAVE_SECONDS:
            self.save(complete=False)

    def leave_out(self, triplet: Triplet, why: str) -> None:
        self.left_out[triplet.key] = why

    def subsets(self) -> list[str]:
        """The subsets of which a scene was measured or left out, in their order."""
        return list(dict.fromkeys(subset for subset, _ in [*self.scenes, *self.left_out]))

    def of(self, subset: str) -> list[list[Values]]:
        """The values of all scenes of a subset: for each scene a dict for each method."""
        return [values for (name, _), values in self.scenes.items() if name == subset]

    def mean(self, subset: str, method: int, metric: str) -> float | None:
        """The mean over the scenes of a subset; infinite if one value is, None if a value is missing."""
        values = [scene[method][metric] for scene in self.of(subset)]
        known = [value for value in values if value is not None]
        return math.fsum(known) / len(known) if known and len(known) == len(values) else None

    def save(self, complete: bool) -> None:
        """Writes the file; `complete` says whether all scenes of the subsets that are measured now are in it."""
        if not self.path:
            return
        self._saved = time.monotonic()
        content = {
            "format": FORMAT,
            "complete": complete and not self._others_open,
            "settings": asdict(self.settings),
            "means": [
                {
                    "subset": subset,
                    "method": label,
                    "scenes": len(self.of(subset)),
                    "values": _map(_json, {name: self.mean(subset, index, name) for name in self.settings.metrics}),
                }
                for subset in self.subsets()
                for index, label in enumerate(self.settings.labels)
            ],
            "left_out": [
                {"subset": subset, "scene": scene, "why": why} for (subset, scene), why in self.left_out.items()
            ],
            "scenes": [
                {"subset": subset, "scene": scene, "values": [_map(_json, entry) for entry in values]}
                for (subset, scene), values in self.scenes.items()
            ],
        }
        write_text(self.path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")

    def csv(self) -> str:
        """A line for each scene and method, after a line of names."""
        text = io.StringIO(newline="")
        metrics = self.settings.metrics
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["benchmark", "subset", "scene", "method", *metrics])
        for (subset, scene), values in self.scenes.items():
            for label, entry in zip(self.settings.labels, values, strict=True):
                row = [self.settings.benchmark, subset, scene, label]
                table.writerow([*row, *(entry[name] for name in metrics)])
        return text.getvalue()


def _values(entry: dict[str, Any], settings: dict[str, Any]) -> list[Values]:
    """The values of a scene in a file; raises KeyError or ValueError if one is missing."""
    values = [_map(float, measured) for measured in entry["values"]]
    lacking = {name for measured in values for name in settings["metrics"] if measured[name] is None}
    if len(values) != len(settings["methods"]) or not lacking <= set(settings["unavailable"]):
        raise ValueError("values are missing")
    return values


def _map(function: Callable[[Any], Any], values: dict[str, Any]) -> dict[str, Any]:
    return {name: None if value is None else function(value) for name, value in values.items()}


def _json(value: float) -> float | str:
    """JSON has no infinity: it becomes text, which float() reads."""
    return value if math.isfinite(value) else str(value)
