"""Negatives against counts of what a user touched, and against the distribution that they should have."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from atrank_lib.grouping import GroupedHistories
from atrank_lib.log.events import EventLog
from atrank_lib.negatives import NegativeSampler, draw_candidates
from atrank_lib.samples import split
from tests.random_logs import SCHEMA, all_samples, lists, random_log, shapes


def counts_of(draws: torch.Tensor, n: int) -> np.ndarray:
    return np.bincount(draws.flatten().numpy(), minlength=n)


@settings(max_examples=40, deadline=None)
@given(shapes(), st.sampled_from(["uniform", "popularity"]), st.sampled_from(list(SCHEMA.groups)))
def test_negatives_are_untouched_and_all_reached(shape: tuple[int, ...], kind: str, group: str) -> None:
    log = random_log(*shape)
    histories = GroupedHistories.from_log(log)
    train = split(histories, "paper", [group]).train[group]
    sampler = NegativeSampler(histories, group, kind, train)  # type: ignore[arg-type]
    ids = log.objects[group]["object_id"].tolist()
    popular = Counter(ids[i] for i in train.objects.tolist())
    for number, user in enumerate(histories.user_ids):
        touched = {e.object_id for e in lists(log)[group].get(user, [])}
        free = {i for i in ids if i not in touched and (kind == "uniform" or popular[i])}
        draw = torch.tensor([number])
        if not free:
            with pytest.raises(ValueError, match=f"user '{user}' has touched every object of group '{group}'"):
                sampler.draw(draw, 1, torch.Generator())
            continue
        drawn = sampler.draw(draw, 400, torch.Generator().manual_seed(1))
        assert {ids[i] for i in drawn.flatten().tolist()} <= free
        if kind == "uniform":
            assert {ids[i] for i in drawn.flatten().tolist()} == free


def test_uniform_negatives_are_uniform() -> None:
    log = random_log(5, users=3, behaviors=60, objects=12, times=50)
    histories = GroupedHistories.from_log(log)
    sampler = NegativeSampler(histories, "item")
    users = torch.arange(len(histories)).repeat_interleave(200)
    drawn = sampler.draw(users, 100, torch.Generator().manual_seed(0))
    n = len(histories.catalogs["item"])
    own = histories.groups["item"]
    for number in range(len(histories)):
        touched = own.objects[own.users() == number].unique().long()
        assert 0 < len(touched) < n
        counts = np.delete(counts_of(drawn[users == number], n), touched.numpy())
        assert stats.chisquare(counts).pvalue > 1e-3


def test_popular_negatives_are_proportional() -> None:
    log = random_log(8, users=6, behaviors=150, objects=12, times=50)
    histories = GroupedHistories.from_log(log)
    train = split(histories, "paper", ["query"]).train["query"]
    sampler = NegativeSampler(histories, "query", "popularity", train)
    n = len(histories.catalogs["query"])
    weights = np.zeros(n)
    for o in train.objects.tolist():
        weights[o] += 1
    own, tested = histories.groups["query"], 0
    for number in range(len(histories)):
        drawn = sampler.draw(torch.full((200,), number), 100, torch.Generator().manual_seed(number))
        left = weights.copy()
        left[own.objects[own.users() == number].numpy()] = 0
        counts = counts_of(drawn, n)
        assert (counts[left == 0] == 0).all()
        counts, left = counts[left > 0], left[left > 0]
        if len(left) > 1:
            tested += 1
            assert len(set(left)) > 1 or number == 0
            assert stats.chisquare(counts, left / left.sum() * counts.sum()).pvalue > 1e-3
    assert tested >= 3


def test_negatives_of_one_sample_are_independent() -> None:
    histories = GroupedHistories.from_log(random_log(1, behaviors=0, objects=2))
    # the steady user touched some of the last three of five objects
    sampler = NegativeSampler(histories, "coupon")
    free = int(sampler.free[0])
    drawn = sampler.draw(torch.zeros(20_000, dtype=torch.long), 2, torch.Generator().manual_seed(0))
    table = np.zeros((5, 5))
    np.add.at(table, (drawn[:, 0].numpy(), drawn[:, 1].numpy()), 1)
    table = table[table.sum(1) > 0][:, table.sum(0) > 0]
    assert table.shape == (free, free)
    assert stats.chi2_contingency(table).pvalue > 1e-3


def test_sampler_errors(tiny_log: EventLog) -> None:
    histories = GroupedHistories.from_log(tiny_log)
    with pytest.raises(ValueError, match="give `training`"):
        NegativeSampler(histories, "item", "popularity")
    samples = all_samples(histories, "item")
    with pytest.raises(ValueError, match="negatives=0; a positive needs at least one negative"):
        draw_candidates(samples, NegativeSampler(histories, "item"), 0, torch.Generator())


def test_candidates_begin_with_the_target(tiny_log: EventLog) -> None:
    histories = GroupedHistories.from_log(tiny_log)
    samples = all_samples(histories, "item")
    sampler = NegativeSampler(histories, "item")
    one, two, again = (draw_candidates(samples, sampler, 30, torch.Generator().manual_seed(s)) for s in (0, 1, 0))
    assert one.shape == (len(samples), 31)
    assert torch.equal(one[:, 0], samples.objects)
    assert torch.equal(two[:, 0], samples.objects)
    assert torch.equal(one, again)
    assert not torch.equal(one, two)
    assert not (one[:, 1:] == one[:, :1]).any()
