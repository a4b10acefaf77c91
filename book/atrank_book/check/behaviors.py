"""Checkers for chapter 1: the metric, what counts as history, and the plainest scorer."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import product

from atrank_book.check.verdict import Mistake, answered, checker
from atrank_lib.evaluation import average_user_auc

UserAUC = Callable[[Sequence[str], Sequence[float], Sequence[int]], float]
History = Callable[[Sequence[str], Sequence[int], int], Sequence[int]]
LikeLast = Callable[[Sequence[str], Sequence[str]], Sequence[float]]

# users, scores and labels: Ana has six pairs and a tie, Ben one pair, Cleo no negative; on other scales
USERS = ("ana", "ben", "ana", "cleo", "ana", "ana", "ben", "cleo", "ana")
SCORES = (9.0, 3.0, 8.0, 1.0, 7.0, 6.0, 4.0, 2.0, 8.0)
LABELS = (1, 1, 1, 1, 0, 0, 0, 1, 0)


@checker
def user_auc(answer: UserAUC) -> str:
    """Average user AUC of three users, one of them without a negative."""
    found = float(answered(answer(list(USERS), list(SCORES), list(LABELS))))
    right = float(average_user_auc(list(USERS), list(SCORES), list(LABELS)))
    if found == found and abs(found - right) < 1e-9:
        return f"right: {right:.4f}, over the two users who have both labels"
    for hint, wrong in _auc_slips().items():
        if abs(found - wrong) < 1e-9:
            raise Mistake(f"{hint} (got {found:.4f}, expected {right:.4f})")
    if found != found:
        raise Mistake("NaN: a user without a negative has no pair to divide by; leave such users out")
    raise Mistake(f"got {found:.4f} where two users with both labels have an average of {right:.4f}")


def _auc_slips() -> dict[str, float]:
    """The value of each popular slip on the users above, by the hint that it deserves."""
    points: dict[str, list[tuple[float, float]]] = {}
    for i, j in product(range(len(USERS)), repeat=2):
        if USERS[i] == USERS[j] and LABELS[i] > LABELS[j]:
            points.setdefault(USERS[i], []).append((SCORES[i], SCORES[j]))

    def mean(tie: float) -> float:
        """The mean over users when a tie is worth this much."""
        return sum(sum((p > n) + tie * (p == n) for p, n in pairs) / len(pairs) for pairs in points.values()) / 2

    pairs = [pair for mine in points.values() for pair in mine]
    per_user = {user: sum((p > n) + 0.5 * (p == n) for p, n in mine) / len(mine) for user, mine in points.items()}
    weighed = [(per_user[u], y) for u, y in zip(USERS, LABELS, strict=True) if u in per_user]
    left_out = "a user without a negative has no AUC and is left out, but yours counts such a user as "
    return {
        "ties are counted as losses; a tie is worth half": mean(0.0),
        "ties are counted as wins; a tie is worth half": mean(1.0),
        "all users are thrown into one pot; compare only scores of one user, then average over users": float(
            average_user_auc(["all"] * len(USERS), list(SCORES), list(LABELS))
        ),
        "this is the mean over all pairs; average over the pairs of a user first, then over users": sum(
            (p > n) + 0.5 * (p == n) for p, n in pairs
        )
        / len(pairs),
        "this is the mean over samples, so users with more samples weigh more; every user counts once": sum(
            auc for auc, _ in weighed
        )
        / len(weighed),
        "this is the mean over positives, so users with more positives weigh more; every user counts once": sum(
            auc * y for auc, y in weighed
        )
        / sum(y for _, y in weighed),
        left_out + "0": sum(per_user.values()) / 3,
        left_out + "one half": (sum(per_user.values()) + 0.5) / 3,
        left_out + "1": (sum(per_user.values()) + 1) / 3,
        "the order is upside down: a positive should score higher than a negative": 1 - mean(0.5),
    }


@checker
def history(answer: History) -> str:
    """What lies strictly before a target, on small random lives that are full of ties."""
    for seed in range(40):
        rng = random.Random(seed)
        size = rng.randint(4, 9)
        groups = [rng.choice(["item", "query", "coupon"]) for _ in range(size)]
        times = [rng.randint(1, 4) for _ in range(size)]
        target = rng.randrange(size)
        found = [int(i) for i in answered(answer(list(groups), list(times), target))]
        expected = [
            i
            for i in range(size)
            if times[i] < times[target] or (times[i] == times[target] and groups[i] == groups[target] and i < target)
        ]
        where = f" (groups {groups}, times {times}, target {target}: got {found}, expected {expected})"
        for i in sorted(set(found) - set(expected)):
            raise Mistake(_wrongly_in(groups, times, target, i) + where)
        for i in sorted(set(expected) - set(found)):
            raise Mistake(_wrongly_out(groups, times, target, i) + where)
        if found != expected:
            raise Mistake("the right behaviors, but not each once in ascending order" + where)
    return "right: earlier times in any group, earlier rows at the same time in the target's own"


def _wrongly_in(groups: Sequence[str], times: Sequence[int], target: int, i: int) -> str:
    if i == target:
        return "the target is in its own history: the answer has leaked"
    if not 0 <= i < len(groups):
        return f"there is no behavior number {i}; numbers run from 0 to {len(groups) - 1}"
    if times[i] > times[target]:
        return f"behavior {i} happens after the target: the future has leaked"
    if groups[i] != groups[target]:
        return f"behavior {i} of another group has the time of the target; it is not strictly before it"
    return f"behavior {i} has the target's time and group, but a later row; only earlier rows were before"


def _wrongly_out(groups: Sequence[str], times: Sequence[int], target: int, i: int) -> str:
    if times[i] == times[target]:
        return f"behavior {i} is missing: inside the target's own group, the order of rows breaks ties"
    if groups[i] != groups[target]:
        return f"behavior {i} is missing: it is of another group, and earlier times count in every group"
    return f"behavior {i} is missing: it is earlier than the target"


@checker
def like_last(answer: LikeLast) -> str:
    """1.0 for candidates in the category of the last behavior, 0.0 for others."""
    past, candidates = ["shoes", "socks", "tents", "socks"], ["socks", "shoes", "lamps", "tents", "socks"]

    def score(history: list[str]) -> list[float]:
        found = [float(x) for x in answered(answer(list(history), list(candidates)))]
        if len(found) != len(candidates):
            raise Mistake(f"{len(candidates)} candidates but {len(found)} scores; give each candidate one")
        return found

    slips = {
        "these are the candidates like the *oldest* behavior; the list runs from oldest to newest": [0, 1, 0, 0, 0],
        "any earlier behavior counts here; only the last one should": [1, 1, 0, 1, 1],
        "this counts how often the category occurs in the whole history; only the last behavior should count": [
            past.count(c) for c in candidates
        ],
        "upside down: candidates like the last behavior should score 1.0, others 0.0": [0, 1, 1, 1, 0],
    }
    found = score(past)
    for hint, wrong in slips.items():
        if found == wrong:
            raise Mistake(hint)
    if found != [1, 0, 0, 0, 1]:
        raise Mistake(f"history {past}, candidates {candidates}: got {found}, expected [1.0, 0.0, 0.0, 0.0, 1.0]")
    try:
        empty = score([])
    except IndexError:
        raise Mistake("a user without a history has no last behavior; give all candidates 0.0") from None
    if any(empty):
        raise Mistake(f"with an empty history all candidates score 0.0, got {empty}")
    return "right, for users without a history too"
