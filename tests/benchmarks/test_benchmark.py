"""benchmark.py: that it reads every benchmark as its protocol says, and averages all that it says and nothing else."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import benchmark
from vfi import metrics, pictures
from vfi.benchmarks import methods, middlebury
from vfi.benchmarks import triplets as datasets
from vfi.errors import PictureError
from vfi.interpolator import Interpolator

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def save(noise):
    """Writes a triplet that moves by two pixels from one to two, in the order one, truth, two; returns the pixels."""

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
    """Three triplets of one's own."""
    for seed, name in enumerate(("a", "b/im", "c")):
        save([tmp_path / "own" / name / f"im{number}.png" for number in (9, 10, 11)], seed)
    return tmp_path / "own"


@pytest.fixture
def scenes(save, tmp_path, monkeypatch):
    """Twelve tiny scenes in place of Middlebury's, a folder for each, and their sums in place of theirs."""
    folder, lines = tmp_path / "middlebury", ["# tiny"]
    for seed, scene in enumerate(middlebury.SCENES):
        names = ("frame10.png", "frame10i11.png", "frame11.png")
        frames = save([folder / scene / name for name in names], seed)
        lines += [f"{datasets.rgb_sum(frame)}  {scene}/{name}" for name, frame in zip(names, frames, strict=True)]
    (tmp_path / "sums").write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(middlebury, "SUMS", tmp_path / "sums")
    return folder


@pytest.fixture
def run(capsys):
    """Runs a command line; returns the exit status, standard output and standard error."""

    def run(*words):
        status = benchmark.main([str(word) for word in words])
        return status, *capsys.readouterr()

    return run


def table_rows(table):
    """The rows of tables in text: pairs of label and numbers."""
    found = re.findall(r"^(\S.*?)((?:\s{2,}(?:[-\d.]+|inf|n/a))+)$", table, re.M)
    return [(label, [float(cell) for cell in cells.split() if cell != "n/a"]) for label, cells in found]


def rows(table):
    """The same by their labels."""
    return dict(table_rows(table))


# --- The benchmarks ---


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


def test_middlebury_is_middlebury(scenes, run):
    """A frame that is not the benchmark's is no part of its figure, a re-compressed one is."""
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


@pytest.fixture
def trees(save, tmp_path):
    """The other benchmarks in small: option -> folder, and the frames that were written, by the scene's name."""
    frames = {}
    folder = tmp_path / "trees"
    for seed, name in enumerate(("00001/0266", "00002/0010")):
        sequence = folder / "vimeo" / "sequences" / name
        frames[name] = save([sequence / f"im{number}.png" for number in (1, 2, 3)], seed)
    (folder / "vimeo" / "tri_testlist.txt").write_text("00001/0266\n00002/0010\n\n")
    save([folder / "vimeo" / "sequences" / "00003/0001" / f"im{number}.png" for number in (1, 2, 3)])  # for training

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


@pytest.mark.parametrize(
    ("which", "name", "expected"),
    [
        ("vimeo90k", "vimeo", {"": ["00001/0266", "00002/0010"]}),
        ("ucf101", "ucf", {"": ["1", "11", "101"]}),
    ],
)
def test_vimeo_and_ucf(which, name, expected, trees):
    folder, frames = trees
    triplets = benchmark.BENCHMARKS[which].find(folder / name)
    assert [triplet.scene for triplet in triplets] == expected[""]
    for triplet in triplets:
        one, two, truth = triplet.read()
        assert all(map(np.array_equal, (one, truth, two), frames[triplet.scene]))


@pytest.mark.parametrize("flat", [False, True])
def test_snu_film(flat, trees):
    folder, frames = trees[0] / "snu", trees[1]
    if flat:  # as other copies have it
        for path in [*(folder / "eval_modes").iterdir(), *(folder / "test").iterdir()]:
            path.rename(folder / path.name)
        (folder / "eval_modes").rmdir()
        (folder / "test").rmdir()
    triplets = datasets.SNU_FILM.find(folder)
    assert [(triplet.subset, triplet.scene) for triplet in triplets] == [
        (level, "GOPRO_test/GOPR0384_11_00/000100") for level in ("easy", "medium", "hard", "extreme")
    ]
    one, two, truth = triplets[-1].read()
    assert all(map(np.array_equal, (one, truth, two), frames["extreme"]))


@pytest.fixture(scope="session")
def xiph(noise, tmp_path_factory):
    """The first triplet of one clip of Xiph, in full size; returns the folder and the pixels by frame number."""
    folder = tmp_path_factory.mktemp("xiph")
    still = np.rint(255 * noise(2160, 4096 + 4)).astype(np.uint8)
    frames = {number: still[:, number : number + 4096] for number in (1, 2, 3)}
    for number, frame in frames.items():
        pictures.write(folder / f"Tango-{number:03}.bmp", pictures.Picture(frame))
        (folder / f"Tango-{number:03}.bmp").rename(folder / f"Tango-{number:03}.png")  # seconds sooner than a PNG
    return folder, frames


def test_xiph(xiph):
    folder, frames = xiph
    triplets = datasets.XIPH.find(folder)
    assert len(triplets) == 2 * datasets.XIPH.count == 2 * 8 * 49
    assert {path.name for triplet in triplets for path in triplet.files} == {
        f"{clip}-{number:03}.png" for clip in datasets._CLIPS for number in range(1, 100)
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


def test_xiph_is_4k(save, tmp_path):
    paths = [tmp_path / f"BoxingPractice-{number:03}.png" for number in (1, 2, 3)]
    save(paths)
    with pytest.raises(PictureError, match=re.escape(f"{paths[0]} is 40x36, expected 4096x2160")):
        datasets.XIPH.find(tmp_path)[0].read()


def test_subsets_are_averaged_apart(trees, run):
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
    triplets = datasets.OWN.find(own)
    assert [triplet.scene for triplet in triplets] == ["a", "b/im", "c"]
    assert [path.name for path in triplets[0].files] == ["im9.png", "im11.png", "im10.png"]  # one, two, truth
    (own / "b" / "im" / "._im9.png").write_bytes(b"what macOS leaves")
    shutil.copytree(own / "a", own / "b" / ".thumbnails" / "a")
    (own / "c" / "im12.png").write_bytes((own / "c" / "im9.png").read_bytes())
    status, out, err = run("--triplets", own, "--method", "average")
    assert status == 1
    assert "own triplets, 2 of 3 scenes" in out
    assert f"left out: c: {own}/c: expected three pictures (first, truth, second), found 4\n" in err


def test_own_triplets_of_any_format_and_through_links(own):
    for path in (own / "c").iterdir():
        with Image.open(path) as image:
            image.save(path.with_suffix(".ppm"))
        path.unlink()
    (own.parent / "linked").mkdir()
    (own.parent / "linked" / "up").symlink_to(own.parent / "linked", target_is_directory=True)
    (own.parent / "linked" / "own").symlink_to(own, target_is_directory=True)
    triplets = datasets.OWN.find(own.parent / "linked")
    assert [triplet.scene for triplet in triplets] == ["own/a", "own/b/im", "own/c"]
    assert [len(triplet.read()) for triplet in triplets] == [3, 3, 3]


def test_grey_files_are_colours_that_are_grey(own):
    grey = np.full((36, 40), 7, np.uint8)
    pictures.write(own / "a" / "im9.png", pictures.Picture(grey))
    one, _, _ = datasets.OWN.find(own)[0].read()
    assert np.array_equal(one, np.full((36, 40, 3), 7))


# --- Methods ---


def test_what_is_measured_is_what_run_makes(own, published_file, run, tmp_path):
    """The mean over scenes of the measures of what an Interpolator makes of each, for each method of one table."""
    shutil.rmtree(own / "c")
    options = ["--weights", published_file, "--device", "cpu", "--padding", "improved", "paper"]
    options += ["--precision", "float32", "bfloat16", "--method", "sepconv", "average", "--model", "l1"]
    status, out, err = run("--triplets", own, *options, "--json", tmp_path / "results.json")
    assert (status, err) == (0, "")
    content = json.loads((tmp_path / "results.json").read_text())
    labels = [
        f"{published_file.name}, {padding} padding, {precision}"
        for padding in ("improved", "paper")
        for precision in ("float32", "bfloat16")
    ]
    assert [entry["method"] for entry in content["means"]] == [*labels, "average"]
    between = Interpolator("l1", published_file, "cpu", "paper", "float32")
    expected = {name: [] for name in content["settings"]["metrics"]}
    for triplet, scene in zip(datasets.OWN.find(own), content["scenes"], strict=True):
        one, two, truth = triplet.read()
        for name, values in expected.items():
            values.append(metrics.METRICS[name].function(between(one, two), truth))
            assert scene["values"][labels.index(labels[2])][name] == values[-1]
    assert content["means"][2]["values"] == pytest.approx({name: np.mean(v) for name, v in expected.items()})
    assert rows(out)[labels[2]] == pytest.approx([np.mean(values) for values in expected.values()], abs=0.006)
    assert re.search(
        f"^{re.escape(labels[1])}: no pixel is more than [1-9] of 255 levels from the picture in float32$", out, re.M
    )


def test_auto_is_not_measured_twice(published_file):
    words = ["--weights", str(published_file), "--device", "cpu", "--precision", "float32", "auto"]  # without
    (method,) = benchmark.make_methods(benchmark.parse(words))  # kernel normalization auto is float32
    assert method.settings["precision"] == "float32"


def test_average_and_rounding():
    one, two = np.full((1, 2, 3), 10, np.uint8), np.full((1, 2, 3), 13, np.uint8)
    picture = methods.average(one, two)
    assert picture.tolist() == np.full((1, 2, 3), 11.5).tolist()
    assert methods.to_8_bits(picture).tolist() == np.full((1, 2, 3), 12).tolist()
    assert methods.to_8_bits(picture, truncate=True).tolist() == np.full((1, 2, 3), 11).tolist()
    assert methods.to_8_bits(np.float32([-3, 254.7, 300])).tolist() == [0, 255, 255]


def test_truncate_changes_the_figures(own, run):
    rounded, truncated = (
        rows(run("--triplets", own, "--method", "average", *options)[1])["average"] for options in ((), ("--truncate",))
    )
    assert rounded != truncated


def test_minterpolate_follows_motion(noise):
    still = np.rint(255 * noise(96, 140)).astype(np.uint8)
    one, truth, two = (still[:, start : start + 128] for start in (0, 4, 8))
    compensated, mean = (
        metrics.psnr(methods.to_8_bits(method(one, two)), truth) for method in (methods.minterpolate, methods.average)
    )
    assert compensated > mean + 4


def test_minterpolate_needs_some_pixels(own, save, run):
    save([own / "a" / f"im{number}.png" for number in (9, 10, 11)], height=31)
    status, out, err = run("--triplets", own, "--method", "minterpolate", "average")
    assert status == 1
    assert "left out: a: 40x31 is too small for minterpolate: 32 pixels a side\n" in err
    assert len(re.findall("own triplets, 2 of 3 scenes", out)) == 1  # for the average, too


def test_ensemble(noise):
    """It does not matter to an ensemble how the frames are flipped, nor which is the first."""
    generator = np.random.default_rng(0)
    one, two = generator.integers(0, 256, (2, 5, 7, 3), np.uint8)
    weights = generator.random((5, 7, 1)).astype(np.float32)
    calls = []

    def between(first, second):
        calls.append((first, second))
        return weights * first + (1 - weights) * second

    ensemble = methods.ensemble(between)
    result = ensemble(one, two)
    assert len(calls) == methods.ENSEMBLE == 8
    assert len({(first.tobytes(), second.tobytes()) for first, second in calls}) == 8
    assert not np.allclose(result, between(one, two))
    for flip in (np.s_[::-1], np.s_[:, ::-1]):
        assert np.allclose(ensemble(two[flip], one[flip])[flip], result, atol=1e-3)


def test_ensemble_is_measured(own, run):
    for name in ("b", "c"):
        shutil.rmtree(own / name)
    words = ("--triplets", own, "--model", "l1", "--precision", "float32")
    single, several = (rows(run(*words, *more)[1]) for more in ((), ("--ensemble",)))
    assert set(several) - set(single) == {"l1, improved padding, float32, ensemble of 8"}
    assert single["a"] != several["a"]


# --- Frames that are missing or broken ---


def test_what_is_left_out_is_named(own, run, tmp_path):
    os.truncate(own / "a" / "im10.png", 200)
    (own / "b" / "im" / "im9.png").unlink()
    pictures.write(own / "c" / "im9.png", pictures.Picture(np.zeros((37, 40, 3), np.uint8)))
    save = [own / "d" / f"im{number}.png" for number in (1, 2, 3)]
    for path in save:
        path.parent.mkdir(exist_ok=True)
        pictures.write(path, pictures.Picture(np.zeros((36, 40, 3), np.uint8)))
    results = tmp_path / "results.json"
    status, out, err = run("--triplets", own, "--method", "average", "--json", results, "--html", tmp_path / "page")
    assert status == 1
    note, *lines = err.splitlines()
    assert note == "note: 1 of 4 scenes will be left out, for lack of the right frames"
    assert re.fullmatch(rf"left out: a: {own}/a/im10.png cannot be read: .*", lines[0])
    assert lines[1] == f"left out: b/im: {own}/b/im: expected three pictures (first, truth, second), found 2"
    assert lines[2].startswith(f"left out: c: the frames differ in size: {own}/c/im9.png is 40x37, ")
    assert lines[3:] == ["error: left out: 3 of 4 scenes"]
    content = json.loads(results.read_text())
    assert [scene["scene"] for scene in content["scenes"]] == ["d"]
    assert [scene["scene"] for scene in content["left_out"]] == ["a", "b/im", "c"]
    assert content["complete"] is False
    assert "left out: a: " in (tmp_path / "page" / "index.html").read_text()
    assert "own triplets, 1 of 4 scenes" in out
    assert "average: the PSNR of exact pictures (1) is infinite\n" in out


def test_missing_frames_are_said_before_the_hours(trees, run):
    (trees[0] / "vimeo" / "sequences" / "00002" / "0010" / "im2.png").unlink()
    status, out, err = run("--vimeo90k", trees[0] / "vimeo", "--method", "average")
    assert status == 1
    lines = err.splitlines()
    assert lines[0] == "note: 1 of 2 scenes will be left out, for lack of the right frames"
    assert re.fullmatch(
        r"left out: 00002/0010: .*/00002/0010/im2.png cannot be read: no such file or directory", lines[1]
    )
    assert "Vimeo-90k, 1 of 3782 scenes" in out


def test_not_everything_that_is_left_out_is_named(trees, run):
    names = [f"00009/{number:04}" for number in range(25)]
    (trees[0] / "vimeo" / "tri_testlist.txt").write_text("\n".join(["00001/0266", *names]))
    status, _, err = run("--vimeo90k", trees[0] / "vimeo", "--method", "average")
    assert status == 1
    lines = err.splitlines()[1:]
    assert [re.match("left out: (.*): .* cannot be read", line)[1] for line in lines[:20]] == names[:20]
    assert lines[20:] == [
        "left out: 5 more; --json names them all",
        "error: left out: 25 of 26 scenes",
    ]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--data", "nowhere"], r"there is no folder nowhere; expected .*; --download fetches them"),
        (["--data", "empty"], "there is no whole triplet in empty; expected Venus/frame10.png"),
        (["--vimeo90k", "empty"], "empty/tri_testlist.txt cannot be read: no such file or directory; expected the"),
        (["--ucf101", "empty"], "there is no whole triplet in empty; expected ucf101_interp_ours"),
        (["--snu-film", "empty"], "empty/test-easy.txt cannot be read: no such file or directory; expected test-easy"),
        (["--xiph", "empty"], "there is no whole triplet in empty; expected frames 1 to 99 of BoxingPractice, Cr"),
        (["--triplets", "empty"], "there is no whole triplet in empty; expected a folder for each triplet"),
        (["--vimeo90k", "twice"], "twice: its list names 1/2 twice"),
        (["--snu-film", "twice"], "twice/test-easy.txt: '1/2' does not name three frames; expected test-easy.txt"),
        (
            ["--triplets", "own", "--json", "nowhere/a.json"],
            "nowhere/a.json cannot be written: there is no folder nowhere",
        ),
        (["--triplets", "own", "--csv", "own"], "own is a folder: name a file"),
        (["--triplets", "own", "--html", "text/page"], "--html text/page cannot be made: not a directory"),
        (["--triplets", "own", "--json", "text"], "text is damaged, or holds no results of this program: remove it"),
        (["--triplets", "own", "--weights", "nowhere"], "weights nowhere: no such file or directory"),
    ],
)
def test_what_cannot_be_measured(words, reason, own, save, tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("{}")
    save([tmp_path / "twice" / "sequences" / "1" / "2" / f"im{number}.png" for number in (1, 2, 3)])
    (tmp_path / "twice" / "tri_testlist.txt").write_text("1/2\n1/2\n")
    (tmp_path / "twice" / "test-easy.txt").write_text("1/2\n")
    method = [] if "--weights" in words else ["--method", "average"]
    status, out, err = run(*words, *method)
    assert (status, out) == (1, "")
    assert re.fullmatch(f"error: {reason}.*\n", err)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("--ucf101 a --xiph b", "argument --xiph: not allowed with argument --ucf101"),
        ("--ucf101 a --download", "--download is for Middlebury"),
        ("--subset easy", "--subset is for SNU-FILM and Xiph"),
        ("--xiph a --subset 8K", "--subset 8K is not one of 2K, 4K"),
        ("--method average --ensemble", "--ensemble is for --method sepconv"),
        ("--method average --model lf", "--model is for --method sepconv"),
        ("--method minterpolate --padding paper", "--padding is for --method sepconv"),
        ("--method average --weights some.safetensors", "--weights is for --method sepconv"),
        ("--model l1 lf --weights file", "--weights FILE is one model"),
        ("--json a --csv a", "--json and --csv name the same file"),
        ("--triplets a --csv a/im1.png", "a/im1.png has the name of a picture: --json and --csv write text"),
        ("--triplets a --html a", "--html a is within a, where its pictures would pass for frames"),
        ("--triplets . --html b/c", "--html b/c is within ., where its pictures would pass for frames"),
        ("--resume", "--resume goes on with the results in --json FILE: name it"),
        ("--method best", "argument --method: invalid choice: 'best'"),
        ("--padding", "argument --padding: expected at least one argument"),
    ],
)
def test_bad_usage(words, reason, capsys):
    with pytest.raises(SystemExit) as caught:
        benchmark.main(words.split())
    assert caught.value.code == 2
    assert f"benchmark.py: error: {reason}" in capsys.readouterr().err


# --- Results, and going on with them ---


def test_json_and_csv(own, run, tmp_path):
    pictures.write(own / "a" / "im10.png", pictures.Picture(np.zeros((36, 40, 3), np.uint8)))
    for name in ("im9", "im11"):
        pictures.write(own / "a" / f"{name}.png", pictures.Picture(np.zeros((36, 40, 3), np.uint8)))
    words = ("--method", "average", "--json", tmp_path / "a.json", "--csv", tmp_path / "a.csv", "--lpips")
    status, out, err = run("--triplets", own, *words)
    content = json.loads((tmp_path / "a.json").read_text(), parse_constant=lambda name: pytest.fail(f"no JSON: {name}"))
    assert content["complete"] is True
    first = content["scenes"][0]["values"][0]
    assert (first["psnr"], first["ssim_uniform"], first["ie_mean"]) == ("inf", 1, 0)
    assert rows(out)["average"][0] == float("inf")
    finite = np.mean([scene["values"][0]["psnr"] for scene in content["scenes"][1:]])
    assert f"average: the PSNR of exact pictures (1) is infinite, without them it is {finite:.2f} dB" in out
    lines = (tmp_path / "a.csv").read_text().splitlines()
    names = "psnr,ssim_uniform,ssim_gaussian,ssim_matlab,ie_rms,ie_mean,lpips"
    assert lines[0] == f"benchmark,subset,scene,method,{names}"
    assert lines[1].startswith("own triplets,,a,average,inf,1.0,1.0,1.0,0.0,0.0,")
    assert float(lines[2].split(",")[4]) == content["scenes"][1]["values"][0]["psnr"]
    assert status == ("lpips" in content["settings"]["unavailable"])
    if status:
        assert re.fullmatch(r"error: LPIPS was not measured: .*lpips.*\n", err)
        assert first["lpips"] is None
        assert re.search(r"^LPIPS is not to be had here: ", out, re.M)
        assert re.search(r"^average .* n/a$", out, re.M)


def test_resume_refuses_what_was_measured_otherwise(own, run, tmp_path):
    words = ("--triplets", own, "--json", tmp_path / "a.json", "--resume", "--method", "average")
    assert run(*words)[0] == 0
    assert run(*words)[0] == 0
    status, _, err = run(*words, "--truncate")
    assert status == 1
    assert err == (
        f"error: {tmp_path}/a.json was measured otherwise, see 'truncate' in it: name another file, or remove it\n"
    )
    assert run(*(word for word in words if word != "--resume"), "--truncate")[2] == err  # nor overwritten
    content = json.loads((tmp_path / "a.json").read_text())
    (tmp_path / "a.json").write_text(json.dumps(content | {"format": 2}))
    assert "is in format 2; this version reads format 1" in run(*words)[2]


def test_damaged_results_are_refused(own, run, tmp_path):
    words = ("--triplets", own, "--json", tmp_path / "a.json", "--resume", "--method", "average")
    assert run(*words)[0] == 0
    whole = (tmp_path / "a.json").read_text()
    content = json.loads(whole)
    (scene, *others), settings = content["scenes"], content["settings"]
    (values,) = scene["values"]
    for damage in (
        whole[:300],
        "[" * 10**5,
        json.dumps([content]),
        json.dumps(content | {"settings": []}),
        json.dumps(content | {"settings": {name: value for name, value in settings.items() if name != "metrics"}}),
        json.dumps(content | {"scenes": [scene | {"values": []}, *others]}),
        json.dumps(content | {"scenes": [scene | {"values": [{"psnr": 1}]}, *others]}),
        json.dumps(content | {"scenes": [scene | {"values": [values | {"psnr": None}]}, *others]}),
        json.dumps(content | {"scenes": [scene | {"values": [values | {"psnr": "much"}]}, *others]}),
        json.dumps(content | {"scenes": [scene | {"scene": []}, *others]}),
    ):
        (tmp_path / "a.json").write_text(damage)
        status, out, err = run(*words)
        assert (status, out) == (1, "")
        assert err == (
            f"error: {tmp_path}/a.json is damaged, or holds no results of this program: remove it, or name another "
            "file\n"
        )
        assert (tmp_path / "a.json").read_text() == damage


def test_going_on_without_a_scene(own, trees, run, tmp_path):
    """A triplet that was removed is no part of the mean any more; another subset's are kept."""
    words = ("--triplets", own, "--json", tmp_path / "a.json", "--resume", "--method", "average")
    assert "own triplets, 3 scenes" in run(*words)[1]
    shutil.rmtree(own / "a")
    shutil.rmtree(own / "b")
    status, out, _ = run(*words)
    assert status == 0
    assert re.search("^own triplets, 1 scene ", out, re.M)
    assert rows(out)["average"] == rows(out)["c"]
    words = ("--snu-film", trees[0] / "snu", "--method", "average", "--json", tmp_path / "b.json", "--resume")
    for subset in ("easy", "hard"):
        assert run(*words, "--subset", subset)[0] == 0
    assert [scene["subset"] for scene in json.loads((tmp_path / "b.json").read_text())["scenes"]] == ["easy", "hard"]


def test_going_on_with_one_subset_does_not_complete_the_others(trees, run, tmp_path):
    (trees[0] / "snu" / "test" / "GOPRO_test" / "GOPR0384_11_00" / "000104.png").unlink()
    words = ("--snu-film", trees[0] / "snu", "--method", "average", "--json", tmp_path / "a.json")
    assert run(*words)[0] == 1
    assert run(*words, "--resume", "--subset", "easy")[0] == 0
    content = json.loads((tmp_path / "a.json").read_text())
    assert not content["complete"]
    assert [entry["subset"] for entry in content["left_out"]] == ["hard"]
    assert "holds a run that is not complete" in run(*words)[2]


def test_names_that_are_no_text(own, run, tmp_path):
    """Of files that another system has named in another encoding."""
    name = os.fsdecode(b"caf\xe9")
    try:
        (own / "a").rename(own / name)
    except OSError:
        pytest.skip("this file system takes names in UTF-8 only")
    words = ("--triplets", own, "--method", "average", "--json", tmp_path / "a.json", "--csv", tmp_path / "a.csv")
    assert run(*words, "--html", tmp_path / "page")[0] == 0
    assert name in {scene["scene"] for scene in json.loads((tmp_path / "a.json").read_text())["scenes"]}
    assert r"own triplets,,caf\udce9,average," in (tmp_path / "a.csv").read_text()
    before = (tmp_path / "a.json").read_bytes()
    assert run(*words, "--resume")[0] == 0
    assert (tmp_path / "a.json").read_bytes() == before


FULL_DISK = """
import resource, sys, benchmark
from vfi.interpolator import Interpolator
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
sys.exit(benchmark.main(sys.argv[2:]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no limit of file sizes on this system")
def test_a_full_disk_does_not_take_the_figures_along(own, tmp_path):
    words = ["--triplets", str(own), "--method", "average", "--json", str(tmp_path / "a.json")]
    command = [sys.executable, "-c", FULL_DISK]
    result = subprocess.run([*command, "100", *words], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 1
    assert set(rows(result.stdout)) == {"a", "b/im", "c", "average"}
    assert result.stderr == f"error: {tmp_path}/a.json cannot be written: file too large\n"
    assert not (tmp_path / "a.json").exists()

    words += ["--html", str(tmp_path / "page" / "deep")]  # for whose pictures there is no room
    result = subprocess.run([*command, "3000", *words], cwd=ROOT, capture_output=True, text=True)
    note, error = result.stderr.splitlines()
    assert note == f"note: 1 of 3 scenes are in {tmp_path}/a.json: --resume goes on"
    assert re.fullmatch(rf"error: {tmp_path}/page/deep/pictures-.*\.png cannot be written: file too large", error)
    assert len(json.loads((tmp_path / "a.json").read_text())["scenes"]) == 1
    assert not (tmp_path / "page").exists()


def test_ctrl_c_keeps_what_was_measured(save, run, tmp_path):
    """As a program: broken off in the midst, refused without --resume, then continued to the same figures."""
    folder, results, page = tmp_path / "own", tmp_path / "results.json", tmp_path / "page"
    for seed in range(16):
        save([folder / f"{seed:02}" / f"im{number}.png" for number in (1, 2, 3)], seed)
    words = ["--triplets", str(folder), "--json", str(results), "--model", "l1", "--html", str(page)]
    program = subprocess.Popen(
        [sys.executable, ROOT / "benchmark.py", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored if pytest is in the background
    )
    deadline = time.monotonic() + 120
    while len(list(page.rglob("*-small.jpg"))) < 2:
        assert program.poll() is None, program.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    program.send_signal(signal.SIGINT)
    out, err = program.communicate(timeout=120)
    assert (program.returncode, out) == (130, "")
    note, interrupted = err.splitlines()
    done = int(re.fullmatch(rf"note: (\d+) of 16 scenes are in {results}: --resume goes on", note)[1])
    assert interrupted == "error: interrupted"
    assert 1 <= done < 16
    broken_off = json.loads(results.read_text())
    assert len(broken_off["scenes"]) == done

    assert "holds a run that is not complete: go on with --resume, or remove it" in run(*words)[2]
    before = {path: path.stat().st_mtime_ns for path in page.rglob("*-small.jpg")}
    status, out, _ = run(*words, "--resume")
    assert status == 0
    content = json.loads(results.read_text())
    assert content["complete"] is True
    assert content["scenes"][:done] == broken_off["scenes"]
    assert [scene["scene"] for scene in content["scenes"]] == [f"{seed:02}" for seed in range(16)]
    assert content["means"][0]["scenes"] == 16
    kept = [path for path, when in before.items() if path.stat().st_mtime_ns == when]
    assert len(kept) >= done - 1  # of scenes that were there already; the last may lack its pictures
    assert out.endswith(f"{page}/index.html\n")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("quiet", [False, True])
def test_progress(quiet, own, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert benchmark.main(["--triplets", str(own), "--method", "average", *(["--quiet"] if quiet else [])]) == 0
    assert bool(re.search(r"0/3 \[00:00<\?", sys.stderr.getvalue())) != quiet  # scenes, time so far, time left


# --- The harness itself, on the real frames, where they are ---

MIDDLEBURY = Path(os.environ.get("MIDDLEBURY", ROOT / "middlebury"))
needs_middlebury = pytest.mark.skipif(
    not MIDDLEBURY.is_dir(), reason="needs Middlebury's frames in ./middlebury or where MIDDLEBURY says"
)


@needs_middlebury
def test_yardsticks_have_their_known_figures(run):
    """As other programs measured them: the mean of the frames 28.00 dB, 0.804; ffmpeg's minterpolate 33.0, 0.934."""
    status, out, err = run("--data", MIDDLEBURY, "--method", "average", "minterpolate")
    assert (status, err) == (0, "")
    assert rows(out)["average"][:2] == pytest.approx([28.00, 0.804], abs=0.05)
    assert rows(out)["average"][1] == pytest.approx(0.804, abs=0.0015)
    assert rows(out)["minterpolate"][0] == pytest.approx(33.0, abs=0.3)
    assert rows(out)["minterpolate"][1] == pytest.approx(0.934, abs=0.005)


@needs_middlebury
def test_optical_flow_has_its_known_figure():
    """DIS flow (OpenCV), each frame warped by the flow that is carried to the middle: 34.74 dB and 0.953."""
    cv2 = pytest.importorskip("cv2")
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    dis.setFinestScale(0)

    def warp(frame, flow):
        rows, columns = np.mgrid[: flow.shape[0], : flow.shape[1]].astype(np.float32)
        where = columns + flow[..., 0], rows + flow[..., 1]
        return cv2.remap(frame.astype(np.float32), *where, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def between(one, two):
        greys = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (one, two)]
        there, back = dis.calc(*greys, None), dis.calc(*greys[::-1], None)
        there, back = warp(there, -there / 2), warp(back, -back / 2)  # seen from the middle
        return (warp(one, back / 2) + warp(two, there / 2)) / 2

    values = []
    for triplet in middlebury.MIDDLEBURY.find(MIDDLEBURY):
        one, two, truth = triplet.read()
        picture = methods.to_8_bits(between(one, two))
        values.append((metrics.psnr(picture, truth), metrics.ssim_uniform(picture, truth)))
    assert np.mean(values, axis=0)[0] == pytest.approx(34.74, abs=0.05)
    assert np.mean(values, axis=0)[1] == pytest.approx(0.953, abs=0.0015)
