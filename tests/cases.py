"""A model of any kind, a batch of ragged histories, and the same histories as lists for loops."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from atrank_lib.batches import Batch, Samples
from atrank_lib.fast import speed_up
from atrank_lib.fast.layers import plain
from atrank_lib.grouping import GroupedHistories
from atrank_lib.log.events import EventLog
from atrank_lib.log.schema import Schema
from atrank_lib.log.vocabularies import Vocabularies
from atrank_lib.model import ATRank, ATRankConfig
from atrank_lib.ranking import LOSSES, Loss
from atrank_lib.runs.config import MODELS, Kind
from atrank_lib.samples import build_batch
from atrank_lib.serve.ranker import moments
from atrank_lib.variants import ATRankOptions
from tests import reference
from tests.reference import Array, Reference

USERS, OBJECTS, DAYS = 6, 7, 100
DAY_MS = 86_400_000

# every group has three features, so that q_t can be as wide as h_t; "items" and "type" are also names of PyTorch; words
# are read one by one and several at a time; a coupon is nothing but rows of tables
EVEN = Schema.model_validate(
    {
        "name": "random marketplace",
        "timestamp_unit": "ms",
        "groups": {
            "items": {
                "actions": ["browse", "buy"],
                "features": {
                    "object_id": {"kind": "categorical"},
                    "shop": {"kind": "categorical", "vocabulary": "shop.id"},
                    "type": {"kind": "continuous"},
                },
            },
            "query": {
                "actions": ["search"],
                "features": {
                    "object_id": {"kind": "categorical"},
                    "words": {"kind": "tokens", "vocabulary": "words"},
                    "length": {"kind": "continuous"},
                },
                "time": {"unit": "hour", "buckets": 8},
            },
            "coupon": {
                "actions": ["receive", "use", "lose"],
                "features": {
                    "object_id": {"kind": "categorical"},
                    "shop": {"kind": "categorical", "vocabulary": "shop.id"},
                    "title": {"kind": "categorical", "vocabulary": "words"},
                },
                "time": {"edges": [0.3, 7, 30]},
            },
        },
    }
)
KINDS = MODELS | {"paper": Kind(ATRankConfig, ATRank)}  # by its class alone, without variants
LARGER = {"torch": 1, "kernels": 8}  # times: kernels take rows of 16 numbers
TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-5}

# p, the projected behaviors oldest first, h_t -> score
Score = Callable[[reference.Parameters, list[Array], Array], float]


@cache
def even_log(seed: int) -> EventLog:
    """Six users; user u0 has many items only, the others what chance gives them; numbers and words may be missing."""
    rng = np.random.default_rng(seed)
    events, objects = {}, {}
    for group, spec in EVEN.groups.items():
        rows = []
        for user in range(USERS):
            n = {0: 12 if group == "items" else 0}.get(user, int(rng.integers(1 if group == "items" else 0, 6)))
            for _ in range(n):
                time, action = int(rng.integers(1, DAYS * DAY_MS)), spec.actions[rng.integers(len(spec.actions))]
                rows.append((f"u{user}", time, action, f"{group}{rng.integers(OBJECTS)}"))
        events[group] = pd.DataFrame(rows, columns=["user_id", "timestamp", "action", "object_id"])
        table: dict[str, list[Any]] = {"object_id": [f"{group}{n}" for n in range(OBJECTS)]}
        for name, feature in spec.features.items():
            if feature.kind == "tokens":
                table[name] = [[f"w{n}" for n in rng.integers(5, size=rng.integers(4))] for _ in range(OBJECTS)]
            elif feature.kind == "continuous":
                table[name] = [float("nan") if n == 2 else float(rng.normal(5, 3)) for n in range(OBJECTS)]
            elif name != "object_id":
                letter = name[0] if feature.vocabulary != "words" else "w"
                table[name] = [None if n == 4 else f"{letter}{rng.integers(3)}" for n in range(OBJECTS)]
        objects[group] = pd.DataFrame(table)
    return EventLog.from_tables(EVEN, events, objects)


@dataclass(frozen=True)
class Case:
    log: EventLog
    histories: GroupedHistories
    model: Any
    samples: Samples
    rows: Tensor  # candidates
    batch: Batch
    behaviors: list[list[reference.Behavior]]  # of each sample, oldest first

    @property
    def group(self) -> str:
        return self.samples.target_group

    @property
    def parameters(self) -> dict[str, Array]:
        return {name: p.detach().double().numpy() for name, p in self.model.named_parameters()}

    @property
    def tolerance(self) -> float:
        """How far from loops in 64 bits the model may be, relative to the largest number."""
        return TOLERANCE[next(self.model.parameters()).dtype]

    def reference(self) -> Reference:
        config = {k: v for k, v in self.model.config.model_dump().items() if k in ATRankOptions.model_fields}
        options = ATRankOptions.model_validate({"spaces": 1} | config)
        return Reference(self.log.schema, self.histories.vocabularies, self.log.objects, options, self.parameters)

    def object_id(self, sample: int, column: int) -> str:
        return self.histories.catalogs[self.group].object_ids[int(self.rows[sample, column])]

    def scored(self, model: Reference) -> list[list[reference.Scored]]:
        """ATRank's scores by loops."""
        rows = []
        for b, behaviors in enumerate(self.behaviors):
            c, _ = model.encode(behaviors)
            rows.append([model.score(c, self.group, self.object_id(b, i)) for i in range(self.rows.shape[1])])
        return rows

    def expected(self, score: Score) -> list[list[float]]:
        """Another model's scores by loops."""
        model, result = self.reference(), []
        for b, behaviors in enumerate(self.behaviors):
            s = [model.project(x.group, model.behavior(x)) for x in behaviors]
            targets = [model.target(self.group, self.object_id(b, i))[1] for i in range(self.rows.shape[1])]
            result.append([score(model.p, s, h) for h in targets])
        return result

    def close(self, found: Tensor, expected: Any) -> None:
        values = np.asarray(expected.detach() if isinstance(expected, Tensor) else expected)
        close(found, values, self.tolerance)

    def some(self, index: Tensor, latest: int | None = None) -> Case:
        """The same model, fewer samples, and of each group their latest behaviors."""
        samples, rows = self.samples[index], self.rows[index]
        batch = build_batch(self.histories, samples, rows, self.model.histories, latest)
        behaviors = [self.behaviors[i] for i in index.tolist()]
        if latest is not None:
            behaviors = [
                [x for i, x in enumerate(of) if [y.group for y in of[i:]].count(x.group) <= latest] for of in behaviors
            ]
        return replace(self, samples=samples, rows=rows, batch=batch, behaviors=behaviors)


@dataclass(frozen=True)
class World:
    """What is asked: every user at a random moment, one of them before anything happened."""

    histories: GroupedHistories  # whose vocabularies do not hold the last object of any group, nor the last user
    samples: Samples
    rows: Tensor
    behaviors: list[list[reference.Behavior]]


@lru_cache(maxsize=40)
def world(log: EventLog, group: str, seed: int, groups: tuple[str, ...] | None, candidates: int) -> World:
    generator = torch.Generator().manual_seed(seed)
    everything = GroupedHistories.from_log(log)
    seen = {g: table.iloc[:-1] for g, table in log.objects.items()}
    histories = everything.encode(Vocabularies.from_objects(log.schema, seen, everything.user_ids[:-1]))
    last = max(int(g.timestamps.max()) for g in histories.groups.values())
    users = torch.arange(len(histories))
    times = torch.randint(last // 2, last + 2, (len(users),), generator=generator)
    times[0], times[-1] = last + 1, 0
    rows = torch.randint(len(histories.catalogs[group]), (len(users), candidates), generator=generator)
    rows[0, 0] = len(histories.catalogs[group]) - 1
    order, behaviors = list(log.schema.groups), []
    for u, t in zip(users.tolist(), times.tolist(), strict=True):
        found = reference.history(log, histories.user_ids[u], t, groups)
        behaviors.append(sorted(found, key=lambda x: (-x.elapsed, order.index(x.group), x.row)))
    return World(histories, moments(histories, group, users, times), rows, behaviors)


def make(
    kind: str,
    log: EventLog,
    group: str,
    options: dict[str, Any] | None = None,
    seed: int = 0,
    *,
    groups: tuple[str, ...] | None = None,
    candidates: int = 3,
    speed: str = "torch",
    dtype: torch.dtype | None = None,
) -> Case:
    """A model of this kind with random parameters, and what it is asked."""
    asked, build = world(log, group, seed, groups, candidates), KINDS[kind]
    config = build.Config(**sizes(build.Config.model_fields, options or {}, LARGER[speed]))
    model = build.build(log.schema, asked.histories.vocabularies, config, groups)
    model.to(dtype or (torch.float64 if speed == "torch" else torch.float32)).eval()
    generator = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        size = 0.01 if ".time.line." in name else 1.0  # times reach 2,400 hours
        nn.init.normal_(p, std=0.5 * size / LARGER[speed] ** 0.5, generator=generator)
        if name.endswith("bias"):
            p.data.abs_()  # few relus without any gradient
    if speed == "kernels":
        speed_up(model)
    batch = build_batch(asked.histories, asked.samples, asked.rows, model.histories)
    return Case(log, asked.histories, model, asked.samples, asked.rows, batch, asked.behaviors)


def sizes(fields: Any, options: dict[str, Any], times: int) -> dict[str, Any]:
    """Small sizes and these options, as far as a model has them; all sizes so many times larger."""
    known = {"embedding_size": 2} | ({"hidden": 6, "spaces": 3} if "spaces" in fields else {"hidden": 8}) | options
    known["embedding_size"] *= times
    known["hidden"] *= times
    if isinstance(spaces := known.get("spaces"), tuple):
        known["spaces"] = tuple(size * times for size in spaces)
    return {name: value for name, value in known.items() if name in fields or name in options}


def close(found: Tensor, expected: Any, tolerance: float) -> None:
    """As close as that, relative to the largest number."""
    expected = np.asarray(expected)
    scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
    np.testing.assert_allclose(found.detach().double().numpy(), expected, rtol=0, atol=tolerance * scale)


def agrees_with_loops(case: Case, seed: int) -> None:
    """ATRank's scores are those of loops; its gradients are slopes of the loops or, in 32 bits, those in 64."""
    found, expected = case.model(case.batch), case.scored(case.reference())
    case.close(found.scores, [[x.score for x in row] for row in expected])
    case.close(found.targets, [[x.target for x in row] for row in expected])
    case.close(found.users, [[x.user for x in row] for row in expected])
    squares = sum(float(x.target @ x.target + x.user @ x.user) for row in expected for x in row)
    assert abs(found.l2().item() / (squares / 2) - 1) < case.tolerance

    # a few short samples are enough for slopes by central differences
    kind: Loss = "pairwise" if seed % 2 else "pointwise"
    case = case.some(torch.tensor([2, 3, len(case.samples) - 1]), latest=3)
    LOSSES[kind](case.model(case.batch).scores).backward()
    if next(case.model.parameters()).dtype is torch.float32:
        exact = plain(copy.deepcopy(case.model)).double()
        exact.zero_grad()
        LOSSES[kind](exact(case.batch).scores).backward()
        for p, q in zip(case.model.parameters(), exact.parameters(), strict=True):
            assert (p.grad is None) == (q.grad is None)
            if p.grad is not None:
                close(p.grad, q.grad, case.tolerance)
        return
    model, touched = case.reference(), 0
    slow_loss = {"pointwise": reference.pointwise_loss, "pairwise": reference.pairwise_loss}[kind]

    def shifted(value: Array, place: tuple[int, ...], step: float) -> float:
        before = value[place]
        value[place] = before + step
        result = slow_loss([[x.score for x in row] for row in case.scored(model)])
        value[place] = before
        return result

    rng = np.random.default_rng(seed)
    for name, parameter in case.model.named_parameters():
        if parameter.grad is None:  # groups that are not ranked have no candidates, so no part of f to train
            assert any(f".{part}." in name for part in ("biases", "heads", "gates", "towers")), name
            continue
        gradient, value = parameter.grad.numpy(), parameter.detach().numpy().copy()
        model.p = dict(model.p) | {name: value}
        flat = gradient.ravel()
        number = rng.choice(np.flatnonzero(flat)) if flat.any() else rng.integers(flat.size)
        touched += bool(flat[number])
        place = tuple(int(i) for i in np.unravel_index(number, gradient.shape))
        slope = (shifted(value, place, 1e-5) - shifted(value, place, -1e-5)) / 2e-5
        assert abs(gradient[place] - slope) <= 1e-8 + 1e-5 * abs(slope), name
    assert touched > 0.7 * sum(p.grad is not None for p in case.model.parameters())


def linear(p: reference.Parameters, name: str, x: Array) -> Array:
    return p[f"{name}.weight"] @ x + p[f"{name}.bias"]
