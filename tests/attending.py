"""Small logs and models whose attention is far from even."""

from __future__ import annotations

from typing import Any

import torch

from atrank_lib.batches import Samples
from atrank_lib.grouping import GroupedHistories
from atrank_lib.model import ATRank
from atrank_lib.samples import build_batch
from atrank_lib.variants import ATRankOptions, build
from tests.random_logs import random_log

GROUPS = ("item", "query", "coupon")
SMALL = {"embedding_size": 4, "hidden": 8, "spaces": 2}
LOG = random_log(4, users=7, behaviors=40, objects=30, times=30)
HISTORIES = GroupedHistories.from_log(LOG)


def a_model(histories: GroupedHistories = HISTORIES, seed: int = 0, **options: Any) -> ATRank:
    torch.manual_seed(seed)
    model = build(histories.schema, histories.vocabularies, ATRankOptions.model_validate(SMALL | options))
    for parameter in model.parameters():  # far from its start, where attention is nearly even
        parameter.data *= 1.7
    return model.eval()


def alone(samples: Samples, i: int) -> Samples:
    return samples[torch.tensor([i])]


def lead(model: ATRank, histories: GroupedHistories, sample: Samples, candidates: torch.Tensor) -> float:
    with torch.no_grad():
        scores = model(build_batch(histories, sample, candidates, model.histories)).scores[0].tolist()
    return scores[0] - (sum(scores[1:]) / len(scores[1:]) if len(scores) > 1 else 0.0)
