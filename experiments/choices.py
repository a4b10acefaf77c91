"""Plain rules for choices from lists: what was shown where, at what price, and what the user did with it before."""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from atrank_lib.batches import Samples, ranges
from atrank_lib.grouping import GroupedHistories
from atrank_lib.impressions import ShownHistories


def again(
    histories: GroupedHistories, samples: Samples, candidates: Int[Tensor, "s c"], training: Samples
) -> Float[Tensor, "s c"]:
    """The share of the user's behaviors of the group until the last one with the candidate; 0 where there is none.

    >>> test = split(histories).test["item"][:2]
    >>> latest = histories.groups["item"].objects[test.positions - 1].long()
    >>> again(histories, test, latest[:, None], test).flatten().tolist()
    [1.0, 1.0]
    """
    owner, place, objects, lengths = _read(histories, samples)
    same = objects[:, None] == candidates[owner]  # [n, c]
    last = (same * (place[:, None] + 1)).float()
    found = torch.zeros(candidates.shape).scatter_reduce(0, owner[:, None].expand_as(last), last, "amax")
    return found / lengths.clamp(min=1)[:, None]


def times(
    histories: GroupedHistories, samples: Samples, candidates: Int[Tensor, "s c"], training: Samples
) -> Float[Tensor, "s c"]:
    """How often the user acted on the candidate before."""
    owner, _, objects, _ = _read(histories, samples)
    return torch.zeros(candidates.shape).index_add(0, owner, (objects[:, None] == candidates[owner]).float())


def place(
    histories: GroupedHistories, samples: Samples, candidates: Int[Tensor, "s c"], training: Samples
) -> Float[Tensor, "s c"]:
    """What stood higher in the list; above 0 and at most 1."""
    return 1 / _context(histories, samples, candidates, "place")


def cheapest(
    histories: GroupedHistories, samples: Samples, candidates: Int[Tensor, "s c"], training: Samples
) -> Float[Tensor, "s c"]:
    """What cost less."""
    return -_context(histories, samples, candidates, "price")


def again_then_place(
    histories: GroupedHistories, samples: Samples, candidates: Int[Tensor, "s c"], training: Samples
) -> Float[Tensor, "s c"]:
    """What the user acted on last, and of the rest what stood higher."""
    longest = max(1, int(histories.groups[samples.target_group].offsets.diff().max()))
    one = again(histories, samples, candidates, training)
    return one + place(histories, samples, candidates, training) / (2 * longest)  # less than one behavior's share


LISTS = {
    "again": again,
    "again-times": times,
    "place": place,
    "cheapest": cheapest,
    "again-then-place": again_then_place,
}


def _read(
    histories: GroupedHistories, samples: Samples
) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"], Int[Tensor, " n"], Int[Tensor, " s"]]:
    """What each history holds of the target's group: whose a behavior is, its place, its object; and how many."""
    own, number = histories.groups[samples.target_group], list(histories.groups).index(samples.target_group)
    starts = own.offsets[samples.users].long()
    lengths = samples.ends[:, number].long() - starts
    positions, owner = ranges(starts, lengths)
    return owner, positions - starts[owner], own.objects[positions].long(), lengths


def _context(
    histories: GroupedHistories, samples: Samples, candidates: Int[Tensor, "s c"], column: str
) -> Float[Tensor, "s c"]:
    """A number that stands in a column of impressions; the largest there is where it is missing."""
    lists, table = histories.lists(samples.target_group), cast(ShownHistories, histories).impressions
    values = torch.tensor(table[samples.target_group][column].astype(float).to_numpy()).float()
    found = lists.find(samples.positions, candidates)
    return (
        values[lists.rows[found.clamp(min=0)]]
        .where(found >= 0, float("nan"))
        .nan_to_num(float(values.nan_to_num(0).max()))
    )
