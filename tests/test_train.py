"""train.py from end to end: that it learns, goes on exactly where it stopped, and is the same with two processes."""

import csv
import math
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import write_clip
from PIL import Image
from safetensors.torch import load_file

import pictures
import run
import train
import trainer
from batches import Batches
from clips import Footage
from metrics import psnr
from network import REACH, load_network
from ranks import Ranks

ROOT = Path(__file__).parent.parent
TINY = ["--crop", "32", "--batch", "2", "--precision", "float32", "--device", "cpu"]


@pytest.fixture(scope="session")
def film(tmp_path_factory, moving_frames):
    """A folder with one short clip of a texture that moves by five pixels from frame to frame."""
    folder = tmp_path_factory.mktemp("film")
    write_clip(folder / "film.mp4", moving_frames(12, 180, 200, step=5))
    return folder


@pytest.fixture(scope="session")
def trained(film, tmp_path_factory):
    """A run that learns that clip; returns its folder and what it printed."""
    out = tmp_path_factory.mktemp("trained") / "run"
    options = ["--steps", "60", "--batch", "4", "--crop", "64", "--synthetic", "0", "--average", "0.9"]
    options += ["--learning-rate", "1e-3"]
    command = [sys.executable, str(ROOT / "train.py"), "--data", str(film), "--out", str(out), "--held-out", None]
    held_out = tmp_path_factory.mktemp("held out")
    (held_out / "copy.mp4").write_bytes((film / "film.mp4").read_bytes())
    command[-1] = str(held_out)
    done = subprocess.run([*command, *options, "--report", "5"], capture_output=True, text=True, cwd=out.parent)
    assert done.stderr == ""
    assert done.returncode == 0
    return out, done.stdout


def command(film, out, *options):
    """The command line of a tiny run that prints a line for every step."""
    words = ["train.py", "--data", film, "--out", out, *TINY, "--report", 0, *options]
    return [str(word) for word in words]


def tensors(out):
    """All that a checkpoint holds, and the weights beside it."""
    checkpoint = trainer.read_checkpoint(out / "trained-l1.checkpoint")
    found = dict(load_file(out / "trained-l1.safetensors"))
    for part in ("network", "averaged"):
        found |= {f"{part}.{name}": tensor for name, tensor in checkpoint[part].items()}
    for index, state in checkpoint["optimizer"]["state"].items():
        found |= {f"{name} of {index}": tensor for name, tensor in state.items()}
    return found


# --- Learning ---


def test_the_start_is_averaging(noise):
    one, two = (torch.from_numpy(noise(64, 64, seed=seed)).permute(2, 0, 1)[None] for seed in (1, 2))
    with torch.inference_mode():
        out = trainer.averaging_network(0)(one, two)
    difference = 255 * (out - (one + two) / 2).abs()
    assert difference.mean() < 0.5
    assert difference.max() < 3


def test_schedule():
    values = [trainer.schedule(step / 1000) for step in range(1001)]
    top = values.index(max(values))
    assert values[0] == 0
    assert values[-1] == pytest.approx(0, abs=1e-12)
    assert 0.9 < values[top] <= 1
    assert top == 1000 * trainer.WARM_UP
    assert values == sorted(values[:top]) + sorted(values[top:], reverse=True)


def test_it_learns(trained, film):
    """Clearly better than averaging on what it has seen, after a few steps."""
    out, printed = trained
    with open(out / "trained-l1.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["error"]) < 0.92 * float(rows[-1]["averaging"])
    assert int(rows[-1]["step"]) == 60
    assert int(rows[-1]["samples"]) == 240
    assert float(rows[-1]["proxy_psnr"]) > 10
    assert all(0 <= float(row["data_share"]) <= 1 and row["skipped"] == "0" for row in rows)
    assert printed.splitlines()[-1] == str(out / "trained-l1.safetensors")
    assert re.search(r"1 clips, 1 scenes, 12 frames, 24 triplets", printed)
    assert "error" in printed
    assert "held-out crops" in printed


def test_weights_are_what_run_takes(trained, film, tmp_path):
    out, _ = trained
    frames = Footage([film], tmp_path / "cache").pixels.view(12, 180, 200, 3).numpy()
    for name, frame in (("one", frames[3]), ("truth", frames[4]), ("two", frames[5])):
        pictures.write(tmp_path / f"{name}.png", pictures.Picture(frame))
    words = ["--one", tmp_path / "one.png", "--two", tmp_path / "two.png", "--out", tmp_path / "out.png"]
    assert run.main([*map(str, words), "--weights", str(out / "trained-l1.safetensors")]) == 0
    average = (frames[3].astype(float) + frames[5]) / 2
    assert psnr(pictures.read(tmp_path / "out.png").pixels, frames[4]) > psnr(average, frames[4]) + 0.5


def test_validation_is_one_number(trained, film, tmp_path, capsys):
    out, _ = trained
    (tmp_path / "text.mp4").write_text("this is no video")
    weights = str(out / "trained-l1.safetensors")
    assert train.main(["--validate", weights, "--data", str(film), "--data", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    frames = Footage([film], tmp_path / "cache").pixels.view(12, 180, 200, 3).permute(0, 3, 1, 2)
    network = load_network(weights=weights)
    with torch.inference_mode():
        one, two = (frames[[t]].flip(1).float() / 255 for t in (0, 2))
        between = (255 * network(one, two)).round().clamp(0, 255).flip(1)
    expected = 10 * math.log10(255**2 / (between - frames[1]).square().mean().item())
    assert re.search(r"film.mp4 +1 triplets +([\d.]+) dB", printed.out)[1] == f"{expected:.3f}"
    assert re.search(r"mean of 1 clips +([\d.]+) dB", printed.out)[1] == f"{expected:.3f}"
    assert re.fullmatch(r"skipped: .*text.mp4 is no video .*\n", printed.err)


def test_validation_takes_every_fifteenth(make_clip, moving_frames):
    frames = moving_frames(40, 64, 64)
    frames[16] = frames[15]  # shown twice
    frames[20:] //= 3  # a cut
    found = list(train.validation_triplets(make_clip("clip.mp4", frames)))
    assert len(found) == 2
    for triplet, t in zip(found, (0, 30), strict=True):
        assert np.array_equal(triplet, frames[t : t + 3])


def test_the_picture_of_the_log(trained):
    """Curves where there should be some: blue ones, and the grey one of averaging."""
    picture = np.array(Image.open(trained[0] / "trained-l1.png")).astype(int)
    blue = (picture[..., 2] > picture[..., 0] + 60).reshape(3, -1).sum(axis=1)
    assert picture.shape == (720, 900, 3)
    assert (blue > 20).all()


def test_crops_with_surroundings(published_file, noise):
    """What surrounds a crop is reached into and not seen: as if frames ended where the replicated edges begin."""
    network = load_network(weights=published_file)
    one, two = (torch.from_numpy(noise(128, 128, seed=seed)).permute(2, 0, 1)[None] for seed in (1, 2))
    around = [F.pad(frame, [REACH] * 4, mode="replicate") for frame in (one, two)]
    with torch.inference_mode():
        assert torch.equal(network(*around, surrounded=True), network(one, two))
        around[0][..., :REACH, :] += 1
        assert (network(*around, surrounded=True) - network(one, two)).abs().amax(dim=(0, 1, 3))[0] > 0.01


def test_frames_cut_ahead_are_the_same(film, tmp_path):
    batches = Batches(Footage([film], tmp_path), crop=32, synthetic=0.5)
    here, elsewhere = torch.device("cpu"), torch.device("meta")
    ahead = train.Feed(batches, elsewhere, 4, 2, 2)
    assert ahead.thread
    ahead.device = here  # a device that keeps nothing shows nothing
    assert batches.device != here
    for step in (0, 1, 2, 7, 8):
        assert all(map(torch.equal, ahead(step), batches(step, 4, 2, 4)))


# --- Stopping and going on ---


def stopped_after(step, words, number):
    """Status, remaining output and errors of a program that gets a signal when it has reported a step."""
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if f"  step {step}  " in line:
                process.send_signal(number)
                break
        rest, errors = process.communicate()
    return process.returncode, rest, errors


def test_a_resumed_run_is_the_uninterrupted_one(film, tmp_path):
    """Bit for bit, after SIGTERM in the middle."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train.main(command(film, whole, "--steps", 5, "--synthetic", 0.5)[1:]) == 0
    words = [sys.executable, *command(film, parts, "--steps", 5, "--synthetic", 0.5)]
    status, rest, errors = stopped_after(2, words, signal.SIGTERM)
    assert status == 128 + signal.SIGTERM
    assert errors == ""
    stopped = int(re.search(r"stopped at step (\d)", rest)[1])
    assert 2 <= stopped < 5
    assert train.main(["--data", str(film), "--out", str(parts), "--resume", "--device", "cpu", "--report", "0"]) == 0
    expected, found = tensors(whole), tensors(parts)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    for out in (whole, parts):
        with open(out / "trained-l1.csv", newline="") as file:
            assert [row["step"] for row in csv.DictReader(file)] == list("12345")


def test_ctrl_c_leaves_a_checkpoint(film, tmp_path):
    words = [sys.executable, *command(film, tmp_path, "--minutes", 10)]
    status, rest, errors = stopped_after(1, words, signal.SIGINT)
    assert (status, errors) == (130, "error: interrupted\n")
    assert "stopped at step" in rest
    checkpoint = trainer.read_checkpoint(tmp_path / "trained-l1.checkpoint")
    assert checkpoint["recipe"]["minutes"] == 10
    assert 0 < checkpoint["trained"] < checkpoint["spent"] < 600
    assert not list(tmp_path.rglob("*.part"))


def test_minutes_are_kept(film, tmp_path, capsys):
    """The budget is for everything, and the schedule ends with it."""
    assert train.main(command(film, tmp_path, "--minutes", 0.25, "--report", 2)[1:]) == 0
    last = capsys.readouterr().out.splitlines()[-2]
    assert 0.2 < float(re.match(r" *([\d.]+) min  step", last)[1]) < 0.6
    with open(tmp_path / "trained-l1.csv", newline="") as file:
        rates = [float(row["learning_rate"]) for row in csv.DictReader(file)]
    assert rates[-1] < 0.2 * max(rates)


def test_gradients_that_are_not_finite(film, tmp_path, capsys):
    """A learning rate that breaks everything: such steps are skipped, and three reports of them end the run."""
    assert train.main(command(film, tmp_path, "--steps", 40, "--learning-rate", 1, "--checkpoint", 0)[1:]) == 1
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert all("1 steps skipped: gradients not finite" in line for line in lines[-3:])
    assert "skipped" not in lines[-4]
    assert re.fullmatch(r"error: the gradients were not finite in 3 reports in a row: the last good .*\n", printed.err)
    good = trainer.read_checkpoint(tmp_path / "trained-l1.checkpoint")["step"]
    assert f"  step {good}  " in lines[-4]
    load_network(weights=tmp_path / "trained-l1.safetensors")


# --- Several processes ---


def torchrun(count):
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]


def test_two_processes_are_one_with_twice_the_batch(film, tmp_path):
    alone, together = tmp_path / "alone", tmp_path / "together"
    steps = ["--steps", 3, "--synthetic", 0.5, "--learning-rate", 1e-4]
    assert train.main(command(film, alone, *steps, "--batch", 4)[1:]) == 0
    done = subprocess.run(
        [*torchrun(2), *command(film, together, *steps)], cwd=ROOT, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert "2 x 2 crops" in done.stdout
    assert done.stdout.count("  step 3  ") == 1  # one of them speaks
    start = trainer.averaging_network(0).state_dict()
    expected, found = tensors(alone), tensors(together)
    for name, tensor in start.items():  # rounding is all that differs, but Adam makes much of it
        way, other = ((weights[f"network.{name}"] - tensor).flatten() for weights in (expected, found))
        assert torch.nn.functional.cosine_similarity(way, other, dim=0) > 0.99
    moments = [name for name in expected if name.startswith("exp_avg of")]
    assert len(moments) == len(start)
    for name in moments:
        assert (expected[name] - found[name]).norm() < 1e-2 * expected[name].norm()


def test_a_process_that_dies_ends_the_run(film, tmp_path):
    words = [*torchrun(2), *command(film, tmp_path, "--minutes", 10)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as launcher:
        for line in launcher.stdout:
            if "  step 2  " in line:
                break
        children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(launcher.pid)], capture_output=True, text=True)
        os.kill(int(children.stdout.split()[-1]), signal.SIGKILL)
        launcher.communicate(timeout=30)
    assert launcher.returncode not in (0, None)


def test_who_is_alone_agrees_with_itself():
    with Ranks() as ranks:
        assert (ranks.rank, ranks.count, ranks.first) == (0, 1, True)
        assert ranks.agree(0.25, False) == (0.25, False)


# --- Sharper details ---


def test_lf(film, tmp_path, capsys):
    """From the bundled l1 weights: a few steps bring features closer."""
    assert train.main(command(film, tmp_path, "--model", "lf", "--steps", 4)[1:]) == 0
    printed = capsys.readouterr().out
    assert "lf: features of efficientnet-lite0 + 0 L1, 4 steps, from bundled" in printed
    start, end = load_network("l1"), load_network(weights=tmp_path / "trained-lf.safetensors")
    changes = [(one - two).abs().max() for one, two in zip(start.parameters(), end.parameters(), strict=True)]
    assert 0 < max(changes) < 0.01


# --- What is refused ---


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "x"], "--out is missing"),
        (["--data", "x", "--out", "y", "--crop", "100"], "--crop 100 is not a multiple of 32"),
        (["--data", "x", "--out", "y", "--minutes", "nan"], "'nan' is not a number of 0.01 or more"),
        (["--data", "x", "--out", "y", "--steps", "1.5"], "'1.5' is not a whole number of 1 or more"),
        (["--data", "x", "--out", "y", "--synthetic", "2"], "'2' is not a number from 0 to 1"),
        (["--data", "x", "--out", "y", "--steps", "1", "--minutes", "1"], "not allowed with"),
        (["--data", "x", "--validate", "w", "--batch", "3"], "--batch is for training, not for --validate"),
    ],
)
def test_bad_usage(words, message, capsys):
    with pytest.raises(SystemExit) as error:
        train.main(words)
    assert error.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "nowhere"], "there is no folder nowhere"),
        (["--data", "empty"], "empty holds no video"),
        (["--held-out", "FILM"], "film.mp4 is in --data and in --held-out"),
        (["--crop", "160"], "all frames are too small: --crop 160 needs 210 pixels"),
        (["--start", "published.pytorch"], "these weights know no normalization"),
        (["--start", "none.safetensors"], "none.safetensors: no such file or directory"),
        (["--device", "cuda:99"], "device 'cuda:99' is not there"),
        (["--model", "lf", "--crop", "32", "--features", "none.pth"], "--features none.pth: no such file or directory"),
        (["--cache", "text"], "text: file exists"),
        (["--resume", "--out", "damaged"], "damaged/trained-l1.checkpoint is damaged"),
        (["--out", "damaged"], "trained-l1.checkpoint is there already: go on with --resume, or name another --out"),
    ],
)
def test_bad_data(film, published_file, tmp_path, monkeypatch, capfd, options, message):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("damaged").mkdir()
    Path("damaged/trained-l1.checkpoint").write_text("no checkpoint")
    Path("text").touch()
    Path("published.pytorch").symlink_to(published_file)
    options = [str(film) if word == "FILM" else word for word in options]
    data = [] if "--data" in options else ["--data", str(film)]
    out = [] if "--out" in options else ["--out", "out"]
    assert train.main([*data, *out, "--device", "cpu", *options]) == 1
    error = capfd.readouterr().err
    assert re.fullmatch(f"error: .*{re.escape(message)}.*\n", error)


def test_help_explains_every_default(capsys):
    with pytest.raises(SystemExit):
        train.main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for name, value in train.RECIPE.items():
        assert f"--{name.replace('_', '-')}" in text
        assert value is None or f"default: {value}" in text


# --- A machine with less ---


def test_rehearsal(film, tmp_path):
    """rehearsal.sh from end to end, in two calls, where neither PyAV nor safetensors nor anything but the least is."""
    missing = ("av", "pyvips", "PIL", "safetensors", "tqdm", "moviepy")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({missing}))\n")
    environment = os.environ | {
        "PYTHONPATH": str(tmp_path / "site"), "KEEP": str(tmp_path / "kept"), "PYTHON": sys.executable,
    }  # fmt: skip

    def rehearse(*words):
        done = subprocess.run(
            ["bash", str(ROOT / "rehearsal.sh"), *map(str, words)], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert re.search(r"cpu, PyTorch .* errors", rehearse("check"))
    rehearse("keep", "train", film)
    assert "  step 1  " in rehearse("train", *TINY, "--steps", 4, "--report", 0)
    stopped = int(re.findall(r"step (\d)", rehearse("stop"))[-1])
    rehearse("train", "--report", 0)
    log = rehearse("watch", 60)
    assert f"from step {stopped}" in log
    assert "  step 4  " in log
    rehearse("take", tmp_path / "taken")
    parts = sorted((tmp_path / "taken").glob("trained-l1.safetensors.*"))
    assert len(parts) == 3
    (tmp_path / "joined").write_bytes(b"".join(part.read_bytes() for part in parts))
    assert load_network(weights=tmp_path / "joined").kernel_normalization
    assert (tmp_path / "taken" / "trained-l1.csv").exists()
