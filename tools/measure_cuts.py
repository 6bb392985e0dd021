"""Measures scene detection on clips that are not part of the repository; no test of the suite.

    python -m tools.measure_cuts CLIPS --pack real-1 --seed 7

CLIPS has MANIFEST.tsv (columns pack, clip, frames and mad, the mean difference of neighbours) and a folder for each
pack. Cuts are made by joining random pieces of 12 frames of different clips; neighbours that are no cut are taken from
the clips with the largest differences first, and 200 of them are at a flash of 60 levels that lasts for one frame.
"""

import argparse
import csv
import random
from pathlib import Path

import numpy as np

from vfi import cuts as detector
from vfi.video.reader import VideoFile

CUTS, NEIGHBOURS, FLASHES, PIECE, FLASH = 100, 2000, 200, 12, 60


def main():
    parser = argparse.ArgumentParser(description="Measures scene detection.")
    parser.add_argument("clips", type=Path)
    parser.add_argument("--pack", default="real-1")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--leave-out", nargs="*", default=[], help="clips that have cuts of their own")
    options = parser.parse_args()
    with open(options.clips / "MANIFEST.tsv") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["pack"] == options.pack]
    rows = [row for row in rows if row["clip"] not in options.leave_out]
    choice = random.Random(options.seed)
    known = {}

    def luma(row):
        if row["clip"] not in known:
            known.clear()  # one clip at a time is enough to hold
            known[row["clip"]] = [
                frame.luma for frame in VideoFile(options.clips / options.pack / row["clip"]).frames()
            ]
        return known[row["clip"]]

    cuts = []
    for _ in range(CUTS):
        pieces = []
        for row in choice.sample(rows, 2):
            frames = luma(row)
            start = choice.randrange(len(frames) - PIECE)
            pieces.append([detector.thumbnail(frame) for frame in frames[start : start + PIECE]])
        cuts.append(detector.cut_scores(pieces[0] + pieces[1])[PIECE - 1])
    others = []
    for row in sorted(rows, key=lambda row: -float(row["mad"])):
        others += detector.cut_scores(detector.thumbnail(frame) for frame in luma(row)[:200])
        if len(others) >= NEIGHBOURS - FLASHES:
            break
    others = others[: NEIGHBOURS - FLASHES]
    for number in range(FLASHES // 2):
        if number % 10 == 0:
            frames = luma(choice.choice(rows))
        start = choice.randrange(len(frames) - PIECE)
        piece = [detector.thumbnail(frame) for frame in frames[start : start + PIECE]]
        flash = np.clip(frames[start + 6].astype(int) + FLASH, 0, 255).astype(np.uint8)
        piece[6] = detector.thumbnail(flash)
        others += detector.cut_scores(piece)[5:7]
    found, wrong = np.mean(np.array(cuts) > detector.THRESHOLD), np.mean(np.array(others) > detector.THRESHOLD)
    print(f"{options.pack}, seed {options.seed}, threshold {detector.THRESHOLD}")
    print(f"found {found:.1%} of {len(cuts)} cuts; took {wrong:.2%} of {len(others)} other neighbours for cuts")


if __name__ == "__main__":
    main()
