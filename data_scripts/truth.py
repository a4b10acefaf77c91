"""The planted truth of a simulated log: causes, true probabilities, the best AUC that any model can reach.

Everything is recomputed in closed form from the log, the parameters and the hidden link values (the
generating process stands at the top of `marketplace.py`); nothing has to be simulated again.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from atrank_lib.log import EventLog
from data_scripts.marketplace import DAY, GROUPS, LINKS, MarketplaceConfig
from data_scripts.mixture import Mixture, Sight, code, sight_of
from data_scripts.timeline import Timeline
from data_scripts.world import World

FOLDER = "truth"
CHUNK = 4_000_000  # numbers in one array while scoring, so that memory stays bounded


@dataclass(frozen=True)
class Posterior:
    """For n events, who may have caused them: entries offsets[i] to offsets[i + 1] belong to event i.

    The first entry of each event is no behavior at all (group and row -1): the background, or the user's favorite.
    One entry per earlier behavior of the user follows, oldest first. The probabilities of an event sum to one. What a
    pair caused is its item's.
    """

    offsets: Int[np.ndarray, " n1"]
    group: Int[np.ndarray, " m"]  # code: 0 item, 1 query, 2 coupon
    row: Int[np.ndarray, " m"]  # row number in log.events[group]
    probability: Float[np.ndarray, " m"]


@dataclass
class Truth:
    """What was planted in a simulated log.

    causes:         per group, row by row with log.events[group]: cause_group and cause_row (row number in
                    log.events[cause_group]; "" and -1 where no behavior was the cause), feature (that links the two;
                    "" = background, "taste" = the favorite, "pair" = the item that is named and the latest query
                    before), probability (of the chosen object, given everything before)
    favorite:       object number of each user's favorite by user_id; None in a world without taste
    best_auc:       per group, see `auc`; the mean over `best_auc_users` users
    mean_decay:     per group, the mean of 2^(-age / half_life) over a sample of (behavior, later event) pairs
    """

    world: World
    causes: dict[str, pd.DataFrame]
    favorite: pd.Series | None = None
    best_auc: dict[str, float] = field(default_factory=dict)
    best_auc_users: int = 0
    mean_decay: dict[str, float] = field(default_factory=dict)
    _timeline: tuple[EventLog | None, Timeline | None] = field(default=(None, None), repr=False)

    @property
    def config(self) -> MarketplaceConfig:
        return self.world.config

    @property
    def mixture(self) -> Mixture:
        return Mixture(self.world, self.favorite, self.mean_decay)

    def scores(
        self,
        log: EventLog,
        group: str,
        rows: Int[np.ndarray, " n"],
        candidates: Int[np.ndarray, "n C"] | Int[np.ndarray, " C"],
        use_groups: Collection[str] | None = None,
        use_time: bool = True,
        use_quench: bool = True,
        use_pairs: bool = True,
        days: int | None = None,
    ) -> Float[np.ndarray, "n C"]:
        """True p(candidate | everything the user did before), for n events of `group`.

        rows:        row numbers in log.events[group]; only their user and time are used, not their object
        candidates:  row numbers in log.objects[group]; one row of candidates for each event, or the same for
                     all
        use_groups:  let the scorer see only the history of these groups; none at all leaves popularity and taste
        use_time:    False replaces the decay of each behavior by its group's `mean_decay`
        use_quench:  False ignores that a buy weakens what came before it in its category
        use_pairs:   False adds up what each behavior of a pair tells when the other one is unknown
        days:        popularity not of the day, but as its mean over so many days before
        """
        g, sight = code(group), sight_of(use_groups, use_time, use_quench, use_pairs, days)
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
            out[part] = self.mixture.probability(timeline, g, positions, self.world.first[g] + candidates[part], sight)
        return out

    def posterior(self, log: EventLog, group: str, rows: Int[np.ndarray, " n"]) -> Posterior:
        """P(each earlier behavior, or the background, was the cause | the object that was chosen).

        No method that sees only the log can find causes better than by this posterior.
        """
        g = code(group)
        timeline = self.timeline(log)
        positions = timeline.positions[g][np.asarray(rows)]
        causes, chosen = self.mixture.causes(timeline, g, positions, Sight()), timeline.object[positions]
        n, first = len(positions), timeline.first[timeline.user[positions]]
        offsets = np.concatenate([[0], np.cumsum(1 + positions - first)])
        # the place of each cause among the entries: its event's first one, or that of its behavior
        place = offsets[causes.event] + np.where(causes.position < 0, 0, 1 + causes.position - first[causes.event])
        weight = np.bincount(place, self.mixture.agreement(causes, g, chosen) * causes.weight, minlength=offsets[-1])
        popular = self.mixture.popularity(timeline.time[positions], chosen[:, None], None)[:, 0]
        weight[offsets[:-1]] += self.config.background * popular / self.world.popularity[chosen]
        behavior = np.ones(len(weight), dtype=bool)
        behavior[offsets[:-1]] = False
        groups, rows = np.full((2, len(weight)), -1)
        groups[behavior] = timeline.group[causes.position[: causes.behaviors]]
        rows[behavior] = timeline.row[causes.position[: causes.behaviors]]
        event = np.repeat(np.arange(n), np.diff(offsets))
        return Posterior(offsets, groups, rows, weight / np.bincount(event, weight, minlength=n)[event])

    def auc(
        self,
        log: EventLog,
        group: str,
        use_groups: Collection[str] | None = None,
        use_time: bool = True,
        use_quench: bool = True,
        use_pairs: bool = True,
        days: int | None = None,
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
        sight = sight_of(use_groups, use_time, use_quench, use_pairs, days)
        return self._auc(self.timeline(log), group, sight, users)

    def measure(self, timeline: Timeline, users: int) -> None:
        """Fill `mean_decay` and `best_auc` from (at most) that many users."""
        last = np.concatenate([timeline.last_events(g, users) for g in range(len(GROUPS))])
        event, position = timeline.history(last)
        age = (timeline.time[last][event] - timeline.time[position]) / DAY
        group = timeline.group[position]
        half_life = np.array([self.config.half_lives[name] for name in GROUPS])
        decay = np.bincount(group, np.exp2(-age / half_life[group])) / np.bincount(group)
        self.mean_decay = {name: float(decay[g]) for g, name in enumerate(GROUPS)}
        self.best_auc = {name: self._auc(timeline, name, Sight(), users) for name in GROUPS}
        self.best_auc_users = min(users, len(timeline.first) - 1)

    def timeline(self, log: EventLog) -> Timeline:
        """The log in one order; kept for the log it was last asked for."""
        known, timeline = self._timeline
        if timeline is None or known is not log:
            timeline = Timeline.of_log(log, self.world)
            self._timeline = (log, timeline)
        return timeline

    def write(self, folder: str | Path) -> None:
        """Write `truth/` into a log folder: truth.json, and per group the causes and the hidden objects.

        In worlds that have them also: the favorites of users, popularity in each period, the table of pairs.
        """
        path = Path(folder) / FOLDER
        path.mkdir()
        numbers: dict[str, Any] = {
            "best_auc": self.best_auc,
            "best_auc_users": self.best_auc_users,
            "mean_decay": self.mean_decay,
            "config": self.config.model_dump(),
        }
        if self.config.conjunction:
            numbers["table"] = self.world.table.tolist()
        if self.favorite is not None:
            names = [f"{GROUPS[0]}{number}" for number in self.favorite - self.world.first[0]]
            users = pd.DataFrame({"user_id": self.favorite.index, "favorite": names})
            users.to_parquet(path / "users.parquet")
        (path / "truth.json").write_text(json.dumps(numbers, indent=2) + "\n")
        for g, group in enumerate(GROUPS):
            members = slice(self.world.first[g], self.world.first[g + 1])
            hidden = pd.DataFrame(self.world.value[:, members].T, columns=list(LINKS))
            hidden["popularity"] = self.world.popularity[members]
            if self.config.drift:
                periods = [f"period{number}" for number in range(len(self.world.moment))]
                drift = pd.DataFrame(self.world.moment[:, members].T, columns=periods)
                drift.to_parquet(path / f"{group}.drift.parquet")
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
        # without drift, and in logs from before there was any, popularity has one period
        drifts = [pd.read_parquet(f) if (f := path / f"{group}.drift.parquet").is_file() else None for group in GROUPS]
        moments = [
            table["popularity"].to_numpy()[None] if drift is None else drift.to_numpy().T
            for table, drift in zip(hidden, drifts, strict=True)
        ]
        table = np.array(numbers.pop("table", []), dtype=np.int32)
        world = World(
            config=MarketplaceConfig(**numbers.pop("config")),
            first=first,
            value=value,
            popularity=objects["popularity"].to_numpy(),
            moment=np.concatenate(moments, axis=1),
            table=table.reshape(len(table), -1) if len(table) else np.zeros((0, 0), dtype=np.int32),
        )
        favorite = None
        if world.config.taste:
            users = pd.read_parquet(path / "users.parquet")
            number = users["favorite"].str.removeprefix(GROUPS[0]).astype(int) + first[0]
            favorite = pd.Series(number.to_numpy(), pd.Index(users["user_id"]))
        causes = {group: pd.read_parquet(path / f"{group}.causes.parquet") for group in GROUPS}
        truth = cls(world, causes, favorite, **numbers)
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

    def _auc(self, timeline: Timeline, group: str, sight: Sight, users: int | None) -> float:
        g = code(group)
        last = timeline.last_events(g, users)
        objects = np.arange(self.world.first[g], self.world.first[g + 1])
        values = np.empty(len(last))
        for part in self._chunks(timeline, last, len(objects)):
            here = last[part]
            candidates = np.broadcast_to(objects, (len(here), len(objects)))
            score = self.mixture.probability(timeline, g, here, candidates, sight)
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
