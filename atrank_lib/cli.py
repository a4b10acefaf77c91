"""The command line: `atrank check | train | evaluate | rank`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from atrank_lib.events import EventLog, EventLogError

app = typer.Typer(
    name="atrank",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Entry point of the program `atrank`."""
    app(prog_name="atrank")


@app.callback()
def _program() -> None:
    """ATRank: an attention-based user behavior model for recommendation."""


@app.command()
def check(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of an event log, with its schema.yaml.")
    ],
) -> None:
    """Check an event log and sum it up. Every problem goes to stderr, one a line, and the exit code is 1."""
    try:
        log = EventLog.read(folder)
    except EventLogError as error:
        for problem in error.problems:
            typer.echo(problem, err=True)
        count = len(error.problems)
        typer.echo(f"{folder}: {count:,} problem{'s' if count > 1 else ''}; rows count from 0", err=True)
        raise typer.Exit(1) from None
    console = Console(highlight=False)
    if not console.is_terminal:
        # in a pipe nothing is wrapped or cut, however wide
        console = Console(highlight=False, width=100_000)
    console.print(
        f"{escape(log.schema.name)}: a valid event log, fingerprint {log.fingerprint()}", soft_wrap=True
    )
    console.print(_summary_table(log.summary()))


def _summary_table(summary: pd.DataFrame) -> Table:
    """Turn the summary on its side: few groups and many features make a narrow table."""
    table = Table("")
    for group in summary.index:
        table.add_column(escape(group), justify="right", overflow="fold")
    for name, row in summary.items():
        table.add_row(escape(str(name)), *(_cell(value) for value in row))
    return table


def _cell(value: Any) -> str:
    if pd.isna(value):
        return "-"
    if isinstance(value, float):
        return f"{value:,.1f}"
    return f"{value:,}" if not isinstance(value, str) else value
