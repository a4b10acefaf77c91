"""How much there is in a log, and when: the paper's Tables 1 and 2, and which moments make sense beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from atrank_lib.log.columns import time_range
from atrank_lib.log.schema import OBJECT_ID, Schema
from atrank_lib.log.units import TICKS

YEAR = 31_556_952  # seconds
# A moment of ranking may lie before the first behavior (then there is no history), and long after the last one of an
# old log; another unit of time puts it some 40 years before, or thousands of years after.
BEFORE, AFTER = 10 * YEAR, 100 * YEAR


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
    first, last = (_day(time, schema.timestamp_unit) for time in times)
    return {
        "users": users,
        "behaviors": behaviors,
        "objects": objects,
        "average length": behaviors / users,
        "first day": first,
        "last day": last,
    }


def near(extent: Extent, unit: str) -> tuple[int, int]:
    """The earliest and the latest moment that makes sense for a log: 10 years before it to 100 years after it."""
    low, high = time_range(unit)
    return max(low, extent.first - BEFORE * TICKS[unit]), min(high, extent.last + AFTER * TICKS[unit])


def check_moment(moment: int, schema: Schema, extent: Extent) -> None:
    """Refuse a moment of ranking that lies so far from a log that its unit must be another.

    Args:
        moment: in the schema's timestamp_unit.
        extent: of the log's behaviors.

    Raises:
        ValueError: it lies more than 10 years before the first behavior, or 100 years after the last one.

    >>> schema = Schema.checked({"name": "mine", "groups": {"item": {"actions": ["buy"], "features": {
    ...     "object_id": {"kind": "categorical"}}}}})
    >>> check_moment(1_700_000_000, schema, Extent(users=9, behaviors=99, first=1_600_000_000, last=1_650_000_000))
    """
    low, high = near(extent, schema.timestamp_unit)
    if not low <= moment <= high:
        raise ValueError(f"the moment {moment}: {far_off(moment, schema.timestamp_unit, extent)}")


def far_off(moment: int, unit: str, extent: Extent) -> str:
    """What is wrong with a moment that is not `near`, and what may have been meant."""
    first, last = (_day(time, unit) for time in (extent.first, extent.last))
    low, high = near(extent, unit)
    meant = []
    for other, factor in TICKS.items():
        converted = moment * TICKS[unit] // factor
        if low <= converted <= high:
            meant.append(f"as {other} it would be {_day(converted, unit)}: write {converted}")
    remedy = "; ".join(meant) or f"write whole numbers of {unit} since 1970"
    return f"far from the log, whose behaviors go from {first} to {last} in its timestamp_unit, {unit}; {remedy}"


def _day(time: int, unit: str) -> str:
    return str(np.array(time).astype(f"datetime64[{unit}]").astype("datetime64[D]"))
