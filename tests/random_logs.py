"""Small random event logs, rich in ties and odd ids; the histories they hold by plain loops; samples and batches."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
import torch
from hypothesis import strategies as st
from torch import Tensor

from atrank_lib.batches import Batch, Features, Ragged, Samples
from atrank_lib.grouping import GroupedHistories
from atrank_lib.log.events import EventLog
from atrank_lib.log.schema import Schema
from atrank_lib.samples import split

SCHEMA = Schema.model_validate(
    {
        "name": "random",
        "groups": {
            "item": {
                "actions": ["browse", "buy"],
                "features": {
                    "object_id": {"kind": "categorical"},
                    "shop_id": {"kind": "categorical", "vocabulary": "shop"},
                    "price": {"kind": "continuous"},
                },
                "time": {"unit": "second", "buckets": 5},
            },
            "query": {"actions": ["search"], "features": {"tokens": {"kind": "tokens", "vocabulary": "token"}}},
            "coupon": {
                "actions": ["receive"],
                "features": {
                    "object_id": {"kind": "categorical"},
                    "shop_id": {"kind": "categorical", "vocabulary": "shop"},
                },
            },
        },
    }
)
USERS = ["007", "7", "10", "9", "ann b", "Zoë", "用户"]  # text: neither numbers nor in the order of numbers


@dataclass(frozen=True)
class Event:
    """One row of an events table."""

    row: int
    timestamp: int
    action: str
    object_id: str


def random_log(seed: int, users: int = 4, behaviors: int = 15, objects: int = 5, times: int = 6) -> EventLog:
    """Behaviors of random users at few moments, in random order of the rows.

    One more user, "steady", has four behaviors at moments -4 to -1 in every group, so that every protocol has
    training and test samples for every group. The log is valid as it is made, which is not checked each time.
    """
    rng = np.random.default_rng(seed)
    events, tables = {}, {}
    for name, group in SCHEMA.groups.items():
        ids = [f"{name[0]}{i}" for i in range(objects + 3)]  # the last three are of nobody but the steady user
        n = int(rng.integers(0, behaviors + 1))
        frame = pd.DataFrame(
            {
                "user_id": pd.Series([*rng.choice(USERS[:users], n), *["steady"] * 4], dtype="str"),
                "timestamp": np.array([*rng.integers(0, times, n), *range(-4, 0)], dtype=np.int64),
                "action": pd.Categorical(rng.choice(group.actions, n + 4), pd.Index(group.actions, dtype="str")),
                "object_id": pd.Series([*rng.choice(ids[:objects], n), *rng.choice(ids[-3:], 4)], dtype="str"),
            }
        )
        events[name] = frame.sample(frac=1, random_state=int(rng.integers(2**31))).reset_index(drop=True)
        columns: dict[str, list | pd.Series] = {"object_id": pd.Series(ids, dtype="str")}
        for feature in group.features:
            if feature == "shop_id":
                shops = [None if rng.random() < 0.2 else f"0{rng.integers(4)}" for _ in ids]
                columns[feature] = pd.Series(shops, dtype="str")
            elif feature == "price":
                columns[feature] = [float("nan") if rng.random() < 0.2 else float(rng.normal(50, 20)) for _ in ids]
            elif feature == "tokens":
                columns[feature] = [[f"w{rng.integers(4)}" for _ in range(rng.integers(4))] for _ in ids]
        tables[name] = pd.DataFrame(columns)
    return EventLog(SCHEMA, events, tables)


def shapes() -> st.SearchStrategy[tuple[int, int, int, int, int]]:
    """Arguments of `random_log`: a seed, and few to many users, behaviors, objects and moments."""
    return st.tuples(
        st.integers(0, 2**31), st.integers(1, len(USERS)), st.integers(0, 25), st.integers(1, 8), st.integers(1, 12)
    )


@lru_cache(maxsize=4)
def lists(log: EventLog) -> dict[str, dict[str, list[Event]]]:
    """Every user's behaviors of every group, by time, equal times in the order of the rows."""
    result: dict[str, dict[str, list[Event]]] = {}
    for name, frame in log.events.items():
        result[name] = {}
        columns = [frame[c].tolist() for c in ("user_id", "timestamp", "action", "object_id")]
        for row, (user, timestamp, action, object_id) in enumerate(zip(*columns, strict=True)):
            result[name].setdefault(user, []).append(Event(row, timestamp, action, object_id))
        for events in result[name].values():
            events.sort(key=lambda e: (e.timestamp, e.row))
    return result


def all_samples(histories: GroupedHistories, group: str) -> Samples:
    """Every behavior of a group that can be a target."""
    parts = split(histories, "paper", [group])
    return Samples(
        group,
        *(
            torch.cat([getattr(parts.train[group], name), getattr(parts.test[group], name)])
            for name in ("users", "times", "ends", "objects", "positions")
        ),
    )


def plain_history(log: EventLog, user: str, group: str, row: int) -> dict[str, list[int]]:
    """Rows of every group that are strictly before the behavior in ``row`` of ``group``."""
    everything = lists(log)
    time = log.events[group]["timestamp"][row]
    own = [e.row for e in everything[group][user]]
    return {
        name: own[: own.index(row)]
        if name == group
        else [e.row for e in everything[name].get(user, []) if e.timestamp < time]
        for name in log.schema.groups
    }


def flat(features: Features) -> list[Tensor]:
    """All numbers of some features."""
    return [t for f in features.values() for t in ([f.values, f.offsets] if isinstance(f, Ragged) else [f])]


def inputs(batch: Batch) -> list[Tensor]:
    """Everything a model can read of a batch but who asks."""
    parts = [t for g in batch.histories.values() for t in [*flat(g.features), g.actions, g.elapsed]]
    packing = [batch.packing.owner, batch.packing.place, batch.packing.lengths]
    return [*parts, *packing, *flat(batch.candidates.features)]
