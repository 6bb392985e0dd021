"""The methods of benchmark.py; and the known scores of the baselines, if Middlebury's frames are available."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.tables import rows

import benchmark
from vfi import metrics
from vfi.benchmarks import methods, middlebury
from vfi.benchmarks.own import OWN
from vfi.interpolator import Interpolator

ROOT = Path(__file__).parent.parent.parent


def test_scores_are_those_of_the_interpolator(own, published_file, run, tmp_path):
    """Each scene's scores are those of the Interpolator's output. The table shows their means over the scenes."""
    shutil.rmtree(own / "c")
    options = ["--weights", published_file, "--device", "cpu", "--padding", "improved", "paper"]
    options += ["--precision", "float32", "bfloat16", "--method", "sepconv", "average", "--model", "l1"]
    status, out, err = run("--triplets", own, *options, "--json", tmp_path / "results.json")
    assert (status, err) == (0, "")
    content = json.loads((tmp_path / "results.json").read_text())
    labels = [
        f"{published_file.name}, {padding} padding, {precision}"
        for padding in ("improved", "paper")
        for precision in ("float32", "bfloat16")
    ]
    assert [entry["method"] for entry in content["means"]] == [*labels, "average"]
    between = Interpolator("l1", published_file, "cpu", "paper", "float32")
    expected = {name: [] for name in content["settings"]["metrics"]}
    for triplet, scene in zip(OWN.find(own), content["scenes"], strict=True):
        one, two, truth = triplet.read()
        for name, values in expected.items():
            values.append(metrics.METRICS[name].function(between(one, two), truth))
            assert scene["values"][labels.index(labels[2])][name] == values[-1]
    assert content["means"][2]["values"] == pytest.approx({name: np.mean(v) for name, v in expected.items()})
    assert rows(out)[labels[2]] == pytest.approx([np.mean(values) for values in expected.values()], abs=0.006)
    assert re.search(
        f"^{re.escape(labels[1])}: no pixel is more than [1-9] of 255 levels from the picture in float32, PSNR "
        r"\d\d\.\d dB$", out, re.M,
    )  # fmt: skip


def test_precision_auto_is_not_measured_twice(published_file):
    """For weights without kernel normalization, auto means float32."""
    words = ["--weights", str(published_file), "--device", "cpu", "--precision", "float32", "auto"]
    (method,) = benchmark.make_methods(benchmark.parse(words))
    assert method.settings["precision"] == "float32"


def test_average_and_rounding():
    one, two = np.full((1, 2, 3), 10, np.uint8), np.full((1, 2, 3), 13, np.uint8)
    picture = methods.average(one, two)
    assert picture.tolist() == np.full((1, 2, 3), 11.5).tolist()
    assert methods.to_8_bits(picture).tolist() == np.full((1, 2, 3), 12).tolist()
    assert methods.to_8_bits(picture, truncate=True).tolist() == np.full((1, 2, 3), 11).tolist()
    assert methods.to_8_bits(np.float32([-3, 254.7, 300])).tolist() == [0, 255, 255]


def test_truncate_changes_the_scores(own, run):
    rounded, truncated = (
        rows(run("--triplets", own, "--method", "average", *options)[1])["average"] for options in ((), ("--truncate",))
    )
    assert rounded != truncated


def test_minterpolate_follows_motion(noise):
    still = np.rint(255 * noise(96, 140)).astype(np.uint8)
    one, truth, two = (still[:, start : start + 128] for start in (0, 4, 8))
    compensated, mean = (
        metrics.psnr(methods.to_8_bits(method(one, two)), truth) for method in (methods.minterpolate, methods.average)
    )
    assert compensated > mean + 4


def test_frames_too_small_for_minterpolate_are_left_out(own, save, run):
    save([own / "a" / f"im{number}.png" for number in (9, 10, 11)], height=31)
    status, out, err = run("--triplets", own, "--method", "minterpolate", "average")
    assert status == 1
    assert "left out: a: 40x31 is too small for minterpolate: 32 pixels a side\n" in err
    assert len(re.findall("own triplets, 2 of 3 scenes", out)) == 1  # the average leaves it out, too


def test_ensemble_is_measured(own, run):
    for name in ("b", "c"):
        shutil.rmtree(own / name)
    words = ("--triplets", own, "--model", "l1", "--precision", "float32")
    single, several = (rows(run(*words, *more)[1]) for more in ((), ("--ensemble",)))
    assert set(several) - set(single) == {"l1, improved padding, float32, ensemble of 8"}
    assert single["a"] != several["a"]


MIDDLEBURY = Path(os.environ.get("MIDDLEBURY", ROOT / "middlebury"))
needs_middlebury = pytest.mark.skipif(
    not MIDDLEBURY.is_dir(), reason="needs Middlebury's frames in ./middlebury or in the folder $MIDDLEBURY"
)


@needs_middlebury
def test_baselines_have_their_known_scores(run):
    """Other programs measured 28.00 dB and 0.804 for the mean of the frames; 33.0 dB and 0.934 for minterpolate."""
    status, out, err = run("--data", MIDDLEBURY, "--method", "average", "minterpolate")
    assert (status, err) == (0, "")
    assert rows(out)["average"][:2] == pytest.approx([28.00, 0.804], abs=0.05)
    assert rows(out)["average"][1] == pytest.approx(0.804, abs=0.0015)
    assert rows(out)["minterpolate"][0] == pytest.approx(33.0, abs=0.3)
    assert rows(out)["minterpolate"][1] == pytest.approx(0.934, abs=0.005)


@needs_middlebury
def test_optical_flow_has_its_known_scores():
    """Both frames are warped to the middle by OpenCV's DIS flow, and averaged: 34.74 dB and 0.953."""
    cv2 = pytest.importorskip("cv2")
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    dis.setFinestScale(0)

    def warp(frame, flow):
        rows, columns = np.mgrid[: flow.shape[0], : flow.shape[1]].astype(np.float32)
        where = columns + flow[..., 0], rows + flow[..., 1]
        return cv2.remap(frame.astype(np.float32), *where, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def between(one, two):
        greys = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (one, two)]
        there, back = dis.calc(*greys, None), dis.calc(*greys[::-1], None)
        there, back = warp(there, -there / 2), warp(back, -back / 2)  # the flow, moved to the middle frame
        return (warp(one, back / 2) + warp(two, there / 2)) / 2

    values = []
    for triplet in middlebury.MIDDLEBURY.find(MIDDLEBURY):
        one, two, truth = triplet.read()
        picture = methods.to_8_bits(between(one, two))
        values.append((metrics.psnr(picture, truth), metrics.ssim_uniform(picture, truth)))
    assert np.mean(values, axis=0)[0] == pytest.approx(34.74, abs=0.05)
    assert np.mean(values, axis=0)[1] == pytest.approx(0.953, abs=0.0015)
