"""What the command line does with errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import typer
from pydantic import ValidationError

from atrank_lib.log.writing import explain
from atrank_lib.runs.config import first_problem
from atrank_lib.scale.processes import PeerError


@contextmanager
def plain_errors() -> Iterator[None]:
    """What the user can mend is one message on stderr and exit code 1; anything else is a bug and shows itself."""
    try:
        yield
    except PeerError:
        raise typer.Exit(1) from None
    except Exception as error:
        message = plain(error)
        if message is None:
            raise
        typer.echo(message, err=True)
        raise typer.Exit(1) from None


def plain(error: Exception) -> str | None:
    """What to tell the user: one line, or one for each problem of a log; None of what is a bug.

    >>> plain(ValueError("users=0; simulate at least one")), plain(AssertionError())
    ('users=0; simulate at least one', None)
    """
    if isinstance(error, BrokenPipeError):  # who reads the output has had enough, as in `atrank rank ... | head -3`
        return None
    if isinstance(error, OSError):
        return explain(error)
    if isinstance(error, ValidationError):
        return first_problem(error)
    if isinstance(error, (ValueError, FloatingPointError)):
        return str(error)
    if isinstance(error, KeyError):
        return " ".join(map(str, error.args))
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error):
        return "there is not enough memory; ask for fewer things at a time (a smaller --batch-size, fewer --negatives)"
    return None
