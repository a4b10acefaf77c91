"""Intervals that cross users and seeds, and the verdicts that are read off them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan, sqrt
from typing import TypeVar

import numpy as np
from jaxtyping import Float64
from scipy import stats

K = TypeVar("K")
MARGIN = 0.002  # differences of AUC below it are none in practice: fixed in PROTOCOL.md


@dataclass(frozen=True)
class Crossed:
    """A difference, its standard error over users and seeds, and the degrees of freedom that this rests on."""

    value: float
    error: float
    freedom: float

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Student's interval. It is wide where few seeds say little of how seeds differ."""
        reach = float(stats.t.ppf(0.5 + level / 2, self.freedom)) * self.error
        return self.value - reach, self.value + reach

    @property
    def p(self) -> float:
        """Two-sided, of no difference."""
        if not self.error:
            return float(not self.value)
        return float(2 * stats.t.sf(abs(self.value) / self.error, self.freedom))

    def verdict(self, margin: float = MARGIN) -> str:
        """``better`` or ``worse`` where the interval is off zero, ``equal`` where it lies within the margin, or
        ``undecided``."""
        low, high = self.interval()
        if low > 0 or high < 0:
            return "better" if low > 0 else "worse"
        return "equal" if -margin <= low and high <= margin else "undecided"


def crossed(weights: Sequence[float], results: Sequence[Float64[np.ndarray, "_ _"]]) -> Crossed:
    """The weighted sum of results on the same users, each ``[seeds, users]``, their seeds being independent.

    With weights ``w_i``, ``U`` users, ``S_i`` seeds, and ``d_u`` the weighted sum of a user's means over seeds::

        error^2 = var_u(d_u) / U + sum_i w_i^2 (var_s(mean_u x_i) / S_i - var_us(x_i) / (U S_i))

    ``var_us`` is of what users and seeds only have together; both of the other terms hold it, so it is taken off once.
    The degrees of freedom are those of Satterthwaite (1946). A single row is a rule without seeds (or one seed, of
    whose kin nothing is known: the interval then speaks of users alone).

    Raises:
        ValueError: the two do not hold the same users.

    >>> a, b = np.array([[1.0, 0.5, 1.0, 1.0]] * 2), np.array([[0.5, 0.5, 0.0, 1.0]] * 2)
    >>> found = crossed([1.0, -1.0], [a, b])
    >>> found.value, found.verdict()
    (0.375, 'undecided')
    """
    shapes = [x.shape for x in results]
    if any(len(shape) != 2 for shape in shapes) or len({shape[1] for shape in shapes}) != 1:
        said = " and ".join(map(str, dict.fromkeys(shapes)))
        raise ValueError(f"per-user results of shapes {said}; give [seeds, users] for the same users")
    users, weighted = shapes[0][1], list(zip(weights, results, strict=True))
    of_users = np.sum([weight * x.mean(axis=0) for weight, x in weighted], axis=0)
    value = float(of_users.mean())
    if users < 2:  # a single one has no spread
        return Crossed(value, nan, nan)
    several = [(weight**2, x) for weight, x in weighted if len(x) > 1]
    terms = [(float(of_users.var(ddof=1)) / users, users - 1)]
    terms += [(square * float(x.mean(axis=1).var(ddof=1)) / len(x), len(x) - 1) for square, x in several]
    together = sum(square * _noise(x) / x.size for square, x in several)
    total = sum(term for term, _ in terms)
    square = max(total - together, terms[0][0])  # never below what users alone say
    bottom = sum(term**2 / free for term, free in terms)
    return Crossed(value, sqrt(square), total**2 / bottom if bottom else float(users - 1))


def crossed_difference(a: Float64[np.ndarray, "_ _"], b: Float64[np.ndarray, "_ _"]) -> Crossed:
    """By how much ``a`` is above ``b``; see ``crossed``."""
    return crossed([1.0, -1.0], [a, b])


def _noise(x: Float64[np.ndarray, "seeds users"]) -> float:
    """Variance of what neither a user's mean nor a seed's mean tells."""
    rest = x - x.mean(axis=0) - x.mean(axis=1, keepdims=True) + x.mean()
    return float((rest**2).sum() / ((x.shape[0] - 1) * (x.shape[1] - 1)))


def pigeonhole(
    a: Float64[np.ndarray, "_ users"],
    b: Float64[np.ndarray, "_ users"],
    level: float = 0.95,
    resamples: int = 1_000,
    seed: int = 0,
) -> tuple[float, float]:
    """The interval of a bootstrap over users and seeds crossed (Owen, 2007): both are drawn anew, with replacement.

    Users are drawn in pairs, the seeds of ``a`` and ``b`` apart. It needs no formula, but takes ``S`` seeds for all
    there are: their spread comes out too small by ``(S - 1) / S``.

    >>> a, b = np.array([[1.0, 0.5, 1.0, 1.0]]), np.array([[0.5, 0.5, 0.0, 1.0]])
    >>> low, high = pigeonhole(a, b)
    >>> 0 <= low <= high <= 1
    True
    """
    pick, users, found = np.random.default_rng(seed), a.shape[1], np.empty(resamples)
    for number in range(resamples):
        times = np.bincount(pick.integers(users, size=users), minlength=users) / users  # how often a user is drawn
        one, two = (np.bincount(pick.integers(len(x), size=len(x)), minlength=len(x)) / len(x) for x in (a, b))
        found[number] = one @ (a @ times) - two @ (b @ times)
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def holm(found: Mapping[K, Crossed], level: float = 0.95) -> dict[K, bool]:
    """Which of a family of differences hold together, by Holm's steps: chances of one false claim are 5 % in all.

    >>> strong, weak = Crossed(0.01, 0.002, 50.0), Crossed(0.004, 0.0019, 50.0)  # p below .0001, and .04
    >>> holm({"a": strong, "b": weak, "c": weak})
    {'a': True, 'b': False, 'c': False}
    """
    order = sorted(found, key=lambda name: found[name].p)
    held, going = dict.fromkeys(found, False), True
    for number, name in enumerate(order):
        going = going and found[name].p <= (1 - level) / (len(order) - number)
        held[name] = going
    return held
