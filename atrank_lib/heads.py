"""Networks that rank, in the place of eq. 8's ``f`` or around it, and the context that they alone read.

The paper: ``f`` of eq. 8 may be any network that ranks, with further features. Context is what is known of an object as
it is shown, such as its place in a list; histories have no part in it. ``variants`` puts these in.
"""

from dataclasses import replace
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from atrank_lib.attention import FeedForward
from atrank_lib.embedding import ObjectEmbedding, Table, shared_tables
from atrank_lib.log.schema import Schema, key
from atrank_lib.log.vocabularies import Vocabularies
from atrank_lib.ranking import Targets

EXPERTS = 4


def contexts(schema: Schema) -> Schema | None:
    """The groups that have context, with it as their features; None where no group has.

    >>> contexts(log.schema) is None
    True
    """
    groups = {n: g.model_copy(update={"features": g.context, "context": {}}) for n, g in schema.groups.items()}
    groups = {name: group for name, group in groups.items() if group.features}
    return schema.model_copy(update={"groups": groups}) if groups else None


class Context(nn.Module):
    """What is known of candidates as they were shown, added to what the first layer of a ranking network gives.

    Args:
        width: of that layer.
        schema, vocabularies: of the log; without context in them nothing is added.
    """

    def __init__(
        self, width: int, schema: Schema | None = None, vocabularies: Vocabularies | None = None, size: int = 16
    ) -> None:
        super().__init__()
        self.groups = nn.ModuleDict()
        if schema and vocabularies and (known := contexts(schema)):
            try:
                tables = shared_tables(known, vocabularies, size)
            except KeyError as error:
                message = f"context {error} has no vocabulary; `impressions.prepare_shown` makes those of context too"
                raise ValueError(message) from None
            for g in known.groups:
                read = ObjectEmbedding(known, g, tables, size)
                self.groups[key(g)] = nn.Sequential(read, nn.Linear(read.size, width, bias=False))

    def forward(self, layers: nn.Sequential, x: Float[Tensor, "b c n"], targets: Targets) -> Float[Tensor, "b c"]:
        """The one output of ``layers`` for the inputs ``x`` of every candidate."""
        first = layers[0](x)
        if targets.context is not None and key(targets.group) in self.groups:
            first = first + self.groups[key(targets.group)](targets.context).view_as(first)
        return layers[1:](first).squeeze(-1)


class MLP(nn.Module):
    """``f`` as a network with one hidden layer that reads target, user and their product, and context where there is
    some: no other part of a model knows it."""

    def __init__(self, hidden: int, dropout: float = 0.0, context: Context | None = None) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3 * hidden, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, 1))
        self.context = context or Context(hidden)

    def forward(self, targets: Targets, user: Float[Tensor, "b c d"]) -> Float[Tensor, "b c"]:
        return self.context(self.layers, torch.cat([targets.h, user, targets.h * user], dim=-1), targets)


class MMoE(nn.Module):
    """Mixture of experts for many tasks (Ma et al., 2018): all tasks share networks, the experts, and each target group
    has a gate that weighs them for every candidate, and a tower that reads their sum::

        x = [h_t; e_u; h_t * e_u],   score = tower_g(sum_i softmax(gate_g(x))_i relu(expert_i(x)))
    """

    def __init__(self, schema: Schema, hidden: int, dropout: float = 0.0, context: Context | None = None) -> None:
        super().__init__()
        self.experts = nn.Linear(3 * hidden, EXPERTS * hidden)
        self.gates = nn.ModuleDict({key(g): nn.Linear(3 * hidden, EXPERTS) for g in schema.groups})
        towers = {key(g): [nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout)] for g in schema.groups}
        self.towers = nn.ModuleDict({g: nn.Sequential(*tower, nn.Linear(hidden, 1)) for g, tower in towers.items()})
        self.context = context or Context(hidden)

    def forward(self, targets: Targets, user: Float[Tensor, "b c d"]) -> Float[Tensor, "b c"]:
        x = torch.cat([targets.h, user, targets.h * user], dim=-1)
        told = self.experts(x).relu().unflatten(-1, (EXPERTS, -1))  # [b, c, n, d]
        shares = self.gates[key(targets.group)](x).softmax(dim=-1)
        mixed = (shares[..., None] * told).sum(dim=-2)
        return self.context(cast(nn.Sequential, self.towers[key(targets.group)]), mixed, targets)


class RankRaw(nn.Module):
    """``f`` compares ``q_t``, as the text after eq. 8 says."""

    def __init__(self, rank: nn.Module) -> None:
        super().__init__()
        self.rank = rank

    def forward(self, targets: Targets, user: Float[Tensor, "b c d"]) -> Float[Tensor, "b c"]:
        return self.rank(replace(targets, h=targets.q), user)


class WithBias(nn.Module):
    """Adds a learned bias for each ``object_id`` to its score, as the original code does."""

    def __init__(self, rank: nn.Module, schema: Schema, tables: nn.ModuleDict) -> None:
        super().__init__()
        self.rank, self.biases = rank, nn.ModuleDict()
        for g, group in schema.groups.items():
            if "object_id" not in group.features:
                raise ValueError(f"object_bias needs object_id among the features of group {g!r}")
            self.biases[key(g)] = zeros(tables, schema.vocabulary(g, "object_id"))

    def forward(self, targets: Targets, user: Float[Tensor, "b c d"]) -> Float[Tensor, "b c"]:
        return self.rank(targets, user) + self.biases[key(targets.group)](targets.ids).squeeze(-1)


class WithHeads(nn.Module):
    """Each target group reads the user through a network of its own; in the paper all tasks share all parameters."""

    def __init__(self, rank: nn.Module, schema: Schema, hidden: int) -> None:
        super().__init__()
        self.rank, self.heads = rank, nn.ModuleDict({key(g): FeedForward(hidden) for g in schema.groups})

    def forward(self, targets: Targets, user: Float[Tensor, "b c d"]) -> Float[Tensor, "b c"]:
        return self.rank(targets, user + self.heads[key(targets.group)](user))


def zeros(tables: nn.ModuleDict, vocabulary: str) -> Table:
    """One number for each row of a vocabulary's table, zero at first.

    >>> zeros(model.tables, "shop").weight.abs().sum().item()
    0.0
    """
    rows = cast(Table, tables[key(vocabulary)]).num_embeddings
    numbers = Table(vocabulary, rows, 1)
    nn.init.zeros_(numbers.weight)
    return numbers
