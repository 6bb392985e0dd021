"""Middlebury's twelve scenes with a true middle frame: where they lie, what they are, and where they come from.

From vision.middlebury.edu/flow/data come two archives, which unpack into the trees other-data/ and other-gt-interp/.
middlebury.sha256 knows every frame by its pixels, so that a figure for these scenes is a figure for these scenes.
"""

import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from vfi.benchmarks.triplets import QUOTED, Benchmark, Published, Triplet, read_rgb, rgb_sum
from vfi.download import FAILURES, fetch, why
from vfi.errors import BenchmarkError, PictureError, reason
from vfi.files import atomic_write

Progress = Callable[[int, int | None], None]

SCENES = (
    "Beanbags", "Dimetrodon", "DogDance", "Grove2", "Grove3", "Hydrangea",
    "MiniCooper", "RubberWhale", "Urban2", "Urban3", "Venus", "Walking",
)  # fmt: skip
FRAMES = {"frame10.png": "other-data", "frame11.png": "other-data", "frame10i11.png": "other-gt-interp"}  # their trees

SITE = "https://vision.middlebury.edu/flow/data/comp/zip/"
ARCHIVES = {"other-data": "other-color-twoframes.zip", "other-gt-interp": "other-gt-interp.zip"}
LARGEST_ARCHIVE = 2**27  # bytes; far more than they have
LARGEST_FRAME = 2**23  # bytes; the frames have one megabyte at most

SUMS = Path(__file__).with_name("middlebury.sha256")


def _find(folder: Path) -> list[Triplet]:
    sums = _sums()
    triplets = []
    for scene in SCENES:
        one, two, truth = (_path(folder, scene, name) for name in FRAMES)
        triplets.append(Triplet(scene, one, two, truth, sums=tuple(sums[f"{scene}/{name}"] for name in FRAMES)))
    return triplets


def _path(folder: Path, scene: str, name: str) -> Path:
    """Where a frame lies: in the site's trees if they exist, otherwise in a folder for each scene."""
    tree = FRAMES[name]
    return folder / tree / scene / name if (folder / tree).is_dir() else folder / scene / name


def _sums() -> dict[str, str]:
    """The SHA-256 of each frame's RGB bytes, by its name as in Venus/frame10.png."""
    lines = (line.split() for line in SUMS.read_text().splitlines() if not line.startswith("#"))
    return {name: expected for expected, name in lines}


_CODE = "the first public code, github.com/sniklaus/sepconv-slomo"
_DAIN = "Bao et al., Depth-Aware Video Frame Interpolation, CVPR 2019, as quoted elsewhere"

MIDDLEBURY = Benchmark(
    title="Middlebury",
    layout="Venus/frame10.png, frame11.png, frame10i11.png and so on, or other-data/ and other-gt-interp/ as they are "
    "unpacked; --download fetches them",
    find=_find,
    published=(
        Published("l1, improved padding", {"psnr": "35.85", "ssim_uniform": "0.959"}, _CODE),
        Published("l1, paper padding", {"psnr": "35.73", "ssim_uniform": "0.959"}, _CODE),
        Published("lf, improved padding", {"psnr": "35.16", "ssim_uniform": "0.954"}, _CODE),
        Published("lf, paper padding", {"psnr": "35.03", "ssim_uniform": "0.954"}, _CODE),
        Published("SepConv-l1", {"ie_mean": "2.27"}, QUOTED),
        Published("SepConv-lf", {"ie_mean": "2.44"}, _DAIN),
    ),
    count=len(SCENES),
)


def download(folder: Path, progress: Progress | None = None) -> None:
    """Downloads the frames that are missing in `folder`, or differ from the benchmark's; removes the archives.

    Args:
        progress: called with (bytes so far, bytes in all or None).

    Raises:
        BenchmarkError: the site cannot be reached, or its archive does not hold the frames.
    """
    for tree, archive in ARCHIVES.items():
        names = [name for name in FRAMES if FRAMES[name] == tree]
        lacking = {
            f"{scene}/{name}": _path(folder, scene, name)
            for scene in SCENES
            for name in names
            if not _is_frame(_path(folder, scene, name), _sums()[f"{scene}/{name}"])
        }
        if lacking:
            _fetch_archive(SITE + archive, folder / f"{archive}.part", tree, lacking, progress)


def _fetch_archive(address: str, part: Path, tree: str, paths: dict[str, Path], progress: Progress | None) -> None:
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        fetch(address, part, progress, LARGEST_ARCHIVE)
    except FAILURES as error:
        kept = ""
        if part.is_file() and part.stat().st_size:
            kept = f"; {part} is kept, and the next download goes on with it"
        else:
            part.unlink(missing_ok=True)
        raise BenchmarkError(f"{address} cannot be downloaded: {why(error)}{kept}") from error
    try:
        _unpack(part, tree, paths)
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError, RuntimeError) as error:
        problem = "the file is not the benchmark's archive, or is damaged; it was removed"
        raise BenchmarkError(f"{address}: {problem}") from error
    except (BenchmarkError, PictureError) as error:
        raise BenchmarkError(f"{address}: {error}; it was removed") from error
    except OSError as error:
        raise BenchmarkError(f"{part.parent} cannot be written: {reason(error)}") from error
    finally:
        part.unlink()


def _unpack(archive: Path, tree: str, paths: dict[str, Path]) -> None:
    """Writes the frames that are missing to their paths; names in the archive decide nothing about where they go."""
    with zipfile.ZipFile(archive) as source:
        for name, path in paths.items():
            with source.open(f"{tree}/{name}") as member:
                data = member.read(LARGEST_FRAME + 1)  # whatever size the archive claims
            if len(data) > LARGEST_FRAME:
                raise BenchmarkError(f"{tree}/{name} has more than {LARGEST_FRAME} bytes")
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as beside:
                beside.write_bytes(data)
                if not _is_frame(beside, _sums()[name]):
                    raise BenchmarkError(f"{tree}/{name} is not the frame that it should be")


def _is_frame(path: Path, expected: str) -> bool:
    try:
        return rgb_sum(read_rgb(path)) == expected
    except (BenchmarkError, PictureError):
        return False
