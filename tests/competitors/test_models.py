"""Competitors against loops over behaviors, windows and values."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from scipy.special import softmax

from atrank_lib.competitors.models import HEADS, MAPS, WIDTHS
from tests import reference
from tests.cases import Case, even_log, linear, make
from tests.reference import Array, sigmoid


@pytest.mark.parametrize(("seed", "group"), [(0, "items"), (1, "query"), (2, "coupon")])
def test_bpr_mf_agrees_with_loops(seed, group, speed):
    case = make("bpr-mf", even_log(seed), group, seed=seed, speed=speed)
    parameters = case.parameters
    renamed = {
        f"embeddings.{name.split('.', 1)[1].replace('].', '].objects.', 1)}": value
        for name, value in parameters.items()
        if name.startswith("objects.")
    }
    model = case.reference()
    model.p = parameters | renamed
    expected = []
    for user, b in zip(case.samples.users.tolist(), range(len(case.samples)), strict=True):
        known = list(case.histories.vocabularies.users)
        name = case.histories.user_ids[user]
        p = parameters[f"users.[{group}].weight"][known.index(name) + 1 if name in known else 0]
        row = []
        for i in range(case.rows.shape[1]):
            object_id = case.object_id(b, i)
            words = case.histories.vocabularies.words[f"{group}.object_id"]
            bias = parameters[f"biases.[{group}].weight"][words.index(object_id) + 1 if object_id in words else 0, 0]
            row.append(float(p @ model.object(group, object_id) + bias))
        expected.append(row)
    assert case.histories.user_ids[-1] not in case.histories.vocabularies.users  # one has the vector of unknown
    case.close(case.model(case.batch).scores, expected)


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
def test_lstm_agrees_with_loops(kind, score, seed, group, speed):
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
def test_cnn_agrees_with_loops(seed, group, speed):
    case = make("cnn", even_log(seed), group, seed=seed, speed=speed)
    case.close(case.model(case.batch).scores, case.expected(windows))


def test_the_paper_s_ten_widths_of_32_maps():
    case = make("cnn", even_log(0), "items")
    assert [c.weight.shape[2] for c in case.model.convolutions] == list(range(1, 11))
    assert {c.weight.shape[0] for c in case.model.convolutions} == {32}


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
def test_din_agrees_with_loops(seed, group, speed, normalized):
    case = make("din", even_log(seed), group, {"normalized": normalized}, seed, speed=speed)
    case.close(case.model(case.batch).scores, case.expected(partial(activated, normalized=normalized)))


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


def by_sequence(case: Case) -> list[list[float]]:
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
def test_bst_agrees_with_loops(seed, group, speed, time):
    case = make("bst", even_log(seed), group, {"time": time}, seed, speed=speed)
    case.close(case.model(case.batch).scores, by_sequence(case))


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


def values(case: Case, group: str, object_id: str) -> dict[str, int]:
    """The categorical values of an object: vocabulary to row, 0 for what the model does not know."""
    record = case.reference().records[group][object_id]
    found = {}
    for name, feature in case.log.schema.groups[group].features.items():
        if feature.kind == "categorical":
            vocabulary = feature.vocabulary or f"{group}.{name}"
            words = case.histories.vocabularies.words[vocabulary]
            found[vocabulary] = words.index(record[name]) + 1 if record[name] in words else 0
    return found


def by_counting(case: Case) -> list[list[float]]:
    model, scores = case.reference(), []
    p = model.p
    for b, behaviors in enumerate(case.behaviors):
        s = [model.project(x.group, model.behavior(x)) for x in behaviors]
        mean = sum(s, np.zeros(case.model.config.hidden)) / max(len(s), 1)
        row = []
        for i in range(case.rows.shape[1]):
            object_id = case.object_id(b, i)
            h = model.project(case.group, model.object(case.group, object_id))
            wide = 0.0
            for vocabulary, number in values(case, case.group, object_id).items():
                times = sum(values(case, x.group, x.object_id).get(vocabulary) == number for x in behaviors)
                name = vocabulary.replace(".", "/")
                wide += p[f"alone.[{name}].weight"][number, 0]
                wide += p[f"crossed.[{name}].weight"][number, 0] * math.log(1 + times)
            inner = np.maximum(linear(p, "deep.0", np.concatenate([mean, h])), 0)
            inner = np.maximum(linear(p, "deep.3", inner), 0)
            row.append(wide + float(linear(p, "top", inner)[0]))
        scores.append(row)
    return scores


@pytest.mark.parametrize(("seed", "group"), [(0, "items"), (1, "query"), (2, "coupon")])
def test_wide_deep_agrees_with_loops(seed, group, speed):
    case = make("wide-deep", even_log(seed), group, seed=seed, speed=speed)
    case.close(case.model(case.batch).scores, by_counting(case))
