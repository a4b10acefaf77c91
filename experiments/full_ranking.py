"""Judging a model by the whole list: the target among all objects that its user never touched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from scipy.stats import hypergeom
from torch import Tensor

from atrank_lib.batches import Samples
from atrank_lib.grouping import GroupedHistories
from atrank_lib.ranking import Model
from atrank_lib.serve.ranker import Ranker
from experiments.records import pack_whole, unpack_whole


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
    ranker, index = Ranker(model, histories, samples.target_group, chunk=batch_size * chunk), torch.arange(len(samples))
    return torch.cat([listed(ranker.all_scores(samples[i]), histories, samples[i]) for i in index.split(batch_size)])


def listed(
    found: Float[Tensor, "s objects"], histories: GroupedHistories, samples: Samples
) -> Float[Tensor, "s objects_plus_1"]:
    """The target's score in front, and minus infinity where the user touched an object."""
    own = histories.groups[samples.target_group]
    scores = torch.cat([found.gather(1, samples.objects[:, None]), found], dim=1)
    for row, user in enumerate(samples.users.tolist()):
        scores[row, 1 + own.objects[int(own.offsets[user]) : int(own.offsets[user + 1])].long()] = float("-inf")
    return scores


def standing(
    scores_of: Callable[[Samples], Float[Tensor, "s objects"]],
    histories: GroupedHistories,
    samples: Samples,
    users: int,
    seed: int = 0,
    batch_size: int = 8,
) -> dict[str, Any]:
    """Where the targets of some test users stand among all objects, as a record holds it.

    Users are the first of an order that ``seed`` draws, so that fewer users are a part of more. ``scores_of`` has
    the scores of all objects for samples. ``above`` and ``level`` count the objects that score higher, and the same.
    """
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(seed))[:users]
    found = []
    for index in order.split(batch_size):
        found.append(torch.stack(_rivals(listed(scores_of(samples[index]), histories, samples[index]))))
    above, level = torch.cat(found, dim=1)
    return {"users": len(order), "seed": seed, "above": pack_whole(above.numpy()), "level": pack_whole(level.numpy())}


def places(record: dict[str, Any]) -> tuple[Float[Tensor, " users"], Float[Tensor, " users"]]:
    """``above`` and ``level`` of a record of ``standing``."""
    above, level = (torch.from_numpy(unpack_whole(record[name])).double() for name in ("above", "level"))
    return above, level


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
    return recall_of(*_rivals(scores), k)


def ndcg_at(scores: Float[Tensor, "s c"], k: int) -> Float[Tensor, " s"]:
    """``1 / log2(1 + rank)`` of the positive (column 0) if it is among the best ``k``, else 0; a mean over ties.

    With one positive the best possible is 1, so nothing is left to normalize.

    >>> ndcg_at(torch.tensor([[3.0, 2.0, 1.0], [2.0, 3.0, 4.0]]), k=3).round(decimals=4).tolist()
    [1.0, 0.5]
    """
    return ndcg_of(*_rivals(scores), k)


def recall_of(above: Float[Tensor, " s"], level: Float[Tensor, " s"], k: int) -> Float[Tensor, " s"]:
    """``recall_at`` of targets with so many objects above them and level with them."""
    return ((k - above) / (level + 1)).clamp(0, 1)


def sampled(
    above: Float[Tensor, " s"], level: Float[Tensor, " s"], k: int, negatives: int, objects: int
) -> Float[Tensor, " s"]:
    """The chance that a target is among the best ``k`` beside so many of the other ``objects``, drawn without
    replacement: recall among all of them if all are drawn. Of ties, half are above.

    >>> one, none = torch.tensor([1.0]), torch.tensor([0.0])  # one of four others is better
    >>> sampled(one, none, k=1, negatives=2, objects=4).item()  # neither of the two drawn is it
    0.5
    """
    chances = hypergeom.cdf(k - 1, objects, (above + level / 2).round().numpy(), negatives)
    return torch.from_numpy(chances)


def ndcg_of(above: Float[Tensor, " s"], level: Float[Tensor, " s"], k: int) -> Float[Tensor, " s"]:
    """``ndcg_at`` of targets with so many objects above them and level with them."""
    gains = torch.zeros(k + 1, dtype=torch.float64)  # summed over the first 0, 1, ..., k ranks
    gains[1:] = (1 / torch.log2(torch.arange(2, k + 2, dtype=torch.float64))).cumsum(0)
    first, last = above.clamp(max=k).long(), (above + level + 1).clamp(max=k).long()
    return (gains[last] - gains[first]) / (level + 1)
