"""Deep Interest Network (Zhou et al., 2018): each behavior is weighted by a small network that also sees the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from atrank_lib.competitors.base import Competitor, CompetitorConfig, owners, softmax_of_samples
from atrank_lib.grouping import Vocabularies
from atrank_lib.layout import Layout
from atrank_lib.log.schema import Schema
from atrank_lib.model import Scores
from atrank_lib.noise import Dropout
from atrank_lib.samples import Batch, Candidates


@dataclass(frozen=True)
class Behaviors:
    """Projected behaviors of a batch, and the sample of each."""

    s: Float[Tensor, "n d"]
    owner: Int[Tensor, " n"]
    size: int


class DINConfig(CompetitorConfig):
    """Sizes and choices of a DIN."""

    normalized: bool = Field(False, description="weights of a sample's behaviors sum to one, as ATRank's do")


class DIN(Competitor):
    """``e_u^t = sum_i a(s_i, h_t) s_i`` and ``score = MLP([h_t; e_u^t; h_t * e_u^t])``.

    The activation unit ``a`` is an MLP over ``[s; h; s - h; s * h]``; its weights are not normalized, so that the
    strength of an interest is kept, unless ``normalized`` asks for it. Histories are unordered: time enters through the
    time feature alone.
    """

    Config = DINConfig
    config: DINConfig

    def __init__(
        self,
        schema: Schema,
        vocabularies: Vocabularies,
        config: DINConfig | None = None,
        histories: Sequence[str] | None = None,
    ) -> None:
        super().__init__(schema, vocabularies, config, histories)
        d = self.config.hidden
        self.activation = nn.Sequential(nn.Linear(4 * d, 36), nn.PReLU(), nn.Linear(36, 1))
        self.top = nn.Sequential(
            nn.Linear(3 * d, 80),
            nn.PReLU(),
            Dropout(self.config.dropout),
            nn.Linear(80, 40),
            nn.PReLU(),
            nn.Linear(40, 1),
        )

    def encode(self, batch: Batch) -> Behaviors:
        layout = Layout(batch.slots, batch.size, batch.length)
        return Behaviors(self.project(batch), owners(layout), batch.size)

    def score(self, encoding: Behaviors, candidates: Candidates) -> Scores:
        h, _ = self.targets(candidates)
        asked = h.index_select(0, encoding.owner)  # [n, c, d]
        told = encoding.s[:, None].expand_as(asked)
        weight = self.activation(torch.cat([told, asked, told - asked, told * asked], dim=-1))  # [n, c, 1]
        if self.config.normalized:
            weight = softmax_of_samples(weight, encoding.owner, encoding.size)
        e = torch.zeros_like(h).index_add(0, encoding.owner, weight * told)
        return Scores(self.top(torch.cat([h, e, h * e], dim=-1)).squeeze(-1), h, e)
