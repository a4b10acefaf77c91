"""Attention in several semantic spaces: behaviors to behaviors (eq. 3-6), and a target to behaviors (eq. 7).

What concerns one behavior runs on packed tensors; only scores need each sample's behaviors side by side, padded.
Shapes: ``b`` samples, ``t`` places, ``n`` behaviors, ``c`` targets, ``d`` hidden size, ``k`` spaces of size ``s``.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from atrank_lib.batches import Packing
from atrank_lib.projection import Perceptron, SemanticProjection

Queries = Float[Tensor, "b c d"] | Float[Tensor, "n d"]  # of the targets of each sample, or of all behaviors


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


class SpaceAttention(nn.Module):
    """The parameters of eq. 2-5: ``P_k`` makes queries, ``W_k`` keys, ``Q_k`` values. The paper's score is bilinear.
    Since ``S_k W_k S^T = S_k (S W_k^T)^T``, keys are projected to ``s_k`` dimensions first: the numbers of multi-head
    attention with scale 1, K times cheaper than comparing in all ``d`` dimensions."""

    scale = 1.0
    dropout = 0.0  # of the weights A_k, in training

    def __init__(self, hidden: int, sizes: Sequence[int]) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        self.queries = SemanticProjection(hidden, sizes)
        self.keys: nn.Module = nn.Linear(hidden, hidden, bias=False)
        self.values = Perceptron(hidden, hidden)

    def project(self, s: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n d"], ...]:
        """Queries, keys and values of behaviors, all spaces side by side."""
        return self.queries(s), *self.read(s)

    def read(self, s: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n d"], ...]:
        """Keys and values of behaviors, all spaces side by side."""
        return self.keys(s), self.values(s)

    def attend(
        self, queries: Queries, keys: Float[Tensor, "n d"], values: Float[Tensor, "n d"], packing: Packing
    ) -> Queries:
        """``concat_k softmax(scale * Q_k K_k^T) V_k``: each behavior queries its own sample's, or ``c`` targets do."""
        among = queries.dim() == 2
        tables = (packing.pad(queries) if among else queries, packing.pad(keys), packing.pad(values))
        q, k, v = (split_spaces(x, self.sizes) for x in tables)
        see, drop = packing.visible[:, None, None, :], self.dropout if self.training else 0.0
        c = nn.functional.scaled_dot_product_attention(q, k, v, see, drop, scale=self.scale)
        c = join_spaces(c, self.sizes)
        return packing.pack(c) if among else c

    def weights(
        self, queries: Float[Tensor, "b c d"], keys: Float[Tensor, "n d"], packing: Packing
    ) -> Float[Tensor, "b k c t"]:
        """The matrices ``A_k`` that ``attend`` never stores: what each query takes from each behavior."""
        q, k = split_spaces(queries, self.sizes), split_spaces(packing.pad(keys), self.sizes)
        scores = self.scale * q @ k.transpose(-1, -2)
        return self.shares(scores.masked_fill(~packing.visible[:, None, None, :], float("-inf")))

    def shares(self, scores: Float[Tensor, "*q t"]) -> Float[Tensor, "*q t"]:
        """Eq. 4; what is not to be seen has a score of minus infinity."""
        return scores.softmax(dim=-1)


class FeedForward(nn.Sequential):
    """ "A feedforward network with one hidden layer" (eq. 6), by default as wide as its input."""

    def __init__(self, hidden: int, inner: int | None = None) -> None:
        super().__init__(nn.Linear(hidden, inner or hidden), nn.ReLU(), nn.Linear(inner or hidden, hidden))


class SelfAttention(nn.Module):
    """One layer of eq. 2-6: ``C = LayerNorm(S + dropout(F_self(concat_k C_k)))``; the paper leaves open what its
    "residual connections" add, here the layer's input ``S``.

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
    """Eq. 7, *vanilla attention*: what the behaviors ``C`` tell about a target ``h_t``. It has an ``attention`` of its
    own, as the original code; eq. 7 writes the symbols ``P_k, W_k, Q_k`` of eq. 2-5.

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
