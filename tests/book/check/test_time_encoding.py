"""The checkers of chapter 3: the solution passes, and every listed mistake gets its own hint."""

import math

import numpy as np
import pytest
import torch

from atrank_book.check import time_encoding as check
from tests.book.check.hints import assert_hint


def edges(buckets):
    return 2.0 ** torch.arange(buckets - 1)


def solution(units, buckets):
    return torch.bucketize(units, edges(buckets).double(), right=True)


def by_logarithm(units, buckets):
    return (torch.log2(units.clamp(min=0.5)).floor() + 1).clamp(0, buckets - 1).long()


def test_right_buckets_pass():
    assert check.bucketize(solution)
    assert check.bucketize(lambda units, buckets: solution(units, buckets).tolist())
    assert check.bucketize(lambda units, buckets: np.asarray(solution(units, buckets)))


def loop(units, buckets):
    found = []
    for unit in units.tolist():
        bucket, edge = 0, 1.0
        while bucket < buckets - 1 and unit >= edge:
            bucket, edge = bucket + 1, edge * 2
        found.append(bucket)
    return found


def test_a_loop_passes():
    assert check.bucketize(loop)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda units, buckets: None, "nothing yet"),
        (lambda units, buckets: ..., "nothing yet"),
        (lambda units, buckets: (solution(units, buckets) - 1).clamp(min=0), "one too small"),
        (lambda units, buckets: solution(units, buckets) + 1, "one too large"),
        (lambda units, buckets: torch.bucketize(units, edges(buckets).double()), "wrong side"),
        (
            lambda units, buckets: (torch.log(units.clamp(min=0.5)).floor() + 1).clamp(0, buckets - 1).long(),
            "natural logarithm",
        ),
        (
            lambda units, buckets: (torch.log10(units.clamp(min=0.5)).floor() + 1).clamp(0, buckets - 1).long(),
            "base 10",
        ),
        (lambda units, buckets: torch.log2(1 + units).floor().clamp(max=buckets - 1).long(), "1, 3, 7"),
        (
            lambda units, buckets: (torch.log2(units.clamp(min=0.5)).round() + 1).clamp(0, buckets - 1).long(),
            "nearest whole number",
        ),
        (lambda units, buckets: units.floor().clamp(max=buckets - 1).long(), "one unit wide"),
        (lambda units, buckets: (torch.log2(units).floor() + 1).clamp(max=buckets - 1), "logarithm of 0"),
        (lambda units, buckets: (torch.log2(units + 1e-6).floor() + 1).clamp(max=buckets - 1), "all of [0, 1)"),
        (lambda units, buckets: (torch.log2(units.clamp(min=0.5)).floor() + 1).long(), "it is open"),
        (by_logarithm, "rounded across the edge"),
        (lambda units, buckets: solution(units + 1e-9, buckets), "rounded across the edge"),
        (lambda units, buckets: torch.log2(units.clamp(min=1.0)), "whole number"),
        (lambda units, buckets: solution(units, buckets)[:2], "came out"),
        (lambda units, buckets: math.log2(units), "your code raised"),
        (lambda units, buckets: torch.zeros(len(units)), "1 units gave bucket 0"),
    ],
)
def test_wrong_buckets_get_their_hint(answer, hint):
    assert_hint(check.bucketize(answer), hint)


def embed(group, objects, buckets, actions, time_of, action_of):
    return objects + time_of[group][buckets] + action_of[group][actions]


def test_right_embedding_passes():
    assert check.embed(embed)


def test_nothing_is_shared_by_the_answers_table_and_ours():
    """Changing a table in place, as an answer might, does not make a wrong answer right."""

    def in_place(group, objects, buckets, actions, time_of, action_of):
        objects += time_of[group][buckets]
        return objects

    assert_hint(check.embed(in_place), "action is missing")


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda g, o, b, a, t, w: None, "nothing yet"),
        (lambda g, o, b, a, t, w: torch.cat([o, t[g][b], w[g][a]], dim=1), "side by side"),
        (lambda g, o, b, a, t, w: o + t["item"][b] + w[g][a], "time lookups are never shared"),
        (lambda g, o, b, a, t, w: o + t["item"][b] + w["item"][a], "read the items' tables"),
        (lambda g, o, b, a, t, w: o + t[g][b] + w["item"][a], "items' action table"),
        (lambda g, o, b, a, t, w: o, "still to be added"),
        (lambda g, o, b, a, t, w: o + w[g][a], "time is missing"),
        (lambda g, o, b, a, t, w: o + t[g][b], "action is missing"),
        (lambda g, o, b, a, t, w: t[g][b] + w[g][a], "object is missing"),
        (lambda g, o, b, a, t, w: (o + t[g][b] + w[g][a]) / 3, "mean of the three"),
        (lambda g, o, b, a, t, w: o * t[g][b] * w[g][a], "product"),
        (lambda g, o, b, a, t, w: o + t[g][a] + w[g][b.clamp(max=2)], "each other's table"),
        (lambda g, o, b, a, t, w: (o + t[g][b] + w[g][a]).sum(dim=0), "shape (3,)"),
        (lambda g, o, b, a, t, w: o - t[g][b] + w[g][a], "is not object + time + action"),
        (lambda g, o, b, a, t, w: o + t[g][a] + w[g][b], "your code raised IndexError"),
    ],
)
def test_wrong_embeddings_get_their_hint(answer, hint):
    assert_hint(check.embed(answer), hint)


def permuted(elapsed, generator):
    return elapsed[torch.randperm(len(elapsed), generator=generator)]


def shuffle_in_place(elapsed, generator):
    elapsed[:] = permuted(elapsed, generator)
    return elapsed


def test_shuffled_ages_pass_and_an_empty_stub_fails():
    assert check.shuffled(permuted)
    assert check.shuffled(lambda e, g: permuted(e, g).tolist())
    assert "nothing yet" in check.shuffled(lambda e, g: None).message


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda e, g: e.clone(), "keeps its own age"),
        (shuffle_in_place, "in place"),
        (lambda e, g: e[torch.randint(len(e), (len(e),), generator=g)], "with replacement"),
        (lambda e, g: torch.rand(len(e), generator=g) * 900, "new ages"),
        (lambda e, g: e.flip(0), "same for every seed"),
        (lambda e, g: e.sort().values, "same for every seed"),
        (lambda e, g: e[torch.randperm(len(e))], "give `generator`"),
        (lambda e, g: permuted(e, g)[:-1], "10 ages went in"),
    ],
)
def test_wrong_shuffles_get_their_hint(answer, hint):
    assert_hint(check.shuffled(answer), hint)
