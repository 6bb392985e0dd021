"""SNU-FILM.

Choi et al., Channel Attention Is All You Need for Video Frame Interpolation, AAAI 2020: four lists of 310 triplets,
of 1280 x 720 and less, whose frames lie further and further apart; a line of a list names first, truth and second.
"""

from pathlib import Path

from vfi.benchmarks.triplets import QUOTED, Benchmark, Published, Triplet, read_list
from vfi.errors import BenchmarkError

_LEVELS = {  # PSNR and SSIM of the first network
    "easy": ("39.41", "0.9900"),
    "medium": ("34.97", "0.9762"),
    "hard": ("29.36", "0.9253"),
    "extreme": ("24.31", "0.8448"),
}


def _find(folder: Path) -> list[Triplet]:
    lists = folder / "eval_modes" if (folder / "eval_modes").is_dir() else folder
    frames = folder / "test" if (folder / "test").is_dir() else folder
    triplets = []
    for level in _LEVELS:
        path = lists / f"test-{level}.txt"
        for line in read_list(path):
            names = [
                name.rpartition("/test/")[2] for name in line.split()
            ]  # without data/SNU-FILM/test/, the folder of its author
            if len(names) != 3:
                raise BenchmarkError(f"{path}: {line!r} does not name three frames")
            one, truth, two = (frames / name for name in names)
            triplets.append(Triplet(names[1].rpartition(".")[0], one, two, truth, level))
    return triplets


SNU_FILM = Benchmark(
    title="SNU-FILM",
    layout="test-easy.txt and the three other lists, there or in eval_modes/, and GOPRO_test/ and YouTube_test/, "
    "there or in test/",
    find=_find,
    published=tuple(
        Published("SepConv-l1", {"psnr": psnr, "ssim_matlab": ssim}, QUOTED, level)
        for level, (psnr, ssim) in _LEVELS.items()
    ),
    subsets=tuple(_LEVELS),
    count=310,
)
