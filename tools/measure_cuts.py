"""Measures the detection of cuts on clips that are not part of the repository; no test of the suite.

    python -m tools.measure_cuts CLIPS --pack real-1 --seed 7

CLIPS has MANIFEST.tsv (columns pack, clip, frames and mad, the mean difference of neighbours) and a folder for each
pack. Cuts are made by joining random pieces of 12 frames of different clips. Neighbours that are no cut are taken from
the clips with the largest differences first, and 200 of them are at a flash of 60 levels that lasts for one frame.
"""

import argparse
import csv
import functools
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from vfi import cuts
from vfi.command_line import exit_status
from vfi.errors import DataError, reason
from vfi.video.reader import VideoFile

CUTS = 100
NEIGHBOURS = 2000  # that are no cut, flashes included
FLASHES = 200
PIECE = 12  # frames
LONGEST = 200  # frames of a clip whose neighbours are looked at
FLASH = 60  # levels

Row = dict[str, str]
Clip = Callable[[str], list[np.ndarray]]  # a clip's name to the luma of its frames


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line `argv` (sys.argv by default); returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.measure_cuts", description="Measures the detection of cuts on clips of your own."
    )
    parser.add_argument("clips", type=Path, help="folder with MANIFEST.tsv and a folder for each pack")
    parser.add_argument("--pack", default="real-1")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--leave-out", nargs="*", default=[], help="clips that have cuts of their own")
    return exit_status(_measure, parser.parse_args(argv))


def _measure(options: argparse.Namespace) -> None:
    manifest = options.clips / "MANIFEST.tsv"
    try:
        with open(manifest, newline="") as file:
            rows = [row for row in csv.DictReader(file, delimiter="\t") if row["pack"] == options.pack]
    except (OSError, LookupError) as error:
        raise DataError(f"{manifest} is not such a table: {reason(error)}") from error
    rows = [row for row in rows if row["clip"] not in options.leave_out]
    if len(rows) < 2:
        raise DataError(f"{manifest} has fewer than two clips of the pack {options.pack}")
    generator = random.Random(options.seed)

    @functools.lru_cache(maxsize=1)  # the frames of one clip at a time are enough memory
    def luma(clip: str) -> list[np.ndarray]:
        return [frame.luma for frame in VideoFile(options.clips / options.pack / clip).frames()]

    at_cuts = np.array(scores_at_cuts(rows, luma, generator))
    elsewhere = np.array(scores_in_motion(rows, luma) + scores_at_flashes(rows, luma, generator))
    found, wrong = np.mean(at_cuts > cuts.THRESHOLD), np.mean(elsewhere > cuts.THRESHOLD)
    print(f"{options.pack}, seed {options.seed}, threshold {cuts.THRESHOLD}")
    print(f"found {found:.1%} of {len(at_cuts)} cuts; took {wrong:.2%} of {len(elsewhere)} other neighbours for cuts")


def scores_at_cuts(rows: Sequence[Row], luma: Clip, generator: random.Random) -> list[float]:
    """The scores where pieces of two clips are joined."""
    scores = []
    for _ in range(CUTS):
        joined = [thumbnail for row in generator.sample(rows, 2) for thumbnail in _piece(luma(row["clip"]), generator)]
        scores.append(list(cuts.cut_scores(joined))[PIECE - 1])
    return scores


def scores_in_motion(rows: Sequence[Row], luma: Clip) -> list[float]:
    """The scores of neighbours of one clip, those with the largest differences first."""
    scores: list[float] = []
    for row in sorted(rows, key=lambda row: -float(row["mad"])):
        scores += cuts.cut_scores(cuts.thumbnail(frame) for frame in luma(row["clip"])[:LONGEST])
        if len(scores) >= NEIGHBOURS - FLASHES:
            break
    return scores[: NEIGHBOURS - FLASHES]


def scores_at_flashes(rows: Sequence[Row], luma: Clip, generator: random.Random) -> list[float]:
    """The scores before and after a frame that is lighter than its neighbours."""
    scores: list[float] = []
    for number in range(FLASHES // 2):
        if number % 10 == 0:
            frames = luma(generator.choice(rows)["clip"])
        start = generator.randrange(len(frames) - PIECE)
        piece = [cuts.thumbnail(frame) for frame in frames[start : start + PIECE]]
        flash = np.clip(frames[start + PIECE // 2].astype(int) + FLASH, 0, 255).astype(np.uint8)
        piece[PIECE // 2] = cuts.thumbnail(flash)
        scores += list(cuts.cut_scores(piece))[PIECE // 2 - 1 : PIECE // 2 + 1]
    return scores


def _piece(frames: Sequence[np.ndarray], generator: random.Random) -> list[np.ndarray]:
    """The thumbnails of a random piece of a clip."""
    start = generator.randrange(len(frames) - PIECE)
    return [cuts.thumbnail(frame) for frame in frames[start : start + PIECE]]


if __name__ == "__main__":
    sys.exit(main())
