"""Checkers for chapter 5: shares by hand, attention weights with a mask, the bilinear score, its cost, and places."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from atrank_book.check.verdict import Mistake, answered, checker, fitting

Weights = Callable[
    [Float[Tensor, "q s"], Float[Tensor, "t s"], Bool[Tensor, " t"]],
    Float[Tensor, "q t"],
]
Bilinear = Callable[
    [Float[Tensor, "n s"], Float[Tensor, "s d"], Float[Tensor, "n d"]],
    tuple[Float[Tensor, "n n"], Float[Tensor, "n n"]],
]


def tensor(value: object, shape: tuple[int, ...], what: str) -> Tensor:
    """``value`` if it is a tensor of ``shape``; a ``Mistake`` that names both shapes otherwise."""
    value = answered(value)
    if not isinstance(value, Tensor):
        raise Mistake(f"{what} should be a tensor, not a {type(value).__name__}")
    if value.shape != shape:
        raise Mistake(f"{what} has shape {list(value.shape)}, but should have {list(shape)}")
    return value


def same(a: Tensor, b: Tensor) -> bool:
    """Equal up to rounding; NaN equals NaN."""
    return a.shape == b.shape and torch.allclose(a, b, atol=1e-5, equal_nan=True)


@checker
def shares(answer: Any) -> str:
    """Four shares of attention for the scores 0, ln 2, ln 5 and a place of padding with score 0."""
    if not isinstance(answered(answer), list | tuple | Tensor):
        raise Mistake(f"four numbers are wanted, as in [0.5, 0.5, 0, 0]; got {answer!r}")
    found = torch.as_tensor([float(share) for share in answer], dtype=torch.float64)
    if len(found) != 4:
        raise Mistake(f"{len(found)} numbers for four keys: padding gets a share too, namely which?")
    size = torch.tensor([1.0, 2.0, 5.0, 0.0], dtype=torch.float64)  # exponentials; padding has none
    scores = torch.tensor([1.0, 2.0, 5.0, 1.0], dtype=torch.float64).log()
    for hint, wrong in (
        ("padding takes a share: exp(0) = 1 is not nothing; leave it out of the sum", scores.softmax(0)),
        (
            "padding is set to zero after the division, so the shares no longer sum to one",
            scores.softmax(0) * (size > 0),
        ),
        ("these are the exponentials; divide each by their sum", size),
        ("these are the scores; a share is exp(score) divided by the sum of all exp(score)", scores),
        ("the scores are divided by their sum; take their exponentials first", scores / scores.sum()),
        ("all goes to the best key; a softmax gives every real key something", (size == 5).double()),
        ("the scores are divided by sqrt(s), as in the Transformer; the paper has no scale", _scaled(size)),
    ):
        if torch.allclose(found, wrong, atol=5e-3):
            raise Mistake(hint)
    if abs(float(found.sum()) - 1) > 5e-3:
        raise Mistake(f"the shares sum to {float(found.sum()):.3f}; those of one query sum to one")
    if not torch.allclose(found, size / 8, atol=5e-3):
        raise Mistake(f"got {_row(found)}: the exponentials of ln 2 and ln 5 are 2 and 5, that of 0 is 1")
    return "right: 1, 2 and 5 parts of 8, and nothing for padding"


def _scaled(size: Float[Tensor, " t"]) -> Float[Tensor, " t"]:
    """Shares if the scores were divided by the square root of two dimensions."""
    return (size.log() / 2**0.5).softmax(0)


@checker
def weights(answer: Weights) -> str:
    """Shares of attention of 3 queries over 5 keys of which 2 are padding."""
    random = torch.Generator().manual_seed(0)
    queries, keys = torch.randn(3, 4, generator=random), torch.randn(5, 4, generator=random)
    mask = torch.tensor([True, False, True, True, False])
    scores = queries @ keys.T
    hint = "each query meets each key, and the mask lies along the keys, the last axis"
    found = tensor(fitting(answer, hint, queries=queries, keys=keys, mask=mask), (3, 5), "the result")
    minus = float("-inf")
    right = scores.masked_fill(~mask, minus).softmax(1)
    late = scores.softmax(1) * mask
    hints = [
        ("the padding takes a share: the mask is not used", scores.softmax(1)),
        (
            "padding shares are zeroed after the softmax, so that a row no longer sums to one; "
            "set the scores to -inf before the softmax",
            late,
        ),
        ("the mask is the wrong way round: True marks a real key", scores.masked_fill(mask, minus).softmax(1)),
        (
            "the softmax runs over the queries; each query's shares should sum to one, over the keys",
            scores.masked_fill(~mask, minus).softmax(0),
        ),
        (
            "the softmax runs over the queries; each query's shares should sum to one, over the keys",
            scores.softmax(0) * mask,
        ),
        (
            "the scores are divided by sqrt(s), as in the Transformer; the paper's bilinear score has no scale",
            (scores / 2).masked_fill(~mask, minus).softmax(1),
        ),
        (
            "masked scores are set to 0, and exp(0) = 1 is still a share; set them to -inf",
            scores.masked_fill(~mask, 0).softmax(1),
        ),
        ("these are the scores; the softmax over the keys is missing", scores.masked_fill(~mask, minus)),
        ("these are the scores; neither mask nor softmax is applied", scores),
    ]
    if not same(found, right):
        for hint, wrong in hints:
            if same(found, wrong):
                raise Mistake(hint)
        raise Mistake(f"row 0 is {_row(found[0])}, but should be {_row(right[0])}")
    empty = tensor(answer(queries, keys, torch.zeros(5, dtype=torch.bool)), (3, 5), "the result without any real key")
    if empty.isnan().any():
        raise Mistake("right where some key is real, but NaN where none is: a softmax over nothing; return zeros")
    if empty.abs().max() > 1e-6:
        raise Mistake("right where some key is real, but padding gets a share where none is; return zeros")
    return "right: rows sum to one over the real keys, and an empty history gets zeros"


def _row(row: Tensor) -> str:
    return "(" + ", ".join(f"{value:.3f}" for value in row.tolist()) + ")"


@checker
def bilinear(answer: Bilinear) -> str:
    """Both sides of ``S_k W S^T = S_k (S W^T)^T`` for 4 behaviors, s = 2, d = 3."""
    random = torch.Generator().manual_seed(0)
    S_k, W, S = (torch.randn(shape, generator=random) for shape in ((4, 2), (2, 3), (4, 3)))
    hint = "W leads from the dimensions of S_k to those of S, and its transpose leads back"
    result = answered(fitting(answer, hint, S_k=S_k, W=W, S=S))
    if not isinstance(result, tuple | list) or len(result) != 2:
        raise Mistake("return a pair: the scores from the left, and the scores with keys first")
    right = S_k @ W @ S.T
    for part, what in zip(result, ("from the left", "keys first"), strict=True):
        found = tensor(part, (4, 4), f"the score {what}")
        if same(found, right):
            continue
        for hint, wrong in (
            ("is transposed: row i should hold what behavior i takes, so queries stand on the left", right.T),
            ("went through a softmax; the exercise asks for the scores", right.softmax(1)),
            ("is divided by sqrt(s); the paper's score has no scale", right / 2**0.5),
            ("went through a relu; scores may be negative", right.relu()),
            ("went through a relu on the keys; only queries and values do in the paper", S_k @ (S @ W.T).relu().T),
        ):
            if same(found, wrong):
                raise Mistake(f"the score {what} {hint}")
        raise Mistake(f"the score {what} is {found[0, 0]:.3f} for the first pair, but should be {right[0, 0]:.3f}")
    return "right: both ways give the same scores, the second with keys of s dimensions"


@checker
def comparing(answer: Callable[[int, int, int, int], int]) -> str:
    """Multiplications of ``queries @ keys.T`` and ``A @ values`` over all spaces and users."""
    b, n, K, s = 5, 7, 4, 3
    found, right = int(answered(answer(b, n, K, s))), b * K * 2 * n * n * s
    for hint, wrong in (
        ("this is the comparing alone; mixing, A @ values, costs as much again", right // 2),
        ("this is one space; there are K", right // K),
        ("this is one user; there are b", right // b),
        ("this compares in all d = K s dimensions in every space; keys are projected to s dimensions first", right * K),
        (
            "this compares in d = K s dimensions and mixes in s; keys are projected to s dimensions first",
            b * K * n * n * (K * s + s),
        ),
        ("this compares behaviors across users; each user's behaviors see each other only", right * b),
        ("this counts n pairs; every behavior is compared with every behavior", right // n),
        ("this adds the projections to queries, keys and values", right + 3 * b * n * (K * s) ** 2),
        ("this counts each pair once; A is not symmetric, so both directions are computed", right * (n + 1) // (2 * n)),
    ):
        if found != right and found == wrong:
            raise Mistake(f"{hint} (got {found}, expected {right})")
    if found != right:
        raise Mistake(f"for b={b}, n={n}, K={K}, s={s} it is {right}, but the answer is {found}")
    return f"right: 2 b n^2 d = {right} for b={b}, n={n}, d={K * s}, whatever the number of spaces"


@checker
def with_positions(answer: Callable[[Float[Tensor, "n d"]], Float[Tensor, "n d"]]) -> str:
    """Whether a vector is added that depends on the place alone, and differs between places."""
    random = torch.Generator().manual_seed(0)
    first, second = torch.randn(6, 4, generator=random), torch.randn(6, 4, generator=random)
    kept = first.clone()
    torch.manual_seed(0)
    result = tensor(answer(first), (6, 4), "the result")
    if not torch.equal(first, kept):
        raise Mistake("the input was changed in place; work on a copy, as in S + ...")
    added = result - first
    torch.manual_seed(1)
    again = tensor(answer(second), (6, 4), "the result") - second
    if added.abs().max() < 1e-6:
        raise Mistake("nothing is added: the rows are as before")
    if torch.allclose(added, added[:1].expand_as(added), atol=1e-5):
        raise Mistake("every row gets the same vector, so a permutation still goes unnoticed; let it depend on the row")
    if not torch.allclose(added, again, atol=1e-4):
        raise Mistake("what is added depends on the behaviors, or on chance; it should depend on the place alone")
    if any(torch.allclose(added[i], added[j], atol=1e-4) for i in range(6) for j in range(i)):
        raise Mistake("two places get the same vector; to attention they can still be exchanged")
    return "right: the order is broken; shuffled inputs no longer give shuffled outputs"
