"""Random histories for the competitors, batched for the model and as lists for loops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from atrank_lib.batches import Batch, Samples
from atrank_lib.grouping import GroupedHistories
from atrank_lib.log.events import EventLog
from atrank_lib.model import ATRankConfig
from atrank_lib.samples import build_batch, moments
from tests import reference
from tests.reference import Array, Reference
from tests.test_model import random_log

SMALL: dict[str, Any] = {"embedding_size": 2, "hidden": 8}

# p, the projected behaviors oldest first, h_t -> score
Score = Callable[[reference.Parameters, list[Array], Array], float]


@dataclass(frozen=True)
class Case:
    log: EventLog
    histories: GroupedHistories
    model: Any
    samples: Samples
    rows: Tensor
    batch: Batch
    behaviors: list[list[reference.Behavior]]  # of each sample, oldest first

    @property
    def group(self) -> str:
        return self.samples.target_group

    @property
    def parameters(self) -> dict[str, Array]:
        return {name: p.detach().numpy() for name, p in self.model.named_parameters()}

    def reference(self) -> Reference:
        shared = set(type(self.model.config).model_fields) & {"embedding_size", "hidden", "time", "linear_projection"}
        config = ATRankConfig(spaces=1, **{name: getattr(self.model.config, name) for name in shared})
        return Reference(self.log.schema, self.histories.vocabularies, self.log.objects, config, self.parameters)

    def object_id(self, sample: int, column: int) -> str:
        return self.histories.catalogs[self.group].object_ids[int(self.rows[sample, column])]

    def expected(self, score: Score) -> list[list[float]]:
        model, result = self.reference(), []
        for b, behaviors in enumerate(self.behaviors):
            s = [model.project(x.group, model.behavior(x)) for x in behaviors]
            targets = [
                model.project(self.group, with_time(model, self.group, model.object(self.group, self.object_id(b, i))))
                for i in range(self.rows.shape[1])
            ]
            result.append([score(model.p, s, h) for h in targets])
        return result


def with_time(model: Reference, group: str, q: Array) -> Array:
    """An object without time, as wide as a behavior."""
    return np.concatenate([q, np.zeros(len(model.edges(group)) + 1)]) if model.config.time == "one_hot" else q


def make(
    kind: Any,
    group: str = "items",
    seed: int = 0,
    *,
    groups: Sequence[str] | None = None,
    candidates: int = 3,
    **options: Any,
) -> Case:
    """Every user at a random moment; the last one before anything happened."""
    log, generator = random_log(seed), torch.Generator().manual_seed(seed)
    everything = GroupedHistories.from_log(log)
    seen = {g: torch.arange(len(c)) < len(c) - 1 for g, c in everything.catalogs.items()}
    histories = everything.encode(everything.vocabularies_of(seen, torch.arange(len(everything) - 1)))
    last = max(int(g.timestamps.max()) for g in histories.groups.values())
    users = torch.arange(len(histories))
    times = torch.randint(last // 2, last + 2, (len(users),), generator=generator)
    times[0], times[-1] = last + 1, 0
    samples = moments(histories, group, users, times)
    rows = torch.randint(len(histories.catalogs[group]), (len(users), candidates), generator=generator)
    rows[0, 0] = len(histories.catalogs[group]) - 1  # an object that the model does not know
    fields = kind.Config.model_fields
    config = kind.Config(**{name: value for name, value in (SMALL | options).items() if name in fields})
    model = kind(log.schema, histories.vocabularies, config, groups).double().eval()
    for p in model.parameters():
        nn.init.normal_(p, std=0.5, generator=generator)
    behaviors = []
    for u, t in zip(users.tolist(), times.tolist(), strict=True):
        found = reference.history(log, histories.user_ids[u], t, groups)
        order = list(log.schema.groups)
        behaviors.append(sorted(found, key=lambda x: (-x.elapsed, order.index(x.group), x.row)))
    batch = build_batch(histories, samples, rows, model.histories)
    return Case(log, histories, model, samples, rows, batch, behaviors)


def close(found: Tensor, expected: Any, tolerance: float = 1e-9) -> None:
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=tolerance, atol=tolerance)


def linear(p: reference.Parameters, name: str, x: Array) -> Array:
    return p[f"{name}.weight"] @ x + p[f"{name}.bias"]
