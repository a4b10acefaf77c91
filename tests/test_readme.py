"""What README.md and the pages beside it tell a reader can be done: commands, options, modules, links exist."""

from __future__ import annotations

import re
import shlex
from importlib.util import find_spec

import pytest
import typer
from typer.core import TyperGroup

from atrank_lib.cli import app
from tools.project import ROOT

PAGES = sorted(ROOT.glob("*.md"))
PROGRAM = typer.main.get_command(app)
assert isinstance(PROGRAM, TyperGroup)
COMMANDS = PROGRAM.commands
LINES = [
    line
    for page in PAGES
    for block in re.findall(r"^ *```bash\n(.*?)^ *```", page.read_text(), re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]


def wrong_with(words: list[str]) -> str | None:
    """What of a command line does not exist."""
    if words[0] == "make":
        targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        settings = set(re.findall(r"^(?:export )?([A-Z_]+) \?=", (ROOT / "Makefile").read_text(), re.MULTILINE))
        return next((w for w in words[1:] if (w.split("=")[0] not in settings if "=" in w else w not in targets)), None)
    if words[0] == "torchrun":
        return wrong_with(["python", *words[words.index("-m") :]])
    if words[0] == "python" and words[1] == "-m":
        try:
            if find_spec(words[2]) is None:
                return words[2]
        except ModuleNotFoundError:
            return words[2]
        return wrong_with(["atrank", *words[3:]]) if words[2] == "atrank_lib" else None
    if words[0] == "python" and words[1] != "-c":
        return None if (ROOT / words[1]).is_file() else words[1]
    if words[0] == "atrank":
        command = COMMANDS.get(words[1])
        if command is None:
            return words[1]
        known = {option for parameter in command.params for option in parameter.opts}
        return next((word for word in words[2:] if word.startswith("--") and word not in known), None)
    return None


@pytest.mark.parametrize("line", LINES)
def test_a_command_exists_with_its_options(line: str):
    assert wrong_with(shlex.split(line, comments=True)) is None


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("make bok", "bok"),
        ("make THREADS=2 book", "THREADS=2"),
        ("atrank reproduce table3", "reproduce"),
        ("atrank train --data LOG --speed 3", "--speed"),
        ("torchrun --nproc_per_node 2 -m atrank_lib train --speed 3", "--speed"),
        ("python -m data_scripts.nothing", "data_scripts.nothing"),
        ("python benchmarks/nothing.py --data LOG", "benchmarks/nothing.py"),
    ],
)
def test_what_does_not_exist_is_found(line: str, wrong: str):
    assert wrong_with(shlex.split(line)) == wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    assert [link for link in links if not link.startswith("https://") and not (ROOT / link).exists()] == []
