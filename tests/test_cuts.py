"""Cuts, motion, flashes and copies, on thumbnails of synthetic cuts."""

from fractions import Fraction

import numpy as np
import pytest
from helpers.films import moving

from vfi import cuts
from vfi.video.frame import Frame


def is_copy(one, two, bits=8):
    return cuts.is_copy(*(Frame(Fraction(0), [luma], bits) for luma in (one, two)))


def scores(lumas):
    return cuts.cut_scores(cuts.thumbnail(luma.astype(np.uint8)) for luma in lumas)


def lumas(count, step=2, seed=0):
    return [planes[0] for planes in moving(count, 128, 96, step, seed)]


def test_a_hundred_cuts_are_found():
    for seed in range(100):
        found = np.array(scores(lumas(12, seed=seed) + lumas(12, seed=seed + 1000))) > cuts.THRESHOLD
        assert len(found) == 23
        assert np.flatnonzero(found).tolist() == [11]


@pytest.mark.parametrize("step", [1, 4, 8, 16])
def test_motion_is_not_a_cut(step):
    assert max(scores(lumas(12, step))) < cuts.THRESHOLD


@pytest.mark.parametrize("copies", [2, 3])
def test_animation_on_twos_and_threes_has_no_cuts(copies):
    assert max(scores(luma for luma in lumas(8, 8) for _ in range(copies))) < cuts.THRESHOLD


def test_copies():
    luma = np.random.default_rng(0).integers(0, 255, (50, 70)).astype(np.uint8)
    noisy = np.clip(luma.astype(int) + np.random.default_rng(1).integers(-1, 2, luma.shape), 0, 255).astype(np.uint8)
    moved = luma.copy()
    moved[:8, :8] = 255 - moved[:8, :8]
    assert is_copy(luma, noisy)
    assert not is_copy(luma, moved)
    for bits in (10, 12, 16):
        one, two, three = (np.round(frame * ((2**bits - 1) / 255)).astype(np.uint16) for frame in (luma, noisy, moved))
        assert is_copy(one, two, bits)
        assert not is_copy(one, three, bits)
        assert cuts.thumbnail(one, bits) == pytest.approx(cuts.thumbnail(luma), abs=0.1)
