"""What the tables of a group must be: every problem is noted in the table, and what is sound comes out as a frame."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from atrank_lib.log.columns import CheckedTable, mask
from atrank_lib.log.schema import OBJECT_ID, Group, suggest

EVENT_COLUMNS = ("user_id", "timestamp", "action", "object_id")
TABLES = ("events", "objects")  # of every group


def columns_of(kind: str, group: Group) -> list[str]:
    """The columns that a group's table of events, or of objects, needs."""
    return list(EVENT_COLUMNS) if kind == "events" else list(dict.fromkeys([OBJECT_ID, *group.features]))


def checked_objects(table: CheckedTable, group: Group) -> tuple[pa.Array | None, pd.DataFrame]:
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
    table: CheckedTable, group: Group, unit: str, ids: pa.Array | None, may_be_empty: bool = False
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
    names = pd.Index(group.actions, dtype="str")
    columns = {
        "user_id": _str(users),
        "timestamp": times,
        "action": None if codes is None else pd.Categorical.from_codes(codes, categories=names),
        "object_id": _str(about),
    }
    return pd.DataFrame({column: values for column, values in columns.items() if values is not None})
