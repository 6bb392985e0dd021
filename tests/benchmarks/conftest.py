"""Fixtures: small benchmarks in the folder layouts of the real ones, and a function that runs benchmark.py."""

import numpy as np
import pytest

import benchmark
from vfi import pictures
from vfi.benchmarks import middlebury
from vfi.benchmarks.triplets import rgb_sum


@pytest.fixture
def save(noise):
    """Writes a triplet (paths: first, truth, second) that moves by one pixel per frame; returns the pixels."""

    def make(paths, seed=0, height=36, width=40):
        still = np.rint(255 * noise(height, width + 4, seed=seed)).astype(np.uint8)
        frames = [still[:, start : start + width] for start in (0, 1, 2)]
        for path, frame in zip(paths, frames, strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            pictures.write(path, pictures.Picture(frame))
        return frames

    return make


@pytest.fixture
def own(save, tmp_path):
    """A folder with three triplets, as --triplets reads it."""
    for seed, name in enumerate(("a", "b/im", "c")):
        save([tmp_path / "own" / name / f"im{number}.png" for number in (9, 10, 11)], seed)
    return tmp_path / "own"


@pytest.fixture
def scenes(save, tmp_path, monkeypatch):
    """Twelve tiny scenes in place of Middlebury's, one folder per scene. Their checksums replace the real ones."""
    folder, lines = tmp_path / "middlebury", ["# tiny"]
    for seed, scene in enumerate(middlebury.SCENES):
        names = ("frame10.png", "frame10i11.png", "frame11.png")
        frames = save([folder / scene / name for name in names], seed)
        lines += [f"{rgb_sum(frame)}  {scene}/{name}" for name, frame in zip(names, frames, strict=True)]
    (tmp_path / "sums").write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(middlebury, "SUMS", tmp_path / "sums")
    return folder


@pytest.fixture
def run(capsys):
    """Runs benchmark.py with these arguments; returns the exit status, standard output and standard error."""

    def run(*words):
        status = benchmark.main([str(word) for word in words])
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def trees(save, tmp_path):
    """Small versions of the other benchmarks; returns their parent folder, and the frames by scene or level."""
    frames = {}
    folder = tmp_path / "trees"
    for seed, name in enumerate(("00001/0266", "00002/0010")):
        sequence = folder / "vimeo" / "sequences" / name
        frames[name] = save([sequence / f"im{number}.png" for number in (1, 2, 3)], seed)
    (folder / "vimeo" / "tri_testlist.txt").write_text("00001/0266\n00002/0010\n\n")
    save(
        [folder / "vimeo" / "sequences" / "00003/0001" / f"im{number}.png" for number in (1, 2, 3)]
    )  # not in the test list

    for seed, name in enumerate(("1", "11", "101")):
        names = ("frame_00", "frame_01_gt", "frame_02")
        frames[name] = save([folder / "ucf" / name / f"{frame}.png" for frame in names], seed + 10)

    clip = "GOPRO_test/GOPR0384_11_00"
    for seed, (level, step) in enumerate((("easy", 1), ("medium", 2), ("hard", 4), ("extreme", 8))):
        names = [f"{clip}/{100 + step * number:06}.png" for number in (-1, 0, 1)]
        (folder / "snu" / "eval_modes").mkdir(parents=True, exist_ok=True)
        line = " ".join(f"data/SNU-FILM/test/{name}" for name in names)
        (folder / "snu" / "eval_modes" / f"test-{level}.txt").write_text(line + "\n")
        frames[level] = save([folder / "snu" / "test" / name for name in names], seed + 20)
    return folder, frames
