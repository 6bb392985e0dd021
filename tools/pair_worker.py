"""Interpolates a pair of noise for every line that it reads, and prints the seconds: the part of speed_against.py that
runs the files of any commit, in a process of its own.

    python tools/pair_worker.py TREE MODEL PRECISION WIDTH HEIGHT
"""

import importlib
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    tree, model, precision, width, height = sys.argv[1:]
    sys.path[0] = tree  # instead of the folder of this file

    import numpy as np

    is_package = (Path(tree) / "vfi").exists()  # in earlier commits, the network and the interpolator are one file
    module = importlib.import_module("vfi.interpolator" if is_package else "network")
    interpolator = module.Interpolator(model, device="cpu", precision=precision)
    pair = np.random.default_rng(0).integers(0, 256, (2, int(height), int(width), 3), dtype=np.uint8)
    for _ in sys.stdin:
        start = time.perf_counter()
        interpolator(*pair)
        print(time.perf_counter() - start, flush=True)
