"""Vimeo-90k.

Xue et al., Video Enhancement with Task-Oriented Flow, IJCV 2019: the triplets of the test list at their 448 x 256;
im1 and im3 are the frames, im2 is the truth.
"""

from pathlib import Path

from vfi.benchmarks.triplets import QUOTED, Benchmark, Published, Triplet, read_list


def _find(folder: Path) -> list[Triplet]:
    names = read_list(folder / "tri_testlist.txt")
    scenes = [folder / "sequences" / name for name in names]
    return [
        Triplet(name, one=scene / "im1.png", two=scene / "im3.png", truth=scene / "im2.png")
        for name, scene in zip(names, scenes, strict=True)
    ]


VIMEO90K = Benchmark(
    title="Vimeo-90k",
    layout="the triplet set as it is unpacked: tri_testlist.txt and sequences/00001/0001/im1.png, im2.png, im3.png",
    find=_find,
    published=(Published("SepConv-l1", {"psnr": "33.79", "ssim_matlab": "0.9702"}, QUOTED),),
    count=3782,
)
