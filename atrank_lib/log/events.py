"""The event log: behaviors and the objects they are about, read, checked, summed up and written.

A log is a folder with `schema.yaml` and, for every group of behaviors, two tables, Parquet or CSV:

    <group>.events.parquet     user_id, timestamp, action, object_id: one row a behavior
    <group>.objects.parquet    object_id and one column for every feature: one row an object

and, where it is known, a third one of what the user saw when choosing:

    <group>.impressions.parquet    event (row of the events table, from 0), object_id, and one column for every context:
                                   one row for each object that was shown, the chosen one among them

Everything is checked on the way in, and every problem is reported at once. Nothing is dropped or repaired.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from atrank_lib.log.columns import CheckedTable, mask
from atrank_lib.log.extent import Extent, summarize
from atrank_lib.log.files import read_table, table_from_frame
from atrank_lib.log.schema import (
    EVENT,
    OBJECT_ID,
    SCHEMA_FILE,
    EventLogError,
    Feature,
    Group,
    Problem,
    Schema,
    sound_part,
    suggest,
)
from atrank_lib.log.writing import write_text, writing_folder

__all__ = ["EventLog", "EventLogError", "Problem"]

TABLES = ("events", "objects")  # of every group
SHOWN = "impressions"  # of some
EVENT_COLUMNS = ("user_id", "timestamp", "action", "object_id")
STORED = {"categorical": pa.large_string(), "tokens": pa.list_(pa.large_string()), "continuous": pa.float64()}
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
        impressions: for groups that have some: event (int64, row of events), object_id (str) and the context.

    >>> log.summary()["behaviors"].to_dict()
    {'item': 870, 'query': 431, 'coupon': 327, 'all groups': 1628}
    >>> log.events["item"].columns.tolist()
    ['user_id', 'timestamp', 'action', 'object_id']
    """

    schema: Schema
    events: dict[str, pd.DataFrame]
    objects: dict[str, pd.DataFrame]
    impressions: dict[str, pd.DataFrame] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: str | Path) -> "EventLog":
        """Read and check a log folder. Files and columns that the schema does not name are ignored.

        Raises EventLogError with every problem of the folder.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise EventLogError([Problem(str(folder), None, None, None, "not a folder; name a log's folder")])
        if (folder / FIRST_SHARD).is_dir():
            message = "a sharded log; read it shard by shard, as `atrank check`, `train`, `evaluate` and `rank` do"
            raise EventLogError([Problem(str(folder), None, None, None, message)])
        schema, problems = sound_part(folder / SCHEMA_FILE)
        tables = {
            (name, kind): read_table(folder, f"{name}.{kind}", columns_of(kind, group), problems)
            for name, group in schema.groups.items()
            for kind in (*TABLES, SHOWN)
            if kind in TABLES or group.context or any(folder.glob(f"{name}.{kind}.[cp]*"))
        }
        return cls._check(schema, tables, problems)

    @classmethod
    def from_tables(
        cls,
        schema: Schema,
        events: Mapping[str, pd.DataFrame],
        objects: Mapping[str, pd.DataFrame],
        impressions: Mapping[str, pd.DataFrame] | None = None,
    ) -> "EventLog":
        """Check frames in memory, one of events and one of objects a group, and make them a log.

        The frames are copied, without columns that the schema does not name. Raises EventLogError with every problem.
        """
        problems = []
        tables = {}
        for kind, given in zip((*TABLES, SHOWN), (events, objects, impressions or {}), strict=True):
            for name in given:
                if name not in schema.groups:
                    message = f"the schema has no such group; {suggest(name, schema.groups)}"
                    problems.append(Problem(f"{name}.{kind}", None, None, None, message))
            for name, group in schema.groups.items():
                if kind == SHOWN and name not in given and not group.context:
                    continue
                tables[name, kind] = table_from_frame(f"{name}.{kind}", given.get(name), columns_of(kind, group))
        return cls._check(schema, tables, problems)

    @classmethod
    def _check(
        cls, schema: Schema, tables: Mapping[tuple[str, str], CheckedTable], problems: list[Problem]
    ) -> "EventLog":
        """Check the tables against the schema and each other."""
        events, objects, shown = {}, {}, {}
        for name, group in schema.groups.items():
            behaviors, things = (tables[name, kind] for kind in TABLES)
            objects[name] = checked_objects(things, group)
            events[name] = checked_events(behaviors, group, schema.timestamp_unit, objects[name][OBJECT_ID])
            if behaviors.is_empty():
                message = "the group is empty; write at least one behavior, or take the group out of the schema"
                behaviors.note(None, message)
            problems += behaviors.problems + things.problems
            if seen := tables.get((name, SHOWN)):
                shown[name] = checked_impressions(seen, group, events[name][OBJECT_ID], objects[name][OBJECT_ID])
                problems += seen.problems
        if problems:
            raise EventLogError(problems)
        return cls(schema, frames(events), frames(objects), frames(shown))

    def write(self, folder: str | Path, overwrite: bool = False) -> None:
        """Write the log as a folder with Parquet tables.

        The folder appears complete or not at all. An existing one is refused (FileExistsError), unless `overwrite` is
        true and it holds a log: then all of it is replaced. Raises OSError, in one line, if it cannot be written.
        """
        folder = Path(folder)
        if overwrite and os.path.lexists(folder) and not (folder / SCHEMA_FILE).is_file():
            raise FileExistsError(f"{folder} is no event log ({SCHEMA_FILE} is missing); choose another folder")
        with writing_folder(folder, overwrite) as beside:
            self.write_tables(beside)

    def write_tables(self, folder: Path, groups: Iterable[str] | None = None) -> None:
        """Write schema and tables, of some groups or of all, into a folder that is there, one after the other."""
        write_text(folder / SCHEMA_FILE, self.schema.text())
        for name in self.schema.groups if groups is None else groups:
            for kind in self._kinds(name):
                pa.parquet.write_table(self._arrow(name, kind), folder / f"{name}.{kind}.parquet")

    def summary(self) -> pd.DataFrame:
        """Count the log as the paper's Tables 1 and 2 do: one row a group, and one for all groups.

        Columns: users, behaviors, objects, average length (behaviors per user), distinct values of every
        categorical and tokens feature, first and last day (UTC), and, if there are impressions, for how many behaviors
        (choices) and how many in all (shown). For all groups, users are counted once, and so is a value that several
        groups know in one shared vocabulary.
        """
        table = summarize(self.schema, self.objects, [self.extents()])
        for column, count in {"choices": lambda seen: seen[EVENT].nunique(), "shown": len}.items():
            counts = pd.Series({name: count(seen) for name, seen in self.impressions.items()}, dtype="Int64")
            if len(counts):
                table[column] = pd.concat([counts, pd.Series({"all groups": counts.sum()}, dtype="Int64")])
        return table

    def extents(self) -> dict[str | None, Extent]:
        """Users, behaviors and time of every group and, under None, of all groups; without the empty ones."""
        found: dict[str | None, Extent] = {}
        for name in (*self.schema.groups, None):
            tables = [table for group, table in self.events.items() if name in (group, None) and len(table)]
            if tables:
                found[name] = Extent(
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
            for kind in self._kinds(name):
                table = self._arrow(name, kind)
                for column in sorted(table.column_names):
                    digest.update(f"{name}.{kind}.{column}:{len(table)}".encode())
                    for piece in _content(table.column(column).combine_chunks()):
                        digest.update(piece)
        return digest.hexdigest()[:12]

    def _kinds(self, name: str) -> tuple[str, ...]:
        """The tables that a group has."""
        return (*TABLES, SHOWN) if name in self.impressions else TABLES

    def _arrow(self, name: str, kind: str) -> pa.Table:
        """A group's table with the column types in which it is stored and hashed."""
        if kind == "events":
            frame, types = self.events[name].astype({"action": "str"}), {"timestamp": pa.int64()}
        else:
            group = self.schema.groups[name]
            features, tables = (
                (group.features, self.objects) if kind == "objects" else (group.context, self.impressions)
            )
            types = {EVENT: pa.int64()} | {feature: STORED[spec.kind] for feature, spec in features.items()}
            frame = tables[name]
        schema = pa.schema({column: types.get(column, pa.large_string()) for column in frame.columns})
        return pa.Table.from_pandas(frame, schema, preserve_index=False).replace_schema_metadata()


def columns_of(kind: str, group: Group) -> list[str]:
    """The columns that a group's table of events, of objects, or of impressions needs."""
    if kind == "events":
        return list(EVENT_COLUMNS)
    return [EVENT, OBJECT_ID, *group.context] if kind == SHOWN else list(dict.fromkeys([OBJECT_ID, *group.features]))


def checked_objects(table: CheckedTable, group: Group) -> dict[str, Any]:
    """The columns of a group's objects, None in place of what cannot be used; problems are noted in the table."""
    ids = table.text(OBJECT_ID, required=True)
    if ids is not None:
        twice = ids.to_pandas().duplicated().to_numpy() & mask(ids.is_valid())
        table.report(OBJECT_ID, twice, ids, "the object is listed before; keep one row for every object")
    return {OBJECT_ID: _str(ids)} | checked_features(table, group.features)


def checked_features(table: CheckedTable, features: Mapping[str, Feature]) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for feature, spec in features.items():
        if spec.kind == "continuous":
            columns[feature] = table.numbers(feature)
        elif spec.kind == "tokens":
            columns[feature] = table.tokens(feature)
        elif feature != OBJECT_ID:
            columns[feature] = _str(table.text(feature, required=False))
    return columns


def checked_events(table: CheckedTable, group: Group, unit: str, known: pd.Series | None) -> dict[str, Any]:
    """The columns of a group's behaviors, None in place of what cannot be used; problems are noted in the table.

    known: ids of the group's objects, which the behaviors must be about; None if there are none to compare with.
    """
    users = table.text("user_id", required=True)
    times = table.times("timestamp", unit)
    actions = table.text("action", required=True)
    about = table.text(OBJECT_ID, required=True)
    done = None
    if actions is not None:
        places = pc.index_in(actions, pa.array(group.actions, pa.large_string()))
        wrong = mask(places.is_null()) & mask(actions.is_valid())
        message = "the schema has no such action in this group; "
        table.report("action", wrong, actions, lambda value: message + suggest(value, group.actions))
        codes = places.fill_null(-1).to_numpy(zero_copy_only=False)
        done = pd.Categorical.from_codes(codes, categories=pd.Index(group.actions, dtype="str"))
    _check_known(table, about, known)
    return {"user_id": _str(users), "timestamp": times, "action": done, "object_id": _str(about)}


def checked_impressions(
    table: CheckedTable, group: Group, about: pd.Series | None, known: pd.Series | None
) -> dict[str, Any]:
    """The columns of a group's impressions, as ``checked_objects``. ``about``: the object of each of its behaviors."""
    given, ids = table.text(EVENT, required=True), table.text(OBJECT_ID, required=True)
    _check_known(table, ids, known)
    columns: dict[str, Any] = {EVENT: None, OBJECT_ID: _str(ids)} | checked_features(table, group.context)
    if given is None or ids is None or about is None:
        return columns
    number = pd.to_numeric(_str(given), errors="coerce").to_numpy(dtype=float)
    there = (number >= 0) & (number < len(about)) & (number == np.trunc(number))
    message = f"no row of the events table, whose rows count from 0 to {len(about) - 1}; correct the number"
    table.report(EVENT, ~there & mask(given.is_valid()), given, message)
    event = columns[EVENT] = np.where(there, number, -1).astype(np.int64)
    pairs = pd.DataFrame({EVENT: event, OBJECT_ID: columns[OBJECT_ID]})
    message = "the object was shown before for the same event; keep one row for every object"
    table.report(OBJECT_ID, there & pairs.duplicated().to_numpy(), ids, message)
    chosen = pd.unique(event[there & (columns[OBJECT_ID].to_numpy() == about.to_numpy()[event])])
    first = there & ~pairs[EVENT].duplicated().to_numpy()
    message = "the object that was chosen then is not among those that were shown; add its row"
    table.report(EVENT, first & ~np.isin(event, chosen), given, message)
    return columns


def _check_known(table: CheckedTable, ids: pa.Array | None, known: pd.Series | None) -> None:
    if ids is not None and known is not None:
        wrong = mask(ids.is_valid()) & ~mask(pc.is_in(ids, pa.array(known)))
        table.report(OBJECT_ID, wrong, ids, "the object is not in the objects table; add it there, or correct the id")


def frames(groups: Mapping[str, dict[str, Any]]) -> dict[str, pd.DataFrame]:
    """Tables of columns that have no problem."""
    return {name: pd.DataFrame(columns) for name, columns in groups.items()}


def _str(array: pa.Array | None) -> pd.Series | None:
    return None if array is None else pd.Series(pd.array(array, dtype="str"))


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
