"""Converts the planes of a decoded video to RGB and back.

Written here, not left to FFmpeg's swscale, for three things that it does not promise: floating-point numbers in
between, so that 8 to 16 bits come back as they were; the exact matrix and range of either side; and chroma that is
brought back to its own size by the inverse of what enlarged it. An original that made the round trip is itself, bit
for bit, so that between originals and new frames nothing flickers.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from av import VideoFormat, VideoFrame
from numpy.typing import NDArray
from torch import Tensor

# Shares of red and blue in luma, by H.273's number for a matrix. What is missing here (YCgCo, constant luminance,
# ICtCp) is treated as BT.709: the network sees other colours, but both ways are the same.
BT709, BT601 = 1, 6
MATRICES = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087)}
MATRICES |= {9: (0.2627, 0.0593), 10: (0.2627, 0.0593)}
UNSPECIFIED = 2  # of matrix, primaries and transfer
LIMITED, FULL = 1, 2  # FFmpeg's numbers for the range; 0 is unspecified
SUBSAMPLINGS = {(4, 4): "410", (4, 1): "411", (2, 2): "420", (2, 1): "422", (1, 2): "440", (1, 1): "444"}


@dataclass(frozen=True)
class Tags:
    """What the numbers of a video mean, as its file says: numbers of H.273, and FFmpeg's for the range."""

    matrix: int = UNSPECIFIED
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    range: int = 0


@dataclass(frozen=True)
class Layout:
    """Planes of one pixel format, all of the full size but for chroma: `to_rgb` and `from_rgb` convert frames of it.

    Attributes:
        model: "yuv", "grey" or "rgb" (planes in the order green, blue, red).
        bits: of each sample, 8 to 16; planes are uint8 or uint16.
        alpha: whether there is a further plane of it, straight, of full range.
        chroma: luma samples for each sample of chroma, (across, down).
        full: whether luma has the full range.
        matrix: H.273's number.
        centred: whether chroma lies in the middle of its luma samples, (across, down), instead of upon the first.
    """

    model: str
    bits: int
    alpha: bool = False
    chroma: tuple[int, int] = (1, 1)
    full: bool = False
    matrix: int = BT709
    centred: tuple[bool, bool] = (False, True)

    @property
    def format(self) -> str:
        """FFmpeg's name for it."""
        depth = f"{self.bits}le" if self.bits > 8 else ""
        if self.model == "yuv":
            return f"yuv{'a' * self.alpha}{SUBSAMPLINGS[self.chroma]}p{depth}"
        return f"gray{depth}" if self.model == "grey" else f"gbr{'a' * self.alpha}p{depth}"

    @property
    def dtype(self) -> type[np.uint8] | type[np.uint16]:
        return np.uint8 if self.bits == 8 else np.uint16

    def plane_sizes(self, height: int, width: int) -> list[tuple[int, int]]:
        """(height, width) of each plane of a frame."""
        across, down = self.chroma
        chroma = (-(-height // down), -(-width // across))
        colours = {"yuv": [(height, width), chroma, chroma], "grey": [(height, width)], "rgb": [(height, width)] * 3}
        return colours[self.model] + [(height, width)] * self.alpha

    def to_rgb(self, planes: list[Tensor]) -> Tensor:
        """Tensors (H, W) to (1, 3, H', W'), or 4 channels with alpha; float32, range [0, 1], in some videos beyond.

        H' and W' are H and W rounded up to whole samples of chroma.
        """
        planes = [plane.to(torch.float32)[None, None] for plane in planes]
        height, width = planes[0].shape[2:]
        if self.model == "yuv":
            chroma = [(plane - self._chroma_zero) / self._chroma_span for plane in planes[1:3]]
            blue, red = (self._enlarge(plane) for plane in chroma)
            height, width = blue.shape[2:]
        luma = [_extend(plane, height, width) for plane in planes]
        white = 2**self.bits - 1
        alpha = [luma[-1] / white] if self.alpha else []
        if self.model == "rgb":
            green, blue, red = (plane / white for plane in luma[:3])
            return torch.cat([red, green, blue, *alpha], dim=1)
        grey = (luma[0] - self._black) / self._luma_span
        if self.model == "grey":
            return grey.expand(-1, 3, -1, -1)
        kr, kb = MATRICES.get(self.matrix, MATRICES[BT709])
        red, blue = grey + 2 * (1 - kr) * red, grey + 2 * (1 - kb) * blue
        green = (grey - kr * red - kb * blue) / (1 - kr - kb)
        return torch.cat([red, green, blue, *alpha], dim=1)

    def from_rgb(self, frames: Tensor, height: int, width: int) -> list[Tensor]:
        """The inverse of `to_rgb`: tensors (H, W), uint8 or uint16, rounded."""
        red, green, blue = frames[:, :3].split(1, dim=1)
        white = 2**self.bits - 1
        if self.model == "rgb":
            planes = [channel * white for channel in (green, blue, red)]
        else:
            kr, kb = MATRICES.get(self.matrix, MATRICES[BT709])
            grey = kr * red + (1 - kr - kb) * green + kb * blue
            planes = [grey * self._luma_span + self._black]
            if self.model == "yuv":
                chroma = [(blue - grey) / (2 * (1 - kb)), (red - grey) / (2 * (1 - kr))]
                across, down = self.chroma
                whole = -(-height // down) * down, -(-width // across) * across
                chroma = [self._reduce(_extend(plane, *whole)) for plane in chroma]
                planes += [plane * self._chroma_span + self._chroma_zero for plane in chroma]
        if self.alpha:
            planes.append(frames[:, 3:] * white if frames.shape[1] == 4 else torch.full_like(red, white))
        dtype = torch.uint8 if self.bits == 8 else torch.uint16
        return [
            plane[0, 0, :rows, :columns].round().clamp(0, white).to(dtype)
            for plane, (rows, columns) in zip(planes, self.plane_sizes(height, width), strict=True)
        ]

    @property
    def _step(self) -> int:
        return 2 ** (self.bits - 8)

    @property
    def _black(self) -> int:
        return 0 if self.full else 16 * self._step

    @property
    def _luma_span(self) -> int:
        return 2**self.bits - 1 if self.full else 219 * self._step

    @property
    def _chroma_zero(self) -> int:
        return 128 * self._step

    @property
    def _chroma_span(self) -> int:
        return 2**self.bits - 1 if self.full else 224 * self._step

    def _enlarge(self, plane: Tensor) -> Tensor:
        for dim, times, centred in zip((3, 2), self.chroma, self.centred, strict=True):
            plane = _double(plane, dim, centred) if times == 2 else plane.repeat_interleave(times, dim)
        return plane

    def _reduce(self, plane: Tensor) -> Tensor:
        for dim, times, centred in zip((3, 2), self.chroma, self.centred, strict=True):
            plane = _halve(plane, dim, centred) if times == 2 else plane.unflatten(dim, (-1, times)).mean(dim + 1)
        return plane


@dataclass(frozen=True)
class Pixels:
    """The layout of frames that are pictures: pixels as in pictures.py, as one plane (H, W) or (H, W, C).

    It has the same methods as `Layout`.
    """

    colour: bool
    alpha: bool
    deep: bool

    @property
    def bits(self) -> int:
        return 16 if self.deep else 8

    @property
    def dtype(self) -> type[np.uint8] | type[np.uint16]:
        return np.uint16 if self.deep else np.uint8

    def to_rgb(self, planes: list[Tensor]) -> Tensor:
        (pixels,) = planes
        pixels = pixels.to(torch.float32) / (2**self.bits - 1)
        frames = pixels.reshape(1, *pixels.shape[:2], -1).permute(0, 3, 1, 2)
        return frames if self.colour else torch.cat([frames[:, :1].expand(-1, 3, -1, -1), frames[:, 1:]], dim=1)

    def from_rgb(self, frames: Tensor, height: int, width: int) -> list[Tensor]:
        channels = [frames[:, :3] if self.colour else frames[:, 1:2]]
        if self.alpha:
            channels.append(frames[:, 3:] if frames.shape[1] == 4 else torch.ones_like(frames[:, :1]))
        pixels = torch.cat(channels, dim=1)[0, :, :height, :width].permute(1, 2, 0)
        dtype = torch.uint16 if self.deep else torch.uint8
        pixels = (pixels * (2**self.bits - 1)).round().clamp(0, 2**self.bits - 1).to(dtype)
        return [pixels if self.colour or self.alpha else pixels[..., 0]]


def _extend(plane: Tensor, height: int, width: int) -> Tensor:
    """Replicates the right and bottom edges up to a size, or crops to it."""
    right, bottom = width - plane.shape[3], height - plane.shape[2]
    if right < 0 or bottom < 0:
        plane = plane[:, :, :height, :width]
    if right > 0 or bottom > 0:
        plane = torch.nn.functional.pad(plane, [0, max(right, 0), 0, max(bottom, 0)], mode="replicate")
    return plane


def _double(plane: Tensor, dim: int, centred: bool) -> Tensor:
    """Twice as many samples along a dimension, by linear interpolation; the edges are replicated."""
    last = plane.shape[dim] - 1
    after = torch.cat([plane.narrow(dim, 1, last), plane.narrow(dim, last, 1)], dim)
    if centred:
        before = torch.cat([plane.narrow(dim, 0, 1), plane.narrow(dim, 0, last)], dim)
        pair = (0.75 * plane + 0.25 * before, 0.75 * plane + 0.25 * after)
    else:
        pair = (plane, (plane + after) / 2)
    return torch.stack(pair, dim + 1).flatten(dim, dim + 1)


def _halve(plane: Tensor, dim: int, centred: bool) -> Tensor:
    """The inverse of `_double`: exact on its results, a low-pass filter on anything else."""
    first, second = plane.unflatten(dim, (-1, 2)).unbind(dim + 1)
    if not centred:
        return first
    last = first.shape[dim] - 1
    before = torch.cat([first.narrow(dim, 0, 1), second.narrow(dim, 0, last)], dim)
    after = torch.cat([first.narrow(dim, 1, last), second.narrow(dim, last, 1)], dim)
    return 0.75 * (first + second) - 0.25 * (before + after)


def layout_of(format_name: str, tags: Tags = Tags(), size: tuple[int, int] = (0, 0)) -> Layout:
    """The `Layout` that holds a pixel format of FFmpeg's without loss.

    Args:
        format_name: such as yuv420p10le, nv12 or pal8.
        tags: `Tags` of the video; a matrix that they do not give is guessed from the size, as players do.
    """
    pixel_format = VideoFormat(format_name, 16, 16)
    components = pixel_format.components
    bits = min(max(component.bits for component in components), 16)
    bits = max(bits, 8) if bits < 9 else next(depth for depth in (9, 10, 12, 14, 16) if depth >= bits)
    alpha = any(component.is_alpha for component in components)
    full = tags.range == FULL or (tags.range == 0 and format_name.startswith("yuvj"))
    chroma = (16 // pixel_format.chroma_width(16), 16 // pixel_format.chroma_height(16))
    if pixel_format.is_rgb or pixel_format.has_palette or format_name.startswith(("ya", "xyz", "bayer")):
        bits = 16 if bits in (9, 14) else bits
        return Layout("rgb", bits, alpha or pixel_format.has_palette, full=True)
    if len(components) < 3:
        return Layout("grey", bits, full=full or format_name.startswith("mono"))
    matrix = tags.matrix
    if matrix in (UNSPECIFIED, 0, 3):
        matrix = BT709 if max(size) >= 1280 or min(size) > 576 else BT601
    if alpha and chroma not in ((1, 1), (2, 1), (2, 2)):
        chroma = (1, 1)
    # PyAV does not tell where chroma lies: assume MPEG's place, or the place that goes with JPEG's range or BT.2020.
    centred = (full and chroma == (2, 2), full or matrix not in (9, 10))
    return Layout("yuv", bits, alpha, chroma, full, matrix, centred)


def planes_of(frame: VideoFrame, layout: Layout) -> list[NDArray[Any]]:
    """Copies the planes of PyAV's frame to arrays (H, W), in the layout that `layout_of` gives for its format."""
    if frame.format.name.replace("yuvj", "yuv") != layout.format:
        frame = frame.reformat(format=layout.format)
    sizes = layout.plane_sizes(frame.height, frame.width)
    planes = []
    for plane, (height, width) in zip(frame.planes, sizes, strict=True):
        planes.append(_lines(plane, layout)[:height, :width].copy())
    return planes


def frame_of(planes: list[NDArray[Any]], layout: Layout, format_name: str) -> VideoFrame:
    """The inverse of `planes_of`: PyAV's frame of a pixel format for which `layout_of` gives the layout."""
    height, width = planes[0].shape
    frame = VideoFrame(width, height, layout.format)
    for plane, samples in zip(frame.planes, planes, strict=True):
        lines = _lines(plane, layout)
        lines[:, : samples.shape[1]] = samples
        lines[:, samples.shape[1] :] = 0  # libx264 reads these, too: equal frames must give equal packets
    return frame if format_name == layout.format else frame.reformat(format=format_name)


def _lines(plane: Any, layout: Layout) -> NDArray[Any]:
    """The memory of PyAV's plane as lines of samples, with the padding at their ends."""
    return np.frombuffer(plane, layout.dtype).reshape(plane.height, -1)


def turned(layout: Layout) -> Layout:
    """The layout of planes after their rows and columns are exchanged."""
    return replace(layout, chroma=layout.chroma[::-1], centred=layout.centred[::-1])
