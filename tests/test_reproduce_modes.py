"""Table 5: planned for any schema, recorded for every target, and equal to what the repository's records say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from atrank_lib.cli import app
from atrank_lib.log.events import EventLog
from atrank_lib.log.schema import Schema
from data_scripts.marketplace import MarketplaceConfig
from data_scripts.simulate import simulate
from experiments.records import read_record, recorded, unpack
from experiments.reproduce import ReproduceError, check_same, is_finished
from experiments.reproduce_modes import ROWS, plan, read_modes, run_mode, table5
from tests.random_logs import random_log


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log of the recorded fast cells: `python -m data_scripts.simulate --users 300 --seed 0`."""
    folder = tmp_path_factory.mktemp("market") / "log"
    simulate(MarketplaceConfig(users=300, seed=0)).write(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small") / "log"
    random_log(4, users=7, behaviors=60, objects=30, times=40).write(folder)
    return folder


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["reproduce", "table5", *map(str, arguments)])


def test_a_small_cell_is_what_the_record_says(market, tmp_path):
    log = EventLog.read(market)
    (cell,) = plan(log, ["all2all"], 1, "fast", tmp_path, 8)
    run_mode(market, cell, tmp_path / "runs")
    folder = recorded(f"table5/{cell.file.parent.name}")
    assert folder is not None
    assert set(cell.files) == {"item", "query", "coupon"}
    truth = json.loads((market / "truth" / "truth.json").read_text())
    for target, file in cell.files.items():
        ours, theirs = read_record(file), read_record(folder / file.name)
        check_same(folder / file.name, {**cell.settings(), "data_fingerprint": log.fingerprint(), "target": target})
        # another processor may round otherwise, and a user near a tie may fall to the other side
        assert ours["average_user_auc"] == pytest.approx(theirs["average_user_auc"], abs=0.01)
        assert (unpack(ours["per_user"]) == unpack(theirs["per_user"])).mean() > 0.97
        assert ours["best_auc"] == truth["best_auc"][target]
        assert list(ours["targets"]) == [target]


def test_every_row_runs_and_says_what_it_did(data, tmp_path):
    options = ("--data", data, "--profile", "fast", "--seeds", 1, "--out", tmp_path, "--workers", 4)
    result = run(*options)
    assert result.exit_code == 0, result.output
    folder = tmp_path / "table5" / "random-fast"
    log, targets = EventLog.read(data), ("item", "query", "coupon")
    assert {f.name for f in folder.iterdir()} == {f"{row}-{t}-seed0.json" for row in ROWS for t in targets}
    for (row, target), (record,) in read_modes(folder).items():
        names = {"one2one": f"{target}2{target}", "all2one": f"all2{target}", "all2all": "all2all"}
        assert record["mode"] == names[ROWS[row].kind]
        assert record["data_fingerprint"] == log.fingerprint()
        for name, value in ROWS[row].recipe.items():
            assert record["recipe"][name] == value
        for name, value in ROWS[row].options.items():
            assert record["options"][name] == value
    again = run(*options)
    cells = sum(1 if row.kind == "all2all" else len(targets) for row in ROWS.values())  # all2all: all targets at once
    assert f"{cells} cells, {cells} finished before" in again.output
    assert "The paper's Table 5" in again.output


def test_the_gain_is_over_the_same_users(data, tmp_path):
    options = ("--data", data, "--profile", "fast", "--seeds", 2, "--out", tmp_path, "--workers", 2)
    result = run(*options, "--modes", "one2one,all2one", "--targets", "item")
    assert result.exit_code == 0, result.output
    records = read_modes(tmp_path / "table5" / "random-fast")
    table = table5(records)
    assert list(table.index) == [("one2one", "item"), ("all2one", "item")]
    a, b = (np.stack([unpack(r["per_user"]) for r in records[row, "item"]]).mean(0) for row in ("all2one", "one2one"))
    assert table.loc[("all2one", "item"), "gain"] == pytest.approx((a - b).mean())
    assert table.loc[("all2one", "item"), "low"] <= (a - b).mean() <= table.loc[("all2one", "item"), "high"]
    aucs = [r["average_user_auc"] for r in records["all2one", "item"]]
    assert table.loc[("all2one", "item"), "sd"] == pytest.approx(np.std(aucs, ddof=1))
    assert pd.isna(table.loc[("one2one", "item"), "gain"])
    assert table["missing"].isna().all()  # only simulated logs know the best


def test_what_is_new_is_counted(data, tmp_path):
    """By sets of ids: the last object of every user against all objects that train as targets, or are known."""
    log = EventLog.read(data)
    (cell,) = [c for c in plan(log, ["all2all"], 1, "fast", tmp_path, 8) if "coupon" in c.files]
    run_mode(data, cell, tmp_path / "runs")
    record = read_record(cell.files["coupon"])
    (place,) = (tmp_path / "runs" / "table5" / "random-fast").iterdir()
    known = set(json.loads((place / "vocabularies.json").read_text())["words"]["coupon.object_id"])
    lives = [list(events["object_id"]) for _, events in ordered(log.events["coupon"]).groupby("user_id")]
    trained = {o for life in lives for o in life[1:-2]}
    last = [life[-1] for life in lives if len(life) > 1]
    assert record["never_target"] == pytest.approx(np.mean([o not in trained for o in last]))
    assert record["known_never_target"] == pytest.approx(np.mean([o not in trained and o in known for o in last]))
    assert record["never_target"] > 0


def ordered(events: pd.DataFrame) -> pd.DataFrame:
    return events.sort_values("timestamp", kind="stable")


def test_one_group_has_one_mode(tmp_path):
    log = random_log(4, users=7, behaviors=60, objects=30, times=40)
    schema = Schema(name="one", groups={"item": log.schema.groups["item"]})
    one = EventLog.from_tables(schema, {"item": log.events["item"]}, {"item": log.objects["item"]})
    cells = plan(one, list(ROWS), 1, "fast", tmp_path, 8)
    assert {cell.mode.name for cell in cells} == {"item2item"}
    with pytest.raises(ReproduceError, match="has no mode"):
        plan(one, ["all2all"], 1, "fast", tmp_path, 8)


def test_a_group_with_short_histories_is_read_and_not_predicted(tmp_path):
    log = random_log(4, users=7, behaviors=60, objects=30, times=40)
    events = {**log.events, "coupon": log.events["coupon"].groupby("user_id").head(2)}
    short = EventLog.from_tables(log.schema, events, log.objects)
    cells = plan(short, ["all2one", "all2all"], 1, "fast", tmp_path, 8)
    assert {cell.mode.name for cell in cells} == {"all2item", "all2query", "all2all"}
    assert all("coupon" in cell.mode.histories for cell in cells)
    with pytest.raises(ReproduceError, match=r"targets \['coupon'\]: no user has the four behaviors"):
        plan(short, ["all2one"], 1, "fast", tmp_path, 8, targets=["coupon"])


def busiest(log: EventLog) -> pd.DataFrame:
    """All coupons of the user who has most of them."""
    coupons = log.events["coupon"]
    return coupons[coupons["user_id"] == coupons["user_id"].value_counts().index[0]]


def test_a_task_with_a_few_samples_trains(tmp_path):
    """One user with six coupons, nobody else with any: three training samples, and users without the group."""
    log = random_log(4, users=7, behaviors=60, objects=30, times=40)
    events = {**log.events, "coupon": busiest(log).head(6)}
    folder = tmp_path / "log"
    EventLog.from_tables(log.schema, events, log.objects).write(folder)
    result = run("--data", folder, "--profile", "fast", "--seeds", 1, "--out", tmp_path / "out", "--modes", "all2all")
    assert result.exit_code == 0, result.output
    record = read_record(tmp_path / "out" / "table5" / "random-fast" / "all2all-coupon-seed0.json")
    assert record["users"] == 1


def test_a_user_who_touched_every_object_is_one_clear_error(tmp_path):
    """One class only: nothing is left that could be a negative."""
    log = random_log(4, users=7, behaviors=60, objects=30, times=40)
    own, coupons = busiest(log), log.events["coupon"]
    touched = log.objects["coupon"][log.objects["coupon"]["object_id"].isin(own["object_id"])]
    events = {**log.events, "coupon": coupons[coupons["object_id"].isin(touched["object_id"])]}
    folder = tmp_path / "log"
    EventLog.from_tables(log.schema, events, {**log.objects, "coupon": touched}).write(folder)
    result = run("--data", folder, "--profile", "fast", "--seeds", 1, "--out", tmp_path / "out", "--modes", "all2one")
    assert result.exit_code == 1
    assert "has touched every object of group 'coupon'" in result.stderr
    made = {f.name for f in (tmp_path / "out" / "table5" / "random-fast").iterdir()}
    assert made == {"all2one-item-seed0.json", "all2one-query-seed0.json"}  # the others are not held up


def test_unknown_rows_are_named(data, tmp_path):
    with pytest.raises(ReproduceError, match=r"modes \['some2some'\]; use some of"):
        plan(EventLog.read(data), ["some2some"], 1, "fast", tmp_path, 8)
    result = run("--data", data, "--modes", "", "--out", tmp_path)
    assert result.exit_code == 1
    assert "none given" in result.stderr


def test_a_cell_made_in_another_way_is_kept_and_named(data, tmp_path):
    log = EventLog.read(data)
    (cell,) = plan(log, ["one2one"], 1, "fast", tmp_path, 8, targets=["query"])
    run_mode(data, cell, tmp_path / "runs")
    assert is_finished(cell, log.fingerprint(), force=False)
    assert not is_finished(cell, log.fingerprint(), force=True)
    record = read_record(cell.file)
    cell.file.write_text(json.dumps({**record, "seed": 9}))
    with pytest.raises(ReproduceError, match="made with another seed"):
        is_finished(cell, log.fingerprint(), force=False)
    cell.file.write_text(json.dumps({**record, "recipe": {**record["recipe"], "momentum": 1}}))
    with pytest.raises(ReproduceError, match="other settings than this version knows"):
        is_finished(cell, log.fingerprint(), force=False)
