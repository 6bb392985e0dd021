"""UCF101.

The 379 triplets of 256 x 256 that Liu et al., Deep Voxel Flow, ICCV 2017, chose from it; whole frames, not only their
moving parts.
"""

from pathlib import Path

from vfi.benchmarks.triplets import QUOTED, Benchmark, Published, Triplet, natural_order


def _find(folder: Path) -> list[Triplet]:
    return [
        Triplet(scene.name, scene / "frame_00.png", scene / "frame_02.png", scene / "frame_01_gt.png")
        for scene in _folders(folder)
    ]


def _folders(folder: Path) -> list[Path]:
    return sorted((path for path in folder.iterdir() if path.is_dir() and path.name[0] != "."), key=natural_order)


UCF101 = Benchmark(
    title="UCF101",
    layout="ucf101_interp_ours as it is unpacked: 1/frame_00.png, frame_01_gt.png, frame_02.png and so on",
    find=_find,
    published=(Published("SepConv-l1", {"psnr": "34.78", "ssim_matlab": "0.9669"}, QUOTED),),
    count=379,
)
