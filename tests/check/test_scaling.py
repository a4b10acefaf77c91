"""Chapter 12's checkers: the solutions pass, and each plausible mistake gets the hint that it deserves."""

from __future__ import annotations

import pytest
import torch

from atrank_lib.check import scaling


def right_share(samples, rank, world):
    return range(rank, samples, world)


def right_combine(gradients, counts):
    has = counts > 0
    return (counts[has] / counts.sum()) @ gradients[has]


def right_capacity(memory, size, optimizer):
    return memory // (4 * size * (4 if optimizer == "adam" else 2))


CHECKS = [(scaling.share, right_share), (scaling.combine, right_combine), (scaling.capacity, right_capacity)]


@pytest.mark.parametrize(("check", "answer"), CHECKS)
def test_a_right_answer_passes(check, answer):
    verdict = check(answer)
    assert verdict, verdict


@pytest.mark.parametrize("check", [check for check, _ in CHECKS])
def test_the_stub_is_told_that_it_is_empty(check):
    verdict = check(lambda *arguments: None)
    assert not verdict
    assert "nothing yet" in verdict.message


def blocks(samples, rank, world):
    return list(torch.arange(samples).tensor_split(world)[rank].tolist())


MISTAKES = [
    (scaling.share, lambda n, r, w: range(r * (n // w), (r + 1) * (n // w)), "a block"),
    (scaling.share, blocks, "like cards"),
    (scaling.share, lambda n, r, w: range(r, n - n % w, w), "nobody takes"),
    (scaling.share, lambda n, r, w: range(n), "count more than once"),
    (scaling.share, lambda n, r, w: range(r, n + 1, w), "does not exist"),
    (scaling.share, lambda n, r, w: [i for i in range(n) if min(i, w - 1) == r], "let them differ by one"),
    (scaling.combine, lambda g, c: g[c > 0].mean(0), "mean of the means"),
    (scaling.combine, lambda g, c: g[c > 0].sum(0), "plain sum"),
    (scaling.combine, lambda g, c: (c / c.sum()) @ g, "0 times NaN"),
    (scaling.combine, lambda g, c: c[c > 0].float() @ g[c > 0], "divide by the number"),
    (scaling.combine, lambda g, c: right_combine(g, c)[:1], "shape"),
    (scaling.combine, lambda g, c: g[0], "not ["),
    (scaling.capacity, lambda m, s, o: m // (s * (4 if o == "adam" else 2)), "takes 4 bytes"),
    (scaling.capacity, lambda m, s, o: m // (4 * s * 2), "two moments beside"),
    (scaling.capacity, lambda m, s, o: m // (4 * s * (3 if o == "adam" else 1)), "not "),
    (scaling.capacity, lambda m, s, o: m // (4 * s * (4 if o == "adam" else 1)), "as large as the weights"),
    (scaling.capacity, lambda m, s, o: m // (4 * s * 4), "keeps no moments"),
]


@pytest.mark.parametrize(("check", "answer", "hint"), MISTAKES)
def test_a_mistake_gets_its_hint(check, answer, hint):
    verdict = check(answer)
    assert not verdict
    assert hint in verdict.message, verdict
