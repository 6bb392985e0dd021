"""What the first frame of a video says about the form of all frames: size, rotation, colours, HDR metadata."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from av.sidedata.sidedata import Type as SideData
from numpy.typing import NDArray

from vfi.video.colour import Layout, Tags, layout_of, turned

# Metadata that differ from frame to frame, which cannot be made for new frames: FFmpeg's name, and the usual one
DYNAMIC = {"DYNAMIC_HDR_PLUS": "HDR10+", "DOVI_RPU_BUFFER": "Dolby Vision", "DYNAMIC_HDR_VIVID": "HDR Vivid"}
NEWEST_KIND = 63  # number of side data, above all that FFmpeg has


def _name_new_kinds() -> None:
    """Gives names to the kinds of side data that PyAV does not know, such as EXIF: it refuses frames that have them."""
    for number in range(NEWEST_KIND + 1):
        if number not in SideData._value2member_map_:
            kind: Any = object.__new__(SideData)
            kind._name_, kind._value_ = f"UNKNOWN_{number}", number
            SideData._value2member_map_[number] = kind


_name_new_kinds()


@dataclass(frozen=True)
class Form:
    """The form of the frames: as the decoder stores them, and upright.

    Attributes:
        size: (width, height), upright.
        tags, aspect, light, notes: see `VideoFile`.
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
    notes: tuple[str, ...]
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


def read_form(first: Any, stream: Any, has_alpha_layer: bool) -> Form:
    """The form of all frames.

    Args:
        first: PyAV's first frame of the stream.
        has_alpha_layer: see hevc.py.
    """
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
    notes = [f"{name} metadata are left out" for kind, name in DYNAMIC.items() if SideData[kind] in first.side_data]
    if has_alpha_layer and not stored.alpha:
        notes.append("its transparency, a second layer of HEVC, cannot be read: left out")
    if not _is_turned(matrix):
        return Form(size, tags, stored, stored, aspect, light, tuple(notes), matrix)
    if stored.chroma == (4, 1):  # FFmpeg has no name for this subsampling turned on its side
        stored = layout_of("yuv444p", tags, size)
    aspect = 1 / aspect if aspect else None
    return Form(size[::-1], tags, stored, turned(stored), aspect, light, tuple(notes), matrix)
