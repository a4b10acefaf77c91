"""Checkers for chapter 6: the pair-wise loss, and attention of targets to behaviors."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from atrank_book.check.verdict import Mistake, answered, checker, fitting

PairwiseLoss = Callable[[Float[Tensor, "b c"]], Float[Tensor, ""]]
Read = Callable[
    [Float[Tensor, "c s"], Float[Tensor, "t s"], Float[Tensor, "t s"], Bool[Tensor, " t"]],
    Float[Tensor, "c s"],
]


def _log_sigmoid(x: Tensor) -> Tensor:
    return torch.nn.functional.logsigmoid(x)


@checker
def pairwise(answer: PairwiseLoss) -> str:
    """The pair-wise loss of 2 samples with 3 candidates each; column 0 holds the positives."""
    scores = torch.tensor([[2.0, 0.5, -1.0], [0.0, 1.0, 0.3]])
    found = _number(answer(scores))
    gaps = scores[:, :1] - scores[:, 1:]
    right = float(-_log_sigmoid(gaps).mean())
    labels = torch.zeros_like(scores)
    labels[:, 0] = 1.0
    cross_entropy = torch.nn.functional.binary_cross_entropy_with_logits
    for hint, wrong in (
        ("the minus is missing: the loss falls as the order gets worse", _log_sigmoid(gaps).mean()),
        ("negative minus positive: this loss wants negatives above the positive", -_log_sigmoid(-gaps).mean()),
        ("the minus is missing, and negatives come first in the difference", _log_sigmoid(-gaps).mean()),
        ("this is the sum over pairs; take the mean, or the step grows with the batch", -_log_sigmoid(gaps).sum()),
        (
            "this sums over the negatives of a sample; take the mean over all pairs",
            -_log_sigmoid(gaps).sum(1).mean(),
        ),
        (
            "positives are compared with themselves, which adds log 2 that nothing can lower; leave column 0 out",
            -_log_sigmoid(scores[:, :1] - scores).mean(),
        ),
        ("this is the point-wise loss, eq. 8; compare scores in pairs", cross_entropy(scores, labels)),
        ("sigmoid without the logarithm", -torch.sigmoid(gaps).mean()),
        ("the logarithm is missing: this is the mean of 1 - sigmoid", 1 - torch.sigmoid(gaps).mean()),
        (
            "positives are compared with the negatives of other samples too; another user's scores say nothing",
            -_log_sigmoid(scores[:, :1, None] - scores[None, :, 1:]).mean(),
        ),
        (
            "only the last negative of each sample is used; all of columns 1, 2, ... are negatives",
            -_log_sigmoid(scores[:, 0] - scores[:, -1]).mean(),
        ),
        (
            "only the first negative of each sample is used; all of columns 1, 2, ... are negatives",
            -_log_sigmoid(scores[:, 0] - scores[:, 1]).mean(),
        ),
    ):
        if abs(found - float(wrong)) < 1e-5:
            raise Mistake(f"{hint} (got {found:.4f}, expected {right:.4f})")
    if not abs(found - right) < 1e-5:
        raise Mistake(f"got {found:.4f} where the mean over the four pairs is {right:.4f}")
    extreme = _number(answer(torch.tensor([[-200.0, 200.0]])))
    if not abs(extreme - 400) < 1:
        raise Mistake(
            f"right for small scores, but {extreme} for scores of -200 and 200, where it is 400: "
            "log(sigmoid(x)) underflows; use torch.nn.functional.logsigmoid"
        )
    return f"right: {right:.4f}, the mean over four pairs, and finite for extreme scores"


def _number(value: object) -> float:
    value = answered(value)
    if isinstance(value, Tensor) and value.numel() != 1:
        raise Mistake(f"the loss should be one number, but has shape {list(value.shape)}; take the mean over all pairs")
    return float(value)  # type: ignore[arg-type]


@checker
def read(answer: Read) -> str:
    """What 3 targets take from 4 behaviors of which 1 is padding."""
    random = torch.Generator().manual_seed(0)
    targets, keys, values = (torch.randn(n, 2, generator=random) for n in (3, 4, 4))
    mask = torch.tensor([True, True, False, True])
    hint = "each target meets each key, and the mask lies along the behaviors, the last axis of the scores"
    found = answered(fitting(answer, hint, targets=targets, keys=keys, values=values, mask=mask))
    if not isinstance(found, Tensor):
        raise Mistake(f"the result should be a tensor, not a {type(found).__name__}")
    if found.shape != (3, 2):
        raise Mistake(f"the result has shape {list(found.shape)}, but each of the 3 targets takes a vector: [3, 2]")
    scores, minus = targets @ keys.T, float("-inf")
    hidden = scores.masked_fill(~mask, minus)
    right = hidden.softmax(1) @ values
    together = torch.cat([scores, targets @ targets.T], dim=1)
    visible = torch.cat([mask, torch.ones(3, dtype=torch.bool)])
    leaked = together.masked_fill(~visible, minus).softmax(1) @ torch.cat([values, targets])
    over_candidates = "the softmax runs over the candidates, so that they compete for a behavior; each target alone "
    hints = [
        ("padding is read as if it were a behavior: the mask is not used", scores.softmax(1) @ values),
        (
            "the mask is the wrong way round: True marks a real behavior",
            scores.masked_fill(mask, minus).softmax(1) @ values,
        ),
        (f"{over_candidates}shares itself out over the behaviors", hidden.softmax(0) @ values),
        (f"{over_candidates}shares itself out over the behaviors", scores.softmax(0) @ values),
        (f"{over_candidates}shares itself out over the behaviors", (scores.softmax(0) * mask) @ values),
        (
            "masked scores are set to 0, and exp(0) = 1 is still a share; set them to -inf",
            scores.masked_fill(~mask, 0).softmax(1) @ values,
        ),
        ("padding is zeroed after the softmax; the shares no longer sum to one", (scores.softmax(1) * mask) @ values),
        ("keys are mixed; they say where to look, values say what is there", hidden.softmax(1) @ keys),
        ("the scores are divided by sqrt(s); the paper's has no scale", (hidden / 2**0.5).softmax(1) @ values),
        ("the softmax is missing: behaviors are mixed by their raw scores", (scores * mask) @ values),
        (
            "every target gets the same vector: the shares are averaged over the candidates",
            (hidden.softmax(1).mean(0, keepdim=True) @ values).expand(3, 2),
        ),
        ("the target itself is among the behaviors; it would see what it is to predict", leaked),
        ("the target is added to what it reads; eq. 7 has no residual connection", right + targets),
    ]
    if torch.allclose(found, right, atol=1e-5):
        return "right: each target reads the real behaviors, and nothing else"
    for hint, wrong in hints:
        if torch.allclose(found, wrong, atol=1e-5, equal_nan=True):
            raise Mistake(hint)
    got, expected = (", ".join(f"{x:.3f}" for x in row.tolist()) for row in (found[0], right[0]))
    raise Mistake(f"the first target takes ({got}), but should take ({expected})")
