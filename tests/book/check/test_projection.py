"""The checkers of chapter 4: the solution passes, and every listed mistake gets its own hint."""

import pytest
import torch

from atrank_book.check import projection as check
from atrank_lib import GroupProjection, SemanticProjection
from tests.book.check.hints import assert_hint


def project(groups, maps):
    return torch.cat([(u @ maps[name][0].T + maps[name][1]).relu() for name, u in groups.items()])


def test_right_projection_passes():
    assert check.project(project)


def through(groups, maps, by):
    return torch.cat([(u @ maps[by[name]][0].T + maps[by[name]][1]).relu() for name, u in groups.items()])


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda g, m: None, "nothing yet"),
        (lambda g, m: through(g, m, {"item": "coupon", "coupon": "item"}), "the other's map"),
        (lambda g, m: through(g, m, {"item": "item", "coupon": "item"}), "items' map"),
        (lambda g, m: through(g, m, {"item": "coupon", "coupon": "coupon"}), "coupons' map"),
        (lambda g, m: torch.cat([u @ m[n][0].T + m[n][1] for n, u in g.items()]), "relu is missing"),
        (lambda g, m: torch.cat([(u @ m[n][0].T).relu() for n, u in g.items()]), "bias is missing"),
        (lambda g, m: project({"coupon": g["coupon"], "item": g["item"]}, m), "another order"),
        (lambda g, m: project(g, m).T, "below each other"),
        (lambda g, m: project(g, m).sum(dim=0), "below each other"),
        (lambda g, m: project(g, m) + 1, "differs from"),
        (lambda g, m: torch.cat([u @ m[n][0] for n, u in g.items()]), "your code raised"),
    ],
)
def test_wrong_projections_get_their_hint(answer, hint):
    assert_hint(check.project(answer), hint)


def stack(weights, biases):
    return torch.cat(weights), torch.cat(biases)


def test_right_stack_passes():
    assert check.stack(stack)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda w, b: None, "nothing yet"),
        (lambda w, b: torch.cat(w), "two tensors"),
        (lambda w, b: (torch.cat(w, dim=1), torch.cat(b)), "side by side"),
        (lambda w, b: (sum(w), sum(b)), "added up"),
        (lambda w, b: (torch.stack(w), torch.stack(b)), "new axis"),
        (lambda w, b: (torch.cat(w)[:5], torch.cat(b)), "rows of all K spaces"),
        (lambda w, b: (torch.cat(w).T, torch.cat(b)), "transposed"),
        (lambda w, b: (torch.cat(w[::-1]), torch.cat(b[::-1])), "reverse order"),
        (lambda w, b: (torch.stack(w, dim=1).flatten(0, 1), torch.cat(b)), "interleaved"),
        (lambda w, b: (-torch.cat(w), torch.cat(b)), "does not hold the rows"),
        (lambda w, b: (torch.cat(w), torch.zeros(len(torch.cat(w)), dtype=w[0].dtype)), "biases were forgotten"),
        (lambda w, b: (torch.cat(w), torch.cat(b[::-1])), "does not hold the biases"),
        (lambda w, b: (torch.cat(w), torch.cat([x[:2] for x in b])), "spaces may differ"),
    ],
)
def test_wrong_stacks_get_their_hint(answer, hint):
    assert_hint(check.stack(answer), hint)


def parameters(widths, hidden, spaces):
    return sum((b + 1) * hidden for b in widths) + (hidden + 1) * hidden


def test_right_count_passes():
    assert check.parameters(parameters)


def test_the_count_is_that_of_the_library():
    widths = {"item": 40, "query": 24, "coupon": 8}
    modules = [GroupProjection(widths, 32), SemanticProjection(32, (8, 8, 8, 8))]
    built = sum(p.numel() for module in modules for p in module.parameters())
    assert built == parameters(list(widths.values()), 32, 4)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda w, d, k: None, "nothing yet"),
        (lambda w, d, k: sum(w) * d + d * d, "biases are missing"),
        (lambda w, d, k: sum((b + 1) * d for b in w), "group maps alone"),
        (lambda w, d, k: (d + 1) * d, "spaces alone"),
        (lambda w, d, k: sum((b + 1) * d for b in w) + k * (d + 1) * d, "cost as much as one"),
        (lambda w, d, k: (sum(w) + 1) * d + (d + 1) * d, "own bias"),
        (lambda w, d, k: (max(w) + 1) * d + (d + 1) * d, "one map was counted"),
        (lambda w, d, k: sum((b + 1) * d for b in w) + (d // k + 1) * d, "reads all of S"),
        (lambda w, d, k: 7, "7 instead of"),
        (lambda w, d, k: parameters(w, d, k) + k - 4, "must be the same"),
        (lambda w, d, k: parameters([40, 24, 8], 32, k), "count from the arguments"),
    ],
)
def test_wrong_counts_get_their_hint(answer, hint):
    assert_hint(check.parameters(answer), hint)
