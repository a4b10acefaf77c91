"""Behavior grouping: from an event log to one block of flat tensors per group (paper: *Raw Feature Spaces*).

A user's behaviors ``U = {(a_j, o_j, t_j)}`` are partitioned by the type of their object into groups
``bg_1 ... bg_n``. Every group is stored once, as flat tensors sorted by user and time, with one offset per
user (compressed sparse rows): the behaviors of user ``u`` are ``[offsets[u], offsets[u + 1])``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from atrank_lib.batches import Candidates, Features, Ragged, Samples
from atrank_lib.log.schema import Schema
from atrank_lib.log.vocabularies import Vocabularies


@runtime_checkable
class Log(Protocol):
    """Tables of a valid log, by group: events (user_id, timestamp, action, object_id), and objects with features."""

    @property
    def schema(self) -> Schema: ...
    @property
    def events(self) -> Mapping[str, pd.DataFrame]: ...
    @property
    def objects(self) -> Mapping[str, pd.DataFrame]: ...


@dataclass(frozen=True)
class Catalog:
    """The objects of one group as a model reads them: one row an object, in the order of the objects table."""

    object_ids: tuple[str, ...]
    features: Features

    @classmethod
    def of(cls, schema: Schema, group: str, table: pd.DataFrame, vocabularies: Vocabularies) -> "Catalog":
        features: Features = {}
        for name, spec in schema.groups[group].features.items():
            column = table[name]
            if spec.kind == "continuous":
                mean, deviation = vocabularies.scales[f"{group}.{name}"]
                value = torch.tensor((column.to_numpy(float) - mean) / deviation, dtype=torch.float32)
                missing = value.isnan()
                features[name] = torch.stack([value.masked_fill(missing, 0.0), missing.float()], dim=1)
            elif spec.kind == "tokens":
                lengths = torch.tensor(column.str.len().fillna(0).to_numpy(np.int64))
                words = column[lengths.numpy() > 0].explode()
                indices = torch.from_numpy(vocabularies.index(schema.vocabulary(group, name), words))
                features[name] = Ragged(indices, torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]))
            else:
                features[name] = torch.from_numpy(vocabularies.index(schema.vocabulary(group, name), column))
        return cls(tuple(table["object_id"]), features)

    def __len__(self) -> int:
        return len(self.object_ids)

    def take(self, rows: Int[Tensor, " n"]) -> Features:
        """Features of the objects ``rows``; each has first dimension ``n``."""
        return {name: f.take(rows) if isinstance(f, Ragged) else f[rows] for name, f in self.features.items()}


@dataclass(frozen=True)
class GroupHistory:
    """All behaviors of one group, sorted by user and time; row order of the log breaks ties."""

    offsets: Int[Tensor, " users_plus_1"]
    timestamps: Int[Tensor, " n"]  # in the schema's timestamp_unit
    actions: Int[Tensor, " n"]  # position in the group's list of actions
    objects: Int[Tensor, " n"]  # row of the objects table
    rows: Int[Tensor, " n"]  # row of the events table it came from

    def users(self) -> Int[Tensor, " n"]:
        """The user of every behavior."""
        return torch.repeat_interleave(torch.arange(len(self.offsets) - 1), self.offsets.diff())


def _group_history(events: pd.DataFrame, users: pd.Index, objects: pd.DataFrame) -> GroupHistory:
    user = users.get_indexer(pd.Index(events["user_id"]))
    timestamp = events["timestamp"].to_numpy(np.int64)
    order = np.lexsort((timestamp, user))  # stable: equal times keep the order of the log's rows
    action = events["action"].cat.codes.to_numpy(np.int16)
    object_row = pd.Index(objects["object_id"]).get_indexer(pd.Index(events["object_id"])).astype(np.int32)
    offsets = np.concatenate([[0], np.bincount(user, minlength=len(users)).cumsum()])
    columns = offsets, timestamp[order], action[order], object_row[order], order.astype(np.int32)
    return GroupHistory(*map(torch.from_numpy, columns))


@dataclass(frozen=True)
class GroupedHistories:
    """Every user's behaviors, grouped by object type: the model's whole input, stored once.

    >>> histories
    GroupedHistories(40 users; item: 870, query: 431, coupon: 327 behaviors)
    >>> item, user = histories.groups["item"], histories.user("user0")
    >>> int(item.offsets[user + 1] - item.offsets[user])  # behaviors of this user with items
    21
    """

    schema: Schema
    user_ids: pd.Index
    groups: dict[str, GroupHistory]
    tables: dict[str, pd.DataFrame]  # the log's objects tables
    vocabularies: Vocabularies

    @classmethod
    def from_log(cls, log: Log, vocabularies: Vocabularies | None = None) -> "GroupedHistories":
        """Group a log. Without ``vocabularies`` every value in the log's objects tables is known."""
        users = pd.Index(np.unique(np.concatenate([e["user_id"].unique() for e in log.events.values()])), dtype="str")
        groups = {g: _group_history(log.events[g], users, log.objects[g]) for g in log.schema.groups}
        vocabularies = vocabularies or Vocabularies.from_objects(log.schema, log.objects, users)
        return cls(log.schema, users, groups, dict(log.objects), vocabularies)

    @cached_property
    def catalogs(self) -> dict[str, Catalog]:
        """The objects of every group, in the indices of the vocabularies."""
        return {g: Catalog.of(self.schema, g, self.tables[g], self.vocabularies) for g in self.groups}

    @cached_property
    def users(self) -> Int[Tensor, " users"]:
        """Index of every user in the vocabularies' users."""
        known = pd.Index(self.vocabularies.users, dtype="str")
        return torch.from_numpy(known.get_indexer(self.user_ids).astype(np.int64) + 1)

    def candidates(self, samples: Samples, rows: Int[Tensor, "b c"]) -> Candidates:
        """These objects, for each sample its own, as a model reads them."""
        group = samples.target_group
        return Candidates(group, self.catalogs[group].take(rows.flatten()), (rows.shape[0], rows.shape[1]))

    def eligible(self, group: str) -> Bool[Tensor, " n"]:
        """Which behaviors of a group may be targets."""
        return torch.ones(len(self.groups[group].timestamps), dtype=torch.bool)

    def lists(self, group: str) -> Any:
        """What was shown beside targets, where that is known (``impressions.Lists``)."""
        return None

    def __len__(self) -> int:
        """Number of users."""
        return len(self.user_ids)

    def encode(self, vocabularies: Vocabularies) -> "GroupedHistories":
        """The same histories, seen by a model that knows only ``vocabularies``."""
        return replace(self, vocabularies=vocabularies)

    def user(self, user_id: str) -> int:
        """Number of a user; ``KeyError`` with a remedy when the log has no such user."""
        if user_id not in self.user_ids:
            first = list(self.user_ids[:3])
            raise KeyError(f"user {user_id!r} has no behavior in this log; its first users are {first}")
        return int(self.user_ids.get_indexer(pd.Index([user_id], dtype="str"))[0])

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name}: {len(g.timestamps)}" for name, g in self.groups.items())
        return f"GroupedHistories({len(self)} users; {sizes} behaviors)"
