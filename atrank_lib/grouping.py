"""Behavior grouping: from an event log to one block of flat tensors per group (paper: *Raw Feature Spaces*).

A user's behaviors ``U = {(a_j, o_j, t_j)}`` are partitioned by the type of their object into groups
``bg_1 ... bg_n``. Every group is stored once, as flat tensors sorted by user and time, with one offset per
user (compressed sparse rows): the behaviors of user ``u`` are ``[offsets[u], offsets[u + 1])``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from atrank_lib.log.events import EventLog
from atrank_lib.log.schema import Schema

UNKNOWN = 0  # index 0 of every vocabulary: a value that training never showed; padding is a mask, never an id


def key(name: str) -> str:
    """Name of a group's, feature's or vocabulary's module: any text, where ``nn.ModuleDict`` forbids dots and the
    names of its own attributes (``items``, ``type``).

    >>> key("v1.items")
    '[v1/items]'
    """
    return "[" + name.replace("%", "%25").replace("/", "%2F").replace(".", "/") + "]"


def ranges(starts: Int[Tensor, " b"], lengths: Int[Tensor, " b"]) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"]]:
    """The numbers ``starts[i] ... starts[i] + lengths[i] - 1`` for every ``i``, end to end, and their ``i``.

    >>> ranges(torch.tensor([5, 0]), torch.tensor([2, 3]))
    (tensor([5, 6, 0, 1, 2]), tensor([0, 0, 1, 1, 1]))
    """
    owner = torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)
    shift = starts - (lengths.cumsum(0) - lengths)
    return torch.arange(len(owner), device=lengths.device) + shift[owner], owner


@dataclass(frozen=True)
class Ragged:
    """Lists of different lengths in one tensor: list ``i`` is ``values[offsets[i]:offsets[i + 1]]``."""

    values: Int[Tensor, " n"]
    offsets: Int[Tensor, " b_plus_1"]

    def take(self, rows: Int[Tensor, " m"]) -> Ragged:
        """The lists ``rows``, in that order."""
        starts, lengths = self.offsets[rows], self.offsets[rows + 1] - self.offsets[rows]
        positions, _ = ranges(starts, lengths)
        return Ragged(self.values[positions], torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]))


# what a model reads of some objects: indices, lists of indices, or (standardized value, is missing)
Features = dict[str, Tensor | Ragged]


@dataclass(frozen=True)
class Vocabularies:
    """Every value a model knows: text to index (from 1; 0 is *unknown*), and the scale of continuous features.

    ``words`` maps a vocabulary's name to its values; ``scales`` maps ``group.feature`` to (mean, deviation);
    ``users`` are the users that training showed, for models that give each user an embedding (ATRank does not).

    >>> words = Vocabularies({"shop": ("s1", "s2")}, {})
    >>> words.size("shop"), words.index("shop", pd.Series(["s2", "never seen", None])).tolist()
    (3, [2, 0, 0])
    """

    words: dict[str, tuple[str, ...]]
    scales: dict[str, tuple[float, float]]
    users: tuple[str, ...] = ()

    @classmethod
    def from_objects(
        cls, schema: Schema, objects: Mapping[str, pd.DataFrame], users: Iterable[str] = ()
    ) -> Vocabularies:
        """Collect the values of objects tables; groups that share a vocabulary pool their values."""
        words: dict[str, set[str]] = {}
        scales = {}
        for name, group in schema.groups.items():
            for feature, spec in group.features.items():
                column = objects[name][feature]
                if spec.kind == "continuous":
                    values = column.to_numpy(float)
                    known = values[np.isfinite(values)]
                    mean, deviation = (known.mean(), known.std()) if len(known) else (0.0, 0.0)
                    scales[f"{name}.{feature}"] = (float(mean), float(deviation) or 1.0)
                else:
                    flat = column.explode() if spec.kind == "tokens" else column
                    words.setdefault(schema.vocabulary(name, feature), set()).update(flat.dropna().unique())
        return cls({name: tuple(sorted(values)) for name, values in words.items()}, scales, tuple(users))

    def size(self, vocabulary: str) -> int:
        """Rows that a table of this vocabulary needs, the unknown one included."""
        return len(self.words[vocabulary]) + 1

    def index(self, vocabulary: str, values: pd.Series) -> Int[Tensor, " n"]:
        """Indices of ``values``; whatever is missing or not in the vocabulary becomes ``UNKNOWN``."""
        found = pd.Index(self.words[vocabulary], dtype="str").get_indexer(pd.Index(values, dtype="str"))
        return torch.from_numpy(np.where(values.isna(), UNKNOWN, found + 1).astype(np.int64))

    @property
    def users_size(self) -> int:
        """Rows that a table of users needs, the unknown one included."""
        return len(self.users) + 1

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), ensure_ascii=False), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Vocabularies:
        content = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            {name: tuple(values) for name, values in content["words"].items()},
            {name: (mean, deviation) for name, (mean, deviation) in content["scales"].items()},
            tuple(content["users"]),
        )


@dataclass(frozen=True)
class Catalog:
    """The objects of one group as a model reads them: one row an object, in the order of the objects table."""

    object_ids: tuple[str, ...]
    features: Features

    def __len__(self) -> int:
        return len(self.object_ids)

    def take(self, rows: Int[Tensor, " n"]) -> Features:
        """Features of the objects ``rows``; each has first dimension ``n``."""
        return {name: f.take(rows) if isinstance(f, Ragged) else f[rows] for name, f in self.features.items()}


def _catalog(schema: Schema, group: str, table: pd.DataFrame, vocabularies: Vocabularies) -> Catalog:
    features: Features = {}
    for name, spec in schema.groups[group].features.items():
        column = table[name]
        if spec.kind == "continuous":
            mean, deviation = vocabularies.scales[f"{group}.{name}"]
            value = torch.tensor((column.to_numpy(float) - mean) / deviation, dtype=torch.float32)
            missing = value.isnan()
            features[name] = torch.stack([value.masked_fill(missing, 0.0), missing.float()], dim=1)
        elif spec.kind == "tokens":
            lengths = torch.tensor(column.map(len).to_numpy(np.int64))
            words = column[lengths.numpy() > 0].explode()
            offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
            features[name] = Ragged(vocabularies.index(schema.vocabulary(group, name), words), offsets)
        else:
            features[name] = vocabularies.index(schema.vocabulary(group, name), column)
    return Catalog(tuple(table["object_id"]), features)


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
    object_row = pd.Index(objects["object_id"]).get_indexer(pd.Index(events["object_id"]))
    counts = np.bincount(user, minlength=len(users))
    return GroupHistory(
        offsets=torch.from_numpy(np.concatenate([[0], counts.cumsum()])),
        timestamps=torch.from_numpy(timestamp[order]),
        actions=torch.from_numpy(events["action"].cat.codes.to_numpy(np.int16)[order]),
        objects=torch.from_numpy(object_row[order].astype(np.int32)),
        rows=torch.from_numpy(order.astype(np.int32)),
    )


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
    def from_log(cls, log: EventLog, vocabularies: Vocabularies | None = None) -> GroupedHistories:
        """Group a log. Without ``vocabularies`` every value in the log's objects tables is known."""
        users = pd.Index(np.unique(np.concatenate([e["user_id"].unique() for e in log.events.values()])), dtype="str")
        groups = {g: _group_history(log.events[g], users, log.objects[g]) for g in log.schema.groups}
        vocabularies = vocabularies or Vocabularies.from_objects(log.schema, log.objects, users)
        return cls(log.schema, users, groups, dict(log.objects), vocabularies)

    @cached_property
    def catalogs(self) -> dict[str, Catalog]:
        """The objects of every group, in the indices of the vocabularies."""
        return {g: _catalog(self.schema, g, self.tables[g], self.vocabularies) for g in self.groups}

    @cached_property
    def users(self) -> Int[Tensor, " users"]:
        """Index of every user in the vocabularies' users."""
        known = pd.Index(self.vocabularies.users, dtype="str")
        return torch.from_numpy(known.get_indexer(self.user_ids).astype(np.int64) + 1)

    def __len__(self) -> int:
        """Number of users."""
        return len(self.user_ids)

    def encode(self, vocabularies: Vocabularies) -> GroupedHistories:
        """The same histories, seen by a model that knows only ``vocabularies``."""
        return replace(self, vocabularies=vocabularies)

    def vocabularies_of(
        self, seen: Mapping[str, Bool[Tensor, " objects"]], users: Int[Tensor, " m"] | None = None
    ) -> Vocabularies:
        """Vocabularies of ``users``, and of the objects marked ``seen`` in each group (``samples.seen_objects``)."""
        tables = {g: table[seen[g].numpy()] for g, table in self.tables.items()}
        names = () if users is None else self.user_ids[users.unique().numpy()]
        return Vocabularies.from_objects(self.schema, tables, names)

    def user(self, user_id: str) -> int:
        """Number of a user; ``KeyError`` with a remedy when the log has no such user."""
        if user_id not in self.user_ids:
            raise KeyError(
                f"user {user_id!r} has no behavior in this log; its first users are {list(self.user_ids[:3])}"
            )
        return int(self.user_ids.get_indexer(pd.Index([user_id], dtype="str"))[0])

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name}: {len(g.timestamps)}" for name, g in self.groups.items())
        return f"GroupedHistories({len(self)} users; {sizes} behaviors)"


def check_groups(schema: Schema, names: Iterable[str], what: str) -> tuple[str, ...]:
    """``names`` as a tuple, each once, or ``ValueError`` when one is not a group of the schema.

    >>> check_groups(histories.schema, ["item", "query", "item"], "targets")
    ('item', 'query')
    """
    names = tuple(dict.fromkeys(names))
    unknown = [name for name in names if name not in schema.groups]
    if unknown or not names:
        raise ValueError(f"{what}: {unknown or 'nothing given'}; the log's groups are {list(schema.groups)}")
    return names
