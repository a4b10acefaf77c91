"""Checkers of chapter 4: projecting groups, stacking perceptrons, counting parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from atrank_book.check.verdict import Mistake, answered, checker


def _numbers(seed: int) -> Callable[..., Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(shape, generator=generator, dtype=torch.float64)


def _same(found: Tensor, wanted: Tensor) -> bool:
    return found.shape == wanted.shape and torch.allclose(found, wanted)


def _project(
    groups: dict[str, Tensor], maps: dict[str, tuple[Tensor, Tensor]], by: dict[str, str], bias: bool = True
) -> Tensor:
    """Each group through the map of the group that ``by`` names, without relu."""
    return torch.cat([u @ maps[by[name]][0].T + bias * maps[by[name]][1] for name, u in groups.items()])


OWN = {"item": "item", "coupon": "coupon"}


@checker
def project(answer: Callable[..., Any]) -> str:
    """``answer(groups, maps)``: eq. 1; groups of ``[n_i, b_i]``, maps of ``(weight [d, b_i], bias [d])``."""
    numbers = _numbers(4)
    # equal widths first, where a wrong map raises no error
    for widths in ({"item": 3, "coupon": 3}, {"item": 4, "coupon": 2}):
        groups = {"item": numbers(2, widths["item"]), "coupon": numbers(3, widths["coupon"])}
        maps = {name: (numbers(6, b), numbers(6)) for name, b in widths.items()}
        found = answered(answer(dict(groups), maps))
        right = _project(groups, maps, OWN).relu()
        if _same(found, right):
            continue
        known = [
            (
                torch.cat([right[2:], right[:2]]),
                "the groups are in another order than they came in: coupons stand first",
            ),
            (_project(groups, maps, OWN), "the relu is missing: F_M is a perceptron, relu(M u + bias)"),
            (_project(groups, maps, OWN, bias=False).relu(), "the bias is missing: F_M is relu(M u + bias)"),
        ]
        if widths["item"] == widths["coupon"]:
            foreign = {
                "each group went through the other's map": {"item": "coupon", "coupon": "item"},
                "both groups went through the items' map: every group has its own": dict.fromkeys(OWN, "item"),
                "both groups went through the coupons' map: every group has its own": dict.fromkeys(OWN, "coupon"),
            }
            known += [(_project(groups, maps, by).relu(), hint) for hint, by in foreign.items()]
        for wrong, hint in known:
            if _same(found, wrong):
                raise Mistake(hint)
        if found.shape != right.shape:
            raise Mistake(
                f"shape {tuple(found.shape)} instead of {tuple(right.shape)}: the superscript (0) of concat says that "
                "behaviors of all groups are put below each other, one row each"
            )
        row = int((found - right).abs().sum(dim=1).argmax())
        raise Mistake(f"row {row} of S differs from relu(M u + bias) of its group")
    return "right: every group goes through its own map, and all behaviors stand in one table"


@checker
def stack(answer: Callable[..., Any]) -> str:
    """``answer(weights, biases)``: K perceptrons, ``[s_k, d]`` and ``[s_k]``, as one, ``[d, d]`` and ``[d]``."""
    numbers = _numbers(2)
    sizes, d = (2, 2, 2), 6
    weights, biases = [numbers(s, d) for s in sizes], [numbers(s) for s in sizes]
    found = answered(answer([w.clone() for w in weights], [b.clone() for b in biases]))
    if not isinstance(found, tuple) or len(found) != 2:
        raise Mistake("return two tensors, the weight and the bias")
    weight, bias = found
    right, right_bias = torch.cat(weights), torch.cat(biases)
    if weight.shape == (sizes[0], d * len(sizes)):
        raise Mistake(
            f"weight {tuple(weight.shape)}: the matrices were put side by side. Their *outputs* go side by side; "
            "an output is a row of a weight, so the rows go below each other"
        )
    if weight.shape == (sizes[0], d):
        raise Mistake(f"weight {tuple(weight.shape)}: the perceptrons were added up; each must keep its own outputs")
    if weight.shape == (len(sizes), sizes[0], d):
        raise Mistake(f"weight {tuple(weight.shape)}: torch.stack makes a new axis; torch.cat joins the rows")
    if weight.shape != (d, d):
        raise Mistake(f"weight {tuple(weight.shape)} instead of ({d}, {d}), the rows of all K spaces")
    if _same(weight, right.T):
        raise Mistake("the weight is transposed: a row belongs to an output, a column to an input")
    if _same(weight, torch.cat(weights[::-1])):
        raise Mistake("the spaces are in reverse order: split would hand space K out as space 1")
    if _same(weight, torch.stack(weights, dim=1).flatten(0, 1)):
        raise Mistake(
            "the rows are interleaved (first row of each space, then the second ...): split(sizes) cuts blocks, "
            "so the rows of one space must stay together"
        )
    if not _same(weight, right):
        raise Mistake("the weight does not hold the rows of space 1, then those of space 2, and so on")
    if bias is None or (bias == 0).all():
        raise Mistake("the biases were forgotten: join them in the same order as the weights")
    if not _same(bias, right_bias):
        raise Mistake(f"bias {tuple(bias.shape)} does not hold the biases of space 1, then 2, and so on")
    # unequal spaces: an answer must not count on one size
    uneven, more = [numbers(1, 4), numbers(3, 4)], [numbers(1), numbers(3)]
    weight, bias = answered(answer(uneven, more))
    if not _same(weight, torch.cat(uneven)) or not _same(bias, torch.cat(more)):
        raise Mistake("right for spaces of one size, but spaces may differ: try s_1 = 1 and s_2 = 3")
    return "right: one matrix does the work of K, and split(sizes) hands the spaces out again"


def _count(widths: list[int], hidden: int) -> int:
    return sum((b + 1) * hidden for b in widths) + (hidden + 1) * hidden


@checker
def parameters(answer: Callable[..., Any]) -> str:
    """``answer(widths, hidden, spaces)``: number of parameters of all F_M (widths ``b_i``) and of K equal F_P."""
    widths, hidden, spaces = [40, 24, 8], 32, 4
    found = int(answered(answer(widths, hidden, spaces)))
    right = _count(widths, hidden)
    groups = sum((b + 1) * hidden for b in widths)
    known = {
        sum(widths) * hidden + hidden * hidden: "the biases are missing: each perceptron has one for every output",
        groups: "these are the group maps alone; the K spaces of eq. 2 have weights too",
        (hidden + 1) * hidden: "these are the spaces alone; every group has a map of its own as well",
        groups
        + spaces * (hidden + 1) * hidden: "each space has hidden / K outputs, not hidden: K spaces cost as much as one",
        (sum(widths) + 1) * hidden
        + (hidden + 1) * hidden: "every group has its own bias, also when the matrices are joined",
        (max(widths) + 1) * hidden + (hidden + 1) * hidden: "one map was counted for all groups; each has its own",
        groups + (hidden // spaces + 1) * hidden: "a space reads all of S, hidden numbers, not its own part only",
    }
    if found != right:
        raise Mistake(
            known.get(found, f"{found} instead of {right} for widths {widths}, hidden {hidden}, {spaces} spaces")
        )
    for k in (1, 2, 8):
        if int(answered(answer(widths, hidden, k))) != right:
            raise Mistake(
                f"right for {spaces} spaces, but with {k} the number must be the same: the sizes sum to hidden"
            )
    if int(answered(answer([5, 7], 6, 3))) != _count([5, 7], 6):
        raise Mistake("right for three groups, but not for other widths: count from the arguments")
    return "right: and K does not appear in it. More spaces cost nothing"
