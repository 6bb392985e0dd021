"""tools.speed measures what it says; how fast the machine is does not matter here."""

import re

import pytest
import torch

from sepconv import sepconv_reference, sepconv_reference_backward
from tools import speed, speed_network, speed_op, speed_training, speed_video
from tools.stopwatch import random_arguments


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
    assert speed.main(["--breakdown", "--runs", "1"]) == 0
    seconds = [float(value) for value in re.findall(r"([\d.]+) s", capsys.readouterr().out)]
    *parts, together = seconds
    assert len(parts) == len(speed_network.BREAKDOWN)
    assert all(part > 0 for part in parts)
    assert sum(parts) == pytest.approx(together, abs=0.01)


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
        ["--video", "9x10"],
    ],
)
def test_speed_refuses(arguments):
    with pytest.raises(SystemExit) as error:
        speed.main(arguments)
    assert error.value.code == 2
