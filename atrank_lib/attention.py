"""Attention in several semantic spaces: behaviors to behaviors (eq. 3-6), and a target to behaviors (eq. 7).

Everything that concerns one behavior runs on packed tensors ``[n, d]`` (all behaviors of a batch, no padding);
only the scores need each user's behaviors side by side, in padded tables (``layout``).

Shapes: ``b`` samples, ``t`` places, ``n`` behaviors, ``d`` hidden size, ``k`` spaces of ``s`` dimensions each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from atrank_lib.fast import kernels
from atrank_lib.fast.kernels import Linear
from atrank_lib.layout import Layout
from atrank_lib.noise import Dropout
from atrank_lib.projection import SemanticProjection, perceptron

AttentionForm = Literal["bilinear", "dot"]
Told = Literal["projected", "raw"]


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
    visible: Bool[Tensor, "b t"] | None,
    scale: float = 1.0,
) -> Float[Tensor, "b k q s"]:
    """``softmax(scale * Q K^T) V`` in every space, in one fused call.

    >>> keys = torch.tensor([[[[0.0], [0.0], [9.0]]]])  # [b=1, k=1, t=3, s=1]
    >>> values = torch.tensor([[[[1.0], [3.0], [7.0]]]])
    >>> attend(torch.ones(1, 1, 1, 1), keys, values, torch.tensor([[True, True, False]])).item()  # the third is hidden
    2.0
    """
    mask = None if visible is None else visible[:, None, None, :]
    return nn.functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, scale=scale)


def attention_weights(
    queries: Float[Tensor, "b k q s"],
    keys: Float[Tensor, "b k t s"],
    visible: Bool[Tensor, "b t"] | None,
    scale: float = 1.0,
) -> Float[Tensor, "b k q t"]:
    """The matrices ``A_k`` that ``attend`` uses without ever storing them.

    >>> queries, keys = torch.ones(1, 1, 1, 1), torch.tensor([[[[0.0], [0.0], [9.0]]]])
    >>> attention_weights(queries, keys, torch.tensor([[True, True, False]])).tolist()
    [[[[0.5, 0.5, 0.0]]]]
    """
    scores = queries @ keys.transpose(-1, -2) * scale
    if visible is not None:
        scores = scores.masked_fill(~visible[:, None, None, :], float("-inf"))
    return scores.softmax(dim=-1)


class SpaceAttention(nn.Module):
    """The parameters of eq. 2-5: ``P_k`` (what asks), ``W_k`` (what is compared), ``Q_k`` (what is told).

    The paper's score is bilinear, ``S_k W_k S^T``. Since ``S_k W_k S^T = S_k (S W_k^T)^T``, the keys are projected
    to ``s_k`` dimensions first: the same numbers as multi-head attention with scale 1, K times cheaper than
    comparing in all ``d`` dimensions. ``form="dot"`` is the original code's score: keys are a relu perceptron
    too, and scores are divided by ``sqrt(s_k)``. Without ``values`` it has no ``Q_k``: whoever calls ``tell`` says what
    is added up.
    """

    def __init__(
        self, hidden: int, sizes: Sequence[int], form: AttentionForm = "bilinear", values: bool = True
    ) -> None:
        super().__init__()
        if form not in ("bilinear", "dot"):
            raise ValueError(f"attention {form!r}; use 'bilinear' or 'dot'")
        if form == "dot" and len(set(sizes)) > 1:
            raise ValueError(f"attention 'dot' divides by sqrt(s_k) and needs spaces of one size, not {list(sizes)}")
        self.sizes = tuple(sizes)
        self.scale = 1.0 if form == "bilinear" else self.sizes[0] ** -0.5
        self.queries = SemanticProjection(hidden, sizes)
        self.keys = Linear(hidden, hidden, bias=False) if form == "bilinear" else perceptron(hidden, hidden)
        if values:
            self.values = perceptron(hidden, hidden)

    def read(self, s: Float[Tensor, "n d"], asking: bool = False) -> tuple[Float[Tensor, "n d"], ...]:
        """Keys and values of behaviors, all spaces side by side; before them queries, if they are ``asking`` too."""
        parts = [self.queries.map, self.keys, self.values] if asking else [self.keys, self.values]
        if not kernels.ready(s, s.shape[1]):
            return tuple(part(s) for part in parts)
        linears = [cast(nn.Linear, part[0] if isinstance(part, nn.Sequential) else part) for part in parts]
        return kernels.layers(s, linears, [isinstance(part, nn.Sequential) for part in parts])

    def tell(
        self,
        queries: Float[Tensor, "b c d"] | Float[Tensor, "n d"],
        keys: Float[Tensor, "n d"],
        values: Float[Tensor, "n d"],
        layout: Layout,
    ) -> Float[Tensor, "b c d"] | Float[Tensor, "n d"]:
        """``concat_k softmax(scale * Q_k K_k^T) V_k``: each behavior asks its sample's others, or ``c`` targets ask."""
        among = queries.dim() == 2
        if kernels.ready(queries, queries.shape[-1]) and len(set(self.sizes)) == 1:
            rows = layout.among if among else layout.asked(queries.shape[1])
            flat = queries.flatten(0, -2)
            return kernels.attend(flat, keys, values, rows, len(self.sizes), self.scale).view(queries.shape)
        parts = (
            layout.apart(queries) if among else layout.samples.apart(queries, [strip.size for strip in layout.strips])
        )
        told = []
        for strip, *qkv in zip(layout.strips, parts, layout.apart(keys), layout.apart(values), strict=True):
            q, k, v = (split_spaces(x, self.sizes) for x in qkv)
            x = join_spaces(attend(q, k, v, strip.visible, self.scale), self.sizes)
            told.append(strip.pack(x) if among else x)
        return (layout.behaviors if among else layout.samples).together(told)


class FeedForward(nn.Sequential):
    """ "A feedforward network with one hidden layer" (eq. 6), as wide as its input."""

    def __init__(self, hidden: int) -> None:
        super().__init__(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, hidden))

    def forward(self, input: Tensor) -> Tensor:
        if not kernels.ready(input):
            return super().forward(input)
        first, _, last = self
        (inner,) = kernels.layers(input, [cast(nn.Linear, first)], [True])
        return kernels.layers(inner, [cast(nn.Linear, last)], [False])[0]


class SelfAttention(nn.Module):
    """One layer of eq. 2-6: ``C = LayerNorm(residual + dropout(F_self(concat_k C_k)))``.

    ``residual`` says what "residual connections" adds: ``input`` the behaviors ``S``, ``attended`` the
    concatenated ``C_k``; the paper does not say which.

    >>> layout = Layout(torch.tensor([0, 3, 4, 5]), size=2, length=3)
    >>> layer = SelfAttention(hidden=8, sizes=[4, 4])
    >>> layer(torch.randn(4, 8), layout).shape, layer.weights(torch.randn(4, 8), layout).shape
    (torch.Size([4, 8]), torch.Size([2, 2, 3, 3]))
    """

    def __init__(
        self,
        hidden: int,
        sizes: Sequence[int],
        form: AttentionForm = "bilinear",
        residual: Literal["input", "attended"] = "input",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.attention = SpaceAttention(hidden, sizes, form)
        self.feed_forward = FeedForward(hidden)
        self.dropout = Dropout(dropout)
        self.norm = nn.LayerNorm(hidden)
        self.residual = residual

    def forward(self, s: Float[Tensor, "n d"], layout: Layout) -> Float[Tensor, "n d"]:
        queries, keys, values = self.attention.read(s, asking=True)
        c = self.attention.tell(queries, keys, values, layout)
        residual = s if self.residual == "input" else c
        return self.norm(residual + self.dropout(self.feed_forward(c)))

    def weights(self, s: Float[Tensor, "n d"], layout: Layout) -> Float[Tensor, "b k t t"]:
        """``A_k`` of eq. 3: row ``i`` says how much behavior ``i`` takes from each behavior."""
        a = self.attention
        q, k = (split_spaces(layout.pad(x), a.sizes) for x in (a.queries(s), a.keys(s)))
        return attention_weights(q, k, layout.visible(), a.scale)


class TargetAttention(nn.Module):
    """Eq. 7, *vanilla attention*: what the behaviors ``C`` tell about a target ``h_t``.

    Given the ``attention`` of self-attention the layer uses its ``P_k, W_k, Q_k``, as the symbols of eq. 7 say; given
    one of its own it does as the original code. ``F_vanilla`` is its own in any case. ``residual=True`` adds the
    target to the user vector and normalizes, as the original code does.

    ``told="raw"`` goes beyond the paper: each space adds up its own columns of ``C``, and no network follows.

    >>> layout = Layout(torch.tensor([0, 3, 4, 5]), size=2, length=3)
    >>> layer = TargetAttention(hidden=8, attention=SpaceAttention(8, [4, 4]))
    >>> keys, values = layer.read(torch.randn(4, 8))  # once
    >>> layer(torch.randn(2, 5, 8), keys, values, layout).shape  # for five targets of each sample
    torch.Size([2, 5, 8])
    """

    def __init__(
        self,
        hidden: int,
        attention: SpaceAttention,
        residual: bool = False,
        dropout: float = 0.0,
        told: Told = "projected",
    ) -> None:
        super().__init__()
        if told not in ("projected", "raw"):
            raise ValueError(f"told {told!r}; use 'projected' or 'raw'")
        self.attention = attention
        self.told = told
        self.feed_forward = FeedForward(hidden) if told == "projected" else nn.Identity()
        self.dropout = Dropout(dropout)
        self.norm = nn.LayerNorm(hidden) if residual else None

    def read(self, c: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]:
        """Keys and values of the behaviors, all spaces side by side, computed once for any number of targets."""
        if self.told == "raw":
            return self.attention.keys(c), c
        keys, values = self.attention.read(c)
        return keys, values

    def forward(
        self,
        h: Float[Tensor, "b c d"],
        keys: Float[Tensor, "n d"],
        values: Float[Tensor, "n d"],
        layout: Layout,
    ) -> Float[Tensor, "b c d"]:
        """The user vectors ``e_u^t``, one for each target."""
        return self.tell(h, self.attention.queries(h), keys, values, layout)

    def tell(
        self,
        h: Float[Tensor, "b c d"],
        queries: Float[Tensor, "b c d"],
        keys: Float[Tensor, "n d"],
        values: Float[Tensor, "n d"],
        layout: Layout,
    ) -> Float[Tensor, "b c d"]:
        """The same, from targets whose queries ``relu(P_k h_t)`` are known, all spaces side by side."""
        e = self.feed_forward(self.attention.tell(queries, keys, values, layout))
        return e if self.norm is None else self.norm(h + self.dropout(e))

    def weights(
        self, h: Float[Tensor, "b c d"], keys: Float[Tensor, "n d"], layout: Layout
    ) -> Float[Tensor, "b k c t"]:
        """How much each target takes from each behavior, in every space."""
        a = self.attention
        k = split_spaces(layout.pad(keys), a.sizes)
        return attention_weights(split_spaces(a.queries(h), a.sizes), k, layout.visible(), a.scale)
