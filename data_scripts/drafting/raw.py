"""One group of behaviors in raw tables: which column is which, and the two frames that come out."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from atrank_lib.log import Problem
from atrank_lib.log.columns import CheckedTable, mask
from atrank_lib.log.events import TABLES
from atrank_lib.log.schema import OBJECT_ID
from data_scripts.drafting.atomic import FIELDS, AtomicTable, whole_times
from data_scripts.drafting.folder import Reader
from data_scripts.drafting.guesses import (
    CONTRACT,
    Kind,
    candidates,
    counts_rows,
    guess_kind,
    key_of,
    separator_of,
    split,
)
from data_scripts.drafting.hints import Hints
from data_scripts.drafting.times import RawTimes, is_time, read_times

FEATURE_KINDS = ("categorical", "continuous", "tokens", "none")


class RawGroup:
    """Raw tables of one group, with the roles of their columns.

    columns: the raw column of each role (`user`, `time`, `object`, `action`); those that could not be told are left
    out, and a problem is noted. key: the objects' own id. kinds: of every other column of the objects. ready: whether
    frames can be made; there may be problems all the same.
    """

    def __init__(self, name: str, paths: tuple[Path, Path | None], hints: Hints, read: Reader) -> None:
        self.name, self.hints, self.paths = name, hints, paths
        self.events = read(paths[0])
        self.objects = None if paths[1] is None else read(paths[1])
        self.one_action = hints.one_action
        self.why: dict[str, str] = {"action": "as you say"}
        self.columns: dict[str, str] = {}
        self.key: str | None = None
        self.times: RawTimes | None = None
        self.kinds: dict[str, Kind] = {}
        self.ready = False
        if any(not table.columns or table.is_empty() for table in (self.events, self.objects) if table is not None):
            return
        self._find_roles()
        if self.objects is not None and "object" in self.columns:
            self._find_key()
        if len(self.columns) + (self.one_action is not None) == len(CONTRACT) and (self.key or self.objects is None):
            self._find_times()
            self._find_kinds()
            self.ready = self.times is not None

    @property
    def problems(self) -> list[Problem]:
        """All problems noted in the raw tables."""
        return self.events.problems + (self.objects.problems if self.objects else [])

    @property
    def actions(self) -> list[str]:
        """The actions, the most frequent first."""
        if "action" not in self.columns:
            return [str(self.one_action)]
        counts = self._said("action").value_counts()
        return sorted(counts.index, key=lambda action: (-int(counts[action]), action))

    # ------------------------------------------------------------------------------------------------- which is which

    def _find_roles(self) -> None:
        for role, hinted in self.hints.roles.items():
            if hinted is not None:
                if hinted not in self.events.columns:
                    self._no_column(self.events, hinted, f"--{role}")
                else:
                    self.columns[role], self.why[role] = hinted, "as you say"
        if self.hints.action is not None and self.hints.one_action is not None:
            self.events.problems.append(
                Problem(self.events.name, self.hints.action, None, self.hints.one_action,
                        "an action for all rows, and a column of actions; give --one-action or --action, not both")
            )  # fmt: skip
        for role in ("time", "object", "user", "action"):
            if self.hints.roles[role] is None and not (role == "action" and self.hints.one_action):
                self._guess(role)
        if "action" in self.columns and not self.actions:
            remedy = "name another column with --action, or one action for all with --one-action"
            self.events.note(self.columns["action"], f"the action is missing in every row; {remedy}")

    def _guess(self, role: str) -> None:
        name = FIELDS[role].partition(":")[0]
        if not isinstance(self.events, AtomicTable):
            best, why = self._best(role)
        else:  # there is nothing to guess
            best, why = [name] if name in self.events.columns else [], "RecBole's name for it"
            if role == "action" and not best:
                self.one_action, self.why[role] = "interact", "no column is called action (--action names another)"
                return
        if len(best) == 1:
            self.columns[role], self.why[role] = best[0], why
            return
        option = f"--{role}" + (", or give all rows one with --one-action, such as buy" if role == "action" else "")
        what = {"user": "who it was", "time": "when it was", "object": "what it was about", "action": "what was done"}
        known = f"name the column with {option} (the table has: {', '.join(self.events.header or [])})"
        if best:
            message = f"more than one column may say {what[role]}: {', '.join(best)}; {known}"
        elif isinstance(self.events, AtomicTable):
            message = f"no column {name} says {what[role]}; add {FIELDS[role]}, or {known}"
        else:
            message = f"no column seems to say {what[role]}; {known}"
        self.events.note(None, message)

    def _best(self, role: str) -> tuple[list[str], str]:
        """The columns that may play a role, and why; several are a tie."""
        best = candidates(role, self.events, self.columns.values())
        why = "by its name" if best != [CONTRACT[role]] else "the name it should have"
        free = [
            column
            for column, array in self.events.columns.items()
            if column not in self.columns.values() and not counts_rows(column, array)
        ]
        if role == "time" and not best:
            best, why = [column for column in free if is_time(self.events.columns[column])], "it holds times"
        if role == "object" and len(best) != 1 and self.objects is not None:
            keys = [column for column in best or free if key_of(self.events.columns[column], self.objects)]
            best, why = keys or best, f"its values are in {self.objects.name}"
        return best, why

    def _find_times(self) -> None:
        column, form = self.columns["time"], self.hints.time_format
        if isinstance(self.events, AtomicTable) and self.events.kinds[column].kind == "continuous" and form is None:
            self.events.columns[column] = whole_times(self.events.columns[column])
        self.times = read_times(self.events, column, form, self.hints.time_zone)

    def _find_key(self) -> None:
        assert self.objects is not None
        if self.hints.key is not None:
            if self.hints.key in self.objects.columns:
                self.key = self.hints.key
            else:
                self._no_column(self.objects, self.hints.key, "--key")
            return
        own = self.columns["object"]
        same = [column for column in (own, OBJECT_ID) if column in self.objects.columns]
        self.key = same[0] if same else key_of(self.events.columns[own], self.objects)
        if self.key is None:
            has = ", ".join(self.objects.header or [])
            self.objects.note(None, f"no column holds the values of {own}; name it with --key (the table has: {has})")

    def _find_kinds(self) -> None:
        if self.objects is None:
            self._describe_by_events()
        source = self.objects or self.events
        self.kinds = kinds_of(self.describers(), self.hints, source.kinds if isinstance(source, AtomicTable) else {})

    def describers(self) -> dict[str, CheckedTable]:
        """The columns that describe objects, each with its table."""
        if self.objects is not None:
            return {column: self.objects for column in self.objects.columns if column != self.key}
        return self._described

    def _describe_by_events(self) -> None:
        """One row an object of the columns of the events that are said to describe it: its first value."""
        about = self.events.columns[self.columns["object"]].cast(pa.large_string()).to_pandas()
        self._described: dict[str, CheckedTable] = {}
        for column in self.hints.features:
            if column not in self.events.columns:
                self._no_column(self.events, column, "--feature")
                continue
            array = self.events.columns[column]
            frame = pd.DataFrame({"object": about, "value": pd.factorize(array.to_pandas())[0]})
            filled = frame[(frame["value"] >= 0) & frame["object"].notna()]
            first = filled.groupby("object")["value"].transform("first")
            differs = np.zeros(len(frame), dtype=bool)
            differs[filled.index[filled["value"] != first]] = True
            message = (
                "the object has another value in an earlier row, so it does not describe the object; leave it out, or "
                "make a table with one row for every object"
            )
            self.events.report(column, differs, array, message)
            rows = filled.drop_duplicates("object").set_index("object").index
            places = pd.Series(filled.drop_duplicates("object").index, rows)
            ids = self.object_ids()
            where = places.reindex(ids)
            part = CheckedTable(self.events.name, self.events.header)
            part.is_text = self.events.is_text
            part.rows = np.array(where.fillna(0), np.int64)
            part.columns[column] = array.take(pa.array(where, pa.int64(), from_pandas=True))
            self._described[column] = part

    def object_ids(self) -> list[str]:
        """The ids that the events name, in the order of their first rows."""
        return list(self._said("object").unique())

    def _said(self, role: str) -> pd.Series:
        """The values of a role's column that are not missing."""
        text = self.events.columns[self.columns[role]].cast(pa.large_string()).to_pandas()
        return text[text.fillna("") != ""]

    def _no_column(self, table: CheckedTable, column: str, option: str) -> None:
        near = difflib.get_close_matches(column, table.header or [], n=1)
        has = f" (the table has: {', '.join(table.header or [])})"
        message = f"there is no such column{f', but {near[0]!r}' if near else ''}; correct {option}{has}"
        table.problems.append(Problem(table.name, column, None, None, message))

    # ---------------------------------------------------------------------------------------------- what comes out

    def features(self) -> dict[str, str]:
        """The kinds of the features, by column."""
        own = {column: kind.kind for column, kind in self.kinds.items() if kind.kind is not None}
        return {OBJECT_ID: "categorical"} | own

    def event_frame(self, unit: str) -> pd.DataFrame | None:
        """The events with the columns of an event log; None if one cannot be used, which is noted."""
        assert self.times is not None
        times = self.times.to(unit)
        if times is None:
            message = (
                f"some times are no whole numbers of {unit}, the log's unit, or too far from 1970 for it; round them"
            )
            self.events.note(self.columns["time"], f"{message}, or draft all groups anew")
        action: Any = self.one_action
        columns = {
            "user_id": _text(self.events, self.columns["user"]),
            "timestamp": times,
            "action": _text(self.events, self.columns["action"]) if "action" in self.columns else action,
            OBJECT_ID: _text(self.events, self.columns["object"]),
        }
        return None if any(column is None for column in columns.values()) else pd.DataFrame(columns)

    def object_frame(self) -> pd.DataFrame | None:
        """The objects with the columns of an event log; None if one cannot be used, which is noted."""
        columns: dict[str, Any] = {}
        if self.objects is not None:
            assert self.key is not None
            columns[OBJECT_ID] = _text(self.objects, self.key)
        else:
            columns[OBJECT_ID] = pd.Series(self.object_ids(), dtype="str")
        for column, table in self.describers().items():
            if self.kinds[column].kind is not None:
                columns[column] = frame_column(table, column, self.kinds[column])
        return None if any(column is None for column in columns.values()) else pd.DataFrame(columns)

    def kept(self, unit: str) -> list[Path]:
        """The files that an event log may keep as they are, when it is written where they lie."""
        events, objects = self.paths
        found = []
        if self.columns == CONTRACT and self.times is not None and self.times.is_plain and self.times.unit == unit:
            found.append(events)
        if objects is not None and self.objects is not None and self.key == OBJECT_ID:
            arrays = [self.objects.columns[column] for column in self.kinds if self.kinds[column].kind is not None]
            printed = any(kind.separator is not None for kind in self.kinds.values())
            if not printed and not any(pa.types.is_boolean(array.type) for array in arrays):
                found.append(objects)
        names = [f"{self.name}.{kind}.{suffix}" for kind in TABLES for suffix in ("csv", "parquet")]
        return [path for path in found if path.name in names]

    def in_raw_words(self, problem: Problem) -> Problem:
        """A problem of the frames as one of the raw tables: file, column and row."""
        kind = problem.table.removeprefix(f"{self.name}.")
        table = self.events if kind == "events" or self.objects is None else self.objects
        own = {CONTRACT[role]: column for role, column in self.columns.items()}
        if kind == "objects":
            own = {} if self.key is None else {OBJECT_ID: self.key}
        column = None if problem.column is None else own.get(problem.column, problem.column)
        row = problem.row
        if row is not None and table.rows is not None:
            row = int(table.rows[row])
        return Problem(table.name, column, row, problem.value, problem.message)

    def tell(self, say: Callable[[str], None]) -> None:
        """Say what was found in the tables, and why."""
        events, objects = self.paths
        say(f"group {self.name}: events from {events.name}, objects from {objects.name if objects else 'the events'}")
        for role, column in CONTRACT.items():
            if role in self.columns:
                more = f"; {self.times.how}" if role == "time" and self.times is not None else ""
                more = f"; {', '.join(self.actions)}" if role == "action" else more
                say(f"  {column:<9} <- {self.columns[role]}: {self.why[role]}{more}")
            else:
                say(f"  {column:<9} <- {self.one_action} in all rows: {self.why[role]}")
        if self.key is not None and objects is not None:
            say(f"  {OBJECT_ID:<9} <- {self.key} in {objects.name}")
        for column, kind in self.kinds.items():
            say(f"  {column} is {kind.kind or 'left out'}: {kind.why}")
        used = {*self.columns.values(), *self.kinds}
        rest = [column for column in self.events.columns if column not in used]
        if rest:
            say(f"  not read: {', '.join(rest)} (an event is who, when, what was done, to what)")
        if self.objects is None and rest:
            say("  what of these describes the object, and not the event, may come along with --feature COLUMN")


def kinds_of(
    columns: Mapping[str, CheckedTable], hints: Hints, declared: Mapping[str, Kind] | None = None
) -> dict[str, Kind]:
    """The kinds of columns, each of a table: as hints say, as they are declared, or guessed; what is wrong is noted."""
    found, declared = {}, declared or {}
    for column, table in columns.items():
        hinted = hints.kinds.get(column)
        array = table.columns[column]
        if not column or column == OBJECT_ID:
            found[column] = Kind(None, "it has no name" if not column else f"{OBJECT_ID} is the key's name")
        elif column in declared and hinted in (None, declared[column].kind):
            found[column] = declared[column]
        elif hinted is None:
            found[column] = kind = guess_kind(column, array)
            if kind.doubt is not None:
                row = int(np.argmax(mask(array.is_valid())))
                table.note(column, kind.doubt.format(column=column), row=row, value=array[row].as_py())
        elif hinted in FEATURE_KINDS:
            text = hinted == "tokens" and pa.types.is_large_string(array.type)
            separator = separator_of(array) if text else None
            found[column] = Kind(None if hinted == "none" else hinted, "as you say", separator)
        else:
            found[column] = Kind(None, "a kind that is none")
            message = f"not a kind; use --kind {column}=KIND with one of {', '.join(FEATURE_KINDS)}"
            table.problems.append(Problem(table.name, column, None, hinted, message))
    return found


def frame_column(table: CheckedTable, column: str, kind: Kind) -> Any:
    """A column as an event log has it; None if it cannot be used, which is noted."""
    if kind.kind == "continuous":
        return table.numbers(column)
    return _tokens(table, column, kind.separator) if kind.kind == "tokens" else _text(table, column)


def _text(table: CheckedTable, column: str) -> pd.Series | None:
    array = table.columns[column]
    if pa.types.is_boolean(array.type):
        table.columns[column] = array.cast(pa.large_string())
    text = table.text(column, required=False)
    return None if text is None else pd.Series(pd.array(text, dtype="str"))


def _tokens(table: CheckedTable, column: str, separator: str | None) -> list[list[str]] | None:
    array = table.columns[column]
    if not pa.types.is_large_string(array.type):
        return table.tokens(column)
    return split([value or "" for value in array.to_pylist()], separator)
