"""How the time of a training step grows: with the length of histories, batch, spaces and objects.

    python -m benchmarks.growth --out results/speed/growth.json [--repeats 3]

Processor milliseconds of a step of ATRank on generated samples, one thread, default sizes but for what is varied. The
points of all curves take turns, a repeat each. The objects are varied twice: with updates of the rows of a batch, and
of whole tables.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from tqdm import tqdm

from atrank_lib import ATRank, ATRankConfig, Recipe, fit
from atrank_lib.fast import RowSteps, speed_up
from atrank_lib.runs import hardware, versions
from atrank_lib.samples import Split
from atrank_lib.training import Steps
from benchmarks.ours import histories_of
from benchmarks.speed import MALLOC
from benchmarks.work import synthetic
from experiments.provenance import commit
from experiments.records import write_record


@dataclass(frozen=True)
class Point:
    """One training setting; ``curve`` names what is varied."""

    curve: str
    value: int
    length: int = 50
    batch: int = 32
    spaces: int = 8
    objects: int = 20_000
    rows: bool = True


POINTS = [
    *(Point("length", n, length=n) for n in (10, 20, 50, 100, 200, 400)),
    *(Point("batch", n, batch=n, length=20) for n in (8, 32, 128, 512)),
    *(Point("spaces", n, spaces=n) for n in (1, 2, 4, 8, 16, 32)),
    *(Point("objects", n, objects=n, length=20) for n in (10_000, 30_000, 100_000, 300_000)),
    *(Point("objects, whole tables", n, objects=n, length=20, rows=False) for n in (10_000, 30_000, 100_000, 300_000)),
]
EPOCH = 64  # steps, and a repeat has at least one: at its end all rows are brought up to date


class Trainer:
    """A model in one setting."""

    def __init__(self, point: Point) -> None:
        work = synthetic(point.length, False, EPOCH * point.batch, items=point.objects)
        self.point = point
        self.histories, samples = histories_of(work)
        self.split = Split({"item": samples}, {}, {})
        torch.manual_seed(0)
        config = ATRankConfig(spaces=point.spaces)
        self.model = speed_up(ATRank(self.histories.schema, self.histories.vocabularies, config))

    def milliseconds(self, steps: int) -> float:
        """Processor time of a step."""
        recipe = Recipe(batch_size=self.point.batch, epochs=1_000, patience=None)
        kind = partial(RowSteps, least=0) if self.point.rows else Steps
        epochs = fit(self.model, self.histories, self.split, recipe, max_steps=steps, progress=False, steps=kind).epochs
        return 1e3 * sum(epoch["cpu_seconds"] for epoch in epochs) / sum(epoch["steps"] for epoch in epochs)


def main(
    out: Annotated[Path, typer.Option(help="File for the numbers, with their provenance.")],
    repeats: int = 3,
    seconds: Annotated[float, typer.Option(help="Of a repeat of one point, about.")] = 0.5,
) -> None:
    torch.set_num_threads(1)
    found: dict[Point, list[float]] = {point: [] for point in POINTS}
    for _ in range(repeats):
        for point in tqdm(POINTS):
            trainer = Trainer(point)
            began = time.process_time()
            trainer.milliseconds(2)
            steps = max(EPOCH, int(seconds / (time.process_time() - began) * 2))
            found[point].append(trainer.milliseconds(steps))
    rows: list[dict[str, Any]] = [
        {**vars(point), "cpu_ms_per_step": statistics.median(ms), "low": min(ms), "high": max(ms)}
        for point, ms in found.items()
    ]
    for row in rows:
        print(f"{row['curve']:>22} {row['value']:>9,} {row['cpu_ms_per_step']:9.2f} ms")
    write_record(
        out,
        {
            "kind": "growth",
            "data_name": "generated samples",
            "data_fingerprint": "seed 0",
            "threads": 1,
            "environment": MALLOC,
            "rows": rows,
            "commit": commit(Path.cwd()),
            "versions": versions(),
            "hardware": hardware(),
        },
    )


if __name__ == "__main__":
    if not MALLOC.items() <= os.environ.items():  # read once, when a process starts
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks.growth", *sys.argv[1:]], os.environ | MALLOC)
    typer.run(main)
