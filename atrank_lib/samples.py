"""Samples and batches: which behavior is predicted from which history.

A sample never copies a history. It is a user, a time, and one cut position per group: the history of group
``i`` is ``[offsets_i[user], ends_i)`` in the flat tensors of ``GroupedHistories``. It holds everything strictly
before the target: earlier timestamps in any group and, inside the target's own group, earlier rows. A behavior
of *another* group with the target's timestamp is not history.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from atrank_lib.batches import Batch, GroupBatch, Packing, Samples, TaskSamples, ranges
from atrank_lib.grouping import GroupedHistories, Log
from atrank_lib.log.vocabularies import Vocabularies

Protocol = Literal["paper", "validated", "global_time"]


@dataclass(frozen=True)
class Split:
    """The samples of a protocol; ``validation`` is empty under ``paper``, which has none.

    >>> len(split(histories, "paper", ["item"]).train["item"])
    790
    """

    train: TaskSamples
    validation: TaskSamples
    test: TaskSamples


def ends_before(
    histories: GroupedHistories, group: str, users: Int[Tensor, " s"], times: Int[Tensor, " s"]
) -> Int[Tensor, " s"]:
    """Position of each user's first behavior of ``group`` that is not earlier than ``times``."""
    g = histories.groups[group]
    low, high = g.offsets[users], g.offsets[users + 1]
    longest = int((high - low).max()) if len(users) else 0
    for _ in range(longest.bit_length()):  # bisection of all users' lists at once
        middle = (low + high) // 2
        earlier = (low < high) & (g.timestamps[middle.clamp(max=len(g.timestamps) - 1)] < times)
        low, high = torch.where(earlier, middle + 1, low), torch.where(earlier, high, middle)
    return low


def split(
    histories: GroupedHistories,
    protocol: Protocol = "validated",
    targets: Sequence[str] | None = None,
    fractions: tuple[float, float] = (0.8, 0.9),
    cuts: tuple[int, int] | None = None,
) -> Split:
    """Cut every user's behaviors into training, validation and test targets.

    A target is any behavior of a target group with at least one earlier behavior in its own group.

    - ``paper``: a user's last behavior of the group is the test target, all others train; no validation.
    - ``validated``: last = test, the one before = validation (for every choice), the others train.
    - ``global_time``: one moment for everybody. The first ``fractions[0]`` of all target behaviors train, up to
      ``fractions[1]`` validate, the rest test; equal timestamps never straddle a cut.

    Who splits a log part by part gives the moments of ``global_time`` as ``cuts``; a part's group may have no samples.
    ValueError for an unknown protocol or target group, or a target group without a training or test sample.

    >>> {name: len(samples) for name, samples in split(histories, "validated").test.items()}
    {'item': 40, 'query': 40, 'coupon': 40}
    """
    if protocol not in ("paper", "validated", "global_time"):
        raise ValueError(f"protocol {protocol!r}; use 'paper', 'validated' or 'global_time'")
    targets = histories.schema.check_groups(targets, "targets")
    first, second = cuts or time_cuts([histories.groups[g].timestamps for g in targets], fractions)
    parts: tuple[TaskSamples, TaskSamples, TaskSamples] = ({}, {}, {})
    for group in targets:
        own = histories.groups[group]
        users, times, positions = own.users(), own.timestamps, torch.arange(len(own.timestamps))
        ends = [positions if g == group else ends_before(histories, g, users, times) for g in histories.groups]
        everything = Samples(group, users, times, torch.stack(ends, dim=1), own.objects.long(), positions)
        eligible = histories.eligible(group)
        number = eligible.cumsum(0)
        from_end = number[own.offsets[users + 1] - 1] - number  # 0 for a user's last one
        if protocol == "global_time":
            part = (times >= first).long() + (times >= second).long()
        else:
            part = 2 - (from_end.clamp(max=2) if protocol == "validated" else 2 * from_end.clamp(max=1))
        part[~eligible | (positions == own.offsets[users])] = -1  # the first has nothing of its own group before it
        for turn, samples in enumerate(parts):
            samples[group] = everything[part == turn]
    if cuts is None:
        longest = {name: int(histories.groups[name].offsets.diff().max()) for name in targets}
        sizes = {g: (len(parts[0][g]), len(parts[2][g])) for g in targets}
        require_samples(sizes, protocol, longest, (first, second))
    return Split(*parts)


def time_cuts(times: Sequence[Int[Tensor, " _"]], fractions: tuple[float, float] = (0.8, 0.9)) -> tuple[int, int]:
    """The two moments of ``global_time``, from the times of all target behaviors.

    >>> time_cuts([torch.arange(10), torch.arange(10, 20)])
    (16, 18)
    """
    ordered = torch.cat(list(times)).sort().values
    first, second = (int(ordered[min(int(f * len(ordered)), len(ordered) - 1)]) for f in fractions)
    return first, second


def require_samples(
    sizes: Mapping[str, tuple[int, int]], protocol: Protocol, longest: Mapping[str, int], cuts: tuple[int, int]
) -> None:
    """``ValueError`` for a group whose ``sizes``, the numbers of training and test samples, hold a 0; ``longest`` is
    the most behaviors that a user has in each group."""
    for group, counts in sizes.items():
        if all(counts):
            continue
        cause = f"its users have at most {longest[group]} behaviors of this group; give longer histories"
        if protocol == "global_time":
            equal = ", all times are equal or nearly so" if cuts[0] == cuts[1] else ""
            cause = f"the moments that cut are {cuts[0]} and {cuts[1]}{equal}; choose another protocol"
        missing = f"no {'test' if counts[0] else 'training'} sample under protocol {protocol!r}"
        raise ValueError(f"group {group!r} has {missing}: {cause}, or other targets")


def seen_objects(histories: GroupedHistories, samples: TaskSamples) -> dict[str, Bool[Tensor, " objects"]]:
    """Which objects of every group occur in the histories or targets of (training) ``samples``.

    >>> len(seen_objects(histories, split(histories).train)["item"])
    1000
    """
    seen = {}
    for number, (name, group) in enumerate(histories.groups.items()):
        last = group.offsets[:-1].clone()
        for task in samples.values():
            ends = task.ends[:, number] + (1 if task.target_group == name else 0)
            last.scatter_reduce_(0, task.users, ends, "amax")
        known = torch.arange(len(group.timestamps)) < last[group.users()]
        seen[name] = torch.zeros(len(histories.tables[name]), dtype=torch.bool)
        seen[name][group.objects[known].long()] = True
    return seen


def prepare(
    log: Log,
    protocol: Protocol,
    targets: Sequence[str] | None = None,
    grouped: Callable[[Log, Vocabularies], GroupedHistories] = GroupedHistories.from_log,
) -> tuple[GroupedHistories, Split]:
    """Group a log and cut it into samples; the vocabularies hold only what training shows.

    >>> prepare(log, "validated", ["item"])[0].vocabularies.size("item.object_id") < 1 + 1_000
    True
    """
    histories = grouped(log, Vocabularies({}, {}))
    parts = split(histories, protocol, targets)
    seen, users = seen_objects(histories, parts.train), torch.cat([samples.users for samples in parts.train.values()])
    tables = {g: table[seen[g].numpy()] for g, table in histories.tables.items()}
    known = Vocabularies.from_objects(log.schema, tables, histories.user_ids[users.unique().numpy()])
    return histories.encode(known), parts


def build_batch(
    histories: GroupedHistories,
    samples: Samples,
    candidates: Int[Tensor, "b c"],
    groups: Sequence[str] | None = None,
    max_length: int | None = None,
) -> Batch:
    """Look up what a model needs for ``samples``, and for ``candidates``, object rows of the target group.

    ``groups`` restricts the history to these groups; ``max_length`` keeps only the latest behaviors of every group.

    >>> samples = split(histories).test["item"][:2]
    >>> build_batch(histories, samples, samples.objects[:, None], groups=["item"]).packing.lengths.tolist()
    [20, 8]
    """
    used = histories.schema.check_groups(groups, "history groups")
    parts, owners, places = {}, [], []
    filled = torch.zeros_like(samples.users)  # behaviors already placed, per sample
    for number, (name, group) in enumerate(histories.groups.items()):
        if name not in used:
            continue
        ends, starts = samples.ends[:, number].long(), group.offsets[samples.users]
        if max_length is not None:
            starts = torch.maximum(starts, ends - max_length)
        positions, owner = ranges(starts, ends - starts)
        features = histories.catalogs[name].take(group.objects[positions].long())
        elapsed = samples.times[owner] - group.timestamps[positions]
        parts[name] = GroupBatch(features, group.actions[positions].long(), elapsed, positions)
        owners.append(owner)
        places.append(positions + (filled - starts)[owner])
        filled = filled + ends - starts
    longest = max(int(filled.max()), 1) if len(samples) else 1
    packing = Packing(torch.cat(owners), torch.cat(places), filled, longest)
    return Batch(parts, packing, histories.users[samples.users], histories.candidates(samples, candidates))


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
    generator: torch.Generator | None = None,
    groups: Sequence[str] | None = None,
    max_length: int | None = None,
    pool: int = 50,
    part: tuple[int, int] = (0, 1),
) -> Iterator[tuple[str, Int[Tensor, " b"], Batch]]:
    """All samples once, in batches of one task: its target group, the samples' numbers, and the batch.

    Histories of similar length share a batch, so little is padded. With a ``generator`` (training) samples are
    shuffled, sorted by length inside pools of ``pool`` batches, and the batches of all tasks are shuffled together;
    without one they come sorted by length. ``part = (i, k)`` is the ``i``-th of ``k`` shares: in training of each batch
    (every ``k``-th of its samples, or the first; the numbers are the whole batch's), otherwise every ``k``-th batch.

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
