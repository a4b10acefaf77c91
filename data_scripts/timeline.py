"""All behaviors of a simulated log in one order, and quick answers about what came before what."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from atrank_lib.log import EventLog
from data_scripts.marketplace import BUY, GROUPS, LINKS
from data_scripts.world import World


@dataclass(frozen=True)
class Timeline:
    """All behaviors of all groups in one order: by user, then by time.

    first:   [U1 = U + 1] position of the first behavior of each user
    group:   [T] group code (GROUPS order)      row:    [T] row number in that group's events table
    time:    [T] seconds                        action: [T] action code within the group
    object:  [T] object number (`World` numbers them through over the groups)
    name:    [U] user_id of each user
    """

    first: Int[np.ndarray, " U1"]
    group: Int[np.ndarray, " T"]
    row: Int[np.ndarray, " T"]
    time: Int[np.ndarray, " T"]
    action: Int[np.ndarray, " T"]
    object: Int[np.ndarray, " T"]
    world: World
    name: pd.Index

    @cached_property
    def user(self) -> Int[np.ndarray, " T"]:
        return np.repeat(np.arange(len(self.first) - 1), np.diff(self.first))

    @cached_property
    def positions(self) -> list[np.ndarray]:
        """Per group: position in the timeline of each row of the events table."""
        positions = [np.empty(np.count_nonzero(self.group == g), dtype=np.int64) for g in range(len(GROUPS))]
        for g, where in enumerate(positions):
            members = np.flatnonzero(self.group == g)
            where[self.row[members]] = members
        return positions

    @classmethod
    def of_log(cls, log: EventLog, world: World) -> Timeline:
        """Raises ValueError when the log's objects are not those of the world."""
        for g, size in zip(GROUPS, np.diff(world.first).tolist(), strict=True):
            planted = [f"{g}{k}" for k in range(size)]
            if g not in log.objects or log.objects[g]["object_id"].tolist() != planted:
                raise ValueError(
                    f"the truth was planted for the {g} objects {g}0 to {g}{size - 1}, the log has others; "
                    "pass the log it came with"
                )
        events = [log.events[group] for group in GROUPS]
        user, names = pd.factorize(pd.concat([table["user_id"] for table in events], ignore_index=True))
        group = np.repeat(np.arange(len(GROUPS), dtype=np.int8), [len(table) for table in events])
        time = np.concatenate([table["timestamp"].to_numpy() for table in events])
        order = np.lexsort((time, user))
        row = np.concatenate([np.arange(len(table)) for table in events])
        action = np.concatenate([table["action"].cat.codes for table in events])
        thing = np.concatenate(
            [
                pd.Index(log.objects[g]["object_id"]).get_indexer(pd.Index(t["object_id"])) + world.first[code]
                for code, (t, g) in enumerate(zip(events, GROUPS, strict=True))
            ]
        )
        first = np.searchsorted(user[order], np.arange(len(names) + 1))
        return cls(first, group[order], row[order], time[order], action[order], thing[order], world, names)

    @cached_property
    def often(self) -> Float[np.ndarray, "2 K"]:
        """How the items, and the queries, of the log divide among the categories that the table decides for."""
        category = self.world.value[LINKS.index("category"), self.object]
        counts = [np.bincount(category[self.group == g], minlength=len(self.world.table)) for g in (0, 1)]
        return np.stack([count / count.sum() for count in counts])

    @cached_property
    def latest(self) -> Int[np.ndarray, "2 T"]:
        """Position of the user's latest item, and of the latest query, before each behavior; -1 where there is none."""
        place = np.arange(len(self.object))
        own = np.stack([np.where(self.group == GROUPS.index(name), place, -1) for name in ("item", "query")])
        before = np.maximum.accumulate(own, axis=1)[:, place - 1]
        return np.where((place > 0) & (before >= self.first[self.user]), before, -1)

    @cached_property
    def _purchases(self) -> tuple[Int[np.ndarray, " T"], Int[np.ndarray, " b"]]:
        """A number for (user, category, position 0) of each behavior, or -1; the buys as such numbers.

        In this numbering the buys of one user in one category lie together, in order of time.
        """
        category = self.world.value[LINKS.index("category"), self.object].astype(np.int64)
        place = np.where(category < 0, -1, (self.user * self.world.values + category) * len(self.object))
        bought = np.flatnonzero((self.group == GROUPS.index("item")) & (self.action == BUY))
        return place, np.sort(place[bought] + bought)

    def buys_between(self, position: Int[np.ndarray, " m"], until: Int[np.ndarray, " m"]) -> Int[np.ndarray, " m"]:
        """How often the user bought in the category of a behavior, after it and before position `until`."""
        place, buys = self._purchases
        start = place[position]
        count = np.searchsorted(buys, start + until, "left") - np.searchsorted(buys, start + position, "right")
        return np.where(start < 0, 0, count)

    def history(self, positions: Int[np.ndarray, " n"]) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"]]:
        """Everything before each of n behaviors, oldest first: (number 0..n-1, position), flat."""
        first = self.first[self.user[positions]]
        length = positions - first
        event = np.repeat(np.arange(len(positions)), length)
        start = np.cumsum(length) - length
        return event, np.arange(length.sum()) - start[event] + first[event]

    def touched(self, g: int, positions: Int[np.ndarray, " n"]) -> Bool[np.ndarray, "n N"]:
        """Which objects of group g the user touched before the events at these positions."""
        first, end = self.world.first[g : g + 2]
        touched = np.zeros((len(positions), end - first), dtype=bool)
        event, position = self.history(positions)
        same = self.group[position] == g
        touched[event[same], self.object[position[same]] - first] = True
        return touched

    def last_events(self, g: int, users: int | None) -> Int[np.ndarray, " n"]:
        """Position of the last event of group g of each user, or of so many users, drawn by the config's seed."""
        members = np.flatnonzero(self.group == g)
        last = members[np.flatnonzero(np.diff(self.user[members], append=-1))]
        count = len(self.first) - 1
        if users is None or users >= count:
            return last
        chosen = np.zeros(count, dtype=bool)
        chosen[np.random.default_rng(self.world.config.seed).choice(count, users, replace=False)] = True
        return last[chosen[self.user[last]]]
