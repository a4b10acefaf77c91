"""Chapter 7's checkers: the solutions pass, and each plausible mistake gets the hint that it deserves."""

from __future__ import annotations

import pytest
import torch

from atrank_book.check import competitors
from tests.book.check.hints import assert_hint


def right_scores(users, objects, biases):
    return (objects @ users[..., None])[..., 0] + biases


def right_backward(x, lengths):
    place = torch.arange(x.shape[1])
    index = torch.where(place < lengths[:, None], lengths[:, None] - 1 - place, place)
    return x.gather(1, index[..., None].expand_as(x))


def in_place(x, lengths):
    x.copy_(right_backward(x, lengths))
    return x


def right_max(x, mask):
    best = x.masked_fill(~mask[..., None], float("-inf")).amax(1)
    return best.masked_fill(~mask.any(1, keepdim=True), 0.0)


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (competitors.mf_scores, right_scores),
        (competitors.backward, right_backward),
        (competitors.max_over, right_max),
    ],
)
def test_a_right_answer_passes(check, answer):
    verdict = check(answer)
    assert verdict, verdict


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda x, n: x.flip(1), "padding first"),
        (lambda x, n: x.clone(), "nothing is reversed"),
        (lambda x, n: x.flip(2), "dimensions of each behavior"),
        (in_place, "changed in place"),
        (lambda x, n: right_backward(x, n) + (torch.arange(4) >= n[:, None])[..., None], "should stay zero"),
        (lambda x, n: x * 2, "of length 2, became"),
        (lambda x, n: x[0], "shape [3, 4, 2]"),
        (lambda x, n: x.nothing, "your code raised AttributeError"),
    ],
)
def test_wrong_reversals_get_their_hint(answer, hint):
    assert_hint(competitors.backward(answer), hint)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda x, m: x.amax(1), "padding takes part"),
        (lambda x, m: x.masked_fill(~m[..., None], float("-inf")).amax(1), "minus infinity"),
        (lambda x, m: x.masked_fill(~m[..., None], float("-inf")).amax(1) * m.any(1, keepdim=True), "NaN"),
        (lambda x, m: x.sum(1) / m.sum(1, keepdim=True).clamp(min=1), "the mean over real places"),
        (lambda x, m: x.amin(1), "the minimum"),
        (lambda x, m: right_max(x, m) + 1, "expected"),
        (lambda x, m: 3.0, "shape [3, 2]"),
    ],
)
def test_wrong_maxima_get_their_hint(answer, hint):
    assert_hint(competitors.max_over(answer), hint)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda u, o, b: right_scores(u, o, 0 * b), "the bias is missing"),
        (lambda u, o, b: (o * u[:, None]).mean(-1) + b, "mean over dimensions"),
        (lambda u, o, b: (o * u).sum(-1) + b, "the vector of user c"),
        (lambda u, o, b: right_scores(u, o, b).T, "transposed"),
        (lambda u, o, b: right_scores(u, o, b).sigmoid(), "a sigmoid"),
        (lambda u, o, b: right_scores(u, o, -b), "subtracted"),
        (lambda u, o, b: b, "the biases alone"),
        (lambda u, o, b: o * u[:, None] + b[..., None], "shape [3, 3]"),
        (lambda u, o, b: 2 * right_scores(u, o, b), "the first user's scores"),
    ],
)
def test_wrong_scores_get_their_hint(answer, hint):
    assert_hint(competitors.mf_scores(answer), hint)
