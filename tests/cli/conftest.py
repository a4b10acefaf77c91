"""A log and a run trained on it, for all tests of the commands."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.runner import atrank
from tests.random_logs import random_log


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "log"
    random_log(4, users=7, behaviors=60, objects=30, times=40).write(folder)
    return folder


@pytest.fixture(scope="session")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "run"
    done = atrank("train", "--data", data, "--out", run, "--epochs", 2, "--batch-size", 16)
    assert done.code == 0, done.err
    return run


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return shutil.copytree(trained, tmp_path / "run")
