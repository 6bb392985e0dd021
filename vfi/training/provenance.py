"""Where weights come from, for the metadata of their file: their users may have to name the authors of the videos."""

from collections.abc import Mapping, Sequence
from typing import Any

from vfi.errors import counted

Part = dict[str, Any]

UNKNOWN = "unknown"


class Provenance:
    """The parts of a training run, each with its own videos and crops.

    Args:
        parts: the attribute `parts` of an earlier run, from its checkpoint; strings and whole numbers only.
        weights: the metadata of the weights that training begins with, if it begins with weights.

    Attributes:
        parts: a list of dicts.
    """

    def __init__(self, parts: Sequence[Part] = (), weights: Mapping[str, str] | None = None) -> None:
        self.parts: list[Part] = list(parts)
        if weights is not None:
            self.parts.append({name: weights.get(name, UNKNOWN) for name in ("training", "training_data")})

    def begin(self, step: int, crops: int, side: int, data: str) -> None:
        """From this step on, a step has so many crops, with this side in pixels, from these videos."""
        part = {"crops": crops, "side": side, "training_data": data}
        if not self.parts or any(self.parts[-1].get(name) != value for name, value in part.items()):
            self.parts.append({"first": step, **part})

    def metadata(self, step: int) -> dict[str, str]:
        """The metadata of weights of this step: "training" and "training_data"."""
        ends = [part.get("first", 0) for part in self.parts[1:]] + [step]
        training: list[str] = []
        data: dict[str, None] = {}  # in order, each once
        for part, end in zip(self.parts, ends, strict=True):
            if part.get("first") == end:  # no step was done
                continue
            training.append(part.get("training") or _describe(part, end - part["first"]))
            data |= dict.fromkeys(part["training_data"].split("; "))
        return {"training": ", then ".join(training), "training_data": "; ".join(data)}


def _describe(part: Part, steps: int) -> str:
    side = part["side"]
    return f"{counted(steps, 'step')} of {counted(part['crops'], 'crop')} of {side} x {side} pixels"
