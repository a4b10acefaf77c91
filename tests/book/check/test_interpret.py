"""Chapter 9's checkers: the solutions pass, and each plausible mistake gets the hint that it deserves."""

from __future__ import annotations

import pytest
import torch

from atrank_book.check import interpret
from tests.book.check.hints import assert_hint


def between(weights, groups, count):
    mean = weights.mean(dim=0)
    table = torch.zeros(count, count)
    for a in range(count):
        for b in range(count):
            table[a, b] = mean[groups == a][:, groups == b].sum(dim=1).mean()
    return table


def erase(score, history):
    n = len(history)
    return torch.tensor([score(history) - score(history[torch.arange(n) != j]) for j in range(n)])


def auc(suspicion, cause):
    others = torch.cat([suspicion[:cause], suspicion[cause + 1 :]])
    return float(((others < suspicion[cause]).float() + 0.5 * (others == suspicion[cause]).float()).mean())


SOLUTIONS = [(interpret.between_groups, between), (interpret.erase, erase), (interpret.detector_auc, auc)]


@pytest.mark.parametrize(("check", "answer"), SOLUTIONS)
def test_a_right_answer_passes(check, answer):
    verdict = check(answer)
    assert verdict, verdict


def size(groups):
    return torch.bincount(groups).float()


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda w, g, n: between(w.transpose(1, 2), g, n), "rows and columns are exchanged"),
        (lambda w, g, n: between(w, g, n).T, "the table is transposed"),
        (lambda w, g, n: between(w, g, n) / size(g), "averaged over the group that is read"),
        (lambda w, g, n: between(w, g, n) * size(g)[:, None], "summed over the behaviors of the group that takes"),
        (lambda w, g, n: between(w, g, n) * 2, "summed over the spaces"),
        (lambda w, g, n: between(w[:1], g, n), "only the first space"),
        (lambda w, g, n: w.mean(dim=0), "shape [5, 5]"),
        (lambda w, g, n: torch.zeros(n, n), "but should be"),
        (lambda w, g, n: w.nothing, "your code raised AttributeError"),
    ],
)
def test_wrong_group_tables_get_their_hint(answer, hint):
    assert_hint(interpret.between_groups(answer), hint)


def kept(history, places):
    return history[[i for i in range(len(history)) if i not in places]]


def zeroed(history, j):
    history = history.clone()
    history[j] = 0
    return history


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda f, x: -erase(f, x), "the sign"),
        (lambda f, x: torch.tensor([f(kept(x, [j])) for j in range(4)]), "scores without each behavior"),
        (lambda f, x: torch.tensor([f(x) - f(zeroed(x, j)) for j in range(4)]), "set to zero"),
        (lambda f, x: torch.tensor([f(x) - f(x[j + 1 :]) for j in range(4)]), "stay erased"),
        (lambda f, x: torch.tensor([f(x[[j]]) for j in range(4)]), "scored alone"),
        (lambda f, x: erase(f, x) / f(x), "divided by the whole score"),
        (lambda f, x: torch.zeros(4), "never called"),
        (lambda f, x: torch.full((4,), f(x)), "expected"),
        (lambda f, x: erase(f, x).sum(), "shape []"),
    ],
)
def test_wrong_erasures_get_their_hint(answer, hint):
    assert_hint(interpret.erase(answer), hint)


def others(s, c):
    return torch.cat([s[:c], s[c + 1 :]])


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda s, c: float((others(s, c) < s[c]).float().mean()), "ties are lost"),
        (lambda s, c: float((others(s, c) <= s[c]).float().mean()), "ties are won"),
        (lambda s, c: float(((s < s[c]).float() + 0.5 * (s == s[c])).mean()), "compared with itself"),
        (lambda s, c: auc(s, c) * (len(s) - 1) / len(s), "divided by all behaviors"),
        (lambda s, c: 1 - auc(s, c), "the wrong way round"),
        (lambda s, c: float(s[c] >= s.max()), "only whether the cause is first"),
        (lambda s, c: 0.123, "expected"),
    ],
)
def test_wrong_detector_aucs_get_their_hint(answer, hint):
    assert_hint(interpret.detector_auc(answer), hint)
