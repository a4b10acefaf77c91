"""Chapter 12's checkers: the solutions pass, and each plausible mistake gets the hint that it deserves."""

from __future__ import annotations

import hashlib

import pytest
import torch

from atrank_book.check import scaling
from tests.book.check.hints import assert_hint


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
    assert_hint(check(answer), hint)


def md5(user: str) -> str:
    return hashlib.md5(user.encode()).hexdigest()


def right_shard(user: str, shards: int) -> int:
    return int(md5(user)[:4], 16) % shards


def test_shard() -> None:
    verdict = scaling.shard(right_shard)
    assert verdict
    assert "agree" in verdict.message


WRONG_SHARDS: dict[str, tuple[Callable[[str, int], object], str]] = {
    "stub": (lambda user, shards: ..., "nothing yet"),
    "text": (lambda user, shards: md5(user)[:4], "a shard is a whole number"),
    "salted": (lambda user, shards: hash(user) % shards, "Python salts hash"),
    "from one": (lambda user, shards: right_shard(user, shards) + 1, "one too high"),
    "whole digest": (lambda user, shards: int(md5(user), 16) % shards, "takes all 32 digits"),
    "no modulo": (lambda user, shards: int(md5(user)[:4], 16), "modulo the number of shards"),
    "too large": (lambda user, shards: right_shard(user, 32), "of 12: they go from 0 to 11"),
    "length": (lambda user, shards: len(user) % shards, "like ids must not share a shard"),
    "last digits": (lambda user, shards: int(md5(user)[-4:], 16) % shards, "the engines say"),
    "always 12": (lambda user, shards: right_shard(user, 12), "wrong for 7"),
}


@pytest.mark.parametrize("case", WRONG_SHARDS)
def test_wrong_shards_get_their_hint(case: str) -> None:
    answer, hint = WRONG_SHARDS[case]
    assert_hint(scaling.shard(answer), hint)
