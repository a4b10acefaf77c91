"""The program `atrank` in this process."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from typer.testing import CliRunner

from atrank_lib.cli import app


class Done(NamedTuple):
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


def atrank(*arguments: str | Path | int) -> Done:
    done = CliRunner().invoke(app, [str(a) for a in arguments], prog_name="atrank")
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception  # a user would see a traceback
    return Done(done.exit_code, done.stdout, done.stderr)


def refused(done: Done, *parts: str) -> None:
    """Exit code 1 and one clear message on stderr."""
    assert (done.code, done.out) == (1, "")
    assert len(done.err.splitlines()) == 1, done.err
    for part in parts:
        assert part in done.err
