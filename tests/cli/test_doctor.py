"""`atrank doctor` says what is there, what is not, and what to do."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from atrank_lib.cli.doctor import report
from atrank_lib.fast import compiled, kernels


@pytest.fixture(autouse=True)
def library_as_it_was():
    yield
    compiled.library.cache_clear()


def test_what_is_there():
    found = report()
    assert set(found) >= {"versions", "processor", "threads", "compiler", "kernels", "GPU"}
    assert f"{os.cpu_count()} cores" in found["processor"]
    if compiled.library() is None:
        assert "not in use" in found["kernels"]
        assert "layers" not in found
    elif kernels.ready(torch.zeros(1)):
        assert found["kernels"].startswith("in use")
        assert found["layers"].count("GFLOP/s") == 2
        assert found["layers"].count("torch ") == 2


def test_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("CC", "no-such-compiler")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiled.library.cache_clear()
    found = report()
    assert "not in use: kernels.c cannot be compiled here" in found["kernels"]
    assert "no-such-compiler" in found["kernels"]
    assert "layers" not in found
    monkeypatch.delenv("CC")
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert report()["compiler"].startswith("none: with gcc or clang")
    assert "no C compiler here" in report()["kernels"]


def test_what_is_turned_off(monkeypatch):
    if compiled.library() is None:
        pytest.skip("no compiler here")
    with kernels.off():
        assert report()["kernels"] == "compiled, and turned off by ATRANK_KERNELS=0"


@pytest.mark.parametrize(("given", "kept"), [(None, "1000"), ("7", "7")])
def test_threads_do_not_spin_long_unless_one_says_so(given, kept):
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    environment |= {} if given is None else {"GOMP_SPINCOUNT": given}
    command = [sys.executable, "-m", "atrank_lib", "doctor"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert f"GOMP_SPINCOUNT {kept}\n" in done.stdout
