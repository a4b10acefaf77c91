"""Ranking a target: the function ``f`` of eq. 8 and the two losses (paper: *Downstream Application Network*)."""

from __future__ import annotations

from typing import Any, Literal

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from atrank_lib.grouping import GroupedHistories
from atrank_lib.samples import Candidates, build_batch, moments

Loss = Literal["pointwise", "pairwise"]


class DotProduct(nn.Module):
    """``f(h_t, e_u) = h_t . e_u``, the paper's choice."""

    def forward(self, target: Float[Tensor, "b c d"], user: Float[Tensor, "b c d"]) -> Float[Tensor, "b c"]:
        return (target * user).sum(dim=-1)


class MLP(nn.Module):
    """``f`` as a network with one hidden layer that reads target, user and their product."""

    def __init__(self, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3 * hidden, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, 1))

    def forward(self, target: Float[Tensor, "b c d"], user: Float[Tensor, "b c d"]) -> Float[Tensor, "b c"]:
        return self.layers(torch.cat([target, user, target * user], dim=-1)).squeeze(-1)


def pointwise_loss(scores: Float[Tensor, "b c"]) -> Float[Tensor, ""]:
    """Eq. 8: sigmoid cross entropy, mean over all candidates; column 0 holds the positives."""
    labels = torch.zeros_like(scores)
    labels[:, 0] = 1.0
    return nn.functional.binary_cross_entropy_with_logits(scores, labels)


def pairwise_loss(scores: Float[Tensor, "b c"]) -> Float[Tensor, ""]:
    """``-log sigmoid(positive - negative)``, mean over all pairs (Rendle et al., 2009)."""
    return -nn.functional.logsigmoid(scores[:, :1] - scores[:, 1:]).mean()


LOSSES = {"pointwise": pointwise_loss, "pairwise": pairwise_loss}


@torch.no_grad()
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

    The history is encoded once and all objects are scored against it, ``chunk`` at a time.

    Args:
        at: moment of ranking, in the schema's timestamp_unit; by default just after the log's last behavior.
            Only earlier behaviors are read.
        include_seen: also rank objects of the group that the user touched before.

    Raises:
        KeyError: the log has no such user.
        ValueError: unknown group, or ``top`` below 1.
    """
    if top < 1:
        raise ValueError(f"top={top}; ask for at least one object")
    user = histories.user(user_id)
    if at is None:
        at = max(int(g.timestamps.max()) for g in histories.groups.values()) + 1
    samples = moments(histories, group, torch.tensor([user]), torch.tensor([at]))
    rows = torch.arange(len(histories.catalogs[group]))
    if not include_seen:
        own = histories.groups[group]
        end = int(samples.ends[0, list(histories.groups).index(group)])
        seen = own.objects[int(own.offsets[user]) : end].long()
        rows = rows[~torch.isin(rows, seen)]
    if not len(rows):
        return pd.DataFrame({"rank": [], "object_id": [], "score": []})
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    encoding = model.encode(build_batch(histories, samples, rows[None, :1], model.histories).to(device))
    found = []
    for part in rows.split(chunk):
        features = {name: f.to(device) for name, f in histories.catalogs[group].take(part).items()}
        found.append(model.score(encoding, Candidates(group, features, (1, len(part)))).scores[0].cpu())
    scores = torch.cat(found)
    model.train(was_training)
    best = scores.argsort(descending=True, stable=True)[:top]
    ids = histories.catalogs[group].object_ids
    return pd.DataFrame(
        {
            "rank": range(1, len(best) + 1),
            "object_id": [ids[row] for row in rows[best].tolist()],
            "score": scores[best].tolist(),
        }
    )
