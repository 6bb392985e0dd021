"""Synthetic motion: layers that move on paths of their own, so that the middle frame is exact whatever moves.

The layers at the back are cut from frames (or photographs) by smooth random masks. Small objects may lie over them:
cut-outs, or discs and rods with the texture of frames. Every path is symmetric in time about the middle frame; only
`acceleration` moves the middle frame away from the exact middle, by a fraction of a pixel.
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vfi.training.cutting import Array, Pixels, choose, turned_cuts
from vfi.training.recipe import Sampling
from vfi.training.stills import Group, Stills

LAYERS = 3  # half of the samples have only the first two
SPEED = 22  # pixels from one frame to the next, of the fastest layer: a little less than the kernels reach
WARP = 0.03  # by how much a layer turns, grows and shears from one frame to the next, usually
SURROUNDINGS = 25  # pixels around a layer that may move into view
BLOBS = 7  # values along each side of the noise that masks are made of

PHOTOGRAPHS = 0.5  # share of the layers that show photographs, if there are any
CUTOUTS = 0.7  # share of the objects that are cut-outs, if there are any
SMALLEST_OBJECT, LARGEST_OBJECT = 10, 0.8  # the larger side: pixels; share of the frame
THINNEST = 2  # pixels, of rods
OBJECT_WARP = 0.05
SHUTTER = (0.1, 0.5)  # of the time from one frame to the next, in samples with motion blur
EXPOSURES = 7  # moments of which a blurred frame is the mean


class Motion(NamedTuple):
    """How pictures (N, ...) are placed and move; all in pixels and from one frame to the next.

    Attributes:
        base: (2, 2), from the frame to the picture.
        warp: (2, 2), the change of `base`.
        way: (2,), the picture's shift.
        offset: (2,), the picture's shift in the middle frame.
        tilt: (2,), the change of perspective: the relative change of depth for each pixel.
        bend: (2,), the shift of both outer frames against uniform motion.
    """

    base: Array
    warp: Array
    way: Array
    offset: Array
    tilt: Array
    bend: Array


class Scenes(NamedTuple):
    """What is drawn for samples: arrays whose first dimension is the sample."""

    cuts: Array  # (N, LAYERS, numbers), of frames
    still: Array  # (N, LAYERS, 5): start, corner and size of a photograph; size 0 for none
    noise: Array  # (N, LAYERS - 1, BLOBS, BLOBS): masks
    layers: Array  # (N, LAYERS, 16): the fields of Motion
    exists: Array  # (N, objects): whether there is an object
    textures: Array  # (N, objects, numbers): cuts of frames
    cutouts: Array  # (N, objects, 5): start, corner and size of a cut-out; size 0 for a disc or rod
    radii: Array  # (N, objects, 2), of discs and rods, in pixels
    objects: Array  # (N, objects, 16): the fields of Motion
    shutter: Array  # (N,): 0 without motion blur


class SyntheticScenes:
    """Draws and renders scenes.

    Args:
        pixels, table, chances: frames to cut layers from; rows (first pixel, height, width, frame, ...) of a table, and
            their cumulative chances.
        size: side of the frames to render, in pixels.
        sampling: what may be drawn.
        stills: photographs and cut-outs, or None.
    """

    def __init__(
        self, pixels: Pixels, table: Array, chances: Array, size: int, sampling: Sampling, stills: Stills | None
    ) -> None:
        self._pixels, self._table, self._chances = pixels, table, chances
        self._size, self._side = size, size + 2 * SURROUNDINGS  # of frames, and of the pictures that move
        self._sampling, self._stills = sampling, stills
        steps = torch.arange(size, device=pixels.device, dtype=torch.float32) - (size - 1) / 2
        self._square = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=-1)  # (S, S, 2): x and y

    # --- Drawing ---

    def draw(self, rng: np.random.Generator, more: np.random.Generator, total: int) -> Scenes:
        """Draws `total` scenes; `more` is for what options add, so that the rest does not depend on them."""
        shape = (total, LAYERS)
        cuts = self._draw_cuts(rng, *shape)
        fastest = self._sampling.speed
        random, angle = rng.random(shape), 2 * np.pi * rng.random(shape)
        speed = fastest * random if fastest else SPEED * random**2
        warp = WARP * rng.standard_normal((*shape, 2, 2)) * (rng.random((*shape, 1, 1)) < 0.5)
        way = np.stack([speed * np.cos(angle), speed * np.sin(angle)], axis=-1)
        offset = np.broadcast_to(rng.random((total, 1, 2)) - 0.5, way.shape)

        noise = rng.standard_normal((total, LAYERS - 1, BLOBS, BLOBS))
        noise -= rng.uniform(-0.3, 0.8, (total, LAYERS - 1, 1, 1))  # most masks cover less than half
        noise *= 10 ** rng.uniform(1.3, 2.2, (total, LAYERS - 1, 1, 1))  # edges a few pixels wide, or less than one
        noise[:, -1] = np.where(rng.random((total, 1, 1)) < 0.5, noise[:, -1], -1e3)

        still = np.zeros((*shape, 5), np.int64)
        if self._stills and len(self._stills.backgrounds):
            drawn = self._draw_photographs(more, self._stills.backgrounds, shape)
            still = np.where(more.random((*shape, 1)) < PHOTOGRAPHS, drawn, still)
        base = np.broadcast_to(np.eye(2), (*shape, 2, 2))
        motion = Motion(base, warp, way, offset, *self._draw_details(more, shape))
        objects = self._draw_objects(more, total)
        blurred = more.random(total) < self._sampling.blur
        return Scenes(cuts, still, noise.astype(np.float32), _packed(motion), *objects, _shutter(more, blurred))

    def _draw_cuts(self, rng: np.random.Generator, *shape: int) -> Array:
        start, height, width, middle, _, _ = choose(rng, self._table, self._chances, *shape)
        room = np.stack([height, width]) - self._side
        row, column = (rng.random(room.shape) * (room + 1)).astype(np.int64)
        first = start + (middle * height + row) * width + column
        return turned_cuts(rng, first.reshape(-1, 1), width.ravel(), self._side).reshape(*shape, -1)

    def _draw_details(self, more: np.random.Generator, shape: tuple[int, ...]) -> tuple[Array, Array]:
        """`tilt` and `bend` of a Motion."""
        tilt = self._sampling.perspective * more.standard_normal((*shape, 2)) / (self._size / 2)
        angle = 2 * np.pi * more.random(shape)
        bend = self._sampling.acceleration * more.random(shape) * np.stack([np.cos(angle), np.sin(angle)])
        return tilt, np.moveaxis(bend, 0, -1)

    def _draw_photographs(self, more: np.random.Generator, group: Group, shape: tuple[int, ...]) -> Array:
        """Squares within photographs, in one of the sizes that are large enough; size 0 if none is."""
        sizes = group.table[more.integers(0, len(group), shape)]  # (*shape, SIZES, 3)
        usable = (sizes[..., 1:].min(axis=-1) >= self._side).sum(axis=-1)  # the first ones
        level = (more.random(shape) * usable).astype(np.int64)
        start, height, width = np.moveaxis(np.take_along_axis(sizes, level[..., None, None], axis=-2)[..., 0, :], -1, 0)
        room = np.maximum(np.stack([height, width], axis=-1) - self._side, 0)
        corner = (more.random((*shape, 2)) * (room + 1)).astype(np.int64)
        chosen = np.stack([start, corner[..., 0], corner[..., 1], height, width], axis=-1)
        return chosen * (usable > 0)[..., None]

    def _draw_objects(self, more: np.random.Generator, total: int) -> tuple[Array, Array, Array, Array, Array]:
        """The fields of Scenes from `exists` to `objects`."""
        most = self._sampling.objects
        shape = (total, most)
        if not most:
            return (np.zeros(shape, bool), *(np.zeros((*shape, count)) for count in (6, 5, 2, 16)))  # type: ignore[return-value]
        exists = np.arange(most) < more.integers(0, most + 1, (total, 1))
        textures = self._draw_cuts(more, *shape)
        wanted = np.exp(more.uniform(np.log(SMALLEST_OBJECT), np.log(LARGEST_OBJECT * self._size), shape))
        scale = np.ones(shape)  # pixels of the picture for each of the frame
        cutouts = np.zeros((*shape, 5), np.int64)
        if self._stills and len(self._stills.cutouts):
            drawn, scales = self._draw_cutouts(more, self._stills.cutouts, wanted)
            chosen = more.random(shape) < CUTOUTS
            cutouts = np.where(chosen[..., None], drawn, cutouts)
            scale = np.where(chosen, scales, scale)
        thin = THINNEST * (wanted / THINNEST) ** more.random(shape)  # from rods to discs
        radii = np.stack([wanted, thin], axis=-1) / 2

        angle = 2 * np.pi * more.random(shape)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]).transpose(2, 3, 0, 1)
        turn[..., 0] *= more.choice([-1, 1], shape)[..., None]  # mirrored
        base = turn * scale[..., None, None]
        place = (more.random((*shape, 2)) - 0.5) * self._size
        speed, angle = (self._sampling.speed or SPEED) * more.random(shape), 2 * np.pi * more.random(shape)
        way = np.stack([speed * np.cos(angle), speed * np.sin(angle)], axis=-1)
        warp = OBJECT_WARP * more.standard_normal((*shape, 2, 2))
        motion = Motion(
            base, base @ warp, _applied(base, way), -_applied(base, place), *self._draw_details(more, shape)
        )
        return exists, textures, cutouts, radii, _packed(motion)

    def _draw_cutouts(self, more: np.random.Generator, group: Group, wanted: Array) -> tuple[Array, Array]:
        """Squares around cut-outs in the size nearest to the wanted one, and what remains to be scaled."""
        sizes = group.table[more.integers(0, len(group), wanted.shape)]
        largest = sizes[..., 1:].max(axis=-1)  # (total, objects, SIZES)
        fits = (largest > 0) & (largest <= self._side)
        distance = np.where(fits, np.abs(np.log(np.maximum(largest, 1) / wanted[..., None])), np.inf)
        chosen = np.take_along_axis(sizes, distance.argmin(axis=-1)[..., None, None], axis=-2)[..., 0, :]
        start, height, width = np.moveaxis(chosen, -1, 0)
        corner = (np.stack([height, width], axis=-1) - self._side) // 2
        cutouts = np.stack([start, corner[..., 0], corner[..., 1], height, width], axis=-1)
        return cutouts, np.maximum(height, width) / wanted

    # --- Rendering ---

    def render(self, scenes: Scenes) -> Tensor:
        """The three frames of each scene: (N, 3, 3, S, S), float32, BGR, 0 to 255.

        The middle frame is resampled like the others, not at the pixels of its layers: otherwise the network would
        learn to sharpen.
        """
        frames = self._exposed(scenes, np.zeros(1))
        blurred = np.flatnonzero(scenes.shutter)
        if len(blurred):
            some = Scenes(*(field[blurred] for field in scenes))
            frames[self._tensor(blurred)] = self._exposed(some, np.linspace(-0.5, 0.5, EXPOSURES))
        return frames

    def _exposed(self, scenes: Scenes, parts: Array) -> Tensor:
        """The three frames, each the mean over moments; `parts` says at which parts of the shutter's time they are."""
        count = len(parts)
        offsets = (scenes.shutter[:, None] * parts).ravel()
        layers = self._layers(scenes)
        present = [np.flatnonzero(exists) for exists in scenes.exists.T]
        objects = [self._object(scenes, which, number) for number, which in enumerate(present)]
        if count > 1:
            layers, *objects = (pictures.repeat_interleave(count, dim=0) for pictures in (layers, *objects))
            scenes = Scenes(*(field.repeat(count, axis=0) for field in scenes))
            present = [np.flatnonzero(exists) for exists in scenes.exists.T]
        frames = [self._frame(scenes, layers, present, objects, moment + offsets) for moment in (-1.0, 0.0, 1.0)]
        if count > 1:
            frames = [frame.unflatten(0, (-1, count)).mean(dim=1) for frame in frames]
        return torch.stack(frames, dim=1)

    def _layers(self, scenes: Scenes) -> Tensor:
        """(N, LAYERS, 4, side, side): BGR and mask of the layers, from the back."""
        side = self._side
        pictures = self._pixels.cut(scenes.cuts.reshape(-1, scenes.cuts.shape[-1]), side).view(-1, 3, side, side)
        chosen = np.flatnonzero(scenes.still[..., 3])
        if len(chosen):
            assert self._stills
            start, *corner, height, width = scenes.still.reshape(-1, 5)[chosen].T
            sizes = np.column_stack([height, width])
            pictures[self._tensor(chosen)] = self._stills.cut(start, np.column_stack(corner), sizes, side)[:, :3]
        blobs = self._tensor(scenes.noise)
        masks = F.interpolate(blobs, size=(side, side), mode="bicubic", align_corners=True).sigmoid()
        masks = F.pad(masks, [0, 0, 0, 0, 1, 0], value=1.0)  # the layer at the back covers everything
        return torch.cat([pictures.view(-1, LAYERS, 3, side, side), masks[:, :, None]], dim=2)

    def _object(self, scenes: Scenes, which: Array, number: int) -> Tensor:
        """(n, 4, side, side): premultiplied BGR and alpha of an object of the scenes `which`."""
        side = self._side
        steps = torch.arange(side, device=self._pixels.device, dtype=torch.float32) - (side - 1) / 2
        radii = self._tensor(scenes.radii[which, number].astype(np.float32))[..., None, None]  # (n, 2, 1, 1)
        distance = torch.hypot(steps / radii[:, 0], steps[:, None] / radii[:, 1])  # 1 at the edge
        alpha = ((1 - distance) * radii.amin(dim=1) + 0.5).clamp(0, 1)[:, None]  # an edge of about a pixel
        pictures = self._pixels.cut(scenes.textures[which, number], side)[:, 0]
        pictures = torch.cat([pictures * alpha, alpha], dim=1)
        cutouts = scenes.cutouts[which, number]
        chosen = np.flatnonzero(cutouts[:, 3])
        if len(chosen):
            assert self._stills
            start, *corner, height, width = cutouts[chosen].T
            sizes = np.column_stack([height, width])
            pictures[self._tensor(chosen)] = self._stills.cut(start, np.column_stack(corner), sizes, side)
        return pictures

    def _frame(
        self, scenes: Scenes, layers: Tensor, present: list[Array], objects: list[Tensor], moments: Array
    ) -> Tensor:
        """The scenes, each at its own moment: (N, 3, S, S)."""
        at = self._where(scenes.layers.reshape(-1, scenes.layers.shape[-1]), moments.repeat(LAYERS))
        moved = F.grid_sample(layers.flatten(0, 1), at, "bicubic", padding_mode="reflection", align_corners=False)
        colours, masks = moved.unflatten(0, layers.shape[:2]).split([3, 1], dim=2)
        frame = colours[:, 0]
        for layer in range(1, LAYERS):
            frame = torch.lerp(frame, colours[:, layer], masks[:, layer].clamp(0, 1))
        for number, (which, pictures) in enumerate(zip(present, objects, strict=True)):
            if len(which):
                at = self._where(scenes.objects[which, number], moments[which])
                moved = F.grid_sample(pictures, at, "bicubic", padding_mode="zeros", align_corners=False)
                below = self._tensor(which)
                frame[below] = frame[below] * (1 - moved[:, 3:].clamp(0, 1)) + moved[:, :3]
        return frame.clamp(0, 255)

    def _where(self, packed: Array, moments: Array) -> Tensor:
        """Where the pixels of frames lie in pictures, as `grid_sample` takes it: (n, S, S, 2)."""
        base, warp, way, offset, tilt, bend = self._tensor(packed).split([4, 4, 2, 2, 2, 2], dim=1)
        time = self._tensor(moments.astype(np.float32))[:, None]
        matrix = (base + time * warp).view(-1, 2, 2)
        shift = time * way + offset + time.abs() * bend
        square = self._square
        at = torch.einsum("yxj,nij->nyxi", square, matrix)
        if self._sampling.perspective:
            depth = 1 + torch.einsum("yxj,nj->nyx", square, time * tilt)
            at = at / depth[..., None]
        return (at + shift[:, None, None]) * (2 / self._side)

    def _tensor(self, array: Array) -> Tensor:
        return torch.from_numpy(array).to(self._pixels.device, non_blocking=True)


def _packed(motion: Motion) -> Array:
    """The fields of a Motion side by side: (..., 16), float32."""
    base, warp, *others = motion
    flat = [matrix.reshape(*matrix.shape[:-2], 4) for matrix in (base, warp)]
    return np.concatenate([*flat, *others], axis=-1).astype(np.float32)


def _applied(matrix: Array, vector: Array) -> Array:
    return np.einsum("...ij,...j->...i", matrix, vector)


def _shutter(more: np.random.Generator, blurred: Array) -> Array:
    return np.where(blurred, more.uniform(*SHUTTER, blurred.shape), 0)
