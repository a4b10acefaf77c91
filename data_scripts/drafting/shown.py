"""A raw table of impressions: what was shown beside the choices of a group, and what is known of it there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from atrank_lib.log import Problem
from atrank_lib.log.events import SHOWN
from atrank_lib.log.schema import EVENT, OBJECT_ID
from data_scripts.drafting.folder import Reader
from data_scripts.drafting.raw import Kind, RawGroup, frame_column, kinds_of


class RawShown:
    """The table `<group>.impressions` beside a group's raw tables. kinds: of the columns that are context."""

    def __init__(self, raw: RawGroup, path: Path, read: Reader) -> None:
        self.name, self.table, self.path = raw.name, read(path), path
        self.columns: dict[str, str] = {}
        self.kinds: dict[str, Kind] = {}
        if not self.table.columns or self.table.is_empty():
            return
        has = f" (the table has: {', '.join(self.table.header or [])})"
        if EVENT in self.table.columns:
            self.columns[EVENT] = EVENT
        else:
            which = f"the row of {raw.events.name}, counted from 0, when it was shown"
            self.table.note(None, f"no column is called {EVENT}, {which}; add it{has}")
        names = [raw.columns.get("object"), OBJECT_ID, raw.key]
        if own := next((name for name in names if name in self.table.columns), None):
            self.columns[OBJECT_ID] = own
        else:
            wanted = " or ".join(dict.fromkeys(name for name in names if name))
            self.table.note(None, f"no column says which object was shown; call it {wanted}{has}")
        rest = {name: self.table for name in self.table.columns if name not in self.columns.values()}
        self.kinds = kinds_of(rest, raw.hints)

    def context(self) -> dict[str, dict[str, Any]]:
        """Context as the schema has it."""
        return {column: {"kind": kind.kind} for column, kind in self.kinds.items() if kind.kind is not None}

    def frame(self) -> pd.DataFrame | None:
        """The impressions with the columns of an event log; None if one cannot be used, which is noted."""
        if len(self.columns) < 2:
            return None
        categorical = Kind("categorical", "")
        columns = {role: frame_column(self.table, column, categorical) for role, column in self.columns.items()}
        columns |= {name: frame_column(self.table, name, self.kinds[name]) for name in self.context()}
        return None if any(column is None for column in columns.values()) else pd.DataFrame(columns)

    def is_fit(self) -> bool:
        """Whether an event log may keep the file as it is, when it is written where that lies."""
        printed = any(kind.separator is not None for kind in self.kinds.values())
        booleans = any(pa.types.is_boolean(self.table.columns[column].type) for column in self.context())
        return self.columns[OBJECT_ID] == OBJECT_ID and not printed and not booleans

    def in_raw_words(self, problem: Problem) -> Problem:
        """A problem of the frame as one of the raw table."""
        column = None if problem.column is None else self.columns.get(problem.column, problem.column)
        row = problem.row if problem.row is None or self.table.rows is None else int(self.table.rows[problem.row])
        return Problem(self.table.name, column, row, problem.value, problem.message)

    def tell(self, say: Callable[[str], None]) -> None:
        """Say what was found in the table."""
        say(f"  {SHOWN} from {self.path.name}: {EVENT} counts its events from 0, {self.columns[OBJECT_ID]} was shown")
        for column, kind in self.kinds.items():
            say(f"  {column} there is {kind.kind or 'left out'}: {kind.why}")
