"""train.py: the options and files that it refuses, and its help."""

import re
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from helpers.clips import write_clip
from helpers.training import ROOT, TINY, command, tensors

import train
from vfi.training.recipe import Recipe


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
        (["--synthetic", "1", "--stills", "nowhere"], "--stills nowhere: there is no such folder"),
        (["--crop", "160"], "all frames are too small: --crop 160 needs 210 pixels"),
        (["--start", "published.pytorch"], "these weights were trained without normalization"),
        (["--start", "none.safetensors"], "none.safetensors: no such file or directory"),
        (["--device", "cuda:99"], "device 'cuda:99' is not available"),
        (
            ["--model", "lf", "--features", "none.pth"],
            "none.pth: no such file or directory; name torchvision's VGG-19, or",
        ),
        (["--cache", "text"], "--cache text: file exists; name another folder, with room for the decoded frames"),
        (["--out", "text"], "--out text: file exists; name another folder"),
        (["--out", "text/out"], "--out text/out: not a directory; name another folder"),
        (["--data", "text"], "text does not have the extension of a video (avi, "),
        (["--held-out", "still"], "--held-out: nothing moves in these clips\n"),
        (["--data", "still"], "nothing moves in these clips: there is nothing to learn from"),
        (["--resume", "--out", "damaged"], "damaged/trained-l1.checkpoint is damaged"),
        (["--resume", "auto", "--out", "damaged"], "name another --out, or remove it to begin anew"),
        (["--out", "damaged"], "trained-l1.checkpoint exists already: go on with --resume, or name another --out"),
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
    assert "crops of" not in printed.out  # a line that describes a run
    assert [path.name for path in Path("out").rglob("*") if path.is_dir()] in ([], ["frames"])
    assert Path("out").exists() == ("decoding" in printed.out)  # decoded frames are kept for the next run


def test_options_for_synthetic_crops_need_such_crops(film, tmp_path, capsys):
    """Without --synthetic, they are refused, because they would have no effect."""
    assert train.main(command(film, tmp_path / "out", "--speed", 9, "--objects", 2)[1:]) == 2
    expected = "error: --speed, --objects: this is for synthetic crops; give their share by --synthetic\n"
    assert capsys.readouterr().err == expected
    assert not (tmp_path / "out").exists()


def test_all_unusable_clips_are_reported(film, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    Path("videos").mkdir()
    for name in ("a.mp4", "b.avi"):
        Path("videos", name).write_text("this is no video")
    for data, status in ((["videos"], 1), (["videos", str(film)], 0)):
        words = [word for folder in data for word in ("--data", folder)]
        assert train.main([*words, "--out", "out", *TINY, "--steps", "1"]) == status
        lines = capfd.readouterr().err.splitlines()
        assert [re.match(r"skipped: videos/(.....) is not a video", line)[1] for line in lines[:2]] == [
            "a.mp4",
            "b.avi",
        ]
        assert lines[2:] == ["error: none of these clips can be used"] * status
        assert Path("out").exists() != status


def test_compiled(film, tmp_path, monkeypatch, capsys):
    """Without a C++ compiler, --compile is refused. With one, it learns the same weights."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    words = ["--steps", 2, "--compile"]
    done = subprocess.run([sys.executable, *command(film, tmp_path, *words)], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, list(tmp_path.iterdir())) == (1, [])
    expected = "error: --compile: PyTorch's compiler does not work here \\(.*no-such-compiler.*\\); leave it out\n"
    assert re.fullmatch(expected, done.stderr)
    monkeypatch.delenv("CXX")
    if not shutil.which("g++"):
        pytest.skip("needs a C++ compiler")
    for out, *more in (("plain", *words[:-1]), ("compiled", *words)):
        assert train.main(command(film, tmp_path / out, *more)[1:]) == 0
    plain, compiled = (tensors(tmp_path / out) for out in ("plain", "compiled"))
    for name, tensor in plain.items():
        # Biases start at zero, and Adam's first steps enlarge the rounding errors of tiny gradients.
        assert (compiled[name].float() - tensor.float()).norm() <= 1e-3 * tensor.float().norm() + 1e-5, name


def test_help_explains_every_default(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")  # so that no line breaks at a hyphen
    with pytest.raises(SystemExit):
        train.main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for name, value in asdict(Recipe()).items():
        assert f"--{name.replace('_', '-')}" in text
        assert value is None or value is False or f"default: {value}" in text
