"""train.py learns, with L1 and with the distance of features; and --validate measures the result."""

import csv
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.training import command

import run
import train
from vfi import pictures
from vfi.network import REACH
from vfi.training import trainer, validation
from vfi.training.batches import Batches
from vfi.training.clips import Footage
from vfi.training.feed import Feed
from vfi.training.losses import LITE, FeatureDistance
from vfi.training.recipe import Sampling
from vfi.weights import load_network


def test_the_network_starts_by_averaging(noise):
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


def test_training_improves_on_averaging(trained):
    """The error that is logged for the last steps is clearly below that of averaging."""
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


def test_run_uses_the_trained_weights(trained, frames, tmp_path):
    """The written weights, which are averaged and have 16 bits, are better than averaging the frames, too."""
    for name, frame in zip(("one", "truth", "two"), frames, strict=True):
        pictures.write(tmp_path / f"{name}.png", pictures.Picture(frame))
    words = ["--one", tmp_path / "one.png", "--two", tmp_path / "two.png", "--out", tmp_path / "out.png"]
    assert run.main([*map(str, words), "--weights", str(trained[0] / "trained-l1.safetensors")]) == 0
    average = (frames[0].astype(float) + frames[2]) / 2
    seen = slice(REACH, -REACH)  # the part that was the crop in training
    error, simple = (
        np.abs(picture - frames[1])[seen, seen].mean()
        for picture in (pictures.read(tmp_path / "out.png").pixels.astype(float), average)
    )
    assert error < 0.7 * simple


def test_validation_prints_psnr_and_feature_distance(trained, frames, tmp_path, capsys):
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
    assert re.fullmatch(r"skipped: .*text.mp4 is not a video, .*\n", printed.err)


def test_validation_uses_every_15th_triplet(make_clip, moving_frames):
    """Triplets are counted from the start of the clip, also after a cut. Those with a repeated frame are left out."""
    frames = moving_frames(40, 64, 64)
    frames[16] = frames[15]  # a repeated frame
    frames[20:] //= 3  # a cut
    found = list(validation.triplets(make_clip("clip.mp4", frames)))
    assert len(found) == 2
    for triplet, t in zip(found, (0, 30), strict=True):
        assert np.array_equal(triplet, frames[t : t + 3])


def test_kernels_read_the_surroundings_of_crops(published_file, noise):
    """The kernels read pixels around a crop, but the network computes them from the crop alone."""
    network = load_network(weights=published_file)
    one, two = (torch.from_numpy(noise(128, 128, seed=seed)).permute(2, 0, 1)[None] for seed in (1, 2))
    around = [F.pad(frame, [REACH] * 4, mode="replicate") for frame in (one, two)]
    with torch.inference_mode():
        assert torch.equal(network(*around, has_context=True), network(one, two))
        around[0][..., :REACH, :] += 1
        assert (network(*around, has_context=True) - network(one, two)).abs().amax(dim=(0, 1, 3))[0] > 0.01


def test_prefetched_crops_are_the_same(film, tmp_path):
    batches = Batches(Footage([film], tmp_path), crop=32, sampling=Sampling(synthetic=0.5))
    here, elsewhere = torch.device("cpu"), torch.device("meta")
    ahead = Feed(batches, elsewhere, 4, 2, 2)
    assert ahead.thread
    ahead.device = here  # the meta device would keep no pixels
    for step in (0, 1, 2, 7, 8):
        assert all(map(torch.equal, ahead(step), batches(step, 4, 2, 4)))


def test_lf_starts_from_the_bundled_l1(film, tmp_path, capsys):
    assert train.main(command(film, tmp_path, "--model", "lf", "--steps", 4)[1:]) == 0
    assert "lf: features of efficientnet-lite0 + 0 L1, 4 steps, from bundled" in capsys.readouterr().out
    start, end = load_network("l1"), load_network(weights=tmp_path / "trained-lf.safetensors")
    changes = [(one - two).abs().max() for one, two in zip(start.parameters(), end.parameters(), strict=True)]
    assert 0 < max(changes) < 0.01


def test_lf_reduces_the_feature_distance(trained, tmp_path, capsys):
    """Training starts from l1 weights, and reduces the distance of features."""
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
