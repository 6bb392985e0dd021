"""Benchmarks: where their triplets lie in the folders that people have, and what was published for them.

A triplet is two frames and the truth halfway between them. Every benchmark here is a `Benchmark`, whose `find` lists
the triplets of a folder without opening a picture; Middlebury's is in middlebury.py.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vfi import pictures
from vfi.errors import BenchmarkError
from vfi.files import natural
from vfi.metrics import SMALLEST


@dataclass(frozen=True)
class Triplet:
    """Where two frames and the truth between them lie.

    Attributes:
        scene: unique within its subset.
        subset: one of `Benchmark.subsets`, or empty.
        fit: what the protocol makes of the pixels of each file, or None.
        sums: SHA-256 of the RGB bytes of one, two and truth, which then have to be these; or empty.
        problem: why it cannot be read, where that was seen before its files were opened; or empty.
    """

    scene: str
    one: Path
    two: Path
    truth: Path
    subset: str = ""
    fit: Callable | None = None
    sums: tuple = ()
    problem: str = ""

    @property
    def files(self):
        return self.one, self.two, self.truth

    def read(self):
        """One, two and truth: uint8 (H, W, 3), RGB, of one size.

        Raises:
            PictureError: a file is missing, damaged, or not what the benchmark has; the message names it.
        """
        if self.problem:
            raise BenchmarkError(self.problem)
        frames = [read_rgb(path) for path in self.files]
        for path, frame, expected in zip(self.files, frames, self.sums or [None] * 3, strict=True):
            if expected and rgb_sum(frame) != expected:
                raise BenchmarkError(
                    f"{path} is not the benchmark's frame: its pixels differ (for frames of your own: --triplets)"
                )
        if self.fit:
            frames = [self._fitted(path, frame) for path, frame in zip(self.files, frames, strict=True)]
        sizes = [f"{frame.shape[1]}x{frame.shape[0]}" for frame in frames]
        if len(set(sizes)) > 1:
            raise BenchmarkError(
                "the frames differ in size: "
                + ", ".join(f"{path} is {size}" for path, size in zip(self.files, sizes, strict=True))
            )
        if min(frames[0].shape[:2]) < SMALLEST:
            raise BenchmarkError(f"{self.one} is {sizes[0]}: SSIM needs {SMALLEST} pixels or more to each side")
        return frames

    def _fitted(self, path, frame):
        try:
            return self.fit(frame)
        except ValueError as error:
            raise BenchmarkError(f"{path} {error}") from error


def read_rgb(path):
    """The pixels of a file: uint8 (H, W, 3). Grey is what an optimizer of PNG makes of colours that are all grey."""
    pixels = pictures.read(path).pixels
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)
    if pixels.dtype != np.uint8 or pixels.shape[2] != 3:
        raise BenchmarkError(f"{path} has transparency or 16 bits of each colour: save it as 8-bit RGB")
    return pixels


def rgb_sum(pixels):
    """SHA-256 of uint8 (H, W, 3): the same for the same frame, however its file is compressed."""
    return hashlib.sha256(np.ascontiguousarray(pixels)).hexdigest()


@dataclass(frozen=True)
class Published:
    """What others report, as the source that was read prints it: values by the name of the metric."""

    label: str
    values: dict
    source: str
    subset: str = ""


@dataclass(frozen=True)
class Benchmark:
    """A set of triplets and its protocol.

    Attributes:
        title: as papers call it.
        layout: what lies in its folder, for people.
        find: the triplets of a folder, in order; raises `BenchmarkError` where that is no such folder.
        subsets: what is averaged separately, if anything is.
        count: the triplets that the whole of it has, in each subset; None for anybody's own.
    """

    title: str
    layout: str
    find: Callable
    published: tuple = ()
    subsets: tuple = ()
    count: int | None = None


# Where the figures of the first network were found together. SSIM is MATLAB's, but for Xiph, whose own code measures it
# as scikit-image does.
QUOTED = (
    "Zhang et al., Extracting Motion and Appearance via Inter-Frame Attention for Efficient Video Frame Interpolation, "
    "CVPR 2023, table 1, which quotes earlier papers"
)


# --- Vimeo-90k ---------------------------------------------------------------------------------------------------
# Xue et al., Video Enhancement with Task-Oriented Flow, IJCV 2019: the triplets of the test list at their 448 x 256;
# im1 and im3 are the frames, im2 is the truth.


def _vimeo90k(folder):
    return [
        Triplet(name, *(folder / "sequences" / name / f"im{number}.png" for number in (1, 3, 2)))
        for name in _lines(folder / "tri_testlist.txt")
    ]


def _lines(path):
    """The lines of a list of the benchmark, without empty ones, of which some copies have one at the end."""
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise BenchmarkError(f"{path} cannot be read: {reason.lower()}") from error


VIMEO90K = Benchmark(
    title="Vimeo-90k",
    layout="the triplet set as it is unpacked: tri_testlist.txt and sequences/00001/0001/im1.png, im2.png, im3.png",
    find=_vimeo90k,
    published=(Published("SepConv-l1", {"psnr": "33.79", "ssim_matlab": "0.9702"}, QUOTED),),
    count=3782,
)


# --- UCF101 ------------------------------------------------------------------------------------------------------
# The 379 triplets of 256 x 256 that Liu et al., Deep Voxel Flow, ICCV 2017, chose from it, whole frames (not only what
# moves in them).


def _ucf101(folder):
    return [
        Triplet(path.name, *(path / f"{name}.png" for name in ("frame_00", "frame_02", "frame_01_gt")))
        for path in _folders(folder)
    ]


def _folders(folder):
    return sorted((path for path in folder.iterdir() if path.is_dir() and path.name[0] != "."), key=_natural)


def _natural(path):
    return natural(path.stem), path.suffix


UCF101 = Benchmark(
    title="UCF101",
    layout="ucf101_interp_ours as it is unpacked: 1/frame_00.png, frame_01_gt.png, frame_02.png and so on",
    find=_ucf101,
    published=(Published("SepConv-l1", {"psnr": "34.78", "ssim_matlab": "0.9669"}, QUOTED),),
    count=379,
)


# --- SNU-FILM ----------------------------------------------------------------------------------------------------
# Choi et al., Channel Attention Is All You Need for Video Frame Interpolation, AAAI 2020: four lists of 310 triplets,
# of 1280 x 720 and less, whose frames lie further and further apart; a line of a list names first, truth and second.


_LEVELS = {  # PSNR and SSIM of the first network
    "easy": ("39.41", "0.9900"),
    "medium": ("34.97", "0.9762"),
    "hard": ("29.36", "0.9253"),
    "extreme": ("24.31", "0.8448"),
}


def _snu_film(folder):
    lists = folder / "eval_modes" if (folder / "eval_modes").is_dir() else folder
    frames = folder / "test" if (folder / "test").is_dir() else folder
    triplets = []
    for level in _LEVELS:
        path = lists / f"test-{level}.txt"
        for line in _lines(path):
            names = [name.rpartition("/test/")[2] for name in line.split()]  # less data/SNU-FILM/test/, its author's
            if len(names) != 3:
                raise BenchmarkError(f"{path}: {line!r} does not name three frames")
            one, truth, two = (frames / name for name in names)
            triplets.append(Triplet(names[1].rpartition(".")[0], one, two, truth, level))
    return triplets


SNU_FILM = Benchmark(
    title="SNU-FILM",
    layout="test-easy.txt and the three other lists, there or in eval_modes/, and GOPRO_test/ and YouTube_test/, "
    "there or in test/",
    find=_snu_film,
    published=tuple(
        Published("SepConv-l1", {"psnr": psnr, "ssim_matlab": ssim}, QUOTED, level)
        for level, (psnr, ssim) in _LEVELS.items()
    ),
    subsets=tuple(_LEVELS),
    count=310,
)


# --- Xiph --------------------------------------------------------------------------------------------------------
# As Niklaus and Liu measure it: of eight clips of 4096 x 2160 the frames 1 to 99; every even one up to 98 is the truth
# between its neighbours. "2K" is all of it at half the size, "4K" its middle at full size.


_SOFTSPLAT = (
    "Niklaus and Liu, Softmax Splatting for Video Frame Interpolation, CVPR 2020 (l1, paper padding, fractions "
    "dropped), as quoted by Zhang et al., CVPR 2023, table 1"
)
_CLIPS = (
    "BoxingPractice", "Crosswalk", "DrivingPOV", "FoodMarket", "FoodMarket2", "RitualDance", "SquareAndTimelapse",
    "Tango",
)  # fmt: skip


def _xiph(folder):
    return [
        Triplet(
            f"{clip}-{number:03}",
            *(folder / f"{clip}-{frame:03}.png" for frame in (number - 1, number + 1, number)),
            subset,
            fit,
        )
        for subset, fit in (("2K", _half), ("4K", _centre))
        for clip in _CLIPS
        for number in range(2, 99, 2)
    ]


def _half(frame):
    """2048 x 1080 by area: each pixel the mean of four, halves rounded up, as OpenCV's INTER_AREA has it."""
    _check_4k(frame)
    height, width, channels = frame.shape
    sums = frame.reshape(height // 2, 2, width // 2, 2, channels).sum(axis=(1, 3), dtype=np.uint16)
    return ((sums + 2) // 4).astype(np.uint8)


def _centre(frame):
    """2048 x 1080 from the middle."""
    _check_4k(frame)
    return frame[540:-540, 1024:-1024]


def _check_4k(frame):
    if frame.shape[:2] != (2160, 4096):
        raise ValueError(f"is {frame.shape[1]}x{frame.shape[0]}, expected 4096x2160")


XIPH = Benchmark(
    title="Xiph",
    layout=f"frames 1 to 99 of {', '.join(_CLIPS)}, which are at media.xiph.org/video/derf in ElFuente/ and Chimera/, "
    "as BoxingPractice-001.png and so on, as made by ffmpeg -i Netflix_BoxingPractice_4096x2160_60fps_10bit_420.y4m "
    "-pix_fmt rgb24 -frames:v 100 BoxingPractice-%03d.png",
    find=_xiph,
    published=(
        Published("SepConv-l1", {"psnr": "34.77", "ssim_uniform": "0.929"}, _SOFTSPLAT, "2K"),
        Published("SepConv-l1", {"psnr": "32.06", "ssim_uniform": "0.880"}, _SOFTSPLAT, "4K"),
    ),
    subsets=("2K", "4K"),
    count=8 * 49,
)


# --- Anybody's own -----------------------------------------------------------------------------------------------


def _own(folder):
    """Every folder below that holds pictures is a triplet; they are named by their order: first, truth, second."""
    triplets = []
    for inner in sorted(_all_folders(folder)):
        files = sorted((path for path in inner.iterdir() if pictures.is_picture_name(path)), key=_natural)
        count = len(files)
        if not files:
            continue
        problem = "" if count == 3 else f"{inner}: expected three pictures (first, truth, second), found {count}"
        one, truth, two = files if not problem else [inner] * 3
        triplets.append(Triplet(inner.relative_to(folder).as_posix(), one, two, truth, problem=problem))
    return triplets


def _all_folders(folder):
    """A folder and those within it, through links, too, but none twice and no hidden ones."""
    seen = set()
    for path, names, _ in os.walk(folder, followlinks=True):
        names[:] = [name for name in names if name[0] != "."]
        real = os.path.realpath(path)
        if real in seen:  # a link to a folder above it, for one
            names.clear()
            continue
        seen.add(real)
        yield Path(path)


OWN = Benchmark(
    title="own triplets",
    layout="a folder for each triplet, at any depth, with three pictures whose names sort as first, truth, second",
    find=_own,
)
