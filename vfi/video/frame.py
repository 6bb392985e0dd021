"""A decoded frame."""

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(eq=False)
class Frame:
    """A frame as the decoder made it.

    Attributes:
        time: seconds from the first frame of the source.
        planes: arrays (H, W), or for pictures one array (H, W) or (H, W, C); uint8 or uint16.
        bits: of each sample.
        is_lost: whether it could not be decoded, and the frame before it is shown again.
    """

    time: Fraction
    planes: list[NDArray[Any]]
    bits: int
    is_lost: bool = False

    @cached_property
    def luma(self) -> NDArray[Any]:
        """(H, W): what is compared of frames. Green stands for the luma of RGB."""
        plane = self.planes[0]
        return plane if plane.ndim == 2 else plane[..., 1 if plane.shape[2] > 2 else 0]

    def same_as(self, other: "Frame") -> bool:
        """Whether all samples of both are equal."""
        pairs = zip(self.planes, other.planes, strict=True)
        return self is other or all(np.array_equal(one, two) for one, two in pairs)
