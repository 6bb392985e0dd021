"""train.py from end to end: that it learns, goes on exactly where it stopped, and is the same with two processes."""

import csv
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.clips import write_clip
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

import run
import train
from vfi import pictures
from vfi.files import locked
from vfi.network import REACH
from vfi.training import distributed as ranks
from vfi.training import trainer
from vfi.training.batches import Batches
from vfi.training.clips import Footage
from vfi.training.distributed import Ranks
from vfi.training.losses import LITE, FeatureDistance
from vfi.weights import load_network

ROOT = Path(__file__).parent.parent.parent
TINY = ["--crop", "32", "--batch", "2", "--precision", "float32", "--device", "cpu"]


@pytest.fixture(scope="session")
def film(tmp_path_factory, moving_frames):
    """A folder with one short clip of a texture that moves by five pixels from frame to frame."""
    folder = tmp_path_factory.mktemp("film")
    write_clip(folder / "film.mp4", moving_frames(12, 180, 200, step=5))
    return folder


@pytest.fixture(scope="session")
def frames(noise):
    """Three of a small grey clip, whose texture moves aslant by three pixels: one crop, turned and mirrored."""
    picture = (255 * noise(91, 91)).astype(np.uint8)[..., :1].repeat(3, axis=2)
    return np.stack([picture[3 * t :, 3 * t :][:82, :82] for t in range(3)])


@pytest.fixture(scope="session")
def trained(frames, tmp_path_factory):
    """A run that learns those frames by heart; returns its folder, that of the clip, and what it printed."""
    folder = tmp_path_factory.mktemp("trained")
    for name in ("film", "held out"):
        write_clip(folder / name / f"{name}.mp4", frames)
    words = ["--data", "film", "--out", "run", "--held-out", "held out", "--steps", "120", "--batch", "4"]
    words += ["--crop", "32", "--learning-rate", "1e-3", "--average", "0.9", "--report", "5"]
    command = [sys.executable, str(ROOT / "train.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.stderr == ""
    assert done.returncode == 0
    return folder / "run", folder / "film", done.stdout


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


def test_it_learns(trained):
    """What it prints and logs of it: of the last steps, clearly below averaging."""
    out, _, printed = trained
    with open(out / "trained-l1.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["error"]) < 0.6 * float(rows[-1]["averaging"])
    assert int(rows[-1]["step"]) == 120
    assert int(rows[-1]["samples"]) == 480
    assert float(rows[-1]["proxy_psnr"]) > 10
    assert all(0 <= float(row["data_share"]) <= 1 and row["skipped"] == "0" for row in rows)
    assert printed.splitlines()[-1] == str(Path("run", "trained-l1.safetensors"))
    assert re.search(r"1 clip, 1 scene, 3 frames, 1 triplet;", printed)
    assert "error" in printed
    assert "held-out crops" in printed


def test_weights_are_what_run_takes(trained, frames, tmp_path):
    """And what is shipped, the averaged weights in 16 bits, has learned it too."""
    for name, frame in zip(("one", "truth", "two"), frames, strict=True):
        pictures.write(tmp_path / f"{name}.png", pictures.Picture(frame))
    words = ["--one", tmp_path / "one.png", "--two", tmp_path / "two.png", "--out", tmp_path / "out.png"]
    assert run.main([*map(str, words), "--weights", str(trained[0] / "trained-l1.safetensors")]) == 0
    average = (frames[0].astype(float) + frames[2]) / 2
    seen = slice(REACH, -REACH)  # of the frames, in training
    error, simple = (
        np.abs(picture - frames[1])[seen, seen].mean()
        for picture in (pictures.read(tmp_path / "out.png").pixels.astype(float), average)
    )
    assert error < 0.7 * simple


def test_validation_is_one_number(trained, frames, tmp_path, capsys):
    out, film, _ = trained
    (tmp_path / "text.mp4").write_text("this is no video")
    weights = str(out / "trained-l1.safetensors")
    words = ["--validate", weights, "--data", str(film), "--data", str(tmp_path), "--features", LITE]
    assert train.main(words) == 0
    printed = capsys.readouterr()
    network = load_network(weights=weights)
    with torch.inference_mode():
        one, truth, two = torch.from_numpy(frames).permute(0, 3, 1, 2).float().split(1)
        between = (255 * network(one.flip(1) / 255, two.flip(1) / 255)).round().clamp(0, 255).flip(1)
    expected = 10 * math.log10(255**2 / (between - truth).square().mean().item())
    distance = FeatureDistance(LITE)(between.flip(1) / 255, truth.flip(1) / 255).item()
    for name in (r"film.mp4 +1 triplet", "mean of 1 clip"):
        found = re.search(rf"{name} +([\d.]+) dB +([\d.]+)$", printed.out, re.M)
        assert found.groups() == (f"{expected:.3f}", f"{distance:.5f}")
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
        assert torch.equal(network(*around, has_context=True), network(one, two))
        around[0][..., :REACH, :] += 1
        assert (network(*around, has_context=True) - network(one, two)).abs().amax(dim=(0, 1, 3))[0] > 0.01


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
            rows = list(csv.DictReader(file))
        assert [row["step"] for row in rows] == list("12345")
        for step, row in enumerate(rows):  # short as it is, the run begins gently
            rate = 5e-4 * trainer.schedule((step + 0.5) / 5) * (step + 1) / trainer.FIRST_STEPS
            assert float(row["learning_rate"]) == pytest.approx(rate, rel=1e-4)


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


def test_minutes_that_are_too_few(film, tmp_path):
    """Nothing is written that could be taken for weights, and the videos need not be decoded again."""
    options = train.parse(command(film, tmp_path / "out", "--minutes", 0.5)[1:])
    with pytest.raises(train.DataError, match=r"the 0\.5 minutes were over before the first step"):
        train.train(options, time.monotonic() - 60)
    assert (tmp_path / "out" / "frames").exists()
    assert not [path for path in (tmp_path / "out").iterdir() if path.suffix in (".safetensors", ".checkpoint")]


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


@pytest.mark.parametrize(
    ("more", "kept"), [([], "none were written"), (["--checkpoint", 0], "those of step 1 are in out/trained-l1.safe")]
)
def test_last_steps_whose_gradients_are_not_finite(film, tmp_path, monkeypatch, capsys, more, kept):
    """What stands at the end is not what was trained to the end, and nobody is to take it for that."""
    monkeypatch.chdir(tmp_path)
    assert train.main(command(film, "out", "--steps", 2, "--learning-rate", 1, *more)[1:]) == 1
    printed = capsys.readouterr()
    assert f"such weights are not kept: {kept}" in printed.err
    assert "step 2" in printed.out.splitlines()[-1]
    assert "1 steps skipped" in printed.out.splitlines()[-1]
    assert Path("out/trained-l1.safetensors").exists() == bool(more)


def test_float16_goes_on_from_another_precision(trained):
    """With a scale of its own: that of the loss without one would lose the small gradients."""
    checkpoint = trainer.read_checkpoint(trained[0] / "trained-l1.checkpoint")
    network = trainer.averaging_network(seed=0)
    going_on = trainer.Trainer(network, torch.device("cpu"), "float16", Ranks(), 1e-3, 0.9, 4.0)
    going_on.load(checkpoint)
    assert going_on.step == 120
    assert going_on.scaler.get_scale() == trainer.FIRST_SCALE


def test_names_of_folders_that_are_no_text(film, tmp_path):
    """Of files that another system has named in another encoding."""
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    try:
        shutil.copytree(film, folder)
    except OSError:
        pytest.skip("this file system takes names in UTF-8 only")
    assert train.main(command(folder, folder / "out", "--steps", 1)[1:]) == 0
    shutil.move(folder / "out" / "trained-l1.safetensors", tmp_path)  # safetensors takes names in UTF-8 only
    with safe_open(tmp_path / "trained-l1.safetensors", "pt") as file:
        assert file.metadata()["training_data"] == r"1 clip (caf\udce9)"


@pytest.mark.skipif(sys.platform == "win32", reason="folders are not held there")
def test_a_folder_that_another_run_writes_to(film, tmp_path, capsys):
    with locked(tmp_path):
        assert train.main(command(film, tmp_path, "--steps", 1)[1:]) == 1
    assert capsys.readouterr().err == f"error: another run writes to {tmp_path}: name another --out\n"
    assert list(tmp_path.iterdir()) == []


def test_damages_are_said_before_it_goes_on(film, tmp_path, capsys):
    assert train.main(command(film, tmp_path, "--steps", 1)[1:]) == 0
    again = command(film, tmp_path, "--resume", "--steps", 2)[1:]
    log, checkpoint = tmp_path / "trained-l1.csv", tmp_path / "trained-l1.checkpoint"
    whole = log.read_text()
    for damaged in (whole.replace(",", ";"), "junk,1\n", ""):  # the first as a spreadsheet may have saved it
        log.write_text(damaged)
        assert train.main(again) == 1
        line = f"error: {log} is no log of a training any more: remove it, or put it right\n"
        assert capsys.readouterr().err == line
        assert log.read_text() == damaged
    log.write_text(whole)
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 1  # in the midst of some weights
    checkpoint.write_bytes(content)
    assert train.main(again) == 1
    assert capsys.readouterr().err == (
        f"error: {checkpoint} is damaged, or no checkpoint of a training: name another --out, or remove it to begin "
        "anew\n"
    )


def test_what_was_over_is_said(film, tmp_path, capsys):
    assert train.main(command(film, tmp_path, "--steps", 1)[1:]) == 0
    capsys.readouterr()
    assert train.main(command(film, tmp_path, "--resume")[1:]) == 0
    last = capsys.readouterr().out.splitlines()[-2:]
    assert last == [
        "nothing was left to do of 1 step: --resume with more --steps goes on", str(tmp_path / "trained-l1.safetensors")
    ]  # fmt: skip


def test_weights_say_all_that_they_come_from(film, tmp_path):
    shutil.copytree(film, tmp_path / "more")
    for out, *options in (
        ("one", "--steps", 1),
        ("one", "--steps", 3, "--resume"),
        ("one", "--steps", 3, "--crop", 64, "--resume"),  # of which nothing comes
        ("one", "--steps", 4, "--batch", 3, "--resume"),
        ("one", "--steps", 6, "--data", tmp_path / "more", "--resume"),
        ("two", "--steps", 1, "--start", tmp_path / "one" / "trained-l1.safetensors"),
        ("three", "--steps", 1, "--start", "bundled"),
    ):
        assert train.main(command(film, tmp_path / out, *options)[1:]) == 0
        if 64 in options:
            with safe_open(tmp_path / out / "trained-l1.safetensors", "pt") as file:
                assert file.metadata()["training"] == "3 steps of 2 crops of 32 x 32 pixels"
    found = {}
    for out in ("one", "two", "three"):
        with safe_open(tmp_path / out / "trained-l1.safetensors", "pt") as file:
            found[out] = file.metadata()
    crops = "of 32 x 32 pixels"
    film_data, all_data = f"1 clip ({film.name})", f"2 clips ({film.name}, more)"
    parts = [f"3 steps of 2 crops {crops}", f"1 step of 3 crops {crops}", f"2 steps of 2 crops {crops}"]
    assert found["one"]["training"] == ", then ".join(parts)
    assert found["one"]["training_data"] == f"{film_data}; {all_data}"
    assert found["two"]["training"] == ", then ".join([*parts, f"1 step of 2 crops {crops}"])
    assert found["two"]["training_data"] == f"{film_data}; {all_data}"
    assert found["three"]["training_data"].endswith(f"listed with their licences in weights/README.md; {film_data}")


def test_resume_begins_only_where_it_is_told_to(film, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert train.main(command(film, "out", "--resume", "--steps", 1)[1:]) == 1
    assert capsys.readouterr().err == (
        "error: there is no out/trained-l1.checkpoint: nothing to go on from; leave out --resume to begin\n"
    )
    assert not Path("out").exists()
    for steps, what in ((1, "1 step, from averaging"), (2, "2 steps, from step 1")):
        assert train.main(command(film, "out", "--resume", "auto", "--steps", steps)[1:]) == 0
        assert f"l1: L1, {what}\n" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform == "win32", reason="files have no largest size there")
@pytest.mark.parametrize(
    ("most", "what", "left"),
    [
        (1, "--cache {}/out/frames: file too large; name another folder, with room for the decoded frames", []),
        (100, "{}/out/trained-l1.checkpoint: file too large", [".safetensors"]),
    ],
    ids=["decoding", "checkpoint"],
)
def test_a_full_disk(film, tmp_path, most, what, left):
    """As far as a largest size of files, in MiB, is one: a line, nothing half-written, and weights if they fit."""
    limited = ["bash", "-c", f'ulimit -f {most * 1024} && exec "$@"', "-", sys.executable]
    words = command(film, tmp_path / "out", "--steps", 1)
    done = subprocess.run([*limited, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == f"error: {what.format(tmp_path)}\n"
    files = [path for path in (tmp_path / "out").glob("*") if path.is_file()]
    assert sorted(path.suffix for path in files) == left
    assert not list(tmp_path.rglob(".*"))
    if left:
        load_network(weights=tmp_path / "out" / "trained-l1.safetensors")
    else:
        assert not (tmp_path / "out").exists()


# --- Several processes ---


def torchrun(count):
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]


# train.py in float64: samples are made in float32, where they are the same whoever makes them.
EXACT = """
import sys
import torch
import train
from vfi.training.batches import Batches

class Exact(Batches):
    def __call__(self, *arguments):
        torch.set_default_dtype(torch.float32)
        samples = super().__call__(*arguments)
        torch.set_default_dtype(torch.float64)
        return [frames.double() for frames in samples]

torch.set_default_dtype(torch.float64)
train.Batches = Exact
sys.exit(train.main())
"""


def test_two_processes_are_one_with_twice_the_batch(film, tmp_path):
    """To rounding, which in float64 can be told from anything else.

    Sums in another order differ by 1e-16, and AdamW, which divides small gradients by their own size, makes at most
    2e-13 of that in four steps; in float32 it makes of 1e-7 anything from 2e-5 to 6e-2, by the learning rate.
    """
    (tmp_path / "exact.py").write_text(EXACT)
    alone, together = tmp_path / "alone", tmp_path / "together"
    program = [str(tmp_path / "exact.py")]
    steps = ["--steps", 4, "--synthetic", 0.5, "--learning-rate", 3e-3]
    for launcher, out, batch, what in (([sys.executable], alone, 4, "1 x 4"), (torchrun(2), together, 2, "2 x 2")):
        words = [*launcher, *program, *command(film, out, *steps, "--batch", batch)[1:]]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert f"{what} crops" in done.stdout
        assert done.stdout.count("  step 4  ") == 1  # one of them speaks
    expected, found = (trainer.read_checkpoint(out / "trained-l1.checkpoint") for out in (alone, together))
    for part in ("network", "averaged"):
        for name, tensor in expected[part].items():
            assert tensor.dtype == torch.float64
            assert (tensor - found[part][name]).norm() < 1e-11 * tensor.norm()
    moments = [state["optimizer"]["state"] for state in (expected, found)]
    assert len(moments[0]) == len(expected["network"])
    for index, state in moments[0].items():
        for name in ("exp_avg", "exp_avg_sq"):
            assert state[name].norm() > 0
            assert (state[name] - moments[1][index][name]).norm() < 1e-9 * state[name].norm()


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


@pytest.mark.parametrize("address", [{}, {"MASTER_ADDR": "localhost", "MASTER_PORT": "0"}])
def test_processes_that_do_not_find_one_another(monkeypatch, address):
    monkeypatch.setattr(ranks, "GATHERING", timedelta(seconds=1))
    for name, value in ({"WORLD_SIZE": "2"} | address).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ranks.DataError, match="the 2 processes of this run have not found one another"), Ranks():
        pass


def test_who_is_alone_agrees_with_itself():
    with Ranks() as ranks:
        assert (ranks.rank, ranks.count, ranks.first) == (0, 1, True)
        assert ranks.agree(0.25, False) == (0.25, False)


# --- Sharper details ---


def test_lf_begins_with_the_bundled_l1(film, tmp_path, capsys):
    assert train.main(command(film, tmp_path, "--model", "lf", "--steps", 4)[1:]) == 0
    assert "lf: features of efficientnet-lite0 + 0 L1, 4 steps, from bundled" in capsys.readouterr().out
    start, end = load_network("l1"), load_network(weights=tmp_path / "trained-lf.safetensors")
    changes = [(one - two).abs().max() for one, two in zip(start.parameters(), end.parameters(), strict=True)]
    assert 0 < max(changes) < 0.01


def test_lf(trained, tmp_path, capsys):
    """From l1 weights: steps with the distance of features as their loss bring them closer."""
    run, film, _ = trained
    start = run / "trained-l1.safetensors"
    words = command(film, tmp_path, "--model", "lf", "--start", start, "--steps", 40, "--average", 0.5)
    assert train.main([*words[1:], "--learning-rate", "1e-3"]) == 0
    assert "lf: features of efficientnet-lite0 + 0 L1, 40 steps, from " in capsys.readouterr().out
    one, truth, two = Batches(Footage([film], tmp_path / "frames"), 32, plain=True)(0, 8)
    distance = FeatureDistance(LITE)
    with torch.no_grad():
        before, after = (
            distance(load_network(weights=weights)(one, two, has_context=True), truth).item()
            for weights in (start, tmp_path / "trained-lf.safetensors")
        )
    assert after < 0.7 * before


# --- What is refused ---


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "x"], "--out is missing"),
        (["--data", "x", "--out", "y", "--crop", "100"], "--crop 100 is not a multiple of 32"),
        (["--data", "x", "--out", "y", "--minutes", "nan"], "'nan' is not a number of 0.01 or more"),
        (["--data", "x", "--out", "y", "--steps", "1.5"], "'1.5' is not a whole number of 1 or more"),
        (["--data", "x", "--out", "y", "--synthetic", "2"], "'2' is not a number from 0 to 1"),
        (["--data", "x", "--out", "y", "--seed", "9" * 20], f"{'9' * 20!r} is not a whole number from 0 to 92233"),
        (["--data", "x", "--out", "y", "--batch", "9" * 20], f"{'9' * 20!r} is not a whole number from 1 to 65536"),
        (["--data", "x", "--validate", "w", "--compile"], "--compile is for training, not for --validate"),
        (["--data", "x", "--out", "y", "--steps", "1", "--minutes", "1"], "not allowed with"),
        (["--data", "x", "--validate", "w", "--batch", "3"], "--batch is for training, not for --validate"),
        (["--data", "x", "--out", "y", "--cache", "z/../y"], "--cache is --out"),
        (["--data", "x", "--out", "y", "--resume", "--start", "bundled"], "leave one of them out"),
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
        (
            ["--model", "lf", "--features", "none.pth"],
            "none.pth: no such file or directory; name torchvision's VGG-19, or",
        ),
        (["--cache", "text"], "--cache text: file exists; name another folder, with room for the decoded frames"),
        (["--out", "text"], "--out text: file exists; name another folder"),
        (["--out", "text/out"], "--out text/out: not a directory; name another folder"),
        (["--data", "text"], "text is not called as videos are (avi, "),
        (["--held-out", "still"], "of --held-out, nothing moves in these clips\n"),
        (["--data", "still"], "nothing moves in these clips: there is nothing to learn from"),
        (["--resume", "--out", "damaged"], "damaged/trained-l1.checkpoint is damaged"),
        (["--resume", "auto", "--out", "damaged"], "name another --out, or remove it to begin anew"),
        (["--out", "damaged"], "trained-l1.checkpoint is there already: go on with --resume, or name another --out"),
    ],
)
def test_bad_data(film, published_file, tmp_path, monkeypatch, capfd, options, message):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("damaged").mkdir()
    Path("damaged/trained-l1.checkpoint").write_text("no checkpoint")
    Path("text").touch()
    write_clip(Path("still/still.mp4"), np.full((6, 192, 192, 3), 99, np.uint8))
    Path("published.pytorch").symlink_to(published_file)
    options = [str(film) if word == "FILM" else word for word in options]
    data = [] if "--data" in options else ["--data", str(film)]
    out = [] if "--out" in options else ["--out", "out"]
    assert train.main([*data, *out, "--device", "cpu", *options]) == 1
    printed = capfd.readouterr()
    assert re.fullmatch(f"error: .*{re.escape(message)}(.*\n)?", printed.err)
    assert "crops of" not in printed.out  # of the plan
    assert [path.name for path in Path("out").rglob("*") if path.is_dir()] in ([], ["frames"])
    assert Path("out").exists() == ("decoding" in printed.out)  # what was decoded well is kept


def test_useless_clips_are_all_named(film, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    Path("videos").mkdir()
    for name in ("a.mp4", "b.avi"):
        Path("videos", name).write_text("this is no video")
    for data, status in ((["videos"], 1), (["videos", str(film)], 0)):
        words = [word for folder in data for word in ("--data", folder)]
        assert train.main([*words, "--out", "out", *TINY, "--steps", "1"]) == status
        lines = capfd.readouterr().err.splitlines()
        assert [re.match(r"skipped: videos/(.....) is no video", line)[1] for line in lines[:2]] == ["a.mp4", "b.avi"]
        assert lines[2:] == ["error: none of these clips is of use"] * status
        assert Path("out").exists() != status


def test_compiled(film, tmp_path, monkeypatch, capsys):
    """Where the compiler lacks one for C++, it is not there. Where it is, the same is learned."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    words = ["--steps", 2, "--compile"]
    done = subprocess.run([sys.executable, *command(film, tmp_path, *words)], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, list(tmp_path.iterdir())) == (1, [])
    expected = "error: --compile: PyTorch's compiler does not work here \\(.*no-such-compiler.*\\); leave it out\n"
    assert re.fullmatch(expected, done.stderr)
    monkeypatch.delenv("CXX")
    if not shutil.which("g++"):
        pytest.skip("no compiler for C++")
    for out, *more in (("plain", *words[:-1]), ("compiled", *words)):
        assert train.main(command(film, tmp_path / out, *more)[1:]) == 0
    plain, compiled = (tensors(tmp_path / out) for out in ("plain", "compiled"))
    for name, tensor in plain.items():
        assert (compiled[name].float() - tensor.float()).norm() <= 1e-3 * tensor.float().norm() + 1e-6, name


def test_help_explains_every_default(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")  # no word is broken at its hyphen
    with pytest.raises(SystemExit):
        train.main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for name, value in train.RECIPE.items():
        assert f"--{name.replace('_', '-')}" in text
        assert value is None or f"default: {value}" in text
