"""Ranking the whole list against scores one by one, and the measures of a list against all orders of ties."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.metrics import ndcg_score

from atrank_lib.evaluation import score_candidates
from atrank_lib.fast import speed_up
from atrank_lib.grouping import GroupedHistories
from atrank_lib.model import ATRank, ATRankConfig
from atrank_lib.samples import build_batch, prepare, split
from atrank_lib.serve.ranker import Ranker, moments
from data_scripts.marketplace import MarketplaceConfig
from data_scripts.simulate import simulate
from experiments.cost import cost
from experiments.full_ranking import ndcg_at, ndcg_of, places, recall_at, recall_of, sampled, score_all, standing
from tests.random_logs import random_log

DAY = 86_400


def new_model(histories: GroupedHistories, speed: str) -> ATRank:
    torch.manual_seed(0)
    model = ATRank(histories.schema, histories.vocabularies, ATRankConfig(embedding_size=16, hidden=32, spaces=2))
    return speed_up(model) if speed == "kernels" else model


@pytest.fixture
def ranked(tiny_log, speed) -> tuple[ATRank, GroupedHistories]:
    histories = GroupedHistories.from_log(tiny_log)
    return new_model(histories, speed), histories


@pytest.mark.parametrize("group", ["item", "query", "coupon"])
@pytest.mark.parametrize("at", [None, 4 * DAY])
def test_top_objects_are_those_of_scoring_all(ranked, group, at):
    model, histories = ranked
    found = Ranker(model, histories, group, chunk=2).top("anna", 2, at=at, include_seen=True)
    anna = torch.tensor([histories.user("anna")])
    samples = moments(histories, group, anna, torch.tensor([60 * DAY + 1 if at is None else at]))
    scores = model(build_batch(histories, samples, torch.arange(len(histories.catalogs[group]))[None])).scores[0]
    best = sorted(zip(scores.tolist(), histories.catalogs[group].object_ids, strict=True), reverse=True)[:2]
    assert found["rank"].tolist() == [1, 2]
    assert found["object_id"].tolist() == [name for _, name in best]
    np.testing.assert_allclose(found["score"], [score for score, _ in best], rtol=1e-5)


def test_top_objects_leave_out_what_was_touched_before(ranked):
    model, histories = ranked
    assert set(Ranker(model, histories, "item").top("anna")["object_id"]) == {"i3", "i5", "i6"}
    # on day 5, i4 is still to come
    found = Ranker(model, histories, "item").top("anna", at=5 * DAY)
    assert set(found["object_id"]) == {"i3", "i4", "i5", "i6"}
    assert set(Ranker(model, histories, "item").top("dora")["object_id"]) == {f"i{n}" for n in range(1, 7)}
    assert len(Ranker(model, histories, "item").top("anna", include_seen=True)) == 6


def test_top_objects_refuse_nonsense(ranked):
    model, histories = ranked
    with pytest.raises(KeyError, match="nobody"):
        Ranker(model, histories, "item").top("nobody")
    with pytest.raises(ValueError, match="top=0"):
        Ranker(model, histories, "item").top("anna", 0)
    with pytest.raises(ValueError, match="movie"):
        Ranker(model, histories, "movie").top("anna")


def test_recall_and_ndcg_agree_with_all_orders_of_ties():
    """Every way of breaking ties, one after the other."""
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 4, (40, 5)).astype(np.float32)
    for k in (1, 2, 3, 10):
        recalls, gains = [], []
        for row in scores:
            found = []
            for order in itertools.permutations(range(5)):
                place = sorted(order, key=lambda i: (-row[i], order.index(i))).index(0) + 1
                found.append((place <= k, 1 / math.log2(1 + place) if place <= k else 0.0))
            recalls.append(np.mean([hit for hit, _ in found]))
            gains.append(np.mean([gain for _, gain in found]))
        np.testing.assert_allclose(recall_at(torch.from_numpy(scores), k).numpy(), recalls, atol=1e-12)
        np.testing.assert_allclose(ndcg_at(torch.from_numpy(scores), k).numpy(), gains, atol=1e-12)


def test_ndcg_agrees_with_scikit_learn():
    scores = np.random.default_rng(1).normal(size=(30, 8)).astype(np.float32)
    truth = np.eye(1, 8).repeat(30, axis=0)
    expected = [ndcg_score(truth[i : i + 1], scores[i : i + 1], k=3) for i in range(30)]
    np.testing.assert_allclose(ndcg_at(torch.from_numpy(scores), 3).numpy(), expected, atol=1e-6)


def test_a_score_that_is_not_a_number_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        recall_at(torch.tensor([[float("nan"), 1.0]]), 1)


@pytest.mark.parametrize("chunk", [2, 1_000])
def test_scores_of_all_objects_are_those_of_each(chunk, speed):
    log = random_log(4, users=7, behaviors=60, objects=30, times=40)
    histories, parts = prepare(log, "validated", ["item"])
    samples = parts.test["item"]
    model = new_model(histories, speed)
    scores = score_all(model, histories, samples, batch_size=3, chunk=chunk)
    objects = len(histories.catalogs["item"])
    assert scores.shape == (len(samples), objects + 1)
    everything = torch.cat([samples.objects[:, None], torch.arange(objects).repeat(len(samples), 1)], dim=1)
    expected = score_candidates(model, histories, {"item": samples}, {"item": everything})["item"]
    events = log.events["item"]
    ids = histories.catalogs["item"].object_ids
    for row, user in enumerate(samples.users.tolist()):
        touched = set(events.loc[events["user_id"] == histories.user_ids[user], "object_id"])
        for column in range(objects):
            known = ids[column] in touched
            assert scores[row, column + 1] == (
                float("-inf") if known else pytest.approx(float(expected[row, column + 1]), abs=1e-5)
            )
    torch.testing.assert_close(scores[:, 0], expected[:, 0])


@pytest.fixture(scope="module")
def market() -> GroupedHistories:
    return prepare(simulate(MarketplaceConfig(users=20, seed=0)).log, "validated")[0]


@pytest.mark.parametrize(("above", "level"), [(0, 0), (3, 0), (3, 4), (19, 0)])
def test_a_target_among_drawn_objects(above, level):
    """Against all ways to draw 5 of 20 others, of which some are better."""
    better = above + level // 2
    ways = [sum(i < better for i in some) for some in itertools.combinations(range(20), 5)]
    one = torch.tensor([float(above)]), torch.tensor([float(level)])
    for k in (1, 2, 5):
        assert float(sampled(*one, k, 5, 20)) == pytest.approx(np.mean([count < k for count in ways]))
    assert float(sampled(*one, 5, 20, 20)) == float(better < 5)  # all drawn: recall


def test_where_targets_stand_says_what_all_scores_say(market):
    model, histories = new_model(market, "plain"), market
    samples = split(histories).test["item"]
    ranker = Ranker(model, histories, "item")
    found = standing(ranker.all_scores, histories, samples, users=3, seed=1, batch_size=2)
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(1))[:3]
    scores = score_all(model, histories, samples[order])
    above, level = places(found)
    assert found["users"] == 3
    for k in (1, 2, 5):
        assert torch.equal(recall_of(above, level, k), recall_at(scores, k))
        assert torch.equal(ndcg_of(above, level, k), ndcg_at(scores, k))
    fewer = standing(ranker.all_scores, histories, samples, users=2, seed=1)
    assert places(fewer)[0].tolist() == places(found)[0][:2].tolist()


def test_costs_are_counted_by_hand(market):
    """Without attention among behaviors: the products of eq. 1 and 7, one by one."""
    histories, d = market, 8
    config = ATRankConfig(embedding_size=4, hidden=d, spaces=2, blocks=0)
    model = ATRank(histories.schema, histories.vocabularies, config)
    found = cost(model, histories)
    assert found["parameters"]["tables"] + found["parameters"]["rest"] == sum(p.numel() for p in model.parameters())
    total = count = 0
    for samples in split(histories).test.values():
        batch = build_batch(histories, samples, samples.objects[:, None])
        read = {name: len(behaviors.actions) for name, behaviors in batch.histories.items()}
        for name, rows in [*read.items(), (samples.target_group, len(samples))]:
            numbers = [spec.kind for spec in histories.schema.groups[name].features.values()].count("continuous")
            total += rows * (numbers * 2 * 4 + model.embedding(name).size * d)  # numbers and gaps in them; eq. 1
        n, b, t = len(batch.packing.owner), len(samples), batch.packing.longest
        total += n * 2 * d * d + b * d * d  # keys and values, queries
        total += 2 * b * t * d  # shares, and what they add up, over padded places
        total += 2 * b * d * d  # the network after
        count += b
    assert found["multiply_adds"] == round(total / count)
