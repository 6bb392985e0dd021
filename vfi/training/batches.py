"""What the network sees in a step of training: crops of three frames, chosen and varied at random.

A sample is a *triplet*, three frames of a scene at stride 1, 2, 3 or more: the outer two are what the network sees, the
middle one is the truth. Some samples are synthetic (see synthetic.py). `Sampling` in recipe.py has what may be varied.

Everything random comes from the seed and the number of the step, and is drawn for the samples of all processes at once:
a run that was interrupted goes on with what would have come, and two processes share what one alone would take. Drawing
is NumPy's work and takes a moment; cutting, turning and blending are tensor operations where the frames are.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vfi.errors import ClipError
from vfi.network import REACH
from vfi.training.augment import Augmentation, Changes
from vfi.training.clips import CELL, Footage, Scene
from vfi.training.cutting import Array, Pixels, choose, turned_cuts
from vfi.training.flow import footage_motion
from vfi.training.recipe import Sampling
from vfi.training.stills import Stills
from vfi.training.synthetic import SURROUNDINGS, Scenes, SyntheticScenes

Samples = tuple[Tensor, Tensor, Tensor]  # one, truth, two

# Triplets
LINEAR = 0.1  # seconds for which motion is linear enough for the middle frame to be in the middle
STILL = 0.25  # grey levels from one frame to the next: a smaller change means a repeated frame
UNEVEN = 4  # how much more may change on one side of the middle frame than on the other
LIVELY, WILD = 20, 40  # grey levels: more than the first makes a triplet no likelier, more than the second less likely

# Crops
CANDIDATES = 4  # places in the frame, of which one is drawn by how much changes there
PAN_SHARE = 1 / 3  # of the samples have a virtual pan
FAST, TOO_FAST = 24, 30  # pixels from one frame to the next, with `by_flow`: more is no likelier; more is out of reach
FASTER = 0.9  # quantile of the cells of a frame that says how far things move in it
RESAMPLED_SHARE = 0.5  # of the samples are enlarged, reduced and turned, if any is
ROOM = 1.5  # sides of such a sample, times the side of a crop, that it is cut from


PLAIN, RESAMPLED, SYNTHETIC = range(3)  # kinds of samples

DEFAULT = Sampling()


class Drawn(NamedTuple):
    """What is drawn for a step: arrays whose first dimension is the sample."""

    kinds: Array  # (N,)
    cuts: Array  # (N, 8): of plain samples, see `turned_cuts`
    sources: Array  # (N, 8): the same of larger squares, for resampled ones
    turns: Array  # (N, 2, 2), of resampled ones
    scenes: Scenes | None
    changes: Changes


class Batches:
    """Samples from `footage`.

    Args:
        crop: side of the crops that the network sees, in pixels.
        seed: chooses the samples, 0 or more.
        sampling: what may be varied.
        device: where frames are kept and samples made.
        plain: vary nothing but triplet and place, for validation.

    Attributes:
        triplets: number of triplets that may be drawn.
        skipped: a line for each clip with frames that are too small.

    Raises:
        ClipError: frames are too small for such crops, or show no motion; or there are no such stills.
        DataError: `by_flow` without OpenCV.
    """

    def __init__(
        self,
        footage: Footage,
        crop: int,
        seed: int = 0,
        sampling: Sampling = DEFAULT,
        device: torch.device | str = "cpu",
        plain: bool = False,
    ) -> None:
        self.crop, self.seed, self.sampling, self.plain = crop, seed, sampling, plain
        self.device = torch.device(device)
        self.size = crop + 2 * REACH
        self.pixels = Pixels(footage.pixels, device)
        motion = footage_motion(footage) if sampling.by_flow else [scene.motion for scene in footage.scenes]
        self.motion = np.concatenate([each.ravel() for each in motion])
        self.table, weights = _triplets(footage.scenes, sampling.strides, motion if sampling.by_flow else None)
        shortest = self.table[:, 1:3].min(axis=1, initial=2**62)
        usable = shortest[(shortest >= self.size) & (weights > 0)]
        self.triplets = len(usable)
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

        def chances(size: int) -> Array:
            """The cumulative chances of triplets with room for a square of this size."""
            return np.cumsum(weights * (shortest >= size))

        self.chances = chances(self.size)
        self.augmentation = Augmentation(sampling, self.size, self.device)
        self.source = min(int(ROOM * self.size), int(np.median(usable)))  # side of what is resampled
        self.source_chances = chances(self.source)
        self.scenes = None
        if sampling.synthetic:
            side = self.size + 2 * SURROUNDINGS
            if not chances(side)[-1]:
                raise ClipError(
                    f"synthetic motion needs frames of {side} pixels: try --synthetic 0, or a smaller --crop"
                )
            stills = Stills(sampling.stills, device) if sampling.stills else None
            self.scenes = SyntheticScenes(self.pixels, self.table, chances(side), self.size, sampling, stills)

    def __call__(self, step: int, total: int, begin: int = 0, end: int | None = None) -> Samples:
        """Samples `begin` to `end` of the `total` of a step.

        Returns:
            one, truth, two: float32, BGR, [0, 1]; one and two (N, 3, crop + 2 REACH, crop + 2 REACH), truth
            (N, 3, crop, crop), the middle of it. Crops of the videos come first, synthetic ones last.
        """
        drawn = self.draw(step, total)
        mine = np.arange(total)[begin:end]
        plain, resampled, made = (mine[drawn.kinds[mine] == kind] for kind in (PLAIN, RESAMPLED, SYNTHETIC))
        parts = [self.pixels.cut(drawn.cuts[plain], self.size)]  # (N, 3 frames, 3 channels, S, S) each
        if len(resampled):
            sources = self.pixels.cut(drawn.sources[resampled], self.source)
            parts.append(self.augmentation.resample(sources, drawn.turns[resampled]))
        if len(made):
            assert self.scenes
            assert drawn.scenes
            parts.append(self.scenes.render(Scenes(*(field[made] for field in drawn.scenes))))
        frames = torch.cat(parts) if len(parts) > 1 else parts[0]
        order = np.concatenate([plain, resampled, made])
        frames = self.augmentation.vary(frames, Changes(*(field[order] for field in drawn.changes)))
        frames = frames.mul_(1 / 255)
        inner = slice(REACH, REACH + self.crop)
        return frames[:, 0], frames[:, 1, :, inner, inner], frames[:, 2]

    def draw(self, step: int, total: int) -> Drawn:
        """Draws the `total` samples of a step, before any pixel is touched."""
        # A second generator for what options add, which so changes nothing else.
        rng, more = (np.random.default_rng(key) for key in ((self.seed, step), (self.seed, step, 1)))
        cuts = self._draw_cuts(rng, total, self.size, self.chances)
        made = rng.random(total) < self.sampling.synthetic
        resampled = (more.random(total) < RESAMPLED_SHARE) & self.augmentation.resamples
        kinds = np.where(made, SYNTHETIC, np.where(resampled, RESAMPLED, PLAIN))
        sources = self._draw_cuts(more, total, self.source, self.source_chances) if resampled.any() else cuts
        turns = self.augmentation.draw_turns(more, total, self.source)
        scenes = self.scenes.draw(rng, more, total) if self.scenes else None
        return Drawn(kinds, cuts, sources, turns, scenes, self.augmentation.draw_changes(more, total))

    def _draw_cuts(self, rng: np.random.Generator, total: int, size: int, chances: Array) -> Array:
        """Draws cuts of three frames, with this side, for each sample."""
        start, height, width, middle, stride, motion = choose(rng, self.table, chances, total)
        room = np.stack([height, width]) - size
        most = self.sampling.pan
        pan = rng.integers(-most, most + 1, (2, total)) * (rng.random(total) < PAN_SHARE) * (not self.plain)
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
        return turned_cuts(rng, np.stack(frames, axis=1), width, size, self.plain)

    def _liveliness(
        self, corners: Array, height: Array, width: Array, middle: Array, stride: Array, motion: Array
    ) -> Array:
        """The chances of crops at `corners` (CANDIDATES, 2, N), by what changes or moves there: (CANDIDATES, N)."""
        cells = np.arange(max(1, self.crop // CELL))
        columns = (height, width, middle, stride, motion)
        height, width, middle, stride, motion = (column[:, None, None, None] for column in columns)
        rows, columns = ((corners + REACH) // CELL)[:, :, :, None, None, None].swapaxes(0, 1)
        rows = np.minimum(rows + cells[:, None], height // CELL - 1)  # (CANDIDATES, N, 1, rows, 1)
        columns = np.minimum(columns + cells, width // CELL - 1)
        moments = middle + np.array([-1, 0])[:, None, None]  # the changes to the middle frame, and from it
        at = motion + (moments * (height // CELL) + rows) * (width // CELL) + columns
        change = (self.motion[at].astype(np.float32) * stride).mean(axis=(2, 3, 4)) * 2
        if self.sampling.by_flow:
            return np.clip(change / 2, 1, FAST)
        return np.sqrt(np.clip(change, 1, LIVELY))


def _triplets(scenes: Sequence[Scene], strides: int, flow: Sequence[Array] | None) -> tuple[Array, Array]:
    """All triplets of scenes, and a weight for each: how much can be learned from it.

    Args:
        strides: the largest one.
        flow: of the scenes, by `footage_motion`; triplets then weigh by how far things move, not by how much changes.

    Returns:
        (N, 6) int64: the scene's first pixel, height and width; the middle frame, the stride, and where the scene's
        motion begins among those of all scenes; (N,) float64.
    """
    rows: list[Array] = [np.empty((0, 6), np.int64)]
    weights: list[Array] = [np.empty(0)]
    motion = 0
    for number, scene in enumerate(scenes):
        cells = scene.motion.shape[1] * scene.motion.shape[2] or 1  # frames smaller than a cell have none
        change = scene.motion.sum(axis=(1, 2), dtype=np.float64) / cells
        so_far = np.concatenate([[0], change.cumsum()])  # (frames,)
        distance = _cumulative_distance(flow[number]) if flow else None
        for stride in range(1, strides + 1):
            middle = np.arange(stride, scene.frames - stride)
            before, after = so_far[middle] - so_far[middle - stride], so_far[middle + stride] - so_far[middle]
            less, more = np.minimum(before, after), np.maximum(before, after)
            if distance is None:
                weight = np.sqrt(np.clip(less + more, 1, LIVELY)) * np.minimum(1, WILD / np.maximum(less + more, 1))
            else:
                moved = (distance[middle + stride] - distance[middle - stride]) / 2
                weight = np.clip(moved, 1, FAST) * (moved <= TOO_FAST)
            weight *= min(1, (LINEAR * scene.rate / (2 * stride)) ** 2)
            weights.append(weight * (less >= STILL) * (more <= UNEVEN * less))
            constant = [[scene.start, scene.height, scene.width], [stride, motion]]
            first, last = (np.tile(values, (len(middle), 1)) for values in constant)
            rows.append(np.column_stack([first, middle, last]).astype(np.int64))
        motion += scene.motion.size
    return np.concatenate(rows), np.concatenate(weights)


def _cumulative_distance(flow: Array) -> Array:
    """How far the faster parts of a scene have moved up to each frame: (frames,), in pixels."""
    cells = flow.reshape(len(flow), -1).astype(np.float64)
    moved = np.quantile(cells, FASTER, axis=1) if cells.size else np.zeros(len(flow))
    return np.concatenate([[0], moved.cumsum()])
