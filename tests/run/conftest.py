"""Fixtures: pictures to interpolate, and command lines that must succeed or fail."""

import numpy as np
import pytest
from helpers.programs import listing

import run
from vfi import pictures
from vfi.pictures import Picture


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Runs the test in an empty folder, so that files written there by mistake are noticed."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def save(noise, tmp_path):
    """Writes a picture that depends on the seed; returns its path."""

    def make(name, height=30, width=40, channels=3, dtype=np.uint8, seed=0, profile=None):
        most = np.iinfo(dtype).max
        pixels = np.rint(noise(height, width, channels, seed) * most).astype(dtype)
        if channels in (2, 4):
            pixels[..., -1] = most - pixels[..., -1] // 2
        pictures.write(tmp_path / name, Picture(pixels[..., 0] if channels == 1 else pixels, profile))
        return tmp_path / name

    return make


@pytest.fixture
def pair(save):
    return save("one.png", seed=1), save("two.png", seed=2)


@pytest.fixture
def interpolate(tmp_path, capfd, recwarn):
    """Runs a command line that must succeed and print only the path; returns standard error."""

    def interpolate(one, two, out, *options):
        assert run.main([str(word) for word in ("--one", one, "--two", two, "--out", out, *options)]) == 0
        stdout, stderr = capfd.readouterr()
        assert stdout == f"{out}\n"
        assert not recwarn.list
        assert not list(tmp_path.rglob("*.part"))
        return stderr

    return interpolate


@pytest.fixture
def refused(tmp_path, capfd, recwarn):
    """Runs a command line that must fail with one line and leave no file; returns that line."""

    def refused(*words, status=1):
        before = listing(tmp_path)
        assert run.main([str(word) for word in words]) == status
        stdout, stderr = capfd.readouterr()
        assert stdout == ""
        assert stderr.startswith("error: ")
        assert len(stderr.splitlines()) == 1
        assert not recwarn.list
        assert listing(tmp_path) == before
        return stderr

    return refused


@pytest.fixture
def misused(tmp_path, capfd):
    """Runs a command line that argparse must refuse; returns the line after the usage."""

    def misused(*words):
        before = listing(tmp_path)
        with pytest.raises(SystemExit) as caught:
            run.main([str(word) for word in words])
        assert caught.value.code == 2
        stdout, stderr = capfd.readouterr()
        assert stdout == ""
        usage, _, error = stderr.rpartition("run.py: error: ")
        assert usage.startswith("usage: run.py")
        assert len(error.splitlines()) == 1
        assert listing(tmp_path) == before
        return error

    return misused
