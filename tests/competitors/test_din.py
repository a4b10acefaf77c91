"""Deep Interest Network against loops."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from scipy.special import softmax

from atrank_lib.competitors.din import softmax_of_samples
from tests import reference
from tests.cases import even_log, linear, make
from tests.reference import Array


def prelu(p: reference.Parameters, name: str, x: Array) -> Array:
    return np.where(x > 0, x, p[f"{name}.weight"][0] * x)


def activated(p: reference.Parameters, s: list[Array], h: Array, normalized: bool = False) -> float:
    weights = []
    for x in s:
        inner = prelu(p, "activation.1", linear(p, "activation.0", np.concatenate([x, h, x - h, x * h])))
        weights.append(linear(p, "activation.2", inner)[0])
    if normalized and s:
        weights = list(softmax(weights))
    e = sum((w * x for w, x in zip(weights, s, strict=True)), np.zeros_like(h))
    inner = prelu(p, "top.1", linear(p, "top.0", np.concatenate([h, e, h * e])))
    inner = prelu(p, "top.4", linear(p, "top.3", inner))
    return float(linear(p, "top.5", inner)[0])


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize(("seed", "group"), [(0, "items"), (1, "query"), (2, "coupon")])
def test_scores_agree_with_loops(seed, group, speed, normalized):
    case = make("din", even_log(seed), group, {"normalized": normalized}, seed, speed=speed)
    case.close(case.model(case.batch).scores, case.expected(partial(activated, normalized=normalized)))


def test_softmax_of_samples():
    x, owner = torch.tensor([[1.0], [3.0], [5.0]]), torch.tensor([0, 0, 2])
    found = softmax_of_samples(x, owner, 4)
    torch.testing.assert_close(found[:2], x[:2].softmax(dim=0))
    assert found[2].tolist() == [1.0]
    assert softmax_of_samples(x * 1_000, owner, 4).isfinite().all()
