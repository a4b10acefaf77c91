"""ATRank behavior by behavior in NumPy, written from the paper's text: slow, and only there to be compared with.

Every function handles one vector at a time, in float64, without batches, padding or masks. Equation numbers are the
paper's. Parameters are read by the names that the model gives them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from atrank_lib.log.events import EventLog
from atrank_lib.log.schema import Schema
from atrank_lib.log.vocabularies import Vocabularies
from atrank_lib.variants import ATRankOptions

Array = np.ndarray
Parameters = Mapping[str, Array]

UNIT = {"second": 1, "minute": 60, "hour": 3600, "day": 24 * 3600, "week": 7 * 24 * 3600}
TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def bucket(elapsed: float, edges: Sequence[float]) -> int:
    """How many edges an elapsed time has reached."""
    number = 0
    for edge in edges:
        if elapsed >= edge:
            number += 1
    return number


def doubling(buckets: int) -> list[int]:
    """Lower edges of [1, 2), [2, 4), [4, 8) ..., so that there are ``buckets`` with [0, 1) and the open last one."""
    edges = [1]
    while len(edges) < buckets - 1:
        edges.append(edges[-1] * 2)
    return edges


def perceptron(x: Array, weight: Array, bias: Array) -> Array:
    """``F_theta``: a single layer perceptron with relu."""
    return np.maximum(weight @ x + bias, 0.0)


def softmax(scores: Sequence[float]) -> list[float]:
    top = max(scores, default=0.0)
    powers = [math.exp(score - top) for score in scores]
    total = sum(powers)
    return [power / total for power in powers]


def feed_forward(x: Array, p: Parameters, name: str) -> Array:
    """A feedforward network with one hidden layer."""
    inner = perceptron(x, p[f"{name}.0.weight"], p[f"{name}.0.bias"])
    return p[f"{name}.2.weight"] @ inner + p[f"{name}.2.bias"]


def layer_norm(x: Array, p: Parameters, name: str, epsilon: float = 1e-5) -> Array:
    variance = ((x - x.mean()) ** 2).mean()
    return (x - x.mean()) / math.sqrt(variance + epsilon) * p[f"{name}.weight"] + p[f"{name}.bias"]


def normed_twice(x: Array, context: Array, p: Parameters, name: str) -> Array:
    """The authors' code: ``LN(y + F(y))``, where ``y = LN(x + what attention told)``."""
    y = layer_norm(x + context, p, f"{name}.inner", 1e-8)
    told = feed_forward(y, p, f"{name}.feed_forward")
    return layer_norm(y + told, p, f"{name}.norm", 1e-8)


def attention(
    asking: Sequence[Array],
    behaviors: Sequence[Array],
    p: Parameters,
    name: str,
    sizes: Sequence[int],
    form: str = "bilinear",
    raw: bool = False,
    summed: bool = False,
) -> tuple[list[Array], list[Array]]:
    """Eq. 2-5 (and the first two lines of eq. 7): the matrices ``A_k``, and ``concat_k C_k`` for each that asks.

    ``raw``: the rows of ``C_k`` add up the behaviors' own columns. ``summed``: by the scores themselves.
    """
    matrices, contexts = [], [np.zeros(sum(sizes)) for _ in asking]
    first = 0
    for size in sizes:
        rows = slice(first, first + size)
        first += size
        p_k, p_bias = p[f"{name}.queries.map.0.weight"][rows], p[f"{name}.queries.map.0.bias"][rows]
        if raw:
            told = [y[rows] for y in behaviors]
        else:
            q_k, q_bias = p[f"{name}.values.0.weight"][rows], p[f"{name}.values.0.bias"][rows]
            told = [perceptron(y, q_k, q_bias) for y in behaviors]
        matrix = np.zeros((len(asking), len(behaviors)))
        for i, x in enumerate(asking):
            s_k = perceptron(x, p_k, p_bias)
            if form == "bilinear":
                asks = s_k @ p[f"{name}.keys.weight"][rows]  # S_k W_k: back in all s_all dimensions
                scores = [float(asks @ y) for y in behaviors]
            else:
                w_k, w_bias = p[f"{name}.keys.0.weight"][rows], p[f"{name}.keys.0.bias"][rows]
                scores = [float(s_k @ perceptron(y, w_k, w_bias)) / math.sqrt(size) for y in behaviors]
            matrix[i] = scores if summed else softmax(scores)
            for j, value in enumerate(told):
                contexts[i][rows] += matrix[i, j] * value
        matrices.append(matrix)
    return matrices, contexts


def self_attention(
    behaviors: Sequence[Array],
    p: Parameters,
    name: str,
    sizes: Sequence[int],
    form: str = "bilinear",
    residual: str = "input",
) -> tuple[list[Array], list[Array]]:
    """Eq. 2-6: the matrices ``A_k`` and the new behaviors ``C``."""
    matrices, contexts = attention(behaviors, behaviors, p, f"{name}.attention", sizes, form)
    out = []
    for s, context in zip(behaviors, contexts, strict=True):
        if residual == "twice":
            out.append(normed_twice(s, context, p, name))
            continue
        told = feed_forward(context, p, f"{name}.feed_forward")
        out.append(layer_norm(told + (s if residual == "input" else context), p, f"{name}.norm"))
    return matrices, out


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def pointwise_loss(scores: Sequence[Sequence[float]]) -> float:
    """Eq. 8, divided by the number of candidates; the first of each row is the one that was taken."""
    terms = [
        math.log(sigmoid(score)) if column == 0 else math.log(1 - sigmoid(score))
        for row in scores
        for column, score in enumerate(row)
    ]
    return -sum(terms) / len(terms)


def pairwise_loss(scores: Sequence[Sequence[float]]) -> float:
    """Mean of ``-log sigmoid(taken - not taken)`` over all pairs."""
    terms = [math.log(sigmoid(row[0] - other)) for row in scores for other in row[1:]]
    return -sum(terms) / len(terms)


@dataclass(frozen=True)
class Behavior:
    group: str
    object_id: str
    action: str
    elapsed: int
    row: int  # of the group's events table


def history(log: EventLog, user_id: str, time: int, groups: Sequence[str] | None = None) -> list[Behavior]:
    """All that a user did strictly before ``time``, group by group."""
    found = []
    for group in log.schema.groups:
        table = log.events[group]
        users, times = table["user_id"].tolist(), table["timestamp"].tolist()
        for row, (user, timestamp) in enumerate(zip(users, times, strict=True)):
            if user == user_id and timestamp < time and (groups is None or group in groups):
                action, object_id = table["action"].iloc[row], table["object_id"].iloc[row]
                found.append(Behavior(group, object_id, action, time - timestamp, row))
    return found


@dataclass(frozen=True)
class Scored:
    score: float
    weights: list[Array]  # A_k of the target: one vector per space
    target: Array  # h_t
    user: Array  # e_u^t


class Reference:
    """The whole model for one user at a time."""

    def __init__(
        self,
        schema: Schema,
        vocabularies: Vocabularies,
        objects: Mapping[str, pd.DataFrame],
        config: ATRankOptions,
        parameters: Parameters,
    ) -> None:
        self.schema, self.vocabularies, self.config, self.p = schema, vocabularies, config, parameters
        self.records: dict[str, dict[str, dict[Any, Any]]] = {
            group: {str(record["object_id"]): record for record in table.to_dict("records")}
            for group, table in objects.items()
        }
        spaces = config.spaces
        self.sizes = [config.hidden // spaces] * spaces if isinstance(spaces, int) else list(spaces)

    def row(self, vocabulary: str, value: Any) -> Array:
        """The embedding of a value; row 0 for one that the model does not know."""
        words = self.vocabularies.words[vocabulary]
        number = words.index(value) + 1 if isinstance(value, str) and value in words else 0
        return self.p[f"tables.[{vocabulary.replace('.', '/')}].weight"][number]

    def object(self, group: str, object_id: str) -> Array:
        """``emb_i(o)``: the embeddings of its features, concatenated."""
        parts: list[Array] = []
        for name, feature in self.schema.groups[group].features.items():
            value = self.records[group][object_id][name]
            if feature.kind == "continuous":
                mean, deviation = self.vocabularies.scales[f"{group}.{name}"]
                missing = math.isnan(value)
                x = np.array([0.0 if missing else float(np.float32((value - mean) / deviation)), float(missing)])
                line = f"embeddings.[{group}].objects.lines.[{name}]"
                parts.append(self.p[f"{line}.weight"] @ x + self.p[f"{line}.bias"])
                continue
            vocabulary = feature.vocabulary or f"{group}.{name}"
            if feature.kind == "tokens":
                total = np.zeros(self.config.embedding_size)
                for token in value:
                    total = total + self.row(vocabulary, token) / len(value)
                parts.append(total)
            else:
                parts.append(self.row(vocabulary, value))
        return np.concatenate(parts)

    def edges(self, group: str) -> list[float]:
        """Lower edges of a group's buckets, in timestamp units."""
        scale = self.schema.groups[group].time
        unit = UNIT[scale.unit] * TICKS[self.schema.timestamp_unit]
        return [edge * unit for edge in (scale.edges or doubling(scale.buckets))]

    def behavior(self, behavior: Behavior) -> Array:
        """``u_ij = emb_i(o_j) + lookup_i^t(bucketize_i(t_j)) + lookup_i^a(a_j)``."""
        group = behavior.group
        actions, u = self.schema.groups[group].actions, self.object(group, behavior.object_id)
        if self.config.action == "beside":  # and last, after the time
            u = self.timed(u, behavior)
            if len(actions) == 1:
                return u
        row = self.p[f"embeddings.[{group}].actions.weight"][actions.index(behavior.action)]
        return np.concatenate([u, row]) if self.config.action == "beside" else self.timed(u + row, behavior)

    def timed(self, u: Array, behavior: Behavior) -> Array:
        """With the time that has passed."""
        group, form = behavior.group, self.config.time
        name = f"embeddings.[{group}]"
        if form == "one_hot_12":
            days = behavior.elapsed // (UNIT["day"] * TICKS[self.schema.timestamp_unit])
            reached = sum(days + 1 >= 2**k for k in range(1, 13))  # of 2, 4, ... 4096
            return np.concatenate([u, [float(i == reached) for i in range(12)]])
        edges = self.edges(group)
        number = bucket(behavior.elapsed, edges)
        if form == "lookup":
            return u + self.p[f"{name}.time.table.weight"][number]
        if form == "one_hot":
            return np.concatenate([u, [float(i == number) for i in range(len(edges) + 1)]])
        if form == "continuous":
            units = behavior.elapsed / (UNIT[self.schema.groups[group].time.unit] * TICKS[self.schema.timestamp_unit])
            return u + self.p[f"{name}.time.line.weight"][:, 0] * units + self.p[f"{name}.time.line.bias"]
        return u

    def project(self, group: str, u: Array) -> Array:
        """Eq. 1 for one behavior."""
        name = f"projection.maps.[{group}]"
        if self.config.linear_projection:
            return self.p[f"{name}.weight"] @ u + self.p[f"{name}.bias"]
        return perceptron(u, self.p[f"{name}.0.weight"], self.p[f"{name}.0.bias"])

    def encode(self, behaviors: Sequence[Behavior]) -> tuple[list[Array], list[list[Array]]]:
        """``C``, and the matrices ``A_k`` of every layer."""
        c = [self.project(b.group, self.behavior(b)) for b in behaviors]
        layers = []
        for number in range(self.config.blocks):
            matrices, c = self_attention(
                c, self.p, f"blocks.{number}", self.sizes, self.config.attention, self.config.residual
            )
            layers.append(matrices)
        return c, layers

    def target(self, group: str, object_id: str) -> tuple[Array, Array]:
        """``q_t`` and ``h_t``."""
        q = self.object(group, object_id)
        if self.config.target == "raw":
            return q, q
        columns = {"one_hot": len(self.edges(group)) + 1, "one_hot_12": 12}.get(self.config.time, 0)
        if self.config.action == "beside" and len(self.schema.groups[group].actions) > 1:
            columns += self.config.embedding_size
        q = np.concatenate([q, np.zeros(columns)])
        return q, self.project(group, q)

    def of_f(self, name: str) -> Array:
        """A parameter of ``f``, whatever stands around the part that has it."""
        (found,) = (value for full, value in self.p.items() if full.startswith("rank.") and full.endswith("." + name))
        return found

    def score(self, c: Sequence[Array], group: str, object_id: str) -> Scored:
        """Eq. 7, then ``f``."""
        config = self.config
        q, h = self.target(group, object_id)
        shared = config.target_attention == "shared" and config.blocks > 0
        name = f"blocks.{config.blocks - 1}.attention" if shared else "target.attention"
        raw = config.told == "raw"
        summed = config.weighting == "sum"
        matrices, contexts = attention([h], c, self.p, name, self.sizes, config.attention, raw, summed)
        if config.target_residual == "twice":
            e = normed_twice(h, contexts[0], self.p, "target")
        else:
            e = contexts[0] if raw else feed_forward(contexts[0], self.p, "target.feed_forward")
        if config.target_residual is True:
            e = layer_norm(h + e, self.p, "target.norm")
        x, y = q if config.ranked == "raw" else h, e
        if config.task_heads:
            head = f"heads.[{group}]"
            inner = perceptron(e, self.of_f(f"{head}.0.weight"), self.of_f(f"{head}.0.bias"))
            y = e + self.of_f(f"{head}.2.weight") @ inner + self.of_f(f"{head}.2.bias")
        if config.ranking == "dot":
            score = float(sum(a * b for a, b in zip(x, y, strict=True)))
        elif config.ranking == "mmoe":
            both = np.concatenate([x, y, x * y])
            told = perceptron(both, self.of_f("experts.weight"), self.of_f("experts.bias")).reshape(-1, len(x))
            shares = softmax(self.of_f(f"gates.[{group}].weight") @ both + self.of_f(f"gates.[{group}].bias"))
            mixed = sum((share * some for share, some in zip(shares, told, strict=True)), np.zeros(len(x)))
            tower = f"towers.[{group}]"
            inner = perceptron(mixed, self.of_f(f"{tower}.0.weight"), self.of_f(f"{tower}.0.bias"))
            score = float(self.of_f(f"{tower}.3.weight")[0] @ inner + self.of_f(f"{tower}.3.bias")[0])
        else:
            both = np.concatenate([x, y, x * y])
            inner = perceptron(both, self.of_f("layers.0.weight"), self.of_f("layers.0.bias"))
            score = float(self.of_f("layers.3.weight")[0] @ inner + self.of_f("layers.3.bias")[0])
        if config.object_bias:
            vocabulary = self.schema.groups[group].features["object_id"].vocabulary or f"{group}.object_id"
            words = self.vocabularies.words[vocabulary]
            number = words.index(object_id) + 1 if object_id in words else 0
            score += float(self.of_f(f"biases.[{group}].weight")[number, 0])
        return Scored(score, [matrix[0] for matrix in matrices], h, e)
