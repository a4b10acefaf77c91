"""Recurrent competitors: a bidirectional LSTM over the history (Zhang et al., 2014), and one that a target reads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from atrank_lib.attention import SpaceAttention, TargetAttention
from atrank_lib.competitors.base import Competitor, CompetitorConfig, owners
from atrank_lib.grouping import Vocabularies
from atrank_lib.layout import Layout
from atrank_lib.log.schema import Schema
from atrank_lib.model import Encoding, Scores
from atrank_lib.noise import Dropout
from atrank_lib.samples import Batch, Candidates


def run_packed(
    lstm: nn.LSTM, x: Float[Tensor, "n d"], layout: Layout
) -> tuple[Float[Tensor, "n s"], Float[Tensor, "b s"]]:
    """States of both directions at every behavior, and the two final ones of every sample (zero without behaviors).

    The sequences are packed: the backward direction begins at a sample's last behavior, never at padding.
    ``x`` holds the behaviors sample by sample, oldest first.

    >>> layout = Layout(torch.tensor([0, 3, 4, 5]), size=2, length=3)  # one behavior, and three
    >>> states, final = run_packed(nn.LSTM(8, 8, bidirectional=True), torch.randn(4, 8), layout)
    >>> states.shape, final.shape
    (torch.Size([4, 16]), torch.Size([2, 16]))
    """
    (b, length), sample = layout.mask.shape, owners(layout)
    final = x.new_zeros(b, 2 * lstm.hidden_size)
    if not len(x):
        return x.new_zeros(0, 2 * lstm.hidden_size), final
    by_length = layout.mask.sum(dim=1).argsort(descending=True, stable=True)
    rank = torch.empty_like(by_length).index_copy_(0, by_length, torch.arange(b, device=x.device))
    place = layout.slots % length
    order = (place * b + rank[sample]).argsort()  # all first behaviors, longest history first, then all second ones
    packed, (h, _) = lstm(PackedSequence(x.index_select(0, order), torch.bincount(place).cpu()))
    states = torch.empty_like(packed.data).index_copy(0, order, packed.data)
    return states, final.index_copy(0, by_length[: h.shape[1]], torch.cat([h[0], h[1]], dim=1))


class BiLSTM(Competitor):
    """``e_u = W [h_forward; h_backward] + b``: the final states of both directions, each as wide as ``hidden``."""

    def __init__(
        self,
        schema: Schema,
        vocabularies: Vocabularies,
        config: CompetitorConfig | None = None,
        histories: Sequence[str] | None = None,
    ) -> None:
        super().__init__(schema, vocabularies, config, histories)
        hidden = self.config.hidden
        self.lstm = nn.LSTM(hidden, hidden, bidirectional=True)
        self.join = nn.Sequential(Dropout(self.config.dropout), nn.Linear(2 * hidden, hidden))

    def user(self, batch: Batch) -> Float[Tensor, "b d"]:
        return self.join(run_packed(self.lstm, *self.sequence(batch))[1])


class BiLSTMAttention(BiLSTM):
    """Vanilla attention (eq. 7) of each target over the states of a bidirectional LSTM, joined as above."""

    def __init__(
        self,
        schema: Schema,
        vocabularies: Vocabularies,
        config: CompetitorConfig | None = None,
        histories: Sequence[str] | None = None,
    ) -> None:
        super().__init__(schema, vocabularies, config, histories)
        hidden = self.config.hidden
        self.target = TargetAttention(hidden, SpaceAttention(hidden, [hidden]))

    def encode(self, batch: Batch) -> Encoding:
        s, layout = self.sequence(batch)
        states = self.join(run_packed(self.lstm, s, layout)[0])
        return Encoding(states, layout, *self.target.read(states))

    def score(self, encoding: Encoding, candidates: Candidates) -> Scores:
        h, _ = self.targets(candidates)
        e = self.target(h, encoding.keys, encoding.values, encoding.layout)
        return Scores(self.rank(h, e), h, e)
