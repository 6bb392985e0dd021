"""The README and the documents: their Python code runs, their commands and links are valid."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "vfi" / "weights" / "README.md"]
TEXTS = {str(path.relative_to(ROOT)): path.read_text() for path in DOCUMENTS}
PROGRAMS = [
    pytest.param(block, id=name)
    for name, text in TEXTS.items()
    for block in re.findall(r"```python\n(.*?)```", text, re.S)
]
BLOCK = re.compile(r"```\n(.*?)```", re.S)
COMMAND = re.compile(r"python (?:run\.py|benchmark\.py|train\.py|-m tools\.speed) (?!--help)[^#]*")


def commands(text):
    """The command lines of our programs in a document, in code blocks and within sentences."""
    lines = [line for block in BLOCK.findall(text) for line in block.splitlines()]
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", BLOCK.sub("", text))]
    return [match.group().strip() for match in map(COMMAND.match, lines + spans) if match]


COMMANDS = sorted({command for text in TEXTS.values() for command in commands(text)})


@pytest.mark.parametrize("block", PROGRAMS)
def test_programs_run(block, tmp_path, monkeypatch):
    for name in ("images", "videos"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    exec(block, {})


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_understood(command, monkeypatch):
    """Each option exists, accepts the value, and can be combined with the others."""
    name, *words = shlex.split(command.removeprefix("python ").removeprefix("-m "))
    program = importlib.import_module(name.removesuffix(".py"))
    monkeypatch.setattr(program, "exit_status", lambda *arguments, **options: 0)
    assert program.main(words) == 0


def test_every_figure_in_the_readme_is_one():
    tables = re.findall(r"(?:^\|.*\|\n)+", TEXTS["README.md"], re.M)
    figures = [row.split("|")[2] for table in tables for row in table.splitlines()[2:]]
    assert len(figures) > 5
    assert all(re.search(r"\d", figure) and not re.search(r"\b(?!SSIM)[A-Z]{2,}\d*\b", figure) for figure in figures)


def test_links_lead_somewhere():
    for path in [*DOCUMENTS, ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
            assert target.startswith("https://") or (path.parent / target).exists(), f"{path}: {target}"


def test_files_that_are_named_exist():
    for name, text in TEXTS.items():
        for file in re.findall(r"`((?:vfi|tools|docs|tests|images|videos)/[\w/.]+\.\w+)`", text):
            assert (ROOT / file).exists(), f"{name}: {file}"
