"""The checkers of chapter 1 accept right answers and name the slip in wrong ones."""

from __future__ import annotations

import itertools

import pytest
from sklearn.metrics import roc_auc_score

from atrank_book.check import behaviors as check
from tests.book.check.hints import assert_hint


def per_user(user_ids, scores, labels, tie=0.5):
    """AUC of each user by loops; None for a user without both labels."""
    result = {}
    for user in dict.fromkeys(user_ids):
        mine = [(s, y) for u, s, y in zip(user_ids, scores, labels, strict=True) if u == user]
        pairs = [(p, n) for p, y in mine if y for n, z in mine if not z]
        result[user] = sum((p > n) + tie * (p == n) for p, n in pairs) / len(pairs) if pairs else None
    return result


def mean(values):
    values = [v for v in values if v is not None]
    return sum(values) / len(values)


def mean_over_pairs(user_ids, scores, labels):
    rows = list(zip(user_ids, scores, labels, strict=True))
    pairs = [(s, t) for (u, s, y), (v, t, z) in itertools.product(rows, repeat=2) if u == v and y > z]
    return sum((p > n) + 0.5 * (p == n) for p, n in pairs) / len(pairs)


def test_user_auc_accepts_the_right_answer():
    assert check.user_auc(lambda u, s, y: mean(per_user(u, s, y).values()))


WRONG_AUC = {
    "nothing yet": lambda u, s, y: None,
    "ties are counted as losses": lambda u, s, y: mean(per_user(u, s, y, tie=0).values()),
    "ties are counted as wins": lambda u, s, y: mean(per_user(u, s, y, tie=1).values()),
    "one pot": lambda u, s, y: roc_auc_score(y, s),
    "mean over all pairs": mean_over_pairs,
    "mean over samples": lambda u, s, y: mean([per_user(u, s, y)[user] for user in u]),
    "mean over positives": lambda u, s, y: mean(
        [per_user(u, s, y)[user] for user, label in zip(u, y, strict=True) if label]
    ),
    "such a user as 0": lambda u, s, y: mean([a or 0.0 for a in per_user(u, s, y).values()]),
    "such a user as one half": lambda u, s, y: mean([0.5 if a is None else a for a in per_user(u, s, y).values()]),
    "such a user as 1": lambda u, s, y: mean([1.0 if a is None else a for a in per_user(u, s, y).values()]),
    "upside down": lambda u, s, y: 1 - mean(per_user(u, s, y).values()),
    "NaN": lambda u, s, y: float("nan"),
    "ZeroDivisionError": lambda u, s, y: 1 / 0,
    "got 0.1000": lambda u, s, y: 0.1,
}


@pytest.mark.parametrize("hint", WRONG_AUC)
def test_user_auc_names_the_slip(hint):
    assert_hint(check.user_auc(WRONG_AUC[hint]), hint)


def before(groups, times, target, rule):
    """Numbers of the behaviors that pass the rule (time, time of the target, same group, number, target)."""
    return [i for i in range(len(groups)) if rule(times[i], times[target], groups[i] == groups[target], i, target)]


def test_history_accepts_the_right_answer():
    assert check.history(lambda g, t, x: before(g, t, x, lambda a, b, same, i, j: (a, i) < (b, j) if same else a < b))


WRONG_HISTORY = {
    "nothing yet": lambda g, t, x: None,
    "target is in its own history": lambda g, t, x: before(
        g, t, x, lambda a, b, same, i, j: a <= b if same else a < b
    ),
    "of another group has the time of the target": lambda g, t, x: before(
        g, t, x, lambda a, b, same, i, j: a < b or (a == b and i < j)
    ),
    "the order of rows breaks ties": lambda g, t, x: before(g, t, x, lambda a, b, same, i, j: a < b),
    "but a later row": lambda g, t, x: before(
        g, t, x, lambda a, b, same, i, j: a < b or (a == b and same and i != j)
    ),
    "the future has leaked": lambda g, t, x: [i for i in range(len(g)) if i != x],
    "earlier times count in every group": lambda g, t, x: before(
        g, t, x, lambda a, b, same, i, j: same and (a, i) < (b, j)
    ),
    "it is earlier than the target": lambda g, t, x: before(
        g, t, x, lambda a, b, same, i, j: (a < b and i < j) or (a == b and same and i < j)
    ),
    "ascending order": lambda g, t, x: before(
        g, t, x, lambda a, b, same, i, j: (a, i) < (b, j) if same else a < b
    )[::-1],
    "there is no behavior number": lambda g, t, x: [len(g)],
    "IndexError": lambda g, t, x: [g[len(g)]],
}  # fmt: skip


@pytest.mark.parametrize("hint", WRONG_HISTORY)
def test_history_names_the_slip(hint):
    assert_hint(check.history(WRONG_HISTORY[hint]), hint)


def test_like_last_accepts_the_right_answer():
    assert check.like_last(lambda past, candidates: [float(bool(past) and c == past[-1]) for c in candidates])


WRONG_LIKE_LAST = {
    "nothing yet": lambda past, candidates: None,
    "*oldest*": lambda past, candidates: [float(c == past[0]) for c in candidates],
    "any earlier behavior counts": lambda past, candidates: [float(c in past) for c in candidates],
    "how often the category occurs": lambda past, candidates: [float(past.count(c)) for c in candidates],
    "upside down": lambda past, candidates: [float(c != past[-1]) for c in candidates],
    "without a history": lambda past, candidates: [float(c == past[-1]) for c in candidates],
    "with an empty history": lambda past, candidates: [float(not past or c == past[-1]) for c in candidates],
    "give each candidate one": lambda past, candidates: [1.0],
    "expected [1.0, 0.0, 0.0, 0.0, 1.0]": lambda past, candidates: [0.5] * len(candidates),
}


@pytest.mark.parametrize("hint", WRONG_LIKE_LAST)
def test_like_last_names_the_slip(hint):
    assert_hint(check.like_last(WRONG_LIKE_LAST[hint]), hint)
