"""Every model and every variant of ATRank: small, and with weights that make all that it has felt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from atrank_lib.batches import Batch
from atrank_lib.grouping import GroupedHistories
from atrank_lib.log.events import EventLog
from atrank_lib.ranking import Model
from atrank_lib.runs import MODELS
from atrank_lib.samples import build_batch
from atrank_lib.serve.ranker import moments
from atrank_lib.variants import ORIGINAL
from tests.random_logs import random_log

# the authors' code, as far as every schema has it
AUTHORS = {
    "attention": "dot",
    "residual": "attended",
    "time": "one_hot",
    "target_residual": True,
    "linear_projection": True,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "atrank": {},
    "authors": AUTHORS,
    "authors, bias": AUTHORS | {"object_bias": True},
    "two layers, shared": {"blocks": 2, "target_attention": "shared"},
    "two layers": {"blocks": 2, "residual": "attended", "bottleneck": True},
    "no self-attention": {"blocks": 0, "time": "none", "ranking": "mlp"},
    "heads": {"task_heads": True, "target_residual": True},
    "told raw": {"told": "raw"},
    "told raw, shared": {"told": "raw", "target_attention": "shared", "target_residual": True},
    "summed": {"weighting": "sum"},
    "ranked raw": {"ranked": "raw", "time": "continuous"},
    "all of f": {"ranked": "raw", "object_bias": True, "task_heads": True, "ranking": "mlp"},
    "original": ORIGINAL,
    "original, all groups": {n: v for n, v in ORIGINAL.items() if n != "object_bias"} | {"target": "projected"},
}
WAYS = [*VARIANTS, *(name for name in MODELS if name != "atrank")]


def a_log(seed: int = 4, groups: Sequence[str] | None = None) -> EventLog:
    """A random log with samples of every target group; of some groups alone, if they are named."""
    log = random_log(seed, users=7, behaviors=60, objects=30, times=40)
    if groups is None:
        return log
    schema = log.schema.model_copy(update={"groups": {g: log.schema.groups[g] for g in groups}})
    return EventLog(schema, {g: log.events[g] for g in groups}, {g: log.objects[g] for g in groups})


def fitting(options: dict[str, Any]) -> Sequence[str] | None:
    """The groups that allow these options: queries have no id, and q_t is as wide in coupons alone."""
    raw = "raw" in (options.get("ranked"), options.get("target"))
    return ["coupon"] if options.get("object_bias") or raw else None


def make(
    way: str, histories: GroupedHistories | None = None, *, seed: int = 4, size: int = 4, spaces: Any = 2, **more: Any
) -> tuple[Model, GroupedHistories]:
    """A model in evaluation mode, its embeddings ``size`` wide and its hidden layers twice that, and histories."""
    options = VARIANTS.get(way, {}) | more
    name = "atrank" if way in VARIANTS else way
    histories = histories or GroupedHistories.from_log(a_log(groups=fitting(options)))
    kind = MODELS[name]
    sizes = {"embedding_size": size, "hidden": 2 * size, "spaces": spaces}
    chosen = kind.Config.model_validate({k: v for k, v in sizes.items() if k in kind.Config.model_fields} | options)
    torch.manual_seed(seed)
    model = kind.build(histories.schema, histories.vocabularies, chosen)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.3)
    return model.eval(), histories


def a_batch(histories: GroupedHistories, group: str, moment: int = 20, negatives: int = 2) -> Batch:
    """All users at one moment, some of them without any behavior, and for each some objects."""
    users = torch.arange(len(histories))
    samples = moments(histories, group, users, torch.full_like(users, moment))
    count = len(histories.catalogs[group])
    objects = torch.randint(count, (len(users), 1 + negatives), generator=torch.Generator().manual_seed(0))
    return build_batch(histories, samples, objects)
