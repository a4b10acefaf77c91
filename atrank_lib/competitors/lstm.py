"""Recurrent competitors: a bidirectional LSTM over the history (Zhang et al., 2014), and one that a target reads."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from atrank_lib.attention import SpaceAttention, TargetAttention
from atrank_lib.batches import Batch, Candidates, Packing
from atrank_lib.competitors.base import Competitor
from atrank_lib.model import Encoding
from atrank_lib.ranking import Scores


def run_packed(
    lstm: nn.LSTM, x: Float[Tensor, "n d"], packing: Packing
) -> tuple[Float[Tensor, "n s"], Float[Tensor, "b s"]]:
    """States of both directions at every behavior, and the two final ones of every sample (zero without behaviors).

    The sequences are packed: the backward direction begins at a sample's last behavior, never at padding.

    >>> packing = Packing.of(torch.tensor([0, 1, 1, 1]), torch.tensor([0, 0, 1, 2]), size=2)  # one behavior, and three
    >>> states, final = run_packed(nn.LSTM(8, 8, bidirectional=True), torch.randn(4, 8), packing)
    >>> states.shape, final.shape
    (torch.Size([4, 16]), torch.Size([2, 16]))
    """
    b = len(packing.lengths)
    final = x.new_zeros(b, 2 * lstm.hidden_size)
    if not len(x):
        return x.new_zeros(0, 2 * lstm.hidden_size), final
    by_length = packing.lengths.argsort(descending=True, stable=True)
    rank = torch.empty_like(by_length).index_copy_(0, by_length, torch.arange(b, device=x.device))
    # all first behaviors, longest history first, then all second ones
    order = (packing.place * b + rank[packing.owner]).argsort()
    packed, (h, _) = lstm(PackedSequence(x.index_select(0, order), torch.bincount(packing.place).cpu()))
    states = torch.empty_like(packed.data).index_copy(0, order, packed.data)
    return states, final.index_copy(0, by_length[: h.shape[1]], torch.cat([h[0], h[1]], dim=1))


class BiLSTM(Competitor):
    """``e_u = W [h_forward; h_backward] + b``: the final states of both directions, each as wide as ``hidden``."""

    def add_layers(self) -> None:
        hidden = self.config.hidden
        self.lstm = nn.LSTM(hidden, hidden, bidirectional=True)
        self.join = nn.Sequential(nn.Dropout(self.config.dropout), nn.Linear(2 * hidden, hidden))

    def user(self, batch: Batch) -> Float[Tensor, "b d"]:
        return self.join(run_packed(self.lstm, *self.sequence(batch))[1])


class BiLSTMAttention(BiLSTM):
    """Vanilla attention (eq. 7) of each target over the states of a bidirectional LSTM, joined as above."""

    def add_layers(self) -> None:
        super().add_layers()
        hidden = self.config.hidden
        self.target = TargetAttention(hidden, SpaceAttention(hidden, [hidden]))

    def encode(self, batch: Batch) -> Encoding:
        s, packing = self.sequence(batch)
        states = self.join(run_packed(self.lstm, s, packing)[0])
        keys, values = self.target.read(states)
        return Encoding(states, packing, keys, values)

    def score(self, encoding: Encoding, candidates: Candidates) -> Scores:
        targets = self.targets(candidates)
        queries = self.target.attention.queries(targets.h)
        e = self.target(targets.h, queries, encoding.keys, encoding.values, encoding.packing)
        return Scores(self.rank(targets, e), targets.h, e)
