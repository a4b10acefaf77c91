"""Chapter 11's checkers: the solutions pass, and each plausible mistake gets the hint that it deserves."""

from __future__ import annotations

import pytest
import torch

from atrank_book.check import fast
from tests.book.check.hints import assert_hint


def tables(lengths, size):
    return sum(len(part) * int(part.max()) for part in lengths.split(size))


def right_empty_share(lengths, size):
    return 1 - int(lengths.sum()) / tables(lengths, size)


def mean_of_shares(lengths, size):
    return sum(right_empty_share(part, size) for part in lengths.split(size)) / len(lengths.split(size))


def by_adam(p, m, v, last, now, rate, beta1, beta2):
    """Torch's own Adam, step by step with zero gradients: independent of the formula."""
    number = torch.nn.Parameter(torch.tensor([p], dtype=torch.float64))
    adam = torch.optim.Adam([number], lr=rate, betas=(beta1, beta2), eps=0.0)
    moments = {"exp_avg": m, "exp_avg_sq": v}
    adam.state[number] = {name: torch.tensor([x], dtype=torch.float64) for name, x in moments.items()}
    adam.state[number]["step"] = torch.tensor(float(last))
    for _ in range(now - last):
        number.grad = torch.zeros_like(number)
        adam.step()
    return number.item()


def catch_up(p, m, v, last, now, rate, beta1, beta2, *, corrected=True, start=0, root=0.5):
    """The closed form, and ways to get it wrong."""
    steps = range(last + 1, now + 1)
    c1 = {j: 1 - beta1 ** (j - start) if corrected else 1.0 for j in steps}
    c2 = {j: 1 - beta2 ** (j - start) if corrected else 1.0 for j in steps}
    return p - m / v**0.5 * rate * sum(c2[j] ** 0.5 / c1[j] * (beta1 / beta2**root) ** (j - last) for j in steps)


def right_attainable(flops, moved, peak, bandwidth):
    return min(peak, bandwidth * flops / moved)


CHECKS = [
    (fast.empty_share, right_empty_share),
    (fast.catch_up, by_adam),
    (fast.catch_up, catch_up),
    (fast.attainable, right_attainable),
]


@pytest.mark.parametrize(("check", "answer"), CHECKS)
def test_a_right_answer_passes(check, answer):
    verdict = check(answer)
    assert verdict, verdict


MISTAKES = [
    (fast.empty_share, lambda n, b: 1 - right_empty_share(n, b), "is filled"),
    (fast.empty_share, lambda n, b: tables(n, b) - int(n.sum()), "is their number"),
    (fast.empty_share, lambda n, b: tables(n, b) / int(n.sum()) - 1, "not by the behaviors"),
    (fast.empty_share, lambda n, b: 1 - float(n.float().mean() / n.max()), "own longest"),
    (fast.empty_share, lambda n, b: 1 - int(n.sum()) / sum(b * int(x.max()) for x in n.split(b)), "last batch"),
    (fast.empty_share, lambda n, b: right_empty_share(n.sort().values, b), "order they come"),
    (fast.empty_share, mean_of_shares, "add up places first"),
    (fast.empty_share, lambda n, b: 0.9, "behaviors in"),
    (fast.catch_up, lambda p, *rest: p, "momentum goes on"),
    (fast.catch_up, lambda *a: catch_up(*a, corrected=False), "bias corrections"),
    (fast.catch_up, lambda *a: catch_up(*a, root=0.0), "v fades too"),
    (fast.catch_up, lambda *a: catch_up(*a, start=a[3]), "since the beginning"),
    (fast.catch_up, lambda p, m, v, s, t, *rest: catch_up(p, m, v, s, t - 1, *rest), "itself is missing"),
    (fast.catch_up, lambda p, *rest: 2 * p - catch_up(p, *rest), "the sign"),
    (fast.catch_up, lambda p, *rest: catch_up(p, *rest) - p, "add it to p"),
    (fast.catch_up, lambda p, m, v, s, t, *rest: catch_up(p, m, v, s, max(t, s + 1), *rest), "nothing is owed"),
    (fast.catch_up, lambda *a: 7.0, "not "),
    (fast.attainable, lambda f, x, p, b: max(p, b * f / x), "not the higher"),
    (fast.attainable, lambda f, x, p, b: p, "cannot bring"),
    (fast.attainable, lambda f, x, p, b: b * f / x, "through the roof"),
    (fast.attainable, lambda f, x, p, b: min(p, b * x / f), "not bytes per FLOP"),
    (fast.attainable, lambda f, x, p, b: max(f / p, x / b), "these are seconds"),
    (fast.attainable, lambda f, x, p, b: f / (f / p + x / b), "do not add"),
    (fast.attainable, lambda f, x, p, b: 1.0, "not "),
]


@pytest.mark.parametrize(("check", "answer", "hint"), MISTAKES)
def test_a_mistake_gets_its_hint(check, answer, hint):
    assert_hint(check(answer), hint)
