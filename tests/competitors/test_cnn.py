"""The convolutional competitor against loops over windows."""

from __future__ import annotations

import numpy as np
import pytest

from atrank_lib.competitors.cnn import MAPS, WIDTHS
from tests import reference
from tests.cases import even_log, linear, make
from tests.reference import Array


def windows(p: reference.Parameters, s: list[Array], h: Array) -> float:
    pooled = []
    for number, width in enumerate(WIDTHS):
        best = np.zeros(MAPS)
        for start in range(len(s)):
            total = p[f"convolutions.{number}.bias"].copy()
            for offset in range(width):
                if start + offset < len(s):
                    total += p[f"convolutions.{number}.weight"][:, :, offset] @ s[start + offset]
            best = np.maximum(best, total)
        pooled.append(best)
    return float(h @ linear(p, "join", np.concatenate(pooled)))


@pytest.mark.parametrize(("seed", "group"), [(0, "items"), (1, "query"), (2, "coupon")])
def test_scores_agree_with_loops(seed, group, speed):
    case = make("cnn", even_log(seed), group, seed=seed, speed=speed)
    case.close(case.model(case.batch).scores, case.expected(windows))


def test_the_paper_s_ten_widths_of_32_maps():
    case = make("cnn", even_log(0), "items")
    assert [c.weight.shape[2] for c in case.model.convolutions] == list(range(1, 11))
    assert {c.weight.shape[0] for c in case.model.convolutions} == {32}
