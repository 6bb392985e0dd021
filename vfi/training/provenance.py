from vfi.errors import counted

"""What weights come from, for the metadata of their file: whoever gets it may have to name the videos' authors."""


UNKNOWN = "unknown"


class Provenance:
    """The parts of a training, of which each has its own videos and crops.

    Args:
        parts: those so far, as `parts` held them; only strings and whole numbers, so that a checkpoint can keep them.
        weights: the metadata of the weights that training began with, if it began with some.

    Attributes:
        parts: a list of dicts.
    """

    def __init__(self, parts=(), weights=None):
        self.parts = list(parts)
        if weights is not None:
            self.parts.append({name: weights.get(name, UNKNOWN) for name in ("training", "training_data")})

    def begin(self, step, crops, side, data):
        """From this step on there are so many crops in a step, of this side in pixels, from these videos."""
        part = {"crops": crops, "side": side, "training_data": data}
        if not self.parts or any(self.parts[-1].get(name) != value for name, value in part.items()):
            self.parts.append({"first": step, **part})

    def metadata(self, step):
        """What there is to say when training has come to this step: "training" and "training_data"."""
        ends = [part.get("first", 0) for part in self.parts[1:]] + [step]
        training, data = [], {}
        for part, end in zip(self.parts, ends, strict=True):
            if part.get("first") == end:  # nothing came of it
                continue
            training.append(part.get("training") or _said(part, end - part["first"]))
            data |= dict.fromkeys(part["training_data"].split("; "))
        return {"training": ", then ".join(training), "training_data": "; ".join(data)}


def _said(part, steps):
    side = part["side"]
    return f"{counted(steps, 'step')} of {counted(part['crops'], 'crop')} of {side} x {side} pixels"
