"""What the commands print: tables, and characters that a terminal may not have."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table


def escape_what_cannot_be_shown() -> None:
    """From here on, what the encoding of stdout and stderr lacks is escaped, such as an id in another script.

    Where the output goes into a pipe or a file, that encoding may be an old one whatever the terminal can show.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def console() -> Console:
    """Where tables go: as wide as the terminal; in a pipe, or a notebook, nothing is wrapped or cut, however wide."""
    found = Console(highlight=False, force_jupyter=False)
    return found if found.is_terminal else Console(highlight=False, width=100_000, force_jupyter=False)


def shown(value: object) -> str:
    """A value as the text of a cell: no markup, and escaped before the cell's width is measured."""
    encoding = sys.stdout.encoding or "utf-8"
    text = f"{value:.4f}" if isinstance(value, float) else str(value)
    return escape(text.encode(encoding, "backslashreplace").decode(encoding))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], caption: str | None = None) -> None:
    """Print a table of values."""
    table = Table(*map(shown, columns), caption=caption)
    for row in rows:
        table.add_row(*map(shown, row))
    console().print(table)
