"""Checkers for chapter 7: matrix factorization, a sequence read backward, and a maximum over real places."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from atrank_book.check.verdict import Mistake, answered, checker

Factorized = Callable[[Float[Tensor, "b d"], Float[Tensor, "b c d"], Float[Tensor, "b c"]], Float[Tensor, "b c"]]
Backward = Callable[[Float[Tensor, "b t d"], Int[Tensor, " b"]], Float[Tensor, "b t d"]]
MaxOver = Callable[[Float[Tensor, "b t d"], Bool[Tensor, "b t"]], Float[Tensor, "b d"]]


@checker
def mf_scores(answer: Factorized) -> str:
    """Scores of 3 users for 3 candidates each: as many users as candidates, so that axes can be mixed up."""
    random = torch.Generator().manual_seed(0)
    users, objects, biases = (torch.randn(shape, generator=random) for shape in ((3, 2), (3, 3, 2), (3, 3)))
    found = _tensor(answer(users.clone(), objects.clone(), biases.clone()), (3, 3))
    products = torch.einsum("bd,bcd->bc", users, objects)
    right = products + biases
    for hint, wrong in (
        ("the bias is missing: an object may be liked by everybody", products),
        ("the mean over dimensions is taken; an inner product is a sum", products / 2 + biases),
        (
            "candidate c is scored by the vector of user c, whoever asks: put users[:, None] before the product, "
            "so that a row belongs to one user",
            torch.einsum("cd,bcd->bc", users, objects) + biases,
        ),
        ("the result is transposed: a row is a user, a column a candidate", right.T),
        ("a sigmoid is applied; the pair-wise loss takes the bare score", right.sigmoid()),
        ("the bias is subtracted; it is added", products - biases),
        ("the biases alone: every user would get the same list", biases),
    ):
        if torch.allclose(found, wrong, atol=1e-5):
            raise Mistake(hint)
    if not torch.allclose(found, right, atol=1e-5):
        raise Mistake(f"the first user's scores are {found[0].tolist()}, but should be {right[0].tolist()}")
    return "right: one vector for each user, whatever the user did, and a bias for each object"


@checker
def backward(answer: Backward) -> str:
    """Three padded sequences of lengths 4, 2 and 0, each reversed within its own length."""
    x = torch.arange(1.0, 25.0).view(3, 4, 2)
    lengths = torch.tensor([4, 2, 0])
    real = torch.arange(4) < lengths[:, None]
    x = x * real[..., None]
    before = x.clone()
    found = _tensor(answer(x, lengths), (3, 4, 2))
    right = torch.zeros_like(x)
    for row, length in enumerate(lengths.tolist()):
        right[row, :length] = before[row, :length].flip(0)
    if not torch.equal(x, before):
        raise Mistake("the input was changed in place; make a new tensor, or the forward direction reads it reversed")
    if torch.equal(found, before.flip(1)):
        raise Mistake(
            "the whole row is flipped, padding first: the backward direction would begin with places that hold "
            "no behavior. Reverse the first `length` places alone"
        )
    if torch.equal(found, before):
        raise Mistake("nothing is reversed")
    if torch.equal(found, before.flip(2)):
        raise Mistake("the dimensions of each behavior are reversed, not the behaviors")
    if torch.equal(found[real], right[real]) and not torch.equal(found, right):
        raise Mistake("right for what is real, but places beyond a sequence's length should stay zero")
    if not torch.equal(found, right):
        raise Mistake(
            f"the second sequence, of length 2, became {found[1, :, 0].tolist()}, not {right[1, :, 0].tolist()}"
        )
    return "right: each sequence is reversed within its own length"


@checker
def max_over(answer: MaxOver) -> str:
    """The maximum over real places; three samples, all values negative, the last one without any behavior."""
    x = -torch.tensor([[[1.0, 2.0], [3.0, 0.5], [0.0, 0.0]], [[4.0, 5.0], [0.0, 0.0], [0.0, 0.0]], [[0.0, 0.0]] * 3])
    mask = torch.tensor([[True, True, False], [True, False, False], [False, False, False]])
    found = _tensor(answer(x, mask), (3, 2))
    right = torch.tensor([[-1.0, -0.5], [-4.0, -5.0], [0.0, 0.0]])
    if torch.isinf(found).any():
        raise Mistake("minus infinity for the sample without behaviors: the next layer makes NaN of it; give zero")
    if torch.isnan(found).any():
        raise Mistake("NaN: infinity times zero? Fill first, take the maximum, then set empty samples to zero")
    if torch.equal(found, x.amax(1)):
        raise Mistake("padding takes part: its zeros beat every negative value; leave places with mask False out")
    if torch.equal(found[:2], x.sum(1)[:2] / mask.sum(1, keepdim=True)[:2]):
        raise Mistake("this is the mean over real places, not their maximum")
    if torch.equal(found[:2], x.amin(1)[:2]):
        raise Mistake("this is the minimum")
    if not torch.equal(found, right):
        raise Mistake(f"got {found.tolist()}, expected {right.tolist()}")
    return "right, for negative values and for a sample without behaviors too"


def _tensor(value: Any, shape: tuple[int, ...]) -> Tensor:
    value = answered(value)
    if not isinstance(value, Tensor) or tuple(value.shape) != shape:
        got = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise Mistake(f"a tensor of shape {list(shape)} is wanted; got {got}")
    return value
