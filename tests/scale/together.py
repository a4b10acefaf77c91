"""What `test_distributed` runs in several processes: trainings of a log, one after the other, as a file lists them.

torchrun --nproc_per_node 2 -m tests.together LOG JOBS.json [RANK that fails]
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from safetensors.torch import save_file

import atrank_lib.training as training
from atrank_lib.cli.errors import plain_errors
from atrank_lib.log.events import EventLog
from atrank_lib.model import ATRank, ATRankConfig
from atrank_lib.recipes import Recipe
from atrank_lib.runs import prepare, train_run
from atrank_lib.scale.execution import Execution
from atrank_lib.scale.processes import joined
from atrank_lib.training import fit

CONFIG = ATRankConfig(embedding_size=4, hidden=8, spaces=2)


def on_fire(*_: object, **__: object) -> None:
    raise OSError("the disk is on fire")


def main(data: str, jobs: str, failing: str = "") -> None:
    on = Execution()
    with plain_errors(), joined(on) as processes:
        if failing == str(processes.rank):
            training.score_candidates = on_fire  # type: ignore[assignment]
        log = EventLog.read(Path(data))
        for out, settings, resume in json.loads(Path(jobs).read_text()):
            train_run(
                log,
                Path(out),
                options=CONFIG,
                recipe=Recipe(**settings),
                resume=resume,
                progress=False,
                on=on,
                processes=processes,
            )
        if not failing:  # what each process holds in the end
            histories, parts = prepare(log, "validated")
            training.torch.manual_seed(processes.rank)  # other weights, until the first process's are shared
            model = ATRank(log.schema, histories.vocabularies, CONFIG)
            recipe = Recipe(epochs=1, batch_size=16)
            fit(model, histories, parts, recipe, progress=False, on=on, processes=processes)
            found = {name: value.detach().contiguous() for name, value in model.named_parameters()}
            save_file(found, Path(jobs).with_name(f"rank{os.environ['RANK']}.safetensors"))


if __name__ == "__main__":
    main(*sys.argv[1:])
