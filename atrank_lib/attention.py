"""Attention in several semantic spaces: behaviors to behaviors (eq. 3-6), and a target to behaviors (eq. 7).

Everything that concerns one behavior runs on packed tensors ``[n, d]`` (all behaviors of a batch, no padding);
only the scores need each user's behaviors side by side, in a padded table ``[b, t, d]``. A mask is True where a
behavior is real.

Shapes: ``b`` samples, ``t`` places, ``n`` behaviors, ``d`` hidden size, ``k`` spaces of ``s`` dimensions each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from atrank_lib.projection import SemanticProjection, perceptron

AttentionForm = Literal["bilinear", "dot"]


@dataclass(frozen=True)
class Layout:
    """Where the packed behaviors of a batch sit in its padded table."""

    slots: Int[Tensor, " n"]
    mask: Bool[Tensor, "b t"]

    @classmethod
    def of(cls, slots: Int[Tensor, " n"], size: int, length: int) -> Layout:
        mask = torch.zeros(size * length, dtype=torch.bool, device=slots.device)
        mask[slots] = True
        return cls(slots, mask.view(size, length))

    def pad(self, x: Float[Tensor, "n c"]) -> Float[Tensor, "b t c"]:
        """Packed to padded; empty places hold zeros."""
        b, t = self.mask.shape
        return x.new_zeros(b * t, x.shape[1]).index_copy_(0, self.slots, x).view(b, t, -1)

    def pack(self, x: Float[Tensor, "b t c"]) -> Float[Tensor, "n c"]:
        """Padded to packed."""
        return x.flatten(0, 1)[self.slots]

    def visible(self) -> Bool[Tensor, "b t"] | None:
        """What attention may look at; None when every place is real.

        A sample without any behavior sees its first empty place: its value is zero, and so is the result, where a
        softmax over nothing would be NaN.
        """
        if bool(self.mask.all()):
            return None
        visible = self.mask.clone()
        visible[:, 0] |= ~self.mask.any(dim=1)
        return visible


def split_spaces(x: Float[Tensor, "b q d"], sizes: Sequence[int]) -> Float[Tensor, "b k q s"]:
    """Columns to spaces. Unequal spaces are filled with zeros to the widest, which changes no inner product."""
    if len(set(sizes)) == 1:
        return x.unflatten(-1, (len(sizes), sizes[0])).transpose(1, 2)
    widest = max(sizes)
    parts = [nn.functional.pad(part, (0, widest - part.shape[-1])) for part in x.split(tuple(sizes), dim=-1)]
    return torch.stack(parts, dim=1)


def join_spaces(x: Float[Tensor, "b k q s"], sizes: Sequence[int]) -> Float[Tensor, "b q d"]:
    """``concat^(1)(C_1, ..., C_K)``: the inverse of ``split_spaces``."""
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
    """``softmax(scale * Q K^T) V`` in every space, in one fused call."""
    mask = None if visible is None else visible[:, None, None, :]
    return nn.functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, scale=scale)


def attention_weights(
    queries: Float[Tensor, "b k q s"],
    keys: Float[Tensor, "b k t s"],
    visible: Bool[Tensor, "b t"] | None,
    scale: float = 1.0,
) -> Float[Tensor, "b k q t"]:
    """The matrices ``A_k`` that ``attend`` uses without ever storing them."""
    scores = queries @ keys.transpose(-1, -2) * scale
    if visible is not None:
        scores = scores.masked_fill(~visible[:, None, None, :], float("-inf"))
    return scores.softmax(dim=-1)


class SpaceAttention(nn.Module):
    """The parameters of eq. 2-5: ``P_k`` (what asks), ``W_k`` (what is compared), ``Q_k`` (what is told).

    The paper's score is bilinear, ``S_k W_k S^T``. Since ``S_k W_k S^T = S_k (S W_k^T)^T``, the keys are projected
    to ``s_k`` dimensions first: the same numbers as multi-head attention with scale 1, K times cheaper than
    comparing in all ``d`` dimensions. ``form="dot"`` is the original code's score: keys are a relu perceptron
    too, and scores are divided by ``sqrt(s_k)``.
    """

    def __init__(self, hidden: int, sizes: Sequence[int], form: AttentionForm = "bilinear") -> None:
        super().__init__()
        if form not in ("bilinear", "dot"):
            raise ValueError(f"attention {form!r}; use 'bilinear' or 'dot'")
        if form == "dot" and len(set(sizes)) > 1:
            raise ValueError(f"attention 'dot' divides by sqrt(s_k) and needs spaces of one size, not {list(sizes)}")
        self.sizes = tuple(sizes)
        self.scale = 1.0 if form == "bilinear" else self.sizes[0] ** -0.5
        self.queries = SemanticProjection(hidden, sizes)
        self.keys = nn.Linear(hidden, hidden, bias=False) if form == "bilinear" else perceptron(hidden, hidden)
        self.values = perceptron(hidden, hidden)


class FeedForward(nn.Sequential):
    """ "A feedforward network with one hidden layer" (eq. 6), as wide as its input."""

    def __init__(self, hidden: int) -> None:
        super().__init__(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, hidden))


class SelfAttention(nn.Module):
    """One layer of eq. 2-6: ``C = LayerNorm(residual + dropout(F_self(concat_k C_k)))``.

    ``residual`` says what "residual connections" adds: ``input`` the behaviors ``S``, ``attended`` the
    concatenated ``C_k``; the paper does not say which.
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
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(hidden)
        self.residual = residual

    def _spaces(
        self, s: Float[Tensor, "n d"], layout: Layout
    ) -> tuple[Float[Tensor, "b k t s"], Float[Tensor, "b k t s"], Float[Tensor, "b k t s"]]:
        a = self.attention
        padded = layout.pad(torch.cat([a.queries(s), a.keys(s), a.values(s)], dim=1))  # [b, t, 3d]
        q, k, v = (split_spaces(part, a.sizes) for part in padded.chunk(3, dim=-1))
        return q, k, v

    def forward(self, s: Float[Tensor, "n d"], layout: Layout) -> Float[Tensor, "n d"]:
        q, k, v = self._spaces(s, layout)
        c = layout.pack(join_spaces(attend(q, k, v, layout.visible(), self.attention.scale), self.attention.sizes))
        residual = s if self.residual == "input" else c
        return self.norm(residual + self.dropout(self.feed_forward(c)))

    def weights(self, s: Float[Tensor, "n d"], layout: Layout) -> Float[Tensor, "b k t t"]:
        """``A_k`` of eq. 3: row ``i`` says how much behavior ``i`` takes from each behavior."""
        q, k, _ = self._spaces(s, layout)
        return attention_weights(q, k, layout.visible(), self.attention.scale)


class TargetAttention(nn.Module):
    """Eq. 7, *vanilla attention*: what the behaviors ``C`` tell about a target ``h_t``.

    With ``shared`` the layer uses the ``P_k, W_k, Q_k`` of self-attention, as the symbols of eq. 7 say; otherwise
    it has its own, as the original code. ``F_vanilla`` is its own in any case. ``residual=True`` adds the target to
    the user vector and normalizes, as the original code does.
    """

    def __init__(
        self,
        hidden: int,
        attention: SpaceAttention,
        residual: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.attention = attention
        self.feed_forward = FeedForward(hidden)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(hidden) if residual else None

    def read(
        self, c: Float[Tensor, "n d"], layout: Layout
    ) -> tuple[Float[Tensor, "b k t s"], Float[Tensor, "b k t s"]]:
        """Keys and values of the behaviors, computed once for any number of targets."""
        a = self.attention
        keys, values = layout.pad(torch.cat([a.keys(c), a.values(c)], dim=1)).chunk(2, dim=-1)
        return split_spaces(keys, a.sizes), split_spaces(values, a.sizes)

    def forward(
        self,
        h: Float[Tensor, "b c d"],
        keys: Float[Tensor, "b k t s"],
        values: Float[Tensor, "b k t s"],
        visible: Bool[Tensor, "b t"] | None,
    ) -> Float[Tensor, "b c d"]:
        """The user vectors ``e_u^t``, one for each target."""
        a = self.attention
        context = join_spaces(attend(split_spaces(a.queries(h), a.sizes), keys, values, visible, a.scale), a.sizes)
        e = self.feed_forward(context)
        return e if self.norm is None else self.norm(h + self.dropout(e))

    def weights(
        self, h: Float[Tensor, "b c d"], keys: Float[Tensor, "b k t s"], visible: Bool[Tensor, "b t"] | None
    ) -> Float[Tensor, "b k c t"]:
        """How much each target takes from each behavior, in every space."""
        a = self.attention
        return attention_weights(split_spaces(a.queries(h), a.sizes), keys, visible, a.scale)
