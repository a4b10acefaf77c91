"""Behavior Sequence Transformer against loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from atrank_lib.competitors.bst import HEADS
from tests import reference
from tests.cases import Case, even_log, linear, make
from tests.reference import Array


def leaky(x: Array) -> Array:
    return np.where(x > 0, x, 0.01 * x)


def layer(p: reference.Parameters, xs: list[Array]) -> list[Array]:
    """A transformer layer (Vaswani et al., 2017): attention, then a network, each with a residual and a norm."""
    d = len(xs[0])
    width = d // HEADS
    projected = [p["layer.self_attn.in_proj_weight"] @ x + p["layer.self_attn.in_proj_bias"] for x in xs]
    q, k, v = ([x[i * d : (i + 1) * d] for x in projected] for i in range(3))
    result = []
    for i, x in enumerate(xs):
        heads = []
        for head in range(HEADS):
            part = slice(head * width, (head + 1) * width)
            weights = reference.softmax([float(q[i][part] @ other[part]) / width**0.5 for other in k])
            heads.append(sum((w * other[part] for w, other in zip(weights, v, strict=True)), np.zeros(width)))
        y = reference.layer_norm(x + linear(p, "layer.self_attn.out_proj", np.concatenate(heads)), p, "layer.norm1")
        inner = leaky(linear(p, "layer.linear1", y))
        result.append(reference.layer_norm(y + linear(p, "layer.linear2", inner), p, "layer.norm2"))
    return result


def expected(case: Case) -> list[list[float]]:
    model, scores = case.reference(), []
    for b, behaviors in enumerate(case.behaviors):
        s = [model.project(x.group, model.behavior(x)) for x in behaviors]
        row = []
        for i in range(case.rows.shape[1]):
            q = model.object(case.group, case.object_id(b, i))
            now = model.p.get(f"embeddings.[{case.group}].time.table.weight")
            h = model.project(case.group, q)
            out = layer(dict(model.p), [model.project(case.group, q if now is None else q + now[0]), *s])
            others = sum(out[1:], np.zeros_like(h)) / max(len(s), 1)
            inner = leaky(linear(model.p, "top.0", np.concatenate([out[0], others, h])))
            row.append(float(linear(model.p, "top.3", inner)[0]))
        scores.append(row)
    return scores


@pytest.mark.parametrize("time", ["lookup", "none"])
@pytest.mark.parametrize(("seed", "group"), [(0, "items"), (1, "query"), (2, "coupon")])
def test_scores_agree_with_loops(seed, group, speed, time):
    case = make("bst", even_log(seed), group, {"time": time}, seed, speed=speed)
    case.close(case.model(case.batch).scores, expected(case))


def test_attention_cannot_be_split_into_other_heads():
    with pytest.raises(ValueError, match="hidden=12 cannot be divided among 8 heads"):
        make("bst", even_log(0), "items", {"hidden": 12})


def test_candidates_do_not_see_each_other():
    case = make("bst", even_log(0), "items", candidates=4)
    alone = [case.model(replace(case.batch, candidates=one)).scores for one in columns(case)]
    whole = case.model(case.batch).scores
    for column, scores in enumerate(alone):
        case.close(scores[:, 0], whole[:, column])


def columns(case: Case):
    catalog = case.histories.catalogs[case.group]
    for column in range(case.rows.shape[1]):
        part = case.rows[:, column]
        yield replace(case.batch.candidates, features=catalog.take(part), shape=(len(part), 1))
