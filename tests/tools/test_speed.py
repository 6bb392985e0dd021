"""tools.speed measures what it says; how fast the machine is does not matter here."""

import re
import subprocess

import pytest
import torch

from sepconv import sepconv_reference, sepconv_reference_backward
from tools import speed, speed_against, speed_network, speed_op, speed_training, speed_video
from tools.stopwatch import random_arguments
from vfi.errors import DataError


def test_the_plain_loops_are_correct():
    """The loops with which the op is compared give its results."""
    frame, vertical, horizontal, grad_out = random_arguments((2, 3, 4, 6))
    inputs = (frame, vertical, horizontal)
    assert torch.allclose(speed_op.loop_forward(*inputs), sepconv_reference(*inputs), atol=1e-4)
    exact = sepconv_reference_backward(grad_out, *inputs)
    loops = [speed_op.loop_backward_frame(grad_out, *inputs), *speed_op.loop_backward(grad_out, *inputs)]
    for result, expected in zip(loops, exact, strict=True):
        assert torch.allclose(result, expected, atol=1e-4)


def test_speed_prints_every_ratio(monkeypatch, capsys):
    monkeypatch.setattr(speed_op, "FORWARD_SIZE", (1, 3, 6, 20))
    monkeypatch.setattr(speed_op, "BACKWARD_SIZE", (1, 3, 6, 20))
    assert speed.main(["--runs", "1"]) == 0
    rows = re.findall(r"^(plain loop|sepconv.*?)\s+[\d.]+ ms\s+([\d.]+)\s+\d+%\s+(\S+)$", capsys.readouterr().out, re.M)
    assert [name for name, _, _ in rows].count("plain loop") == 3
    assert len(rows) == 8
    assert all(float(error) < 1e-5 for _, _, error in rows)


def test_breakdown_adds_up(capsys):
    assert speed.main(["--breakdown", "64x48", "--runs", "1"]) == 0
    out = capsys.readouterr().out
    pair, alone, *parts, together = (float(value) for value in re.findall(r"([\d.]+) s\b", out))
    ratio = float(re.search(r"the pair / its convolutions +([\d.]+)", out)[1])
    assert ratio == pytest.approx(pair / alone, rel=0.2)
    assert "11 GFLOP" in out  # 249 for 640x512, a twentieth for 128x128, of which the heads end at row 48
    assert len(parts) == len(speed_network.BREAKDOWN)
    assert parts[0] > 0  # the convolutions; the pooling of so small a pair may take less than is printed
    assert sum(parts) == pytest.approx(together, abs=0.01)


def test_against_another_commit(capsys):
    """Of the newest commit, whose files may differ from those here; a release without its history has none."""
    if subprocess.run(["git", "rev-parse", "HEAD"], cwd=speed_against.ROOT, capture_output=True).returncode:
        pytest.skip("not a git repository")
    assert speed.main(["--breakdown", "64x48", "--against", "HEAD", "--runs", "2"]) == 0
    found = re.search(r"HEAD ([\d.]+) s, this tree ([\d.]+) s, ([\d.]+) times as fast$", capsys.readouterr().out, re.M)
    assert all(float(value) > 0 for value in found.groups())


def test_against_a_commit_that_does_not_exist(capsys):
    assert speed.main(["--breakdown", "64x48", "--against", "no-such-commit"]) == 1
    assert "--against no-such-commit: " in capsys.readouterr().err


def test_a_commit_that_cannot_interpolate(capsys, tmp_path):
    """What its process says last is passed on."""
    worker = speed_against._Worker(tmp_path, "an empty folder", ("l1", "float32", "64", "48"))
    with pytest.raises(DataError, match=r"an empty folder cannot interpolate: .*network"), worker:
        pass


def test_a_video_and_its_parts(monkeypatch, capsys):
    monkeypatch.setattr(speed_video, "FRAMES", {"cpu": 2, "cuda": 2})
    assert speed.main(["--video", "64x48", "--runs", "1"]) == 0
    out = capsys.readouterr().out
    assert "2 frames of 64x48 to 4, convolutions in float32 on " in out
    rows = re.findall(r"^(\w[\w ]+?)\s+([\d.]+) s\s+([\d.]+)$", out, re.M)
    assert [name for name, _, _ in rows] == [
        "decoding", "encoding", "all but the network", "the network", "all together"
    ]  # fmt: skip
    assert all(float(frames) > 0 for _, _, frames in rows)


def test_training_adds_up(monkeypatch, capsys):
    monkeypatch.setattr(speed_training, "CPU_BATCH", 1)
    monkeypatch.setattr(speed_training, "CROP", 64)
    assert speed.main(["--training", "--runs", "1"]) == 0
    shares = [float(value) for value in re.findall(r"([\d.]+)%", capsys.readouterr().out)]
    assert len(shares) == 3
    assert all(share > 0 for share in shares)
    assert sum(shares) == pytest.approx(100, abs=0.2)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--training", "--precision", "auto"],
        ["--memory", "big"],
        ["--runs", "0"],
        ["--memory", "9x9", "--breakdown"],
        ["--against", "HEAD"],
        ["--video", "9x10"],
    ],
)
def test_speed_refuses(arguments):
    with pytest.raises(SystemExit) as error:
        speed.main(arguments)
    assert error.value.code == 2
