"""One small trained run for all tests of this folder, and copies of it to spoil."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from atrank_lib.log.events import EventLog
from atrank_lib.runs import train_run
from atrank_lib.training import FitResult
from tests.random_logs import random_log
from tests.runs.small import OPTIONS, RECIPE, Train


@pytest.fixture(scope="session")
def log() -> EventLog:
    return random_log(4, users=7, behaviors=60, objects=30, times=40)


@pytest.fixture(scope="session")
def train(log: EventLog) -> Train:
    """`train_run` with small settings, which may be changed."""

    def train(out: Path, log: EventLog = log, **changes: Any) -> FitResult:
        return train_run(log, out, **{"options": OPTIONS, "recipe": RECIPE, "progress": False, **changes})

    return train


@pytest.fixture(scope="session")
def trained(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs; not to be changed."""
    run = tmp_path_factory.mktemp("trained") / "run"
    train(run)
    return run


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """The same, to spoil."""
    return shutil.copytree(trained, tmp_path / "run")
