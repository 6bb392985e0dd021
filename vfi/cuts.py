"""Where the scene changes, and which frames show the same as the one before.

Both look at luma alone. A cut is where frames across it are less alike than those on either side of it: fast motion is
fast on both sides, and after a flash things look as they did before. Copies of a frame are looked past.
"""

import itertools

import numpy as np

LONGEST_RUN = 3  # copies of a frame, itself included, that are looked past
CONTEXT = LONGEST_RUN  # frames on either side by which a cut is told from motion: there one is that is no copy
THRESHOLD = 1.5  # tests/measure_scenes.py says what this finds and what it takes for a cut that is none
THUMBNAIL = (18, 32)  # rows, columns: little enough that motion within a scene does not count for much
NOISE = 3  # levels of 255 by which thumbnails differ for no reason of note
UNKNOWN_MOTION = 12  # levels by which neighbours may well differ, where there are none to compare with
STILL = 0.5  # levels by which thumbnails of copies differ at most
COPY = 2  # levels by which no block of a copy differs from the original: what a codec does to it
BLOCK = 16  # pixels


def thumbnail(luma, bits=8):
    """(H, W), uint8 or uint16 of so many bits, to means of blocks in levels of 255; float32."""
    levels = luma / np.float32(_level(bits))
    for axis, parts in enumerate(THUMBNAIL):
        size = luma.shape[axis]
        starts = np.arange(min(parts, size)) * size // min(parts, size)
        sums = np.add.reduceat(levels, starts, axis)
        counts = np.diff(np.append(starts, size)).astype(np.float32)
        levels = sums / (counts[:, None] if axis == 0 else counts)
    return levels


def _level(bits):
    """What is a level of 255 in samples of so many bits."""
    return (2**bits - 1) / 255


def cut_score(around):
    """How much less alike the frames across are than those on either side, copies aside.

    Args:
        around: an even number of thumbnails in a row; None where there are none.

    Returns:
        Above `THRESHOLD` for a cut in the middle.
    """
    half = len(around) // 2
    lefts = _distinct(around[half - 1 :: -1])
    rights = _distinct(around[half:])
    across = min(_difference(left, right) for left in lefts for right in rights)
    beside = [_difference(*pair) for pair in (lefts, rights) if len(pair) == 2]
    return across / (NOISE + max(beside, default=UNKNOWN_MOTION))


def cut_scores(thumbnails):
    """`cut_score` between each and the next of all frames that there are."""
    padded = [None] * CONTEXT + list(thumbnails) + [None] * CONTEXT
    width = 2 * CONTEXT + 2
    return [cut_score(padded[start : start + width]) for start in range(len(padded) - width + 1)]


def _distinct(thumbnails):
    """The first, and the next that is not as good as the same, if there is one."""
    first, *others = thumbnails
    others = (other for other in others if other is not None and _difference(first, other) > STILL)
    return [first, *itertools.islice(others, 1)]


def _difference(one, two):
    return float(np.abs(one - two).mean())


def is_copy(one, two, bits=8):
    """Whether two frames' luma, (H, W), is the same but for what a codec does to it."""
    difference = np.abs(one.astype(np.float32) - two) / np.float32(_level(bits))
    blocks = difference
    for axis in (0, 1):
        starts = np.arange(0, difference.shape[axis], BLOCK)
        blocks = np.add.reduceat(blocks, starts, axis)
    return blocks.max() < COPY * BLOCK**2
