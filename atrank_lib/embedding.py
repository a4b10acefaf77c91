"""Behavior embedding: object features, time and action become one vector (paper: *Behavior Embedding Spaces*)."""

from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from atrank_lib.batches import Features, GroupBatch, Ragged
from atrank_lib.log.schema import Schema, key
from atrank_lib.log.vocabularies import UNKNOWN, Vocabularies
from atrank_lib.time_encoding import TimeEncoding


class Table(nn.Embedding):
    """One row for each value of a vocabulary."""

    def __init__(self, vocabulary: str, rows: int, size: int) -> None:
        super().__init__(rows, size)
        self.vocabulary = vocabulary
        nn.init.normal_(self.weight, std=size**-0.5)


def shared_tables(schema: Schema, vocabularies: Vocabularies, size: int) -> nn.ModuleDict:
    """One table per vocabulary: features of any group that name the same vocabulary read the same rows.

    >>> len(shared_tables(histories.schema, histories.vocabularies, size=4))  # items and coupons share the shops
    7
    """
    read = [(g, f) for g, group in schema.groups.items() for f, s in group.features.items() if s.kind != "continuous"]
    names = dict.fromkeys(schema.vocabulary(g, f) for g, f in read)
    return nn.ModuleDict({key(name): Table(name, vocabularies.size(name), size) for name in names})


class ObjectEmbedding(nn.Module):
    """``emb_i(o)``: the embeddings of an object's features, concatenated: ``b_i`` = features x ``size``.

    A categorical feature is looked up, tokens are the mean of their rows (zero without tokens), a continuous
    feature is a linear map of its standardized value and of whether it is missing.

    In training an ``object_id`` becomes *unknown* with probability ``id_dropout``: so objects unseen in training get a
    trained embedding, and the other features learn to do without the id (after Volkovs et al., 2017).
    """

    def __init__(self, schema: Schema, group: str, tables: nn.ModuleDict, size: int, id_dropout: float = 0.0) -> None:
        super().__init__()
        self.features = schema.groups[group].features
        self.vocabularies = {f: schema.vocabulary(group, f) for f, s in self.features.items() if s.kind != "continuous"}
        self.tables, self.size, self.id_dropout = tables, size * len(self.features), id_dropout
        lines = {key(f): nn.Linear(2, size) for f, s in self.features.items() if s.kind == "continuous"}
        self.lines = nn.ModuleDict(lines)

    def forward(self, features: Features) -> Float[Tensor, "n b"]:
        return torch.cat([self.feature(name, features[name]) for name in self.features], dim=1)

    def feature(self, name: str, value: Tensor | Ragged) -> Float[Tensor, "n size"]:
        """The embedding of one feature."""
        if name not in self.vocabularies:
            line = cast(nn.Linear, self.lines[key(name)])
            return line(cast(Tensor, value).to(line.weight.dtype))
        table = self.table(name)
        if isinstance(value, Ragged):
            return nn.functional.embedding_bag(value.values, table.weight, value.offsets[:-1], mode="mean")
        return table(self.index(name, value))

    def table(self, feature: str) -> Table:
        return cast(Table, self.tables[key(self.vocabularies[feature])])

    def index(self, feature: str, value: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
        """The rows of a categorical feature's table; in training some ids become unknown."""
        if feature == "object_id" and self.training and self.id_dropout:
            return value.masked_fill(torch.rand(value.shape, device=value.device) < self.id_dropout, UNKNOWN)
        return value


class BehaviorEmbedding(nn.Module):
    """``u_ij = emb_i(o_j) + lookup_i^t(bucketize_i(t_j)) + lookup_i^a(a_j)`` for the behaviors of one group.

    >>> tables = shared_tables(histories.schema, histories.vocabularies, size=4)
    >>> embedding = BehaviorEmbedding(histories.schema, "query", tables, size=4)
    >>> features = histories.catalogs["query"].take(torch.tensor([1, 2]))
    >>> behaviors = GroupBatch(features, torch.tensor([0, 0]), torch.tensor([60, 3_600]), torch.tensor([0, 1]))
    >>> embedding(behaviors).shape  # two behaviors, one feature of size 4
    torch.Size([2, 4])
    """

    def __init__(self, schema: Schema, group: str, tables: nn.ModuleDict, size: int, id_dropout: float = 0.0) -> None:
        super().__init__()
        spec = schema.groups[group]
        self.objects = ObjectEmbedding(schema, group, tables, size, id_dropout)
        self.size = self.objects.size
        self.time = TimeEncoding(spec.time, self.size, schema.timestamp_unit)
        self.actions = nn.Embedding(len(spec.actions), self.size)
        nn.init.normal_(self.actions.weight, std=self.size**-0.5)

    def forward(self, behaviors: GroupBatch) -> Float[Tensor, "n_i b_i"]:
        u = self.objects(behaviors.features) + self.actions(behaviors.actions)
        return self.timed(u, behaviors.elapsed)

    def timed(self, u: Float[Tensor, "n _"], elapsed: Int[Tensor, " n"]) -> Float[Tensor, "n b_i"]:
        """With the time that has passed, in timestamp units."""
        return u + self.time(elapsed)

    def target(self, features: Features) -> Float[Tensor, "n b_i"]:
        """``q_t``: an object to be ranked has no action and no time; they are what is predicted."""
        return self.objects(features)
