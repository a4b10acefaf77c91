"""Checkers for chapter 2: offsets, ranges cut to the latest, the share of padding, and means under a mask."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from atrank_book.check.verdict import Mistake, answered, checker
from atrank_lib.batches import ranges

Offsets = Callable[[Int[Tensor, " users"]], Int[Tensor, " users_plus_1"]]
Latest = Callable[[Int[Tensor, " users_plus_1"], Int[Tensor, " s"], Int[Tensor, " s"], int], Int[Tensor, " n"]]
PaddingShare = Callable[[Int[Tensor, " s"], int], float]
MeanEmbedding = Callable[[Float[Tensor, "v d"], Int[Tensor, "s l"], Bool[Tensor, "s l"]], Float[Tensor, "s d"]]


def _list(answer: object) -> list[int]:
    return [int(x) for x in torch.as_tensor(answered(answer)).flatten()]


@checker
def offsets(answer: Offsets) -> str:
    """Offsets of lists, two of them empty."""
    counts = [3, 0, 1, 4, 0]
    found = _list(answer(torch.tensor(counts)))
    expected = [0, 3, 3, 4, 8, 8]
    slips = {
        "the leading 0 is missing: the first list begins at 0, and there is one offset more than users": expected[1:],
        "the last offset is missing: without it nobody knows where the last list ends": expected[:-1],
        "these are the counts themselves; offsets are their running sum": counts,
        "these are the counts behind a 0; sum them up as you go": [0, *counts],
        "each list ends one too early: `offsets[u + 1]` is not part of the list, so nothing is subtracted": [
            0,
            *(e - 1 for e in expected[1:]),
        ],
    }
    for hint, wrong in slips.items():
        if found == wrong:
            raise Mistake(f"{hint} (counts {counts}: got {found}, expected {expected})")
    if found != expected:
        raise Mistake(f"counts {counts}: got {found}, expected {expected}")
    return "right, empty lists included"


@checker
def latest(answer: Latest) -> str:
    """Positions of the latest behaviors before each cut, with lists shorter and longer than the limit."""
    borders = torch.tensor([0, 5, 5, 8, 10])
    users, ends, limit = torch.tensor([2, 0, 1, 3, 0]), torch.tensor([8, 4, 5, 8, 5]), 2
    starts = torch.maximum(borders[users], ends - limit)

    def positions(starts: Int[Tensor, " s"], lengths: Int[Tensor, " s"]) -> list[int]:
        return ranges(starts, lengths.clamp(min=0))[0].tolist()

    expected = positions(starts, ends - starts)
    found = _list(answer(borders.clone(), users.clone(), ends.clone(), limit))
    begin = borders[users]
    slips = {
        "these are the oldest behaviors of each list; keep the latest, those right before the cut": positions(
            begin, torch.minimum(ends - begin, torch.tensor(limit))
        ),
        "the limit is ignored: these are whole histories": positions(begin, ends - begin),
        "the cut itself is included: `ends` is the target's position, so the target has leaked": positions(
            torch.maximum(begin, ends - limit), ends - torch.maximum(begin, ends - limit) + 1
        ),
        "off by one: the cut itself is included (the target leaks), and the oldest of the kept is lost": positions(
            torch.maximum(begin, ends - limit + 1), ends - torch.maximum(begin, ends - limit + 1) + 1
        ),
        "one behavior short: the range runs up to `ends`, so `ends - 1` belongs to it": positions(
            starts, ends - starts - 1
        ),
        "this reaches into the list of the user before: a list begins at offsets[user], however large the "
        "limit": positions(ends - limit, torch.full_like(ends, limit)),
        "these are the latest of the whole list of the user; the list of a sample ends at its cut": positions(
            torch.maximum(begin, borders[users + 1] - limit),
            borders[users + 1] - torch.maximum(begin, borders[users + 1] - limit),
        ),
    }
    where = (
        f" (offsets {borders.tolist()}, users {users.tolist()}, ends {ends.tolist()}, limit {limit}: "
        f"got {found}, expected {expected})"
    )
    for hint, wrong in slips.items():
        if found == wrong:
            raise Mistake(hint + where)
    if found != expected and sorted(found) == sorted(expected):
        raise Mistake("the right positions in a wrong order: samples in turn, oldest first" + where)
    if found != expected:
        raise Mistake("not these positions" + where)
    return "right, for short lists, long lists and none"


@checker
def padding_share(answer: PaddingShare) -> str:
    """The share of padding in three batches, the last one smaller."""
    lengths, size = torch.tensor([2, 6, 1, 3, 8, 8, 4]), 3
    found = float(answered(answer(lengths.clone(), size)))
    parts = lengths.split(size)
    cells = [len(part) * int(part.max()) for part in parts]
    real = [int(part.sum()) for part in parts]
    right = 1 - sum(real) / sum(cells)
    slips = {
        "this is the share of real behaviors; padding is the rest": 1 - right,
        "each batch is as wide as its own longest history, not as the longest of all": 1
        - sum(real) / (len(lengths) * int(lengths.max())),
        "the last batch is smaller: count the rows that it has, not batch_size": 1
        - sum(real) / sum(size * int(part.max()) for part in parts),
        "this leaves the last, smaller batch out; it is padded as well": 1 - sum(real[:-1]) / sum(cells[:-1]),
        "this is the mean over batches; large batches have more cells, so divide total by total": sum(
            1 - r / c for r, c in zip(real, cells, strict=True)
        )
        / len(parts),
        "this is padding per real behavior; divide by all cells": (sum(cells) - sum(real)) / sum(real),
        "this is the number of padded cells; divide by the number of all cells": float(sum(cells) - sum(real)),
    }
    for hint, wrong in slips.items():
        if math.isclose(found, wrong, rel_tol=1e-6):
            raise Mistake(f"{hint} (got {found:.4f}, expected {right:.4f})")
    if not math.isclose(found, right, rel_tol=1e-6):
        raise Mistake(f"lengths {lengths.tolist()} in batches of {size}: got {found:.4f}, expected {right:.4f}")
    return f"right: {sum(cells) - sum(real)} of {sum(cells)} cells"


@checker
def mean_embedding(answer: MeanEmbedding) -> str:
    """Means of embedding rows under a mask, with a real index 0 and an empty history."""
    table = torch.tensor([[4.0, -2.0], [1.0, 0.0], [0.0, 3.0], [2.0, 5.0]])
    ids = torch.tensor([[2, 0, 0], [1, 0, 3], [0, 0, 0]])
    mask = torch.tensor([[True, False, False], [True, True, True], [False, False, False]])
    found = torch.as_tensor(answered(answer(table.clone(), ids.clone(), mask.clone()))).float()
    if found.shape != (3, 2):
        raise Mistake(f"the result has shape {tuple(found.shape)}, expected (3, 2): one mean for each sample")
    if found[2].isnan().any():
        raise Mistake("an empty history gives NaN, zero divided by zero; its mean shall be all zeros")
    real = mask[..., None]
    total = (table[ids] * real).sum(1)
    nonzero = (ids != 0)[..., None]
    slips = {
        "the mask is not used: padded places count as unknown objects": table[ids].mean(1),
        "padding is left out of the sum but not of the number: divide by how many are real": total / 3,
        "this is the sum; divide by how many are real": total,
        "index 0 is taken for padding, but a real behavior may be unknown; trust the mask alone": (
            (table[ids] * nonzero).sum(1) / nonzero.sum(1).clamp(min=1)
        ),
        "the mask is upside down: True is what is real": (table[ids] * ~real).sum(1) / (~real).sum(1).clamp(min=1),
    }
    for hint, wrong in slips.items():
        if torch.allclose(found, wrong):
            raise Mistake(hint)
    expected = total / real.sum(1).clamp(min=1)
    if not torch.allclose(found, expected):
        raise Mistake(f"got {found.tolist()}, expected {expected.tolist()}")
    return "right: batch mates no longer matter, and an unknown object still counts"
