"""Worlds side by side, and predictions beside what records say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from experiments.records import pack, unpack
from experiments.worlds import SUSPECTING, detectors, predictions, worlds
from tests.experiments.test_summary import made

GROUPS = ("item", "query", "coupon")


def of_world(world: str, users: int = 600, **chances: float | list[float]) -> dict[str, list[dict[str, Any]]]:
    """Records of some models in a world, each with its chance to win in every group (or one for each); two seeds."""
    rng = np.random.default_rng(1)
    found: dict[str, list[dict[str, Any]]] = {}
    for name, chance in chances.items():
        each = np.repeat(np.broadcast_to(chance, len(GROUPS)), users)
        runs = [made(name, (rng.random(len(each)) < each) * 1.0, seed) for seed in (0, 1)]
        best = {"targets": dict.fromkeys(GROUPS, 0.5), "best_auc": dict(zip(GROUPS, (0.8, 0.9, 1.0), strict=True))}
        found[name.replace("_", "-")] = [run | best | {"data_name": f"simulated {world}"} for run in runs]
    return found


def test_worlds_stand_side_by_side_below_the_best():
    drift, taste = of_world("drift", popularity=0.6, din=0.8), of_world("lasting-taste", din=[0.5, 0.7, 0.9])
    table = worlds([drift, taste])
    assert table.columns.tolist() == ["drift", "lasting-taste"]
    assert table.index.tolist() == ["best", "popularity", "din"]
    assert table.loc["best"].tolist() == pytest.approx([0.9, 0.9])
    assert table.loc["din", "drift"] == pytest.approx(np.mean([r["average_user_auc"] for r in drift["din"]]))
    assert pd.isna(table.loc["popularity", "lasting-taste"])
    assert predictions([]).empty


def test_predictions_are_told_as_the_records_have_them():
    found = predictions(
        [
            of_world("drift", popularity=0.6, recent_popularity=0.8),
            of_world("lasting-taste", din=0.8, bst=0.7, bpr_mf=0.5, ials=0.8),
            of_world("conjunction", din=0.6, counted_recent=0.5, bst=0.9, atrank=0.6, cnn=0.9),
            of_world("no-history", recent_popularity=0.8, atrank=0.6, cnn=0.6),
        ]
    )
    verdicts = {row: tuple(found.loc[row, ["against", "said", "verdict"]]) for row in found.index}
    assert verdicts == {
        ("drift", "recent-popularity"): ("popularity", "better", "better"),
        ("lasting-taste", "bpr-mf"): ("din", "near", "below"),
        ("lasting-taste", "ials"): ("din", "near", verdicts["lasting-taste", "ials"][2]),
        ("conjunction", "bst"): ("din", "better", "better"),
        ("conjunction", "atrank"): ("din", "better", verdicts["conjunction", "atrank"][2]),
        ("conjunction", "cnn"): ("din", "not better", "better"),
        ("no-history", "cnn"): ("recent-popularity", "not better", "worse"),
        ("no-history", "atrank"): ("recent-popularity", "worse", "worse"),
    }
    assert found.loc[("drift", "recent-popularity"), "holds"]
    assert not found.loc[("conjunction", "atrank"), "holds"]


def test_a_prediction_is_judged_over_users_and_not_over_their_targets():
    """Three targets of a user that are won or lost together are one observation; near is beyond the margin below."""
    rng = np.random.default_rng(2)
    base = of_world("lasting-taste", din=0.5, ials=0.5)
    for runs in base.values():
        for run in runs:
            wins = np.tile(rng.integers(0, 2, 600) * 1.0, 3)
            run |= {"per_user": pack(wins), "average_user_auc": wins.mean()}
    single = {
        name: [run | {"targets": {"item": 0.5}, "per_user": pack(unpack(run["per_user"])[:600])} for run in runs]
        for name, runs in base.items()
    }
    columns = ["difference", "low", "high"]
    assert predictions([base])[columns].to_numpy() == pytest.approx(predictions([single])[columns].to_numpy())
    near = of_world("lasting-taste", users=30_000, din=0.8, ials=0.795)
    assert predictions([near])["verdict"].tolist() == ["near"]


def test_detectors_are_means_over_groups_and_seeds_and_differences_cross_both():
    rng, (world,) = np.random.default_rng(2), [of_world("drift", atrank=0.7, din=0.7)]
    assert detectors([world]).empty  # nothing was asked
    rule = {group: rng.random(90) for group in GROUPS}  # has no seeds
    for seed, run in enumerate(world["atrank"]):
        run["causes"] = {}
        for number, group in enumerate(GROUPS):
            rows = [{"detector": name, "AUC": 0.5 + number / 10 + seed / 50} for name in SUSPECTING]
            per_sample = {"attention": pack(rule[group] + 0.1 + seed / 10), "any name, weighted": pack(rule[group])}
            run["causes"][group] = {"rows": rows, "per_sample": per_sample}
    table = detectors([world, of_world("no-history", atrank=0.5)])
    assert table.index.tolist() == [("drift", "atrank")]
    one = table.loc[("drift", "atrank")]
    assert one[list(SUSPECTING)].tolist() == pytest.approx([0.61] * len(SUSPECTING))
    assert one["above"] == pytest.approx(0.15, abs=1e-6)
    # two seeds that are .1 apart: error .05 with one degree of freedom; targets agree and add next to nothing
    assert one["above"] - one["low"] == pytest.approx(12.706 * 0.05, rel=1e-3)
    assert one["high"] - one["above"] == pytest.approx(one["above"] - one["low"])
