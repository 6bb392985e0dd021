"""How far weights follow motion: their PSNR on pictures that move as a whole.

The kernels reach 25 pixels; how much of that the weights have learned to use depends on what they were trained on. A
picture that is shifted by n pixels from one frame to the next, with nothing else to solve, shows it.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vfi.metrics import psnr
from vfi.network import REACH
from vfi.training.clips import Footage

SHIFTS = (4, 8, 12, 16, 20, 22)  # pixels from one frame to the next
DIRECTIONS = {"horizontal": (0, 1), "vertical": (1, 0), "diagonal": (1, 1)}  # rows and columns for each pixel
BEST = 100.0  # dB, for an exact result

Interpolate = Callable[[Tensor, Tensor], Tensor]


def measure_reach(
    interpolate: Interpolate,
    pictures: Sequence[Tensor],
    shifts: Sequence[int] = SHIFTS,
    directions: Mapping[str, tuple[int, int]] = DIRECTIONS,
) -> dict[str, list[float]]:
    """The mean PSNR over pictures, for each direction and shift.

    Args:
        interpolate: two frames (1, 3, H, W) to the frame halfway between them.
        pictures: (3, H, W) in the channel order that `interpolate` takes, [0, 1].

    Returns:
        For each direction, the PSNR in dB of each shift.

    Raises:
        ValueError: a picture is too small for such shifts.
    """
    return {
        name: [
            float(np.mean([_psnr_of_shift(interpolate, picture, shift * down, shift * across) for picture in pictures]))
            for shift in shifts
        ]
        for name, (down, across) in directions.items()
    }


def _psnr_of_shift(interpolate: Interpolate, picture: Tensor, down: int, across: int) -> float:
    """Compares without the borders, whose surroundings are not in both frames."""
    height, width = (size - 2 * abs(shift) for size, shift in zip(picture.shape[1:], (down, across), strict=True))
    if min(picture.shape[1:]) <= smallest_side(max(abs(down), abs(across))):
        raise ValueError(f"a picture of {picture.shape[2]}x{picture.shape[1]} is too small for such a shift")
    one, truth, two = (
        picture[None, :, abs(down) + sign * down :, abs(across) + sign * across :][..., :height, :width]
        for sign in (1, 0, -1)
    )
    inner = (..., slice(REACH, -REACH), slice(REACH, -REACH))
    out, expected = (
        (255 * frame[inner]).clamp(0, 255).round().byte().cpu().numpy() for frame in (interpolate(one, two), truth)
    )
    return min(psnr(out, expected), BEST)


def smallest_side(shift: int) -> int:
    """The side of a picture, in pixels, of which nothing is left after a shift."""
    return 2 * (shift + REACH)


def reach_line(rows: Mapping[str, Sequence[float]], shifts: Sequence[int] = SHIFTS) -> str:
    """The means over the directions, in one line."""
    means = np.mean(list(rows.values()), axis=0)
    return ", ".join(f"{value:.1f} dB at {shift}" for shift, value in zip(shifts, means, strict=True))


def centre(frame: NDArray[np.uint8], side: int = 320) -> Tensor:
    """The centre of a frame (H, W, 3) as a picture to move: (3, up to `side`, up to `side`), [0, 1]."""
    top, left = (max(0, (size - side) // 2) for size in frame.shape[:2])
    return torch.from_numpy(frame[top : top + side, left : left + side]).permute(2, 0, 1) / 255


def held_out_pictures(footage: Footage, shift: int, most: int = 4) -> list[Tensor]:
    """The centres of the middle frames of the first scenes of some clips, BGR, if they are large enough for a shift."""
    firsts = {scene.clip: scene for scene in reversed(footage.scenes)}
    found: list[Tensor] = []
    for _, scene in sorted(firsts.items()):
        size = scene.height * scene.width
        pixels = footage.pixels[scene.start + scene.frames // 2 * size :][:size]
        if min(scene.height, scene.width) > smallest_side(shift) and len(found) < most:
            found.append(centre(pixels.view(scene.height, scene.width, 3).numpy()).flip(0))
    return found
