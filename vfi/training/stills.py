"""Photographs and cut-out objects for synthetic motion, from any folder of pictures.

All are kept in several sizes, each half of the one before, so that one of them has about the size in which a picture is
drawn: sampling it does not alias.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vfi.errors import ClipError, reason
from vfi.files import natural
from vfi.training.cutting import Array

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
SIZES = 6  # of a picture, at most
SMALLEST = 8  # pixels, of the larger side
TRANSPARENT = 0.02  # share of transparent pixels from which on a picture is a cut-out


@dataclass(frozen=True)
class Group:
    """Pictures of one kind.

    Attributes:
        table: (N, SIZES, 3) int64: for each size of each picture, its first pixel, its height and its width; a size
            that does not exist has no height.
    """

    table: Array

    def __len__(self) -> int:
        return len(self.table)


class Stills:
    """The pictures of a folder (and of those within) on a device.

    Args:
        folder: searched at any depth.

    Attributes:
        backgrounds: pictures without transparent parts.
        cutouts: pictures with them.
        pixels: (P, 4), uint8, RGB premultiplied by alpha, and alpha.

    Raises:
        ClipError: there is no such folder, it has no pictures, or one of them cannot be read.
    """

    def __init__(self, folder: str | Path, device: torch.device | str) -> None:
        files = find_stills(folder)
        parts: list[Tensor] = []
        rows: dict[bool, list[Array]] = {False: [], True: []}
        at = 0
        for file in files:
            picture = read_still(file)
            row = np.zeros((SIZES, 3), np.int64)
            for number, size in enumerate(_sizes(picture)):
                row[number] = at, size.shape[0], size.shape[1]
                parts.append(size.reshape(-1, 4))
                at += size.shape[0] * size.shape[1]
            transparent = (picture[..., 3] == 0).float().mean().item()
            rows[transparent > TRANSPARENT].append(row)
        self.pixels = torch.cat(parts).to(device)
        self.backgrounds, self.cutouts = (
            Group(np.stack(found) if found else np.zeros((0, SIZES, 3), np.int64)) for found in rows.values()
        )

    def cut(self, start: Array, corner: Array, sizes: Array, side: int) -> Tensor:
        """Squares of pictures; what lies outside of a picture is transparent.

        Args:
            start: (N,), the first pixels of the pictures.
            corner: (N, 2), row and column of the squares.
            sizes: (N, 2), height and width of the pictures.

        Returns:
            (N, 4, side, side), float32: BGR premultiplied by alpha, 0 to 255, and alpha, 0 to 1.
        """
        numbers = np.column_stack([start, corner, sizes]).astype(np.int64)
        table = torch.from_numpy(numbers).to(self.pixels.device, non_blocking=True)
        first, top, left, height, width = table[..., None, None].unbind(1)  # each (N, 1, 1)
        steps = torch.arange(side, device=self.pixels.device)
        row, column = top + steps[:, None], left + steps
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        at = torch.where(inside, first + row * width + column, 0)
        pixels = self.pixels.index_select(0, at.flatten()).view(*at.shape, 4).movedim(-1, 1)
        pixels = pixels.float() * inside[:, None]
        return torch.cat([pixels[:, :3].flip(1), pixels[:, 3:] / 255], dim=1)


def find_stills(folder: str | Path) -> list[Path]:
    """The pictures in a folder, at any depth, by their suffix, in natural order.

    Raises:
        ClipError: there is no such folder, or it has no pictures.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ClipError(f"--stills {folder}: there is no such folder")
    found = [path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()]
    if not found:
        known = ", ".join(suffix[1:] for suffix in SUFFIXES)
        raise ClipError(f"--stills {folder}: the folder holds no picture ({known})")
    return sorted(found, key=lambda path: natural(str(path)))


def read_still(path: Path) -> Tensor:
    """A picture as (H, W, 4), float32, 0 to 255: RGB premultiplied by alpha, and alpha.

    Training reads pictures by PyAV, too, so that it needs no other library.

    Raises:
        ClipError: it cannot be read.
    """
    try:
        with av.open(str(path)) as container:
            frame = next(container.decode(video=0))
            rgba = frame.to_ndarray(format="rgba")
    except (av.FFmpegError, StopIteration, ValueError, IndexError) as error:
        raise ClipError(f"--stills: {path} is not a picture, or is damaged ({reason(error)})") from error
    picture = torch.from_numpy(rgba).float()
    picture[..., :3] *= picture[..., 3:] / 255
    return picture


def _sizes(picture: Tensor) -> Sequence[Tensor]:
    """The picture in all its sizes: (H, W, 4) uint8 each."""
    sizes: list[Tensor] = []
    planes = picture.permute(2, 0, 1)[None]
    while len(sizes) < SIZES and max(planes.shape[2:]) >= SMALLEST:
        sizes.append(planes[0].permute(1, 2, 0).round().clamp(0, 255).byte())
        if min(planes.shape[2:]) < 2:
            break
        planes = F.avg_pool2d(planes, 2)
    return sizes
