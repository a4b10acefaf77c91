"""Impressions: what a user saw when choosing, as negatives, and what was known of it then, as context.

Beyond the paper, which draws negatives from all objects. A *choice* is a behavior beside which something else was
shown. Context, such as an object's place in the list, is for ``f`` of eq. 8 alone: histories have no part in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from atrank_lib.batches import Candidates, Samples
from atrank_lib.embedding import ObjectEmbedding, shared_tables
from atrank_lib.grouping import Catalog, GroupedHistories, Log
from atrank_lib.log.events import EventLog
from atrank_lib.log.schema import EVENT, OBJECT_ID, Schema, key
from atrank_lib.log.vocabularies import Vocabularies
from atrank_lib.ranking import Targets
from atrank_lib.samples import Protocol, Split, prepare


@dataclass(frozen=True)
class Lists:
    """What was shown in one group, end to end: beside the behavior at position ``p`` of the group's flat tensors the
    objects ``[offsets[p], offsets[p + 1])``, ascending."""

    offsets: Int[Tensor, " n_plus_1"]
    objects: Int[Tensor, " m"]
    rows: Int[Tensor, " m"]  # of the table of impressions

    @classmethod
    def of(cls, histories: GroupedHistories, group: str, table: pd.DataFrame) -> "Lists":
        own, known = histories.groups[group], pd.Index(histories.tables[group][OBJECT_ID])
        position = np.empty(len(own.rows), np.int64)
        position[own.rows.numpy()] = np.arange(len(own.rows))
        at, objects = position[table[EVENT].to_numpy()], known.get_indexer(pd.Index(table[OBJECT_ID]))
        order = np.lexsort((objects, at))
        offsets = np.concatenate([[0], np.bincount(at, minlength=len(position)).cumsum()])
        return cls(torch.from_numpy(offsets), torch.from_numpy(objects[order]), torch.from_numpy(order))

    def beside(self, samples: Samples, count: int | None, generator: torch.Generator) -> Int[Tensor, "s c"]:
        """At most ``count`` of what was shown beside each target, at random, or all (None); -1: there is no more."""
        starts, stops = self.offsets[samples.positions], self.offsets[samples.positions + 1]
        longest = int((stops - starts).max()) if len(samples) else 1
        places = starts[:, None] + torch.arange(longest)
        objects = self.objects[places.clamp(max=len(self.objects) - 1)]
        real = (places < stops[:, None]) & (objects != samples.objects[:, None])
        turns = torch.rand(real.shape, generator=generator).masked_fill(~real, 2.0).argsort(dim=1)
        return objects.masked_fill(~real, -1).gather(1, turns[:, : longest - 1 if count is None else count])

    def find(self, positions: Int[Tensor, " s"], objects: Int[Tensor, "s c"]) -> Int[Tensor, "s c"]:
        """Where objects stand in the lists of these behaviors; -1 where they were not shown."""
        owner = torch.repeat_interleave(torch.arange(len(self.offsets) - 1), self.offsets.diff())
        width = int(max(self.objects.max(), objects.max())) + 1
        keys, wanted = owner * width + self.objects, positions[:, None] * width + objects
        place = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
        return place.masked_fill((keys[place] != wanted) | (objects < 0) | (positions[:, None] < 0), -1)


@dataclass(frozen=True, repr=False)
class ShownHistories(GroupedHistories):
    """Grouped histories of a log with impressions. With ``choices`` only those are targets, in groups that have some.

    Context is given where all candidates of a sample were shown: it would tell them from any that were not.
    """

    impressions: dict[str, pd.DataFrame] = field(default_factory=dict)
    choices: bool = False

    @classmethod
    def from_log(cls, log: Log, vocabularies: Vocabularies | None = None, choices: bool = False) -> "ShownHistories":
        tables = dict(log.impressions) if isinstance(log, EventLog) else {}
        return replace(cls(**vars(GroupedHistories.from_log(log, vocabularies))), impressions=tables, choices=choices)

    @cached_property
    def shown(self) -> dict[str, Lists]:
        return {name: Lists.of(self, name, table) for name, table in self.impressions.items() if len(table)}

    @cached_property
    def contexts(self) -> dict[str, Catalog]:
        """The context of every impression, and in a last row what is said where nothing is known."""
        schema = self.schema.contexts
        if schema is None:
            return {}
        tables = {g: self.impressions[g].reindex([*range(len(self.impressions[g])), -1]) for g in schema.groups}
        return {g: Catalog.of(schema, g, table, self.vocabularies) for g, table in tables.items()}

    def lists(self, group: str) -> Lists | None:
        return self.shown.get(group)

    def eligible(self, group: str) -> Bool[Tensor, " n"]:
        shown = self.shown.get(group)
        return super().eligible(group) if shown is None or not self.choices else shown.offsets.diff() > 1

    def candidates(self, samples: Samples, rows: Int[Tensor, "b c"]) -> Candidates:
        group, real = samples.target_group, rows >= 0
        found, shown = super().candidates(samples, rows.clamp(min=0)), self.shown.get(group)
        if shown is None:
            return found
        place = shown.find(samples.positions, rows)
        place = shown.rows[place].masked_fill(~((place >= 0) | ~real).all(dim=1, keepdim=True) | ~real, -1)
        context = None
        if catalog := self.contexts.get(group):
            context = catalog.take(torch.where(place < 0, len(catalog) - 1, place).flatten())
        return replace(found, context=context, real=None if bool(real.all()) else real)


def prepare_shown(
    log: EventLog, protocol: Protocol, targets: Sequence[str] | None, choices: bool = False
) -> tuple[GroupedHistories, Split]:
    """As ``samples.prepare``, with impressions; of their context too is known what training shows."""
    histories, parts = prepare(log, protocol, targets, partial(ShownHistories.from_log, choices=choices))
    if log.schema.contexts is None:
        return histories, parts
    tables = {}
    for name in log.schema.contexts.groups:
        rows, table = histories.groups[name].rows, log.impressions[name]
        trained = rows[parts.train[name].positions] if name in parts.train else rows[:0]
        tables[name] = table[table[EVENT].isin(trained.numpy())]
    words, context = histories.vocabularies, Vocabularies.from_objects(log.schema.contexts, tables)
    known = replace(words, words=words.words | context.words, scales=words.scales | context.scales)
    return histories.encode(known), parts


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
        if schema and vocabularies and (contexts := schema.contexts):
            tables = shared_tables(contexts, vocabularies, size)
            for g in contexts.groups:
                read = ObjectEmbedding(contexts, g, tables, size)
                self.groups[key(g)] = nn.Sequential(read, nn.Linear(read.size, width, bias=False))

    def forward(self, layers: nn.Sequential, x: Float[Tensor, "b c n"], targets: Targets) -> Float[Tensor, "b c"]:
        """The one output of ``layers`` for the inputs ``x`` of every candidate."""
        first = layers[0](x)
        if targets.context is not None and key(targets.group) in self.groups:
            first = first + self.groups[key(targets.group)](targets.context).view_as(first)
        return layers[1:](first).squeeze(-1)
