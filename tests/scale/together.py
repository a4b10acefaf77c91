"""What `test_processes` runs in several processes: trainings of a log, one after the other, as a file lists them.

torchrun --nproc_per_node 2 -m tests.scale.together LOG JOBS.json

Then each process trains a model from other weights and keeps what it holds in the end; and then one of them fails.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file

from atrank_lib.cli.output import plain_errors
from atrank_lib.fast import row_updates
from atrank_lib.log.events import EventLog
from atrank_lib.model import ATRank, ATRankConfig
from atrank_lib.runs import train_run
from atrank_lib.samples import prepare
from atrank_lib.scale import ALONE, Execution, Processes, ScaledSteps, joined
from atrank_lib.scale import processes as distributed
from atrank_lib.training import FitResult, Recipe, fit
from experiments.tasks import TaskRecipe, TaskRunSteps

SIZES = {"embedding_size": 4, "hidden": 8, "spaces": 2}
CONFIG = ATRankConfig.model_validate(SIZES)


class Job(NamedTuple):
    """A training: the folder of its run, the settings of its recipe, and from how many rows on tables are large."""

    out: str
    settings: dict[str, Any]
    resume: bool = False
    least: int = 10**9

    def do(self, log: EventLog, processes: Processes = ALONE) -> FitResult:
        row_updates.large = lambda batch_size: self.least
        recipe, out = TaskRecipe(**self.settings), Path(self.out)
        ways: dict[str, Any] = {"recipe": recipe, "steps": TaskRunSteps, "processes": processes}
        return train_run(log, out, options=SIZES, resume=self.resume, progress=False, **ways)


def on_fire(*_: object, **__: object) -> None:
    raise OSError("the disk is on fire")


def main(data: Path, jobs: Path) -> None:
    with plain_errors(), joined(Execution()) as processes:
        log = EventLog.read(data)
        for job in json.loads(jobs.read_text()):
            Job(*job).do(log, processes)
        histories, parts = prepare(log, "validated")
        torch.manual_seed(processes.rank)  # other weights, until the first process's are shared
        model = ATRank(log.schema, histories.vocabularies, CONFIG)
        recipe = Recipe(epochs=1, batch_size=16, average=0.9)
        fit(model, histories, parts, recipe, progress=False, steps=partial(ScaledSteps, processes=processes))
        found = {name: value.detach().contiguous() for name, value in model.named_parameters()}
        save_file(found, jobs.with_name(f"rank{processes.rank}.safetensors"))
        if processes.rank == 1:
            distributed.score_candidates = on_fire  # type: ignore[assignment]
        Job(str(jobs.with_name("failed")), {"epochs": 1, "batch_size": 16}).do(log, processes)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
