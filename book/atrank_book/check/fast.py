"""Checkers for chapter 11: empty places, what a row of a table is owed, and the roof over an operator."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Int
from torch import Tensor

from atrank_book.check.verdict import Mistake, answered, checker

EmptyShare = Callable[[Int[Tensor, " samples"], int], float]
CatchUp = Callable[[float, float, float, int, int, float, float, float], float]
Attainable = Callable[[float, float, float, float], float]


@checker
def empty_share(answer: EmptyShare) -> str:
    """The share of empty places in the padded tables of batches, cut in the given order."""
    for values, size in (([2, 10, 3, 10, 2, 3], 2), ([5, 1, 1, 7, 2], 3), ([4, 4, 4], 2)):
        lengths = torch.tensor(values)
        parts = lengths.split(size)
        places = sum(len(part) * int(part.max()) for part in parts)
        real = int(lengths.sum())
        right, found = 1 - real / places, float(answered(answer(lengths, size)))
        if abs(found - right) < 1e-6:
            continue
        case = f"histories of {values} in batches of {size}"
        whole = sum(size * int(part.max()) for part in parts)
        ordered = sum(len(part) * int(part.max()) for part in lengths.sort().values.split(size))
        mean = sum(1 - float(part.sum()) / (len(part) * int(part.max())) for part in parts) / len(parts)
        for wrong, hint in (
            (real / places, "this is the share that is filled; the rest is empty"),
            (places - real, f"{places - real} is their number; divide it by all {places} places"),
            (places / real - 1, "divide the empty places by all places, not by the behaviors"),
            (1 - real / (len(values) * max(values)), "every batch is as wide as its own longest history, not as all's"),
            (1 - real / whole, f"the last batch has {len(parts[-1])} samples, not {size}"),
            (1 - real / ordered, "take the samples in the order they come in; sorting is another question"),
            (mean, "the mean of the batches' shares: a wide batch has more places, so add up places first"),
        ):
            if abs(found - wrong) < 1e-6:
                raise Mistake(f"{case}: {hint}")
        raise Mistake(f"{case}: {found:.4f}, not {right:.4f}; {real} behaviors in {places} places")
    return "places and behaviors, batch by batch"


@checker
def catch_up(answer: CatchUp) -> str:
    """What Adam makes of a number that had no gradient for some steps (eps = 0)."""
    for p, m, v, last, now, rate, beta1, beta2 in (
        (1.0, 0.2, 0.004, 1, 4, 0.1, 0.9, 0.999),
        (-2.0, -0.5, 0.3, 7, 30, 0.01, 0.9, 0.99),
        (0.5, 0.1, 0.02, 3, 3, 0.1, 0.9, 0.999),
    ):

        def path(
            moved: bool = True, corrected: bool = True, faded: bool = True, shift: int = 0, until: int = 0
        ) -> float:
            place, m_j, v_j = p, m, v  # noqa: B023  (called in this turn of the loop)
            for j in range(last + 1, now + 1 + until):  # noqa: B023
                m_j, v_j = m_j * beta1, v_j * (beta2 if faded else 1.0)  # noqa: B023
                c1, c2 = (1 - beta1 ** (j - shift), 1 - beta2 ** (j - shift)) if corrected else (1.0, 1.0)  # noqa: B023
                place -= moved * rate * (m_j / c1) / (v_j / c2) ** 0.5  # noqa: B023
            return place

        right, found = path(), float(answered(answer(p, m, v, last, now, rate, beta1, beta2)))
        if abs(found - right) < 1e-6:
            continue
        case = f"p={p}, m={m}, v={v}, steps {last + 1} to {now}" if now > last else "no step missed"
        if last == now:
            raise Mistake(f"{case}: nothing is owed, p stays {p}, got {found:.4f}")
        for wrong, hint in (
            (p, "p did not move; Adam's momentum goes on moving it without a gradient"),
            (path(corrected=False), "the bias corrections 1 - beta^j are missing"),
            (path(faded=False), "v fades too, by beta2 in every step"),
            (path(shift=last), "the corrections count steps since the beginning, not since the row was last seen"),
            (path(until=-1), f"step {now} itself is missing"),
            (2 * p - right, "the sign: steps go against the momentum"),
            (right - p, "this is what is owed; add it to p"),
        ):
            if abs(found - wrong) < 1e-6:
                raise Mistake(f"{case}: {hint}")
        raise Mistake(f"{case}: {found:.6f}, not {right:.6f}")
    return "one payment for all steps missed, and it is Adam to the last digit"


@checker
def attainable(answer: Attainable) -> str:
    """The roofline: FLOPs per second that an operator can reach."""
    cases = [(1e6, 4e6, 100e9, 20e9), (4e9, 1e8, 100e9, 20e9), (5e6, 1e6, 100e9, 30e9)]
    found = [float(answered(answer(*case))) for case in cases]

    def is_it(formula: Attainable) -> bool:
        return all(abs(x / formula(*case) - 1) < 1e-6 for x, case in zip(found, cases, strict=True))

    formulas: list[tuple[Attainable, str]] = [
        (lambda f, x, p, b: max(p, b * f / x), "the lower of the two limits counts, not the higher"),
        (
            lambda f, x, p, b: p,
            "the peak everywhere: where intensity is low, memory cannot bring the numbers that fast",
        ),
        (lambda f, x, p, b: b * f / x, "where intensity is high this is above the peak: nobody gets through the roof"),
        (lambda f, x, p, b: min(p, b * x / f), "the intensity is FLOPs per byte, not bytes per FLOP"),
        (lambda f, x, p, b: max(f / p, x / b), "these are seconds; FLOPs per second are asked for"),
        (lambda f, x, p, b: f / (f / p + x / b), "computing and moving overlap; do not add their times"),
    ]
    for formula, hint in formulas:
        if is_it(formula):
            raise Mistake(hint)
    for x, (flops, moved, peak, bandwidth) in zip(found, cases, strict=True):
        right = min(peak, bandwidth * flops / moved)
        if abs(x / right - 1) > 1e-6:
            raise Mistake(
                f"{flops:g} FLOPs on {moved:g} bytes, peak {peak:g} FLOPs/s, memory {bandwidth:g} bytes/s: {x:g}, not "
                f"{right:g}"
            )
    return "memory's slope up to the ridge, the processor's roof from there on"
