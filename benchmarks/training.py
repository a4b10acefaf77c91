"""Throughput and memory on one log, side by side in one run: batch building alone, and training end to end.

    python benchmarks/training.py --data LOG [--batch-size 512] [--threads 4] [--repeats 5]

A sample is one (user, cut, target) with its negative; training includes building its batch. Prints medians over
the repeats with their range, the ratio of batch building to training, and the memory of histories and samples.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from atrank_lib import ATRank, EventLog, Recipe, fit
from atrank_lib.batches import Ragged
from atrank_lib.fast import RowSteps, speed_up
from atrank_lib.grouping import GroupedHistories
from atrank_lib.negatives import NegativeSampler, draw_candidates
from atrank_lib.samples import Split, batches, prepare


def build_rate(histories: GroupedHistories, split: Split, batch_size: int, steps: int) -> float:
    """Samples per second of drawing negatives and building batches."""
    began, seen = time.perf_counter(), 0
    generator = torch.Generator().manual_seed(0)
    samplers = {name: NegativeSampler(histories, name) for name in split.train}
    drawn = {name: draw_candidates(part, samplers[name], 1, generator) for name, part in split.train.items()}
    plan = batches(histories, split.train, drawn, batch_size, generator=generator)
    for _, (_, index, _) in zip(range(steps), plan, strict=False):
        seen += len(index)
    return seen / (time.perf_counter() - began)


def train_rate(histories: GroupedHistories, split: Split, batch_size: int, steps: int) -> float:
    """Samples per second of `fit`, with the paper's sizes."""
    torch.manual_seed(0)
    model = speed_up(ATRank(histories.schema, histories.vocabularies))
    recipe, alone = Recipe(batch_size=batch_size, epochs=1), Split(split.train, {}, {})
    result = fit(model, histories, alone, recipe, max_steps=steps, progress=False, steps=RowSteps)
    return result.epochs[0]["samples_per_second"]


def tensor_bytes(histories: GroupedHistories, split: Split) -> int:
    """Bytes of every tensor in the histories, the catalogs and the samples."""
    tensors: list[Tensor] = []
    for group in histories.groups.values():
        tensors += [group.offsets, group.timestamps, group.actions, group.objects, group.rows]
    for catalog in histories.catalogs.values():
        for feature in catalog.features.values():
            tensors += [feature.values, feature.offsets] if isinstance(feature, Ragged) else [feature]
    for tasks in (split.train, split.validation, split.test):
        for part in tasks.values():
            tensors += [part.users, part.times, part.ends, part.objects, part.positions]
    return sum(t.untyped_storage().nbytes() for t in {t.data_ptr(): t for t in tensors}.values())


def main(
    data: Annotated[Path, typer.Option(help="Folder of an event log.")],
    batch_size: int = 512,
    threads: int = 4,
    steps: int = 370,
    repeats: int = 5,
) -> None:
    torch.set_num_threads(threads)
    histories, split = prepare(EventLog.read(data), "validated")
    behaviors = sum(len(g.timestamps) for g in histories.groups.values())
    size = tensor_bytes(histories, split)
    print(f"{data.name}: {behaviors:,} behaviors; histories and samples take {size / 1e6:.1f} MB")
    train_rate(histories, split, batch_size, 10)  # warm up
    rates: dict[str, list[float]] = {"batch building": [], "training": []}
    for _ in range(repeats):
        rates["batch building"].append(build_rate(histories, split, batch_size, steps))
        rates["training"].append(train_rate(histories, split, batch_size, steps))
    for name, values in rates.items():
        low, middle, high = min(values), statistics.median(values), max(values)
        print(
            f"{name}: {middle:,.0f} samples/s (range {low:,.0f} to {high:,.0f}), batch {batch_size}, {threads} threads"
        )
    ratios = [b / t for b, t in zip(rates["batch building"], rates["training"], strict=True)]
    print(f"batch building runs {statistics.median(ratios):.1f} times as fast as training")


if __name__ == "__main__":
    typer.run(main)
