"""The planted truth of a simulated log: causes, true probabilities, the best AUC that any model can reach.

Everything is recomputed in closed form from the log, the parameters and the hidden link values (the
generating process stands at the top of `marketplace.py`); nothing has to be simulated again.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from atrank_lib.log import EventLog
from data_scripts.marketplace import ACTIONS, DAY, GROUPS, LINKS, MarketplaceConfig, World
from data_scripts.timeline import Timeline

FOLDER = "truth"
CHUNK = 4_000_000  # numbers in one array while scoring, so that memory stays bounded


@dataclass(frozen=True)
class Posterior:
    """For n events, who may have caused them: entries offsets[i] to offsets[i + 1] belong to event i.

    The first entry of each event is the background (group and row -1); one entry per earlier behavior of the
    user follows, oldest first. The probabilities of an event sum to one.
    """

    offsets: Int[np.ndarray, " n1"]
    group: Int[np.ndarray, " m"]  # code: 0 item, 1 query, 2 coupon
    row: Int[np.ndarray, " m"]  # row number in log.events[group]
    probability: Float[np.ndarray, " m"]


@dataclass(frozen=True)
class Pairs:
    """All that came before n events of one group, flat: event number, timeline position, weight as cause."""

    event: Int[np.ndarray, " m"]
    position: Int[np.ndarray, " m"]
    weight: Float[np.ndarray, " m"]


@dataclass
class Truth:
    """What was planted in a simulated log.

    causes:         per group, row by row with log.events[group]: cause_group and feature ("" = background),
                    cause_row (row number in log.events[cause_group], -1 = background), probability (of the
                    chosen object, given everything before)
    best_auc:       per group, see `auc`; the mean over `best_auc_users` users
    mean_decay:     per group, the mean of 2^(-age / half_life) over a sample of (behavior, later event) pairs
    """

    world: World
    causes: dict[str, pd.DataFrame]
    best_auc: dict[str, float] = field(default_factory=dict)
    best_auc_users: int = 0
    mean_decay: dict[str, float] = field(default_factory=dict)
    _timeline: tuple[EventLog | None, Timeline | None] = field(default=(None, None), repr=False)

    @property
    def config(self) -> MarketplaceConfig:
        return self.world.config

    def scores(
        self,
        log: EventLog,
        group: str,
        rows: Int[np.ndarray, " n"],
        candidates: Int[np.ndarray, "n C"] | Int[np.ndarray, " C"],
        use_groups: Collection[str] | None = None,
        use_time: bool = True,
        use_quench: bool = True,
    ) -> Float[np.ndarray, "n C"]:
        """True p(candidate | everything the user did before), for n events of `group`.

        rows:        row numbers in log.events[group]; only their user and time are used, not their object
        candidates:  row numbers in log.objects[group]; one row of candidates for each event, or the same for
                     all
        use_groups:  let the scorer see only the history of these groups; none at all leaves popularity
        use_time:    False replaces the decay of each behavior by its group's `mean_decay`
        use_quench:  False ignores that a buy weakens what came before it in its category
        """
        g = _code(group)
        timeline = self.timeline(log)
        rows = np.asarray(rows)
        candidates = np.asarray(candidates)
        if candidates.ndim == 1:
            candidates = np.broadcast_to(candidates, (len(rows), len(candidates)))
        if candidates.ndim != 2 or len(candidates) != len(rows):
            raise ValueError(
                f"candidates has shape {candidates.shape} for {len(rows)} rows; "
                "give one row of candidates for each event, or one list for all"
            )
        out = np.empty(candidates.shape)
        for part in self._chunks(timeline, timeline.positions[g][rows], candidates.shape[1]):
            positions = timeline.positions[g][rows[part]]
            pairs = self._pairs(timeline, g, positions, use_groups, use_time, use_quench)
            out[part] = self._probability(timeline, g, pairs, self.world.first[g] + candidates[part])
        return out

    def posterior(self, log: EventLog, group: str, rows: Int[np.ndarray, " n"]) -> Posterior:
        """P(each earlier behavior, or the background, was the cause | the object that was chosen).

        No method that sees only the log can find causes better than by this posterior.
        """
        g = _code(group)
        timeline = self.timeline(log)
        positions = timeline.positions[g][np.asarray(rows)]
        pairs = self._pairs(timeline, g, positions)
        chosen = timeline.object[positions]
        n = len(positions)
        weight = self._agreement(timeline, g, pairs, chosen) * pairs.weight
        event = np.concatenate([np.arange(n), pairs.event])
        weight = np.concatenate([np.full(n, self.config.background), weight])
        order = np.argsort(event, kind="stable")  # the background of each event comes first
        total = np.bincount(event, weight, minlength=n)
        return Posterior(
            offsets=np.concatenate([[0], np.cumsum(np.bincount(event, minlength=n))]),
            group=np.concatenate([np.full(n, -1), timeline.group[pairs.position]])[order],
            row=np.concatenate([np.full(n, -1), timeline.row[pairs.position]])[order],
            probability=(weight / total[event])[order],
        )

    def auc(
        self,
        log: EventLog,
        group: str,
        use_groups: Collection[str] | None = None,
        use_time: bool = True,
        use_quench: bool = True,
        users: int | None = None,
    ) -> float:
        """Mean over users of P(the true scorer ranks the user's last object of `group` above a negative).

        Negatives are all objects of the group that the user never touched, each equally likely: the exact
        expectation, not a sample; a tie counts half. The options are those of `scores`; `users` evaluates
        that many users, drawn by the config's seed. A user who touched every object has no negative and is
        left out.

        With everything in use this is the Bayes optimum. Before the last event the user has touched the set
        H. Given a pair {a, b} of which one is the object chosen and the other an untouched negative: if a is
        in H it cannot be the negative, so a touched object must be ranked first. If neither is in H, the pair
        arises as (a chosen, b negative) with chance p(a) / (N - |H| - 1), and the other way round with p(b)
        over the same number: ranking by p is right most often, for every pair, hence also for their mean, the
        AUC.
        """
        return self._auc(self.timeline(log), group, use_groups, use_time, use_quench, users)

    def measure(self, timeline: Timeline, users: int) -> None:
        """Fill `mean_decay` and `best_auc` from (at most) that many users."""
        last = np.concatenate([timeline.last_events(g, users) for g in range(len(GROUPS))])
        event, position = timeline.history(last)
        age = (timeline.time[last][event] - timeline.time[position]) / DAY
        group = timeline.group[position]
        half_life = np.array([self.config.half_lives[name] for name in GROUPS])
        decay = np.bincount(group, np.exp2(-age / half_life[group])) / np.bincount(group)
        self.mean_decay = {name: float(decay[g]) for g, name in enumerate(GROUPS)}
        self.best_auc = {name: self._auc(timeline, name, None, True, True, users) for name in GROUPS}
        self.best_auc_users = min(users, len(timeline.first) - 1)

    def timeline(self, log: EventLog) -> Timeline:
        """The log in one order; kept for the log it was last asked for."""
        known, timeline = self._timeline
        if timeline is None or known is not log:
            timeline = Timeline.of_log(log, self.world)
            self._timeline = (log, timeline)
        return timeline

    def write(self, folder: str | Path) -> None:
        """Write `truth/` into a log folder: truth.json, and per group the causes and the hidden objects."""
        path = Path(folder) / FOLDER
        path.mkdir()
        numbers = {
            "best_auc": self.best_auc,
            "best_auc_users": self.best_auc_users,
            "mean_decay": self.mean_decay,
            "config": self.config.model_dump(),
        }
        (path / "truth.json").write_text(json.dumps(numbers, indent=2) + "\n")
        for g, group in enumerate(GROUPS):
            members = slice(self.world.first[g], self.world.first[g + 1])
            hidden = pd.DataFrame(self.world.value[:, members].T, columns=list(LINKS))
            hidden["popularity"] = self.world.popularity[members]
            hidden.to_parquet(path / f"{group}.objects.parquet")
            self.causes[group].to_parquet(path / f"{group}.causes.parquet")

    @classmethod
    def read(cls, log_folder: str | Path, log: EventLog) -> Truth:
        """Read `truth/` of a log folder.

        Raises FileNotFoundError when there is none, ValueError when it was not planted for `log`: the numbers
        of behaviors differ, or the probabilities at a hundred places are not those that were exported.
        """
        path = Path(log_folder) / FOLDER
        if not (path / "truth.json").is_file():
            raise FileNotFoundError(f"{path} holds no truth.json; only simulated logs have a truth")
        numbers = json.loads((path / "truth.json").read_text())
        hidden = [pd.read_parquet(path / f"{group}.objects.parquet") for group in GROUPS]
        first = np.concatenate([[0], np.cumsum([len(table) for table in hidden])])
        objects = pd.concat(hidden, ignore_index=True)
        value = np.ascontiguousarray(objects[list(LINKS)].to_numpy().T)
        world = World(MarketplaceConfig(**numbers.pop("config")), first, value, objects["popularity"].to_numpy())
        causes = {group: pd.read_parquet(path / f"{group}.causes.parquet") for group in GROUPS}
        truth = cls(world, causes, **numbers)
        timeline = truth.timeline(log)
        for g, group in enumerate(GROUPS):
            rows = np.linspace(0, len(causes[group]) - 1, 100).astype(np.int64)
            fits = len(causes[group]) == len(log.events[group])
            if fits:
                chosen = timeline.object[timeline.positions[g][rows]] - first[g]
                found = truth.scores(log, group, rows, chosen[:, None])[:, 0]
                fits = np.allclose(found, causes[group]["probability"].to_numpy()[rows], rtol=1e-6, atol=0)
            if not fits:
                raise ValueError(
                    f"{path / group}.causes.parquet does not belong to the {group} events of this log; "
                    "read both from one folder, as simulated"
                )
        return truth

    # --- the generating process, in closed form -------------------------------------------------------------

    def _pairs(
        self,
        timeline: Timeline,
        g: int,
        positions: Int[np.ndarray, " n"],
        use_groups: Collection[str] | None = None,
        use_time: bool = True,
        use_quench: bool = True,
    ) -> Pairs:
        """All earlier behaviors of events of group g at these positions, and their weights w_j."""
        config, world = self.config, self.world
        use = GROUPS if use_groups is None else tuple(use_groups)
        event, position = timeline.history(positions)
        seen = np.isin(timeline.group[position], [_code(name) for name in use])
        event, position = event[seen], position[seen]
        group = timeline.group[position]
        weight = self._action_weight[group, timeline.action[position]] * world.pull[timeline.object[position], g]
        if use_time:
            half_life = np.array([config.half_lives[name] for name in GROUPS])[group]
            weight *= np.exp2((timeline.time[position] - timeline.time[positions][event]) / DAY / half_life)
        elif use:
            weight *= np.array([self.mean_decay[name] for name in GROUPS])[group]
        if use_quench and "item" in use:
            weight *= config.quench ** timeline.buys_between(position, positions[event])
        return Pairs(event, position, weight)

    @cached_property
    def _action_weight(self) -> Float[np.ndarray, "G A"]:
        table = np.zeros((len(GROUPS), max(map(len, ACTIONS.values()))))
        for g, group in enumerate(GROUPS):
            table[g, : len(ACTIONS[group])] = [self.config.action_weight[action] for action in ACTIONS[group]]
        return table

    def _agreement(
        self, timeline: Timeline, g: int, pairs: Pairs, chosen: Int[np.ndarray, " n"]
    ) -> Float[np.ndarray, " m"]:
        """P(chosen object | the cause is behavior j) / popularity of the chosen object, for each pair."""
        world = self.world
        cause = timeline.object[pairs.position]
        effect = chosen[pairs.event]
        agreement = np.zeros(len(cause))
        for f in range(len(LINKS)):
            same = (world.value[f, cause] == world.value[f, effect]) & (world.value[f, effect] >= 0)
            agreement += same * world.link[cause, g, f] * world.share[f, effect] / world.popularity[effect]
        return agreement

    def _probability(
        self, timeline: Timeline, g: int, pairs: Pairs, objects: Int[np.ndarray, "n C"]
    ) -> Float[np.ndarray, "n C"]:
        """p(object | history), by adding up the weights of all causes that link to the same value."""
        world, n = self.world, len(objects)
        cause = timeline.object[pairs.position]
        total = self.config.background + np.bincount(pairs.event, pairs.weight, minlength=n)
        probability = self.config.background * world.popularity[objects]
        for f in range(len(LINKS)):
            through = pairs.weight * world.link[cause, g, f]
            where = np.flatnonzero(through)  # only causes that have the feature
            cell = pairs.event[where] * world.values + world.value[f, cause[where]]
            mass = np.bincount(cell, through[where], minlength=n * world.values).reshape(n, world.values)
            value = np.maximum(world.value[f, objects], 0)
            probability += np.take_along_axis(mass, value, axis=1) * world.share[f, objects]  # share 0: no value
        return probability / total[:, None]

    def _auc(
        self,
        timeline: Timeline,
        group: str,
        use_groups: Collection[str] | None,
        use_time: bool,
        use_quench: bool,
        users: int | None,
    ) -> float:
        g = _code(group)
        last = timeline.last_events(g, users)
        objects = np.arange(self.world.first[g], self.world.first[g + 1])
        values = np.empty(len(last))
        for part in self._chunks(timeline, last, len(objects)):
            here = last[part]
            pairs = self._pairs(timeline, g, here, use_groups, use_time, use_quench)
            score = self._probability(timeline, g, pairs, np.broadcast_to(objects, (len(here), len(objects))))
            touched = timeline.touched(g, here)
            chosen = timeline.object[here] - objects[0]
            every = np.arange(len(here))
            again = touched[every, chosen]
            touched[every, chosen] = True
            positive = score[every, chosen][:, None]
            wins = ((score < positive) & ~touched).sum(1) + 0.5 * ((score == positive) & ~touched).sum(1)
            negatives = (~touched).sum(1)
            auc = np.divide(wins, negatives, out=np.full(len(here), np.nan), where=negatives > 0)
            values[part] = np.where(again & (negatives > 0), 1.0, auc)
        if np.isnan(values).all():
            raise ValueError(f"every user touched all {len(objects)} objects of {group}; simulate more objects")
        return float(np.nanmean(values))

    def _chunks(self, timeline: Timeline, positions: Int[np.ndarray, " n"], width: int) -> Iterator[slice]:
        """Slices over events; neither the candidates nor the histories of one exceed CHUNK numbers."""
        cost = np.maximum(positions - timeline.first[timeline.user[positions]], max(width, self.world.values))
        number = (np.cumsum(cost) - cost) // CHUNK
        edges = np.concatenate([[0], np.flatnonzero(np.diff(number)) + 1, [len(positions)]])
        return (slice(a, b) for a, b in pairwise(edges.tolist()) if b > a)


def _code(group: str) -> int:
    if group not in GROUPS:
        raise ValueError(f"{group!r} is no group of the marketplace; its groups are {', '.join(GROUPS)}")
    return GROUPS.index(group)
