"""Checkers of chapter 3: time buckets, the embedding of a behavior, and shuffled ages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from atrank_book.check.verdict import Mistake, answered, checker

BUCKETS = 8  # few, so that the open last bucket is reached by small numbers


def _right(units: np.ndarray, buckets: int) -> np.ndarray:
    """The doubling buckets by comparison with every edge: no logarithm, no rounding."""
    edges = 2.0 ** np.arange(buckets - 1)
    return (units[:, None] >= edges[None, :]).sum(axis=1)


def _floor(values: np.ndarray) -> np.ndarray:
    return np.floor(values).astype(np.int64)


# answers that are wrong in a way we know, on whole units that are well inside their buckets or on an edge
_KNOWN: tuple[tuple[Callable[[np.ndarray], np.ndarray], str], ...] = (
    (
        lambda x: _right(x, BUCKETS) - 1,
        "every bucket is one too small: [1, 2) is bucket 1, because bucket 0 belongs to [0, 1). Add 1 to the power",
    ),
    (
        lambda x: _right(x, BUCKETS) + 1,
        "every bucket is one too large: counting starts at 0, and bucket 0 is [0, 1)",
    ),
    (
        lambda x: (x[:, None] > 2.0 ** np.arange(BUCKETS - 1)[None, :]).sum(axis=1),
        "edges fall on the wrong side: an interval [2, 4) contains its left end, so 2 units are bucket 2, not 1",
    ),
    (
        lambda x: np.clip(_floor(np.log(np.maximum(x, 0.5))) + 1, 0, BUCKETS - 1),
        "this is the natural logarithm: its buckets grow by a factor of e. Doubling asks for base 2",
    ),
    (
        lambda x: np.clip(_floor(np.log10(np.maximum(x, 0.5))) + 1, 0, BUCKETS - 1),
        "this is the logarithm to base 10: its buckets grow tenfold. Doubling asks for base 2",
    ),
    (
        lambda x: np.minimum(_floor(np.log2(1 + x)), BUCKETS - 1),
        "log2(1 + x) puts the edges at 1, 3, 7, ...; the paper's are at 1, 2, 4, ...",
    ),
    (
        lambda x: np.clip(np.round(np.log2(np.maximum(x, 0.5))).astype(np.int64) + 1, 0, BUCKETS - 1),
        "the logarithm was rounded to the nearest whole number: 3 units belong to [2, 4). Take the floor",
    ),
    (
        lambda x: np.minimum(_floor(x), BUCKETS - 1),
        "these buckets are all one unit wide; they should double in width",
    ),
)


def _ask(answer: Callable[..., Any], units: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        found = answered(answer(torch.from_numpy(units), BUCKETS))
    if len(found) != len(units):
        raise Mistake(f"{len(units)} elapsed times went in, but {len(found)} buckets came out")
    values = np.asarray([float(bucket) for bucket in found])
    if not np.isfinite(values).all():
        where = units[~np.isfinite(values)][0]
        raise Mistake(f"{where:g} units gave {values[~np.isfinite(values)][0]}: the logarithm of 0 is no bucket")
    if (values != np.round(values)).any():
        raise Mistake(
            f"a bucket is a whole number, a row of a table; {values[values != np.round(values)][0]:g} is none"
        )
    return values.astype(np.int64)


@checker
def bucketize(answer: Callable[..., Any]) -> str:
    """``answer(units, buckets)``: buckets of elapsed times ``[n]`` (float64, in units); eq. (eq-bucket)."""
    whole = np.array([1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 7.0, 8.0, 12.0, 16.0, 31.0])
    found = _ask(answer, whole)
    right = _right(whole, BUCKETS)
    if (found != right).any():
        for wrong, hint in _KNOWN:
            if (found == wrong(whole)).all():
                raise Mistake(hint)
        first = int((found != right).argmax())
        raise Mistake(f"{whole[first]:g} units gave bucket {found[first]}, but they are in bucket {right[first]}")

    young = np.array([0.0, 0.01, 0.25, 0.5, 0.999])
    found = _ask(answer, young)
    if (found != 0).any():
        first = int((found != 0).argmax())
        raise Mistake(
            f"{young[first]:g} units gave bucket {found[first]}: "
            "all of [0, 1) is bucket 0, though its logarithm is negative"
        )

    old = np.array([64.0, 127.0, 128.0, 1e4, 1e9])
    found = _ask(answer, old)
    if (found != BUCKETS - 1).any():
        first = int((found != BUCKETS - 1).argmax())
        raise Mistake(
            f"{old[first]:g} units gave bucket {found[first]}, but with {BUCKETS} buckets the last is "
            f"{BUCKETS - 1}: it is open, and everything older belongs to it"
        )

    edges = 2.0 ** np.arange(BUCKETS - 1)
    for units, side in ((np.nextafter(edges, 0.0), "just below"), (edges, "exactly")):
        found, right = _ask(answer, units), _right(units, BUCKETS)
        if (found != right).any():
            first = int((found != right).argmax())
            raise Mistake(
                f"{side} {edges[first]:g} units you return bucket {found[first]} instead of {right[first]}: the "
                "logarithm was rounded across the edge. Compare with the edges themselves (torch.bucketize does)"
            )
    return "right: every bucket, [0, 1) and the open last one included, and no number slips across an edge"


_GROUPS = ("item", "coupon")


def _example() -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """Objects, buckets, actions, time tables and action tables of two groups; no two rows or sums coincide."""
    generator = torch.Generator().manual_seed(3)

    def numbers(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    objects = {"item": numbers(4, 3), "coupon": numbers(3, 3)}
    buckets = {"item": torch.tensor([0, 3, 1, 2]), "coupon": torch.tensor([2, 0, 3])}
    actions = {"item": torch.tensor([1, 0, 2, 2]), "coupon": torch.tensor([1, 1, 0])}
    times = {group: numbers(4, 3) for group in _GROUPS}
    doings = {group: numbers(3, 3) for group in _GROUPS}
    return objects, buckets, actions, times, doings


def _same(found: Tensor, wanted: Float[Tensor, "n d"]) -> bool:
    return found.shape == wanted.shape and torch.allclose(found, wanted)


def _explain(
    found: Tensor,
    o: Float[Tensor, "n d"],
    t: Float[Tensor, "n d"],
    a: Float[Tensor, "n d"],
    swapped: Float[Tensor, "n d"],
    foreign: Mapping[str, Tensor],
) -> None:
    """Raise the ``Mistake`` behind ``found``, if it is one we know."""
    known = (
        (o, "these are the objects alone: the rows of the time and action tables are still to be added"),
        (o + a, "the time is missing: add the row of the time table that the bucket points to"),
        (o + t, "the action is missing: add the row of the action table that the action points to"),
        (t + a, "the object is missing: time and action are added to it"),
        ((o + t + a) / 3, "this is the mean of the three vectors; eq. (eq-behavior) is their sum"),
        (o * t * a, "this is the product of the three vectors; eq. (eq-behavior) is their sum"),
        (swapped, "time and action went to each other's table: buckets point into the time table"),
        (
            foreign["time"],
            "the coupons were dated with the items' time table: time lookups are never shared, use the group's own",
        ),
        (foreign["action"], "the coupons read the items' action table: each group has its own"),
        (foreign["both"], "the coupons read the items' tables: time lookups are never shared, use the group's own"),
    )
    for wrong, hint in known:
        if _same(found, wrong):
            raise Mistake(hint)


@checker
def embed(answer: Callable[..., Any]) -> str:
    """``answer(group, objects, buckets, actions, time_of, action_of)``: eq. (eq-behavior) for one group."""
    objects, buckets, actions, times, doings = _example()
    for group in _GROUPS:
        o, bucket, action = objects[group], buckets[group], actions[group]
        found = answered(answer(group, o.clone(), bucket, action, times, doings))
        t, a = times[group][bucket], doings[group][action]
        if _same(found, o + t + a):
            continue
        if found.shape == (len(o), 3 * o.shape[1]):
            raise Mistake(
                f"{tuple(found.shape)} is three vectors side by side: eq. (eq-behavior) adds them up, "
                f"so a behavior keeps the {o.shape[1]} dimensions of its object"
            )
        if found.shape != o.shape:
            raise Mistake(f"shape {tuple(found.shape)}, but {len(o)} behaviors of {o.shape[1]} dimensions went in")
        foreign = {
            "time": o + times["item"][bucket] + a,
            "action": o + t + doings["item"][action],
            "both": o + times["item"][bucket] + doings["item"][action],
        }
        _explain(found, o, t, a, _swapped(o, bucket, action, times[group], doings[group]), foreign)
        row = int((found - (o + t + a)).abs().sum(dim=1).argmax())
        raise Mistake(f"group {group!r}, behavior {row}: {found[row].tolist()} is not object + time + action")
    return "right: object, time and action are added up, and each group reads its own tables"


def _swapped(
    o: Float[Tensor, "n d"],
    bucket: Int[Tensor, " n"],
    action: Int[Tensor, " n"],
    times: Float[Tensor, "rows d"],
    doings: Float[Tensor, "kinds d"],
) -> Float[Tensor, "n d"]:
    """The sum with both lookups in the wrong table."""
    return o + times[action] + doings[bucket.clamp(max=len(doings) - 1)]


@checker
def shuffled(answer: Callable[[Float[Tensor, " n"], torch.Generator], Float[Tensor, " n"]]) -> str:
    """``answer(elapsed, generator)``: the ages of one group in an order that the generator decides."""
    ages = torch.tensor([3.0, 50.0, 7.0, 7.0, 900.0, 21.0, 0.5, 64.0, 12.0, 1.0])

    def ask(seed: int) -> Tensor:
        given = ages.clone()
        found = torch.as_tensor(answered(answer(given, torch.Generator().manual_seed(seed))))
        if not torch.equal(given, ages):
            raise Mistake(
                "the ages that were given are changed in place: the batch would stay broken; return a new tensor"
            )
        if found.shape != ages.shape:
            raise Mistake(f"{len(ages)} ages went in, but the result has shape {list(found.shape)}")
        return found

    results = [ask(seed) for seed in range(4)]
    if all(torch.equal(found, ages) for found in results):
        raise Mistake("every behavior keeps its own age: nothing is shuffled")
    for found in results:
        if set(found.tolist()) <= set(ages.tolist()) and not torch.equal(found.sort().values, ages.sort().values):
            raise Mistake("some ages occur twice and others are lost: this draws with replacement; use a permutation")
        if not torch.equal(found.sort().values, ages.sort().values):
            raise Mistake(
                "these are new ages; then the AUC also falls because such ages never occur. Use those of others"
            )
    if all(torch.equal(found, results[0]) for found in results):
        raise Mistake("the order is the same for every seed (sorted, reversed or shifted?): let chance decide")
    if not torch.equal(ask(0), results[0]):
        raise Mistake("another order although the seed is the same: give `generator` to torch.randperm")
    return "right: the same ages, each with another behavior, and the same again for the same seed"
