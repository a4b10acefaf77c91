"""A log in which users choose from lists, for tests of impressions: what is chosen depends on the place alone."""

from __future__ import annotations

import numpy as np
import pandas as pd

from atrank_lib.log import EventLog, Schema

ITEM = {
    "actions": ["look", "click"],
    "features": {"object_id": {"kind": "categorical"}},
    "context": {"place": {"kind": "categorical"}, "price": {"kind": "continuous"}, "labels": {"kind": "tokens"}},
}
OTHER = {"actions": ["ask"], "features": {"object_id": {"kind": "categorical"}}}
SCHEMA = Schema.model_validate({"name": "shop window", "groups": {"item": ITEM, "other": OTHER}})


def shop_window(users: int = 30, behaviors: int = 8, objects: int = 40, seed: int = 0) -> EventLog:
    """Of every user's behaviors some are clicks beside which up to seven others were shown, or nothing at all."""
    rng = np.random.default_rng(seed)
    items: list[tuple[str, int, str, str]] = []
    others: list[tuple[str, int, str, str]] = []
    shown: list[tuple[int, str, str, float | None, list[str]]] = []
    for user in range(users):
        for turn in range(behaviors):
            time, listed = 1_500_000_000 + 1_000 * turn, rng.choice(objects, rng.integers(1, 9), replace=False)
            weight = np.exp(-np.arange(len(listed)))
            chosen = listed[rng.choice(len(listed), p=weight / weight.sum())]
            clicked = rng.random() < 0.7
            for place, item in enumerate(listed.tolist()):
                if clicked:
                    price = None if rng.random() < 0.1 else float(rng.normal(50, 10))
                    labels = [f"l{label}" for label in rng.integers(0, 4, rng.integers(0, 3))]
                    shown.append((len(items), f"i{item}", str(place), price, labels))
            items.append((f"u{user}", time, "click" if clicked else "look", f"i{chosen}"))
            others.append((f"u{user}", time + 500, "ask", f"o{rng.integers(60)}"))
    columns = ["user_id", "timestamp", "action", "object_id"]
    events = {"item": pd.DataFrame(items, columns=columns), "other": pd.DataFrame(others, columns=columns)}
    things = {"item": [f"i{i}" for i in range(objects)], "other": [f"o{i}" for i in range(60)]}
    impressions = pd.DataFrame(shown, columns=["event", "object_id", "place", "price", "labels"])
    order = rng.permutation(len(impressions))  # rows may come in any order
    return EventLog.from_tables(
        SCHEMA,
        events,
        {name: pd.DataFrame({"object_id": ids}) for name, ids in things.items()},
        {"item": impressions.iloc[order].astype({"price": float})},
    )
