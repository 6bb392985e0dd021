"""The recipe: what a user may choose of what a run learns. What is the same for all runs stands in trainer.py."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from vfi.errors import counted
from vfi.training.losses import LITE

SYNTHETIC_ONLY = ("speed", "objects", "stills", "perspective", "acceleration", "blur")  # fields of Sampling


@dataclass(frozen=True)
class Sampling:
    """What the crops of a step show. With the defaults, all but `strides` and `pan` is off.

    Attributes:
        strides: frames from one frame of a triplet to the next, at most.
        pan: pixels from one frame to the next of virtual pans, at most; a third of the samples have one.
        by_flow: whether crops are drawn by measured motion, which needs OpenCV, instead of by change.
        zoom: by how much frames are enlarged or reduced, at most; 1 is off.
        rotation: degrees by which frames are turned, at most.
        light: standard deviation of the logarithm of brightness and contrast.
        degraded: share of the samples whose two frames, but not the truth, have noise and traces of compression.
        synthetic: share of the crops with synthetic motion.
        speed: pixels from one frame to the next, up to which all speeds of synthetic layers are equally likely; 0 for
            the distribution of synthetic.SPEED, in which most layers are slow.
        objects: how many small objects lie over the layers of a synthetic crop, at most.
        stills: folder of photographs and cut-outs for synthetic crops; None for layers from the videos alone.
        perspective: standard deviation of the relative change of depth across a synthetic layer.
        acceleration: pixels by which the middle frame of a synthetic layer is not halfway, at most.
        blur: share of the synthetic crops with motion blur.
    """

    strides: int = 3
    pan: int = 8
    by_flow: bool = False
    zoom: float = 1.0
    rotation: float = 0.0
    light: float = 0.0
    degraded: float = 0.0
    synthetic: float = 0.0
    speed: float = 0.0
    objects: int = 0
    stills: str | None = None
    perspective: float = 0.0
    acceleration: float = 0.0
    blur: float = 0.0


@dataclass(frozen=True)
class Recipe(Sampling):
    """What a run trains, and how; a checkpoint keeps it.

    Attributes:
        model: "l1" minimises L1 on colour; "lf" the distance of features, which gives sharper details.
        minutes, steps: the budget; one of the two is None.
        batch: crops in a step, for each process.
        crop: side of a crop, in pixels.
        learning_rate: at its peak; trainer.schedule says how it rises and falls, and trainer.FIRST_STEPS how it begins.
        average: decay of the moving average of the weights, for each step.
        balance, least_weight: grey levels, and a share; see losses.weighted_l1.
        features: the network whose features lf compares; see losses.FeatureDistance.
        colour: weight of L1 in the loss of lf.
        seed: of the crops, and of the first weights.
        precision: of the convolutions; "auto" until the device is known.
        license: of the weights, for the metadata of their file.
    """

    model: str = "l1"
    minutes: float | None = 25.0
    steps: int | None = None
    batch: int = 16
    crop: int = 128
    learning_rate: float = 5e-4
    average: float = 0.999
    balance: float = 4.0
    least_weight: float = 0.0
    features: str = LITE
    colour: float = 0.0
    seed: int = 0
    precision: str = "auto"
    license: str = "not stated"

    def changed(self, changes: Mapping[str, Any]) -> Self:
        """The recipe with some values changed; a budget in minutes replaces one in steps, and the reverse."""
        budget = {"minutes": None, "steps": None} if changes.keys() & {"minutes", "steps"} else {}
        return replace(self, **budget | dict(changes))

    def differences(self, other: Self) -> list[str]:
        """What is different in the other recipe, for the user; values that are not set there are left out."""
        before, after = asdict(self), asdict(other)
        return [
            f"{name} {value}" if before[name] is None else f"{name} {before[name]} -> {value}"
            for name, value in after.items()
            if value is not None and before[name] != value
        ]

    @property
    def budget(self) -> str:
        """The budget in words."""
        return counted(self.steps, "step") if self.steps else counted(self.minutes or 0.0, "minute")

    @property
    def loss(self) -> str:
        """The loss in words."""
        return "L1" if self.model == "l1" else f"features of {self.features} + {self.colour:g} L1"
