"""Cells are run once, and what they record agrees with what the repository recorded."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from atrank_lib import ATRank, EventLog, Recipe
from atrank_lib.evaluation import fixed_candidates, score_candidates
from atrank_lib.interpret import attention
from atrank_lib.runs import load_run, train_run
from atrank_lib.samples import prepare, split
from data_scripts.marketplace import WORLDS, MarketplaceConfig
from data_scripts.simulate import simulate
from experiments.causes import caused, planted
from experiments.cells import is_finished, pooled_auc, run_all, run_cell
from experiments.models import build
from experiments.plans import plan
from experiments.records import ExperimentError, read_record, unpack
from experiments.tasks import TaskRecipe
from tests.random_logs import lists
from tools.project import ROOT

RESULTS = ROOT / "results"


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log of the recorded fast cells: `python -m data_scripts.simulate --users 300 --seed 0`."""
    folder = tmp_path_factory.mktemp("market") / "log"
    simulate(MarketplaceConfig(users=300, seed=0)).write(folder)
    return folder


@pytest.mark.parametrize("floor", ["popularity", "last-category"])
def test_a_floor_is_what_the_record_says(floor, market, tmp_path):
    """Nothing is trained: counts and drawn negatives are the same everywhere."""
    log = EventLog.read(market)
    (cell,) = plan("table3", log, tmp_path, [floor], profile="fast")
    run_cell(market, cell, tmp_path / "runs")
    assert is_finished(cell, log.fingerprint())
    theirs = read_record(RESULTS / "table3/simulated_marketplace-fast" / cell.files[""].name)
    ours = read_record(cell.files[""])
    here = ("commit", "versions", "hardware")
    came_later = {"best_auc": json.loads((market / "truth/truth.json").read_text())["best_auc"]}
    assert {n: v for n, v in ours.items() if n not in here} == came_later | {
        n: v for n, v in theirs.items() if n not in here
    }


def test_a_floor_of_a_mode_has_the_users_and_negatives_of_all_groups(market, tmp_path):
    log = EventLog.read(market)
    cells = plan("table5", log, tmp_path, ["last-category"], profile="fast")
    for cell in cells:
        run_cell(market, cell, tmp_path / "runs")
        assert is_finished(cell, log.fingerprint())
    together = read_record(RESULTS / "table3/simulated_marketplace-fast/last-category-seed0.json")["targets"]
    apart = [read_record(file) for cell in cells for file in cell.files.values()]
    assert {record["target"]: record["average_user_auc"] for record in apart} == pytest.approx(together)
    assert {(record["row"], record["mode"]) for record in apart} == {("last-category", f"{g}2{g}") for g in together}


def test_a_trained_cell_is_near_what_the_record_says(market, tmp_path):
    """One training, all three targets: the mean of their AUCs spreads by 0.014 over seeds."""
    log = EventLog.read(market)
    (cell,) = plan("table5", log, tmp_path, ["all2all"], seeds=1, profile="fast")
    run_cell(market, cell, tmp_path / "runs")
    assert is_finished(cell, log.fingerprint())
    folder, truth = RESULTS / "table5/simulated_marketplace-fast", json.loads((market / "truth/truth.json").read_text())
    means = []
    for target, file in cell.files.items():
        ours, theirs = read_record(file), read_record(folder / file.name)
        for name in ("data_fingerprint", "target", "row", "mode", "users", "never_target"):
            assert ours[name] == theirs[name]
        assert ours["recipe"] == TaskRecipe.model_validate(theirs["recipe"]).model_dump(mode="json")
        assert ours["best_auc"] == truth["best_auc"][target] == pytest.approx(theirs["best_auc"])
        assert ours["targets"] == {target: ours["average_user_auc"]}
        assert ours["average_user_auc"] == unpack(ours["per_user"]).mean()
        assert [e["samples"] for e in ours["epochs"]] == [e["samples"] for e in theirs["epochs"]]
        means.append((ours["average_user_auc"], theirs["average_user_auc"]))
    ours, theirs = np.mean(means, axis=0)
    whole = read_record(RESULTS / "table3/simulated_marketplace-fast" / "atrank-seed0.json")  # the same, as one record
    assert ours == pytest.approx(theirs, abs=0.05)
    assert theirs == pytest.approx(whole["average_user_auc"], abs=0.05)


def test_a_record_is_the_evaluation_of_its_run(data, log, tmp_path):
    (cell,) = plan("table3", log, tmp_path, ["bpr-mf"], seeds=1, profile="fast")
    run_cell(data, cell, tmp_path / "runs")
    found = load_run(tmp_path / "runs" / "table3" / "random-fast" / "bpr-mf-seed0").evaluate(log)
    record = read_record(cell.files[""])
    assert unpack(record["per_user"]).tolist() == found.per_user.tolist()
    assert record["targets"] == found.targets
    assert (record["profile"], record["chosen_by"]) == ("fast", "modern recipe, no search")


def test_a_cell_of_a_third_of_the_users_says_so(market, tmp_path):
    log = EventLog.read(market)
    (cell,) = plan("factorial", log, tmp_path, ["raw-sum-network-alone"], seeds=1, profile="fast")
    run_cell(market, cell, tmp_path / "runs")
    assert is_finished(cell, log.fingerprint())
    record = read_record(cell.files[""])
    whole = read_record(RESULTS / "table3/simulated_marketplace-fast" / "atrank-seed0.json")
    assert record["variation"] == "third"
    assert record["users"] == pytest.approx(whole["users"] / 3, rel=0.02)
    assert record["options"]["weighting"] == "sum"


def test_attention_is_judged_by_the_causes_of_a_world(tmp_path):
    world = simulate(WORLDS["drift"].model_copy(update={"users": 50, "items": 60, "queries": 30, "coupons": 30}))
    world.write(tmp_path / "log")
    (cell,) = plan("worlds", world.log, tmp_path, ["atrank-raw"], seeds=1)
    cell = replace(
        cell,
        options={**cell.options, "embedding_size": 8, "hidden": 16, "spaces": 2},
        recipe=cell.recipe.model_copy(update={"epochs": 1}),
    )
    run_cell(tmp_path / "log", cell, tmp_path / "runs")
    found = read_record(cell.files[""])["causes"]
    assert list(found) == ["item", "query", "coupon"]
    trained = load_run(tmp_path / "runs" / "worlds" / cell.folder.name / cell.label)
    assert isinstance(trained.model, ATRank)
    histories = trained.histories_of(world.log)
    test = split(histories, "validated").test["query"]
    test = test[caused(world.truth, histories, test)]
    table = planted(attention(trained.model, histories, test), world.truth, world.log, histories, test)
    by_hand = [
        roc_auc_score(t["cause"], t["attention"]) for _, t in table.groupby("sample") if 0 < t["cause"].mean() < 1
    ]
    rows = {row["detector"]: row["AUC"] for row in found["query"]["rows"]}
    assert rows["attention"] == pytest.approx(np.mean(by_hand))
    assert unpack(found["query"]["per_sample"]["attention"]) == pytest.approx(by_hand)


def test_with_equal_steps_a_mode_takes_no_more_than_one_group_alone_took(market, tmp_path):
    log = EventLog.read(market)
    alone, _, _ = plan("modes", log, tmp_path, ["din-one2one"], seeds=1, profile="fast")
    cells = plan("modes-steps", log, tmp_path, ["din-all2all"], seeds=1, profile="fast")
    cell = next(cell for cell in cells if list(cell.files) == list(alone.files))
    with pytest.raises(ExperimentError, match=r"din-one2one-item-seed0\.json cannot be read"):
        run_cell(market, cell, tmp_path / "runs")
    run_cell(market, alone, tmp_path / "runs")
    run_cell(market, cell, tmp_path / "runs")
    base, record = (read_record(one.files["item"]) for one in (alone, cell))
    most = sum(epoch["steps"] for epoch in base["epochs"][: base["best_epoch"]])
    assert sum(epoch["steps"] for epoch in record["epochs"]) == record["max_steps"] == most > 0
    assert (record["mode"], record["target"]) == ("all2all", "item")
    assert is_finished(cell, log.fingerprint())


def test_pooled_auc_is_that_of_all_users_together(market, tmp_path):
    log = EventLog.read(market)
    histories, parts = prepare(log, "validated")
    model = build("din", histories, {"embedding_size": 8, "hidden": 16}).eval()
    samples = parts.test["coupon"]
    scores = score_candidates(model, histories, parts.test, fixed_candidates(histories, parts.test))["coupon"]
    labels = np.repeat([[1, 0]], len(samples), axis=0)
    expected = roc_auc_score(labels.ravel(), scores.numpy().ravel())
    assert pooled_auc(model, histories, samples) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["popular-lately", "bpr-mf"])
def test_one_moment_for_everybody(name, market, tmp_path):
    """Users then have several test targets each, and AUCs between."""
    log = EventLog.read(market)
    (cell,) = plan("table3-global-time", log, tmp_path, [name], seeds=1, profile="fast")
    run_cell(market, cell, tmp_path / "runs")
    assert is_finished(cell, log.fingerprint())
    record = read_record(cell.files[""])
    users = unpack(record["per_user"])
    assert record["protocol"] == "global_time"
    assert len(np.unique(users)) > 3
    assert users.mean() == pytest.approx(record["average_user_auc"], abs=1e-6)
    assert record["popular"]["users"] == record["users"] == len(users)


def test_a_cell_made_in_another_way_is_neither_kept_nor_lost(data, log, tmp_path):
    one, two = plan("table3", log, tmp_path, ["bpr-mf"], seeds=2, profile="fast")
    run_cell(data, one, tmp_path / "runs")
    assert is_finished(one, log.fingerprint())
    assert not is_finished(one, log.fingerprint(), force=True)
    assert not is_finished(two, log.fingerprint())
    file = one.files[""]
    record = json.loads(file.read_text())
    for other, message in (
        (
            {"recipe": {**record["recipe"], "epochs": 9}},
            r"bpr-mf-seed0\.json was made with another recipe; give --force",
        ),
        ({"seed": 9}, "was made with another seed"),
        ({"recipe": {**record["recipe"], "momentum": 1}}, "other settings than are known here"),
        ({"model": "no such"}, "other settings than are known here"),
        ({"data_fingerprint": "another"}, "was made with another data_fingerprint"),
    ):
        file.write_text(json.dumps({**record, **other}))
        with pytest.raises(ExperimentError, match=message):
            is_finished(one, log.fingerprint())
        assert json.loads(file.read_text()) == {**record, **other}
    # a setting that came later has its default
    early = {name: value for name, value in record["recipe"].items() if name != "task_mix"}
    file.write_text(json.dumps({**record, "recipe": early}))
    assert is_finished(one, log.fingerprint())


def test_an_interrupted_training_goes_on(data, log, tmp_path):
    (cell,) = plan("table3", log, tmp_path / "a", ["wide-deep"], seeds=1, profile="fast")
    run_cell(data, cell, tmp_path / "runs_a")
    (other,) = plan("table3", log, tmp_path / "b", ["wide-deep"], seeds=1, profile="fast")
    short = cell.recipe.model_copy(update={"epochs": 1})  # as far as an interrupted run came
    run = tmp_path / "runs_b" / "table3" / "random-fast" / "wide-deep-seed0"
    train_run(log, run, model="wide-deep", options=cell.options, recipe=short, progress=False)
    first = (run / "checkpoints" / "epoch-0001" / "weights.safetensors").stat().st_mtime_ns
    run_cell(data, other, tmp_path / "runs_b")
    assert (run / "checkpoints" / "epoch-0001" / "weights.safetensors").stat().st_mtime_ns == first
    assert len(read_record(other.files[""])["epochs"]) == len(read_record(cell.files[""])["epochs"]) == 2


def test_what_is_new_is_counted(data, log, tmp_path):
    """By sets of ids: the last object of every user against all objects that train as targets, or are known."""
    (cell,) = plan("table5", log, tmp_path, ["all2all"], seeds=1, profile="fast")
    run_cell(data, cell, tmp_path / "runs")
    record = read_record(cell.files["coupon"])
    vocabularies = tmp_path / "runs" / "table5" / "random-fast" / cell.label / "vocabularies.json"
    known = set(json.loads(vocabularies.read_text())["words"]["coupon.object_id"])
    lives = [[event.object_id for event in events] for events in lists(log)["coupon"].values()]
    trained = {o for life in lives for o in life[1:-2]}
    last = [life[-1] for life in lives if len(life) > 1]
    assert record["never_target"] == pytest.approx(np.mean([o not in trained for o in last]))
    assert record["known_never_target"] == pytest.approx(np.mean([o not in trained and o in known for o in last]))
    assert record["never_target"] > 0


def busiest(log: EventLog) -> pd.DataFrame:
    """All coupons of the user who has most of them."""
    coupons = log.events["coupon"]
    return coupons[coupons["user_id"] == coupons["user_id"].value_counts().index[0]]


def test_a_task_with_a_few_samples_trains(log, tmp_path):
    """One user with six coupons, nobody else with any: three training samples, and users without the group."""
    few = EventLog.from_tables(log.schema, {**log.events, "coupon": busiest(log).head(6)}, log.objects)
    few.write(tmp_path / "log")
    (cell,) = plan("table5", few, tmp_path, ["all2all"], seeds=1, profile="fast")
    run_cell(tmp_path / "log", cell, tmp_path / "runs")
    assert read_record(cell.files["coupon"])["users"] == 1


def test_a_user_who_touched_every_object_is_one_clear_error(log, tmp_path):
    """One class only: nothing is left that could be a negative. The other cells are not held up."""
    own, coupons = busiest(log), log.events["coupon"]
    touched = log.objects["coupon"][log.objects["coupon"]["object_id"].isin(own["object_id"])]
    events = {**log.events, "coupon": coupons[coupons["object_id"].isin(touched["object_id"])]}
    every = EventLog.from_tables(log.schema, events, {**log.objects, "coupon": touched})
    every.write(tmp_path / "log")
    cells = plan("table5", every, tmp_path, ["all2one"], seeds=1, profile="fast")
    jobs = {cell.label: partial(run_cell, tmp_path / "log", cell, tmp_path / "runs") for cell in cells}
    (failure,) = run_all(jobs, 1, "cells")
    assert failure.startswith("all2one-coupon-seed0: ")
    assert "has touched every object of group 'coupon'" in failure
    assert [is_finished(cell, every.fingerprint()) for cell in cells] == [True, True, False]


@pytest.mark.parametrize("workers", [1, 2])
def test_what_fails_is_named_and_the_others_are_done(tmp_path, workers):
    jobs: dict[str, Callable[[], object]] = {
        "first": partial(exec, "raise ValueError('no such thing')"),
        "second": partial(Path.touch, tmp_path / "done"),
        "third": partial(exec, "raise MemoryError"),  # which says nothing
        "fourth": partial(Recipe, epochs="many"),  # an error that no process can send to another
    }
    failures = run_all(jobs, workers, "jobs")
    assert sorted(line.splitlines()[0] for line in failures) == [
        "first: no such thing",
        "fourth: 1 validation error for Recipe",
        "third: MemoryError",
    ]
    assert (tmp_path / "done").exists()
