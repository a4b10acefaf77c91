"""`atrank check`: is this a valid event log, and how much is in it?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from rich.table import Table

from atrank_lib.cli.shared import print_rows, shown
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
        plural = "s" if count > 1 else ""
        raise ValueError(f"{error}\n{folder}: {count:,} problem{plural}; rows count from 0") from None
    kind = f"event log in {log.shards} shards" if isinstance(log, ShardedLog) else "event log"
    typer.echo(f"{log.schema.name}: a valid {kind}, fingerprint {log.fingerprint()}")
    summary = log.summary()
    table = Table("")  # a row for each column: few groups and many features make a narrow table
    for group in summary.index:
        table.add_column(shown(group), justify="right", overflow="fold")
    print_rows(table, ((name, *map(_cell, row)) for name, row in summary.items()))


def _cell(value: Any) -> str:
    if pd.isna(value):
        return "-"
    if isinstance(value, float):
        return f"{value:,.1f}"
    return f"{value:,}" if not isinstance(value, str) else value
