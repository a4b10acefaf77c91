"""What a folder of records says: read as it is asked for, compared on the same users."""

from __future__ import annotations

import json
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from experiments.cells import run_cell
from experiments.models import COMPARED
from experiments.plans import plan
from experiments.records import ExperimentError, pack, pack_whole, read_record, unpack, write_record
from experiments.summary import (
    by_length,
    curves,
    difference,
    factorial,
    original_table,
    protocols,
    read_table,
    survey,
    switch_table,
    table3,
    table5,
)
from experiments.tables import FACTORIAL, MODES, SWITCHES
from tools.project import ROOT

RESULTS = ROOT / "results"


def made(model: str, wins: list[Any] | np.ndarray, seed: int = 0, log: str = "a", **more: Any) -> dict[str, Any]:
    """A record of these users' AUCs."""
    auc, users = float(np.mean(wins)), len(wins)
    said = {"model": model, "seed": seed, "average_user_auc": auc, "users": users, "ci95": [0.4, 0.6], **more}
    return {**said, "per_user": pack(np.asarray(wins, dtype=float)), "data_name": "x", "data_fingerprint": log}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Table 3 of log ``a``: two models, the one with two seeds."""
    there = tmp_path / "table3" / "x"
    write_record(there / "atrank-seed1.json", made("atrank", [1, 0], 1))
    write_record(there / "atrank-seed0.json", made("atrank", [1, 1]))
    write_record(there / "cnn-seed0.json", made("cnn", [0, 1]))
    return there


def test_records_are_in_the_order_of_their_table_and_by_seed(folder):
    rows = read_table(folder)
    assert list(rows) == ["cnn", "atrank"]
    assert [run["seed"] for run in rows["atrank"]] == [0, 1]


@pytest.mark.parametrize(
    ("file", "text", "problem"),
    [
        ("bst-seed0.json", "{", r"bst-seed0\.json cannot be read"),
        ("bst-seed0.json", "[]", r"bst-seed0\.json holds no record"),
        ("bst-seed0.json", "{}", r"bst-seed0\.json is no record of a table: has no 'model'"),
        ("notes.json", "{}", r"notes\.json is no record of a table"),
        ("cnn-seed1.json", json.dumps(made("cnn", [0, 1])), r"cnn-seed1\.json .* says seed 0"),  # a copy of seed 0
        ("bst-seed0.json", json.dumps(made("bst", [0, 1], log="b")), r"bst-seed0\.json is not used: .* log 'x' with"),
        (
            "bst-seed0.json",
            json.dumps(made("bst", [0, 1]) | {"users": 3}),
            "its name and per_user say seed 0 and 2 users",
        ),
        ("bst-seed0.json", json.dumps(made("bst", [0, 1]) | {"per_user": "eJ"}), "is no record of a table"),
        ("bst-seed0.json", json.dumps(made("bst", [0, 1]) | {"per_user": None}), "is no record of a table"),
    ],
)
def test_what_is_left_out_is_named(folder, file, text, problem):
    (folder / file).write_text(text)
    with pytest.raises(ExperimentError, match=problem):
        read_table(folder)
    rows, (line,) = survey(folder, "a")
    assert str(folder / file) in line
    assert {name: len(runs) for name, runs in rows.items()} == {"cnn": 1, "atrank": 2}


def test_a_table_is_of_one_log(folder):
    for seed in (0, 1, 2):
        write_record(folder / f"bst-seed{seed}.json", made("bst", [0, 1], seed, log="b"))
    rows, left_out = survey(folder, "b")
    assert {name: len(runs) for name, runs in rows.items()} == {"bst": 3}
    assert len(left_out) == 3
    assert survey(folder, "c")[0] == {}
    with pytest.raises(ExperimentError, match="fingerprint"):
        read_table(folder)


def test_the_recorded_tables_are_read():
    sports = "amazon_sports_and_outdoors"
    rows = read_table(RESULTS / f"table3/{sports}")
    assert list(rows) == COMPARED
    floors = {"popularity": 1, "last-category": 1}
    assert {name: len(runs) for name, runs in rows.items()} == dict.fromkeys(COMPARED, 5) | floors
    assert list(read_table(RESULTS / f"switches/{sports}")) == list(SWITCHES)
    modes = read_table(RESULTS / "table5/simulated_marketplace")
    assert list(modes) == [(row, target) for row in MODES for target in ("coupon", "item", "query")]


def test_the_difference_of_two_models_is_over_the_same_users():
    rng = np.random.default_rng(0)
    ours, theirs = (rng.integers(0, 2, (3, 500)) * 1.0 for _ in range(2))

    def records(model: str, wins: np.ndarray) -> list[dict[str, Any]]:
        return [made(model, own, seed) for seed, own in enumerate(wins)]

    table = table3({"bpr-mf": records("bpr-mf", theirs), "atrank": records("atrank", ours)})
    assert table.loc["bpr-mf", "atrank better by"] == pytest.approx(ours.mean() - theirs.mean())
    assert table.loc["atrank", "AUC"] == pytest.approx(ours.mean())
    assert table.loc["bpr-mf", "sd"] == pytest.approx(theirs.mean(axis=1).std(ddof=1))
    assert table.loc["bpr-mf", "paper, Electronics"] == 0.7982
    switched = switch_table({"base": records("atrank", theirs), "x": records("atrank", ours)})
    assert switched.loc["x", "difference"] == pytest.approx(ours.mean() - theirs.mean())
    assert switched.loc["x", "low"] < switched.loc["x", "difference"] < switched.loc["x", "high"]
    assert pd.isna(switched.loc["base", "difference"])
    ends = {"paper": theirs, "paper-with-x": ours, "code": ours, "code-without-x": theirs}
    both = original_table({name: records("atrank", wins) for name, wins in ends.items()})
    assert list(both.index) == list(ends)
    assert both.loc["paper-with-x", "difference"] == pytest.approx(ours.mean() - theirs.mean())
    assert both.loc["code-without-x", "difference"] == pytest.approx(theirs.mean() - ours.mean())
    modes = {("one2one", "item"): records("atrank", theirs), ("all2one", "item"): records("atrank", ours[:2])}
    modes["all2one", "item"][0]["best_auc"] = 0.9
    gains = table5(modes)
    assert list(gains.index) == list(modes)
    assert gains.loc[("all2one", "item"), "gain"] == pytest.approx(ours[:2].mean() - theirs.mean())
    assert gains.loc[("all2one", "item"), "missing"] == pytest.approx(0.9 - ours[:2].mean())
    assert gains.loc[("one2one", "item"), ["missing", "gain", "low", "high"]].isna().all()
    assert gains.loc[("all2one", "item"), "seeds"] == 2


def test_a_difference_is_over_all_seeds():
    ours = [made("atrank", wins, seed) for seed, wins in enumerate(([1, 1], [1, 0], [0, 0]))]
    theirs = [made("cnn", [1, 0], seed) for seed in (1, 2, 3)]
    found = difference(ours, theirs)
    assert (found["seeds"], found["difference"]) == (3, pytest.approx(0.5 - 0.5))
    floor = difference(ours, [made("popularity", [0, 0])])  # which is the same for every seed
    assert (floor["seeds"], floor["difference"]) == (1, 0.5)
    none = difference([], theirs)
    assert none["seeds"] == 0
    assert np.isnan([none["difference"], none["low"], none["high"]]).all()


def test_effects_of_a_factorial_are_those_that_were_planted():
    """Chances of a win that f raises, and self-attention where behaviors are raw alone: its own effect is half as large
    as the gain there, and so is their interaction."""
    pick, rows = np.random.default_rng(0), {}
    for name in FACTORIAL:
        told, _, f, self_attention = name.split("-")
        chance = 0.5 + 0.1 * (f == "network") + 0.08 * (told == "raw" and self_attention == "self")
        rows[name] = [made("atrank", pick.random(20_000) < chance, seed) for seed in range(3)]
    found = factorial(rows)
    worth = {"f": 0.1, "self-attention": -0.04, "told": 0.04, "told x self-attention": -0.04}
    assert len(found) == 15
    assert set(found.index[found["holds"]]) == set(worth)
    for effect, row in found.iterrows():
        assert row["worth"] == pytest.approx(worth.get(str(effect), 0), abs=0.005)
        assert row["low"] < row["worth"] < row["high"]
    assert found.loc["f", "verdict"] == "better"
    # by hand, from its definition: half the difference of what self-attention's absence changes
    means = {name: np.mean([run["average_user_auc"] for run in runs]) for name, runs in rows.items()}
    alone = {
        told: np.mean(
            [means[n] - means[n.replace("alone", "self")] for n in means if n.startswith(told) and "alone" in n]
        )
        for told in ("raw", "projected")
    }
    assert found.loc["told x self-attention", "worth"] == pytest.approx((alone["raw"] - alone["projected"]) / 2)
    # while cells are missing, each is beside the first
    del rows["raw-sum-network-alone"]
    assert list(factorial(rows).index) == list(rows)


def test_protocols_ask_the_same_models():
    lists = {"item": {"above": pack_whole(np.array([0, 10])), "level": pack_whole(np.array([0, 0]))}}
    once = made("cnn", [1, 0], whole_list=lists, popular={"average_user_auc": 0.25})
    again = made("cnn", [1, 1], 1, whole_list=lists, popular={"average_user_auc": 0.75})
    records = {"cnn": [once, again], "din": [once], "unlisted": [made("bst", [1, 1])]}
    table = protocols(records, {"cnn": [made("cnn", [0.5, 0.0])], "unlisted": [once]}, objects=200)
    assert list(table.index) == ["cnn"]  # asked by all
    first = (1 + comb(190, 100) / comb(200, 100)) / 2  # none of the ten better ones is drawn
    expected = {"uniform": 0.75, "popular": 0.5, "first of 101": first, "NDCG@10": 0.5, "one moment": 0.25}
    assert table.loc["cnn"].to_dict() == pytest.approx(expected)


def test_a_single_row_is_a_table():
    one = [made("cnn", [1, 0])]
    assert table3({"cnn": one}).loc["cnn", "AUC"] == 0.5
    assert pd.isna(switch_table({"no-time": one}).loc["no-time", "difference"])
    assert pd.isna(table5({("all2one", "item"): one}).loc[("all2one", "item"), "gain"])


def test_curves_add_up_samples_and_seconds():
    epochs = [
        {"epoch": number, "samples": 10 * number, "cpu_seconds": 0.5, "validation_auc": 0.5 + number / 10}
        for number in (1, 2, 3)
    ]
    found = curves({"popularity": [made("popularity", [1])], "cnn": [made("cnn", [1], epochs=epochs)]})
    assert set(found["model"]) == {"cnn"}
    assert found["samples"].tolist() == [10, 30, 60]
    assert found["seconds"].tolist() == [0.5, 1.0, 1.5]
    assert found["AUC"].tolist() == [0.6, 0.7, 0.8]


def test_auc_by_length_is_the_mean_of_users_of_that_length(data, log, tmp_path):
    (cell,) = plan("table3", log, tmp_path, ["last-category"], profile="fast")
    run_cell(data, cell, tmp_path)
    won = unpack(read_record(cell.files[""])["per_user"])
    expected: dict[str, list[float]] = {}
    place = 0
    for group in log.schema.groups:
        events = log.events[group]
        for user in sorted(set(events["user_id"])):
            own = events[events["user_id"] == user].sort_values("timestamp", kind="stable")
            if len(own) < 2:
                continue  # no test sample: nothing of its own group before it
            moment = own["timestamp"].iloc[-1]
            others = [e for g, e in log.events.items() if g != group]
            length = len(own) - 1 + sum(int(((e["user_id"] == user) & (e["timestamp"] < moment)).sum()) for e in others)
            name = "below 4" if length < 4 else "4 to 9" if length < 10 else "from 10"
            expected.setdefault(name, []).append(won[place])
            place += 1
    assert place == len(won)
    table = by_length(log, read_table(cell.folder), edges=(4, 10)).set_index("behaviors")
    assert table["users"].to_dict() == {name: len(values) for name, values in expected.items()}
    assert table["AUC"].to_dict() == pytest.approx({name: np.mean(values) for name, values in expected.items()})
    with pytest.raises(ExperimentError, match=r"records of 'cnn' hold 2 users, the log \d+ test users"):
        by_length(log, {"cnn": [made("cnn", [1, 0])]})
