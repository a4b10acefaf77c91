"""Models for a page, and what somebody does there."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from atrank_lib.grouping import GroupedHistories
from atrank_lib.model import ATRank
from tests.models import make

SPACES = {"two layers, shared": (3, 5, 8), "told raw, shared": (3, 5, 8)}  # of different sizes too


def a_model(way: str, histories: GroupedHistories | None = None, **more: Any) -> tuple[ATRank, GroupedHistories]:
    model, histories = make(way, histories, size=8, spaces=SPACES.get(way, 4), **more)
    return cast(ATRank, model), histories


def random_behaviors(rng: np.random.Generator, histories: GroupedHistories, count: int) -> list[list[Any]]:
    """Behaviors as a page has them; now and then on an object of which nothing is known (None)."""
    found: list[list[Any]] = []
    for _ in range(count):
        number = int(rng.integers(len(histories.groups)))
        name = list(histories.groups)[number]
        unknown = rng.random() < 0.2
        place = None if unknown else int(rng.integers(len(histories.catalogs[name])))
        action = int(rng.integers(len(histories.schema.groups[name].actions)))
        found.append([number, action, place, int(2 ** (24 * rng.random())) - 1])
    return found
