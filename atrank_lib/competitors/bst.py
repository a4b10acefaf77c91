"""Behavior Sequence Transformer (Chen et al., 2019): one transformer layer over the history and the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from atrank_lib.competitors.base import Competitor, CompetitorConfig
from atrank_lib.grouping import Vocabularies
from atrank_lib.layout import Layout
from atrank_lib.log.schema import Schema
from atrank_lib.model import Scores
from atrank_lib.noise import Dropout
from atrank_lib.samples import Batch, Candidates

HEADS = 8


@dataclass(frozen=True)
class Behaviors:
    """Projected behaviors of a batch, and where they sit."""

    s: Float[Tensor, "n d"]
    layout: Layout


class BST(Competitor):
    """``score = MLP([x_t; mean_i x_i; h_t])`` with ``x = Transformer([h_t; s_1 ... s_n])``.

    The position of a behavior is its elapsed time to the target, in the buckets of the time feature; the target's
    own is zero. The original concatenates the outputs of a history of fixed length; here, where lengths differ, the
    target's output and the mean of the others take their place. Each candidate changes the whole sequence, so
    nothing can be encoded once for many.
    """

    def __init__(
        self,
        schema: Schema,
        vocabularies: Vocabularies,
        config: CompetitorConfig | None = None,
        histories: Sequence[str] | None = None,
    ) -> None:
        super().__init__(schema, vocabularies, config, histories)
        d, dropout = self.config.hidden, self.config.dropout
        if d % HEADS:
            raise ValueError(f"hidden={d} cannot be divided among {HEADS} heads")
        self.layer = nn.TransformerEncoderLayer(
            d, HEADS, dim_feedforward=d, dropout=dropout, activation=nn.functional.leaky_relu, batch_first=True
        )
        self.top = nn.Sequential(nn.Linear(3 * d, d), nn.LeakyReLU(), Dropout(dropout), nn.Linear(d, 1))

    def encode(self, batch: Batch) -> Behaviors:
        return Behaviors(self.project(batch), Layout(batch.slots, batch.size, batch.length))

    def position(self, candidates: Candidates, h: Float[Tensor, "b c d"]) -> Float[Tensor, "b c d"]:
        """The target as a member of the sequence: at elapsed time zero."""
        embedding = self.embedding(candidates.group)
        if embedding.time.form == "none":
            return h
        q = embedding.target(candidates.features)
        now = embedding.time(torch.zeros(len(q), dtype=torch.long, device=q.device))
        q = torch.cat([q[:, : -now.shape[1]], now], dim=1) if embedding.time.form == "one_hot" else q + now
        return self.projection.one(candidates.group, self.dropout(q)).unflatten(0, candidates.shape)

    def score(self, encoding: Behaviors, candidates: Candidates) -> Scores:
        h, _ = self.targets(candidates)
        layout, c = encoding.layout, h.shape[1]
        targets = layout.samples.apart(self.position(candidates, h), [strip.size for strip in layout.strips])
        first, rest = [], []
        for strip, table, target in zip(layout.strips, layout.apart(encoding.s), targets, strict=True):
            b, t, d = table.shape
            x = torch.cat([target[:, :, None], table[:, None].expand(b, c, t, d)], dim=2).flatten(0, 1)  # [b c, 1+t, d]
            real, empty = strip.mask, None
            if real is not None:
                empty = nn.functional.pad(~real, (1, 0))[:, None].expand(b, c, 1 + t).flatten(0, 1)  # never the target
            x = self.layer(x, src_key_padding_mask=empty).unflatten(0, (b, c))
            seen = (x.new_ones(b, t) if real is None else real.to(x.dtype))[:, None, :, None]
            first.append(x[:, :, 0])
            rest.append((x[:, :, 1:] * seen).sum(dim=2) / seen.sum(dim=2).clamp(min=1))
        own, others = layout.samples.together(first), layout.samples.together(rest)
        return Scores(self.top(torch.cat([own, others, h], dim=-1)).squeeze(-1), h, others)
