"""What came after, against loops: causal attention, pointwise attention, parameters of each kind of token."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from scipy.special import erf, softmax

from atrank_lib.competitors.later import HEADS, LAYERS, PLACES, TIMES
from tests import reference
from tests.cases import Case, even_log, linear, make
from tests.reference import Array, layer_norm, sigmoid

GROUPS = [(0, "items"), (1, "query"), (2, "coupon")]


def scored(case: Case, one: Callable[[reference.Parameters, list[reference.Behavior], list[Array], Array], float]):
    """Scores of every sample and candidate by a function of behaviors, their projected vectors, and the target."""
    model, rows = case.reference(), []
    for b, behaviors in enumerate(case.behaviors):
        s = [model.project(x.group, model.behavior(x)) for x in behaviors]
        targets = [model.target(case.group, case.object_id(b, i))[1] for i in range(case.rows.shape[1])]
        rows.append([one(model.p, behaviors, s, h) for h in targets])
    return rows


def attended(q: list[Array], k: list[Array], v: list[Array]) -> list[Array]:
    """What each query reads of the keys until its own place, head by head."""
    out, d = [], len(q[0]) // HEADS
    for i in range(len(q)):
        parts = []
        for head in range(HEADS):
            of = slice(head * d, (head + 1) * d)
            weights = softmax([q[i][of] @ k[j][of] / math.sqrt(d) for j in range(i + 1)])
            parts.append(sum(w * v[j][of] for j, w in enumerate(weights)))
        out.append(np.concatenate(parts))
    return out


def sasrec(p: reference.Parameters, _: list[reference.Behavior], s: list[Array], h: Array) -> float:
    if not s:
        return 0.0
    d = len(h)
    xs = [x + p["places.weight"][min(len(s) - 1 - i, PLACES - 1)] for i, x in enumerate(s)]
    for number in range(LAYERS):
        name = f"layers.{number}"
        weight, bias = p[f"{name}.self_attn.in_proj_weight"], p[f"{name}.self_attn.in_proj_bias"]
        normed = [layer_norm(x, p, f"{name}.norm1") for x in xs]
        q, k, v = ([weight[j * d : j * d + d] @ x + bias[j * d : j * d + d] for x in normed] for j in range(3))
        xs = [x + linear(p, f"{name}.self_attn.out_proj", a) for x, a in zip(xs, attended(q, k, v), strict=True)]
        inner = [np.maximum(linear(p, f"{name}.linear1", layer_norm(x, p, f"{name}.norm2")), 0) for x in xs]
        xs = [x + linear(p, f"{name}.linear2", y) for x, y in zip(xs, inner, strict=True)]
    return float(h @ layer_norm(xs[-1], p, "norm"))


@pytest.mark.parametrize(("seed", "group"), GROUPS)
def test_sasrec_agrees_with_loops(seed, group, speed):
    case = make("sasrec", even_log(seed), group, seed=seed, speed=speed)
    case.close(case.model(case.batch).scores, scored(case, sasrec))


def silu(x: Array) -> Array:
    return np.array([y * sigmoid(y) for y in np.atleast_1d(x)])


def weights_of_softmax(scores: list[float]) -> Array:
    return np.asarray(softmax(scores))


def weights_of_silu(scores: list[float]) -> Array:
    return silu(np.asarray(scores)) / PLACES


def hstu(
    weigh: Callable[[list[float]], Array],
    p: reference.Parameters,
    behaviors: list[reference.Behavior],
    s: list[Array],
    h: Array,
) -> float:
    if not s:
        return 0.0
    d, xs = len(h), s
    for number in range(LAYERS):
        name = f"layers.{number}"
        mapped = [silu(linear(p, f"{name}.map", layer_norm(x, p, f"{name}.norm"))) for x in xs]
        u, v, q, k = ([x[j * d : j * d + d] for x in mapped] for j in range(4))
        after = []
        for i in range(len(xs)):
            parts = []
            for head in range(HEADS):
                of, scores = slice(head * d // HEADS, (head + 1) * d // HEADS), []
                for j in range(i + 1):
                    seconds = max(1.0, (behaviors[j].elapsed - behaviors[i].elapsed) / 1_000)
                    bucket = min(math.floor(math.log2(seconds)), TIMES - 1)
                    bias = p[f"{name}.of_places.weight"][min(i - j, PLACES - 1), 0]
                    bias = bias + p[f"{name}.of_times.weight"][bucket, 0]
                    scores.append(float(q[i][of] @ k[j][of] + bias))
                parts.append(sum(w * v[j][of] for j, w in enumerate(weigh(scores))))
            told = layer_norm(np.concatenate(parts), p, f"{name}.attended") * u[i]
            after.append(xs[i] + linear(p, f"{name}.out", told))
        xs = after
    return float(h @ layer_norm(xs[-1], p, "norm"))


@pytest.mark.parametrize(("options", "weigh"), [({}, weights_of_silu), ({"softmax": True}, weights_of_softmax)])
@pytest.mark.parametrize(("seed", "group"), GROUPS)
def test_hstu_agrees_with_loops(seed, group, options, weigh, speed):
    case = make("hstu", even_log(seed), group, options, seed=seed, speed=speed)
    case.close(case.model(case.batch).scores, scored(case, partial(hstu, weigh)))


def rms(x: Array, p: reference.Parameters, name: str) -> Array:
    # PyTorch's epsilon is that of the numbers' type
    return x / np.sqrt((x * x).mean() + np.finfo(x.dtype).eps) * p[f"{name}.weight"]


def onetrans(group: str) -> Callable[..., float]:
    def score(p: reference.Parameters, behaviors: list[reference.Behavior], s: list[Array], h: Array) -> float:
        kinds = [f"behavior [{b.group}]" for b in behaviors] + [f"target [{group}]"]
        xs = [*s, h]
        for number in range(LAYERS):
            names = [f"layers.{number}.{kind}" for kind in kinds]
            asked = [linear(p, f"{n}.qkv", rms(x, p, f"{n}.norm")) for n, x in zip(names, xs, strict=True)]
            q, k, v = ([x[j * len(h) : (j + 1) * len(h)] for x in asked] for j in range(3))
            seen = attended(q, k, v)
            for i, n in enumerate(names):
                if f"{n}.out.weight" in p:  # what the last layer's behaviors become is read by nobody
                    x = xs[i] + linear(p, f"{n}.out", seen[i])
                    y = linear(p, f"{n}.feed_forward.1", rms(x, p, f"{n}.feed_forward.0"))
                    xs[i] = x + linear(p, f"{n}.feed_forward.4", y * (1 + erf(y / math.sqrt(2))) / 2)
        return float(linear(p, "top.3", np.maximum(linear(p, "top.0", xs[-1]), 0))[0])

    return score


@pytest.mark.parametrize(("seed", "group"), GROUPS)
def test_onetrans_agrees_with_loops_over_one_sequence(seed, group, speed):
    """The target as the last token of one sequence, computed anew for each candidate."""
    case = make("onetrans", even_log(seed), group, seed=seed, speed=speed)
    case.close(case.model(case.batch).scores, scored(case, onetrans(group)))
