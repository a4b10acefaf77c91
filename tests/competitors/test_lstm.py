"""Recurrent competitors against loops over behaviors."""

from __future__ import annotations

import numpy as np
import pytest

from tests import reference
from tests.cases import even_log, linear, make
from tests.reference import Array, sigmoid


def states(p: reference.Parameters, xs: list[Array], direction: str) -> list[Array]:
    """States of an LSTM that reads ``xs`` in the order given (Hochreiter and Schmidhuber, 1997, with forget gates)."""
    width = p["lstm.weight_hh_l0"].shape[1]
    h, c, found = np.zeros(width), np.zeros(width), []
    for x in xs:
        gates = p[f"lstm.weight_ih_l0{direction}"] @ x + p[f"lstm.bias_ih_l0{direction}"]
        gates = gates + p[f"lstm.weight_hh_l0{direction}"] @ h + p[f"lstm.bias_hh_l0{direction}"]
        for j in range(width):
            i, f = sigmoid(gates[j]), sigmoid(gates[width + j])
            c[j] = f * c[j] + i * np.tanh(gates[2 * width + j])
        h = np.array([sigmoid(gates[3 * width + j]) * np.tanh(c[j]) for j in range(width)])
        found.append(h)
    return found


def both(p: reference.Parameters, s: list[Array]) -> tuple[list[Array], list[Array]]:
    return states(p, s, ""), states(p, s[::-1], "_reverse")[::-1]


def final_states(p: reference.Parameters, s: list[Array], h: Array) -> float:
    forward, backward = both(p, s)
    nothing = np.zeros(p["lstm.weight_hh_l0"].shape[1])
    last = np.concatenate([forward[-1], backward[0]]) if s else np.concatenate([nothing, nothing])
    return float(h @ linear(p, "join.1", last))


def attended(p: reference.Parameters, s: list[Array], h: Array) -> float:
    joined = [linear(p, "join.1", np.concatenate(pair)) for pair in zip(*both(p, s), strict=True)]
    _, contexts = reference.attention([h], joined, p, "target.attention", [len(h)], "bilinear")
    return float(h @ reference.feed_forward(contexts[0], p, "target.feed_forward"))


@pytest.mark.parametrize(("seed", "group"), [(0, "items"), (1, "query"), (2, "coupon")])
@pytest.mark.parametrize(("kind", "score"), [("bi-lstm", final_states), ("bi-lstm-attention", attended)])
def test_scores_agree_with_loops(kind, score, seed, group, speed):
    case = make(kind, even_log(seed), group, seed=seed, speed=speed)
    assert case.behaviors[-1] == []
    case.close(case.model(case.batch).scores, case.expected(score))


def test_the_backward_direction_begins_at_the_last_behavior():
    """What an unpacked LSTM gets wrong: with zeros read first, its state differs."""
    case = make("bi-lstm", even_log(3), "items", seed=3)
    p, model = case.parameters, case.reference()
    s = [model.project(b.group, model.behavior(b)) for b in case.behaviors[1]]
    padded = states(p, [np.zeros_like(s[0])] * 4 + s[::-1], "_reverse")[-1]
    assert not np.allclose(padded, states(p, s[::-1], "_reverse")[-1])
