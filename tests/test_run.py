"""The command line for a pair of pictures: what it writes, what it says, and what it refuses."""

import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import pyvips
import torch
from PIL import Image, ImageCms

import run
from vfi import pictures
from vfi.pictures import Picture

ROOT = Path(__file__).parent.parent

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
P3 = pyvips.Operation.call("profile_load", "p3")
GREY = SRGB[:16] + b"GRAY" + SRGB[20:]  # a grey one as far as its header goes, which is all that is looked at


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """What is written to the current directory by mistake is seen, too."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def save(noise, tmp_path):
    """Writes a picture that differs with the seed; returns its path."""

    def make(name, height=30, width=40, channels=3, dtype=np.uint8, seed=0, profile=None):
        most = np.iinfo(dtype).max
        pixels = np.rint(noise(height, width, channels, seed) * most).astype(dtype)
        if channels in (2, 4):
            pixels[..., -1] = most - pixels[..., -1] // 2
        pictures.write(tmp_path / name, Picture(pixels[..., 0] if channels == 1 else pixels, profile))
        return tmp_path / name

    return make


@pytest.fixture
def pair(save):
    return save("one.png", seed=1), save("two.png", seed=2)


@pytest.fixture
def interpolate(tmp_path, capfd, recwarn):
    """Runs a command line that must succeed, with nothing but the path on stdout; returns what stderr got."""

    def interpolate(one, two, out, *options):
        assert run.main([str(word) for word in ("--one", one, "--two", two, "--out", out, *options)]) == 0
        stdout, stderr = capfd.readouterr()
        assert stdout == f"{out}\n"
        assert not recwarn.list
        assert not list(tmp_path.rglob("*.part"))
        return stderr

    return interpolate


@pytest.fixture
def refused(tmp_path, capfd, recwarn):
    """Runs a command line that must fail, in one line and without a trace; returns that line."""

    def refused(*words, status=1):
        before = listing(tmp_path)
        assert run.main([str(word) for word in words]) == status
        stdout, stderr = capfd.readouterr()
        assert stdout == ""
        assert stderr.startswith("error: ")
        assert len(stderr.splitlines()) == 1
        assert not recwarn.list
        assert listing(tmp_path) == before
        return stderr

    return refused


@pytest.fixture
def misused(tmp_path, capfd):
    """Runs a command line that argparse must refuse; returns the line after its usage."""

    def misused(*words):
        before = listing(tmp_path)
        with pytest.raises(SystemExit) as caught:
            run.main([str(word) for word in words])
        assert caught.value.code == 2
        stdout, stderr = capfd.readouterr()
        assert stdout == ""
        usage, _, error = stderr.rpartition("run.py: error: ")
        assert usage.startswith("usage: run.py")
        assert len(error.splitlines()) == 1
        assert listing(tmp_path) == before
        return error

    return misused


def listing(folder):
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def pixels_of(path):
    return pictures.read(path).pixels


def test_large_is_no_reason_to_warn(pair, interpolate, published_file, monkeypatch):
    """Pillow warns from half of what is too large on: about bombs, in two lines with the path of its source."""
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
    """As some schedulers start programs. What would have been printed is lost, and nothing else."""
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


def test_alone_it_interpolates_the_sample_pair(tmp_path):
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
        time.sleep(0.5)  # far less than such pictures take
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


# --- Identical pictures: the network has no say, so these are exact and fast ---


@pytest.mark.parametrize(
    ("channels", "dtype"), [(1, np.uint8), (2, np.uint8), (3, np.uint8), (4, np.uint8), (3, np.uint16), (4, np.uint16)]
)
def test_identical_pictures_come_back_exactly(channels, dtype, save, interpolate, published_file):
    """The weights are random: whatever went through the network would not be the same."""
    one = save("one.png", channels=channels, dtype=dtype)
    other = save("other.png", channels=channels, dtype=dtype, seed=1)
    assert interpolate(one, one, "out.png", "--weights", published_file) == ""
    assert np.array_equal(pixels_of("out.png"), pixels_of(one))
    interpolate(one, other, "out.png", "--weights", published_file)
    assert not np.array_equal(pixels_of("out.png"), pixels_of(one))


@pytest.mark.parametrize(("width", "large"), [(1280, False), (1281, True)])
def test_large_pictures_get_a_note(width, large, save, interpolate, published_file):
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


def test_what_the_format_cannot_keep_is_noted(save, interpolate, published_file):
    one = save("one.png", channels=4, dtype=np.uint16, profile=SRGB)
    notes = interpolate(one, one, "out.bmp", "--weights", published_file).splitlines()
    assert len(notes) == 3
    assert all(note.startswith("note: BMP holds ") for note in notes)
    assert interpolate(one, one, "out.bmp", "--weights", published_file, "--quiet") == ""


def test_what_was_there_is_replaced(save, interpolate, published_file):
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
def test_the_result_is_of_the_kind_of_the_pair(channels, dtype, suffix, save, interpolate, published_file):
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
def test_a_mixed_pair_gets_the_richer_of_each(one, two, shape, dtype, save, interpolate, published_file):
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
    """Between two even colours there is nothing but what lies between them; the bundled weights add up to 1."""
    for name, value in (("one.png", 90), ("two.png", 110)):
        pictures.write(name, Picture(np.full((height, width, 3), value, np.uint8)))
    assert interpolate("one.png", "two.png", "out.png", "--padding", padding, "--model", "l1") == ""
    between = pixels_of("out.png")
    assert between.shape == (height, width, 3)
    assert between.min() >= 90
    assert between.max() <= 110


def test_options_reach_the_network(pair, interpolate):
    results = []
    for options in ((), ("--model", "l1"), ("--padding", "paper"), ("--precision", "float32", "--device", "cpu")):
        interpolate(*pair, "out.png", *options)
        results.append(pixels_of("out.png").astype(int))
    default, model, padding, precision = results
    assert not np.array_equal(default, model)
    assert not np.array_equal(default, padding)
    assert np.abs(default - precision).max() <= 10  # 6 where auto is bfloat16, 0 where it is float32


# --- Pictures that are refused ---


def test_different_sizes(save, refused):
    one, two = save("one.png", 30, 40), save("two.png", 40, 30)
    line = refused("--one", one, "--two", two)
    assert line == f"error: the pictures differ in size: {one} is 40x30 and {two} is 30x40\n"


@pytest.fixture
def broken(save, tmp_path):
    """Files that are no pictures, by name."""
    for name, dtype in (
        ("cut.png", np.uint8),
        ("cut.jpg", np.uint8),
        ("cut16.png", np.uint16),
        ("cut16.tif", np.uint16),
    ):
        path = save(name, 90, 120, dtype=dtype)
        os.truncate(path, path.stat().st_size // 2)
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "text.png").write_text("Two frames in, the frame halfway between them out.\n")
    return tmp_path


@pytest.mark.parametrize("which", ["--one", "--two"])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing.png", "no such file or directory"),
        (300 * "a" + ".png", "file name too long"),
        ("cut.png", "truncated"),
        ("cut.jpg", "truncated"),
        ("cut16.png", "cannot be read"),
        ("cut16.tif", "is not a picture"),
        ("empty.png", "is empty"),
        ("folder.png", "is a folder"),
        ("text.png", "is not a picture"),
    ],
)
def test_bad_pictures(name, reason, which, broken, pair, refused):
    other = {"--one": "--two", "--two": "--one"}[which]
    line = refused(which, name, other, pair[0])
    assert name in line
    assert reason in line


# --- Targets that are refused ---


@pytest.mark.parametrize(
    ("out", "reason", "status"),
    [
        ("out.gif", "the extension .gif is not known: use one of png, jpg, jpeg, bmp, webp, tif, tiff", 2),
        ("out", "the extension (none) is not known", 2),
        ("missing/out.png", "there is no folder missing", 1),
        ("folder.png", "is a folder", 1),
    ],
)
def test_bad_targets(out, reason, status, broken, pair, refused):
    line = refused("--one", pair[0], "--two", pair[1], "--out", out, status=status)
    assert out in line
    assert reason in line


def test_bad_targets_are_found_before_anything_is_read(refused):
    assert "there is no folder" in refused("--one", "missing.png", "--two", "missing.png", "--out", "missing/out.png")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_what_is_no_ordinary_file_is_left_alone(pair, refused):
    """A device that a link leads to would be replaced, too."""
    os.mkfifo("pipe.png")
    Path("link.png").symlink_to("pipe.png")
    line = refused("--one", "pipe.png", "--two", pair[1])
    assert "pipe.png is not an ordinary file: save the picture into one first" in line
    for out in ("pipe.png", "link.png"):
        assert f"{out} is not an ordinary file" in refused("--one", pair[0], "--two", pair[1], "--out", out)
    assert Path("pipe.png").is_fifo()


def test_inputs_are_not_overwritten(pair, refused, tmp_path):
    one, two = pair
    os.link(one, tmp_path / "link.png")
    for out in (one, two, Path("one.png"), Path("link.png"), Path("..") / tmp_path.name / "two.png"):
        assert "is one of the inputs, which it would replace: name another file" in refused(
            "--one", one, "--two", two, "--out", out, status=2
        )


def test_what_the_format_cannot_hold(save, refused, published_file):
    one = save("one.png", 1, 16384)
    line = refused("--one", one, "--two", one, "--out", "out.webp", "--quiet", "--weights", published_file)
    assert "out.webp cannot be written" in line
    assert "too large for WEBP" in line


# --- Weights that are refused ---


def replaced(name, change):
    """As `make_weights` wants it: with one tensor changed, in a copy."""
    return lambda state: state.update({name: change(state[name].clone())})


@pytest.mark.parametrize(
    ("change", "metadata", "reason"),
    [
        (lambda state: state.pop("moduleConv1.0.weight"), {}, "lack moduleConv1.0.weight"),
        (lambda state: state.update(strange=torch.zeros(1)), {}, "hold, unknown to the network, strange"),
        (
            replaced("moduleConv1.0.weight", lambda tensor: tensor[:, :3].contiguous()),
            {},
            "moduleConv1.0.weight has shape (32, 3, 3, 3), expected (32, 6, 3, 3)",
        ),
        (
            replaced("moduleDeconv2.4.bias", lambda tensor: tensor.fill_(float("nan"))),
            {},
            "moduleDeconv2.4.bias has values that are not finite in float32",
        ),
        (
            replaced("moduleDeconv2.4.bias", lambda tensor: tensor.to(torch.int32)),
            {},
            "moduleDeconv2.4.bias is no plain tensor of 16, 32 or 64-bit floating point",
        ),
        (None, {"kernel_normalization": "maybe"}, "kernel_normalization is 'maybe', expected true or false"),
        (None, {"input_normalization": "True"}, "input_normalization is 'True', expected true or false"),
        (None, {"format_version": "2"}, "are in format 2; this version reads format 1"),
    ],
)
def test_weights_that_do_not_fit(change, metadata, reason, make_weights, pair, refused):
    path = make_weights(change, **metadata)
    line = refused("--one", pair[0], "--two", pair[1], "--weights", path)
    assert f"weights {path}" in line
    assert reason in line


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "no such file or directory"),
        (b"", "cannot be read: neither safetensors nor a PyTorch state dict"),
        (b"junk" * 1000, "cannot be read: neither safetensors nor a PyTorch state dict"),
        (b"PK" + b"junk" * 1000, "were not loaded"),
        (b"\x80\x02" + b"junk" * 1000, "cannot be read: neither safetensors nor a PyTorch state dict"),
        (b"\x80\x02.", "cannot be read: neither safetensors nor a PyTorch state dict"),
    ],
)
def test_weights_that_are_none(content, reason, pair, refused):
    path = Path("weights.pytorch")
    if content is not None:
        path.write_bytes(content)
    line = refused("--one", pair[0], "--two", pair[1], "--weights", path)
    assert f"weights {path}" in line
    assert reason in line


@pytest.mark.parametrize("what", [[torch.zeros(1)], {1: torch.zeros(1)}, {"state_dict": {}}, torch.zeros(1)])
def test_weights_that_are_no_state_dict(what, pair, refused):
    torch.save(what, "weights.pytorch")
    line = refused("--one", pair[0], "--two", pair[1], "--weights", "weights.pytorch")
    assert "are not a state dict" in line


@pytest.mark.parametrize("kind", ["whole", "old"])
def test_truncated_weights(kind, published_state, published_file, pair, refused):
    if kind == "whole":
        shutil.copy(published_file, "weights.pytorch")
    else:
        torch.save(published_state, "weights.pytorch", _use_new_zipfile_serialization=False)
    os.truncate("weights.pytorch", 10**7)
    assert "cannot be read" in refused("--one", pair[0], "--two", pair[1], "--weights", "weights.pytorch")


def test_a_folder_for_weights(tmp_path, pair, refused):
    assert "is a directory" in refused("--one", pair[0], "--two", pair[1], "--weights", tmp_path)


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_never_runs_code(protocol, tmp_path, pair, refused):
    trap, path = Trap(tmp_path / "sprung"), tmp_path / "weights.pytorch"
    path.write_bytes(pickle.dumps(trap, protocol))
    line = refused("--one", pair[0], "--two", pair[1], "--weights", path)
    assert "which could run code: they were not loaded" in line or "cannot be read" in line
    assert not trap.marker.exists()
    pickle.loads(path.read_bytes())
    assert trap.marker.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_what_torch_saved_never_runs_code(zipped, tmp_path, published_state, pair, refused):
    trap, path = Trap(tmp_path / "sprung"), tmp_path / "weights.pytorch"
    state = {"moduleConv1.0.bias": published_state["moduleConv1.0.bias"], "extra": {"deeper": [trap]}}
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    line = refused("--one", pair[0], "--two", pair[1], "--weights", path)
    assert "are damaged, or hold more than tensors, which could run code: they were not loaded" in line
    assert not trap.marker.exists()


# --- Devices that are refused ---


@pytest.mark.parametrize(
    ("device", "reason"),
    [
        ("junk", "'junk' is not known: choose auto, cpu, cuda or cuda:N"),
        ("", "'' is not known"),
        ("cuda:x", "'cuda:x' is not known"),
        ("mps", "'mps' is not supported: choose auto, cpu, cuda or cuda:N"),
        ("meta", "'meta' is not supported"),
        ("cuda:99", "'cuda:99' is not there"),
    ],
)
def test_bad_devices(device, reason, pair, refused):
    status = 1 if "not there" in reason else 2
    assert f"device {reason}" in refused("--one", pair[0], "--two", pair[1], "--device", device, status=status)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu(pair, refused):
    line = refused("--one", pair[0], "--two", pair[1], "--device", "cuda")
    assert "device 'cuda' is not there: PyTorch sees 0 NVIDIA GPUs here; use --device cpu" in line


# --- Usage ---


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("--quality 0 --out out.jpg", "--quality 0 is not between 1 and 100"),
        ("--quality 101 --out out.jpg", "--quality 101 is not between 1 and 100"),
        ("--quality high --out out.jpg", "argument --quality: invalid int value: 'high'"),
        ("--quality 90", "--quality is for jpg and webp, not for out.png"),
        ("--quality 90 --out out.tif", "--quality is for jpg and webp, not for out.tif"),
        ("--lossless", "--lossless is for webp, not for out.png"),
        ("--lossless --out out.jpg", "--lossless is for webp, not for out.jpg"),
        ("--lossless --quality 90 --out out.webp", "--lossless and --quality exclude each other"),
        ("--model l2", "argument --model: invalid choice: 'l2'"),
        ("--padding none", "argument --padding: invalid choice: 'none'"),
        ("--precision int8", "argument --precision: invalid choice: 'int8'"),
        ("--one one.png", "--two is missing: the other picture of the pair"),
        ("--two two.png", "--one is missing: the other picture of the pair"),
        ("--unknown", "unrecognized arguments: --unknown"),
        ("one.png two.png", "unrecognized arguments: one.png two.png"),
        ("--out", "argument --out: expected one argument"),
    ],
)
def test_bad_usage(words, reason, misused):
    assert reason in misused(*words.split())
