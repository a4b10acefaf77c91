"""Whom the live model starts from: the planted causes are those of the log, the rule is the one that is told."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
import torch

from atrank_book.live import FIRST, NORA, PAIRS, caused_examples
from atrank_lib.grouping import GroupedHistories
from atrank_lib.model import ATRank
from atrank_lib.samples import Split, prepare
from data_scripts.simulate import Marketplace, MarketplaceConfig, simulate

Made = tuple[Marketplace, GroupedHistories, Split, ATRank, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def made() -> Made:
    market = simulate(MarketplaceConfig(users=250, behaviors=16, items=30, queries=20, coupons=15))
    histories, parts = prepare(market.log, "validated")
    torch.manual_seed(0)
    model = ATRank(histories.schema, histories.vocabularies).eval()
    return market, histories, parts, model, caused_examples(model, histories, parts.test, market.truth.causes)


def event_of(market: Marketplace, example: dict[str, Any], behavior: list[int], now: int) -> tuple[str, int]:
    """Group and row of the log's event that a behavior of an example is, found by user and time."""
    name = list(market.log.events)[behavior[0]]
    events = market.log.events[name]
    (row,) = events.index[(events["user_id"] == example["user"]) & (events["timestamp"] == now - behavior[3])]
    return name, int(row)


def test_causes_are_those_of_the_log(made: Made) -> None:
    market, histories, _, _, examples = made
    assert len(examples) == len(PAIRS)
    for example, (cause, task) in zip(examples, PAIRS, strict=True):
        assert list(market.log.events)[example["group"]] == task
        events = market.log.events[task]
        target = int(events.index[events["user_id"] == example["user"]][-1])  # the last of the group is the test's
        assert events["object_id"][target] == histories.catalogs[task].object_ids[example["object"]]
        now = int(events["timestamp"][target])
        rows = [event_of(market, example, behavior, now) for behavior in example["behaviors"]]
        assert len(example["causes"]) == len(rows) + 1
        for (name, row), (place, feature) in zip([*rows, (task, target)], example["causes"], strict=True):
            truth = market.truth.causes[name].iloc[row]
            assert feature == truth["feature"].replace("_", " ")
            if place is None:  # an older one, which is not shown
                assert (truth["cause_group"], truth["cause_row"]) not in rows
                assert truth["cause_row"] >= 0
            elif place < 0:
                assert truth["cause_group"] == ""
            else:
                assert (truth["cause_group"], truth["cause_row"]) == rows[place]
        assert rows[example["causes"][-1][0]][0] == cause


def test_users_differ_and_their_targets_were_among_the_first(made: Made) -> None:
    examples = made[-1]
    table = pd.DataFrame(examples)
    assert table["user"].is_unique
    assert table["label"].str.split(":").str[0].is_unique
    assert table["rank"].le(FIRST).all()
    assert not table["user"].eq(NORA).any()
    assert table["erased"].ge(1).all()


def test_a_log_without_a_cause_for_a_pair_is_refused(made: Made) -> None:
    market, histories, parts, model, _ = made
    none = {name: table.assign(cause_group="", cause_row=-1, feature="") for name, table in market.truth.causes.items()}
    with pytest.raises(ValueError, match="no item was caused by a coupon"):
        caused_examples(model, histories, parts.test, none)
