"""The event log: behaviors and the objects they are about, read, checked, summed up and written.

A log is a folder with `schema.yaml` and, for every group of behaviors, two tables, Parquet or CSV:

    <group>.events.parquet     user_id, timestamp, action, object_id: one row a behavior
    <group>.objects.parquet    object_id and one column for every feature: one row an object

Everything is checked on the way in, and every problem is reported at once. Nothing is dropped or repaired.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from atrank_lib.log.columns import Table, mask, table_from_file, table_from_frame
from atrank_lib.log.schema import (
    OBJECT_ID,
    SCHEMA_FILE,
    EventLogError,
    Group,
    Problem,
    Schema,
    sound_part,
    suggest,
)
from atrank_lib.log.writing import writing_folder

__all__ = ["EventLog", "EventLogError", "Problem"]

EVENT_COLUMNS = ("user_id", "timestamp", "action", "object_id")
KINDS = ("events", "objects")
FIRST_SHARD = "shard-0000"  # the folder that a sharded log has (see ``shards``)


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

    >>> from data_scripts.simulate import MarketplaceConfig, simulate
    >>> log = simulate(MarketplaceConfig(users=40)).log
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
        tables: dict[tuple[str, str], Table | None] = {}
        for name, group in schema.groups.items():
            for kind in KINDS:
                path = table_path(folder, f"{name}.{kind}", problems)
                tables[name, kind] = table_from_file(path, wanted(kind, group)) if path else None
        return cls._check(schema, tables, problems)

    @classmethod
    def from_tables(
        cls, schema: Schema, events: Mapping[str, pd.DataFrame], objects: Mapping[str, pd.DataFrame]
    ) -> EventLog:
        """Check frames in memory, one of events and one of objects a group, and make them a log.

        The frames are copied. Raises EventLogError with every problem.
        """
        problems: list[Problem] = []
        tables: dict[tuple[str, str], Table | None] = {}
        for kind, frames in zip(KINDS, (events, objects), strict=True):
            for name in frames:
                if name not in schema.groups:
                    message = f"the schema has no such group; {suggest(name, schema.groups)}"
                    problems.append(Problem(f"{name}.{kind}", None, None, None, message))
            for name, group in schema.groups.items():
                tables[name, kind] = None
                if name in frames:
                    tables[name, kind] = table_from_frame(f"{name}.{kind}", frames[name], wanted(kind, group))
                else:
                    problems.append(Problem(f"{name}.{kind}", None, None, None, "the table is missing; add it"))
        return cls._check(schema, tables, problems)

    @classmethod
    def _check(
        cls, schema: Schema, tables: Mapping[tuple[str, str], Table | None], problems: list[Problem]
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

    def write_tables(self, folder: Path) -> None:
        """Write schema and tables into a folder that is there, one after the other."""
        self.schema.write(folder / SCHEMA_FILE)
        for name in self.schema.groups:
            for kind in KINDS:
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
            for kind in KINDS:
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


class Extent(NamedTuple):
    """How much there is: number of users and of behaviors, first and last time (in the schema's timestamp_unit)."""

    users: int
    behaviors: int
    first: int
    last: int


def summarize(
    schema: Schema, objects: Mapping[str, pd.DataFrame], parts: Iterable[Mapping[str | None, Extent]]
) -> pd.DataFrame:
    """The table of `EventLog.summary` for a log in one or more parts, no user in two of them."""
    found: dict[str | None, list[Extent]] = {name: [] for name in [*schema.groups, None]}
    for part in parts:
        for name, extent in part.items():
            found[name].append(extent)
    features = dict.fromkeys(
        feature
        for group in schema.groups.values()
        for feature, spec in group.features.items()
        if feature != OBJECT_ID and spec.kind != "continuous"
    )
    rows, values = {}, {}
    for name, group in schema.groups.items():
        row = _row(schema, found[name], len(objects[name]))
        for feature in features:
            if feature in group.features and group.features[feature].kind != "continuous":
                column = objects[name][feature]
                flat = column.explode() if group.features[feature].kind == "tokens" else column
                values[feature, name] = set(flat.dropna())
                row[f"distinct {feature}"] = len(values[feature, name])
        rows[name] = row
    total = _row(schema, found[None], sum(map(len, objects.values())))
    for feature in features:
        shared: dict[str, set[str]] = {}
        for name in schema.groups:
            if (feature, name) in values:
                shared.setdefault(schema.vocabulary(name, feature), set()).update(values[feature, name])
        total[f"distinct {feature}"] = sum(map(len, shared.values()))
    # a group's name holds no blank, so the two cannot be confused
    rows["all groups"] = total
    columns = ["users", "behaviors", "objects", "average length"]
    columns += [f"distinct {feature}" for feature in features] + ["first day", "last day"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("group")
    counts = [column for column in columns if column in ("users", "behaviors", "objects") or "distinct" in column]
    return table.astype(dict.fromkeys(counts, "Int64"))


def _row(schema: Schema, extents: Sequence[Extent], objects: int) -> dict[str, Any]:
    users, behaviors = (sum(extent[place] for extent in extents) for place in (0, 1))
    times = min(extent.first for extent in extents), max(extent.last for extent in extents)
    first, last = (str(np.datetime64(time, schema.timestamp_unit).astype("datetime64[D]")) for time in times)
    return {
        "users": users,
        "behaviors": behaviors,
        "objects": objects,
        "average length": behaviors / users,
        "first day": first,
        "last day": last,
    }


def wanted(kind: str, group: Group) -> list[str]:
    """The columns that a table of this kind needs."""
    return list(EVENT_COLUMNS) if kind == "events" else list(dict.fromkeys([OBJECT_ID, *group.features]))


def table_path(folder: Path, stem: str, problems: list[Problem]) -> Path | None:
    """The one table `stem` of a folder, Parquet or CSV; a problem is noted where there is none, or two."""
    paths = [path for suffix in ("parquet", "csv") if (path := folder / f"{stem}.{suffix}").exists()]
    if len(paths) == 1:
        return paths[0]
    if paths:
        message = f"{stem}.csv is there as well; remove one of the two"
    else:
        near = difflib.get_close_matches(f"{stem}.parquet", [path.name for path in folder.iterdir()], n=1)
        message = f"the table is missing; add it, or {stem}.csv" + (f" (or rename {near[0]}?)" if near else "")
    problems.append(Problem(f"{stem}.parquet", None, None, None, message))
    return None


def checked_objects(table: Table, group: Group) -> tuple[pa.Array | None, pd.DataFrame]:
    """Check a group's objects; problems are noted in the table.

    Returns their ids, None when the column cannot be used, and the frame.
    """
    ids = table.text(OBJECT_ID, required=True)
    if ids is not None:
        twice = ids.to_pandas().duplicated().to_numpy() & mask(ids.is_valid())
        message = "the object is listed before; keep one row for every object"
        table.report(OBJECT_ID, twice, ids, message)
    columns: dict[str, Any] = {OBJECT_ID: _str(ids)}
    for feature, spec in group.features.items():
        if feature == OBJECT_ID:
            continue
        if spec.kind == "categorical":
            columns[feature] = _str(table.text(feature, required=False))
        elif spec.kind == "continuous":
            columns[feature] = table.numbers(feature)
        else:
            tokens = table.tokens(feature)
            columns[feature] = tokens and pd.Series(tokens, dtype=object)
    return ids, pd.DataFrame({c: v for c, v in columns.items() if v is not None})


def _str(array: pa.Array | None) -> pd.Series | None:
    return None if array is None else pd.Series(pd.array(array, dtype="str"))


def checked_events(
    table: Table, group: Group, unit: str, ids: pa.Array | None, may_be_empty: bool = False
) -> pd.DataFrame:
    """Check a group's behaviors; problems are noted in the table.

    ids: of the group's objects, which the behaviors must be about; None if there are none to compare with.
    """
    users = table.text("user_id", required=True)
    times = table.times("timestamp", unit)
    actions = table.text("action", required=True)
    about = table.text(OBJECT_ID, required=True)
    if table.is_empty() and not may_be_empty:
        table.note(None, "the group is empty; write at least one behavior, or take the group out of the schema")
    codes = None
    if actions is not None:
        position = pc.index_in(actions, pa.array(group.actions, pa.large_string()))
        wrong = mask(position.is_null()) & mask(actions.is_valid())
        message = "the schema has no such action in this group; "
        table.report("action", wrong, actions, lambda value: message + suggest(value, group.actions))
        codes = position.fill_null(-1).to_numpy(zero_copy_only=False)
    if about is not None and ids is not None:
        known = mask(pc.is_in(about, ids.drop_null())) | mask(about.is_null())
        message = "the object is not in the objects table; add it there, or correct the id"
        table.report(OBJECT_ID, ~known, about, message)
    columns = {
        "user_id": _str(users),
        "timestamp": times,
        "action": None
        if codes is None
        else pd.Categorical.from_codes(codes, categories=pd.Index(group.actions, dtype="str")),
        "object_id": _str(about),
    }
    return pd.DataFrame({column: values for column, values in columns.items() if values is not None})


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
