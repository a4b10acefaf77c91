"""Chapter 5's checkers: the solutions pass, and each plausible mistake gets the hint that it deserves."""

from __future__ import annotations

import pytest
import torch

from atrank_book.check import attention
from tests.book.check.hints import assert_hint

INF = float("-inf")


def right_weights(queries, keys, mask):
    if not mask.any():
        return torch.zeros(len(queries), len(keys))
    return (queries @ keys.T).masked_fill(~mask, INF).softmax(dim=1)


def right_bilinear(S_k, W, S):
    return (S_k @ W) @ S.T, S_k @ (S @ W.T).T


def right_positions(S):
    return S + torch.arange(len(S))[:, None] * 0.1


def in_place(S):
    S += torch.arange(len(S))[:, None]
    return S


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (attention.weights, right_weights),
        # zeroed after the softmax, but normalized again: as good
        (
            attention.weights,
            lambda q, k, m: torch.nan_to_num(
                ((q @ k.T).softmax(1) * m) / ((q @ k.T).softmax(1) * m).sum(1, keepdim=True), nan=0.0
            ),
        ),
        (attention.bilinear, right_bilinear),
        (attention.comparing, lambda b, n, K, s: 2 * b * K * n * n * s),
        (attention.with_positions, right_positions),
    ],
)
def test_a_right_answer_passes(check, answer):
    verdict = check(answer)
    assert verdict, verdict
    assert repr(verdict).startswith("✓ right")


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda q, k, m: (q @ k.T).softmax(1), "mask is not used"),
        (lambda q, k, m: (q @ k.T).softmax(1) * m, "after the softmax"),
        (lambda q, k, m: (q @ k.T).masked_fill(m, INF).softmax(1), "wrong way round"),
        (lambda q, k, m: (q @ k.T).masked_fill(~m, INF).softmax(0), "over the queries"),
        (lambda q, k, m: (q @ k.T).softmax(0) * m, "over the queries"),
        (lambda q, k, m: (q @ k.T / q.shape[1] ** 0.5).masked_fill(~m, INF).softmax(1), "sqrt"),
        (lambda q, k, m: (q @ k.T).masked_fill(~m, 0).softmax(1), "exp(0) = 1"),
        (lambda q, k, m: (q @ k.T).masked_fill(~m, INF), "softmax over the keys is missing"),
        (lambda q, k, m: q @ k.T, "neither mask nor softmax"),
        (lambda q, k, m: (q @ k.T).masked_fill(~m, INF).softmax(1), "NaN where none is"),
        (lambda q, k, m: (q @ k.T).masked_fill(~m, -1e9).softmax(1), "padding gets a share where none is"),
        (lambda q, k, m: (k @ q.T).softmax(0), "has shape [5, 3], but should have [3, 5]"),
        (lambda q, k, m: torch.full((3, 5), 0.2), "row 0 is (0.200"),
        (lambda q, k, m: [0.2] * 5, "a tensor, not a list"),
        (lambda q, k, m: q @ k, "queries [3, 4], keys [5, 4], mask [5]; each query meets each key"),
        (
            lambda q, k, m: (q @ k.T).masked_fill(~m[:, None], INF).softmax(1),
            "the mask lies along the keys, the last axis",
        ),
        (lambda q, k, m: (q @ k.T)[m].softmax(1), "the shapes do not fit (The shape of the mask [5]"),
        (lambda q, k, m: q[:, 9], "your code raised IndexError"),
    ],
)
def test_weights(answer, hint):
    assert_hint(attention.weights(answer), hint)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda S_k, W, S: S_k @ W @ S.T, "return a pair"),
        (lambda S_k, W, S: (S_k @ W @ S.T, (S @ W.T) @ S_k.T), "keys first is transposed"),
        (lambda S_k, W, S: ((S_k @ W @ S.T).softmax(1),) * 2, "from the left went through a softmax"),
        (lambda S_k, W, S: (S_k @ W @ S.T / 2**0.5,) * 2, "from the left is divided by sqrt(s)"),
        (lambda S_k, W, S: ((S_k @ W @ S.T).relu(),) * 2, "scores may be negative"),
        (lambda S_k, W, S: (S_k @ W @ S.T, S_k @ (S @ W.T).relu().T), "keys first went through a relu on the keys"),
        (lambda S_k, W, S: (S_k @ W @ S.T, 2 * S_k @ (S @ W.T).T), "for the first pair"),
        (lambda S_k, W, S: (S_k @ W, S @ W.T), "has shape [4, 3], but should have [4, 4]"),
        (lambda S_k, W, S: (S_k @ W.T @ S.T,) * 2, "S_k [4, 2], W [2, 3], S [4, 3]; W leads from"),
        (lambda S_k, W, S: (S_k @ W @ S.T, S_k @ (S @ W).T), "its transpose leads back"),
        (lambda S_k, W, S: S_k.nothing, "your code raised AttributeError"),
    ],
)
def test_bilinear(answer, hint):
    assert_hint(attention.bilinear(answer), hint)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda b, n, K, s: b * K * n * n * s, "comparing alone"),
        (lambda b, n, K, s: 2 * b * n * n * s, "one space"),
        (lambda b, n, K, s: 2 * K * n * n * s, "one user"),
        (lambda b, n, K, s: 2 * b * K * n * n * (K * s), "in every space"),
        (lambda b, n, K, s: b * K * n * n * (K * s) + b * K * n * n * s, "mixes in s"),
        (lambda b, n, K, s: 2 * (b * n) ** 2 * K * s, "across users"),
        (lambda b, n, K, s: 2 * b * K * n * s, "n pairs"),
        (lambda b, n, K, s: 2 * b * K * n * n * s + 3 * b * n * (K * s) ** 2, "adds the projections"),
        (lambda b, n, K, s: 2 * b * K * (n * (n + 1) // 2) * s, "each pair once"),
        (lambda b, n, K, s: 1, "but the answer is 1"),
    ],
)
def test_comparing(answer, hint):
    assert_hint(attention.comparing(answer), hint)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda S: S.clone(), "nothing is added"),
        (in_place, "changed in place"),
        (lambda S: S + torch.ones(S.shape[1]), "every row gets the same vector"),
        (lambda S: S + S.cumsum(0), "depends on the behaviors"),
        (lambda S: S + torch.randn(S.shape), "or on chance"),
        (lambda S: S + (torch.arange(len(S)) % 2)[:, None], "two places get the same vector"),
        (lambda S: torch.cat([S, torch.arange(len(S))[:, None] * 1.0], 1), "has shape [6, 5]"),
    ],
)
def test_with_positions(answer, hint):
    assert_hint(attention.with_positions(answer), hint)


def test_the_comparing_hints_are_told_apart():
    """Every wrong count above is another number, so that no hint shadows another."""
    b, n, K, s = 5, 7, 4, 3
    right = b * K * 2 * n * n * s
    wrong = [
        right // 2, right // K, right // b, right * K, b * K * n * n * (K * s + s), right * b, right // n,
        right + 3 * b * n * (K * s) ** 2, right * (n + 1) // (2 * n),
    ]  # fmt: skip
    assert len({right, *wrong}) == len(wrong) + 1


def test_shares_by_hand():
    assert attention.shares([1 / 8, 1 / 4, 5 / 8, 0])
    assert attention.shares((0.125, 0.25, 0.625, 0.0))
    assert "nothing yet" in attention.shares(...).message


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        ([1 / 9, 2 / 9, 5 / 9, 1 / 9], "padding takes a share"),
        ([1 / 9, 2 / 9, 5 / 9, 0], "after the division"),
        ([1, 2, 5, 0], "divide each by their sum"),
        ([0, 0.693, 1.609, 0], "these are the scores"),
        ([0, 0.301, 0.699, 0], "exponentials first"),
        ([0, 0, 1, 0], "all goes to the best key"),
        ([0.175, 0.286, 0.547 - 0.008, 0], "sqrt(s)"),
        ([0.2, 0.2, 0.2, 0.2], "sum to 0.800"),
        ([0.3, 0.3, 0.4, 0], "got ("),
        ([1 / 8, 2 / 8, 5 / 8], "3 numbers for four keys"),
        (0.5, "four numbers are wanted"),
    ],
)
def test_wrong_shares_get_their_hint(answer, hint):
    assert_hint(attention.shares(answer), hint)
