"""What the authors' code does otherwise than the paper, one difference a part; ``variants`` puts them in. Written from
the mathematics of https://github.com/jinze1994/ATRank, and compared with its numbers (tests/golden)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from atrank_lib.attention import SelfAttention, SpaceAttention, TargetAttention
from atrank_lib.batches import Features, GroupBatch
from atrank_lib.embedding import BehaviorEmbedding
from atrank_lib.log.schema import Schema, key
from atrank_lib.projection import GroupProjection, Perceptron

EPSILON = 1e-8  # of the norms


class ActionBeside(BehaviorEmbedding):
    """The action as an embedding beside the others, zeros for the target; none where a group has one action alone."""

    def __init__(self, schema: Schema, group: str, tables: nn.ModuleDict, size: int, *rest: Any) -> None:
        super().__init__(schema, group, tables, size, *rest)
        count = len(schema.groups[group].actions)
        self.beside = size if count > 1 else 0
        self.size += self.beside
        del self.actions
        if self.beside:
            self.actions = nn.Embedding(count, size)
            nn.init.normal_(self.actions.weight, std=size**-0.5)

    def forward(self, behaviors: GroupBatch) -> Float[Tensor, "n_i b_i"]:
        u = self.timed(self.objects(behaviors.features), behaviors.elapsed)
        return torch.cat([u, self.actions(behaviors.actions)], dim=1) if self.beside else u

    def target(self, features: Features) -> Float[Tensor, "n b_i"]:
        return nn.functional.pad(super().target(features), (0, self.beside))


class LinearProjection(GroupProjection):
    """Eq. 1 without its relu."""

    def __init__(self, sizes: Mapping[str, int], hidden: int) -> None:
        super().__init__(sizes, hidden)
        self.maps = nn.ModuleDict({key(group): nn.Linear(b, hidden) for group, b in sizes.items()})


class RawProjection(GroupProjection):
    """Eq. 1 for behaviors alone: the target stays ``q_t``, less the zeros that stand for its time and action."""

    def __init__(self, sizes: Mapping[str, int], hidden: int) -> None:
        super().__init__(sizes, hidden)
        self.hidden = hidden

    def one(self, group: str, u: Float[Tensor, "n b"]) -> Float[Tensor, "n d"]:
        return u[:, : self.hidden]


class DotAttention(SpaceAttention):
    """Eq. 4 as a scaled dot product: keys are a relu perceptron too, and scores are divided by ``sqrt(s_k)``."""

    def __init__(self, hidden: int, sizes: Sequence[int]) -> None:
        super().__init__(hidden, sizes)
        if len(set(sizes)) > 1:
            raise ValueError(f"attention 'dot' divides by sqrt(s_k) and needs spaces of one size, not {list(sizes)}")
        self.scale = self.sizes[0] ** -0.5
        self.keys = Perceptron(hidden, hidden)


class NormedTwice(SelfAttention):
    """Eq. 6 with two norms: ``C = LayerNorm(Y + F_self(Y))``, where ``Y = LayerNorm(S + concat_k C_k)``."""

    def __init__(self, hidden: int, attention: SpaceAttention, dropout: float = 0.0) -> None:
        super().__init__(hidden, attention, dropout)
        self.inner, self.norm = nn.LayerNorm(hidden, EPSILON), nn.LayerNorm(hidden, EPSILON)

    def add(self, s: Float[Tensor, "n d"], c: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        y = self.inner(s + c)
        return self.norm(y + self.dropout(self.feed_forward(y)))


class NormedTwiceTarget(TargetAttention):
    """Eq. 7 in the same way: ``LayerNorm(y + F_vanilla(y))``, where ``y = LayerNorm(h_t + concat_k ...)``."""

    def __init__(self, hidden: int, attention: SpaceAttention, dropout: float = 0.0) -> None:
        super().__init__(hidden, attention)
        self.inner, self.norm = nn.LayerNorm(hidden, EPSILON), nn.LayerNorm(hidden, EPSILON)
        self.dropout: nn.Module = nn.Dropout(dropout)

    def forward(self, h: Tensor, *rest: Any) -> Float[Tensor, "b c d"]:
        y = self.inner(h + self.attention.attend(*rest))
        return self.norm(y + self.dropout(self.feed_forward(y)))


def glorot(model: nn.Module) -> None:
    """TensorFlow's start: tables and matrices uniform within ``sqrt(6 / (rows + columns))``, biases zero.

    >>> line = nn.Linear(4, 2)
    >>> glorot(line)
    >>> line.bias.tolist(), bool((line.weight.abs() <= 1).all())
    ([0.0, 0.0], True)
    """
    for name, weights in model.named_parameters():
        if weights.dim() > 1 and ".biases." not in name:
            nn.init.xavier_uniform_(weights)
        elif name.endswith("bias"):
            nn.init.zeros_(weights)
