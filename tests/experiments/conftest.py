"""A log so small that a cell takes a moment, and the command line as a function."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from atrank_lib import EventLog
from experiments.cli import main
from tests.random_logs import random_log


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small") / "log"
    random_log(4, users=7, behaviors=60, objects=30, times=40).write(folder)
    return folder


@pytest.fixture
def log(data: Path) -> EventLog:
    return EventLog.read(data)


class Done(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """`python -m experiments`, in this process."""

    def call(*arguments: object) -> Done:
        return Done(main([str(argument) for argument in arguments]), *capsys.readouterr())

    return call
