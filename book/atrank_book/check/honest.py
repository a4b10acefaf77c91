"""Checkers for chapter 10: the noise of drawn negatives, recall with ties, and what sampling does to it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from atrank_book.check.verdict import Mistake, answered, checker

Recall = Callable[[Float[Tensor, "s c"], int], Float[Tensor, " s"]]
SampledRecall = Callable[[int, int, int, int], float]


@checker
def draw_noise(answer: Callable[[float, int, int], float]) -> str:
    """Standard deviation of the average user AUC over draws of negatives, if all users have the same AUC ``p``."""
    for p, users, negatives in ((0.7, 500, 4), (0.6, 200, 1), (0.9, 50, 20)):
        found = float(answered(answer(p, users, negatives)))
        variance, n = p * (1 - p), users * negatives
        right = math.sqrt(variance / n)
        for hint, wrong in (
            ("this is the variance of the mean; the standard deviation is its root", variance / n),
            ("the number of negatives is missing: every user throws that many coins", math.sqrt(variance / users)),
            ("the number of users is missing: the AUC is a mean over users too", math.sqrt(variance / negatives)),
            (
                "this is the noise of a single comparison; a mean of n coins has the n-th part of the variance",
                variance**0.5,
            ),
            ("the variance shrinks with n, the standard deviation with the root of n", math.sqrt(variance) / n),
            ("a coin that shows 1 with probability p has variance p (1 - p)", math.sqrt(p / n)),
            (
                "users throw independent coins: divide by users * negatives, not by their sum",
                math.sqrt(variance / (users + negatives)),
            ),
        ):
            if math.isclose(found, wrong, rel_tol=1e-6) and not math.isclose(wrong, right, rel_tol=1e-6):
                raise Mistake(
                    f"{hint} (p = {p}, {users} users, {negatives} negatives: got {found:.4f}, expected {right:.4f})"
                )
        if not math.isclose(found, right, rel_tol=1e-6):
            raise Mistake(f"p = {p}, {users} users, {negatives} negatives: got {found:.4f}, expected {right:.4f}")
    return "right: four times the negatives, or the users, halve the noise"


@checker
def recall(answer: Recall) -> str:
    """Recall at k of five samples, one of them with ties."""
    scores = torch.tensor(
        [[3.0, 1.0, 2.0, 0.0], [1.0, 2.0, 3.0, 0.0], [2.0, 2.0, 2.0, 1.0], [0.0, 1.0, 1.0, 3.0], [2.0, 3.0, 1.0, 0.0]]
    )
    for k in (1, 2):
        found = answered(answer(scores, k))
        if not isinstance(found, Tensor) or found.shape != (5,):
            shape = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise Mistake(f"one number a sample is wanted, a tensor of shape [5]; got {shape}")
        positive, others = scores[:, :1], scores[:, 1:]
        above, level = (others > positive).sum(1), (others == positive).sum(1)
        found, right = found.double(), ((k - above).double() / (level + 1)).clamp(0, 1)
        for hint, wrong in (
            ("ties are won: a model that gives every object the same score would be perfect", (above < k).double()),
            (
                "ties are lost: a model that gives every object the same score would never hit",
                (above + level < k).double(),
            ),
            (
                "a tie always counts half; count the chance that a random order of equals puts it among the k",
                torch.where(level > 0, 0.5 * (above < k), (above < k).double()),
            ),
            ("one place too many: `k` objects may be shown, so at most k - 1 may be above", (above <= k).double()),
        ):
            if torch.allclose(found, wrong.double()) and not torch.allclose(wrong.double(), right):
                raise Mistake(f"{hint} (k = {k}: got {found.tolist()}, expected {right.tolist()})")
        if not torch.allclose(found, right):
            raise Mistake(f"k = {k}: got {found.tolist()}, expected {right.tolist()}")
    return "right, with ties counted by their chance"


@checker
def sampled_recall(answer: SampledRecall) -> str:
    """Expected recall at k of a positive of known rank, when only some of the negatives are drawn."""
    for rank, objects, negatives, k in ((1, 100, 10, 1), (20, 101, 20, 5), (51, 1001, 100, 10), (900, 1001, 50, 3)):
        found = float(answered(answer(rank, objects, negatives, k)))
        p = (rank - 1) / (objects - 1)
        right = _binomial_below(k, negatives, p)
        for hint, wrong in (
            (
                "this is the recall against all objects; the candidates are only the positive and the drawn negatives",
                float(rank <= k),
            ),
            (
                "this sums up to k objects above the positive; with k above it, it is no longer shown",
                _binomial_below(k + 1, negatives, p),
            ),
            (
                "`rank` counts the positive itself: only rank - 1 objects are above it",
                _binomial_below(k, negatives, rank / (objects - 1)),
            ),
            (
                "the positive is no negative: draw among the other objects - 1",
                _binomial_below(k, negatives, (rank - 1) / objects),
            ),
        ):
            if abs(found - wrong) < 1e-9 < abs(wrong - right):
                raise Mistake(
                    f"{hint} (rank {rank} of {objects}, {negatives} negatives, k = {k}: got {found:.4f}, "
                    f"expected {right:.4f})"
                )
        if not abs(found - right) < 1e-6:
            raise Mistake(
                f"rank {rank} of {objects}, {negatives} negatives, k = {k}: got {found:.4f}, expected {right:.4f}"
            )
    return "right: the chance that fewer than k of the drawn negatives are above the positive"


def _binomial_below(k: int, n: int, p: float) -> float:
    """P(fewer than k successes in n draws)."""
    chance, total = (1 - p) ** n, 0.0
    for i in range(min(k, n + 1)):
        total += chance
        chance = chance * (n - i) / (i + 1) * p / (1 - p)
    return float(np.clip(total, 0, 1))
