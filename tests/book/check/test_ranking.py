"""Chapter 6's checkers: the solutions pass, and each plausible mistake gets the hint that it deserves."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import logsigmoid

from atrank_book.check import ranking
from atrank_lib.ranking import pairwise_loss, pointwise_loss
from tests.book.check.hints import assert_hint

INF = float("-inf")


def right_read(targets, keys, values, mask):
    return (targets @ keys.T).masked_fill(~mask, INF).softmax(dim=1) @ values


def leaking_read(targets, keys, values, mask):
    mask = torch.cat([mask, torch.ones(len(targets), dtype=torch.bool)])
    return right_read(targets, torch.cat([keys, targets]), torch.cat([values, targets]), mask)


def fused_read(targets, keys, values, mask):
    attention = torch.nn.functional.scaled_dot_product_attention
    return attention(targets, keys, values, attn_mask=mask.expand(len(targets), -1), scale=1.0)


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (ranking.pairwise, pairwise_loss),
        (ranking.pairwise, lambda s: torch.nn.functional.softplus(s[:, 1:] - s[:, :1]).mean()),
        (ranking.pairwise, lambda s: float(pairwise_loss(s))),
        (ranking.read, right_read),
        (ranking.read, fused_read),
    ],
)
def test_a_right_answer_passes(check, answer):
    verdict = check(answer)
    assert verdict, verdict
    assert repr(verdict).startswith("✓ right")


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda s: logsigmoid(s[:, :1] - s[:, 1:]).mean(), "the minus is missing: the loss falls"),
        (lambda s: -logsigmoid(s[:, 1:] - s[:, :1]).mean(), "negative minus positive"),
        (lambda s: logsigmoid(s[:, 1:] - s[:, :1]).mean(), "the minus is missing, and negatives come first"),
        (lambda s: -logsigmoid(s[:, :1] - s[:, 1:]).sum(), "the sum over pairs"),
        (lambda s: -logsigmoid(s[:, :1] - s[:, 1:]).sum(1).mean(), "sums over the negatives of a sample"),
        (lambda s: -logsigmoid(s[:, :1] - s).mean(), "compared with themselves"),
        (pointwise_loss, "point-wise loss"),
        (lambda s: -torch.sigmoid(s[:, :1] - s[:, 1:]).mean(), "without the logarithm"),
        (lambda s: 1 - torch.sigmoid(s[:, :1] - s[:, 1:]).mean(), "the logarithm is missing"),
        (lambda s: -logsigmoid(s[:, :1, None] - s[None, :, 1:]).mean(), "negatives of other samples"),
        (lambda s: -logsigmoid(s[:, 0] - s[:, -1]).mean(), "only the last negative"),
        (lambda s: -logsigmoid(s[:, 0] - s[:, 1]).mean(), "only the first negative"),
        (lambda s: -logsigmoid(s[:, :1] - s[:, 1:]), "one number, but has shape [2, 2]"),
        (lambda s: -torch.log(torch.sigmoid(s[:, :1] - s[:, 1:])).mean(), "use torch.nn.functional.logsigmoid"),
        (lambda s: s.mean() * float("nan"), "got nan"),
        (lambda s: s.mean(), "mean over the four pairs is"),
        (lambda s: s[:, 5].mean(), "your code raised IndexError"),
    ],
)
def test_pairwise(answer, hint):
    assert_hint(ranking.pairwise(answer), hint)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda q, k, v, m: (q @ k.T).softmax(1) @ v, "mask is not used"),
        (lambda q, k, v, m: right_read(q, k, v, ~m), "wrong way round"),
        (lambda q, k, v, m: (q @ k.T).masked_fill(~m, INF).softmax(0) @ v, "over the candidates"),
        (lambda q, k, v, m: (q @ k.T).softmax(0) @ v, "over the candidates"),
        (lambda q, k, v, m: ((q @ k.T).softmax(0) * m) @ v, "over the candidates"),
        (lambda q, k, v, m: ((q @ k.T).softmax(1) * m) @ v, "zeroed after the softmax"),
        (lambda q, k, v, m: ((q @ k.T) * m).softmax(1) @ v, "exp(0) = 1 is still a share"),
        (lambda q, k, v, m: right_read(q, k, k, m), "keys are mixed"),
        (lambda q, k, v, m: right_read(q / 2**0.5, k, v, m), "sqrt"),
        (lambda q, k, v, m: ((q @ k.T) * m) @ v, "softmax is missing"),
        (
            lambda q, k, v, m: ((q @ k.T).masked_fill(~m, INF).softmax(1).mean(0, keepdim=True) @ v).expand(len(q), -1),
            "same vector",
        ),
        (leaking_read, "the target itself"),
        (lambda q, k, v, m: right_read(q, k, v, m) + q, "no residual"),
        (lambda q, k, v, m: right_read(q[:1], k, v, m), "has shape [1, 2]"),
        (lambda q, k, v, m: right_read(q, k, v, m).tolist(), "a tensor, not a list"),
        (lambda q, k, v, m: (q @ k.T).masked_fill(~m[:, None], INF).softmax(1) @ v, "the last axis of the scores"),
        (
            lambda q, k, v, m: (q.T @ k).softmax(1) @ v,
            "targets [3, 2], keys [4, 2], values [4, 2], mask [4]; each target",
        ),
        (lambda q, k, v, m: torch.zeros(3, 2), "the first target takes (0.000, 0.000)"),
    ],
)
def test_read(answer, hint):
    assert_hint(ranking.read(answer), hint)
