"""Xiph.

As Niklaus and Liu measure it: of eight clips of 4096 x 2160 the frames 1 to 99; every even one up to 98 is the truth
between its neighbours. "2K" is all of it at half the size, "4K" its middle at full size.
"""

from pathlib import Path

import numpy as np

from vfi.benchmarks.triplets import Benchmark, Frame, Published, Triplet

_SOFTSPLAT = (
    "Niklaus and Liu, Softmax Splatting for Video Frame Interpolation, CVPR 2020 (l1, paper padding, fractions "
    "dropped), as quoted by Zhang et al., CVPR 2023, table 1"
)
CLIPS = (
    "BoxingPractice", "Crosswalk", "DrivingPOV", "FoodMarket", "FoodMarket2", "RitualDance", "SquareAndTimelapse",
    "Tango",
)  # fmt: skip


def _find(folder: Path) -> list[Triplet]:
    def frame(clip: str, number: int) -> Path:
        return folder / f"{clip}-{number:03}.png"

    return [
        Triplet(
            f"{clip}-{number:03}",
            one=frame(clip, number - 1),
            two=frame(clip, number + 1),
            truth=frame(clip, number),
            subset=subset,
            fit=fit,
        )
        for subset, fit in (("2K", _half), ("4K", _centre))
        for clip in CLIPS
        for number in range(2, 99, 2)
    ]


def _half(frame: Frame) -> Frame:
    """2048 x 1080 by area: each pixel the mean of four, halves rounded up, as OpenCV's INTER_AREA has it."""
    _check_4k(frame)
    height, width, channels = frame.shape
    sums = frame.reshape(height // 2, 2, width // 2, 2, channels).sum(axis=(1, 3), dtype=np.uint16)
    return ((sums + 2) // 4).astype(np.uint8)


def _centre(frame: Frame) -> Frame:
    """2048 x 1080 from the middle."""
    _check_4k(frame)
    return frame[540:-540, 1024:-1024]


def _check_4k(frame: Frame) -> None:
    if frame.shape[:2] != (2160, 4096):
        raise ValueError(f"is {frame.shape[1]}x{frame.shape[0]}, expected 4096x2160")


XIPH = Benchmark(
    title="Xiph",
    layout=f"frames 1 to 99 of {', '.join(CLIPS)}, which are at media.xiph.org/video/derf in ElFuente/ and Chimera/, "
    "as BoxingPractice-001.png and so on, as made by ffmpeg -i Netflix_BoxingPractice_4096x2160_60fps_10bit_420.y4m "
    "-pix_fmt rgb24 -frames:v 100 BoxingPractice-%03d.png",
    find=_find,
    published=(
        Published("SepConv-l1", {"psnr": "34.77", "ssim_uniform": "0.929"}, _SOFTSPLAT, "2K"),
        Published("SepConv-l1", {"psnr": "32.06", "ssim_uniform": "0.880"}, _SOFTSPLAT, "4K"),
    ),
    subsets=("2K", "4K"),
    count=8 * 49,
)
