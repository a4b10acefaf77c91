"""Batches: what a model reads for some samples, looked up by indexing alone.

Behaviors come packed: all behaviors of all samples end to end, without padding, and beside them who each belongs to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from atrank_lib.grouping import Features, GroupedHistories, check_groups, ranges
from atrank_lib.samples import Samples


@dataclass(frozen=True)
class GroupBatch:
    """The history behaviors of one group in a batch, packed: no padding, ``n_i`` behaviors of all samples."""

    features: Features
    actions: Int[Tensor, " n_i"]
    elapsed: Int[Tensor, " n_i"]  # time from the behavior to the moment of ranking, in the schema's timestamp_unit
    positions: Int[Tensor, " n_i"]  # where it lies in the flat tensors of its group


@dataclass(frozen=True)
class Candidates:
    """``c`` objects to score for each of ``b`` samples; features hold them row by row."""

    group: str
    features: Features
    shape: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Packing:
    """Whose the packed behaviors of a batch are: row ``i`` is behavior number ``place[i]`` of sample ``owner[i]``.

    Rows may come in any order. ``longest`` is the largest of ``lengths``, at least 1.
    """

    owner: Int[Tensor, " n"]
    place: Int[Tensor, " n"]
    lengths: Int[Tensor, " b"]
    longest: int

    @classmethod
    def of(cls, owner: Int[Tensor, " n"], place: Int[Tensor, " n"], size: int) -> Packing:
        """Of ``size`` samples.

        >>> Packing.of(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0]), size=2).mask.tolist()
        [[True, False], [True, True]]
        """
        lengths = torch.bincount(owner, minlength=size)
        return cls(owner, place, lengths, max(1, int(lengths.max())) if size else 1)

    @cached_property
    def mask(self) -> Bool[Tensor, "b t"]:
        """Which places of a padded table ``[b, longest]`` hold a behavior."""
        return torch.arange(self.longest, device=self.lengths.device) < self.lengths[:, None]

    @cached_property
    def offsets(self) -> Int[Tensor, " b_plus_1"]:
        """Sample ``i`` has the rows ``order[offsets[i]:offsets[i + 1]]``."""
        return torch.cat([self.lengths.new_zeros(1), self.lengths.cumsum(0)])

    @cached_property
    def order(self) -> Int[Tensor, " n"]:
        """The rows sample by sample, those of a sample in their places."""
        numbers = torch.arange(len(self.owner), device=self.owner.device)
        return torch.empty_like(numbers).index_copy_(0, self.offsets[self.owner] + self.place, numbers)


@dataclass(frozen=True)
class Batch:
    """Histories and candidates of ``b`` samples. Behaviors are packed, groups end to end in the schema's order;
    ``packing`` says whose each one is. ``users`` are indices of the vocabularies' users."""

    histories: dict[str, GroupBatch]
    packing: Packing
    users: Int[Tensor, " b"]
    candidates: Candidates

    @property
    def size(self) -> int:
        """The number of samples."""
        return len(self.users)


def build_batch(
    histories: GroupedHistories,
    samples: Samples,
    candidates: Int[Tensor, "b c"],
    groups: Sequence[str] | None = None,
    max_length: int | None = None,
) -> Batch:
    """Look up everything the model needs for ``samples``, by indexing alone.

    ``candidates`` are object rows of the target group; ``groups`` restricts the history to these groups;
    ``max_length`` keeps only the latest behaviors of every group.

    >>> samples = split(histories).test["item"][:2]
    >>> batch = build_batch(histories, samples, samples.objects[:, None], groups=["item"])
    >>> batch.size, batch.candidates.shape, batch.packing.lengths.tolist()
    (2, (2, 1), [20, 9])
    """
    used = check_groups(histories.schema, tuple(histories.groups) if groups is None else groups, "history groups")
    parts, owners, places = {}, [], []
    filled = torch.zeros_like(samples.users)  # behaviors already placed, per sample
    for number, (name, group) in enumerate(histories.groups.items()):
        if name not in used:
            continue
        ends, starts = samples.ends[:, number].long(), group.offsets[samples.users]
        if max_length is not None:
            starts = torch.maximum(starts, ends - max_length)
        positions, owner = ranges(starts, ends - starts)
        parts[name] = GroupBatch(
            features=histories.catalogs[name].take(group.objects[positions].long()),
            actions=group.actions[positions].long(),
            elapsed=samples.times[owner] - group.timestamps[positions],
            positions=positions,
        )
        owners.append(owner)
        places.append(positions + (filled - starts)[owner])
        filled = filled + ends - starts
    target, longest = samples.target_group, max(int(filled.max()), 1) if len(samples) else 1
    return Batch(
        parts,
        Packing(torch.cat(owners), torch.cat(places), filled, longest),
        histories.users[samples.users],
        Candidates(target, histories.catalogs[target].take(candidates.flatten()), (len(samples), candidates.shape[1])),
    )


def history_lengths(samples: Samples, histories: GroupedHistories, groups: Sequence[str]) -> Int[Tensor, " s"]:
    """Number of history behaviors of every sample, over ``groups``.

    >>> samples = split(histories).test["item"][:3]
    >>> history_lengths(samples, histories, ["item", "query"]).tolist()
    [28, 13, 25]
    """
    total = torch.zeros(len(samples), dtype=torch.long)
    for number, (name, group) in enumerate(histories.groups.items()):
        if name in groups:
            total += samples.ends[:, number] - group.offsets[samples.users]
    return total


def batches(
    histories: GroupedHistories,
    tasks: Mapping[str, Samples],
    candidates: Mapping[str, Int[Tensor, "s c"]],
    batch_size: int,
    *,
    generator: torch.Generator | None = None,
    groups: Sequence[str] | None = None,
    max_length: int | None = None,
    pool: int = 50,
    part: tuple[int, int] = (0, 1),
) -> Iterator[tuple[str, Int[Tensor, " b"], Batch]]:
    """All samples once, in batches of one task: its target group, the samples' numbers, and the batch.

    Histories of similar length share a batch, so little is padded. With a ``generator`` (training) samples are
    shuffled, sorted by length inside pools of ``pool`` batches, and the batches of all tasks are shuffled
    together; without one (evaluation) they come sorted by length. A task's last batch may be smaller.

    ``part = (i, k)`` is the ``i``-th of ``k`` shares: in training of every batch (every ``k``-th of its samples; the
    first, if that leaves none; the numbers are the whole batch's), in evaluation every ``k``-th batch.

    >>> tasks = {"item": split(histories).test["item"]}
    >>> rows = {"item": tasks["item"].objects[:, None]}
    >>> [(name, len(index)) for name, index, batch in batches(histories, tasks, rows, batch_size=16)]
    [('item', 16), ('item', 16), ('item', 8)]
    """
    share, shares = part
    used = tuple(histories.groups if groups is None else groups)
    plan: list[tuple[str, Tensor]] = []
    for name, samples in tasks.items():
        lengths = history_lengths(samples, histories, used)
        if generator is None:
            order = lengths.argsort(stable=True)
        else:
            pools = torch.randperm(len(samples), generator=generator).split(pool * batch_size)
            order = torch.cat([some[lengths[some].argsort(stable=True)] for some in pools])
        plan.extend((name, some) for some in order.split(batch_size) if len(some))
    turns = range(share, len(plan), shares) if generator is None else torch.randperm(len(plan), generator=generator)
    for turn in turns:
        name, index = plan[int(turn)]
        mine = index if generator is None or shares == 1 else index[share if share < len(index) else 0 :: shares]
        yield name, index, build_batch(histories, tasks[name][mine], candidates[name][mine], used, max_length)
