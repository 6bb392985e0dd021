"""What the network sees in a step of training: crops of three frames, chosen and varied at random.

A sample is a *triplet*, three frames of a scene at stride 1, 2 or 3: the outer two are what the network sees, the
middle one is the truth. Some samples are synthetic: layers cut from different clips by smooth random masks, each moving
on a path of its own, so that the middle frame is exact whatever moves, and however far.

Everything random comes from the seed and the number of the step, and is drawn for the samples of all processes at once:
a run that was interrupted goes on with what would have come, and two processes share what one alone would take. Drawing
is NumPy's work and takes a moment; cutting, turning and blending are tensor operations where the frames are.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vfi.errors import ClipError
from vfi.network import REACH
from vfi.training.clips import CELL, Footage, Scene

Array = NDArray[Any]
Samples = tuple[Tensor, Tensor, Tensor]  # one, truth, two

# Triplets
STRIDES = (1, 2, 3)
LINEAR = 0.1  # seconds for which motion is linear enough for the middle frame to be in the middle
STILL = 0.25  # grey levels from one frame to the next: a smaller change means a repeated frame
UNEVEN = 4  # how much more may change on one side of the middle frame than on the other
LIVELY, WILD = 20, 40  # grey levels: more than the first makes a triplet no likelier, more than the second less likely

# Crops
CANDIDATES = 4  # places in the frame, of which one is drawn by how much changes there
PAN, PAN_SHARE = 8, 1 / 3  # virtual pans: pixels from one frame to the next, at most, and in how many samples

# Synthetic motion
LAYERS = 3  # half of the samples have only the first two
SPEED = 22  # pixels from one frame to the next, of the fastest layer: a little less than the kernels reach
WARP = 0.03  # by how much a layer turns, grows and shears from one frame to the next, usually
SURROUNDINGS = 25  # pixels around a layer that may move into view
BLOBS = 7  # values along each side of the noise that masks are made of

BGR = (2, 1, 0)  # the network's order of channels, as indices of the footage's


class Batches:
    """Samples from `footage`.

    Args:
        footage: a `Footage`.
        crop: side of the crops that the network sees, in pixels.
        seed: chooses the samples, 0 or more.
        synthetic: share of the samples with synthetic motion.
        device: where frames are kept and samples made.
        plain: vary nothing but triplet and place, for validation.

    Attributes:
        triplets: number of triplets that may be drawn.
        skipped: a line for each clip with frames that are too small.

    Raises:
        ClipError: frames are too small for such crops, or show no motion.
    """

    def __init__(
        self,
        footage: Footage,
        crop: int,
        seed: int = 0,
        synthetic: float = 0.0,
        device: torch.device | str = "cpu",
        plain: bool = False,
    ) -> None:
        self.crop, self.seed, self.synthetic, self.plain = crop, seed, synthetic, plain
        self.device = torch.device(device)
        self.size = crop + 2 * REACH
        self.pixels = footage.pixels.to(device)
        self.motion = np.concatenate([scene.motion.ravel() for scene in footage.scenes])
        self.table, weights = _triplets(footage.scenes)
        shortest = self.table[:, 1:3].min(axis=1, initial=2**62)
        self.chances = [np.cumsum(weights * (shortest >= size)) for size in (self.size, self.size + 2 * SURROUNDINGS)]
        self.triplets = int((weights * (shortest >= self.size) > 0).sum())
        small = [scene for scene in footage.scenes if min(scene.height, scene.width) < self.size]
        sizes = {scene.clip: f"{scene.width}x{scene.height}" for scene in small}
        self.skipped = [
            f"{footage.clips[clip]}: frames of {sizes[clip]}; --crop {crop} needs {self.size} pixels each way"
            for clip in sorted(sizes)
        ]
        if not self.triplets:
            if (shortest < self.size).all():
                raise ClipError(f"all frames are too small: --crop {crop} needs {self.size} pixels of height and width")
            raise ClipError("nothing moves in these clips" + ("" if plain else ": there is nothing to learn from"))
        if synthetic and not self.chances[1][-1]:
            needed = self.size + 2 * SURROUNDINGS
            raise ClipError(f"synthetic motion needs frames of {needed} pixels: try --synthetic 0, or a smaller --crop")

    def __call__(self, step: int, total: int, begin: int = 0, end: int | None = None) -> Samples:
        """Samples `begin` to `end` of the `total` of a step.

        Returns:
            one, truth, two: float32, BGR, [0, 1]; one and two (N, 3, crop + 2 REACH, crop + 2 REACH), truth
            (N, 3, crop, crop), the middle of it.
        """
        rng = np.random.default_rng((self.seed, step))
        mine = slice(begin, end)
        cuts = self._draw_cuts(rng, total)[mine]
        made = rng.random(total)[mine] < self.synthetic
        frames = self._cut(cuts[~made], self.size)  # (N, 3 frames, 3 channels, S, S)
        if self.synthetic:
            layers = self._draw_layers(rng, total)
            if made.any():
                frames = torch.cat([frames, self._blend(*(drawn[mine][made] for drawn in layers))])
        frames = frames.mul_(1 / 255)
        inner = slice(REACH, REACH + self.crop)
        return frames[:, 0], frames[:, 1, :, inner, inner], frames[:, 2]

    def _draw_cuts(self, rng: np.random.Generator, total: int) -> Array:
        """Draws the cuts of three frames for each sample."""
        start, height, width, middle, stride, motion = self._choose(rng, self.chances[0], total)
        room = np.stack([height, width]) - self.size
        pan = rng.integers(-PAN, PAN + 1, (2, total)) * (rng.random(total) < PAN_SHARE) * (not self.plain)
        pan = np.clip(pan, -(room // 2), room // 2)
        room -= 2 * np.abs(pan)
        corners = (rng.random((CANDIDATES, 2, total)) * (room + 1)).astype(np.int64) + np.abs(pan)
        chance = np.cumsum(self._liveliness(corners, height, width, middle, stride, motion), axis=0)
        drawn = (chance < rng.random(total) * chance[-1]).sum(axis=0)
        corner = np.take_along_axis(corners, drawn[None, None], axis=0)[0]
        forward = 1 if self.plain else rng.choice([-1, 1], total)
        frames = []
        for moment in (-1, 0, 1):
            row, column = corner + moment * pan
            frames.append(start + ((middle + moment * stride * forward) * height + row) * width + column)
        return self._turn(rng, np.stack(frames, axis=1), width, self.size)

    def _choose(self, rng: np.random.Generator, chances: Array, *shape: int) -> Array:
        """Draws triplets by their chances; returns the columns of the table, each of this shape."""
        drawn = np.searchsorted(chances, rng.random(shape) * chances[-1], side="right")
        return np.moveaxis(self.table[drawn], -1, 0)

    def _liveliness(
        self, corners: Array, height: Array, width: Array, middle: Array, stride: Array, motion: Array
    ) -> Array:
        """The chances of crops at `corners` (CANDIDATES, 2, N), by how much changes there: (CANDIDATES, N)."""
        cells = np.arange(max(1, self.crop // CELL))
        columns = (height, width, middle, stride, motion)
        height, width, middle, stride, motion = (column[:, None, None, None] for column in columns)
        rows, columns = ((corners + REACH) // CELL)[:, :, :, None, None, None].swapaxes(0, 1)
        rows = np.minimum(rows + cells[:, None], height // CELL - 1)  # (CANDIDATES, N, 1, rows, 1)
        columns = np.minimum(columns + cells, width // CELL - 1)
        moments = middle + np.array([-1, 0])[:, None, None]  # the changes to the middle frame, and from it
        at = motion + (moments * (height // CELL) + rows) * (width // CELL) + columns
        change = (self.motion[at].astype(np.float32) * stride).mean(axis=(2, 3, 4)) * 2
        return np.sqrt(np.clip(change, 1, LIVELY))

    def _turn(self, rng: np.random.Generator, first: Array, width: Array, size: int) -> Array:
        """Cuts that begin at the pixels `first` (N, pictures), mirrored, transposed, and their channels exchanged.

        A cut of one or more pictures is a row of whole numbers: the first pixel of each of them, how far from it the
        pixels below it and beside it are, and the order of the channels.
        """
        total = len(first)
        upside_down, mirrored, transposed, recoloured = rng.random((4, total)) < (0 if self.plain else 0.5)
        first = first + ((size - 1) * (upside_down * width + mirrored))[:, None]
        down, across = np.where(upside_down, -width, width), np.where(mirrored, -1, 1)
        down, across = np.where(transposed, across, down), np.where(transposed, down, across)
        channels = np.tile(BGR, (total, 1))
        channels = np.where(recoloured[:, None], rng.permuted(channels, axis=1), channels)
        return np.column_stack([first, down, across, channels])

    def _cut(self, cuts: Array, size: int) -> Tensor:
        """The pixels of cuts: (N, pictures, 3, size, size), float32, 0 to 255."""
        table = torch.from_numpy(cuts).to(self.device, non_blocking=True)
        pictures = table.shape[1] - 5
        first, down, across, channels = table.split([pictures, 1, 1, 3], dim=1)
        steps = torch.arange(size, device=self.device)
        square = down[..., None] * steps[:, None] + across[..., None] * steps  # (N, size, size)
        at = first[..., None, None] + square[:, None]  # (N, pictures, size, size)
        pixels = self.pixels.index_select(0, at.flatten()).view(*at.shape, 3).movedim(-1, 2)
        planes = torch.arange(first.numel(), device=self.device).view(-1, pictures, 1) * 3 + channels[:, None]
        return pixels.reshape(-1, size, size).index_select(0, planes.flatten()).float().view(pixels.shape)

    def _draw_layers(self, rng: np.random.Generator, total: int) -> tuple[Array, Array, Array]:
        """Draws the layers of each sample, from the back: cuts, paths, and the masks of all but the first."""
        size = self.size + 2 * SURROUNDINGS
        shape = (total, LAYERS)
        start, height, width, middle, _, _ = self._choose(rng, self.chances[1], *shape)
        room = np.stack([height, width]) - size
        row, column = (rng.random(room.shape) * (room + 1)).astype(np.int64)
        first = start + (middle * height + row) * width + column
        cuts = self._turn(rng, first.reshape(-1, 1), width.ravel(), size).reshape(*shape, -1)

        speed, angle = SPEED * rng.random(shape) ** 2, 2 * np.pi * rng.random(shape)
        warp = WARP * rng.standard_normal((*shape, 2, 2)) * (rng.random((*shape, 1, 1)) < 0.5)
        way = np.stack([speed * np.cos(angle), speed * np.sin(angle)], axis=-1)
        offset = np.broadcast_to(rng.random((total, 1, 2)) - 0.5, way.shape)
        paths = np.concatenate([warp, way[..., None], offset[..., None]], axis=-1)  # (total, LAYERS, 2, 4)

        noise = rng.standard_normal((total, LAYERS - 1, BLOBS, BLOBS))
        noise -= rng.uniform(-0.3, 0.8, (total, LAYERS - 1, 1, 1))  # most masks cover less than half
        noise *= 10 ** rng.uniform(1.3, 2.2, (total, LAYERS - 1, 1, 1))  # edges a few pixels wide, or less than one
        noise[:, -1] = np.where(rng.random((total, 1, 1)) < 0.5, noise[:, -1], -1e3)
        return cuts, paths.astype(np.float32), noise.astype(np.float32)

    def _blend(self, cuts: Array, paths: Array, noise: Array) -> Tensor:
        """The three frames of synthetic scenes: (N, 3, 3, S, S), float32, 0 to 255.

        The middle frame is resampled like the others, not at the pixels of its layers: otherwise the network would
        learn to sharpen.
        """
        size = self.size + 2 * SURROUNDINGS
        path, blobs = (torch.from_numpy(drawn).to(self.device, non_blocking=True) for drawn in (paths, noise))
        pictures = self._cut(cuts.reshape(-1, cuts.shape[-1]), size).view(-1, LAYERS, 3, size, size)
        masks = F.interpolate(blobs, size=(size, size), mode="bicubic", align_corners=True).sigmoid()
        masks = F.pad(masks, [0, 0, 0, 0, 1, 0], value=1.0)  # the layer at the back covers everything
        layers = torch.cat([pictures, masks[:, :, None]], dim=2)  # (N, LAYERS, 4, size, size)

        steps = torch.arange(self.size, device=self.device) - (self.size - 1) / 2
        square = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=-1)  # (S, S, 2): x, y from the centre
        frames = []
        for moment in (-1, 0, 1):
            warp = torch.eye(2, device=self.device) + moment * path[..., :2]
            shift = moment * path[..., 2] + path[..., 3]
            at = torch.einsum("yxj,nlij->nlyxi", square, warp) + shift[:, :, None, None]
            at = at.flatten(0, 1) * (2 / size)
            moved = F.grid_sample(layers.flatten(0, 1), at, "bicubic", padding_mode="reflection", align_corners=False)
            colours, masks = moved.unflatten(0, layers.shape[:2]).split([3, 1], dim=2)
            frame = colours[:, 0]
            for layer in range(1, LAYERS):
                frame = torch.lerp(frame, colours[:, layer], masks[:, layer].clamp(0, 1))
            frames.append(frame.clamp(0, 255))
        return torch.stack(frames, dim=1)


def _triplets(scenes: Sequence[Scene]) -> tuple[Array, Array]:
    """All triplets of scenes, and a weight for each: how much can be learned from it.

    Returns:
        (N, 6) int64: the scene's first pixel, height and width; the middle frame, the stride, and where the scene's
        motion begins among those of all scenes; (N,) float64.
    """
    rows: list[Array] = [np.empty((0, 6), np.int64)]
    weights: list[Array] = [np.empty(0)]
    motion = 0
    for scene in scenes:
        cells = scene.motion.shape[1] * scene.motion.shape[2] or 1  # frames smaller than a cell have none
        change = scene.motion.sum(axis=(1, 2), dtype=np.float64) / cells
        so_far = np.concatenate([[0], change.cumsum()])  # (frames,)
        for stride in STRIDES:
            middle = np.arange(stride, scene.frames - stride)
            before, after = so_far[middle] - so_far[middle - stride], so_far[middle + stride] - so_far[middle]
            less, more = np.minimum(before, after), np.maximum(before, after)
            weight = np.sqrt(np.clip(less + more, 1, LIVELY)) * np.minimum(1, WILD / np.maximum(less + more, 1))
            weight *= min(1, (LINEAR * scene.rate / (2 * stride)) ** 2)
            weights.append(weight * (less >= STILL) * (more <= UNEVEN * less))
            constant = [[scene.start, scene.height, scene.width], [stride, motion]]
            first, last = (np.tile(values, (len(middle), 1)) for values in constant)
            rows.append(np.column_stack([first, middle, last]).astype(np.int64))
        motion += scene.motion.size
    return np.concatenate(rows), np.concatenate(weights)
