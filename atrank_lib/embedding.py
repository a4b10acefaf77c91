"""Behavior embedding: object features, time and action become one vector (paper: *Behavior Embedding Spaces*)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from atrank_lib.fast import kernels
from atrank_lib.grouping import UNKNOWN, Features, Ragged, Vocabularies
from atrank_lib.log.schema import Schema
from atrank_lib.noise import noise
from atrank_lib.samples import GroupBatch
from atrank_lib.time_encoding import TimeEncoding, TimeForm


def shared_tables(schema: Schema, vocabularies: Vocabularies, size: int) -> nn.ModuleDict:
    """One table per vocabulary: features of any group that name the same vocabulary read the same rows.

    >>> from atrank_lib.log.schema import Schema
    >>> shop = {"kind": "categorical", "vocabulary": "shop"}
    >>> groups = {g: {"actions": ["see"], "features": {"shop_id": shop}} for g in ("item", "coupon")}
    >>> schema = Schema.model_validate({"name": "mine", "groups": groups})
    >>> list(shared_tables(schema, Vocabularies({"shop": ("s1", "s2")}, {}), size=4).values())
    [Embedding(3, 4)]
    """
    names = {
        schema.vocabulary(g, f): None
        for g, group in schema.groups.items()
        for f, spec in group.features.items()
        if spec.kind != "continuous"
    }
    tables = nn.ModuleDict()
    for name in names:
        table = nn.Embedding(vocabularies.size(name), size)
        nn.init.normal_(table.weight, std=size**-0.5)
        tables[key(name)] = table
    return tables


def key(name: str) -> str:
    """Name of a group's, feature's or vocabulary's module: any text, where ``nn.ModuleDict`` forbids dots and the
    names of its own attributes (``items``, ``type``).

    >>> key("v1.items")
    '[v1/items]'
    """
    return "[" + name.replace("%", "%25").replace("/", "%2F").replace(".", "/") + "]"


class ObjectEmbedding(nn.Module):
    """``emb_i(o)``: the embeddings of an object's features, concatenated: ``b_i`` = features x ``size``.

    A categorical feature is looked up, tokens are the mean of their rows (zero without tokens), a continuous
    feature is a linear map of its standardized value and of whether it is missing.

    In training an ``object_id`` becomes *unknown* with probability ``id_dropout``. So the unknown embedding is trained,
    which objects unseen in training will need, and the other features learn to do without the id (Volkovs et al.,
    2017, drop the preference input of a recommender in this way).
    """

    def __init__(self, schema: Schema, group: str, tables: nn.ModuleDict, size: int, id_dropout: float = 0.0) -> None:
        super().__init__()
        self.features = schema.groups[group].features
        self.id_dropout = id_dropout
        self.vocabularies = {
            name: key(schema.vocabulary(group, name))
            for name, spec in self.features.items()
            if spec.kind != "continuous"
        }
        self.tables = tables
        self.lines = nn.ModuleDict(
            {key(name): nn.Linear(2, size) for name, spec in self.features.items() if spec.kind == "continuous"}
        )
        self.size = size * len(self.features)

    def forward(self, features: Features) -> Float[Tensor, "n b"]:
        parts = []
        for name, spec in self.features.items():
            value = features[name]
            if spec.kind == "continuous":
                line = cast(nn.Linear, self.lines[key(name)])
                parts.append(line(cast(Tensor, value).to(line.weight.dtype)))
                continue
            table = self.table(name)
            if isinstance(value, Ragged):
                parts.append(nn.functional.embedding_bag(value.values, table.weight, value.offsets[:-1], mode="mean"))
            else:
                parts.append(table(self.index(name, value)))
        return torch.cat(parts, dim=1)

    def table(self, feature: str) -> nn.Embedding:
        return cast(nn.Embedding, self.tables[self.vocabularies[feature]])

    def index(self, feature: str, value: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
        """The rows of a categorical feature's table; in training some ids become unknown."""
        if feature == "object_id" and self.training and self.id_dropout:
            chance = torch.rand(value.shape, device=value.device, generator=noise())
            return value.masked_fill(chance < self.id_dropout, UNKNOWN)
        return value

    def look_up(
        self, features: Features, on_top: Sequence[tuple[nn.Embedding, Int[Tensor, " n"]]] = ()
    ) -> Float[Tensor, "n b"]:
        """The same, and rows of other tables ``on_top``: in one go, where every feature is a row of a table."""
        tables = [table for table, _ in on_top]
        if all(spec.kind == "categorical" for spec in self.features.values()):
            tables = [*map(self.table, self.features), *tables]
            if kernels.ready(tables[0].weight, *(table.embedding_dim for table in tables)):
                indices = [self.index(name, cast(Tensor, features[name])) for name in self.features]
                indices += [index for _, index in on_top]
                added = [False] * len(self.features) + [True] * len(on_top)
                return kernels.look_up([table.weight for table in tables], indices, added)
        u = self(features)
        for table, index in on_top:
            u = u + table(index)
        return u


class BehaviorEmbedding(nn.Module):
    """``u_ij = emb_i(o_j) + lookup_i^t(bucketize_i(t_j)) + lookup_i^a(a_j)`` for the behaviors of one group.

    >>> from atrank_lib.log.schema import Schema
    >>> item = {"actions": ["buy"], "features": {"object_id": {"kind": "categorical"}, "price": {"kind": "continuous"}}}
    >>> schema = Schema.model_validate({"name": "mine", "groups": {"item": item}})
    >>> tables = shared_tables(schema, Vocabularies({"item.object_id": ("i1", "i2")}, {}), size=4)
    >>> embedding = BehaviorEmbedding(schema, "item", tables, size=4)
    >>> features = {"object_id": torch.tensor([1, 2]), "price": torch.zeros(2, 2)}
    >>> behaviors = GroupBatch(features, torch.tensor([0, 0]), torch.tensor([60, 3_600]), torch.tensor([0, 1]))
    >>> embedding(behaviors).shape  # two behaviors, two features of size 4
    torch.Size([2, 8])
    """

    def __init__(
        self,
        schema: Schema,
        group: str,
        tables: nn.ModuleDict,
        size: int,
        time: TimeForm = "lookup",
        id_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.objects = ObjectEmbedding(schema, group, tables, size, id_dropout)
        spec = schema.groups[group]
        self.time = TimeEncoding(spec.time, self.objects.size, time, schema.timestamp_unit)
        self.actions = nn.Embedding(len(spec.actions), self.objects.size)
        nn.init.normal_(self.actions.weight, std=self.objects.size**-0.5)
        self.size = self.objects.size + (self.time.buckets if time == "one_hot" else 0)

    def forward(self, behaviors: GroupBatch) -> Float[Tensor, "n_i b_i"]:
        on_top = [(self.actions, behaviors.actions)]
        if self.time.form == "lookup":
            on_top.append((self.time.table, self.time.bucketize(behaviors.elapsed)))
        u = self.objects.look_up(behaviors.features, on_top)
        if self.time.form in ("lookup", "none"):
            return u
        moments = self.time(behaviors.elapsed)
        return torch.cat([u, moments], dim=1) if self.time.form == "one_hot" else u + moments

    def target(self, features: Features) -> Float[Tensor, "n b_i"]:
        """``q_t``: an object to be ranked has no action and no time; they are what is predicted."""
        q = self.objects.look_up(features)
        return nn.functional.pad(q, (0, self.size - q.shape[1]))
