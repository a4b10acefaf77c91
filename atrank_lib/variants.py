"""Variants: what the paper leaves open, and what its authors' code does otherwise, as parts that are put in.

The classes of the core are the paper in our reading: the target has an attention of its own, as in the original code,
though eq. 7 writes the symbols of eq. 2 to 5; "residual connections" add the behaviors ``S``; ``f`` reads ``h_t``
(eq. 8) and not ``q_t`` (the text after it). Every other choice is a small class here, and ``PARTS`` says which setting
of ``ATRankOptions`` puts in which; networks that rank are in ``heads``. Five go beyond the paper: ``task_heads``,
``told="raw"``, ``weighting="sum"``, ``ranking="mlp"`` and ``"mmoe"``. With the settings ``ORIGINAL`` or
``ORIGINAL_MULTI`` it is the authors' code, number by number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache, partial
from typing import Any, Literal, cast

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from atrank_lib.attention import FeedForward, SelfAttention, SpaceAttention, TargetAttention, join_spaces, split_spaces
from atrank_lib.batches import Features, Packing
from atrank_lib.embedding import BehaviorEmbedding
from atrank_lib.heads import MLP, Context, MMoE, RankRaw, WithBias, WithHeads
from atrank_lib.log.schema import SECONDS, TICKS, Schema, TimeScale
from atrank_lib.log.vocabularies import Vocabularies
from atrank_lib.model import ATRank, ATRankConfig, BehaviorConfig, Parts
from atrank_lib.original import (
    ActionBeside,
    DotAttention,
    LinearProjection,
    NormedTwice,
    NormedTwiceTarget,
    RawProjection,
    glorot,
)
from atrank_lib.time_encoding import TimeEncoding

TimeForm = Literal["lookup", "one_hot", "one_hot_12", "continuous", "none"]


class BehaviorOptions(BehaviorConfig):
    """Sizes, and the choices that every model of behaviors has."""

    time: TimeForm = "lookup"
    linear_projection: bool = Field(False, description="leave the relu of eq. 1 out")
    ranking: Literal["dot", "mlp", "mmoe"] = "dot"


class ATRankOptions(BehaviorOptions, ATRankConfig):
    """ATRank's sizes and choices, as ``config.json`` of a run holds them; the defaults are ``ATRank`` as it is.

    >>> ATRankOptions(attention="dot").model_dump(include={"attention", "time", "blocks"})
    {'blocks': 1, 'time': 'lookup', 'attention': 'dot'}
    """

    attention: Literal["bilinear", "dot"] = "bilinear"
    residual: Literal["input", "attended", "twice"] = "input"
    target_attention: Literal["shared", "separate"] = "separate"
    target_residual: bool | Literal["twice"] = False
    bottleneck: bool = Field(False, description="networks of eq. 6 and 7 are a quarter as wide inside")
    target: Literal["projected", "raw"] = Field("projected", description="h_t is relu(M_g q_t), or q_t itself")
    action: Literal["added", "beside"] = "added"
    dropout_on: Literal["outputs", "weights"] = Field("outputs", description="of networks, or the weights A_k")
    start: Literal["torch", "glorot"] = Field("torch", description="how weights are drawn")
    told: Literal["projected", "raw"] = Field("projected", description="values of eq. 7: relu(Q_k C), or C itself")
    weighting: Literal["softmax", "sum"] = Field("softmax", description="of eq. 7's values: or scores as they are")
    ranked: Literal["projected", "raw"] = Field("projected", description="f reads h_t (eq. 8), or q_t")
    object_bias: bool = Field(False, description="add a learned bias for each object_id to its score")
    task_heads: bool = Field(False, description="e_u <- e_u + a network of each target group's own")


class NoTime(BehaviorEmbedding):
    """A behavior that knows no time."""

    def __init__(self, schema: Schema, group: str, *rest: Any) -> None:
        super().__init__(schema, group, *rest)
        del self.time.table

    def timed(self, u: Float[Tensor, "n b_i"], elapsed: Int[Tensor, " n"]) -> Float[Tensor, "n b_i"]:
        return u


class OneHotTime(NoTime):
    """The original code's time: the bucket as a one-hot vector, beside the embedding."""

    def __init__(self, schema: Schema, group: str, *rest: Any) -> None:
        super().__init__(schema, group, *rest)
        self.columns = self.make_columns(schema)
        self.size += self.columns

    def make_columns(self, schema: Schema) -> int:
        return self.time.buckets

    def timed(self, u: Float[Tensor, "n _"], elapsed: Int[Tensor, " n"]) -> Float[Tensor, "n b_i"]:
        one_hot = nn.functional.one_hot(self.time.bucketize(elapsed), self.time.buckets)[:, : self.columns]
        return torch.cat([u, one_hot.to(u.dtype)], dim=1)

    def target(self, features: Features) -> Float[Tensor, "n b_i"]:
        return nn.functional.pad(super().target(features), (0, self.columns))


class OneHot12Time(OneHotTime):
    """With the original code's buckets, whatever the group's: days + 1 against 2, 4, 8 ... 4096, and 12 columns for
    these 13, so that what is 4,095 days old or older is all zeros."""

    def make_columns(self, schema: Schema) -> int:
        days = TimeScale(unit="day", edges=tuple(2.0**k - 1 for k in range(1, 13)))
        self.time = TimeEncoding(days, 1, schema.timestamp_unit)
        del self.time.table
        return 12


class ContinuousTime(NoTime):
    """A linear map of the number of units that have passed, which the paper found hard to learn from."""

    def __init__(self, schema: Schema, group: str, *rest: Any) -> None:
        super().__init__(schema, group, *rest)
        self.time.line = nn.Linear(1, self.objects.size)
        self.unit = float(SECONDS[schema.groups[group].time.unit]) * TICKS[schema.timestamp_unit]

    def timed(self, u: Float[Tensor, "n b_i"], elapsed: Int[Tensor, " n"]) -> Float[Tensor, "n b_i"]:
        return u + cast(nn.Linear, self.time.line)(elapsed[:, None].to(u.dtype) / self.unit)


class AttendedResidual(SelfAttention):
    """Eq. 6 with the other reading of its residual: what is added is the concatenated ``C_k``."""

    def add(self, s: Float[Tensor, "n d"], c: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        return super().add(c, c)


class ResidualTarget(TargetAttention):
    """The target is added to the user vector, and the sum normalized."""

    def __init__(self, hidden: int, attention: SpaceAttention, dropout: float = 0.0) -> None:
        super().__init__(hidden, attention)
        self.dropout, self.norm = nn.Dropout(dropout), nn.LayerNorm(hidden)

    def forward(self, h: Tensor, *rest: Any) -> Float[Tensor, "b c d"]:
        return self.norm(h + self.dropout(super().forward(h, *rest)))


class RawTarget(TargetAttention):
    """Each space adds up its own columns of ``C``, no ``Q_k`` before and no network after: behaviors as they are."""

    def __init__(self, hidden: int, attention: SpaceAttention) -> None:
        super().__init__(hidden, attention)
        del self.attention.values
        self.feed_forward = nn.Identity()

    def read(self, c: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n d"], ...]:
        return self.attention.keys(c), c


class SummedAttention(SpaceAttention):
    """Scores weigh the values as they are, as in DIN: no softmax, so that the strength of an interest is kept."""

    def shares(self, scores: Float[Tensor, "*q t"]) -> Float[Tensor, "*q t"]:
        return scores.masked_fill(scores == float("-inf"), 0.0)

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, packing: Packing) -> Float[Tensor, "b c d"]:
        weights = nn.functional.dropout(self.weights(queries, keys, packing), self.dropout, self.training)
        return join_spaces(weights @ split_spaces(packing.pad(values), self.sizes), self.sizes)


# which setting puts in which part; the paper's settings put in nothing
PARTS: dict[tuple[str, object], dict[str, Any]] = {
    ("time", "one_hot"): {"embedding": OneHotTime},
    ("time", "one_hot_12"): {"embedding": OneHot12Time},
    ("time", "continuous"): {"embedding": ContinuousTime},
    ("time", "none"): {"embedding": NoTime},
    ("linear_projection", True): {"projection": LinearProjection},
    ("attention", "dot"): {"attention": DotAttention},
    ("residual", "attended"): {"self_attention": AttendedResidual},
    ("residual", "twice"): {"self_attention": NormedTwice},
    ("target_residual", True): {"target_attention": ResidualTarget},
    ("target_residual", "twice"): {"target_attention": NormedTwiceTarget},
    ("target", "raw"): {"projection": RawProjection},
    ("action", "beside"): {"embedding": ActionBeside},
    ("told", "raw"): {"target_attention": RawTarget},
}

# the authors' model of one group, and the one of all groups and targets
ORIGINAL: dict[str, Any] = {
    "attention": "dot",
    "residual": "twice",
    "target_residual": "twice",
    "bottleneck": True,
    "target": "raw",
    "linear_projection": True,
    "time": "one_hot_12",
    "action": "beside",
    "object_bias": True,
    "dropout_on": "weights",
    "start": "glorot",
}
ORIGINAL_MULTI = ORIGINAL | {"target": "projected", "hidden": 256, "spaces": 4, "dropout": 0.1}


@cache
def _all_of(*kinds: type) -> type:
    """The class that is all of these; where they differ, the first one's way goes."""
    return kinds[0] if len(kinds) == 1 else type("".join(kind.__name__ for kind in kinds), kinds, {})


def parts_of(options: BehaviorOptions) -> Parts:
    """The parts that these options put in.

    >>> parts_of(ATRankOptions(attention="dot")).attention.__name__
    'DotAttention'
    """
    kinds: dict[str, list[type]] = {}
    for setting in options:
        for name, kind in PARTS.get(setting, {}).items():
            kinds.setdefault(name, []).append(kind)
    chosen: dict[str, Any] = {name: _all_of(*some) for name, some in kinds.items()}
    d, dropout = options.hidden, options.dropout
    if options.ranking == "mlp":
        chosen["rank"] = lambda schema, known: MLP(d, dropout, Context(d, schema, known))
    if options.ranking == "mmoe":
        chosen["rank"] = lambda schema, known: MMoE(schema, d, dropout, Context(d, schema, known))
    if isinstance(options, ATRankOptions) and options.target_residual:
        chosen["target_attention"] = partial(chosen["target_attention"], dropout=options.dropout)
    return Parts(**chosen)


def build(
    schema: Schema,
    vocabularies: Vocabularies,
    options: ATRankOptions | None = None,
    histories: Sequence[str] | None = None,
) -> ATRank:
    """ATRank with these options; see ``ATRank`` for the other arguments.

    Raises:
        ValueError: options that contradict each other, or the schema.

    >>> model = build(histories.schema, histories.vocabularies, ATRankOptions(told="raw", hidden=32))
    >>> type(model).__name__, type(model.target).__name__
    ('ATRank', 'RawTarget')
    """
    options = options or ATRankOptions()
    model = ATRank(schema, vocabularies, options, histories, parts_of(options))
    shared = options.target_attention == "shared" and options.blocks > 0
    if shared:
        model.target.attention = model.block(-1).attention
    if options.weighting == "sum":
        if shared:
            raise ValueError("weighting='sum' needs an attention of the target's own: target_attention='separate'")
        own: type = model.target.attention.__class__
        model.target.attention.__class__ = _all_of(SummedAttention, own)
    for g in schema.groups:
        embedding, hidden = model.embedding(g), options.hidden
        for name, width in {"ranked": embedding.size, "target": embedding.objects.size}.items():
            if getattr(options, name) == "raw" and width != hidden:
                raise ValueError(f"{name}='raw' compares q_t of group {g!r} ({width} wide) with hidden={hidden}")
    for layer in cast(Iterable[Any], (*model.blocks, model.target)):
        if options.bottleneck and isinstance(layer.feed_forward, FeedForward):
            layer.feed_forward = FeedForward(options.hidden, options.hidden // 4)
        if options.dropout_on == "weights":
            layer.attention.dropout, layer.dropout = options.dropout, nn.Identity()
    if options.ranked == "raw":
        model.rank = RankRaw(model.rank)
    if options.task_heads:
        model.rank = WithHeads(model.rank, schema, options.hidden)
    if options.object_bias:
        model.rank = WithBias(model.rank, schema, model.tables)
    if options.start == "glorot":
        glorot(model)
    return model


def options_of(model: ATRank) -> ATRankOptions:
    """All options of a model, the paper's where it was built without.

    >>> options_of(ATRank(histories.schema, histories.vocabularies)).told
    'projected'
    """
    return ATRankOptions.model_validate(model.config.model_dump())
