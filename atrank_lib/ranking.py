"""Ranking a target: the function ``f`` of eq. 8 and the two losses (paper: *Downstream Application Network*)."""

from __future__ import annotations

from typing import Any, Literal

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from atrank_lib.grouping import GroupedHistories
from atrank_lib.noise import Dropout
from atrank_lib.serve.ranker import Ranker

Loss = Literal["pointwise", "pairwise"]


class DotProduct(nn.Module):
    """``f(h_t, e_u) = h_t . e_u``, the paper's choice."""

    def forward(self, target: Float[Tensor, "b c d"], user: Float[Tensor, "b c d"]) -> Float[Tensor, "b c"]:
        return (target * user).sum(dim=-1)


class MLP(nn.Module):
    """``f`` as a network with one hidden layer that reads target, user and their product."""

    def __init__(self, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3 * hidden, hidden), nn.ReLU(), Dropout(dropout), nn.Linear(hidden, 1))

    def forward(self, target: Float[Tensor, "b c d"], user: Float[Tensor, "b c d"]) -> Float[Tensor, "b c"]:
        return self.layers(torch.cat([target, user, target * user], dim=-1)).squeeze(-1)


def pointwise_loss(scores: Float[Tensor, "b c"]) -> Float[Tensor, ""]:
    """Eq. 8: sigmoid cross entropy, mean over all candidates; column 0 holds the positives.

    >>> round(pointwise_loss(torch.tensor([[2.0, -2.0]])).item(), 4)
    0.1269
    """
    labels = torch.zeros_like(scores)
    labels[:, 0] = 1.0
    return nn.functional.binary_cross_entropy_with_logits(scores, labels)


def pairwise_loss(scores: Float[Tensor, "b c"]) -> Float[Tensor, ""]:
    """``-log sigmoid(positive - negative)``, mean over all pairs (Rendle et al., 2009).

    >>> round(pairwise_loss(torch.tensor([[2.0, -2.0]])).item(), 4)
    0.0181
    """
    return -nn.functional.logsigmoid(scores[:, :1] - scores[:, 1:]).mean()


LOSSES = {"pointwise": pointwise_loss, "pairwise": pairwise_loss}


def top_objects(
    model: Any,
    histories: GroupedHistories,
    user_id: str,
    group: str,
    top: int = 10,
    *,
    at: int | None = None,
    include_seen: bool = False,
    chunk: int = 4_096,
) -> pd.DataFrame:
    """The ``top`` objects of ``group`` for one user, best first: columns rank, object_id, score.

    For more than one user make a ``Ranker`` once and ask it again: most of the work here is the objects' side, which
    is the same for all users.

    Args:
        at: moment of ranking, in the schema's timestamp_unit; by default just after the log's last behavior.
            Only earlier behaviors are read.
        include_seen: also rank objects of the group that the user touched before.
        chunk: how many objects are scored at a time.

    Raises:
        KeyError: the log has no such user.
        ValueError: unknown group, or ``top`` below 1.

    >>> from atrank_lib import ATRank
    >>> from data_scripts.simulate import MarketplaceConfig, simulate
    >>> histories = GroupedHistories.from_log(simulate(MarketplaceConfig(users=40)).log)
    >>> model = ATRank(histories.schema, histories.vocabularies)
    >>> top_objects(model, histories, "user0", "item", top=3).columns.tolist()
    ['rank', 'object_id', 'score']
    """
    return Ranker(model, histories, group, chunk=chunk).top(user_id, top, at=at, include_seen=include_seen)
