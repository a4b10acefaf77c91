"""Taste, drift and conjunction: the closed form against loops, draws against it, and what the worlds promise."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from atrank_lib.log.events import EventLog
from data_scripts.marketplace import GROUPS, WORLDS, MarketplaceConfig
from data_scripts.simulate import Marketplace, simulate
from data_scripts.truth import Truth
from tests.data_scripts.test_simulate import run
from tests.data_scripts.test_truth import SMALL, Loops, sample

EVERYTHING = SMALL.model_copy(update={"taste": 1.5, "drift": 1.2, "period": 5, "conjunction": 2.5})
MIXED = MarketplaceConfig(users=2500, seed=11, categories=8, taste=1.5, drift=1.2, period=5, conjunction=2.5)


@pytest.fixture(scope="module")
def market() -> Marketplace:
    return simulate(EVERYTHING)


@pytest.fixture(scope="module")
def folder(market: Marketplace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("worlds") / "log"
    market.write(folder)
    return folder


@dataclass
class AllLoops(Loops):
    """The generating process with all that a world can have; what is planted is read from disk."""

    folder: Path

    def popularity(self, group: str, time: int, days: int | None) -> np.ndarray:
        table = pd.read_parquet(self.folder / "truth" / f"{group}.drift.parquet").to_numpy()  # [objects, periods]
        today = (time - self.config.start) // 86400
        past = [today] if days is None else [today - k for k in range(1, days + 1)]
        return np.mean([table[:, (day // self.config.period) % table.shape[1]] for day in past], axis=0)

    def of_value(self, group: str, value: int) -> np.ndarray:
        same = np.array([o["popularity"] if o["category"] == value else 0.0 for o in self.hidden[group]])
        return same / same.sum() if same.sum() else same

    def shares(self, group: str) -> list[float]:
        """How often each category occurs among the behaviors of a group."""
        numbers = self.numbers(group)
        seen = [self.hidden[group][numbers[o]]["category"] for o in self.log.events[group]["object_id"]]
        return [seen.count(v) / len(seen) for v in range(self.config.categories)]

    def everything(self, group: str, row: int, use_groups=GROUPS, pairs=True, days=None) -> dict:
        """P(cause and object) for all objects, by cause: "", "taste", "pair" or (group, row) of a behavior."""
        config, event = self.config, self.log.events[group].iloc[row]
        behaviors = self.joint(group, row, use_groups)  # normalized over the background and the behaviors alone
        popularity = np.array([o["popularity"] for o in self.hidden[group]])
        total = config.background / behaviors[0][2].sum()
        found: dict[Any, np.ndarray] = {(g, r): p * total for g, r, p in behaviors[1:]}
        found[""] = config.background * self.popularity(group, int(event["timestamp"]), days)

        users = pd.read_parquet(self.folder / "truth" / "users.parquet").set_index("user_id")["favorite"]
        favorite = self.hidden["item"][self.numbers("item")[users[event["user_id"]]]]
        routes = self.through(favorite, config.links["item"].get(group, {}), group)
        found["taste"] = config.taste * sum(map(np.array, routes.values()), np.zeros(len(popularity)))

        table = json.loads((self.folder / "truth" / "truth.json").read_text())["table"]
        latest = {g: [b for b in self.history(group, row) if b[0] == g][-1:] for g in ("item", "query")}
        found["pair"] = np.zeros(len(popularity))
        if latest["item"] and latest["query"]:
            shares = {g: self.shares(g) for g in latest}
            known = {g: np.eye(len(table))[self.hidden[g][latest[g][0][4]]["category"]] for g in latest}
            known = {g: known[g] if g in use_groups else shares[g] for g in latest}
            both = [(known["item"], known["query"])]
            if not pairs:
                both = [(known["item"], shares["query"]), (shares["item"], known["query"])]
            for a, pa in enumerate(table):
                for b, v in enumerate(pa):
                    chance = np.mean([x[a] * y[b] for x, y in both])
                    found["pair"] += config.conjunction * chance * self.of_value(group, v)
        total = sum(p.sum() for p in found.values())
        return {cause: p / total for cause, p in found.items()}


@pytest.fixture(scope="module")
def loops(folder: Path) -> AllLoops:
    plain = Loops.over(folder)
    return AllLoops(EVERYTHING, plain.log, plain.hidden, folder)


@pytest.mark.parametrize("group", GROUPS)
def test_scores_are_the_definition(market: Marketplace, loops: AllLoops, group: str) -> None:
    rows, everything = sample(market.log, group, 8), np.arange(len(market.log.objects[group]))
    for use_groups, pairs, days in [(GROUPS, True, None), (GROUPS, False, 12), (("item", "coupon"), True, 400)]:
        scores = market.truth.scores(
            market.log, group, rows, everything, use_groups, use_quench=True, use_pairs=pairs, days=days
        )
        for i, row in enumerate(rows):
            expected = sum(loops.everything(group, row, use_groups, pairs, days).values())
            np.testing.assert_allclose(scores[i], expected, rtol=1e-9)
        np.testing.assert_allclose(scores.sum(1), 1, rtol=1e-9)


@pytest.mark.parametrize("group", GROUPS)
def test_posterior_is_the_definition(market: Marketplace, loops: AllLoops, group: str) -> None:
    rows, numbers = sample(market.log, group, 8), loops.numbers(group)
    posterior = market.truth.posterior(market.log, group, rows)
    for i, row in enumerate(rows):
        part = slice(posterior.offsets[i], posterior.offsets[i + 1])
        chosen = numbers[market.log.events[group]["object_id"].iloc[row]]
        expected = {cause: p[chosen] for cause, p in loops.everything(group, row).items()}
        nobody, pair = expected.pop("") + expected.pop("taste"), expected.pop("pair")
        items = [behavior[1] for behavior in loops.history(group, row) if behavior[0] == "item"]
        if pair:
            expected["item", items[-1]] += pair
        names = [(GROUPS[g], r) for g, r in zip(posterior.group[part][1:], posterior.row[part][1:], strict=True)]
        assert names == list(expected)
        values = np.array([nobody, *expected.values()])
        np.testing.assert_allclose(posterior.probability[part], values / values.sum(), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("group", GROUPS)
def test_what_is_drawn_is_as_frequent_as_the_truth_says(group: str, mixed: Marketplace) -> None:
    events, objects, causes = mixed.log.events[group], mixed.log.objects[group], mixed.truth.causes[group]
    every = pd.Index(objects["object_id"]).get_indexer(pd.Index(events["object_id"]))
    exported = mixed.truth.scores(mixed.log, group, np.arange(len(events)), every[:, None])[:, 0]
    np.testing.assert_allclose(causes["probability"], exported, rtol=1e-9)
    rows = np.random.default_rng(0).choice(len(events), 5000, replace=False)
    scores = mixed.truth.scores(mixed.log, group, rows, np.arange(len(objects)))
    hits = np.zeros(scores.shape, dtype=bool)
    hits[np.arange(len(rows)), every[rows]] = True
    bins = np.digitize(scores, np.quantile(scores, [0.5, 0.9, 0.99, 0.999]))
    for b in range(5):
        expected, seen = scores[bins == b].sum(), hits[bins == b].sum()
        assert abs(seen - expected) < 4.5 * np.sqrt(expected), f"bin {b}: {seen} chosen, {expected:.1f} expected"

    posterior = mixed.truth.posterior(mixed.log, group, rows)
    truth = causes.iloc[rows[np.repeat(np.arange(len(rows)), np.diff(posterior.offsets))]]
    code = truth["cause_group"].cat.codes.to_numpy() - 1
    hit = (code == posterior.group) & (truth["cause_row"].to_numpy() == posterior.row)
    assert hit.sum() == len(rows)
    for low, high in [(0, 0.02), (0.02, 0.1), (0.1, 0.3), (0.3, 0.6), (0.6, 0.9), (0.9, 1.1)]:
        inside = (posterior.probability >= low) & (posterior.probability < high)
        p = posterior.probability[inside]
        assert abs(hit[inside].sum() - p.sum()) < 4.5 * np.sqrt((p * (1 - p)).sum() + 1)


@pytest.fixture(scope="module")
def mixed() -> Marketplace:
    return simulate(MIXED)


def test_every_kind_of_cause_is_there_and_pairs_decide_as_the_table_says(mixed: Marketplace) -> None:
    world, timeline = mixed.truth.world, mixed.truth.timeline(mixed.log)
    kinds = {group: set(table["feature"]) for group, table in mixed.truth.causes.items()}
    assert {"", "taste", "pair", "category"} <= kinds["item"] & kinds["query"]
    assert "taste" in kinds["coupon"]
    assert "pair" not in kinds["coupon"]
    for g in (0, 1):
        causes = mixed.truth.causes[GROUPS[g]]
        rows = np.flatnonzero(causes["feature"] == "pair")
        position = timeline.positions[g][rows]
        item, query = timeline.latest[:, position]
        a, b, decided = (world.value[0, timeline.object[p]] for p in (item, query, position))
        np.testing.assert_array_equal(world.table[a, b], decided)
        np.testing.assert_array_equal(timeline.row[item], causes["cause_row"].iloc[rows])


def test_in_the_table_every_category_stands_once_in_each_row_and_column(mixed: Marketplace) -> None:
    for lines in (mixed.truth.world.table, mixed.truth.world.table.T):
        assert [sorted(line) for line in lines.tolist()] == [list(range(MIXED.categories))] * MIXED.categories


def test_what_is_switched_off_changes_nothing() -> None:
    plain = simulate(SMALL)
    same = simulate(SMALL.model_copy(update={"period": 3}))
    assert same.log.fingerprint() == plain.log.fingerprint()
    assert plain.truth.favorite is None
    rows = np.arange(30)
    scores = plain.truth.scores(plain.log, "item", rows, np.arange(40))
    dull = plain.truth.scores(plain.log, "item", rows, np.arange(40), use_pairs=False, days=7)
    np.testing.assert_allclose(dull, scores, rtol=1e-12)


def test_a_truth_read_from_disk_is_the_same(market: Marketplace, folder: Path) -> None:
    log = EventLog.read(folder)
    truth = Truth.read(folder, log)
    assert truth.config == EVERYTHING
    assert truth.best_auc == market.truth.best_auc
    for group in GROUPS:
        pd.testing.assert_frame_equal(truth.causes[group], market.truth.causes[group])
        rows, objects = np.arange(len(log.events[group])), np.arange(len(log.objects[group]))
        expected = market.truth.scores(market.log, group, rows, objects)
        np.testing.assert_array_equal(truth.scores(log, group, rows, objects), expected)


def test_a_truth_from_before_there_were_worlds_is_read(tmp_path: Path) -> None:
    old = simulate(SMALL)
    old.write(tmp_path / "log")
    names = {file.name for file in (tmp_path / "log" / "truth").iterdir()}
    assert names == {"truth.json", *(f"{g}.{table}.parquet" for g in GROUPS for table in ("objects", "causes"))}
    file = tmp_path / "log" / "truth" / "truth.json"
    content = json.loads(file.read_text())
    content["config"] = {
        k: v for k, v in content["config"].items() if k not in {"taste", "drift", "period", "conjunction"}
    }
    file.write_text(json.dumps(content))
    assert Truth.read(tmp_path / "log", EventLog.read(tmp_path / "log")).config == SMALL


def test_what_the_scorer_cannot_be_told_is_named(market: Marketplace, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="days is 0; give a number of days from 1, or None"):
        market.truth.auc(market.log, "item", days=0)
    events = {g: t.assign(user_id="x" + t["user_id"]) for g, t in market.log.events.items()}
    with pytest.raises(ValueError, match="xuser0 has no favorite; pass the log that the truth came with"):
        market.truth.auc(EventLog.from_tables(market.log.schema, events, market.log.objects), "item")


# --- what the worlds promise, told by their truth ------------------------------------------------------------------


def bounds(market: Marketplace, **sight) -> np.ndarray:
    return np.array([market.truth.auc(market.log, group, **sight) for group in GROUPS])


def best(market: Marketplace) -> np.ndarray:
    return np.array([market.truth.best_auc[group] for group in GROUPS])


def of(world: str, users: int = 800) -> Marketplace:
    return simulate(WORLDS[world].model_copy(update={"users": users, "seed": 2}))


def test_the_default_world_is_the_marketplace() -> None:
    assert WORLDS["marketplace"] == MarketplaceConfig()


@pytest.mark.parametrize("world", ["drift", "no-history"])
def test_popularity_of_the_last_days_is_above_that_of_all_time(world: str) -> None:
    market = of(world)
    now, lately, ever = (bounds(market, use_groups=(), days=days) for days in (None, 14, 64 * 28))
    assert (lately > ever + 0.02).all()
    assert (now > lately).all()
    if world == "no-history":
        np.testing.assert_allclose(best(market), now)


def test_a_lasting_taste_is_all_that_is_to_be_known() -> None:
    market = of("lasting-taste")
    np.testing.assert_allclose(bounds(market, use_groups=()), best(market))
    popular = simulate(market.truth.config.model_copy(update={"taste": 0.0}))
    assert (best(market) > best(popular) + 0.15).all()


def test_neither_behavior_of_a_pair_tells_what_both_tell() -> None:
    market = of("conjunction")
    apart, nothing = bounds(market, use_pairs=False), bounds(market, use_groups=())
    assert (best(market)[:2] > apart[:2] + 0.15).all()
    for known in (apart, bounds(market, use_groups=("item",)), bounds(market, use_groups=("query",))):
        np.testing.assert_allclose(known, nothing, atol=0.02)


def test_the_command_makes_a_world(tmp_path: Path) -> None:
    code, _, error = run("--world", "no-history", "--users", 60, "--out", tmp_path / "log")
    assert code == 0, error
    log = EventLog.read(tmp_path / "log")
    assert log.schema.name == "simulated no-history"
    config = Truth.read(tmp_path / "log", log).config
    assert config == WORLDS["no-history"].model_copy(update={"users": 60})
    shutil.rmtree(tmp_path / "log")
    code, _, error = run("--world", "heaven", "--out", tmp_path / "log")
    assert code == 1
    assert error.strip() == f"--world heaven: no such world; use one of {', '.join(WORLDS)}"
    assert not (tmp_path / "log").exists()
