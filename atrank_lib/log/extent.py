"""How much there is in a log, and when: the paper's Tables 1 and 2, and which moments make sense beside them."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from atrank_lib.log.columns import time_range
from atrank_lib.log.schema import OBJECT_ID, TICKS, Schema
from atrank_lib.log.vocabularies import distinct

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
    schema: Schema, objects: Mapping[str, pd.DataFrame], parts: Sequence[Mapping[str | None, Extent]]
) -> pd.DataFrame:
    """The table of `EventLog.summary` for a log in one or more parts, no user in two of them."""
    values = {  # the same word in two vocabularies is two values
        (feature, name): {(schema.vocabulary(name, feature), value) for value in distinct(objects[name][feature])}
        for name, group in schema.groups.items()
        for feature, spec in group.features.items()
        if feature != OBJECT_ID and spec.kind != "continuous"
    }
    features = dict.fromkeys(feature for feature, _ in values)
    rows = {}
    for name in (*schema.groups, None):
        extents = [part[name] for part in parts if name in part]
        users, behaviors = (sum(extent[place] for extent in extents) for place in (0, 1))
        row: dict[str, Any] = {"users": users, "behaviors": behaviors}
        row["objects"] = sum(len(table) for group, table in objects.items() if name in (group, None))
        row["average length"] = behaviors / users
        for feature in features:
            known = [found for (other, group), found in values.items() if other == feature and name in (group, None)]
            row[f"distinct {feature}"] = len(set().union(*known)) if known else None
        row["first day"] = _day(min(extent.first for extent in extents), schema.timestamp_unit)
        row["last day"] = _day(max(extent.last for extent in extents), schema.timestamp_unit)
        rows[name or "all groups"] = row  # a group's name holds no blank, so the two cannot be confused
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("group")
    counts = ["users", "behaviors", "objects", *(f"distinct {feature}" for feature in features)]
    return table.astype(dict.fromkeys(counts, "Int64"))


def near(extent: Extent, unit: str) -> tuple[int, int]:
    """The earliest and the latest moment that makes sense for a log: 10 years before it to 100 years after it."""
    low, high = time_range(unit)
    return max(low, extent.first - BEFORE * TICKS[unit]), min(high, extent.last + AFTER * TICKS[unit])


def check_moment(moment: int, schema: Schema, extent: Extent) -> None:
    """Refuse a moment of ranking, in the schema's timestamp_unit, so far from a log that its unit must be another:
    ValueError for more than 10 years before the first behavior, or 100 years after the last one."""
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
