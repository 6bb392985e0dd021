"""The command line for a pair of pictures: what it writes and prints."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.programs import GREY, P3, ROOT, SRGB, pixels_of
from PIL import Image

import run
from vfi import pictures
from vfi.pictures import Picture


def test_large_pictures_cause_no_warning(pair, interpolate, published_file, monkeypatch):
    """Pillow warns of decompression bombs from half of its limit on, in two lines that name its source file."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert interpolate(*pair, "out.png", "--weights", published_file) == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_full_standard_output():
    with open("/dev/full", "w") as full:
        program = subprocess.run([sys.executable, ROOT / "run.py"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (program.returncode, program.stderr) == (1, "error: standard output: no space left on device\n")


@pytest.mark.skipif(sys.platform == "win32", reason="no such shell there")
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(closed, pair, published_file, tmp_path):
    """Some schedulers start programs with closed streams. Only the printed text is lost."""
    words = [sys.executable, ROOT / "run.py", "--one", "one.png", "--two", "two.png", "--weights", published_file]
    program = subprocess.run(["sh", "-c", f'"$@" {closed}', "sh", *words], capture_output=True, text=True)
    assert (program.returncode, program.stderr) == (0, "")
    assert program.stdout == ("out.png\n" if closed == "2>&-" else "")
    assert sorted(tmp_path.iterdir()) == sorted([*pair, tmp_path / "out.png"])


def test_a_path_that_standard_output_cannot_encode(pair, published_file):
    words = [sys.executable, ROOT / "run.py", "--one", "one.png", "--two", "one.png", "--weights", published_file]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    program = subprocess.run([*words, "--out", "größe.png"], env=environment, capture_output=True, text=True)
    assert (program.returncode, program.stdout, program.stderr) == (0, "gr\\xf6\\xdfe.png\n", "")
    assert Path("größe.png").exists()


# --- As a program ---


def run_program(*words, cwd):
    return subprocess.run([sys.executable, ROOT / "run.py", *words], cwd=cwd, capture_output=True, text=True)


def test_without_options_it_interpolates_the_sample_pair(tmp_path):
    result = run_program(cwd=tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "out.png\n", "")
    assert [path.name for path in tmp_path.iterdir()] == ["out.png"]
    between, one, two = (
        pixels_of(path) for path in (tmp_path / "out.png", run.IMAGES / "one.png", run.IMAGES / "two.png")
    )
    assert between.shape == one.shape
    assert between.dtype == one.dtype
    # Nearer to each of them than they are to each other.
    apart = np.abs(one.astype(int) - two).mean()
    assert 0 < np.abs(between.astype(int) - one).mean() < apart
    assert 0 < np.abs(between.astype(int) - two).mean() < apart


def test_bad_data_is_one_line_and_status_1(pair, tmp_path):
    result = run_program("--one", "one.png", "--two", "missing.png", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "error: missing.png cannot be read: no such file or directory\n"
    assert sorted(tmp_path.iterdir()) == sorted(pair)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for one process there")
def test_ctrl_c(save, tmp_path):
    inputs = [save("one.png", 1080, 1920, seed=1), save("two.png", 1080, 1920, seed=2)]
    words = ["--one", "one.png", "--two", "two.png", "--device", "cpu", "--precision", "float32"]
    with subprocess.Popen(
        [sys.executable, ROOT / "run.py", *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored if pytest is in the background
    ) as process:
        assert process.stderr.readline().startswith("note: 1920x1080 is large")
        time.sleep(0.5)  # pictures of this size take much longer
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate()
    assert (process.returncode, stdout, stderr) == (130, "", "error: interrupted\n")
    assert sorted(tmp_path.iterdir()) == inputs


def test_help(capfd):
    with pytest.raises(SystemExit) as caught:
        run.main(["--help"])
    assert caught.value.code == 0
    stdout = capfd.readouterr().out
    for option in ("--model", "--weights", "--padding", "--device", "--precision", "--one", "--two", "--out"):
        assert option in stdout


# --- Identical pictures: the network is not called, so these are exact and fast ---


@pytest.mark.parametrize(
    ("channels", "dtype"), [(1, np.uint8), (2, np.uint8), (3, np.uint8), (4, np.uint8), (3, np.uint16), (4, np.uint16)]
)
def test_identical_pictures_come_back_exactly(channels, dtype, save, interpolate, published_file):
    """The weights are random, so the network would change the pictures."""
    one = save("one.png", channels=channels, dtype=dtype)
    other = save("other.png", channels=channels, dtype=dtype, seed=1)
    assert interpolate(one, one, "out.png", "--weights", published_file) == ""
    assert np.array_equal(pixels_of("out.png"), pixels_of(one))
    interpolate(one, other, "out.png", "--weights", published_file)
    assert not np.array_equal(pixels_of("out.png"), pixels_of(one))


@pytest.mark.parametrize(("width", "large"), [(1280, False), (1281, True)])
def test_large_pictures_cause_a_note(width, large, save, interpolate, published_file):
    one = save("one.png", 720, width)
    note = (
        "note: 1281x720 is large: the kernels do not reach what moves by more than 50 pixels from one picture to the "
    )
    note += "other (25 to the frame in the middle)\n"
    assert interpolate(one, one, "out.png", "--weights", published_file) == (note if large else "")
    assert interpolate(one, one, "out.png", "--weights", published_file, "--quiet") == ""


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".webp"])
def test_quality(suffix, save, interpolate, published_file):
    one = save("one.png")
    for quality in (1, 50, 100):
        options = ("--quality", quality, "--weights", published_file)
        assert interpolate(one, one, f"{quality}{suffix}", *options) == ""
    assert Path(f"1{suffix}").stat().st_size < Path(f"50{suffix}").stat().st_size < Path(f"100{suffix}").stat().st_size


def test_lossless(save, interpolate, published_file):
    one = save("one.png", channels=4)
    assert interpolate(one, one, "out.webp", "--lossless", "--weights", published_file) == ""
    assert np.array_equal(pixels_of("out.webp"), pixels_of(one))


def test_a_note_names_what_the_format_cannot_keep(save, interpolate, published_file):
    one = save("one.png", channels=4, dtype=np.uint16, profile=SRGB)
    notes = interpolate(one, one, "out.bmp", "--weights", published_file).splitlines()
    assert len(notes) == 3
    assert all(note.startswith("note: BMP holds ") for note in notes)
    assert interpolate(one, one, "out.bmp", "--weights", published_file, "--quiet") == ""


def test_existing_files_are_replaced(save, interpolate, published_file):
    one, old = save("one.png"), save("out.png", seed=1)
    interpolate(one, one, old, "--weights", published_file)
    assert np.array_equal(pixels_of(old), pixels_of(one))


# --- Kinds of pictures, end to end ---


@pytest.mark.parametrize(
    ("channels", "dtype", "suffix"),
    [
        (1, np.uint8, ".png"),
        (2, np.uint8, ".png"),
        (4, np.uint8, ".png"),
        (1, np.uint16, ".png"),
        (3, np.uint16, ".png"),
        (4, np.uint16, ".tif"),
    ],
)
def test_the_result_has_the_kind_of_the_pair(channels, dtype, suffix, save, interpolate, published_file):
    one, two = (save(f"{seed}{suffix}", channels=channels, dtype=dtype, seed=seed) for seed in (1, 2))
    assert interpolate(one, two, f"out{suffix}", "--weights", published_file) == ""
    between = pixels_of(f"out{suffix}")
    assert between.shape == pixels_of(one).shape
    assert between.dtype == dtype
    if dtype == np.uint16:
        assert len(np.unique(between)) > 256


def test_palettes(pair, interpolate, published_file):
    for path in pair:
        with Image.open(path) as image:
            image.quantize(8).save(path)
    assert interpolate(*pair, "out.png", "--weights", published_file) == ""
    assert pixels_of("out.png").shape == (30, 40, 3)


@pytest.mark.parametrize(
    ("one", "two", "shape", "dtype"),
    [
        ((1, np.uint8), (4, np.uint8), (30, 40, 4), np.uint8),
        ((4, np.uint8), (1, np.uint8), (30, 40, 4), np.uint8),
        ((2, np.uint8), (3, np.uint16), (30, 40, 4), np.uint16),
        ((1, np.uint8), (1, np.uint16), (30, 40), np.uint16),
    ],
)
def test_a_mixed_pair_keeps_the_richer_property(one, two, shape, dtype, save, interpolate, published_file):
    paths = [save(f"{seed}.png", channels=c, dtype=d, seed=seed) for seed, (c, d) in enumerate((one, two))]
    assert interpolate(*paths, "out.png", "--weights", published_file) == ""
    assert pixels_of("out.png").shape == shape
    assert pixels_of("out.png").dtype == dtype


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_the_colour_profile_is_kept(suffix, dtype, save, interpolate, published_file):
    one, two = (save(f"{seed}.png", dtype=dtype, seed=seed, profile=SRGB) for seed in (1, 2))
    assert interpolate(one, two, f"out{suffix}", "--weights", published_file) == ""
    assert pictures.read(f"out{suffix}").icc_profile == SRGB


@pytest.mark.parametrize("other", [P3, None], ids=["P3", "none"])
def test_differing_colour_profiles_are_noted(other, save, interpolate, published_file):
    one, two = save("one.png", seed=1, profile=SRGB), save("two.png", seed=2, profile=other)
    note = f"note: the pictures' colour profiles differ: that of {one} is kept\n"
    assert interpolate(one, two, "out.png", "--weights", published_file) == note
    assert pictures.read("out.png").icc_profile == SRGB
    assert interpolate(one, two, "out.png", "--weights", published_file, "--quiet") == ""


def test_a_grey_profile_is_not_put_on_colours(save, interpolate, published_file):
    one, two = save("one.png", channels=1, profile=GREY), save("two.png", channels=3, profile=SRGB)
    interpolate(one, two, "out.png", "--weights", published_file)
    assert pixels_of("out.png").shape == (30, 40, 3)
    assert pictures.read("out.png").icc_profile in (SRGB, None)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 1), (3, 129)])
@pytest.mark.parametrize("padding", ["improved", "paper"])
def test_any_size(padding, height, width, interpolate):
    """Between two uniform colours every pixel lies between them, because normalized kernels sum to 1."""
    for name, value in (("one.png", 90), ("two.png", 110)):
        pictures.write(name, Picture(np.full((height, width, 3), value, np.uint8)))
    assert interpolate("one.png", "two.png", "out.png", "--padding", padding, "--model", "l1") == ""
    between = pixels_of("out.png")
    assert between.shape == (height, width, 3)
    assert between.min() >= 90
    assert between.max() <= 110


def test_options_reach_the_network(pair, interpolate):
    results = []
    precise = ("--precision", "float32", "--device", "cpu")
    for options in ((), ("--model", "l1"), ("--padding", "paper"), precise, ("--ensemble",)):
        interpolate(*pair, "out.png", *options)
        results.append(pixels_of("out.png").astype(int))
    default, model, padding, precision, ensemble = results
    assert not np.array_equal(default, model)
    assert not np.array_equal(default, padding)
    assert not np.array_equal(default, ensemble)
    assert np.abs(default - precision).max() <= 10  # 6 where auto is bfloat16, 0 where it is float32
