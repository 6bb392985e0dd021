"""Runs that are interrupted, and resumed."""

import json
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from helpers.films import Film, make, moving
from helpers.videos import mean, refused

from vfi import pictures
from vfi.errors import VideoError
from vfi.pictures import Picture
from vfi.video import job as video
from vfi.video.options import VideoOptions

WORKER = """
import sys, time
from vfi.video import job as video
def mean(one, two):
    time.sleep(0.01)
    return (one + two) / 2
video.interpolate("in.mp4", sys.argv[1], mean, resume=True, note=lambda text: None, part_frames=8)
"""


def test_killed_at_ten_moments_and_resumed(make_more):
    source = make("in.mp4", moving(100), sound=["aac"])
    video.interpolate(source, "whole.mp4", mean, note=lambda text: None, part_frames=8)
    words = [sys.executable, "-c", WORKER]
    generator = np.random.default_rng(0)
    kills = 0
    for _ in range(100):
        process = subprocess.Popen([*words, "out.mp4"])
        if kills < 10:
            parts, already = Path("out.mp4.partial"), len(list(Path("out.mp4.partial").glob("[!.]*.part")))
            while process.poll() is None and len(list(parts.glob("[!.]*.part"))) < already + 1:
                time.sleep(0.01)
            time.sleep(generator.uniform(0, 0.15))
            process.kill()
            kills += process.wait() == -signal.SIGKILL
            assert not Path("out.mp4").exists() or kills >= 10
        elif process.wait() == 0:
            break
    assert kills == 10
    assert Path("out.mp4").read_bytes() == Path("whole.mp4").read_bytes()
    assert sorted(file.name for file in Path().iterdir()) == ["in.mp4", "out.mp4", "whole.mp4"]


def test_a_run_that_writes_pictures_is_resumed(folder):
    folder()
    given = []

    def interrupting_mean(one, two):
        given.append(1)
        if len(given) == 5:
            raise KeyboardInterrupt
        return mean(one, two)

    with pytest.raises(KeyboardInterrupt):
        video.interpolate("frames", "more", interrupting_mean, note=given.append)
    assert not Path("more").exists()
    assert len(list(Path("more.partial").glob("*.png"))) == 9
    video.interpolate("frames", "more", interrupting_mean, resume=True, note=given.append)
    assert "9 frames of more were finished before" in given
    assert len(list(Path("more").iterdir())) == 22


def interrupted_run(target, after=20, **arguments):
    """Interrupts a run as Ctrl-C does, after `after` new frames; returns the run's notes."""
    notes, calls = [], []

    def interrupting_mean(one, two):
        calls.append(1)
        if len(calls) > after:
            raise KeyboardInterrupt
        return mean(one, two)

    with pytest.raises(KeyboardInterrupt):
        video.interpolate("in.mp4", target, interrupting_mean, note=notes.append, part_frames=16, **arguments)
    return notes


def test_ctrl_c_leaves_a_playable_video():
    make("in.mp4", moving(50), sound=["aac"])
    notes = interrupted_run("out.mp4")
    assert notes == ["what is finished can be seen in out.partial.mp4; --resume continues after 32 frames"]
    film = Film("out.partial.mp4")
    assert film.count == 41
    assert film.streams == [("video", "h264"), ("audio", "aac")]
    assert 0.7 < film.starts[1][-1] < 0.85
    video.interpolate("in.mp4", "out.mp4", mean, resume=True, note=notes.append, part_frames=16)
    assert notes[1:] == ["32 frames of out.mp4 were finished before"]
    video.interpolate("in.mp4", "whole.mp4", mean, note=notes.append, part_frames=16)
    assert Path("out.mp4").read_bytes() == Path("whole.mp4").read_bytes()
    assert sorted(file.name for file in Path().iterdir()) == ["in.mp4", "out.mp4", "whole.mp4"]


def test_ctrl_c_before_the_first_part_is_complete():
    make("in.mp4", moving(50))
    notes = interrupted_run("out.mp4", after=3)
    anew = "too little for --resume, which begins anew"
    assert notes == [f"what is finished can be seen in out.partial.mp4; {anew}"]
    assert Film("out.partial.mp4").count == 7
    video.interpolate("in.mp4", "out.mp4", mean, resume=True, note=notes.append, part_frames=16)
    assert Film("out.mp4").count == 100
    assert sorted(file.name for file in Path().iterdir()) == ["in.mp4", "out.mp4"]


def test_resume_refuses_another_source_or_options():
    make("in.mp4", moving(50))
    interrupted_run("out.mp4")
    for what, arguments in {
        "factor, encoding": {"options": VideoOptions(factor=4)},
        "start": {"options": VideoOptions(start=Fraction(1))},
        "network": {"recipe": "another"},
    }.items():
        with pytest.raises(VideoError, match=f"the unfinished run in out.mp4.partial differs in {what}: start over"):
            video.interpolate("in.mp4", "out.mp4", mean, resume=True, part_frames=16, note=print, **arguments)
    state = json.loads(Path("out.mp4.partial/state.json").read_text())
    assert state["source"] == str(Path("in.mp4").resolve())
    make("in.mp4", moving(40))
    with pytest.raises(VideoError, match="differs in content of the source"):
        video.interpolate("in.mp4", "out.mp4", mean, resume=True, part_frames=16, note=print)
    Path("out.mp4.partial/state.json").write_text("{")
    with pytest.raises(VideoError, match=r"out.mp4.partial/state.json is damaged, or of another version: start over"):
        video.interpolate("in.mp4", "out.mp4", mean, resume=True, part_frames=16, note=print)
    video.interpolate("in.mp4", "out.mp4", mean, part_frames=16, note=print)
    assert Film("out.mp4").count == 80
    assert not Path("out.mp4.partial").exists()


LIMITED = """
import resource, sys
from vfi.video import job as video
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    video.interpolate("in.mkv", sys.argv[1], lambda one, two: (one + two) / 2, note=print, part_frames=8)
except video.VideoError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit for the size of files")
@pytest.mark.parametrize(
    ("target", "limit", "message"),
    [
        ("out.mkv", 4_000, "out.mkv cannot be written: file too large"),
        (
            "out.mkv",
            20_000,
            "out.mkv cannot be written: file too large; what is finished stays in out.mkv.partial for --resume",
        ),
        ("out", 1_000, "out cannot be written: file too large"),
    ],
)
def test_no_space(target, limit, message):
    """The first part, the joined file or a picture is too large: finished parts are kept, truncated files are not."""
    generator = np.random.default_rng(0)
    make("in.mkv", [[generator.integers(16, 235, (48, 64)), *planes[1:]] for planes in moving(20)], codec="ffv1")
    words = [sys.executable, "-c", LIMITED, target, str(limit)]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == f"{message}\n"
    left = [f"{target}.partial"] if "stays" in message else []
    assert sorted(os.listdir()) == ["in.mkv", *left]
    notes = []
    video.interpolate("in.mkv", target, mean, resume=True, note=notes.append, part_frames=8)
    assert notes[:1] == [f"{40 if left else 'no'} frames of {target} were finished before"]
    assert sorted(os.listdir()) == ["in.mkv", target]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot lock folders")
def test_two_runs_for_one_target():
    """The second is refused, and the first continues undisturbed."""
    make("in.mp4", moving(20))
    tried = []

    def between(one, two):
        if not tried:
            for resume in (False, True):
                with pytest.raises(VideoError) as caught:
                    video.interpolate("in.mp4", "out.mp4", mean, note=print, resume=resume)
                tried.append(str(caught.value))
        return mean(one, two)

    video.interpolate("in.mp4", "out.mp4", between, note=print)
    assert tried == ["another run is making out.mp4 at this moment: wait for it"] * 2
    assert Film("out.mp4").count == 40
    assert sorted(os.listdir()) == ["in.mp4", "out.mp4"]


def test_foreign_files_are_not_removed():
    """Only the preview of an interrupted run is removed; it is refused as an input of a run that would remove it."""
    make("in.mp4", moving(50))
    Path("out.partial.mp4").write_text("mine")
    notes = interrupted_run("out.mp4")
    assert notes == [
        "out.partial.mp4 exists, and is not ours: what is finished is not shown; --resume continues after 32 frames"
    ]
    video.interpolate("in.mp4", "out.mp4", mean, resume=True, part_frames=16, note=print)
    assert Path("out.partial.mp4").read_text() == "mine"
    Path("out.partial.mp4").unlink()
    interrupted_run("out.mp4")
    refused("out.partial.mp4 has the name of what an interrupted run leaves of out.mp4", "out.partial.mp4", usage=True)
    notes = interrupted_run("out.mp4")
    assert "what an earlier run had finished of out.mp4 was dropped: --resume would have kept it" in notes
    assert Film("out.partial.mp4").count == 41


def test_killed_while_joining():
    """No half-written file remains beside the target, only the folder for --resume."""
    make("in.mp4", moving(20))
    script = (
        "import os; from vfi.video import job as video, muxing as joining\n"
        "joining._by_time = lambda one, two: os.abort()\n"
        "video.interpolate('in.mp4', 'out.mp4', lambda one, two: (one + two) / 2, note=print, part_frames=8)"
    )
    process = subprocess.run([sys.executable, "-c", script], capture_output=True)
    assert process.returncode < 0
    assert sorted(os.listdir()) == ["in.mp4", "out.mp4.partial"]
    video.interpolate("in.mp4", "out.mp4", mean, resume=True, note=print, part_frames=8)
    assert sorted(os.listdir()) == ["in.mp4", "out.mp4"]


def test_killed_before_the_first_frame():
    make("in.mp4", moving(5))
    Path("out.mp4.partial").mkdir()
    Path("out.mp4.partial/.0123456789abcdef.part").write_text("{")
    video.interpolate("in.mp4", "out.mp4", mean, note=print)
    assert sorted(os.listdir()) == ["in.mp4", "out.mp4"]


def test_resume_refuses_changed_pictures(folder):
    folder()
    calls = []

    def interrupting_mean(one, two):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return mean(one, two)

    notes = []
    with pytest.raises(KeyboardInterrupt):
        video.interpolate("frames", "more", interrupting_mean, note=notes.append)
    assert notes == ["9 pictures are in more.partial; --resume continues from there"]
    pictures.write("frames/frame 1.png", Picture(np.zeros((48, 64, 3), np.uint8)))
    with pytest.raises(VideoError, match="differs in content of the source"):
        video.interpolate("frames", "more", mean, resume=True, note=print)


def test_progress_is_reported_only_for_new_frames():
    make("in.mp4", moving(50))
    interrupted_run("out.mp4")
    seen = []
    video.interpolate("in.mp4", "out.mp4", mean, resume=True, part_frames=16, progress=lambda *at: seen.append(at))
    assert seen == [(number, 100) for number in range(33, 101)]


def test_a_foreign_folder_named_like_the_partial_folder():
    make("in.mp4", moving(5))
    Path("out.mp4.partial").mkdir()
    Path("out.mp4.partial/diary.txt").write_text("mine")
    with pytest.raises(VideoError, match=r"out.mp4.partial is in the way"):
        video.interpolate("in.mp4", "out.mp4", mean)
    assert Path("out.mp4.partial/diary.txt").read_text() == "mine"
