"""The checkers of chapter 2 accept right answers and name the slip in wrong ones."""

from __future__ import annotations

import itertools

import pytest
import torch

from atrank_book.check import grouping as check
from tests.book.check.hints import assert_hint


def test_offsets_accepts_the_right_answer():
    assert check.offsets(lambda counts: [0, *itertools.accumulate(counts.tolist())])


WRONG_OFFSETS = {
    "nothing yet": lambda counts: None,
    "leading 0 is missing": lambda counts: counts.cumsum(0),
    "last offset is missing": lambda counts: counts.cumsum(0) - counts,
    "the counts themselves": lambda counts: counts,
    "sum them up": lambda counts: [0, *counts.tolist()],
    "one too early": lambda counts: [0, *(counts.cumsum(0) - 1).tolist()],
    "got [1]": lambda counts: [1],
}


@pytest.mark.parametrize("hint", WRONG_OFFSETS)
def test_offsets_names_the_slip(hint):
    assert_hint(check.offsets(WRONG_OFFSETS[hint]), hint)


def collect(users, ends, borders):
    """Positions from the first to behind the last, as `borders(user, end)` gives them, sample by sample."""
    return [p for u, e in zip(users.tolist(), ends.tolist(), strict=True) for p in range(*borders(u, e))]


def test_latest_accepts_the_right_answer():
    assert check.latest(lambda o, u, e, n: collect(u, e, lambda a, end: (max(int(o[a]), end - n), end)))


WRONG_LATEST = {
    "nothing yet": lambda o, u, e, n: None,
    "the oldest behaviors": lambda o, u, e, n: collect(u, e, lambda a, end: (int(o[a]), min(int(o[a]) + n, end))),
    "limit is ignored": lambda o, u, e, n: collect(u, e, lambda a, end: (int(o[a]), end)),
    "cut itself is included: `ends`": lambda o, u, e, n: collect(
        u, e, lambda a, end: (max(int(o[a]), end - n), end + 1)
    ),
    "off by one": lambda o, u, e, n: collect(u, e, lambda a, end: (max(int(o[a]), end - n + 1), end + 1)),
    "one behavior short": lambda o, u, e, n: collect(u, e, lambda a, end: (max(int(o[a]), end - n), end - 1)),
    "the user before": lambda o, u, e, n: collect(u, e, lambda a, end: (end - n, end)),
    "whole list of the user": lambda o, u, e, n: collect(
        u, e, lambda a, end: (max(int(o[a]), int(o[a + 1]) - n), int(o[a + 1]))
    ),
    "wrong order": lambda o, u, e, n: collect(u, e, lambda a, end: (max(int(o[a]), end - n), end))[::-1],
    "not these positions": lambda o, u, e, n: [0],
}


@pytest.mark.parametrize("hint", WRONG_LATEST)
def test_latest_names_the_slip(hint):
    assert_hint(check.latest(WRONG_LATEST[hint]), hint)


def parts_of(lengths, size):
    values = lengths.tolist()
    return [values[i : i + size] for i in range(0, len(values), size)]


def padded_cells(lengths, size):
    return sum(max(part) - n for part in parts_of(lengths, size) for n in part)


def all_cells(lengths, size):
    return sum(len(part) * max(part) for part in parts_of(lengths, size))


def test_padding_share_accepts_the_right_answer():
    assert check.padding_share(lambda n, b: padded_cells(n, b) / all_cells(n, b))


WRONG_PADDING = {
    "nothing yet": lambda n, b: None,
    "share of real behaviors": lambda n, b: int(n.sum()) / all_cells(n, b),
    "its own longest history": lambda n, b: 1 - float(n.double().mean()) / int(n.max()),
    "not batch_size": lambda n, b: 1 - int(n.sum()) / sum(b * max(part) for part in parts_of(n, b)),
    "leaves the last": lambda n, b: padded_cells(n[: len(n) // b * b], b) / all_cells(n[: len(n) // b * b], b),
    "mean over batches": lambda n, b: (
        sum(padded_cells(torch.tensor(part), b) / all_cells(torch.tensor(part), b) for part in parts_of(n, b))
        / len(parts_of(n, b))
    ),
    "per real behavior": lambda n, b: padded_cells(n, b) / int(n.sum()),
    "number of padded cells": lambda n, b: padded_cells(n, b),
    "got 0.0000": lambda n, b: 0.0,
}


@pytest.mark.parametrize("hint", WRONG_PADDING)
def test_padding_share_names_the_slip(hint):
    assert_hint(check.padding_share(WRONG_PADDING[hint]), hint)


def means(table, ids, keep, divide=lambda kept, row: max(len(kept), 1)):
    """Mean of the kept rows of every sample, by loops; `keep` is a table of truth values."""
    result = []
    for row, flags in zip(ids.tolist(), keep.tolist(), strict=True):
        kept = [table[i] for i, flag in zip(row, flags, strict=True) if flag]
        total = sum(kept, torch.zeros(table.shape[1]))
        result.append(total / divide(kept, row))
    return torch.stack(result)


def test_mean_embedding_accepts_the_right_answer():
    assert check.mean_embedding(means)


WRONG_MEANS = {
    "nothing yet": lambda t, i, m: None,
    "mask is not used": lambda t, i, m: t[i].mean(1),
    "not of the number": lambda t, i, m: means(t, i, m, lambda kept, row: len(row)),
    "this is the sum": lambda t, i, m: means(t, i, m, lambda kept, row: 1),
    "trust the mask alone": lambda t, i, m: means(t, i, i != 0),
    "upside down": lambda t, i, m: means(t, i, ~m),
    "NaN": lambda t, i, m: (t[i] * m[..., None]).sum(1) / m.sum(1, keepdim=True),
    "shape": lambda t, i, m: means(t, i, m)[:, :1],
    "expected [[": lambda t, i, m: torch.full((3, 2), 7.0),
}


@pytest.mark.parametrize("hint", WRONG_MEANS)
def test_mean_embedding_names_the_slip(hint):
    assert_hint(check.mean_embedding(WRONG_MEANS[hint]), hint)
