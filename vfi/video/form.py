"""What the first frame of a video says about the form of all frames: size, rotation, colours, HDR metadata."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from av.sidedata.sidedata import Type as SideData
from numpy.typing import NDArray

from vfi.video.colour import Layout, Tags, layout_of, turned


@dataclass(frozen=True)
class Form:
    """The form of the frames: as the decoder stores them, and upright.

    Attributes:
        size: (width, height), upright.
        tags, aspect, light: see `VideoFile`.
        stored: layout of the decoder's planes.
        layout: of the upright planes.
        matrix: the display matrix's four numbers of rotation and mirroring, or None.
    """

    size: tuple[int, int]
    tags: Tags
    stored: Layout
    layout: Layout
    aspect: Fraction | None
    light: dict[str, bytes]
    matrix: NDArray[np.int32] | None

    @property
    def is_turned(self) -> bool:
        return _is_turned(self.matrix)

    def upright(self, plane: NDArray[Any]) -> NDArray[Any]:
        """A plane as the display matrix turns it: phones store frames as their sensor gives them."""
        if self.matrix is None:
            return plane
        right, down = self.matrix[[2, 1]] if self.is_turned else self.matrix[[0, 3]]
        plane = plane.T if self.is_turned else plane
        return np.ascontiguousarray(plane[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1])


def _is_turned(matrix: NDArray[np.int32] | None) -> bool:
    """Whether a display matrix exchanges width and height."""
    return matrix is not None and bool(abs(matrix[1]) > abs(matrix[0]))


def read_form(first: Any, stream: Any) -> Form:
    size = (first.width, first.height)
    tags = Tags(first.colorspace, first.color_primaries, first.color_trc, first.color_range)
    stored = layout_of(first.format.name, tags, size)
    aspect = stream.sample_aspect_ratio or None
    light = {
        name: bytes(first.side_data[kind])
        for name, kind in (("mastering", "MASTERING_DISPLAY_METADATA"), ("content", "CONTENT_LIGHT_LEVEL"))
        if SideData[kind] in first.side_data
    }
    matrix = None
    if SideData.DISPLAYMATRIX in first.side_data:
        matrix = np.frombuffer(bytes(first.side_data["DISPLAYMATRIX"]), np.int32)[[0, 1, 3, 4]]
    if not _is_turned(matrix):
        return Form(size, tags, stored, stored, aspect, light, matrix)
    if stored.chroma == (4, 1):  # FFmpeg has no name for this subsampling turned on its side
        stored = layout_of("yuv444p", tags, size)
    return Form(size[::-1], tags, stored, turned(stored), 1 / aspect if aspect else None, light, matrix)
