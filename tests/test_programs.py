"""speed.py: that it measures what it says, not how fast; the README; and what the programs share."""

import argparse
import importlib
import io
import re
import sys
import time
from pathlib import Path

import pytest
import torch

from sepconv import sepconv_reference, sepconv_reference_backward
from tools import speed, speed_video
from vfi import command_line


def test_the_plain_loops_are_right():
    """What the op is compared with in speed.py."""
    frame, vertical, horizontal, grad_out = speed.random_arguments((2, 3, 4, 6))
    inputs = (frame, vertical, horizontal)
    assert torch.allclose(speed.loop_forward(*inputs), sepconv_reference(*inputs), atol=1e-4)
    exact = sepconv_reference_backward(grad_out, *inputs)
    loops = [speed.loop_backward_frame(grad_out, *inputs), *speed.loop_backward(grad_out, *inputs)]
    for result, expected in zip(loops, exact, strict=True):
        assert torch.allclose(result, expected, atol=1e-4)


def test_speed_prints_every_ratio(monkeypatch, capsys):
    monkeypatch.setattr(speed, "FORWARD_SIZE", (1, 3, 6, 20))
    monkeypatch.setattr(speed, "BACKWARD_SIZE", (1, 3, 6, 20))
    assert speed.main(["--runs", "1"]) == 0
    rows = re.findall(r"^(plain loop|sepconv.*?)\s+[\d.]+ ms\s+([\d.]+)\s+\d+%\s+(\S+)$", capsys.readouterr().out, re.M)
    assert [name for name, _, _ in rows].count("plain loop") == 3
    assert len(rows) == 8
    assert all(float(error) < 1e-5 for _, _, error in rows)


def test_breakdown_adds_up(capsys):
    assert speed.main(["--breakdown", "--runs", "1"]) == 0
    seconds = [float(value) for value in re.findall(r"([\d.]+) s", capsys.readouterr().out)]
    *parts, together = seconds
    assert len(parts) == len(speed.BREAKDOWN)
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
    monkeypatch.setattr(speed, "TRAINING", (1, 64))
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


ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S))
def test_python_in_the_readme_runs(block, monkeypatch):
    monkeypatch.chdir(ROOT)
    exec(block, {})


def test_every_figure_in_the_readme_is_there():
    tables = re.findall(r"(?:^\|.*\|\n)+", (ROOT / "README.md").read_text(), re.M)
    figures = [row.split("|")[2] for table in tables for row in table.splitlines()[2:]]
    assert len(figures) > 5
    assert all(re.search(r"\d", figure) and not re.search(r"\b[A-Z]{2,}\d*\b", figure) for figure in figures)


@pytest.mark.parametrize("program", ["run", "benchmark", "tools.speed"])
def test_help_says_defaults_that_are_some(program, capsys):
    with pytest.raises(SystemExit):
        importlib.import_module(program).main(["--help"])
    assert set(re.findall(r"\(default:\s+(\S+)\)", capsys.readouterr().out)).isdisjoint({"None", "False"})


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "quiet", "shown"), [(Terminal, False, True), (Terminal, True, False), (io.StringIO, False, False)]
)
def test_progress_is_for_terminals(stream, quiet, shown, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream())

    def download(*arguments):
        for megabytes in range(4):
            arguments[-1](megabytes * 2**20, 2**22)
            time.sleep(0.06)  # the bar is drawn ten times a second

    monkeypatch.setattr(command_line, "Interpolator", download)
    options = dict.fromkeys(("model", "weights", "device", "padding", "precision")) | {"quiet": quiet}
    command_line.make_interpolator(argparse.Namespace(**options))
    assert ("downloading" in sys.stderr.getvalue()) == shown
