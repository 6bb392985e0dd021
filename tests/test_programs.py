"""benchmark.py and speed.py: that they measure what they say, not how fast."""

import argparse
import io
import re
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import benchmark
import command_line
import pictures
import speed
from metrics import psnr
from sepconv import sepconv_reference, sepconv_reference_backward


def test_psnr():
    truth = np.full((4, 4, 3), 100, np.uint8)
    assert psnr(truth, truth) == float("inf")
    assert psnr(truth + 5, truth) == pytest.approx(10 * np.log10(255**2 / 25))
    assert psnr(truth, truth + 200) == psnr(truth + 200, truth)  # no wrap-around: 300 is 44 in uint8


@pytest.fixture
def middlebury(tmp_path, noise):
    """Twelve tiny scenes, each of which moves by two pixels."""
    for seed, scene in enumerate(benchmark.SCENES):
        (tmp_path / scene).mkdir()
        picture = (255 * noise(30, 44, seed=seed)).astype(np.uint8)
        for name, start in (("frame10", 0), ("frame10i11", 1), ("frame11", 2)):
            pictures.write(tmp_path / scene / f"{name}.png", pictures.Picture(picture[:, start : start + 40]))
    return tmp_path


def test_benchmark(middlebury, published_file, capsys):
    options = ["--data", str(middlebury), "--weights", str(published_file), "--device", "cpu"]
    assert benchmark.main([*options, "--precision", "float32", "--baseline", "bfloat16"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[3:]]
    assert [row[0] for row in rows] == [*benchmark.SCENES, "mean"]
    ours, baseline, gain, difference = (np.array([float(row[i]) for row in rows]) for i in range(1, 5))
    assert ours[-1] == pytest.approx(ours[:-1].mean(), abs=0.01)
    assert gain == pytest.approx(ours - baseline, abs=0.011)
    assert difference[-1] == difference[:-1].max() > 0


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: folder.rename(folder.with_name("elsewhere")), "there is no folder .*put the scenes of"),
        (lambda folder: (folder / "Venus" / "frame11.png").unlink(), r"Venus/frame11.png cannot be read: no such file"),
        (
            lambda folder: pictures.write(
                folder / "Urban2" / "frame10.png", pictures.Picture(np.zeros((30, 41, 3), np.uint8))
            ),
            r"Urban2: the three frames are not 8-bit RGB of one size",
        ),
    ],
)
def test_missing_and_broken_scenes_are_named(middlebury, damage, message, capsys):
    damage(middlebury)
    assert benchmark.main(["--data", str(middlebury)]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert re.fullmatch(f"error: .*{message}.*\n", output.err)


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


def test_training_adds_up(monkeypatch, capsys):
    monkeypatch.setattr(speed, "TRAINING", (1, 64))
    assert speed.main(["--training", "--runs", "1"]) == 0
    shares = [float(value) for value in re.findall(r"([\d.]+)%", capsys.readouterr().out)]
    assert len(shares) == 3
    assert all(share > 0 for share in shares)
    assert sum(shares) == pytest.approx(100, abs=0.2)


@pytest.mark.parametrize(
    "arguments",
    [["--training", "--precision", "auto"], ["--memory", "big"], ["--runs", "0"], ["--memory", "9x9", "--breakdown"]],
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
    table = re.findall(r"^\|.*\|$", (ROOT / "README.md").read_text(), re.M)
    figures = [row.split("|")[2] for row in table[2:]]
    assert len(figures) > 5
    assert all(re.search(r"\d", figure) and not re.search(r"\b[A-Z]{2,}\d*\b", figure) for figure in figures)


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
