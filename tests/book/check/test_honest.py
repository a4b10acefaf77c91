"""Chapter 10's checkers: the solutions pass, and each plausible mistake gets the hint that it deserves."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import binom

from atrank_book.check import honest
from experiments.full_ranking import recall_at
from tests.book.check.hints import assert_hint


def parts(scores):
    return (scores[:, 1:] > scores[:, :1]).sum(1), (scores[:, 1:] == scores[:, :1]).sum(1)


def right_noise(p, users, negatives):
    return binom.std(users * negatives, p) / (users * negatives)


def right_sampled(rank, objects, negatives, k):
    return binom.cdf(k - 1, negatives, (rank - 1) / (objects - 1))


@pytest.mark.parametrize(
    ("check", "answer"),
    [(honest.draw_noise, right_noise), (honest.recall, recall_at), (honest.sampled_recall, right_sampled)],
)
def test_a_right_answer_passes(check, answer):
    verdict = check(answer)
    assert verdict, verdict


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda s, k: (parts(s)[0] < k).double(), "ties are won"),
        (lambda s, k: (sum(parts(s)) < k).double(), "ties are lost"),
        (lambda s, k: torch.where(parts(s)[1] > 0, 0.5, 1.0) * (parts(s)[0] < k), "a tie always counts half"),
        (lambda s, k: (parts(s)[0] <= k).double(), "one place too many"),
        (lambda s, k: recall_at(s, k).mean(), "one number a sample"),
        (lambda s, k: torch.zeros(5), "expected"),
        (lambda s, k: s.nothing, "your code raised AttributeError"),
    ],
)
def test_wrong_recalls_get_their_hint(answer, hint):
    assert_hint(honest.recall(answer), hint)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda r, o, n, k: float(r <= k), "against all objects"),
        (lambda r, o, n, k: binom.cdf(k, n, (r - 1) / (o - 1)), "sums up to k objects"),
        (lambda r, o, n, k: binom.cdf(k - 1, n, r / (o - 1)), "counts the positive itself"),
        (lambda r, o, n, k: binom.cdf(k - 1, n, (r - 1) / o), "the positive is no negative"),
        (lambda r, o, n, k: 0.25, "expected"),
    ],
)
def test_wrong_sampled_recalls_get_their_hint(answer, hint):
    assert_hint(honest.sampled_recall(answer), hint)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda p, u, m: p * (1 - p) / (u * m), "this is the variance"),
        (lambda p, u, m: (p * (1 - p) / u) ** 0.5, "negatives is missing"),
        (lambda p, u, m: (p * (1 - p) / m) ** 0.5, "users is missing"),
        (lambda p, u, m: (p * (1 - p)) ** 0.5, "noise of a single comparison"),
        (lambda p, u, m: (p * (1 - p)) ** 0.5 / (u * m), "with the root of n"),
        (lambda p, u, m: (p / (u * m)) ** 0.5, "has variance p (1 - p)"),
        (lambda p, u, m: (p * (1 - p) / (u + m)) ** 0.5, "not by their sum"),
        (lambda p, u, m: 0.01, "got 0.0100, expected"),
    ],
)
def test_wrong_noise_gets_its_hint(answer, hint):
    assert_hint(honest.draw_noise(answer), hint)
