"""Whom attention and its rivals suspect: every number against a slow computation that shares no code with it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from atrank_lib import interpret
from atrank_lib.evaluation import fixed_candidates
from atrank_lib.samples import prepare, split
from data_scripts.marketplace import MarketplaceConfig
from data_scripts.simulate import Marketplace, simulate
from experiments import causes
from tests.attending import GROUPS, HISTORIES, LOG, a_model


@pytest.fixture(scope="module")
def market() -> Marketplace:
    return simulate(MarketplaceConfig(users=60, behaviors=14, items=40, queries=20, coupons=20, seed=3))


def random_table(seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    sample = np.sort(rng.integers(0, 30, 200))
    values = {name: rng.integers(0, 5, 200) / 4 for name in ("a", "b")}  # many ties
    return pd.DataFrame({"sample": sample, **values, "cause": rng.random(200) < 0.2})


@pytest.mark.parametrize("seed", range(5))
def test_detector_auc_is_the_auc_of_each_history(seed: int) -> None:
    table = random_table(seed)
    expected = {
        sample: roc_auc_score(own["cause"], own["a"])
        for sample, own in table.groupby("sample")
        if own["cause"].nunique() == 2
    }
    found = causes.detector_auc(table, "a")
    assert found.to_dict() == pytest.approx(expected)
    summary = causes.detectors(table, ["a", "b"])
    assert summary.loc["a", "AUC"] == pytest.approx(np.mean(list(expected.values())))
    assert summary.loc["a", "samples"] == len(expected)
    assert summary.loc["a", "low"] < summary.loc["a", "AUC"] < summary.loc["a", "high"]


@pytest.mark.filterwarnings("ignore:An input array is constant")
@pytest.mark.parametrize("seed", range(5))
def test_agreement_is_spearman_s_correlation_within_each_history(seed: int) -> None:
    table = random_table(seed)
    found = causes.agreement(table, "a", "b")
    for sample, own in table.groupby("sample"):
        expected = spearmanr(own["a"], own["b"]).statistic if len(own) > 1 else float("nan")
        assert found[sample] == pytest.approx(expected, nan_ok=True)


def test_what_is_shared_is_equal_and_known() -> None:
    samples = split(HISTORIES).test["item"]
    table = interpret.attention(a_model(), HISTORIES, samples)
    found = causes.shares(table, HISTORIES, samples, ["shop_id", "tokens"])
    expected = []
    for i, group, row in zip(table["sample"], table["group"], table["row"], strict=True):
        target = LOG.objects["item"]["shop_id"].iloc[int(samples.objects[i])]
        objects = LOG.objects[group].set_index("object_id")
        mine = objects["shop_id"][LOG.events[group]["object_id"].iloc[row]] if "shop_id" in objects else None
        expected.append(isinstance(mine, str) and mine == target)
    assert found.tolist() == expected
    assert 0 < found.sum() < len(found)


@pytest.mark.parametrize("target", GROUPS)
def test_rules_agree_with_loops_over_what_the_log_shows(target: str, market: Marketplace) -> None:
    log, (histories, parts) = market.log, prepare(market.log, "validated", [target])
    table = interpret.attention(a_model(histories), histories, parts.test[target])
    found = causes.rules(table, histories, parts.test[target])
    objects = {g: o.set_index("object_id").drop(columns="price", errors="ignore") for g, o in log.objects.items()}

    def shown(group: str, name: str) -> tuple[set[str], set[str]]:
        values = objects[group].loc[name].tolist()
        return {v for v in values if isinstance(v, str)}, {w for v in values if not isinstance(v, str) for w in v}

    def named(words: set[str], values: set[str]) -> int:
        return sum(any(w in (v, v + "a", v + "b", v + "c") for w in words) for v in values)

    shared = []
    for i, group, row in zip(table["sample"], table["group"], table["row"], strict=True):
        at = int(parts.test[target].objects[i])
        v, w = shown(group, log.events[group]["object_id"].iloc[row])
        x, y = shown(target, log.objects[target]["object_id"].iloc[at])
        shared.append(len(v & x) + len(w & y) + named(w, x) + named(y, v))
    assert causes.names_shared(table, histories, parts.test[target]).tolist() == shared
    assert 0 in shared
    assert max(shared) > 1
    days = [elapsed / 86_400 for elapsed in table["elapsed"]]
    weighted = [count / (1 + age) for count, age in zip(shared, days, strict=True)]
    np.testing.assert_allclose(found["any name, weighted"], weighted)
    for rule, matches in (
        ("any name, recent", [count > 0 for count in shared]),
        ("any feature, recent", found.get("any feature")),
    ):
        if matches is None:
            assert rule not in found
            continue
        order = pd.Series(list(zip(matches, -found["elapsed"], strict=True))).rank(method="dense")
        assert (found[rule].rank(method="dense") == order).all()


@pytest.mark.parametrize("target", GROUPS)
def test_the_truth_stands_beside_each_behavior(target: str, market: Marketplace) -> None:
    histories, parts = prepare(market.log, "validated", [target])
    samples = parts.test[target]
    known = causes.caused(market.truth, histories, samples)
    table = interpret.attention(a_model(histories), histories, samples)
    table = causes.planted(table, market.truth, market.log, histories, samples)
    rows = histories.groups[target].rows[samples.positions].numpy()
    true = market.truth.causes[target].iloc[rows].reset_index(drop=True)
    assert known.tolist() == (true["cause_group"] != "").tolist()
    found = table[table["cause"]].set_index("sample")
    assert sorted(found.index) == np.flatnonzero(known).tolist()  # one cause each
    for sample, row in found.iterrows():
        assert (row["group"], row["row"]) == tuple(true.loc[sample, ["cause_group", "cause_row"]])
    posterior = market.truth.posterior(market.log, target, rows)
    for i, own in table.groupby("sample"):
        part = slice(posterior.offsets[i] + 1, posterior.offsets[i + 1])  # the first one is the background
        names = [GROUPS[g] for g in posterior.group[part]]
        expected = dict(zip(zip(names, posterior.row[part], strict=True), posterior.probability[part], strict=True))
        assert dict(zip(zip(own["group"], own["row"], strict=True), own["posterior"], strict=True)) == expected


def test_detectors_are_judged(market: Marketplace) -> None:
    histories, parts = prepare(market.log, "validated", ["item"])
    model, control = a_model(histories), a_model(histories, seed=1)
    found, more = causes.judge(model, control, histories, parts, "item", market.truth, market.log)
    means, tables = {}, {}
    for name, part in (("validation", parts.validation["item"]), ("test", parts.test["item"])):
        samples = part[causes.caused(market.truth, histories, part)]
        candidates = fixed_candidates(histories, {"item": samples}, 8)["item"]
        table = tables[name] = causes.suspects(model, histories, samples, market.truth, market.log, candidates)
        means[name] = {
            column: np.mean([roc_auc_score(own["cause"], own[column]) for _, own in table.groupby("sample")])
            for column in table.columns[4:].drop(["cause"])
        }
    untrained = interpret.attention(control, histories, samples)["attention"]
    judged = tables["test"].assign(untrained=untrained).groupby("sample")
    means["test"]["untrained"] = np.mean([roc_auc_score(own["cause"], own["untrained"]) for _, own in judged])
    chosen = max(("space 1", "space 2"), key=lambda space: means["validation"][space])
    assert more["best_space"] == chosen
    assert found["AUC"]["best space"] == pytest.approx(means["test"][chosen])
    for name in ("untrained", "attention", "erasure", "gradient", "recent", "posterior", "same shop_id", "any feature"):
        assert found["AUC"][name] == pytest.approx(means["test"][name])
    for name in ("any feature, recent", "any name, recent", "any name, weighted", "integrated gradients"):
        assert found["AUC"][name] == pytest.approx(means["test"][name])
    assert found["AUC"].idxmax() == "posterior"
    assert 0 < more["without_cause"] < 1
    assert more["without_cause"] == pytest.approx(1 - len(samples) / len(parts.test["item"]))
    ranks = [spearmanr(own["attention"], own["erasure"]).statistic for _, own in judged if len(own) > 1]
    assert more["agreement"]["erasure"] == pytest.approx(np.nanmean(ranks))

    few, _ = causes.judge(model, control, histories, parts, "item", market.truth, market.log, samples=5, negatives=2)
    assert (few["samples"] == 5).all()


def test_without_validation_no_space_can_be_chosen(market: Marketplace) -> None:
    histories, parts = prepare(market.log, "paper", ["item"])
    model = a_model(histories)
    with pytest.raises(ValueError, match="no validation target of group 'item' has a cause"):
        causes.judge(model, model, histories, parts, "item", market.truth, market.log)
