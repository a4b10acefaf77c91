"""Deep Interest Network (Zhou et al., 2018): each behavior is weighted by a small network that also sees the target."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from atrank_lib.batches import Batch, Candidates, Packing
from atrank_lib.competitors.base import Competitor
from atrank_lib.ranking import Scores
from atrank_lib.variants import BehaviorOptions


class DINConfig(BehaviorOptions):
    """Sizes and choices of a DIN."""

    normalized: bool = Field(False, description="weights of a sample's behaviors sum to one, as ATRank's do")


class DIN(Competitor):
    """``e_u^t = sum_i a(s_i, h_t) s_i`` and ``score = MLP([h_t; e_u^t; h_t * e_u^t])``.

    The activation unit ``a`` is an MLP over ``[s; h; s - h; s * h]``; its weights are not normalized, so that the
    strength of an interest is kept, unless ``normalized`` asks for it. Time enters through the time feature alone.
    """

    Config = DINConfig
    config: DINConfig

    def add_layers(self) -> None:
        d, dropout = self.config.hidden, self.config.dropout
        self.activation = nn.Sequential(nn.Linear(4 * d, 36), nn.PReLU(), nn.Linear(36, 1))
        self.top = nn.Sequential(
            nn.Linear(3 * d, 80), nn.PReLU(), nn.Dropout(dropout), nn.Linear(80, 40), nn.PReLU(), nn.Linear(40, 1)
        )

    def encode(self, batch: Batch) -> tuple[Float[Tensor, "n d"], Packing]:
        return self.project(batch), batch.packing

    def score(self, encoding: tuple[Float[Tensor, "n d"], Packing], candidates: Candidates) -> Scores:
        (s, packing), h = encoding, self.targets(candidates).h
        target = h.index_select(0, packing.owner)  # [n, c, d]
        s = s[:, None].expand_as(target)
        weight = self.activation(torch.cat([s, target, s - target, s * target], dim=-1))  # [n, c, 1]
        if self.config.normalized:
            weight = softmax_of_samples(weight.squeeze(-1), packing.owner, len(h))[:, :, None]
        e = torch.zeros_like(h).index_add(0, packing.owner, weight * s)
        return Scores(self.top(torch.cat([h, e, h * e], dim=-1)).squeeze(-1), h, e)


def softmax_of_samples(x: Float[Tensor, "n c"], owner: Int[Tensor, " n"], size: int) -> Float[Tensor, "n c"]:
    """The softmax over each sample's behaviors, for every candidate.

    >>> softmax_of_samples(torch.tensor([[0.0], [0.0], [9.0]]), torch.tensor([0, 0, 1]), size=2).tolist()
    [[0.5], [0.5], [1.0]]
    """
    index = owner[:, None].expand_as(x)
    highest = x.new_zeros(size, x.shape[1]).scatter_reduce(0, index, x.detach(), "amax", include_self=False)
    weight = (x - highest.index_select(0, owner)).exp()
    total = torch.zeros_like(highest).index_add(0, owner, weight)
    return weight / total.index_select(0, owner)
