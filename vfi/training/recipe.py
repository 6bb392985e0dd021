"""The recipe: every number that decides what a training run learns."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from vfi.errors import counted
from vfi.training.losses import LITE


@dataclass(frozen=True)
class Recipe:
    """What a run trains, and how; a checkpoint keeps it.

    Attributes:
        model: "l1" minimises L1 on colour; "lf" the distance of features, which gives sharper details.
        minutes, steps: the budget; one of the two is None.
        batch: crops in a step, for each process.
        crop: side of a crop, in pixels.
        learning_rate: at its peak; trainer.schedule says how it rises and falls.
        synthetic: share of the crops with synthetic motion.
        average: decay of the moving average of the weights, for each step.
        balance: grey levels; see losses.weighted_l1.
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
    synthetic: float = 0.0
    average: float = 0.999
    balance: float = 4.0
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
