"""Checkers for chapter 9: attention between groups, erasure, and the detector AUC with ties."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from atrank_book.check.attention import same, tensor
from atrank_book.check.verdict import Mistake, answered, checker

GroupAttention = Callable[[Float[Tensor, "k n n"], Int[Tensor, " n"], int], Float[Tensor, "g g"]]
Score = Callable[[Float[Tensor, "n d"]], float]
Erase = Callable[[Score, Float[Tensor, "n d"]], Float[Tensor, " n"]]
DetectorAUC = Callable[[Float[Tensor, " n"], int], float]


@checker
def between_groups(answer: GroupAttention) -> str:
    """Self-attention of 5 behaviors of 3 groups in 2 spaces, summed up to what groups take from groups."""
    random = torch.Generator().manual_seed(0)
    weights = torch.randn(2, 5, 5, generator=random).softmax(dim=2)
    groups = torch.tensor([0, 0, 1, 2, 2])
    found = tensor(answer(weights, groups, 3), (3, 3), "the result")
    mine = torch.nn.functional.one_hot(groups, 3).float()  # [n, g]
    mean = weights.mean(dim=0)  # [n, n]
    count = mine.sum(dim=0)  # [g]
    right = (mine.T @ mean @ mine) / count[:, None]
    hints = [
        (
            "rows and columns are exchanged: row i of the attention says what behavior i takes",
            (mine.T @ mean.T @ mine) / count[:, None],
        ),
        ("the table is transposed: rows should be the groups that take", right.T),
        (
            "averaged over the group that is read; sum over its columns, or the rows no longer sum to one",
            (mine.T @ mean @ mine) / count[:, None] / count,
        ),
        (
            "summed over the behaviors of the group that takes; take their mean, or large groups take most",
            right * count[:, None],
        ),
        ("summed over the spaces; take their mean", right * 2),
        ("only the first space is used; take the mean over all", (mine.T @ weights[0] @ mine) / count[:, None]),
    ]
    if not same(found, right):
        for hint, wrong in hints:
            if same(found, wrong):
                raise Mistake(hint)
        raise Mistake(f"row 0 is {_row(found[0])}, but should be {_row(right[0])}")
    return "right: every row sums to one, as the attention of every behavior does"


@checker
def erase(answer: Erase) -> str:
    """Erasure of 4 behaviors under a score that looks at all of them, and at how many there are."""
    history = torch.tensor([[2.0, 0.5], [1.0, -1.0], [0.0, 2.0], [0.5, 0.5]])
    read: list[int] = []

    def score(x: Float[Tensor, "n d"]) -> float:
        read.append(len(x))
        if not len(x):
            return 0.0
        return float(x[:, 0].softmax(dim=0) @ x.sum(dim=1)) + 0.1 * len(x)

    def without(places: list[int]) -> float:
        return score(history[[i for i in range(4) if i not in places]])

    whole = score(history)
    right = torch.tensor([whole - without([j]) for j in range(4)])
    zeroed = history.repeat(4, 1, 1)
    zeroed[torch.arange(4), torch.arange(4)] = 0
    read.clear()
    found = tensor(answer(score, history.clone()), (4,), "the result").float()
    called = bool(read)
    if same(found, right):
        return "right: every behavior was taken out alone, and the score read again"
    for hint, wrong in (
        ("the sign: erasure is how much the score falls, the score with the behavior minus the one without it", -right),
        (
            "these are the scores without each behavior; subtract them from the score of the whole history",
            whole - right,
        ),
        (
            "the behavior is set to zero; a vector of zeros still gets a share of attention: take its row out",
            torch.tensor([whole - score(x) for x in zeroed]),
        ),
        (
            "behaviors stay erased: behavior j should come back before the next one is taken out",
            torch.tensor([whole - without(list(range(j + 1))) for j in range(4)]),
        ),
        (
            "each behavior is scored alone; take it out, and score the others",
            torch.tensor([score(history[j : j + 1]) for j in range(4)]),
        ),
        (
            "divided by the whole score; the fall itself is wanted",
            right / whole,
        ),
    ):
        if same(found, wrong):
            raise Mistake(hint)
    if not called:
        raise Mistake("`score` was never called: erasure is an experiment, the model has to read again")
    raise Mistake(f"got {_row(found)}, expected {_row(right)}")


@checker
def detector_auc(answer: DetectorAUC) -> str:
    """One history: the share of other behaviors that get less suspicion than the cause."""
    for suspicion, cause in (
        ([0.1, 0.4, 0.2, 0.3], 3),
        ([0.4, 0.1, 0.1, 0.1], 0),
        ([0.3, 0.3, 0.1, 0.3], 0),
        ([0.25, 0.25, 0.25, 0.25], 2),
        ([-1.0, 0.5, -2.0], 0),
    ):
        values = torch.tensor(suspicion)
        found = float(answered(answer(values.clone(), cause)))
        others = np.delete(np.array(suspicion), cause)
        above, level = float((others < suspicion[cause]).mean()), float((others == suspicion[cause]).mean())
        right = above + level / 2
        n = len(suspicion)
        for hint, wrong in (
            ("ties are lost; a detector that suspects everybody equally should get one half, not nothing", above),
            ("ties are won; a detector that suspects everybody equally would be perfect", above + level),
            (
                "the cause is compared with itself; leave it out, and divide by the number of others",
                (right * (n - 1) + 0.5) / n,
            ),
            ("divided by all behaviors; the cause is not one of its rivals", right * (n - 1) / n),
            ("the wrong way round: this is how often another behavior is more suspect than the cause", 1 - right),
            (
                "this asks only whether the cause is first; compare it with every other behavior",
                float(suspicion[cause] >= max(suspicion)),
            ),
        ):
            if abs(found - wrong) < 1e-6 < abs(wrong - right):
                raise Mistake(f"{hint} (suspicion {suspicion}, cause {cause}: got {found:.3f}, expected {right:.3f})")
        if abs(found - right) > 1e-6:
            raise Mistake(f"suspicion {suspicion}, cause {cause}: got {found:.3f}, expected {right:.3f}")
    return "right, with ties counted half"


def _row(values: Tensor) -> str:
    return "[" + ", ".join(f"{value:.3f}" for value in values.tolist()) + "]"
