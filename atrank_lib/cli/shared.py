"""What several commands have: options, and tables whose characters a terminal may lack."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

DataOption = Annotated[Path, typer.Option("--data", metavar="DIR", help="Folder of an event log.")]
RunOption = Annotated[Path, typer.Option("--run", metavar="RUN", help="Folder that `atrank train` wrote.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
AtOption = Annotated[int | None, typer.Option(help="Moment of ranking (timestamp); after the log by default.")]


def one_target(targets: Sequence[str], group: str | None, option: str) -> str:
    """The group that the option names, or the run's one target."""
    if group is None and len(targets) > 1:
        raise ValueError(f"the run has several target groups: choose one with {option}: {', '.join(targets)}")
    return targets[0] if group is None else group


def escape_what_cannot_be_shown() -> None:
    """From here on, what the encoding of stdout and stderr lacks is escaped, such as an id in another script.

    Where the output goes into a pipe or a file, that encoding may be an old one whatever the terminal can show.
    """
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
