"""Attention in several semantic spaces: behaviors to behaviors (eq. 3-6), and a target to behaviors (eq. 7).

What concerns one behavior runs on packed tensors ``[n, d]`` (all behaviors of a batch, no padding). Only the scores
need each sample's behaviors side by side; they are padded here, and nowhere else.

Shapes: ``b`` samples, ``t`` places, ``n`` behaviors, ``c`` targets, ``d`` hidden size, ``k`` spaces of size ``s``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from atrank_lib.batches import Packing
from atrank_lib.projection import Perceptron, SemanticProjection


def pad(x: Float[Tensor, "n d"], packing: Packing) -> Float[Tensor, "b t d"]:
    """Packed to padded: a sample's behaviors side by side; empty places hold zeros.

    >>> packing = Packing.of(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]), size=2)
    >>> pad(torch.tensor([[1.0], [2.0], [3.0]]), packing).tolist()
    [[[1.0], [0.0]], [[2.0], [3.0]]]
    """
    b, t = len(packing.lengths), packing.longest
    return x.new_zeros(b * t, x.shape[1]).index_copy(0, packing.owner * t + packing.place, x).view(b, t, x.shape[1])


def pack(x: Float[Tensor, "b t d"], packing: Packing) -> Float[Tensor, "n d"]:
    """The inverse of ``pad``."""
    return x.flatten(0, 1).index_select(0, packing.owner * packing.longest + packing.place)


def visible(packing: Packing) -> Bool[Tensor, "b t"]:
    """What attention may look at.

    A sample without any behavior sees its first empty place: its value is zero, and so is the result, where a
    softmax over nothing would be NaN.
    """
    first = torch.arange(packing.longest, device=packing.lengths.device) == 0
    return packing.mask | ((packing.lengths == 0)[:, None] & first)


def split_spaces(x: Float[Tensor, "b q d"], sizes: Sequence[int]) -> Float[Tensor, "b k q s"]:
    """Columns to spaces. Unequal spaces are filled with zeros to the widest, which changes no inner product.

    >>> split_spaces(torch.arange(6.0).view(1, 1, 6), [2, 2, 2]).tolist()
    [[[[0.0, 1.0]], [[2.0, 3.0]], [[4.0, 5.0]]]]
    """
    if len(set(sizes)) == 1:
        return x.unflatten(-1, (len(sizes), sizes[0])).transpose(1, 2)
    widest = max(sizes)
    parts = [nn.functional.pad(part, (0, widest - part.shape[-1])) for part in x.split(tuple(sizes), dim=-1)]
    return torch.stack(parts, dim=1)


def join_spaces(x: Float[Tensor, "b k q s"], sizes: Sequence[int]) -> Float[Tensor, "b q d"]:
    """``concat^(1)(C_1, ..., C_K)``: the inverse of ``split_spaces``.

    >>> x = torch.randn(2, 5, 6)
    >>> bool((join_spaces(split_spaces(x, [4, 2]), [4, 2]) == x).all())
    True
    """
    if len(set(sizes)) == 1:
        return x.transpose(1, 2).flatten(2)
    return torch.cat([x[:, k, :, :size] for k, size in enumerate(sizes)], dim=-1)


def attend(
    queries: Float[Tensor, "b k q s"],
    keys: Float[Tensor, "b k t s"],
    values: Float[Tensor, "b k t s"],
    visible: Bool[Tensor, "b t"],
    scale: float = 1.0,
) -> Float[Tensor, "b k q s"]:
    """``softmax(scale * Q K^T) V`` in every space, in one fused call.

    >>> keys = torch.tensor([[[[0.0], [0.0], [9.0]]]])  # [b=1, k=1, t=3, s=1]
    >>> values = torch.tensor([[[[1.0], [3.0], [7.0]]]])
    >>> attend(torch.ones(1, 1, 1, 1), keys, values, torch.tensor([[True, True, False]])).item()  # the third is hidden
    2.0
    """
    mask = visible[:, None, None, :]
    return nn.functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, scale=scale)


def attention_weights(
    queries: Float[Tensor, "b k q s"],
    keys: Float[Tensor, "b k t s"],
    visible: Bool[Tensor, "b t"],
    scale: float = 1.0,
) -> Float[Tensor, "b k q t"]:
    """The matrices ``A_k`` that ``attend`` uses without ever storing them.

    >>> queries, keys = torch.ones(1, 1, 1, 1), torch.tensor([[[[0.0], [0.0], [9.0]]]])
    >>> attention_weights(queries, keys, torch.tensor([[True, True, False]])).tolist()
    [[[[0.5, 0.5, 0.0]]]]
    """
    scores = queries @ keys.transpose(-1, -2) * scale
    return scores.masked_fill(~visible[:, None, None, :], float("-inf")).softmax(dim=-1)


class SpaceAttention(nn.Module):
    """The parameters of eq. 2-5: ``P_k`` makes queries, ``W_k`` keys, ``Q_k`` values.

    The paper's score is bilinear, ``S_k W_k S^T``. Since ``S_k W_k S^T = S_k (S W_k^T)^T``, the keys are projected
    to ``s_k`` dimensions first: the same numbers as multi-head attention with scale 1, K times cheaper than
    comparing in all ``d`` dimensions.
    """

    scale = 1.0

    def __init__(self, hidden: int, sizes: Sequence[int]) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        self.queries = SemanticProjection(hidden, sizes)
        self.keys = nn.Linear(hidden, hidden, bias=False)
        self.values = Perceptron(hidden, hidden)

    def project(self, s: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n d"], ...]:
        """Queries, keys and values of behaviors, all spaces side by side."""
        return self.queries(s), *self.read(s)

    def read(self, s: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n d"], ...]:
        """Keys and values of behaviors, all spaces side by side."""
        return self.keys(s), self.values(s)

    def attend(
        self,
        queries: Float[Tensor, "b c d"] | Float[Tensor, "n d"],
        keys: Float[Tensor, "n d"],
        values: Float[Tensor, "n d"],
        packing: Packing,
    ) -> Float[Tensor, "b c d"] | Float[Tensor, "n d"]:
        """``concat_k softmax(scale * Q_k K_k^T) V_k``: each behavior queries its own sample's, or ``c`` targets do."""
        among = queries.dim() == 2
        tables = (pad(queries, packing) if among else queries, pad(keys, packing), pad(values, packing))
        q, k, v = (split_spaces(x, self.sizes) for x in tables)
        c = join_spaces(attend(q, k, v, visible(packing), self.scale), self.sizes)
        return pack(c, packing) if among else c

    def weights(
        self, queries: Float[Tensor, "b c d"], keys: Float[Tensor, "n d"], packing: Packing
    ) -> Float[Tensor, "b k c t"]:
        """How much each query takes from each behavior, in every space; rows sum to one."""
        q, k = split_spaces(queries, self.sizes), split_spaces(pad(keys, packing), self.sizes)
        return attention_weights(q, k, visible(packing), self.scale)


class FeedForward(nn.Sequential):
    """ "A feedforward network with one hidden layer" (eq. 6), as wide as its input."""

    def __init__(self, hidden: int) -> None:
        super().__init__(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, hidden))


class SelfAttention(nn.Module):
    """One layer of eq. 2-6: ``C = LayerNorm(S + dropout(F_self(concat_k C_k)))``.

    The paper says "residual connections" and not what they add; here it is the layer's input ``S``.

    >>> packing = Packing.of(torch.tensor([0, 1, 1, 1]), torch.tensor([0, 0, 1, 2]), size=2)  # one behavior, and three
    >>> SelfAttention(8, SpaceAttention(8, [4, 4]))(torch.randn(4, 8), packing).shape
    torch.Size([4, 8])
    """

    def __init__(self, hidden: int, attention: SpaceAttention, dropout: float = 0.0) -> None:
        super().__init__()
        self.attention = attention
        self.feed_forward = FeedForward(hidden)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(hidden)

    def forward(self, s: Float[Tensor, "n d"], packing: Packing) -> Float[Tensor, "n d"]:
        queries, keys, values = self.attention.project(s)
        return self.add(s, self.attention.attend(queries, keys, values, packing))

    def add(self, s: Float[Tensor, "n d"], c: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Eq. 6, from the concatenated ``C_k``."""
        return self.norm(s + self.dropout(self.feed_forward(c)))


class TargetAttention(nn.Module):
    """Eq. 7, *vanilla attention*: what the behaviors ``C`` tell about a target ``h_t``.

    It has an ``attention`` of its own, as the original code; eq. 7 writes the symbols ``P_k, W_k, Q_k`` of eq. 2-5.

    >>> packing = Packing.of(torch.tensor([0, 1, 1, 1]), torch.tensor([0, 0, 1, 2]), size=2)
    >>> layer = TargetAttention(8, SpaceAttention(8, [4, 4]))
    >>> keys, values = layer.read(torch.randn(4, 8))  # once
    >>> h = torch.randn(2, 5, 8)  # for five targets of each sample
    >>> layer(h, layer.attention.queries(h), keys, values, packing).shape
    torch.Size([2, 5, 8])
    """

    def __init__(self, hidden: int, attention: SpaceAttention) -> None:
        super().__init__()
        self.attention = attention
        self.feed_forward: nn.Module = FeedForward(hidden)

    def read(self, c: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n d"], ...]:
        """Keys and values of the behaviors, all spaces side by side, computed once for any number of targets."""
        return self.attention.read(c)

    def forward(
        self,
        h: Float[Tensor, "b c d"],
        queries: Float[Tensor, "b c d"],
        keys: Float[Tensor, "n d"],
        values: Float[Tensor, "n d"],
        packing: Packing,
    ) -> Float[Tensor, "b c d"]:
        """The user vectors ``e_u^t``, one for each target ``h_t`` with its queries ``relu(P_k h_t)``."""
        return self.feed_forward(self.attention.attend(queries, keys, values, packing))
