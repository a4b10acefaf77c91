"""The closed form of the planted truth against loops over the definition."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from atrank_lib.log.events import EventLog
from data_scripts.marketplace import GROUPS, LINKS, MarketplaceConfig
from data_scripts.simulate import Marketplace, simulate
from data_scripts.truth import Truth

SMALL = MarketplaceConfig(
    users=40,
    seed=3,
    behaviors=20,
    items=40,
    queries=25,
    coupons=15,
    categories=5,
    brands=6,
    shops=5,
    coupon_types=3,
)


@pytest.fixture(scope="module")
def market() -> Marketplace:
    return simulate(SMALL)


@pytest.fixture(scope="module")
def folder(market: Marketplace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("truth") / "log"
    market.write(folder)
    return folder


@dataclass
class Loops:
    """The generating process, loop by loop, from what lies on disk."""

    config: MarketplaceConfig
    log: EventLog
    hidden: dict[str, list[dict[Any, Any]]]  # per group, per object: link values (-1 = none) and popularity

    @classmethod
    def over(cls, folder: Path) -> "Loops":
        log = EventLog.read(folder)
        hidden = {g: pd.read_parquet(folder / "truth" / f"{g}.objects.parquet").to_dict("records") for g in GROUPS}
        return cls(SMALL, log, hidden)

    def numbers(self, group: str) -> dict[str, int]:
        return {name: k for k, name in enumerate(self.log.objects[group]["object_id"])}

    def history(self, group: str, row: int) -> list[tuple[str, int, int, str, int]]:
        """(group, row, timestamp, action, object number) of everything strictly before, oldest first."""
        event = self.log.events[group].iloc[row]
        past = []
        for g in GROUPS:
            numbers = self.numbers(g)
            table = self.log.events[g]
            for r in np.flatnonzero((table["user_id"] == event["user_id"]) & (table["timestamp"] < event["timestamp"])):
                e = table.iloc[r]
                past.append((g, int(r), int(e["timestamp"]), e["action"], numbers[e["object_id"]]))
        return sorted(past, key=lambda behavior: behavior[2])

    def through(self, cause: dict[str, float], pair: dict[str, float], group: str) -> dict[str, list[float]]:
        """Per possible link feature: P(object | cause) times P(feature)."""
        able = {}
        for feature, chance in pair.items():
            same = [o["popularity"] if o[feature] == cause[feature] != -1 else 0.0 for o in self.hidden[group]]
            if sum(same) > 0:
                able[feature] = (chance, [s / sum(same) for s in same])
        total = sum(chance for chance, _ in able.values())
        return {f: [chance / total * s for s in share] for f, (chance, share) in able.items()} if total else {}

    def joint(
        self, group: str, row: int, use_groups=GROUPS, use_quench=True, decay=None
    ) -> list[tuple[str, int, np.ndarray]]:
        """[(cause group, cause row, P(cause and object) for all objects)], the background first."""
        config, now = self.config, int(self.log.events[group]["timestamp"].iloc[row])
        past = [behavior for behavior in self.history(group, row) if behavior[0] in use_groups]
        popularity = np.array([o["popularity"] for o in self.hidden[group]])
        parts = [("", -1, config.background * popularity)]
        total = config.background
        for j, (g, r, time, action, k) in enumerate(past):
            cause = self.hidden[g][k]
            routes = self.through(cause, config.links.get(g, {}).get(group, {}), group)
            weight = config.influence.get(g, {}).get(group, 0.0) * config.action_weight[action]
            weight *= 1 if g == group else config.cross_influence
            weight *= 0.5 ** ((now - time) / 86400 / config.half_lives[g]) if decay is None else decay[g]
            for later in past[j + 1 :]:
                bought = later[0] == "item" and later[3] == "buy"
                if use_quench and bought and self.hidden["item"][later[4]]["category"] == cause["category"]:
                    weight *= config.quench
            total += weight if routes else 0.0
            parts.append((g, r, weight * sum(map(np.array, routes.values()), np.zeros(len(popularity)))))
        return [(g, r, p / total) for g, r, p in parts]


@pytest.fixture(scope="module")
def loops(folder: Path) -> Loops:
    return Loops.over(folder)


def sample(log: EventLog, group: str, count: int) -> np.ndarray:
    return np.random.default_rng(1).choice(len(log.events[group]), count, replace=False)


@pytest.mark.parametrize("group", GROUPS)
def test_scores_are_the_definition(market: Marketplace, loops: Loops, group: str) -> None:
    rows = sample(market.log, group, 15)
    scores = market.truth.scores(market.log, group, rows, np.arange(len(market.log.objects[group])))
    for i, row in enumerate(rows):
        np.testing.assert_allclose(scores[i], sum(p for _, _, p in loops.joint(group, row)), rtol=1e-10)


@pytest.mark.parametrize("group", GROUPS)
def test_scores_of_a_blinded_scorer_are_the_definition(market: Marketplace, loops: Loops, group: str) -> None:
    rows, everything = sample(market.log, group, 6), np.arange(len(market.log.objects[group]))
    for use_groups in [(), (group,), ("item", "coupon"), ("query",)]:
        scores = market.truth.scores(
            market.log, group, rows, everything, use_groups=use_groups, use_time=False, use_quench=False
        )
        for i, row in enumerate(rows):
            joint = loops.joint(group, row, use_groups, use_quench=False, decay=market.truth.mean_decay)
            np.testing.assert_allclose(scores[i], sum(p for _, _, p in joint), rtol=1e-10)


def test_scores_without_history_are_the_popularity(market: Marketplace, loops: Loops) -> None:
    scores = market.truth.scores(market.log, "item", np.array([0, 7]), np.arange(40), use_groups=[])
    np.testing.assert_allclose(scores, [[o["popularity"] for o in loops.hidden["item"]]] * 2)


@pytest.mark.parametrize("group", GROUPS)
def test_probabilities_sum_to_one(market: Marketplace, group: str) -> None:
    rows = np.arange(len(market.log.events[group]))
    everything = np.arange(len(market.log.objects[group]))
    np.testing.assert_allclose(market.truth.scores(market.log, group, rows, everything).sum(1), 1, rtol=1e-12)


def test_candidates_of_each_event_are_its_own(market: Marketplace) -> None:
    rows = np.array([5, 2, 9])
    candidates = np.array([[3, 1], [0, 39], [7, 7]])
    every = market.truth.scores(market.log, "item", rows, np.arange(40))
    picked = market.truth.scores(market.log, "item", rows, candidates)
    np.testing.assert_array_equal(picked, np.take_along_axis(every, candidates, axis=1))


def test_candidates_must_fit_the_rows(market: Marketplace) -> None:
    with pytest.raises(ValueError, match=r"candidates has shape \(2, 5\) for 3 rows"):
        market.truth.scores(market.log, "item", np.arange(3), np.zeros((2, 5), dtype=int))


def test_small_chunks_give_the_same_scores(market: Marketplace, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = sample(market.log, "query", 50)
    whole = market.truth.scores(market.log, "query", rows, np.arange(25))
    monkeypatch.setattr("data_scripts.truth.CHUNK", 100)
    np.testing.assert_array_equal(market.truth.scores(market.log, "query", rows, np.arange(25)), whole)


@pytest.mark.parametrize("group", GROUPS)
def test_posterior_is_the_definition(market: Marketplace, loops: Loops, group: str) -> None:
    rows, numbers = sample(market.log, group, 15), loops.numbers(group)
    posterior = market.truth.posterior(market.log, group, rows)
    assert posterior.offsets[-1] == len(posterior.probability)
    for i, row in enumerate(rows):
        part = slice(posterior.offsets[i], posterior.offsets[i + 1])
        chosen = numbers[market.log.events[group]["object_id"].iloc[row]]
        joint = loops.joint(group, row)
        names = ["" if code < 0 else GROUPS[code] for code in posterior.group[part]]
        assert list(zip(names, posterior.row[part], strict=True)) == [(g, r) for g, r, _ in joint]
        expected = np.array([p[chosen] for _, _, p in joint])
        np.testing.assert_allclose(posterior.probability[part], expected / expected.sum(), rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("group", GROUPS)
def test_best_auc_is_the_mean_over_users_and_all_their_negatives(market: Marketplace, loops: Loops, group: str) -> None:
    numbers, table = loops.numbers(group), market.log.events[group]
    values = []
    for _, events in table.groupby("user_id"):
        score = np.sum([p for _, _, p in loops.joint(group, int(events.index[-1]))], axis=0)
        touched = [numbers[o] for o in events["object_id"]]
        if touched[-1] in touched[:-1]:
            values.append(1.0)
            continue
        negatives = [o for o in range(len(numbers)) if o not in touched]
        values.append(roc_auc_score([1] + [0] * len(negatives), score[[touched[-1], *negatives]]))
    assert market.truth.best_auc[group] == pytest.approx(np.mean(values), abs=1e-12)
    assert market.truth.best_auc_users == SMALL.users
    assert market.truth.auc(market.log, group) == market.truth.best_auc[group]


def test_no_blinded_scorer_beats_the_best() -> None:
    market = simulate(MarketplaceConfig(users=1500, seed=5))
    for group, best in market.truth.best_auc.items():
        popular = market.truth.auc(market.log, group, use_groups=())
        alone = market.truth.auc(market.log, group, use_groups=(group,))
        timeless = market.truth.auc(market.log, group, use_time=False)
        assert 0.87 < best < 0.92
        assert 0.6 < popular < 0.72
        assert popular < alone < best - 0.025
        assert timeless < best - 0.015
        assert market.truth.auc(market.log, group, use_quench=False) < best


def test_a_truth_read_from_disk_is_the_same(market: Marketplace, folder: Path) -> None:
    log = EventLog.read(folder)
    truth = Truth.read(folder, log)
    assert truth.config == market.truth.config
    assert truth.best_auc == market.truth.best_auc
    assert truth.mean_decay == market.truth.mean_decay
    for group in GROUPS:
        pd.testing.assert_frame_equal(truth.causes[group], market.truth.causes[group])
        rows = np.arange(len(log.events[group]))
        objects = np.arange(len(log.objects[group]))
        expected = market.truth.scores(market.log, group, rows, objects)
        np.testing.assert_array_equal(truth.scores(log, group, rows, objects), expected)


def test_a_truth_of_another_log_is_refused(market: Marketplace, folder: Path, tmp_path: Path) -> None:
    other = simulate(SMALL.model_copy(update={"seed": 4})).log
    with pytest.raises(ValueError, match="read both from one folder"):
        Truth.read(folder, other)
    later = {g: t.assign(timestamp=t["timestamp"] * 2) for g, t in market.log.events.items()}
    with pytest.raises(ValueError, match=r"truth/item\.causes\.parquet does not belong"):
        Truth.read(folder, EventLog.from_tables(market.log.schema, later, market.log.objects))
    with pytest.raises(FileNotFoundError, match="only simulated logs have a truth"):
        Truth.read(tmp_path, market.log)
    fewer = simulate(SMALL.model_copy(update={"items": 39})).log
    with pytest.raises(ValueError, match="pass the log it came with"):
        market.truth.auc(fewer, "item")


def test_an_unknown_group_is_named(market: Marketplace) -> None:
    with pytest.raises(ValueError, match="'shop' is no group of the marketplace; its groups are item, query"):
        market.truth.auc(market.log, "item", use_groups=["shop"])


def test_hidden_values_agree_with_what_the_log_shows(market: Marketplace) -> None:
    world, objects = market.truth.world, market.log.objects
    shown = {("item", "category"): "category_id", ("item", "brand"): "brand_id", ("item", "shop"): "shop_id"}
    shown |= {("coupon", "shop"): "shop_id", ("coupon", "coupon_type"): "coupon_type"}
    for (group, feature), column in shown.items():
        g = GROUPS.index(group)
        value = world.value[LINKS.index(feature), world.first[g] : world.first[g + 1]]
        prefix = {"coupon_type": "type"}.get(feature, feature)
        assert objects[group][column].tolist() == [f"{prefix}{v}" for v in value]
    category, brand = world.value[:2, world.first[1] : world.first[2]]
    for tokens, c, b in zip(objects["query"]["tokens"], category, brand, strict=True):
        assert any(token[:-1] == f"category{c}" for token in tokens)
        assert [t for t in tokens if t.startswith("brand")] == ([f"brand{b}"] if b >= 0 else [])
    assert objects["query"]["tokens"].map(lambda words: tuple(sorted(words))).is_unique
