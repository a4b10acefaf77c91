"""Behavior Sequence Transformer (Chen et al., 2019): one transformer layer over the history and the target."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from atrank_lib.batches import Batch, Candidates
from atrank_lib.competitors.base import Competitor
from atrank_lib.ranking import Scores

HEADS = 8


class BST(Competitor):
    """``score = MLP([x_t; mean_i x_i; h_t])`` with ``x = Transformer([h_t; s_1 ... s_n])``.

    The position of a behavior is its elapsed time to the target, in the buckets of the time feature; the target's
    own is zero. The original concatenates the outputs of a history of fixed length; here, where lengths differ, the
    target's output and the mean of the others take their place. Each candidate changes the whole sequence, so
    nothing can be encoded once for many.
    """

    def add_layers(self) -> None:
        d, dropout = self.config.hidden, self.config.dropout
        if d % HEADS:
            raise ValueError(f"hidden={d} cannot be divided among {HEADS} heads")
        self.layer = nn.TransformerEncoderLayer(
            d, HEADS, dim_feedforward=d, dropout=dropout, activation=nn.functional.leaky_relu, batch_first=True
        )
        self.top = nn.Sequential(nn.Linear(3 * d, d), nn.LeakyReLU(), nn.Dropout(dropout), nn.Linear(d, 1))

    def encode(self, batch: Batch) -> tuple[Float[Tensor, "b t d"], Bool[Tensor, "b t"]]:
        """Projected behaviors, padded, and which places hold one."""
        return batch.packing.pad(self.project(batch)), batch.packing.mask

    def position(self, candidates: Candidates, h: Float[Tensor, "b c d"]) -> Float[Tensor, "b c d"]:
        """The target as a member of the sequence: at elapsed time zero."""
        embedding = self.embedding(candidates.group)
        q = embedding.objects(candidates.features)
        q = embedding.timed(q, torch.zeros(len(q), dtype=torch.long, device=q.device))
        return self.projection.one(candidates.group, self.dropout(q)).view_as(h)

    def score(self, encoding: tuple[Float[Tensor, "b t d"], Bool[Tensor, "b t"]], candidates: Candidates) -> Scores:
        (table, mask), h = encoding, self.targets(candidates).h
        (b, t, d), c = table.shape, h.shape[1]
        target = self.position(candidates, h)
        x = torch.cat([target[:, :, None], table[:, None].expand(b, c, t, d)], dim=2).flatten(0, 1)  # [b c, 1+t, d]
        empty = nn.functional.pad(~mask, (1, 0))[:, None].expand(b, c, 1 + t).flatten(0, 1)  # never the target
        x = self.layer(x, src_key_padding_mask=empty).unflatten(0, (b, c))
        seen = mask.to(x.dtype)[:, None, :, None]
        others = (x[:, :, 1:] * seen).sum(dim=2) / seen.sum(dim=2).clamp(min=1)
        return Scores(self.top(torch.cat([x[:, :, 0], others, h], dim=-1)).squeeze(-1), h, others)
