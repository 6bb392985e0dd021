"""Each benchmark is read as its protocol says. Its mean covers all its triplets, and no others."""

import re
import shutil

import numpy as np
import pytest
from helpers.tables import rows, table_rows
from PIL import Image

from vfi import pictures
from vfi.benchmarks import BENCHMARKS, middlebury
from vfi.benchmarks.own import OWN
from vfi.benchmarks.snu_film import SNU_FILM
from vfi.benchmarks.xiph import CLIPS, XIPH
from vfi.errors import BenchmarkError


def test_middlebury_in_both_layouts(scenes, run):
    flat = run("--data", scenes, "--method", "average")
    for name, tree in middlebury.FRAMES.items():
        for scene in middlebury.SCENES:
            (scenes / tree / scene).mkdir(parents=True, exist_ok=True)
            (scenes / scene / name).rename(scenes / tree / scene / name)
    trees = run("--data", scenes, "--method", "average")
    assert flat == trees
    assert flat[0] == 0
    table = rows(flat[1])
    assert list(table)[:12] == list(middlebury.SCENES)
    assert table["average"][0] == pytest.approx(np.mean([table[scene][0] for scene in middlebury.SCENES]), abs=0.01)
    assert table["published: l1, improved padding [1]"] == [35.85, 0.959]
    assert table["published: SepConv-lf [3]"] == [2.44]
    assert "Middlebury, 12 scenes" in flat[1]


def test_middlebury_frames_are_checked(scenes, run):
    """Frames with other pixels are left out. Re-compressed files with the same pixels are accepted."""
    venus = scenes / "Venus" / "frame10.png"
    before = venus.read_bytes()
    pixels = pictures.read(venus).pixels
    venus.unlink()
    pictures.write(venus.with_suffix(".tif"), pictures.Picture(pixels))
    venus.with_suffix(".tif").rename(venus)
    assert venus.read_bytes() != before
    assert run("--data", scenes, "--method", "average")[0] == 0

    changed = pixels.copy()
    changed[0, 0, 0] ^= 1
    pictures.write(venus, pictures.Picture(changed))
    status, out, err = run("--data", scenes, "--method", "average")
    assert status == 1
    assert "Middlebury, 11 of 12 scenes" in out
    assert err == (
        f"left out: Venus: {venus} is not the benchmark's frame: its pixels differ (for frames of your own: "
        "--triplets)\nerror: left out: 1 of 12 scenes\n"
    )


@pytest.mark.parametrize(
    ("which", "name", "expected"),
    [
        ("vimeo90k", "vimeo", {"": ["00001/0266", "00002/0010"]}),
        ("ucf101", "ucf", {"": ["1", "11", "101"]}),
    ],
)
def test_vimeo_and_ucf(which, name, expected, trees):
    folder, frames = trees
    triplets = BENCHMARKS[which].find(folder / name)
    assert [triplet.scene for triplet in triplets] == expected[""]
    for triplet in triplets:
        one, two, truth = triplet.read()
        assert all(map(np.array_equal, (one, truth, two), frames[triplet.scene]))


@pytest.mark.parametrize("flat", [False, True])
def test_snu_film(flat, trees):
    folder, frames = trees[0] / "snu", trees[1]
    if flat:  # the layout of some copies
        for path in [*(folder / "eval_modes").iterdir(), *(folder / "test").iterdir()]:
            path.rename(folder / path.name)
        (folder / "eval_modes").rmdir()
        (folder / "test").rmdir()
    triplets = SNU_FILM.find(folder)
    assert [(triplet.subset, triplet.scene) for triplet in triplets] == [
        (level, "GOPRO_test/GOPR0384_11_00/000100") for level in ("easy", "medium", "hard", "extreme")
    ]
    one, two, truth = triplets[-1].read()
    assert all(map(np.array_equal, (one, truth, two), frames["extreme"]))


@pytest.fixture(scope="session")
def xiph(noise, tmp_path_factory):
    """The first triplet of one Xiph clip, in full size; returns the folder, and the pixels by frame number."""
    folder = tmp_path_factory.mktemp("xiph")
    still = np.rint(255 * noise(2160, 4096 + 4)).astype(np.uint8)
    frames = {number: still[:, number : number + 4096] for number in (1, 2, 3)}
    for number, frame in frames.items():
        pictures.write(folder / f"Tango-{number:03}.bmp", pictures.Picture(frame))
        (folder / f"Tango-{number:03}.bmp").rename(folder / f"Tango-{number:03}.png")  # writing BMP is seconds faster
    return folder, frames


def test_xiph(xiph):
    folder, frames = xiph
    triplets = XIPH.find(folder)
    assert len(triplets) == 2 * XIPH.count == 2 * 8 * 49
    assert {path.name for triplet in triplets for path in triplet.files} == {
        f"{clip}-{number:03}.png" for clip in CLIPS for number in range(1, 100)
    }
    resized, cropped = (triplet for triplet in triplets if triplet.scene == "Tango-002")
    assert (resized.subset, cropped.subset) == ("2K", "4K")
    one, two, truth = cropped.read()
    for result, number in ((one, 1), (truth, 2), (two, 3)):
        assert np.array_equal(result, frames[number][540:1620, 1024:3072])
    cv2 = pytest.importorskip("cv2")
    one, two, truth = resized.read()
    for result, number in ((one, 1), (truth, 2), (two, 3)):
        assert np.array_equal(result, cv2.resize(frames[number], (2048, 1080), interpolation=cv2.INTER_AREA))


def test_xiph_frames_must_be_4k(save, tmp_path):
    paths = [tmp_path / f"BoxingPractice-{number:03}.png" for number in (1, 2, 3)]
    save(paths)
    with pytest.raises(BenchmarkError, match=re.escape(f"{paths[0]} is 40x36, expected 4096x2160")):
        XIPH.find(tmp_path)[0].read()


def test_subsets_are_averaged_separately(trees, run):
    status, out, err = run("--snu-film", trees[0] / "snu", "--method", "average")
    assert (status, err) == (0, "")
    titles = re.findall(r"^SNU-FILM, .*?(?=  )", out, re.M)
    assert titles == [f"SNU-FILM, {level}, 1 of 310 scenes" for level in ("easy", "medium", "hard", "extreme")]
    assert [values for label, values in table_rows(out) if label.startswith("published: ")] == [
        [39.41, 0.99], [34.97, 0.9762], [29.36, 0.9253], [24.31, 0.8448],
    ]  # fmt: skip
    status, out, _ = run("--snu-film", trees[0] / "snu", "--method", "average", "--subset", "hard")
    assert re.findall(r"^SNU-FILM, (\w+)", out, re.M) == ["hard"]
    (trees[0] / "snu" / "test" / "GOPRO_test" / "GOPR0384_11_00" / "000104.png").unlink()
    status, _, err = run("--snu-film", trees[0] / "snu", "--method", "average")
    assert status == 1
    assert "left out: hard GOPRO_test/GOPR0384_11_00/000100: " in err


def test_own_triplets(own, run):
    triplets = OWN.find(own)
    assert [triplet.scene for triplet in triplets] == ["a", "b/im", "c"]
    assert [path.name for path in triplets[0].files] == ["im9.png", "im11.png", "im10.png"]  # one, two, truth
    (own / "b" / "im" / "._im9.png").write_bytes(b"what macOS leaves")
    shutil.copytree(own / "a", own / "b" / ".thumbnails" / "a")
    (own / "c" / "im12.png").write_bytes((own / "c" / "im9.png").read_bytes())
    status, out, err = run("--triplets", own, "--method", "average")
    assert status == 1
    assert "own triplets, 2 of 3 scenes" in out
    assert f"left out: c: {own}/c: expected three pictures (first, truth, second), found 4\n" in err


def test_own_triplets_in_other_formats_and_linked_folders(own):
    for path in (own / "c").iterdir():
        with Image.open(path) as image:
            image.save(path.with_suffix(".ppm"))
        path.unlink()
    (own.parent / "linked").mkdir()
    (own.parent / "linked" / "up").symlink_to(own.parent / "linked", target_is_directory=True)
    (own.parent / "linked" / "own").symlink_to(own, target_is_directory=True)
    triplets = OWN.find(own.parent / "linked")
    assert [triplet.scene for triplet in triplets] == ["own/a", "own/b/im", "own/c"]
    assert [len(triplet.read()) for triplet in triplets] == [3, 3, 3]


def test_grey_files_are_measured_as_rgb(own):
    grey = np.full((36, 40), 7, np.uint8)
    pictures.write(own / "a" / "im9.png", pictures.Picture(grey))
    one, _, _ = OWN.find(own)[0].read()
    assert np.array_equal(one, np.full((36, 40, 3), 7))
