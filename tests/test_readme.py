"""The README: its programs run, and its figures are figures."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S))
def test_python_in_the_readme_runs(block, monkeypatch):
    monkeypatch.chdir(ROOT)
    exec(block, {})


def test_every_figure_in_the_readme_is_there():
    tables = re.findall(r"(?:^\|.*\|\n)+", (ROOT / "README.md").read_text(), re.M)
    figures = [row.split("|")[2] for table in tables for row in table.splitlines()[2:]]
    assert len(figures) > 5
    assert all(re.search(r"\d", figure) and not re.search(r"\b[A-Z]{2,}\d*\b", figure) for figure in figures)
