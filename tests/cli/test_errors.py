"""What the user can mend is one line on stderr and exit code 1; a bug shows itself."""

from __future__ import annotations

import errno

import pytest
import torch
import typer
from pydantic import BaseModel, ValidationError

from atrank_lib.cli import COMMANDS, app
from atrank_lib.cli.output import plain_errors
from atrank_lib.scale.processes import PeerError


class Sizes(BaseModel):
    hidden: int


def invalid() -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        Sizes.model_validate({"hidden": "many"})
    return caught.value


def no_memory() -> RuntimeError:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    return caught.value


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("users=0; simulate at least one"), "users=0; simulate at least one"),
        (FloatingPointError("loss nan at step 3"), "loss nan at step 3"),
        (KeyError("user 'zoe' has no behavior"), "user 'zoe' has no behavior"),
        (OSError(errno.ENOSPC, "No space left on device", "run/a"), "run/a: the disk is full; make room"),
        (PermissionError(errno.EACCES, "Permission denied", "run/a"), "run/a: permission is denied"),
        (invalid(), "hidden: Input should be a valid integer"),
        (no_memory(), "there is not enough memory"),
        (MemoryError(), "there is not enough memory"),
    ],
)
def test_one_line(error: Exception, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, plain_errors():
        raise error
    assert ended.value.exit_code == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(said)
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "bug", [TypeError("x"), RuntimeError("x"), AssertionError(), BrokenPipeError(errno.EPIPE, "x")]
)
def test_a_bug_shows_itself(bug: Exception) -> None:
    """And a closed pipe, as of `atrank rank ... | head -3`, is the program's own business to end quietly."""
    with pytest.raises(type(bug)), plain_errors():
        raise bug


def test_a_failure_that_another_process_tells(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, plain_errors():
        raise PeerError("another process failed first; see its error")
    assert (ended.value.exit_code, capsys.readouterr().err) == (1, "")


def test_every_command_is_in_the_table() -> None:
    assert [command.callback.__name__ for command in app.registered_commands if command.callback] == [
        command.__name__ for command in COMMANDS
    ]
