"""Help and progress, which the command lines share."""

import argparse
import importlib
import io
import re
import sys
import time

import pytest

from vfi import command_line


@pytest.mark.parametrize("program", ["run", "benchmark", "tools.speed"])
def test_help_shows_no_empty_defaults(program, capsys):
    with pytest.raises(SystemExit):
        importlib.import_module(program).main(["--help"])
    assert set(re.findall(r"\(default:\s+(\S+)\)", capsys.readouterr().out)).isdisjoint({"None", "False"})


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "quiet", "shown"), [(Terminal, False, True), (Terminal, True, False), (io.StringIO, False, False)]
)
def test_progress_is_shown_on_terminals_only(stream, quiet, shown, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream())

    def download(*arguments, progress, ensemble):
        for megabytes in range(4):
            progress(megabytes * 2**20, 2**22)
            time.sleep(0.06)  # the bar is drawn ten times a second

    monkeypatch.setattr(command_line, "Interpolator", download)
    options = dict.fromkeys(("model", "weights", "device", "padding", "precision", "ensemble")) | {"quiet": quiet}
    command_line.make_interpolator(argparse.Namespace(**options))
    assert ("downloading" in sys.stderr.getvalue()) == shown
