"""What the preparation scripts share: reading tables, comparing counts, and publishing a finished event log.

A script either leaves a complete, validated event log behind or nothing: the log is written beside its
destination and renamed. How its tables were joined goes into ``JOINS.md`` inside the log folder.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

import ibis
import ibis.expr.types as ir
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import typer

from atrank_lib.log import EventLog, EventLogError
from atrank_lib.log.writing import explain, writing_folder
from data_scripts._engine import failures
from data_scripts._errors import PreparationError


def read_table(con: ibis.BaseBackend, path: Path, columns: Mapping[str, str]) -> ir.Table:
    """The named columns of a parquet file, cast to the given Ibis types, and ``row``, the 0-based file row.

    A type that begins with ``!``, as in ``!string``, allows no missing value.

    Raises:
        PreparationError: the file is missing or unreadable, lacks a column, or holds a value of another type.
    """
    if not path.is_file():
        raise PreparationError(f"{path}: no such file")
    try:
        table = con.read_parquet(str(path), file_row_number=True)
    except failures(con) as error:
        raise PreparationError(f"{path}: not a readable parquet file; fetch it again ({error})") from error
    return take_columns(con, table.rename(row="file_row_number"), columns, path)


def take_columns(con: ibis.BaseBackend, table: ir.Table, columns: Mapping[str, str], path: Path) -> ir.Table:
    """``row`` and the named columns of a table that has them all, cast and held by the engine; errors name ``path``."""
    missing = [name for name in columns if name not in table.columns]
    if missing:
        has = ", ".join(repr(name) for name in table.columns if name != "row")
        raise PreparationError(f"{path}: no column {', '.join(map(repr, missing))}; it has {has}")
    types = {name: ibis.dtype(kind) for name, kind in columns.items()}
    try:
        cast = table.select("row", *columns).cast({name: kind.copy(nullable=True) for name, kind in types.items()})
        held = con.create_table(ibis.util.gen_name("source"), cast, temp=True)
    except failures(con) as error:
        raise PreparationError(f"{path}: a value is not of the type in {dict(columns)} ({error})") from error
    for name, kind in types.items():
        empty = to_frame(held.filter(held[name].isnull()).order_by("row").limit(1))
        if not kind.nullable and len(empty):
            raise PreparationError(f"{path}, row {empty['row'][0]}: {name} is missing; complete or remove that row")
    return held


def to_frame(table: ir.Table) -> pd.DataFrame:
    """Run an expression; text columns come as pandas text, nulls as missing values."""
    return table.to_pyarrow().to_pandas()


def stream(con: ibis.BaseBackend, table: ir.Table) -> Iterator[pa.RecordBatch]:
    """Run an expression and read its rows in their order, a batch at a time; they wait on disk meanwhile."""
    with tempfile.TemporaryDirectory(prefix="atrank_rows_") as folder:
        place = Path(folder) / "rows.parquet"
        con.to_parquet(table, place)
        for path in sorted(place.glob("part-*.parquet")) if place.is_dir() else [place]:  # Spark writes a folder
            with pq.ParquetFile(path) as file:
                yield from file.iter_batches(batch_size=100_000)


def number(value: ir.IntegerScalar) -> int:
    """Run an expression that is one number."""
    return int(value.to_pyarrow().as_py())


def require_unique(table: ir.Table, key: str, path: Path) -> None:
    """Refuse a lookup table whose key repeats: joining it would multiply behaviors."""
    counts = table.group_by(key).aggregate(n=lambda t: t.count())
    twice = to_frame(counts.filter(counts.n > 1).order_by(key).limit(1))
    if len(twice):
        raise PreparationError(
            f"{path}: {key} {twice[key].tolist()[0]!r} is on {twice['n'][0]} rows; keep one row for each {key}"
        )


def differing_counts(found: Mapping[str, int], expected: Mapping[str, int], source: str) -> list[str]:
    """One sentence for each count that is not the published one."""
    return [
        f"{name}: {found[name]:,} found, {number:,} in {source}"
        for name, number in expected.items()
        if found[name] != number
    ]


def refuse_existing(folder: Path, overwrite: bool) -> None:
    """Refuse a destination that exists, and, even to overwrite, anything that is not an event log."""
    if not os.path.lexists(folder):
        return
    if not overwrite:
        raise PreparationError(f"{folder}: exists already; choose another --out or pass --overwrite")
    if not (folder / "schema.yaml").is_file():
        raise PreparationError(f"{folder}: exists and is not an event log (no schema.yaml); choose another --out")


def publish(log: EventLog, folder: Path, joins: str, overwrite: bool) -> None:
    """Write the log and its ``JOINS.md``; nothing half-written is left behind."""
    with published(folder, overwrite) as fresh:
        log.write_tables(fresh)
        (fresh / "JOINS.md").write_text(joins, encoding="utf-8")


@contextmanager
def published(folder: Path, overwrite: bool) -> Iterator[Path]:
    """An empty folder that takes the place of ``folder`` when the block ends well, and else is removed."""
    refuse_existing(folder, overwrite)
    with writing_folder(folder, overwrite) as fresh:
        yield fresh


def joins_page(title: str, steps: Sequence[str], counts: Mapping[str, int], warnings: Iterable[str]) -> str:
    """The text of ``JOINS.md``: how the tables were joined, what came out, what is not as published."""
    lines = [f"# {title}", "", "How this event log was joined from its source tables.", ""]
    lines += [f"- {step}" for step in steps]
    lines += ["", "| count | |", "|---|---:|"]
    lines += [f"| {name} | {number:,} |" for name, number in counts.items()]
    lines += ["", "## Not as published", ""] if (warned := list(warnings)) else []
    lines += [f"- {warning}" for warning in warned]
    return "\n".join(lines) + "\n"


def report(folder: Path, steps: Sequence[str], counts: Mapping[str, int], warnings: Iterable[str]) -> None:
    """Print the joins and counts; differences from the published counts go to stderr."""
    typer.echo(f"{folder}: " + ", ".join(f"{number:,} {name}" for name, number in counts.items()))
    for step in steps:
        typer.echo(f"- {step}")
    for warning in warnings:
        typer.secho(f"WARNING: {warning}", fg="yellow", err=True)


def or_exit(prepare: Callable[[], None]) -> None:
    """Run a preparation; an expected failure becomes one message on stderr and exit status 1."""
    try:
        prepare()
    except BrokenProcessPool:
        typer.echo("error: a parsing process was killed, perhaps for memory; use fewer --workers", err=True)
    except (PreparationError, EventLogError, OSError) as error:
        typer.echo(f"error: {explain(error) if isinstance(error, OSError) else error}", err=True)
    else:
        return
    raise typer.Exit(1)
