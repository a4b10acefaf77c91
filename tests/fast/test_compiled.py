"""Compiling `kernels.c`: once, whole or made again, by any compiler that CC may name; and what happens without one."""

from __future__ import annotations

import ctypes
import logging
import pwd
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from atrank_lib.fast import compiled, kernels
from atrank_lib.fast.compiled import build, compiler, library

HERE = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
needs_compiler = pytest.mark.skipif(HERE is None, reason="no C compiler here")


@pytest.fixture
def anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Look for a compiler again, with a cache of its own, and forget what was found."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    library.cache_clear()
    yield tmp_path / "cache" / "atrank_lib"
    library.cache_clear()


@pytest.fixture
def quick(tmp_path: Path) -> Path:
    """The machine's own compiler, told last not to optimize, which saves seconds; it counts its calls."""
    script = tmp_path / "quick cc"
    script.write_text(f'#!/bin/sh\necho call >> "{tmp_path}/calls"\nexec "{HERE}" "$@" -O0\n')
    script.chmod(0o755)
    return script


def calls(tmp_path: Path) -> int:
    return len((tmp_path / "calls").read_text().splitlines())


def works(file: Path) -> bool:
    return ctypes.CDLL(str(file)).width() in (4, 8, 16)


def torch_does_the_work() -> None:
    assert library() is None
    linear, x = nn.Linear(16, 16), torch.randn(3, 16)
    torch.testing.assert_close(kernels.layers(x, [linear], [True])[0], linear(x).relu())


@needs_compiler
def test_compiled_once(quick: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    first = build(folder, [str(quick)])
    assert works(first)
    assert build(folder, [str(quick)]) == first
    assert calls(tmp_path) == 1
    assert list(folder.iterdir()) == [first]  # nothing half done is left


@needs_compiler
@pytest.mark.parametrize("left", ["nothing", "half", "other bytes"])
def test_a_damaged_file_is_made_again(quick: Path, tmp_path: Path, left: str) -> None:
    """Loading half a library ends the process, so what is not whole must never be loaded."""
    folder = tmp_path / "cache"
    first = build(folder, [str(quick)])
    good = first.read_bytes()
    middle = len(good) // 2
    first.write_bytes({"nothing": b"", "half": good[:middle], "other bytes": good[:middle] + bytes(middle)}[left])
    again = build(folder, [str(quick)])
    assert works(again)
    assert calls(tmp_path) == 2
    assert list(folder.iterdir()) == [again]


@needs_compiler
def test_any_file_that_changes_is_compiled_anew(quick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """kernels.c includes the others."""
    sources = tmp_path / "sources"
    shutil.copytree(compiled._SOURCE.parent, sources, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    monkeypatch.setattr(compiled, "_SOURCE", sources / "kernels.c")
    first = build(tmp_path / "cache", [str(quick)])
    with (sources / "rows.c").open("a") as file:
        file.write("int64_t another(void) { return 7; }\n")
    second = build(tmp_path / "cache", [str(quick)])
    assert first != second
    assert ctypes.CDLL(str(second)).another() == 7


@needs_compiler
def test_a_compiler_with_options(anew: Path, quick: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CC", f"'{quick}' -DNOTHING=1 -O1")
    assert compiler() == [str(quick), "-DNOTHING=1", "-O1"]
    assert library() is not None
    assert len(list(anew.glob("*.so"))) == 1
    assert calls(tmp_path) == 1


@needs_compiler
def test_a_compiler_whose_path_holds_a_space(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", str(quick))
    assert compiler() == [str(quick)]


@pytest.mark.parametrize(
    ("chosen", "level"),
    [("", logging.INFO), ("false", logging.WARNING), ("no such compiler", logging.WARNING), ("cc '", logging.WARNING)],
)
def test_without_a_compiler_torch_does_the_work(
    anew: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, chosen: str, level: int
) -> None:
    """Where there is none nobody need care; a CC that was set and does not work is told on stderr."""
    monkeypatch.setenv("CC", chosen)
    monkeypatch.setenv("PATH", "" if not chosen else "/usr/bin:/bin")
    with caplog.at_level(logging.INFO, "atrank_lib.fast.compiled"):
        torch_does_the_work()
    assert [record.levelno for record in caplog.records] == [level]
    assert "torch's operators do all the work" in caplog.text
    assert not list(anew.rglob("*.so"))


@needs_compiler
def test_a_folder_that_cannot_be_written(anew: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "")
    anew.parent.mkdir()
    anew.write_text("a file in the folder's place")
    torch_does_the_work()


def nobody(uid: int) -> pwd.struct_passwd:
    raise KeyError(f"getpwuid(): uid not found: {uid}")


def test_without_a_home_folder(anew: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """As in a container that runs as a user the system does not know."""
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CC", HERE or "cc")
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    torch_does_the_work()
    assert "no home folder" in caplog.text
