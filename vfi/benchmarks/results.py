"""What benchmark.py has measured: every scene by itself, kept in a JSON file so that a long run can be broken off."""

import csv
import io
import json
import math
import os
import time
from pathlib import Path

from vfi.errors import BenchmarkError
from vfi.files import write_text

FORMAT = 1  # of the JSON file
SAVE_SECONDS = 30  # at most so much is lost when the machine goes down


class Results:
    """Values by scene and method.

    Args:
        settings: all that the values depend on, as JSON has it: "benchmark", "folder", "metrics" (their names),
            "unavailable" (why, by the name of the metric), "truncate" and "methods" (each with its "label").
        path: the JSON file, or None.

    Attributes:
        scenes: (subset, scene) -> for each method a dict of values by metric, None where there is none to be had; and
            "from_float32", the largest difference of any pixel, where the same is measured in float32, too.
        left_out: (subset, scene) -> why.
    """

    def __init__(self, settings, path=None):
        self.settings = settings
        self.path = path
        self.scenes = {}
        self.left_out = {}
        self._others_open = False  # whether subsets that are not at hand may lack scenes
        self._saved = time.monotonic()

    def load(self, resume, triplets):
        """Takes what an earlier run has left in the file, if it is to be resumed and there is a file.

        Scenes of the subsets at hand that are not among the `triplets` any more are dropped; of other subsets all is
        kept, what was left out, too.

        Raises:
            BenchmarkError: there is one that is none of ours, or was measured otherwise, resumed or not; or it holds a
                run that is not complete and that nobody wants resumed, which is more likely a mistake.
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
            raise BenchmarkError(f"{self.path} cannot be read: {error.strerror.lower()}") from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise BenchmarkError(
                f"{self.path} is damaged, or holds no results of this program: remove it, or name another file"
            ) from error
        if not known:
            raise BenchmarkError(f"{self.path} is in format {content['format']}; this version reads format {FORMAT}")
        for name, value in self.settings.items():
            if settings.get(name) != value:
                raise BenchmarkError(
                    f"{self.path} was measured otherwise, see {name!r} in it: name another file, or remove it"
                )
        if not resume:
            if not complete:
                raise BenchmarkError(f"{self.path} holds a run that is not complete: go on with --resume, or remove it")
            return
        subsets = {triplet.subset for triplet in triplets}
        present = {(triplet.subset, triplet.scene) for triplet in triplets}
        self.scenes = {key: values for key, values in scenes.items() if key[0] not in subsets or key in present}
        self.left_out = {key: why for key, why in left_out.items() if key[0] not in subsets}
        self._others_open = not complete and any(key[0] not in subsets for key in [*scenes, *left_out])

    def add(self, triplet, values):
        """`values`: a dict for each method. Saves now and then."""
        self.scenes[triplet.subset, triplet.scene] = values
        if self.path and time.monotonic() - self._saved > SAVE_SECONDS:
            self.save(complete=False)

    def leave_out(self, triplet, why):
        self.left_out[triplet.subset, triplet.scene] = why

    def subsets(self):
        """Those of which something was measured or left out, in their order."""
        return list(dict.fromkeys(subset for subset, _ in [*self.scenes, *self.left_out]))

    def of(self, subset):
        """The values of all scenes of a subset: for each scene a dict for each method."""
        return [values for (name, _), values in self.scenes.items() if name == subset]

    def mean(self, subset, method, metric):
        """Over the scenes of a subset; infinite if one is, None where there is nothing to average."""
        values = [scene[method][metric] for scene in self.of(subset)]
        return None if not values or None in values else math.fsum(values) / len(values)

    def save(self, complete):
        """Writes the file; `complete` says whether nothing is missing of the subsets at hand."""
        if not self.path:
            return
        self._saved = time.monotonic()
        content = {
            "format": FORMAT,
            "complete": complete and not self._others_open,
            "settings": self.settings,
            "means": [
                {
                    "subset": subset,
                    "method": method["label"],
                    "scenes": len(self.of(subset)),
                    "values": _map(_json, {name: self.mean(subset, index, name) for name in self.settings["metrics"]}),
                }
                for subset in self.subsets()
                for index, method in enumerate(self.settings["methods"])
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

    def csv(self):
        """A line for each scene and method, under a line of names."""
        text = io.StringIO(newline="")
        metrics = self.settings["metrics"]
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["benchmark", "subset", "scene", "method", *metrics])
        for (subset, scene), values in self.scenes.items():
            for method, entry in zip(self.settings["methods"], values, strict=True):
                row = [self.settings["benchmark"], subset, scene, method["label"]]
                table.writerow([*row, *(entry[name] for name in metrics)])
        return text.getvalue()


def _values(entry, settings):
    """The values of a scene as a file has them; raises KeyError or ValueError where one is missing."""
    values = [_map(float, measured) for measured in entry["values"]]
    lacking = {name for measured in values for name in settings["metrics"] if measured[name] is None}
    if len(values) != len(settings["methods"]) or not lacking <= set(settings["unavailable"]):
        raise ValueError("values are missing")
    return values


def _map(function, values):
    return {name: None if value is None else function(value) for name, value in values.items()}


def _json(value):
    """JSON knows no infinity, of which float() makes one again."""
    return value if math.isfinite(value) else str(value)
