"""train.py: runs that are stopped or resumed, damaged files, and full disks."""

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers.training import ROOT, command, stopped_after, tensors
from safetensors import safe_open

import train
from vfi.errors import DataError
from vfi.files import locked
from vfi.training import loop, trainer
from vfi.training.checkpoints import read_checkpoint
from vfi.training.distributed import Processes
from vfi.training.recipe import Recipe
from vfi.weights import load_network


def test_a_resumed_run_equals_an_uninterrupted_one(film, tmp_path):
    """After SIGTERM and --resume, the weights are bit for bit those of an uninterrupted run."""
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
        for step, row in enumerate(rows):  # even in a short run, the rate rises slowly at first
            rate = 5e-4 * trainer.schedule((step + 0.5) / 5) * (step + 1) / trainer.FIRST_STEPS
            assert float(row["learning_rate"]) == pytest.approx(rate, rel=1e-4)


def test_ctrl_c_leaves_a_checkpoint(film, tmp_path):
    words = [sys.executable, *command(film, tmp_path, "--minutes", 10)]
    status, rest, errors = stopped_after(1, words, signal.SIGINT)
    assert (status, errors) == (130, "error: interrupted\n")
    assert "stopped at step" in rest
    checkpoint = read_checkpoint(tmp_path / "trained-l1.checkpoint")
    assert checkpoint["recipe"]["minutes"] == 10
    assert 0 < checkpoint["trained"] < checkpoint["spent"] < 600
    assert not list(tmp_path.rglob("*.part"))


def test_minutes_limit_the_run(film, tmp_path, capsys):
    """The limit covers the whole run, and the learning rate has fallen when it is reached."""
    assert train.main(command(film, tmp_path, "--minutes", 0.25, "--report", 2)[1:]) == 0
    last = capsys.readouterr().out.splitlines()[-2]
    assert 0.2 < float(re.match(r" *([\d.]+) min  step", last)[1]) < 0.6
    with open(tmp_path / "trained-l1.csv", newline="") as file:
        rates = [float(row["learning_rate"]) for row in csv.DictReader(file)]
    assert rates[-1] < 0.2 * max(rates)


def test_too_few_minutes_are_reported(film, tmp_path):
    """No weights are written. The decoded videos are kept for the next run."""
    options = train.run_options(train.parse(command(film, tmp_path / "out", "--minutes", 0.5)[1:]))
    with pytest.raises(DataError, match=r"the 0\.5 minutes were over before the first step"):
        loop.train(options, time.monotonic() - 60)
    assert (tmp_path / "out" / "frames").exists()
    assert not [path for path in (tmp_path / "out").iterdir() if path.suffix in (".safetensors", ".checkpoint")]


def test_steps_with_gradients_that_are_not_finite(film, tmp_path, capsys):
    """The learning rate is far too high. Such steps are skipped, and after three reports of them the run ends."""
    assert train.main(command(film, tmp_path, "--steps", 40, "--learning-rate", 1, "--checkpoint", 0)[1:]) == 1
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert all("1 steps skipped: gradients not finite" in line for line in lines[-3:])
    assert "skipped" not in lines[-4]
    assert re.fullmatch(r"error: the gradients were not finite in 3 reports in a row: the last good .*\n", printed.err)
    good = read_checkpoint(tmp_path / "trained-l1.checkpoint")["step"]
    assert f"  step {good}  " in lines[-4]
    load_network(weights=tmp_path / "trained-l1.safetensors")


@pytest.mark.parametrize(
    ("more", "kept"), [([], "none were written"), (["--checkpoint", 0], "those of step 1 are in out/trained-l1.safe")]
)
def test_last_gradients_that_are_not_finite(film, tmp_path, monkeypatch, capsys, more, kept):
    """If the last steps were skipped, the final weights are not written, because they are not fully trained."""
    monkeypatch.chdir(tmp_path)
    assert train.main(command(film, "out", "--steps", 2, "--learning-rate", 1, *more)[1:]) == 1
    printed = capsys.readouterr()
    assert f"such weights are not kept: {kept}" in printed.err
    assert "step 2" in printed.out.splitlines()[-1]
    assert "1 steps skipped" in printed.out.splitlines()[-1]
    assert Path("out/trained-l1.safetensors").exists() == bool(more)


def test_float16_resumes_from_another_precision(trained):
    """It starts with its own loss scale. Without one, small gradients would become zero."""
    checkpoint = read_checkpoint(trained[0] / "trained-l1.checkpoint")
    network = trainer.averaging_network(seed=0)
    recipe = Recipe(precision="float16", learning_rate=1e-3, average=0.9)
    going_on = trainer.Trainer(network, torch.device("cpu"), recipe, Processes())
    going_on.load(checkpoint)
    assert going_on.step == 120
    assert going_on.scaler.get_scale() == trainer.FIRST_SCALE


def test_folder_names_that_are_not_utf8(film, tmp_path):
    """Such names come from systems with another encoding."""
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    try:
        shutil.copytree(film, folder)
    except OSError:
        pytest.skip("this file system accepts only names in UTF-8")
    assert train.main(command(folder, folder / "out", "--steps", 1)[1:]) == 0
    shutil.move(folder / "out" / "trained-l1.safetensors", tmp_path)  # safetensors reads only names in UTF-8
    with safe_open(tmp_path / "trained-l1.safetensors", "pt") as file:
        assert file.metadata()["training_data"] == r"1 clip (caf\udce9)"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot lock folders")
def test_the_folder_of_another_run_is_refused(film, tmp_path, capsys):
    with locked(tmp_path):
        assert train.main(command(film, tmp_path, "--steps", 1)[1:]) == 1
    assert capsys.readouterr().err == f"error: another run writes to {tmp_path}: name another --out\n"
    assert list(tmp_path.iterdir()) == []


def test_damaged_files_are_reported_before_resuming(film, tmp_path, capsys):
    assert train.main(command(film, tmp_path, "--steps", 1)[1:]) == 0
    again = command(film, tmp_path, "--resume", "--steps", 2)[1:]
    log, checkpoint = tmp_path / "trained-l1.csv", tmp_path / "trained-l1.checkpoint"
    whole = log.read_text()
    for damaged in (whole.replace(",", ";"), "junk,1\n", ""):  # the first is what a spreadsheet may save
        log.write_text(damaged)
        assert train.main(again) == 1
        line = f"error: {log} is damaged, or is not the log of a training run: repair or remove it\n"
        assert capsys.readouterr().err == line
        assert log.read_text() == damaged
    log.write_text(whole)
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 1  # in the middle of some weights
    checkpoint.write_bytes(content)
    assert train.main(again) == 1
    assert capsys.readouterr().err == (
        f"error: {checkpoint} is damaged, or is not a checkpoint of a training run: "
        "name another --out, or remove it to begin anew\n"
    )


def test_resuming_a_finished_run_is_reported(film, tmp_path, capsys):
    assert train.main(command(film, tmp_path, "--steps", 1)[1:]) == 0
    capsys.readouterr()
    assert train.main(command(film, tmp_path, "--resume")[1:]) == 0
    last = capsys.readouterr().out.splitlines()[-2:]
    assert last == [
        "nothing was left to do of 1 step: --resume with more --steps goes on", str(tmp_path / "trained-l1.safetensors")
    ]  # fmt: skip


def test_weights_list_all_their_sources(film, tmp_path):
    shutil.copytree(film, tmp_path / "more")
    for out, *options in (
        ("one", "--steps", 1),
        ("one", "--steps", 3, "--resume"),
        ("one", "--steps", 3, "--crop", 64, "--resume"),  # no steps are left, so nothing is trained
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


def test_resume_starts_a_new_run_only_with_auto(film, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert train.main(command(film, "out", "--resume", "--steps", 1)[1:]) == 1
    assert capsys.readouterr().err == (
        "error: there is no out/trained-l1.checkpoint: nothing to go on from; leave out --resume to begin\n"
    )
    assert not Path("out").exists()
    for steps, what in ((1, "1 step, from averaging"), (2, "2 steps, from step 1")):
        assert train.main(command(film, "out", "--resume", "auto", "--steps", steps)[1:]) == 0
        assert f"l1: L1, {what}\n" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot limit the size of files")
@pytest.mark.parametrize(
    ("most", "what", "left"),
    [
        (1, "--cache {}/out/frames: file too large; name another folder, with room for the decoded frames", []),
        (100, "{}/out/trained-l1.checkpoint: file too large", [".safetensors"]),
    ],
    ids=["decoding", "checkpoint"],
)
def test_a_full_disk(film, tmp_path, most, what, left):
    """A limit of the file size (MiB) stands for it: one error line, no partial files, and the weights if they fit."""
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
