"""How weights are measured: errors by speed of motion, and PSNR on pictures that move as a whole (reach)."""

import csv
import shutil

import numpy as np
import pytest
import torch
from helpers.training import ROOT, command

import train
from tools import compare_recipes, reach
from vfi import pictures
from vfi.network import REACH
from vfi.training.reach import BEST, centre, measure_reach
from vfi.training.validation import MotionClasses


@pytest.fixture(scope="session")
def photograph():
    return pictures.read(ROOT / "images" / "one.png").pixels.copy()


def average(one, two):
    return (one + two) / 2


def test_reach_of_averaging(photograph):
    """Averaging is exact where colours are linear. Elsewhere, it is the worse the farther the picture moves."""
    rows, columns = torch.meshgrid(torch.arange(180), torch.arange(200), indexing="ij")
    linear = torch.stack([rows, columns, rows]) / 255
    assert measure_reach(average, [linear], [4, 16])["diagonal"] == [BEST, BEST]
    for values in measure_reach(average, [centre(photograph)], [1, 4, 16]).values():
        assert BEST > values[0] > values[1] > values[2]


@pytest.mark.parametrize(
    ("direction", "down", "across"), [("horizontal", 0, 7), ("vertical", 7, 0), ("diagonal", 7, 7)]
)
def test_reach_moves_pictures_by_the_shift(direction, down, across, noise):
    picture = torch.from_numpy(noise(180, 200)).permute(2, 0, 1)
    seen = []

    def interpolate(one, two):
        seen.append((one, two))
        return one

    measure_reach(interpolate, [picture], [7], {direction: (down // 7, across // 7)})
    one, two = seen[0]
    height, width = one.shape[2:]
    assert torch.equal(one[..., : height - 2 * down, : width - 2 * across], two[..., 2 * down :, 2 * across :])


def test_reach_refuses_too_small_pictures(noise):
    picture = torch.from_numpy(noise(2 * (REACH + 8), 200)).permute(2, 0, 1)
    with pytest.raises(ValueError, match="a picture of 200x66 is too small"):
        measure_reach(average, [picture], [8])


def test_centre_cuts_out_the_middle():
    frame = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    assert np.array_equal((255 * centre(frame, 3)).round().permute(1, 2, 0).numpy(), frame[1:4, 2:5])
    assert centre(frame, 100).shape == (3, 5, 7)


@pytest.mark.parametrize(("step", "expected"), [(2, "slow"), (6, "4 to 10"), (14, "fast")])
def test_errors_are_grouped_by_motion(step, expected, photograph):
    """The picture moves sideways by `step` pixels per frame."""
    one, truth, two = (np.ascontiguousarray(photograph[:, step * t : step * t + 500]) for t in range(3))
    classes = MotionClasses()
    classes.add(truth ^ 8, one, truth, two)  # an error of 8 levels
    results = {name: (share, decibels) for name, share, decibels in classes.results()}
    largest = max(results, key=lambda name: results[name][0])
    assert largest.startswith(expected)
    assert results[largest][0] > 0.8
    assert results[largest][1] == pytest.approx(20 * np.log10(255 / 8), abs=0.01)
    assert sum(share for share, _ in results.values()) == pytest.approx(1)


def rows_of(table):
    with open(table, newline="") as file:
        return list(csv.DictReader(file))


def test_the_log_contains_the_reach(film, tmp_path, monkeypatch, capsys):
    """Logs of earlier versions, which have no such column, can be continued."""
    shutil.copytree(film, tmp_path / "other")
    monkeypatch.chdir(tmp_path)
    words = command(film, "out", "--held-out", "other")[1:]
    assert train.main([*words, "--steps", "1"]) == 0
    (row,) = rows_of("out/trained-l1.csv")
    assert f"shifted by 16 pixels {float(row['reach']):.1f} dB" in capsys.readouterr().out
    with open("out/trained-l1.csv") as file:
        lines = [line.rpartition(",")[0] for line in file.read().splitlines()]
    with open("out/trained-l1.csv", "w") as file:
        file.write("\n".join(lines) + "\n")
    assert train.main([*words, "--steps", "2", "--resume"]) == 0
    rows = rows_of("out/trained-l1.csv")
    assert [row["step"] for row in rows] == ["1", "2"]
    assert [bool(row["reach"]) for row in rows] == [False, True]


def test_the_reach_tool_prints_a_table(photograph, tmp_path, capsys):
    pictures.write(tmp_path / "small.png", pictures.Picture(photograph[:140, :150]))
    assert reach.main(["--pictures", str(tmp_path / "small.png")]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["pixels", "4", "8", "12", "16", "20", "22"]
    values = {name: [float(value) for value in numbers] for name, *numbers in map(str.split, rows)}
    assert set(values) == {"horizontal", "vertical", "diagonal"}
    assert values["horizontal"][0] > values["horizontal"][-1] > 10


def test_compare_recipes_prints_a_row_per_recipe(film, tmp_path, capfd):
    shutil.copytree(film, tmp_path / "other")
    words = ["--data", film, "--held-out", tmp_path / "other", "--out", tmp_path / "out", "--steps", 1]
    words += ["--common", "--crop 32 --batch 2 --precision float32", "--synthetic 0", "--synthetic 1 --speed 9"]
    assert compare_recipes.main([str(word) for word in words]) == 0
    rows = [line.split() for line in capfd.readouterr().out.splitlines()[-2:]]
    assert [row[:2] for row in rows] == [["1", "2"], ["2", "2"]]
    assert all(float(row[3]) > 5 and float(row[5]) > 5 for row in rows)
