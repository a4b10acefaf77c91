"""What the command line says: tables, whose characters a terminal may lack, and errors."""

import io
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from atrank_lib.log.writing import explain
from atrank_lib.runs.config import first_problem
from atrank_lib.scale.processes import PeerError


def escape_what_cannot_be_shown() -> None:
    """From here on, what the encoding of stdout and stderr lacks is escaped, such as an id in another script. Where the
    output goes into a pipe or a file, that encoding may be an old one whatever the terminal can show."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def shown(value: object) -> str:
    """A value as the text of a cell: no markup, and escaped before the cell's width is measured."""
    encoding = sys.stdout.encoding or "utf-8"
    text = f"{value:.4f}" if isinstance(value, float) else str(value)
    return escape(text.encode(encoding, "backslashreplace").decode(encoding))


def print_rows(table: Table, rows: Iterable[Sequence[object]]) -> None:
    """Fill a table and print it as wide as the terminal; in a pipe, or a notebook, nothing is wrapped or cut."""
    for row in rows:
        table.add_row(*map(shown, row))
    console = Console(highlight=False, force_jupyter=False)
    if not console.is_terminal:
        console.width = 100_000
    console.print(table)


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
    """What to tell the user: one line, or one for each problem of a log; None of what is a bug."""
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
