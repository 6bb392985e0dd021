"""The command line for a pair of pictures: each refusal is one line."""

import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

# --- Pictures that are refused ---


def test_different_sizes(save, refused):
    one, two = save("one.png", 30, 40), save("two.png", 40, 30)
    line = refused("--one", one, "--two", two)
    assert line == f"error: the pictures differ in size: {one} is 40x30 and {two} is 30x40\n"


@pytest.fixture
def broken(save, tmp_path):
    """Files that are not pictures, by name."""
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
        ("cut16.tif", "is damaged: it begins like a TIFF file"),
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
def test_pipes_and_devices_are_not_replaced(pair, refused):
    """A link to a device must not be replaced either."""
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


def test_sizes_and_kinds_that_the_format_cannot_hold(save, refused, published_file):
    one = save("one.png", 1, 16384)
    line = refused("--one", one, "--two", one, "--out", "out.webp", "--quiet", "--weights", published_file)
    assert "out.webp cannot be written" in line
    assert "too large for WEBP" in line


# --- Weights that are refused ---


def replaced(name, change):
    """A change for `make_weights`: replaces one tensor of a copy."""
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
            "moduleDeconv2.4.bias is not a plain tensor of 16, 32 or 64-bit floating-point",
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
def test_files_that_are_not_weights(content, reason, pair, refused):
    path = Path("weights.pytorch")
    if content is not None:
        path.write_bytes(content)
    line = refused("--one", pair[0], "--two", pair[1], "--weights", path)
    assert f"weights {path}" in line
    assert reason in line


@pytest.mark.parametrize("what", [[torch.zeros(1)], {1: torch.zeros(1)}, {"state_dict": {}}, torch.zeros(1)])
def test_weights_that_are_not_a_state_dict(what, pair, refused):
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


def test_a_folder_instead_of_weights(tmp_path, pair, refused):
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
        ("cuda:99", "'cuda:99' is not available"),
    ],
)
def test_bad_devices(device, reason, pair, refused):
    status = 1 if "not available" in reason else 2
    assert f"device {reason}" in refused("--one", pair[0], "--two", pair[1], "--device", device, status=status)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu(pair, refused):
    line = refused("--one", pair[0], "--two", pair[1], "--device", "cuda")
    assert "device 'cuda' is not available: PyTorch sees 0 NVIDIA GPUs here; use --device cpu" in line


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
