"""Variations of samples: size, rotation, light, noise and compression."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vfi.training.cutting import Array
from vfi.training.recipe import Sampling

SUPERSAMPLING = 2  # along each side: what is reduced to a half at most is the mean of all its pixels
CHANNEL_LIGHT = 0.3  # of the variation of light: that of each colour
CHANGING_LIGHT = 0.2  # of the variation of light: the change from one frame to the next
NOISE = 4.0  # grey levels: largest standard deviation
COMPRESSION = 12.0  # grey levels: largest step to which the frequencies of a block are rounded
BLOCK = 8  # pixels, of the blocks of compression


class Changes(NamedTuple):
    """What is drawn for samples besides their pixels: arrays whose first dimension is the sample."""

    gains: Array  # (N, 3 frames, 3 channels)
    gammas: Array  # (N,): a sample becomes sample ** gamma * gain
    degraded: Array  # (N,): whether noise and compression are added
    noise: Array  # (N,): standard deviation in grey levels
    steps: Array  # (N,): grey levels to which frequencies are rounded
    seeds: Array  # (N,): of the noise


class Augmentation:
    """Varies samples; what is drawn depends on the generators alone.

    Args:
        size: side of the frames of samples, in pixels.

    Attributes:
        resamples: whether `resample` has anything to do.
    """

    def __init__(self, sampling: Sampling, size: int, device: torch.device) -> None:
        self._sampling, self._size, self._device = sampling, size, device
        self.resamples = sampling.zoom > 1 or sampling.rotation > 0

    def draw_turns(self, rng: np.random.Generator, total: int, source: int) -> Array:
        """(N, 2, 2): from the pixels of a sample to those of the larger square (of side `source`) behind it."""
        angle = np.radians(self._sampling.rotation) * rng.uniform(-1, 1, total)
        needed = self._size * (np.abs(np.cos(angle)) + np.abs(np.sin(angle)))  # of the source, if nothing is reduced
        most = np.log(self._sampling.zoom)
        least = np.maximum(-most, np.log(needed / source))  # reduced no more than the source has room for
        zoom = np.exp(least + rng.random(total) * (np.maximum(most, least) - least))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / zoom
        return np.moveaxis(turn, -1, 0).astype(np.float32)

    def resample(self, frames: Tensor, turns: Array) -> Tensor:
        """Enlarges or reduces and turns samples: (N, 3, 3, source, source) to (N, 3, 3, S, S)."""
        count, source = len(frames), frames.shape[-1]
        fine = self._size * SUPERSAMPLING
        steps = (torch.arange(fine, device=self._device, dtype=torch.float32) - (fine - 1) / 2) / SUPERSAMPLING
        square = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=-1)
        at = torch.einsum("yxj,nij->nyxi", square, torch.from_numpy(turns).to(self._device)) * (2 / source)
        moved = F.grid_sample(frames.flatten(1, 2), at, "bicubic", padding_mode="reflection", align_corners=False)
        return F.avg_pool2d(moved, SUPERSAMPLING).view(count, 3, 3, self._size, self._size).clamp_(0, 255)

    def draw_changes(self, rng: np.random.Generator, total: int) -> Changes:
        """Draws the changes of `total` samples."""
        spread = self._sampling.light
        gain = rng.standard_normal((total, 1, 1)) + CHANNEL_LIGHT * rng.standard_normal((total, 1, 3))
        change = CHANGING_LIGHT * rng.standard_normal((total, 1, 1)) * np.array([-1, 0, 1])[:, None]
        return Changes(
            gains=np.exp(spread * gain) * (1 + spread * change),
            gammas=np.exp(spread * rng.standard_normal(total)),
            degraded=rng.random(total) < self._sampling.degraded,
            noise=NOISE * rng.random(total),
            steps=COMPRESSION * rng.random(total),
            seeds=rng.integers(2**62, size=total),
        )

    def vary(self, frames: Tensor, changes: Changes) -> Tensor:
        """Changes the light, and adds noise and compression: (N, 3 frames, 3 channels, S, S), 0 to 255."""
        if self._sampling.light:
            factor, exponent = (self._tensor(values) for values in (changes.gains, changes.gammas))
            bright = (frames / 255).clamp(min=1e-6) ** exponent.view(-1, 1, 1, 1, 1)
            frames = (255 * bright * factor[..., None, None]).clamp_(0, 255)
        if changes.degraded.any():
            self._degrade(frames, changes)
        return frames

    def _degrade(self, frames: Tensor, changes: Changes) -> None:
        """Compresses the two outer frames of some samples and adds noise to them; the truth stays as it is."""
        chosen = np.flatnonzero(changes.degraded)
        index = torch.from_numpy(chosen).to(self._device)
        outer = _compress(frames[index][:, ::2], self._tensor(changes.steps[chosen]))  # (n, 2, 3, S, S)
        generators = (torch.Generator(self._device).manual_seed(seed) for seed in changes.seeds[chosen].tolist())
        noise = torch.stack(
            [torch.randn(outer.shape[1:], generator=generator, device=self._device) for generator in generators]
        )
        outer = outer + noise * self._tensor(changes.noise[chosen]).view(-1, 1, 1, 1, 1)
        frames[index[:, None], torch.tensor([0, 2], device=self._device)] = outer.round().clamp(0, 255)

    def _tensor(self, array: Array) -> Tensor:
        return torch.from_numpy(array.astype(np.float32)).to(self._device, non_blocking=True)


def _compress(frames: Tensor, steps: Tensor) -> Tensor:
    """Rounds the frequencies of blocks of 8 x 8 pixels, as JPEG and video codecs do; higher ones more coarsely.

    Args:
        frames: (N, 2, 3, S, S).
        steps: (N,), grey levels.
    """
    size = frames.shape[-1]
    number = torch.arange(BLOCK, device=frames.device, dtype=torch.float32)
    cosine = torch.cos(torch.pi / BLOCK * (number + 0.5) * number[:, None]) * (2 / BLOCK) ** 0.5
    cosine[0] /= 2**0.5  # an orthogonal matrix: the discrete cosine transform
    padded = F.pad(frames.flatten(0, 2)[None], [0, -size % BLOCK] * 2, mode="replicate")[0]
    count = padded.shape[-1] // BLOCK
    blocks = padded.view(*frames.shape[:3], count, BLOCK, count, BLOCK)
    frequencies = torch.einsum("ui,ncprisj,vj->ncprusv", cosine, blocks, cosine)
    coarse = steps.view(-1, 1, 1, 1, 1, 1, 1).clamp(min=1) * (1 + (number[:, None, None] + number) / 2)
    frequencies = (frequencies / coarse).round() * coarse
    blocks = torch.einsum("ui,ncprusv,vj->ncprisj", cosine, frequencies, cosine)
    return blocks.reshape(*frames.shape[:3], count * BLOCK, count * BLOCK)[..., :size, :size]
