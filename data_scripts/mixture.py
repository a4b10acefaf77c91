"""The generating process in closed form: what may have caused a behavior, and p(object), for all or part of what is
known. Its equations stand at the top of `marketplace.py`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from data_scripts.marketplace import ACTIONS, DAY, GROUPS, LINKS
from data_scripts.timeline import Timeline
from data_scripts.world import World


@dataclass(frozen=True)
class Sight:
    """What a scorer sees, everything by default: `Truth.scores` says what each of its options does."""

    groups: Collection[str] = GROUPS
    time: bool = True
    quench: bool = True
    pairs: bool = True
    days: int | None = None


@dataclass(frozen=True)
class Causes:
    """All that may have caused n events of one group, but for the background, flat.

    event:     number of the event, 0..n-1
    source:    what it is (`World.sources`)
    weight:    how much it pulls, against the background
    position:  of the behavior in the timeline, for a pair of its item; -1 for a favorite

    Entry m of the first `behaviors` is an earlier behavior, for each event oldest first.
    """

    event: Int[np.ndarray, " m"]
    source: Int[np.ndarray, " m"]
    weight: Float[np.ndarray, " m"]
    position: Int[np.ndarray, " m"]
    behaviors: int


@dataclass(frozen=True)
class Mixture:
    """A world, what is hidden of its users, and the mean decay that stands in where time is not seen."""

    world: World
    favorite: pd.Series | None
    mean_decay: dict[str, float]

    def causes(self, timeline: Timeline, g: int, positions: Int[np.ndarray, " n"], sight: Sight) -> Causes:
        """All that may have caused events of group g at these positions: behaviors, favorites, pairs."""
        config, world, use = self.world.config, self.world, sight.groups
        event, position = timeline.history(positions)
        seen = np.isin(timeline.group[position], [code(name) for name in use])
        event, position = event[seen], position[seen]
        group, source = timeline.group[position], timeline.object[position]
        weight = self._action_weight[group, timeline.action[position]] * world.pull[source, g]
        if sight.time:
            half_life = np.array([config.half_lives[name] for name in GROUPS])[group]
            weight *= np.exp2((timeline.time[position] - timeline.time[positions][event]) / DAY / half_life)
        elif use:
            weight *= np.array([self.mean_decay[name] for name in GROUPS])[group]
        if sight.quench and "item" in use:
            weight *= config.quench ** timeline.buys_between(position, positions[event])
        parts = [(event, source, weight, position)]
        if self.favorite is not None:
            loved = self._favorites(timeline)[timeline.user[positions]]
            parts.append((np.arange(len(loved)), loved, world.charm[loved, g], np.full(len(loved), -1)))
        if config.conjunction:
            told = self._told(timeline, positions, sight)
            event, category = np.nonzero(told)
            source = world.first[-1] + category
            weight = world.pull[source, g] * told[event, category]
            parts.append((event, source, weight, timeline.latest[0, positions[event]]))
        event, source, weight, position = (np.concatenate(part) for part in zip(*parts, strict=True))
        return Causes(event, source, weight, position, behaviors=len(parts[0][0]))

    def _favorites(self, timeline: Timeline) -> Int[np.ndarray, " U"]:
        """The favorite of each user of a timeline, in a world with taste."""
        assert self.favorite is not None
        number = self.favorite.index.get_indexer(timeline.name)
        if (number < 0).any():
            raise ValueError(f"{timeline.name[number < 0][0]} has no favorite; pass the log that the truth came with")
        return self.favorite.to_numpy()[number]

    def _told(self, timeline: Timeline, positions: Int[np.ndarray, " n"], sight: Sight) -> Float[np.ndarray, "n K"]:
        """How likely the pair before each event decides for each category; all 0 where there is no pair.

        Of a behavior that is not seen, categories are as likely as they are frequent in the log.
        """
        latest, one_hot = timeline.latest[:, positions], np.eye(len(self.world.table))
        seen = one_hot[self.world.value[LINKS.index("category"), timeline.object[latest]]]  # [2, n, K]
        unseen = np.broadcast_to(timeline.often[:, None], seen.shape)
        item, query = (seen[i] if name in sight.groups else unseen[i] for i, name in enumerate(("item", "query")))
        pairs = [(item, query)] if sight.pairs else [(item, unseen[1]), (unseen[0], query)]
        told = [np.einsum("na,nb,abv->nv", a, b, one_hot[self.world.table]) for a, b in pairs]
        return np.mean(told, axis=0) * (latest >= 0).all(axis=0, keepdims=True).T

    @cached_property
    def _action_weight(self) -> Float[np.ndarray, "G A"]:
        table = np.zeros((len(GROUPS), max(map(len, ACTIONS.values()))))
        for g, group in enumerate(GROUPS):
            table[g, : len(ACTIONS[group])] = [self.world.config.action_weight[action] for action in ACTIONS[group]]
        return table

    def agreement(self, causes: Causes, g: int, chosen: Int[np.ndarray, " n"]) -> Float[np.ndarray, " m"]:
        """P(chosen object | the cause is this one) / popularity of the chosen object, for each cause."""
        world = self.world
        effect = chosen[causes.event]
        agreement = np.zeros(len(effect))
        for f in range(len(LINKS)):
            same = (world.sources[f, causes.source] == world.value[f, effect]) & (world.value[f, effect] >= 0)
            agreement += same * world.link[causes.source, g, f] * world.share[f, effect] / world.popularity[effect]
        return agreement

    def probability(
        self,
        timeline: Timeline,
        g: int,
        positions: Int[np.ndarray, " n"],
        objects: Int[np.ndarray, "n C"],
        sight: Sight,
    ) -> Float[np.ndarray, "n C"]:
        """p(object | history), by adding up the weights of all causes that link to the same value."""
        world, n = self.world, len(objects)
        causes = self.causes(timeline, g, positions, sight)
        total = self.world.config.background + np.bincount(causes.event, causes.weight, minlength=n)
        probability = self.world.config.background * self.popularity(timeline.time[positions], objects, sight.days)
        for f in range(len(LINKS)):
            through = causes.weight * world.link[causes.source, g, f]
            where = np.flatnonzero(through)  # only causes that have the feature
            cell = causes.event[where] * world.values + world.sources[f, causes.source[where]]
            mass = np.bincount(cell, through[where], minlength=n * world.values).reshape(n, world.values)
            value = np.maximum(world.value[f, objects], 0)
            probability += np.take_along_axis(mass, value, axis=1) * world.share[f, objects]  # share 0: no value
        return probability / total[:, None]

    def popularity(
        self, time: Int[np.ndarray, " n"], objects: Int[np.ndarray, "n C"], days: int | None
    ) -> Float[np.ndarray, "n C"]:
        """P(object | day), or the mean of it over so many days before."""
        world, today = self.world, self.world.day(time)[:, None]
        if days is None:
            return world.moment[world.period(today), objects]
        past = world.period(today - np.arange(1, days + 1))
        share = np.stack([(past == row).mean(axis=1) for row in range(len(world.moment))], axis=1)
        return np.take_along_axis(share @ world.moment, objects, axis=1)


def sight_of(groups: Collection[str] | None, time: bool, quench: bool, pairs: bool, days: int | None) -> Sight:
    """The options of `Truth.scores`, checked."""
    if days is not None and days < 1:
        raise ValueError(f"days is {days}; give a number of days from 1, or None for popularity of the day itself")
    return Sight(GROUPS if groups is None else tuple(groups), time, quench, pairs, days)


def code(group: str) -> int:
    """The number of a group."""
    if group not in GROUPS:
        raise ValueError(f"{group!r} is no group of the marketplace; its groups are {', '.join(GROUPS)}")
    return GROUPS.index(group)
