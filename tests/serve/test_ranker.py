"""Ranking all objects and scoring pairs, against the model asked for one pair at a time."""

from __future__ import annotations

from typing import cast
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from atrank_lib.grouping import GroupedHistories
from atrank_lib.model import ATRank
from atrank_lib.ranking import Model
from atrank_lib.samples import build_batch
from atrank_lib.serve.ranker import Ranker, best_first, moments
from tests.models import WAYS, make

Pairs = list[tuple[int, int, int]]  # user, object, moment


def atrank() -> tuple[ATRank, GroupedHistories]:
    model, histories = make("atrank")
    return cast(ATRank, model), histories


def one_by_one(model: Model, histories: GroupedHistories, group: str, pairs: Pairs) -> list[float]:
    """Scores of (user, object, time), a history for each."""
    users, rows, times = (torch.tensor(column) for column in zip(*pairs, strict=True))
    batch = build_batch(histories, moments(histories, group, users, times), rows[:, None], model.histories)
    with torch.no_grad():
        return model(batch).scores[:, 0].tolist()


def random_pairs(histories: GroupedHistories, group: str, count: int, seed: int = 0) -> Pairs:
    """Few users and moments, so that histories recur; some moments are before all behaviors."""
    rng = np.random.default_rng(seed)
    numbers = (rng.integers(n, size=count) for n in (len(histories), len(histories.catalogs[group]), 4))
    return [(u, o, 15 * t - 10) for u, o, t in zip(*(n.tolist() for n in numbers), strict=True)]


@pytest.mark.parametrize("way", WAYS)
def test_pairs_score_as_one_by_one(way: str) -> None:
    model, histories = make(way)
    for group in list(histories.groups)[-2:]:
        pairs = random_pairs(histories, group, 40)
        users, objects, times = (torch.tensor(column) for column in zip(*pairs, strict=True))
        expected = one_by_one(model, histories, group, pairs)
        found = Ranker(model, histories, group).score(users, objects, times)
        assert found.tolist() == pytest.approx(expected, rel=1e-5, abs=1e-5)
        assert float(found.std()) > 0.01  # what is compared is not all the same
        few = Ranker(model, histories, group, objects[:20], chunk=3)  # a few pairs at a time, the objects that occur
        assert len(few.objects) < len(histories.catalogs[group])
        assert few.score(users[:20], objects[:20], times[:20]).tolist() == pytest.approx(
            expected[:20], rel=1e-5, abs=1e-5
        )


@pytest.mark.parametrize("way", WAYS)
def test_all_objects_score_as_one_by_one(way: str) -> None:
    model, histories = make(way)
    group = list(histories.groups)[-1]
    users = torch.arange(len(histories))
    samples = moments(histories, group, users, torch.full_like(users, 20))
    rows = range(len(histories.catalogs[group]))
    expected = one_by_one(model, histories, group, [(u, row, 20) for u in users.tolist() for row in rows])
    for chunk in (64, 4_096):
        found = Ranker(model, histories, group, chunk=chunk).all_scores(samples)
        assert found.flatten().tolist() == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_without_a_moment_all_of_the_log_is_history() -> None:
    model, histories = atrank()
    ranker = Ranker(model, histories, "item")
    users, objects = torch.tensor([0, 1, 0]), torch.tensor([3, 4, 5])
    last = 1 + max(int(g.timestamps.max()) for g in histories.groups.values())
    assert torch.equal(ranker.score(users, objects), ranker.score(users, objects, torch.full((3,), last)))
    assert len(ranker.score(users[:0], objects[:0])) == 0


def test_every_history_is_encoded_once_and_the_objects_side_once() -> None:
    model, histories = atrank()
    pairs = random_pairs(histories, "item", 200)
    users, objects, times = (torch.tensor(column) for column in zip(*pairs, strict=True))
    with (
        mock.patch.object(model, "prepare", wraps=model.prepare) as prepare,
        mock.patch.object(model, "encode", wraps=model.encode) as encode,
    ):
        ranker = Ranker(model, histories, "item", chunk=16)
        candidates = [call.args[0].shape for call in prepare.call_args_list]
        assert sum(b * c for b, c in candidates) == len(histories.catalogs["item"])
        ranker.score(users, objects, times)
        ranker.top(histories.user_ids[0])
        assert len(prepare.call_args_list) == len(candidates)
        assert sum(call.args[0].size for call in encode.call_args_list) == len({(u, t) for u, _, t in pairs}) + 1


@pytest.mark.parametrize("count", [50, 1_000])
def test_no_step_is_larger_than_a_chunk(count: int) -> None:
    """However many pairs there are, and however many of them are of one user."""
    model, histories = atrank()
    pairs = random_pairs(histories, "item", count)
    pairs += [(0, row % 33, 20) for row in range(count)]
    users, objects, times = (torch.tensor(column) for column in zip(*pairs, strict=True))
    ranker = Ranker(model, histories, "item", chunk=64)
    with (
        mock.patch.object(model, "match", wraps=model.match) as match,
        mock.patch.object(model, "encode", wraps=model.encode) as encode,
    ):
        ranker.score(users, objects, times)
    sizes = [call.args[1].h.shape[:2].numel() for call in match.call_args_list]
    assert max(sizes) <= 64
    assert sum(sizes) < 1.5 * len(pairs) + 64  # little is padded
    longest = sum(int(g.offsets.diff().max()) for g in histories.groups.values())
    assert max(len(call.args[0].packing.owner) for call in encode.call_args_list) <= max(8 * 64, longest)


@given(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0, 3.0]), min_size=1, max_size=40), st.integers(0, 45))
def test_best_first_is_the_beginning_of_a_stable_sort(values: list[float], count: int) -> None:
    scores = torch.tensor(values)
    count = min(count, len(values))
    assert best_first(scores, count).tolist() == scores.argsort(descending=True, stable=True)[:count].tolist()


def test_ties_keep_the_order_of_the_objects_table() -> None:
    model, histories = atrank()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    best = Ranker(model, histories, "item").top("steady", 5, include_seen=True)
    assert best["object_id"].tolist() == list(histories.catalogs["item"].object_ids[:5])


def test_only_some_objects_are_ranked() -> None:
    model, histories = atrank()
    everything = Ranker(model, histories, "item").top("steady", 99, include_seen=True)
    some = Ranker(model, histories, "item", torch.tensor([9, 2, 31, 2])).top("steady", 99, include_seen=True)
    ids = {histories.catalogs["item"].object_ids[row] for row in (2, 9, 31)}
    expected = everything[everything["object_id"].isin(ids)]
    assert some["object_id"].tolist() == expected["object_id"].tolist()
    assert some["score"].tolist() == pytest.approx(expected["score"].tolist(), abs=1e-6)
    # the steady user touched only the last three
    assert len(Ranker(model, histories, "item", torch.tensor([2, 30, 31, 32])).top("steady", 99)) < 4


def test_a_model_that_scores_nan_is_refused_and_its_mode_kept() -> None:
    model, histories = atrank()
    model.train()
    ranker = Ranker(model, histories, "item")
    ranker.top("steady")
    ranker.score(torch.tensor([0]), torch.tensor([0]))
    assert model.training
    with torch.no_grad():
        model.get_parameter("target.feed_forward.0.bias").fill_(float("nan"))
    with pytest.raises(ValueError, match="a score is NaN"):
        ranker.top("steady")
    assert model.training


def test_objects_that_the_ranker_was_not_made_for() -> None:
    for way in ("atrank", "bpr-mf"):
        model, histories = make(way)
        ranker = Ranker(model, histories, "item", torch.tensor([1, 4, 6]))
        with pytest.raises(ValueError, match=r"objects \[0, 5\] are not among those"):
            ranker.score(torch.tensor([0, 1, 2, 3]), torch.tensor([4, 5, 0, 5]))


def test_unknown_group() -> None:
    model, histories = atrank()
    with pytest.raises(ValueError, match=r"target group: \['shop'\]"):
        Ranker(model, histories, "shop")
