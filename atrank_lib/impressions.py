"""Impressions: what a user saw when choosing, as negatives, and what was known of it then, as context.

Beyond the paper, which draws negatives from all objects. A *choice* is a behavior beside which something else was
shown. What was known of it then is context, which ``f`` of eq. 8 alone reads (``context.Context``).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from atrank_lib.batches import Candidates, Samples
from atrank_lib.grouping import Catalog, GroupedHistories, Log
from atrank_lib.heads import contexts
from atrank_lib.log.events import EventLog
from atrank_lib.log.schema import EVENT, OBJECT_ID
from atrank_lib.log.vocabularies import Vocabularies
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
        (keys, width), at = self.keys, positions[:, None]
        wanted = at * width + objects
        place = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
        return place.masked_fill((keys[place] != wanted) | (objects < 0) | (objects >= width) | (at < 0), -1)

    @cached_property
    def keys(self) -> tuple[Int[Tensor, " m"], int]:
        """A number for each place of a list and its object, ascending, and how many objects there may be."""
        owner, width = torch.arange(len(self.offsets) - 1), int(self.objects.max()) + 1
        return torch.repeat_interleave(owner, self.offsets.diff()) * width + self.objects, width


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
        schema = contexts(self.schema)
        if schema is None:
            return {}
        tables = {g: self.impressions[g].reindex([*range(len(self.impressions[g])), -1]) for g in schema.groups}
        tables = {g: table.fillna({OBJECT_ID: ""}) for g, table in tables.items()}
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
    """As ``samples.prepare``, with impressions; of their context too is known what training shows.

    >>> prepare_shown(log, "validated", ["item"])[0]
    GroupedHistories(40 users; item: 870, query: 431, coupon: 327 behaviors)
    """
    histories, parts = prepare(log, protocol, targets, partial(ShownHistories.from_log, choices=choices))
    schema, tables = contexts(log.schema), {}
    if schema is None:
        return histories, parts
    for name in schema.groups:
        rows, table = histories.groups[name].rows, log.impressions[name]
        trained = rows[parts.train[name].positions] if name in parts.train else rows[:0]
        tables[name] = table[table[EVENT].isin(trained.numpy())]
    words, context = histories.vocabularies, Vocabularies.from_objects(schema, tables)
    known = replace(words, words=words.words | context.words, scales=words.scales | context.scales)
    return histories.encode(known), parts
