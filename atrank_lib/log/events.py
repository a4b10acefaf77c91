"""The event log: behaviors and the objects they are about, read, checked, summed up and written.

A log is a folder with `schema.yaml` and, for every group of behaviors, two tables, Parquet or CSV:

    <group>.events.parquet     user_id, timestamp, action, object_id: one row a behavior
    <group>.objects.parquet    object_id and one column for every feature: one row an object

Everything is checked on the way in, and every problem is reported at once. Nothing is dropped or repaired.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from atrank_lib.log.checks import TABLES, checked_events, checked_objects, columns_of
from atrank_lib.log.columns import CheckedTable, mask
from atrank_lib.log.extent import Extent, summarize
from atrank_lib.log.files import table_from_file, table_from_frame, table_path
from atrank_lib.log.schema import SCHEMA_FILE, EventLogError, Problem, Schema, sound_part, suggest
from atrank_lib.log.writing import write_text, writing_folder

__all__ = ["EventLog", "EventLogError", "Problem"]

FIRST_SHARD = "shard-0000"  # the folder that a sharded log has (see ``sharded``)


@dataclass(frozen=True, eq=False)
class EventLog:
    """A valid event log; make one with `read` or `from_tables`.

    Attributes:
        schema: groups, actions, features and time scales.
        events: for each group the behaviors, in the order of the file (which breaks ties in time): user_id (str),
            timestamp (int64, in the schema's timestamp_unit), action (categorical, in the schema's order),
            object_id (str).
        objects: for each group one row an object: object_id (str, unique) and the features of the schema:
            categorical as str (missing = unknown), tokens as lists of str, continuous as float64 (NaN = missing).

    >>> log.summary()["behaviors"].to_dict()
    {'item': 870, 'query': 431, 'coupon': 327, 'all groups': 1628}
    >>> log.events["item"].columns.tolist()
    ['user_id', 'timestamp', 'action', 'object_id']
    """

    schema: Schema
    events: dict[str, pd.DataFrame]
    objects: dict[str, pd.DataFrame]

    @classmethod
    def read(cls, folder: str | Path) -> EventLog:
        """Read and check a log folder. Files and columns that the schema does not name are ignored.

        Raises EventLogError with every problem of the folder.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise EventLogError([Problem(str(folder), None, None, None, "not a folder; name a log's folder")])
        if (folder / FIRST_SHARD).is_dir():
            message = "a sharded log; read it shard by shard, as `atrank check`, `train`, `evaluate` and `rank` do"
            raise EventLogError([Problem(str(folder), None, None, None, message)])
        problems: list[Problem] = []
        try:
            schema = Schema.read(folder / SCHEMA_FILE)
        except EventLogError as error:
            problems.extend(error.problems)
            part = sound_part(folder / SCHEMA_FILE)
            if part is None:
                raise
            schema = part
        tables: dict[tuple[str, str], CheckedTable | None] = {}
        for name, group in schema.groups.items():
            for kind in TABLES:
                path = table_path(folder, f"{name}.{kind}", problems)
                tables[name, kind] = table_from_file(path, columns_of(kind, group)) if path else None
        return cls._check(schema, tables, problems)

    @classmethod
    def from_tables(
        cls, schema: Schema, events: Mapping[str, pd.DataFrame], objects: Mapping[str, pd.DataFrame]
    ) -> EventLog:
        """Check frames in memory, one of events and one of objects a group, and make them a log.

        The frames are copied. Raises EventLogError with every problem.
        """
        problems: list[Problem] = []
        tables: dict[tuple[str, str], CheckedTable | None] = {}
        for kind, frames in zip(TABLES, (events, objects), strict=True):
            for name in frames:
                if name not in schema.groups:
                    message = f"the schema has no such group; {suggest(name, schema.groups)}"
                    problems.append(Problem(f"{name}.{kind}", None, None, None, message))
            for name, group in schema.groups.items():
                tables[name, kind] = None
                if name in frames:
                    tables[name, kind] = table_from_frame(f"{name}.{kind}", frames[name], columns_of(kind, group))
                else:
                    problems.append(Problem(f"{name}.{kind}", None, None, None, "the table is missing; add it"))
        return cls._check(schema, tables, problems)

    @classmethod
    def _check(
        cls, schema: Schema, tables: Mapping[tuple[str, str], CheckedTable | None], problems: list[Problem]
    ) -> EventLog:
        """Check the tables against the schema and each other; None is a table noted as missing."""
        events, objects = {}, {}
        for name, group in schema.groups.items():
            event_table, object_table = tables[name, "events"], tables[name, "objects"]
            ids = None
            if object_table is not None:
                ids, objects[name] = checked_objects(object_table, group)
            if event_table is not None:
                events[name] = checked_events(event_table, group, schema.timestamp_unit, ids)
            for table in (event_table, object_table):
                problems.extend(table.problems if table is not None else ())
        if problems:
            raise EventLogError(problems)
        return cls(schema, events, objects)

    def write(self, folder: str | Path, overwrite: bool = False) -> None:
        """Write the log as a folder with Parquet tables.

        The folder appears complete or not at all. An existing one is refused (FileExistsError), unless `overwrite` is
        true and it holds a log: then all of it is replaced. Raises OSError, in one line, if it cannot be written.
        """
        folder = Path(folder)
        if folder.exists() or folder.is_symlink():
            if not overwrite:
                raise FileExistsError(f"{folder} exists; choose another folder, or pass overwrite=True")
            if not (folder / SCHEMA_FILE).is_file():
                raise FileExistsError(f"{folder} is no event log ({SCHEMA_FILE} is missing); choose another folder")
        with writing_folder(folder, overwrite) as beside:
            self.write_tables(beside)

    def write_tables(self, folder: Path, groups: Iterable[str] | None = None) -> None:
        """Write schema and tables, of some groups or of all, into a folder that is there, one after the other."""
        write_text(folder / SCHEMA_FILE, self.schema.text())
        for name in self.schema.groups if groups is None else groups:
            for kind in TABLES:
                pa.parquet.write_table(self._arrow(name, kind), folder / f"{name}.{kind}.parquet")

    def summary(self) -> pd.DataFrame:
        """Count the log as the paper's Tables 1 and 2 do: one row a group, and one for all groups.

        Columns: users, behaviors, objects, average length (behaviors per user), distinct values of every
        categorical and tokens feature, first and last day (UTC). For all groups, users are counted once, and
        so is a value that several groups know in one shared vocabulary.
        """
        return summarize(self.schema, self.objects, [self.extents()])

    def extents(self) -> dict[str | None, Extent]:
        """Users, behaviors and time of every group and, under None, of all groups; without the empty ones."""
        some: dict[str | None, list[str]] = {name: [name] for name in self.schema.groups}
        found = {}
        for key, names in (some | {None: list(self.schema.groups)}).items():
            tables = [self.events[name] for name in names if len(self.events[name])]
            if tables:
                found[key] = Extent(
                    users=len(pd.concat([table["user_id"] for table in tables]).unique()),
                    behaviors=sum(map(len, tables)),
                    first=min(int(table["timestamp"].min()) for table in tables),
                    last=max(int(table["timestamp"].max()) for table in tables),
                )
        return found

    def fingerprint(self) -> str:
        """SHA-256 (its first 12 hex digits) of schema and contents.

        The same whatever the file format, the folder, and the order of groups, features and columns;
        different for any other value or row order.
        """
        digest = hashlib.sha256(json.dumps(self.schema.model_dump(mode="json"), sort_keys=True).encode())
        for name in sorted(self.schema.groups):
            for kind in TABLES:
                table = self._arrow(name, kind)
                for column in sorted(table.column_names):
                    digest.update(f"{name}.{kind}.{column}:{len(table)}".encode())
                    for piece in _content(table.column(column).combine_chunks()):
                        digest.update(piece)
        return digest.hexdigest()[:12]

    def _arrow(self, name: str, kind: str) -> pa.Table:
        """A group's table with the column types in which it is stored and hashed."""
        frame = (self.events if kind == "events" else self.objects)[name]
        stored = {
            "continuous": pa.float64(),
            "categorical": pa.large_string(),
            "tokens": pa.list_(pa.large_string()),
        }
        features = self.schema.groups[name].features
        types = {column: pa.large_string() for column in frame.columns}
        if kind == "events":
            types["timestamp"] = pa.int64()
            frame = frame.assign(action=frame["action"].astype("str"))
        else:
            types |= {feature: stored[spec.kind] for feature, spec in features.items()}
        return pa.table(
            {column: pa.array(frame[column], type=types[column], from_pandas=True) for column in frame.columns}
        )


def _content(array: pa.Array) -> Iterator[bytes | memoryview]:
    """Bytes of a column: which values are missing, how long each is, and the values themselves."""
    if pa.types.is_list(array.type):
        yield array.value_lengths().to_numpy(zero_copy_only=False).astype("<i8").tobytes()
        array = array.flatten()
    yield np.packbits(mask(array.is_null())).tobytes()
    if not pa.types.is_large_string(array.type):
        # + 0 turns -0.0 into 0.0, which is equal but has other bytes
        yield (array.fill_null(0).to_numpy(zero_copy_only=False) + 0).tobytes()
    elif len(array):
        array = array.fill_null("")
        yield pc.binary_length(array).to_numpy(zero_copy_only=False).astype("<i8").tobytes()
        start, stop = np.frombuffer(array.buffers()[1], np.int64)[[array.offset, array.offset + len(array)]]
        yield memoryview(array.buffers()[2] or b"")[start:stop]
