"""The environment that `make` makes: a checkout that was copied or moved never runs the library of another folder."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools.project import ROOT


def checkout(folder: Path) -> Path:
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy2(ROOT / name, folder)
    return folder


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """With a Python whose environments lack pip: they are made at once, and the recipe ends before it installs."""
    python = folder.parent / "python"
    python.write_text(f'#!/bin/sh\ncase "$2" in venv) set -- "$@" --without-pip;; esac\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    command = ["make", "--no-print-directory", "-C", str(folder), f"PYTHON={python}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def marker(folder: Path) -> str:
    """The file that stands for an environment that is up to date."""
    (touch,) = [line for line in make(folder, "-n", "test").stdout.splitlines() if line.startswith("touch ")]
    return touch.removeprefix("touch ")


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A checkout with its environment, complete as far as `make` can see."""
    folder = checkout(tmp_path / "first")
    file = marker(folder)
    assert "No module named pip" in make(folder, file).stderr
    (folder / file).touch()
    (folder / ".venv" / "library").write_text("installed here")
    assert "is up to date" in make(folder, file).stdout
    return folder


def test_an_environment_stays_when_its_contents_change(made: Path) -> None:
    with (made / "constraints.txt").open("a") as file:
        file.write("# another version\n")
    done = make(made, marker(made))
    assert "another folder" not in done.stdout
    assert (made / ".venv" / "library").exists()


@pytest.mark.parametrize("how", ["copied", "moved", "linked"])
def test_the_environment_of_another_folder_is_made_anew(made: Path, tmp_path: Path, how: str) -> None:
    place = tmp_path / "a second"
    if how == "copied":
        shutil.copytree(made, place, symlinks=True)
    elif how == "moved":
        made.rename(place)
    else:
        (checkout(place) / ".venv").symlink_to(made / ".venv")
    done = make(place, marker(place))
    assert f".venv was made for another folder ({made}/.venv) and is made anew" in done.stdout
    assert not (place / ".venv" / "library").exists()
    assert f"{place}/.venv\n" in (place / ".venv" / "pyvenv.cfg").read_text()
    if how != "moved":
        assert (made / ".venv" / "library").read_text() == "installed here"
    assert "another folder" not in make(place, marker(place)).stdout  # the second time it is this folder's
