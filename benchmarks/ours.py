"""The contenders of `atrank_lib`: every model through `fit`, with its default sizes."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from atrank_lib import EventLog, Recipe, Schema, fit
from atrank_lib.batches import Samples
from atrank_lib.fast import RowSteps, kernels, speed_up
from atrank_lib.grouping import GroupedHistories
from atrank_lib.negatives import NegativeSampler
from atrank_lib.runs import MODELS
from atrank_lib.samples import Split, prepare, split
from atrank_lib.training import Steps
from benchmarks.speed import Shuffled
from benchmarks.work import Setting, Work

ADAM: dict[str, Any] = {}
SGD: dict[str, Any] = {"optimizer": "sgd", "learning_rate": 0.1, "gradient_clip": None}


@dataclass(frozen=True)
class How:
    """A model and how it is trained: with all that makes `fit` fast, unless it is taken away."""

    model: str
    options: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    steps: type[Steps] = RowSteps
    malloc: bool = True  # memory is kept (benchmarks.speed.MALLOC)
    kernels: bool = True  # atrank_lib.fast.kernels, in place of torch's operators


TWIN = How("atrank", {"attention": "dot"}, SGD)  # of `benchmarks.plain`
# from the plain model to the fast one, each step with all before it
STEPS: dict[str, How] = {
    "packed": replace(TWIN, malloc=False, steps=Shuffled, kernels=False),
    "sorted": replace(TWIN, malloc=False, steps=Steps, kernels=False),
    "malloc": replace(TWIN, steps=Steps, kernels=False),
    "rows": replace(TWIN, kernels=False),
    "kernels": TWIN,
}
OURS: dict[str, How] = {**STEPS, **{name: How(name) for name in MODELS}}


def histories_of(work: Work) -> tuple[GroupedHistories, Samples]:
    """Generated samples as a log of one user each, whose last behavior is the positive."""
    features = {"object_id": {"kind": "categorical"}, "category_id": {"kind": "categorical"}}
    schema = Schema.model_validate(
        {"name": "generated", "groups": {"item": {"actions": ["review"], "features": features}}}
    )
    users = np.arange(len(work))
    events = pd.DataFrame(
        {
            "user_id": np.concatenate([np.repeat(users, work.lengths), users]).astype(str),
            "timestamp": np.concatenate([work.times, work.moments]),
            "action": "review",
            "object_id": np.concatenate([work.items, work.positives]).astype(str),
        }
    )
    objects = pd.DataFrame({"object_id": np.arange(1, len(work.category)).astype(str)})
    objects["category_id"] = work.category[1:].astype(str)
    histories = GroupedHistories.from_log(EventLog.from_tables(schema, {"item": events}, {"item": objects}))
    parts = split(histories, "paper")
    return histories, parts.test["item"]


def work_of(histories: GroupedHistories, samples: Samples, length: int) -> Work:
    """Samples of a log's only group as arrays for the other contenders, with their latest ``length`` behaviors."""
    (group,) = histories.groups.values()
    features = histories.catalogs[samples.target_group].features
    item, category = cast(Tensor, features["object_id"]), cast(Tensor, features["category_id"])
    sampler = NegativeSampler(histories, samples.target_group)
    negatives = sampler.draw(samples.users, 1, torch.Generator().manual_seed(0))[:, 0]
    table = torch.zeros(int(item.max()) + 1, dtype=torch.long).index_copy_(0, item, category)
    table[0] = 0  # items that training does not show are unknown, whatever their category
    ends = samples.ends[:, 0]
    arrays = {
        "items": item[group.objects.long()],
        "times": group.timestamps,
        "starts": torch.maximum(group.offsets[samples.users], ends - length),
        "ends": ends,
        "moments": samples.times,
        "positives": item[samples.objects],
        "negatives": item[negatives],
        "category": table,
    }
    return Work(**{name: array.numpy() for name, array in arrays.items()})


def samples_of(log: EventLog) -> tuple[GroupedHistories, Samples]:
    """The training samples of a log with one group."""
    histories, parts = prepare(log, "validated")
    (samples,) = parts.train.values()
    return histories, samples


class Contender:
    """One model, trained by `fit`."""

    def __init__(self, name: str, setting: Setting) -> None:
        self.how = how = OURS[name]
        if setting.log is None:
            self.histories, self.samples = histories_of(setting.work())
        else:
            self.histories, self.samples = samples_of(EventLog.read(Path(setting.log)))
        self.real, self.available = setting.real, len(self.samples)
        torch.manual_seed(0)
        kind = MODELS[how.model]
        self.model = kind.build(self.histories.schema, self.histories.vocabularies, kind.Config(**how.options))
        if how.kernels:
            speed_up(self.model)
        self.recipe = Recipe(
            **{"batch_size": setting.batch, "max_length": setting.length, "epochs": 1_000_000, "patience": None},
            **how.recipe,
        )

    def train(self, samples: int) -> tuple[int, float]:
        """Train on so many samples, in whole batches; returns how many there were, and the seconds.

        On a real log these are all seconds of `fit`, on generated samples those of its steps.
        """
        chosen = self.samples
        if samples < len(chosen):
            chosen = chosen[torch.randperm(len(chosen))[:samples]]
        steps = -(-samples // self.recipe.batch_size)
        only = Split({chosen.target_group: chosen}, {}, {})
        with nullcontext() if self.how.kernels else kernels.off():  # rows are updated by kernels too
            began = time.perf_counter()
            result = fit(
                self.model, self.histories, only, self.recipe, max_steps=steps, progress=False, steps=self.how.steps
            )
        seconds = time.perf_counter() - began if self.real else sum(epoch["seconds"] for epoch in result.epochs)
        return sum(epoch["samples"] for epoch in result.epochs), seconds
