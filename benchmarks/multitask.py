"""What mixing tasks costs: epochs of all tasks together against the same samples, one task after the other.

    python benchmarks/multitask.py --data LOG --out results/speed/multitask.json [--threads 4] [--repeats 5]

Every row trains one fresh ATRank on all groups' histories. "singly" sums the epochs of the tasks, each trained alone
on the same samples with the same batch size; the others train them in one epoch. Rows take turns, and a ratio is of
processor seconds within one turn: batches of all tasks are compared with the same batches, on the same machine.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Annotated

import torch
import typer

from atrank_lib import RECIPES, ATRank, ATRankConfig, EventLog, fit
from atrank_lib.fast import speed_up
from atrank_lib.grouping import GroupedHistories
from atrank_lib.runs import OPTIONS
from atrank_lib.samples import Split, prepare
from experiments.records import provenance, write_record
from experiments.tasks import TaskRecipe, TaskRunSteps

STEPS = ("shuffled", "joint", "pcgrad")


def epoch(histories: GroupedHistories, split: Split, targets: list[str], steps: str) -> float:
    """Processor seconds of one epoch over these tasks."""
    torch.manual_seed(0)
    model = speed_up(ATRank(histories.schema, histories.vocabularies, ATRankConfig(**OPTIONS["small"])))
    recipe = TaskRecipe.model_validate(RECIPES["small"].model_dump() | {"epochs": 1, "task_steps": steps})
    some = Split({target: split.train[target] for target in targets}, {}, {})
    return float(fit(model, histories, some, recipe, progress=False, steps=TaskRunSteps).epochs[0]["cpu_seconds"])


def main(
    data: Annotated[Path, typer.Option(help="Folder of an event log.")],
    out: Annotated[Path, typer.Option(help="File for the numbers, with their provenance.")],
    threads: int = 4,
    repeats: int = 5,
) -> None:
    torch.set_num_threads(threads)
    log = EventLog.read(data)
    histories, split = prepare(log, "validated")
    targets = list(split.train)
    epoch(histories, split, targets, "shuffled")  # warm up
    seconds: dict[str, list[float]] = {name: [] for name in ("singly", *STEPS)}
    for _ in range(repeats):
        seconds["singly"].append(sum(epoch(histories, split, [target], "shuffled") for target in targets))
        for steps in STEPS:
            seconds[steps].append(epoch(histories, split, targets, steps))
    rows = []
    for steps in STEPS:
        ratios = [mixed / single for mixed, single in zip(seconds[steps], seconds["singly"], strict=True)]
        rows.append({"steps": steps, "ratio": statistics.median(ratios), "low": min(ratios), "high": max(ratios)})
        print(f"{steps}: {rows[-1]['ratio']:.2f} times the tasks singly (range {min(ratios):.2f} to {max(ratios):.2f})")
    write_record(out, {"rows": rows, "seconds": seconds, "threads": threads, "repeats": repeats, **provenance(log)})


if __name__ == "__main__":
    typer.run(main)
