"""Kernels put in the place of a model's layers, from outside: same parameters, same names, same numbers."""

from collections.abc import Sequence
from functools import cache
from typing import TypeVar, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from atrank_lib.attention import FeedForward, Queries, SpaceAttention
from atrank_lib.batches import Features, GroupBatch, Packing
from atrank_lib.embedding import BehaviorEmbedding, ObjectEmbedding
from atrank_lib.fast import kernels
from atrank_lib.projection import GroupProjection, Perceptron

M = TypeVar("M", bound=nn.Module)


def speed_up(model: M) -> M:
    """The same model, in place, with kernels for its layers, wherever they can be had (``kernels.ready``).

    >>> fast = speed_up(ATRank(histories.schema, histories.vocabularies))
    >>> type(fast.block(0).attention).__name__, type(plain(fast).block(0).attention).__name__
    ('FasterAttentionForSpaceAttention', 'SpaceAttention')
    """
    replaced(model, _FASTER)
    for module in model.modules():
        maps = module.maps.children() if isinstance(module, GroupProjection) else iter(())
        for linear in [module.keys] if isinstance(module, SpaceAttention) else maps:
            if type(linear) is nn.Linear:
                _become(linear, FasterLinear)
    return model


def plain(model: M) -> M:
    """The same model, in place, as it was before ``speed_up``."""
    for module in model.modules():
        if isinstance(module, (FasterLinear, *_FASTER)):
            module.__class__ = type(module).__bases__[1]
    return model


def sped_up(model: nn.Module) -> bool:
    """Whether ``speed_up`` was done to a model, and not undone.

    >>> sped_up(model), sped_up(speed_up(model)), sped_up(plain(model))
    (False, True, False)
    """
    return any(isinstance(module, _FASTER) for module in model.modules())


def replaced(model: M, others: Sequence[type[nn.Module]]) -> M:
    """The same model, in place: every layer of the kind that one of ``others`` is of, or a variant, behaves as it."""
    for module in model.modules():
        for other in others:
            if isinstance(module, other.__bases__[0]) and not isinstance(module, other):
                _become(module, other)
    return model


def _become(module: nn.Module, other: type[nn.Module]) -> None:
    """What ``other`` does not say stays as the module's own class does it."""
    module.__class__ = _both(other, type(module))  # type: ignore[arg-type]


@cache
def _both(other: type[nn.Module], kind: type[nn.Module]) -> type[nn.Module]:
    return type(f"{other.__name__}For{kind.__name__}", (other, kind), {})


class FasterLinear(nn.Linear):
    """A linear layer."""

    def forward(self, input: Tensor) -> Tensor:
        return kernels.layers(input, [self], [False])[0]


class FasterPerceptron(Perceptron):
    """A linear layer and a relu, in one go."""

    def forward(self, input: Tensor) -> Tensor:
        return kernels.layers(input, [cast(nn.Linear, self[0])], [True])[0]


class FasterFeedForward(FeedForward):
    """Two linear layers and a relu between them, in two goes."""

    def forward(self, input: Tensor) -> Tensor:
        (inner,) = kernels.layers(input, [cast(nn.Linear, self[0])], [True])
        return kernels.layers(inner, [cast(nn.Linear, self[2])], [False])[0]


class FasterAttention(SpaceAttention):
    """Projections in one go, and attention that reads each sample's rows where they lie, without padding."""

    def project(self, s: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n d"], ...]:
        return self._layers(s, [self.queries.map, self.keys, self.values])

    def read(self, s: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n d"], ...]:
        return self._layers(s, [self.keys, self.values])

    def _layers(self, s: Float[Tensor, "n d"], parts: Sequence[nn.Module]) -> tuple[Float[Tensor, "n d"], ...]:
        linears = [cast(nn.Linear, part[0] if isinstance(part, nn.Sequential) else part) for part in parts]
        return kernels.layers(s, linears, [isinstance(part, nn.Sequential) for part in parts])

    def attend(
        self, queries: Queries, keys: Float[Tensor, "n d"], values: Float[Tensor, "n d"], packing: Packing
    ) -> Queries:
        other = type(self).shares is not SpaceAttention.shares or (self.training and self.dropout > 0)
        if other or len(set(self.sizes)) > 1 or not kernels.ready(queries, queries.shape[-1]):
            return super().attend(queries, keys, values, packing)
        offsets, order, among = packing.offsets, packing.order, queries.dim() == 2
        starts = offsets if among else torch.arange(len(queries) + 1) * queries.shape[1]
        rows = kernels.Rows(starts, offsets, query_order=order if among else None, key_order=order)
        out = kernels.attend(queries.flatten(0, -2), keys, values, rows, len(self.sizes), self.scale)
        return out.view(queries.shape)


class FasterObjects(ObjectEmbedding):
    """Rows of all tables in one go, where every feature is a row of a table."""

    def forward(self, features: Features) -> Float[Tensor, "n b"]:
        found = self.look_up(features, [])
        return super().forward(features) if found is None else found

    def look_up(
        self, features: Features, added: Sequence[tuple[nn.Embedding, Int[Tensor, " n"]]]
    ) -> Float[Tensor, "n b"] | None:
        """Features side by side, and rows of ``added`` tables on top; None where kernels cannot."""
        if any(spec.kind != "categorical" for spec in self.features.values()):
            return None
        tables = [*map(self.table, self.features), *(table for table, _ in added)]
        if not kernels.ready(tables[0].weight, *(table.embedding_dim for table in tables)):
            return None
        indices = [self.index(name, cast(Tensor, features[name])) for name in self.features]
        on_top = [False] * len(indices) + [True] * len(added)
        return kernels.look_up([t.weight for t in tables], [*indices, *(index for _, index in added)], on_top)


class FasterEmbedding(BehaviorEmbedding):
    """Objects, actions and, unless time is another part, times in one go; a part with a sum of its own keeps it."""

    def forward(self, behaviors: GroupBatch) -> Float[Tensor, "n_i b_i"]:
        if cast(type[nn.Module], type(self).__bases__[1]).forward is not BehaviorEmbedding.forward:
            return super().forward(behaviors)
        added = [(self.actions, behaviors.actions)]
        papers = type(self).timed is BehaviorEmbedding.timed
        if papers:
            added.append((self.time.table, self.time.bucketize(behaviors.elapsed)))
        u = cast(FasterObjects, self.objects).look_up(behaviors.features, added)
        if u is None:
            return super().forward(behaviors)
        return u if papers else self.timed(u, behaviors.elapsed)


_FASTER = (FasterPerceptron, FasterFeedForward, FasterAttention, FasterObjects, FasterEmbedding)
