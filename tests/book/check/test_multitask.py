"""Chapter 8's checkers: the solutions pass, and each plausible mistake gets the hint that it deserves."""

from __future__ import annotations

import pytest

from atrank_book.check import multitask
from tests.book.check.hints import assert_hint


def right_modes(groups):
    found = [(f"{g}2{g}", [g], [g]) for g in groups]
    if len(groups) > 1:
        found += [(f"all2{g}", groups, [g]) for g in groups] + [("all2all", groups, groups)]
    return found


def right_weights(counts):
    return {name: sum(counts.values()) / len(counts) / n for name, n in counts.items()}


def right_gradient(g, other):
    return g - min(float(g @ other), 0.0) / (other @ other) * other


CHECKS = [
    (multitask.modes, right_modes),
    (multitask.equal_weights, right_weights),
    (multitask.without_conflict, right_gradient),
]


@pytest.mark.parametrize(("check", "answer"), CHECKS)
def test_a_right_answer_passes(check, answer):
    verdict = check(answer)
    assert verdict, verdict


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (
            lambda groups: [(f"{a}2{b}", [a], [b]) for a in groups for b in groups],
            "reads one group and predicts another",
        ),
        (lambda groups: right_modes(groups)[:-1], "missing"),
        (lambda groups: right_modes(groups) * 2, "listed twice"),
        (lambda groups: [(n, h, t if n != "all2all" else t[:1]) for n, h, t in right_modes(groups)], "and predicts"),
        (lambda groups: [*right_modes(groups), ("all2all", groups, groups)][: 2 * len(groups) + 1], "with one group"),
        (lambda groups: groups.nothing, "your code raised AttributeError"),
    ],
)
def test_wrong_modes_get_their_hint(answer, hint):
    assert_hint(multitask.modes(answer), hint)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda counts: dict.fromkeys(counts, 1.0), "still counts more"),
        (lambda counts: {name: n / sum(counts.values()) for name, n in counts.items()}, "even more weight"),
        (lambda counts: {name: 1 / n for name, n in counts.items()}, "changes the learning rate"),
        (lambda counts: {name: 1 / n**2 for name, n in counts.items()}, "should be the same"),
        (lambda counts: {}, "one weight for each"),
    ],
)
def test_wrong_weights_get_their_hint(answer, hint):
    assert_hint(multitask.equal_weights(answer), hint)


def in_place(g, other):
    g -= (g @ other) / (other @ other) * other
    return g


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda g, o: g - (g @ o) / (o @ o) * o, "do not conflict"),
        (lambda g, o: g - min(float(g @ o), 0.0) / o.norm() * o, "divide by"),
        (lambda g, o: g, "removes nothing"),
        (lambda g, o: g + min(float(g @ o), 0.0) / (o @ o) * o, "the sign"),
        (lambda g, o: g - min(float(g @ o), 0.0) / (g @ g) * g, "not on g itself"),
        (lambda g, o: o - (g @ o) / (g @ g) * g, "it is g that is wanted"),
        (in_place, "are changed"),
        (lambda g, o: 0 * g, "expected"),
    ],
)
def test_wrong_gradients_get_their_hint(answer, hint):
    assert_hint(multitask.without_conflict(answer), hint)
