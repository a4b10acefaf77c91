"""`atrank check`: is this a valid event log, and how much is in it?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from rich.table import Table

from atrank_lib.cli.output import console, shown
from atrank_lib.log import EventLogError, ShardedLog, read_log


def check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of an event log, with its schema.yaml.")],
) -> None:
    """Check an event log and sum it up. Every problem goes to stderr, one a line, and the exit code is 1."""
    try:
        log = read_log(folder)
        if isinstance(log, ShardedLog):
            log.check()
    except EventLogError as error:
        count = len(error.problems)
        last = f"{folder}: {count:,} problem{'s' if count > 1 else ''}; rows count from 0"
        raise ValueError("\n".join([*map(str, error.problems), last])) from None
    kind = f"event log in {log.shards} shards" if isinstance(log, ShardedLog) else "event log"
    typer.echo(f"{log.schema.name}: a valid {kind}, fingerprint {log.fingerprint()}")
    console().print(_on_its_side(log.summary()))


def _on_its_side(summary: pd.DataFrame) -> Table:
    """Few groups and many features make a narrow table."""
    table = Table("")
    for group in summary.index:
        table.add_column(shown(group), justify="right", overflow="fold")
    for name, row in summary.items():
        table.add_row(shown(name), *(_cell(value) for value in row))
    return table


def _cell(value: Any) -> str:
    if pd.isna(value):
        return "-"
    if isinstance(value, float):
        return f"{value:,.1f}"
    return f"{value:,}" if not isinstance(value, str) else value
