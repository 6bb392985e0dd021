"""run.py with many workers, as a user runs it: the video is that of one process, whatever happens to the workers."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

pytest.importorskip("ray")

from helpers.crews import two_nodes
from helpers.films import make, moving
from helpers.videos import ROOT

import run

COMMAND = [sys.executable, ROOT / "run.py", "--precision", "float32", "--video"]


@pytest.fixture(autouse=True)
def in_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", tempfile.mkdtemp(dir="/tmp"))  # short: sockets have short names


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """A folder with in.mp4 and whole.mp4, which one process has made of it."""
    folder = tmp_path_factory.mktemp("videos")
    make(folder / "in.mp4", moving(110, step=1), options={"g": "25"}, sound=["aac"])
    subprocess.run([*COMMAND, folder / "in.mp4", "--out", folder / "whole.mp4"], check=True)
    return folder


def processes():
    """{number: command} of Ray's processes."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            of_ray = f"TMPDIR={os.environ['TMPDIR']}".encode() in (entry.parent / "environ").read_bytes()
        except OSError:
            continue
        if of_ray and re.search(r"raylet|gcs_server|ray::", command):
            found[int(entry.parent.name)] = command
    return found


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return result


def parts():
    return list(Path("out.mp4.partial").glob("*.part"))


needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes in /proc")


@needs_proc
def test_a_worker_is_killed(videos):
    command = [*COMMAND, videos / "in.mp4", "--out", "out.mp4", "--workers", "2", "--verbose"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        wait_for(parts)
        os.kill(next(number for number, name in processes().items() if "ray::_Actor" in name), signal.SIGKILL)
        out, err = program.communicate()
    assert (program.returncode, out) == (0, "out.mp4\n")
    assert all(line.startswith("note: worker ") for line in err.splitlines())
    assert Path("out.mp4").read_bytes() == (videos / "whole.mp4").read_bytes()
    assert [file.name for file in Path().iterdir()] == ["out.mp4"]
    assert not processes()
    assert not list(Path(os.environ["TMPDIR"]).iterdir())


@needs_proc
def test_ctrl_c_and_resume(videos):
    command = [*COMMAND, videos / "in.mp4", "--out", "out.mp4", "--workers", "2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as program:
        wait_for(parts)
        pressed = time.monotonic()
        os.killpg(program.pid, signal.SIGINT)
        _, err = program.communicate()
    assert program.returncode == 130
    assert re.fullmatch(r"(note: [^\n]*--resume continues[^\n]*\n)?error: interrupted\n", err)
    assert time.monotonic() - pressed < 15
    assert not processes()
    result = subprocess.run([*command, "--resume"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert Path("out.mp4").read_bytes() == (videos / "whole.mp4").read_bytes()


def test_a_cluster_that_does_not_see_the_source(videos, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    with two_nodes() as cluster:
        command = [*COMMAND, videos / "in.mp4", "--out", "out.mp4", "--cluster", cluster.address]
        result = subprocess.run([*command, "--send-source", "--verbose"], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "out.mp4\n"), result.stderr
    assert result.stderr.count("is ready") == 2
    assert Path("out.mp4").read_bytes() == (videos / "whole.mp4").read_bytes()
    assert not list(Path(os.environ["TMPDIR"]).glob("vfi-*"))


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--cluster", "127.0.0.1:9"], 1, "error: --cluster 127.0.0.1:9 cannot be reached: connection refused"),
        (["--cluster", "head"], 2, "error: --cluster head is no address: give host:port, such as head:6379, or auto"),
        (["--workers", "0"], 2, "'0' is not a number of processes: give 1 or more, or auto"),
        (["--send-source"], 2, "--send-source is for --workers and --cluster"),
        (["--workers", "2", "--device", "cuda:1"], 2, "--device cuda:1 and workers exclude each other"),
    ],
    ids=str,
)
def test_refusals(words, status, message, videos, capsys):
    try:
        result = run.main(["--video", str(videos / "in.mp4"), *words])
    except SystemExit as end:
        result = end.code
    assert result == status
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not list(Path().iterdir())


def test_a_pair_is_one_piece_of_work(capsys):
    with pytest.raises(SystemExit, match="2"):
        run.main(["--workers", "2"])
    assert "--workers and --cluster are for --video" in capsys.readouterr().err
