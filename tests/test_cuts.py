"""Cuts, motion, flashes and copies, on thumbnails of synthetic scenes."""

import numpy as np
import pytest
from helpers.films import moving

from vfi import cuts as scenes


def scores(lumas):
    return scenes.cut_scores(scenes.thumbnail(luma.astype(np.uint8)) for luma in lumas)


def lumas(count, step=2, seed=0):
    return [planes[0] for planes in moving(count, 128, 96, step, seed)]


def test_a_hundred_cuts_are_found():
    for seed in range(100):
        found = np.array(scores(lumas(12, seed=seed) + lumas(12, seed=seed + 1000))) > scenes.THRESHOLD
        assert len(found) == 23
        assert np.flatnonzero(found).tolist() == [11]


@pytest.mark.parametrize("step", [1, 4, 8, 16])
def test_motion_is_no_cut(step):
    assert max(scores(lumas(12, step))) < scenes.THRESHOLD


@pytest.mark.parametrize("copies", [2, 3])
def test_animation_on_twos_and_threes_has_no_cuts(copies):
    assert max(scores(luma for luma in lumas(8, 8) for _ in range(copies))) < scenes.THRESHOLD


def test_copies():
    luma = np.random.default_rng(0).integers(0, 255, (50, 70)).astype(np.uint8)
    noisy = np.clip(luma.astype(int) + np.random.default_rng(1).integers(-1, 2, luma.shape), 0, 255).astype(np.uint8)
    moved = luma.copy()
    moved[:8, :8] = 255 - moved[:8, :8]
    assert scenes.is_copy(luma, noisy)
    assert not scenes.is_copy(luma, moved)
    for bits in (10, 12, 16):
        one, two, three = (np.round(frame * ((2**bits - 1) / 255)).astype(np.uint16) for frame in (luma, noisy, moved))
        assert scenes.is_copy(one, two, bits)
        assert not scenes.is_copy(one, three, bits)
        assert scenes.thumbnail(one, bits) == pytest.approx(scenes.thumbnail(luma), abs=0.1)
