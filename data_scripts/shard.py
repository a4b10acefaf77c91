"""Spread an event log over shards by a hash of the user, so that it is checked and trained on in bounded memory.

    python -m data_scripts.shard --data my_log --out my_log_in_16 --shards 16

The hash is an expression that DuckDB and Spark both run, and `atrank_lib.log.sharded` says what the folder holds.
Within a shard, behaviors keep the order of the log. The objects tables are written as one for all shards.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from itertools import groupby, pairwise
from pathlib import Path
from typing import Annotated

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer

from atrank_lib.log import EventLogError, Problem, Schema, ShardedLog
from atrank_lib.log.events import EVENT_COLUMNS
from atrank_lib.log.files import table_path
from atrank_lib.log.schema import SCHEMA_FILE
from data_scripts._engine import connect
from data_scripts._errors import PreparationError
from data_scripts._options import HERE, Engine, EngineOption, Spark, SparkConfOption, SparkMasterOption
from data_scripts._tables import or_exit, published, read_table, refuse_existing, stream

EVENTS = pa.schema([(name, pa.int64() if name == "timestamp" else pa.large_string()) for name in EVENT_COLUMNS])
TYPES = {"user_id": "!string", "timestamp": "!int64", "action": "!string", "object_id": "!string"}
DIGITS = "0123456789abcdef"
HASHED = 4  # hexadecimal digits of the MD5
SHARDS_AT_MOST = 1 << 10  # so that the 2^16 values of the hash fall evenly on the shards


def shard_number(user_id: ir.StringColumn, shards: int) -> ir.IntegerColumn:
    """The shard of every user, as `atrank_lib.log.sharded.shard_of` has it.

    Hash functions of the engines differ, but MD5 is MD5; its first digits become a number by their places in DIGITS,
    for the engines do not agree on how to read a hexadecimal number either.
    """
    md5 = user_id.hexdigest("md5")
    value = ibis.literal(0, "int64")
    for place in range(HASHED):
        value = value * 16 + ibis.literal(DIGITS).find(md5[place])
    return value % shards


def in_shards(events: ir.Table, shards: int) -> ir.Table:
    """Behaviors shard by shard, each shard in the order of the log."""
    numbered = events.mutate(shard=shard_number(events.user_id, shards))
    return numbered.order_by("shard", "row").select("shard", *EVENT_COLUMNS)


def write_shards(behaviors: Iterable[pa.RecordBatch], folder: Path, name: str, shards: int) -> None:
    """Write behaviors that come shard by shard into one file of the group ``name`` in every shard's folder."""
    found = groupby(_pieces(behaviors), key=lambda piece: piece[0])
    current = next(found, None)
    for shard in range(shards):
        pieces = []
        if current is not None and current[0] == shard:
            pieces = [piece for _, piece in current[1]]
            current = next(found, None)
        place = folder / f"shard-{shard:04d}"
        place.mkdir(exist_ok=True)
        # in one piece, so that the file does not tell in which pieces the engine gave it
        pq.write_table(pa.Table.from_batches(pieces, EVENTS).combine_chunks(), place / f"{name}.events.parquet")


def _pieces(behaviors: Iterable[pa.RecordBatch]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Behaviors in their order, each piece of one shard."""
    for batch in behaviors:
        shard = batch.column("shard").to_numpy()
        rows = batch.select(EVENTS.names).cast(EVENTS)
        edges = np.flatnonzero(np.diff(shard)) + 1
        for start, stop in pairwise([0, *edges.tolist(), len(shard)]):
            if stop > start:
                yield int(shard[start]), rows.slice(start, stop - start)


def events_table(con: ibis.BaseBackend, folder: Path, name: str) -> ir.Table:
    """The behaviors of a group, and their ``row``."""
    path = _table(folder, f"{name}.events")
    if path.suffix != ".parquet":
        raise PreparationError(f"{path}: only Parquet is sharded; write the log with EventLog.read(...).write(...)")
    try:
        kind = pq.read_schema(path).field("timestamp").type
    except (pa.ArrowException, KeyError) as error:
        raise PreparationError(f"{path}: not a readable table of behaviors ({error}); write it again") from error
    if not pa.types.is_integer(kind):
        raise PreparationError(f"{path}: timestamp is {kind}; write whole numbers")
    return read_table(con, path, TYPES)


def _table(folder: Path, stem: str) -> Path:
    problems: list[Problem] = []
    path = table_path(folder, stem, problems)
    if path is None:
        raise EventLogError(problems)
    return path


def write(
    data: Path, out: Path, shards: int, engine: Engine = "duckdb", overwrite: bool = False, spark: Spark = HERE
) -> ShardedLog:
    """Write the log in ``data`` as ``shards`` shards into ``out``, check every shard, and return it.

    Raises:
        PreparationError, EventLogError: the log cannot be read, is not valid, or leaves a shard empty.
    """
    refuse_existing(out, overwrite)
    schema = Schema.read(data / SCHEMA_FILE)
    if seen := sorted(path.name for name in schema.groups for path in data.glob(f"{name}.impressions.*")):
        raise PreparationError(f"{data / seen[0]}: a sharded log has no impressions; train on the log as it is")
    with published(out, overwrite) as fresh:
        shutil.copy(data / SCHEMA_FILE, fresh)
        with connect(engine, spark) as con:
            for name in schema.groups:
                objects = _table(data, f"{name}.objects")
                shutil.copy(objects, fresh)
                behaviors = stream(con, in_shards(events_table(con, data, name), shards))
                write_shards(behaviors, fresh, name, shards)
        ShardedLog.read(fresh).check()
    return ShardedLog.read(out)


def prepare(data: Path, out: Path, shards: int, engine: Engine, overwrite: bool, spark: Spark) -> None:
    """Write the shards and say how large they are."""
    extents = [extent[None] for extent in write(data, out, shards, engine, overwrite, spark).extents()]
    users = [extent.users for extent in extents]
    typer.echo(
        f"{out}: {sum(extent.behaviors for extent in extents):,} behaviors of {sum(users):,} users in {shards} shards, "
        f"{min(users):,} to {max(users):,} users each"
    )


def main(
    data: Annotated[Path, typer.Option(metavar="DIR", help="Folder of an event log with Parquet tables.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the sharded log to write.")],
    shards: Annotated[int, typer.Option(min=1, max=SHARDS_AT_MOST, help="Number of shards.")],
    engine: EngineOption = "duckdb",
    spark_master: SparkMasterOption = None,
    spark_conf: SparkConfOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an event log at --out.")] = False,
) -> None:
    """Spread the users of an event log over shards, which `atrank check`, `train`, `evaluate` and `rank` read."""
    or_exit(lambda: prepare(data, out, shards, engine, overwrite, Spark.of(spark_master, spark_conf)))


if __name__ == "__main__":
    typer.run(main)
