"""The command line for videos, with the real network: what it writes, prints and refuses."""

import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from helpers.films import Film, grey, make, moving

import run

ROOT = Path(__file__).parent.parent.parent
NETWORK = ("--device", "cpu", "--model", "l1")


@pytest.fixture(autouse=True)
def in_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_video(capfd):
    """Twice the frames, the same length and sound; new frames lie between their neighbours."""
    source = make("in.mp4", moving(6, step=4), Fraction(24000, 1001), sound=["aac"], options={"crf": "8"})
    assert run.main(["--video", "in.mp4", "--out", "out.mp4", *NETWORK]) == 0
    assert capfd.readouterr() == ("out.mp4\n", "")
    before, film = Film(source), Film("out.mp4")
    assert (film.count, film.rate) == (12, Fraction(48000, 1001))
    assert film.packets[1] == before.packets[1]
    for number in range(1, 5):
        new, halfway = film.planes[2 * number + 1][0].astype(int), moving(12, step=2)[2 * number + 1][0]
        one, two = before.planes[number][0].astype(int), before.planes[number + 1][0]
        truth = np.abs(new - halfway).mean()
        assert truth < np.abs(new - one).mean()
        assert truth < np.abs(new - two).mean()
    assert not list(Path().glob("*.partial*"))


def test_nothing_flickers_with_the_network():
    """New frames are as bright as their almost equal neighbours, even above the white of a limited range."""
    for level in (16, 120, 235, 250):
        make("in.mkv", grey([level, level + 1, level]), codec="ffv1")
        assert run.main(["--video", "in.mkv", "--out", "out.mkv", "--codec", "ffv1", "--quiet", *NETWORK]) == 0
        assert max(Film("out.mkv").levels) - min(Film("out.mkv").levels) <= 1.01


def test_a_folder_as_output_and_as_input(capfd):
    make("in.mp4", moving(4))
    assert run.main(["--video", "in.mp4", "--out", "frames", "--factor", "4", *NETWORK]) == 0
    assert len(list(Path("frames").iterdir())) == 16
    words = ["--video", "frames", "--out", "out.mp4", "--input-fps", "23.976", "--fps", "59.94", "--start", "0:0.2"]
    assert run.main([*words, *NETWORK]) == 0
    assert capfd.readouterr() == ("frames\nout.mp4\n", "")
    assert Film("out.mp4").rate == Fraction(60000, 1001)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("--factor 2", "--factor is for --video"),
        ("--no-scene-detection", "--no-scene-detection is for --video"),
        ("--video a --factor 3", "argument --factor: invalid choice: 3"),
        ("--video a --factor 2 --fps 60", "argument --fps: not allowed with argument --factor"),
        ("--video a --fps 60 --slow-motion", "--fps and --slow-motion exclude each other"),
        ("--video a --fps 0", "argument --fps: '0' is not a rate"),
        ("--video a --fps fast", "argument --fps: 'fast' is not a rate"),
        ("--video a --start 1:2:3:4", "argument --start: '1:2:3:4' is not a time"),
        ("--video a --start 5 --end 00:00:05.000", "--start is not before --end"),
        ("--video a --one b.png", "--one and --video exclude each other"),
        ("--video a --quality 90", "--quality and --lossless are for pictures"),
        ("--video a --crf 64", "--crf 64 is not between 0 and 63"),
        ("--video a --scene-threshold 0", "--scene-threshold 0.0 is not above 0"),
    ],
)
def test_bad_usage(words, reason, capfd):
    with pytest.raises(SystemExit) as caught:
        run.main(words.split())
    assert caught.value.code == 2
    assert reason in capfd.readouterr().err


def test_bad_data_gives_a_one_line_error_and_status_1(capfd):
    Path("in.mp4").write_text("nothing of the kind")
    assert run.main(["--video", "in.mp4", *NETWORK]) == 1
    message = "error: in.mp4 is not a video, is damaged, or its kind is not supported\n"
    assert capfd.readouterr() == ("", message)
    assert [file.name for file in Path().iterdir()] == ["in.mp4"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send SIGINT to one process")
def test_ctrl_c_and_resume():
    make("in.mp4", moving(56), options={"crf": "10"})
    words = [sys.executable, ROOT / "run.py", "--video", "in.mp4", "--out", "out.mp4", *NETWORK]
    process = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # it is ignored if pytest is in the background
    )
    while process.poll() is None and not list(Path().glob("out.mp4.partial/[!.]*.part")):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate()
    note = "note: what is finished can be seen in out.partial.mp4; --resume continues after 96 frames\n"
    assert (process.returncode, stdout, stderr) == (130, "", f"{note}error: interrupted\n")
    assert Film("out.partial.mp4").count >= 96
    again = subprocess.run([*words, "--resume"], capture_output=True, text=True)
    assert (again.returncode, again.stdout) == (0, "out.mp4\n")
    assert again.stderr == "note: 96 frames of out.mp4 were finished before\n"
    assert Film("out.mp4").count == 112
    assert sorted(os.listdir()) == ["in.mp4", "out.mp4"]
