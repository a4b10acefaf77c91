"""Judging a model by the whole list: the target among all objects that its user never touched."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from atrank_lib.batches import Samples
from atrank_lib.grouping import GroupedHistories
from atrank_lib.ranking import Model
from atrank_lib.serve.ranker import Ranker


def score_all(
    model: Model,
    histories: GroupedHistories,
    samples: Samples,
    batch_size: int = 64,
    chunk: int = 2_048,
) -> Float[Tensor, "s c"]:
    """Scores of a sample's target (column 0) and of every object of its group that its user never touched.

    The target and the touched objects stand among the others as minus infinity, so that ``c`` is one more than the
    number of objects. Histories are encoded once, objects scored ``chunk`` at a time.

    >>> score_all(model, histories, split(histories).test["item"][:2]).shape  # the target, and 1,000 items
    torch.Size([2, 1001])
    """
    ranker = Ranker(model, histories, samples.target_group, chunk=batch_size * chunk)
    own = histories.groups[samples.target_group]
    scores = torch.empty(len(samples), len(ranker.objects) + 1)
    for index in torch.arange(len(samples)).split(batch_size):
        some = samples[index]
        found = ranker.all_scores(some)
        scores[index, 0] = found.gather(1, some.objects[:, None])[:, 0]
        for row, user in enumerate(some.users.tolist()):
            found[row, own.objects[int(own.offsets[user]) : int(own.offsets[user + 1])].long()] = float("-inf")
        scores[index, 1:] = found
    return scores


def _rivals(scores: Float[Tensor, "s c"]) -> tuple[Float[Tensor, " s"], Float[Tensor, " s"]]:
    """How many candidates are above the positive in column 0, and how many are level with it."""
    positive, others = scores[:, :1], scores[:, 1:]
    if bool(torch.isnan(scores).any()):
        raise ValueError("a score is NaN; a model must rank every candidate")
    return (others > positive).sum(dim=1).double(), (others == positive).sum(dim=1).double()


def recall_at(scores: Float[Tensor, "s c"], k: int) -> Float[Tensor, " s"]:
    """Whether the positive (column 0) is among the best ``k``: 1, 0, or with ties the chance that it is.

    >>> recall_at(torch.tensor([[2.0, 3.0, 1.0], [2.0, 2.0, 1.0], [0.0, 1.0, 2.0]]), k=1).tolist()
    [0.0, 0.5, 0.0]
    """
    above, level = _rivals(scores)
    return ((k - above) / (level + 1)).clamp(0, 1)


def ndcg_at(scores: Float[Tensor, "s c"], k: int) -> Float[Tensor, " s"]:
    """``1 / log2(1 + rank)`` of the positive (column 0) if it is among the best ``k``, else 0; a mean over ties.

    With one positive the best possible is 1, so nothing is left to normalize.

    >>> ndcg_at(torch.tensor([[3.0, 2.0, 1.0], [2.0, 3.0, 4.0]]), k=3).round(decimals=4).tolist()
    [1.0, 0.5]
    """
    above, level = _rivals(scores)
    gains = torch.zeros(k + 1, dtype=torch.float64)  # summed over the first 0, 1, ..., k ranks
    gains[1:] = (1 / torch.log2(torch.arange(2, k + 2, dtype=torch.float64))).cumsum(0)
    first, last = above.clamp(max=k).long(), (above + level + 1).clamp(max=k).long()
    return (gains[last] - gains[first]) / (level + 1)
