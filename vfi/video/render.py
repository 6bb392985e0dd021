"""Computes the planes of new frames from those of the source: planes to RGB, the network, RGB to planes."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vfi.video.frame import Frame
from vfi.video.timing import Instant

Middle = Callable[[Tensor, Tensor], Tensor]
Picture = TypeVar("Picture")


def at(
    share: Fraction, one: Picture, two: Picture, middle: Callable[[Picture, Picture], Picture],
    known: dict[Fraction, Picture],
) -> Picture:  # fmt: skip
    """What lies at `share` of the way from one to two, by halving again and again.

    Args:
        share: a multiple of a power of two, 0 to 1.
        middle: computes what is halfway between two.
        known: {share: result} of this pair; what is computed on the way is added.
    """
    low, high = Fraction(0), Fraction(1)
    known.setdefault(low, one)
    known.setdefault(high, two)
    while share not in known:
        half = (low + high) / 2
        if half not in known:
            known[half] = middle(known[low], known[high])
        if share < half:
            high = half
        else:
            low = half
    return known[share]


class Layout(Protocol):
    """How planes hold a picture; see colour.py."""

    @property
    def alpha(self) -> bool: ...

    def to_rgb(self, planes: list[Tensor]) -> Tensor: ...

    def from_rgb(self, frames: Tensor, height: int, width: int) -> list[Tensor]: ...


class Source(Protocol):
    """The source's layout, and the size of its frames in pixels."""

    layout: Any
    height: int
    width: int


class Planes:
    """Planes in the memory of the CPU."""

    def __init__(self, planes: list[NDArray[Any]]) -> None:
        self._planes = planes

    def arrays(self) -> list[NDArray[Any]]:
        """The planes; waits until they are there."""
        return self._planes


class PlanesInTransit(Planes):
    """Planes that are being copied from a GPU, while it goes on with the next frame."""

    def __init__(self, planes: list[Tensor], copies: torch.cuda.Stream) -> None:
        copies.wait_stream(torch.cuda.current_stream(planes[0].device))
        with torch.cuda.stream(copies):
            targets = [torch.empty(plane.shape, dtype=plane.dtype, pin_memory=True) for plane in planes]
            for target, plane in zip(targets, planes, strict=True):
                target.copy_(plane, non_blocking=True)
                plane.record_stream(copies)
            self._arrived = copies.record_event()
        super().__init__([target.numpy() for target in targets])

    def arrays(self) -> list[NDArray[Any]]:
        self._arrived.synchronize()
        return super().arrays()


class Renderer:
    """Computes the planes of new frames.

    Args:
        source: whose frames come.
        layout: of the planes to make, a `Layout` or `Pixels` of colour.py.
        middle, device: see job.interpolate.
    """

    def __init__(self, source: Source, layout: Layout, middle: Middle, device: str | torch.device) -> None:
        self.source = source
        self.layout = layout
        self.middle = middle
        self.device = torch.device(device)
        # A stream for each direction: an upload must not wait for a download, which waits for the network.
        on_gpu = self.device.type == "cuda"
        self._up, self._down = (torch.cuda.Stream(self.device) if on_gpu else None for _ in range(2))
        self._rgb: dict[Frame, Tensor] = {}  # the current pair: each frame is converted once
        self._pair: tuple[Frame, Frame] | None = None
        self._known: dict[Fraction, Tensor] = {}  # frames of the current pair, by share

    def planes(self, instant: Instant[Frame]) -> Planes:
        """The planes of the frame at an `Instant`; on a GPU, possibly still in transit."""
        one, two, share = instant.one, instant.two, instant.share
        self._rgb = {frame: rgb for frame, rgb in self._rgb.items() if frame in (one, two)}
        if two is None or share == 0 or one.same_as(two):
            return self._original(one)
        if share == 1:
            return self._original(two)
        if self._pair != (one, two):
            self._pair, self._known = (one, two), {}
        return self._from_rgb(at(share, self._to_rgb(one), self._to_rgb(two), self._middle, self._known))

    def _original(self, frame: Frame) -> Planes:
        if self.layout == self.source.layout:
            return Planes(frame.planes)
        return self._from_rgb(self._to_rgb(frame))

    def _middle(self, one: Tensor, two: Tensor) -> Tensor:
        """The network sees values from 0 to 1; what lies outside, such as brighter than white, is averaged."""
        seen = [frames.clamp(0, 1) for frames in (one, two)]
        return self.middle(*seen) + (one - seen[0] + two - seen[1]) / 2

    def _to_rgb(self, frame: Frame) -> Tensor:
        if frame not in self._rgb:
            self._rgb[frame] = self.source.layout.to_rgb([self._upload(plane) for plane in frame.planes])
        return self._rgb[frame]

    def _from_rgb(self, frames: Tensor) -> Planes:
        if frames.shape[1] == 4 and not self.layout.alpha:
            alpha = frames[:, 3:]
            frames = frames[:, :3] * alpha + (1 - alpha)  # blended with white, as pictures are
        planes = self.layout.from_rgb(frames, self.source.height, self.source.width)
        return PlanesInTransit(planes, self._down) if self._down else Planes([plane.numpy() for plane in planes])

    def _upload(self, plane: NDArray[Any]) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(plane))
        if not self._up:
            return tensor
        with torch.cuda.stream(self._up):
            uploaded = tensor.pin_memory().to(self.device, non_blocking=True)
        now = torch.cuda.current_stream(self.device)
        now.wait_stream(self._up)
        uploaded.record_stream(now)
        return uploaded
