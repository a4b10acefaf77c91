"""Looking inside a model: every number against a slow computation that shares no code with it."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from atrank_lib.layout import Layout
from atrank_lib.recipes import Recipe
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from atrank_lib import interpret
from atrank_lib.batches import Samples
from atrank_lib.cli import app
from atrank_lib.evaluation import fixed_candidates
from atrank_lib.grouping import GroupedHistories
from atrank_lib.log.events import EventLog
from atrank_lib.model import ATRank, ATRankConfig
from atrank_lib.runs import load_run, prepare, train_run
from atrank_lib.samples import build_batch, split
from data_scripts.marketplace import MarketplaceConfig
from data_scripts.simulate import Marketplace, simulate
from experiments.records import read_record
from tests.random_logs import random_log

GROUPS = ("item", "query", "coupon")
SMALL = {"embedding_size": 4, "hidden": 8, "spaces": 2}


@pytest.fixture(scope="module")
def log() -> EventLog:
    return random_log(4, users=7, behaviors=40, objects=30, times=30)


@pytest.fixture(scope="module")
def histories(log: EventLog) -> GroupedHistories:
    return GroupedHistories.from_log(log)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small") / "log"
    random_log(4, users=7, behaviors=60, objects=30, times=40).write(folder)
    return folder


@pytest.fixture(scope="module")
def market() -> Marketplace:
    return simulate(MarketplaceConfig(users=60, behaviors=14, items=40, queries=20, coupons=20, seed=3))


def a_model(histories: GroupedHistories, seed: int = 0, **options: Any) -> ATRank:
    torch.manual_seed(seed)
    model = ATRank(histories.schema, histories.vocabularies, ATRankConfig(**{**SMALL, **options}))
    for parameter in model.parameters():  # far from its start, where attention is nearly even
        parameter.data *= 1.7
    return model.eval()


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["reproduce", *map(str, arguments)])


def alone(samples: Samples, i: int) -> Samples:
    return samples[torch.tensor([i])]


def lead(model: ATRank, histories: GroupedHistories, sample: Samples, candidates: torch.Tensor) -> float:
    with torch.no_grad():
        scores = model(build_batch(histories, sample, candidates, model.histories)).scores[0].tolist()
    return scores[0] - (sum(scores[1:]) / len(scores[1:]) if len(scores) > 1 else 0.0)


@pytest.mark.parametrize("target", GROUPS)
def test_the_table_is_the_attention_of_one_sample_after_the_other(target, log, histories):
    samples = split(histories).test[target]
    model = a_model(histories)
    table = interpret.attention(model, histories, samples, batch_size=3)
    expected = []
    for i in range(len(samples)):
        one = alone(samples, i)
        user, moment = histories.user_ids[int(one.users[0])], int(one.times[0])
        seen = model.explain(build_batch(histories, one, one.objects[:, None]))
        weights = seen.target_attention[0, :, 0]  # [k, t]
        place = 0
        for number, group in enumerate(GROUPS):
            events = log.events[group]
            own = events[(events["user_id"] == user) & (events["timestamp"] <= moment)]
            own = own.sort_values("timestamp", kind="stable")
            if group == target:  # up to the target's own row
                row = int(histories.groups[group].rows[one.positions[0]])
                own = own.loc[: own.index[own.index.get_loc(row)]].iloc[:-1]
            else:
                own = own[own["timestamp"] < moment]
            for row, timestamp in own["timestamp"].items():
                assert int(seen.groups[0, place]) == number
                expected.append((i, group, row, moment - timestamp, *weights[:, place].tolist()))
                place += 1
    found = table[["sample", "group", "row", "elapsed", "space 1", "space 2"]]
    assert found.iloc[:, :4].astype({"group": str}).to_numpy().tolist() == [list(e[:4]) for e in expected]
    np.testing.assert_allclose(found.iloc[:, 4:].to_numpy(float), [e[4:] for e in expected], atol=1e-6)
    np.testing.assert_allclose(table["attention"], found[["space 1", "space 2"]].mean(axis=1), atol=1e-6)


@pytest.mark.parametrize(("target", "blocks", "negatives"), [("item", 1, 0), ("query", 2, 3), ("coupon", 0, 1)])
def test_erasure_is_the_score_on_a_log_without_the_behavior(target, blocks, negatives, log, histories, monkeypatch):
    samples = split(histories).test[target]
    model = a_model(histories, blocks=blocks)
    candidates = fixed_candidates(histories, {target: samples}, negatives)[target] if negatives else None
    monkeypatch.setattr(interpret, "ROWS", 30)  # several pieces
    found = interpret.erasure(model, histories, samples, candidates, batch_size=3)
    table = interpret.attention(model, histories, samples)
    assert len(found) == len(table)
    objects = samples.objects[:, None] if candidates is None else candidates
    for value, i, group, row in zip(found, table["sample"], table["group"], table["row"], strict=True):
        events = {**log.events, group: log.events[group].drop(index=row).reset_index(drop=True)}
        without = GroupedHistories.from_log(EventLog.from_tables(log.schema, events, log.objects))
        one = alone(samples, i)
        ends = one.ends.clone()
        for number, name in enumerate(GROUPS):  # cut where the same behaviors end in the shorter log
            before = int(log.events[group]["user_id"].iloc[row] <= histories.user_ids[int(one.users[0])])
            ends[0, number] -= before if name == group else 0
        shorter = replace(one, ends=ends)
        fall = lead(model, histories, one, objects[[i]]) - lead(model, without, shorter, objects[[i]])
        assert value == pytest.approx(fall, abs=2e-5)


@pytest.mark.parametrize(("target", "blocks", "negatives"), [("query", 1, 0), ("coupon", 2, 3), ("coupon", 0, 0)])
def test_gradient_times_input_is_a_finite_difference(target, blocks, negatives, histories):
    samples = split(histories).test[target]
    model = a_model(histories, blocks=blocks)
    candidates = fixed_candidates(histories, {target: samples}, negatives)[target] if negatives else None
    found = interpret.gradient(model, histories, samples, candidates, batch_size=3)
    exact, step, slopes = copy.deepcopy(model).double(), 1e-6, []
    objects = samples.objects[:, None] if candidates is None else candidates
    for i in range(len(samples)):
        batch = build_batch(histories, alone(samples, i), objects[[i]])
        layout = Layout(batch.slots, 1, batch.length)
        with torch.no_grad():
            s = model.project(batch).double()
            for j in batch.slots.argsort():
                ends = []
                for factor in (1 + step, 1 - step):
                    moved = s.clone()
                    moved[j] *= factor
                    scores = exact.score(exact.read(moved, layout), batch.candidates).scores[0]
                    ends.append(float(scores[0] - (scores[1:].mean() if negatives else 0)))
                slopes.append((ends[0] - ends[1]) / (2 * step))
    np.testing.assert_allclose(found, slopes, atol=2e-4)
    assert np.abs(found).max() > 1e-2


def test_a_model_comes_back_as_it_was(histories):
    samples = split(histories).test["item"]
    model = a_model(histories, dropout=0.5, embedding_dropout=0.5).train()
    tables = [interpret.attention(model, histories, samples) for _ in range(2)]
    pd.testing.assert_frame_equal(*tables)
    assert (interpret.erasure(model, histories, samples) == interpret.erasure(model, histories, samples)).all()
    assert (interpret.gradient(model, histories, samples) == interpret.gradient(model, histories, samples)).all()
    assert model.training


def random_table(seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    sample = np.sort(rng.integers(0, 30, 200))
    values = {name: rng.integers(0, 5, 200) / 4 for name in ("a", "b")}  # many ties
    return pd.DataFrame({"sample": sample, **values, "cause": rng.random(200) < 0.2})


@pytest.mark.parametrize("seed", range(5))
def test_detector_auc_is_the_auc_of_each_history(seed):
    table = random_table(seed)
    expected = {
        sample: roc_auc_score(own["cause"], own["a"])
        for sample, own in table.groupby("sample")
        if own["cause"].nunique() == 2
    }
    found = interpret.detector_auc(table, "a")
    assert found.to_dict() == pytest.approx(expected)
    summary = interpret.detectors(table, ["a", "b"])
    assert summary.loc["a", "AUC"] == pytest.approx(np.mean(list(expected.values())))
    assert summary.loc["a", "samples"] == len(expected)
    assert summary.loc["a", "low"] < summary.loc["a", "AUC"] < summary.loc["a", "high"]


@pytest.mark.filterwarnings("ignore:An input array is constant")
@pytest.mark.parametrize("seed", range(5))
def test_agreement_is_spearman_s_correlation_within_each_history(seed):
    table = random_table(seed)
    found = interpret.agreement(table, "a", "b")
    for sample, own in table.groupby("sample"):
        expected = spearmanr(own["a"], own["b"]).statistic if len(own) > 1 else float("nan")
        assert found[sample] == pytest.approx(expected, nan_ok=True)


def test_what_is_shared_is_equal_and_known(log, histories):
    samples = split(histories).test["item"]
    table = interpret.attention(a_model(histories), histories, samples)
    found = interpret.shares(table, histories, samples, ["shop_id", "tokens"])
    expected = []
    for i, group, row in zip(table["sample"], table["group"], table["row"], strict=True):
        target = log.objects["item"]["shop_id"].iloc[int(samples.objects[i])]
        objects = log.objects[group].set_index("object_id")
        mine = objects["shop_id"][log.events[group]["object_id"].iloc[row]] if "shop_id" in objects else None
        expected.append(isinstance(mine, str) and mine == target)
    assert found.tolist() == expected
    assert 0 < found.sum() < len(found)


@pytest.mark.parametrize("target", GROUPS)
def test_the_truth_stands_beside_each_behavior(target, market):
    histories, parts = prepare(market.log, "validated", [target])
    samples = parts.test[target]
    known = interpret.caused(market.truth, histories, samples)
    table = interpret.attention(a_model(histories), histories, samples)
    table = interpret.planted(table, market.truth, market.log, histories, samples)
    rows = histories.groups[target].rows[samples.positions].numpy()
    causes = market.truth.causes[target].iloc[rows].reset_index(drop=True)
    assert known.tolist() == (causes["cause_group"] != "").tolist()
    found = table[table["cause"]].set_index("sample")
    assert sorted(found.index) == np.flatnonzero(known).tolist()  # one cause each
    for sample, row in found.iterrows():
        assert (row["group"], row["row"]) == tuple(causes.loc[sample, ["cause_group", "cause_row"]])
    posterior = market.truth.posterior(market.log, target, rows)
    for i, own in table.groupby("sample"):
        part = slice(posterior.offsets[i] + 1, posterior.offsets[i + 1])  # the first one is the background
        names = [GROUPS[g] for g in posterior.group[part]]
        expected = dict(zip(zip(names, posterior.row[part], strict=True), posterior.probability[part], strict=True))
        assert dict(zip(zip(own["group"], own["row"], strict=True), own["posterior"], strict=True)) == expected


def test_detectors_are_judged_and_recorded(market, tmp_path):
    market.write(tmp_path / "log")
    train_run(market.log, tmp_path / "run", options=SMALL, targets=["item"], recipe=Recipe(epochs=1), progress=False)
    result = run("detectors", "--data", tmp_path / "log", "--run", tmp_path / "run", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    record = read_record(tmp_path / "interpret" / "simulated_marketplace" / "run.json")
    rows = {row["detector"]: row for row in record["targets"]["item"]["rows"]}
    assert record["best_auc"] == market.truth.best_auc
    assert record["data_fingerprint"] == market.log.fingerprint()

    trained = load_run(tmp_path / "run")
    histories = trained.histories_of(market.log)
    parts = split(histories, "validated", ["item"])
    means = {}
    for name, part in (("validation", parts.validation["item"]), ("test", parts.test["item"])):
        samples = part[interpret.caused(market.truth, histories, part)]
        candidates = fixed_candidates(histories, {"item": samples}, 8)["item"]
        table = interpret.suspects(trained.model, histories, samples, market.truth, market.log, candidates)
        means[name] = {
            column: np.mean([roc_auc_score(own["cause"], own[column]) for _, own in table.groupby("sample")])
            for column in table.columns[5:].drop(["cause"])
        }
        control = ATRank(market.log.schema, histories.vocabularies, trained.model.config)
    chosen = max(("space 1", "space 2"), key=lambda space: means["validation"][space])
    assert record["targets"]["item"]["best_space"] == chosen
    assert rows["best space"]["AUC"] == pytest.approx(means["test"][chosen])
    for name in ("erasure", "gradient", "recent", "posterior", "same shop_id", "any feature"):
        assert rows[name]["AUC"] == pytest.approx(means["test"][name])
    assert rows["posterior"]["AUC"] > max(row["AUC"] for name, row in rows.items() if name != "posterior")

    again = interpret.judge(
        trained.model, control, histories, parts, "item", market.truth, market.log, samples=5, negatives=2
    )[0]
    assert (again["samples"] == 5).all()


def test_a_log_without_truth_says_so(data, tmp_path):
    train_run(EventLog.read(data), tmp_path / "run", options=SMALL, recipe=Recipe(epochs=1), progress=False)
    result = run("detectors", "--data", data, "--run", tmp_path / "run", "--out", tmp_path)
    assert result.exit_code == 1
    assert "only simulated logs have a truth" in result.stderr
    assert not (tmp_path / "interpret").exists()


def test_without_validation_no_space_can_be_chosen(market):
    histories, parts = prepare(market.log, "paper", ["item"])
    model = a_model(histories)
    with pytest.raises(ValueError, match="no validation target of group 'item' has a cause"):
        interpret.judge(model, model, histories, parts, "item", market.truth, market.log)


def test_table_4_is_the_mean_attention_of_each_bucket(data, tmp_path):
    log = EventLog.read(data)
    recipe = Recipe(epochs=1, batch_size=16)
    train_run(log, tmp_path / "run", options={"embedding_size": 4, "hidden": 8, "spaces": 2}, recipe=recipe)
    result = run("table4", "--data", data, "--run", tmp_path / "run", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    rows = read_record(tmp_path / "table4" / "random" / "item.json")["rows"]

    trained = load_run(tmp_path / "run")
    histories = trained.histories_of(log)
    samples = split(histories, "validated").test["item"]
    unit = 1  # items count time in seconds
    found: dict[int, list[float]] = {}
    even: dict[int, list[float]] = {}
    for i in range(len(samples)):
        one = samples[torch.tensor([i])]
        batch = build_batch(histories, one, one.objects[:, None], trained.model.histories)
        seen = trained.model.explain(batch)
        for place in range(seen.groups.shape[1]):
            if int(seen.groups[0, place]) == 0:
                moment = int(histories.groups["item"].timestamps[int(seen.positions[0, place])])
                elapsed = (int(one.times[0]) - moment) / unit
                bucket = sum(elapsed >= edge for edge in (1, 2, 4, 8))
                found.setdefault(bucket, []).append(float(seen.target_attention[0, :, 0, place].mean()))
                even.setdefault(bucket, []).append(1 / seen.groups.shape[1])
    assert {row["bucket"]: row["behaviors"] for row in rows} == {b: len(w) for b, w in found.items()}
    for row in rows:
        assert row["attention"] == pytest.approx(np.mean(found[row["bucket"]]), rel=1e-5)
        assert row["even"] == pytest.approx(np.mean(even[row["bucket"]]))
        assert row["low"] <= row["attention"] <= row["high"]


@pytest.mark.parametrize("table", ["table4", "detectors"])
def test_only_atrank_has_attention_to_read(table, data, tmp_path):
    train_run(EventLog.read(data), tmp_path / "run", model="bpr-mf", recipe=Recipe(epochs=1), progress=False)
    result = run(table, "--data", data, "--run", tmp_path / "run", "--out", tmp_path)
    assert result.exit_code == 1
    assert "attention is read from 'atrank'" in result.stderr
