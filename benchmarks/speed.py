"""How fast models train, side by side in one run: by history length and batch size, and on a real log.

    python benchmarks/speed.py --data LOG --out results/speed/cpu.json [--models atrank,bi-lstm,cnn] [--threads 4]

Every number is samples per second of `fit`, batches included, with the default sizes of all models (embeddings of 64,
hidden size 128) and one sampled negative. First histories of one length, 10 to 200, on a generated log as wide as
Amazon Sports; then those of the log at `--data`: in batches of similar length, as training makes them, and in batches
as chance has it. The models take turns, a repeat each, so that a
slow minute of the machine hits all of them; medians are compared.

All run by PyTorch's operators; `atrank-kernels` and `bi-lstm-kernels` are the same models with
`atrank_lib.fast.kernels`, which have layers and attention, and no LSTM.

`cnn-500` pads every history to 500 as the original code does, and `bi-lstm-unpacked` reads the padding: its backward
direction starts there, so its numbers are wrong, and it is here for its speed alone.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer
from torch import Tensor, nn
from tqdm import tqdm

from atrank_lib import EventLog, Recipe, Schema, fit
from atrank_lib.batches import Batch, TaskSamples
from atrank_lib.competitors.base import Competitor
from atrank_lib.competitors.models import CNN, WIDTHS, BiLSTM
from atrank_lib.fast import RowSteps, kernels, speed_up
from atrank_lib.grouping import GroupedHistories
from atrank_lib.log.writing import write_text
from atrank_lib.runs import MODELS, hardware, versions
from atrank_lib.samples import Split, batches, prepare
from atrank_lib.training import Part, Steps, Turn
from experiments.provenance import commit

# glibc gives large buffers back to the system after every use and asks for them again; a recurrent network, which
# makes many, then waits for the system more than it computes. With these all models keep their memory.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "1000000000", "MALLOC_TRIM_THRESHOLD_": "10000000000"}
LENGTHS = (10, 20, 50, 100, 200)
SIZES = (32, 512)
# the log's own histories: in batches of similar length, as training makes them, and in batches as chance has it
AS_THEY_ARE, SHUFFLED = "log", "log, shuffled"
KERNELS = "-kernels"
OBJECTS, CATEGORIES = 18_357, 468  # of Amazon Sports


class CNN500(CNN):
    """The original code's CNN: every history is padded to 500 places before it is convolved."""

    def user(self, batch: Batch) -> Tensor:
        s, packing = self.sequence(batch)
        missing = max(0, 500 - packing.longest)
        table = nn.functional.pad(packing.pad(s), (0, 0, 0, missing)).transpose(1, 2)  # [b, d, 500]
        real = nn.functional.pad(packing.mask, (0, missing))[:, None]
        maps = []
        for width, convolution in zip(WIDTHS, self.convolutions, strict=True):
            windows = torch.relu(convolution(nn.functional.pad(table, (0, width - 1)))) * real
            maps.append(windows.amax(dim=2))
        return self.join(self.after(torch.cat(maps, dim=1)))


class BiLSTMUnpacked(BiLSTM):
    """A Bi-LSTM over padded histories: fast, and wrong."""

    def user(self, batch: Batch) -> Tensor:
        s, packing = self.sequence(batch)
        _, (h, _) = self.lstm(packing.pad(s).transpose(0, 1))
        return self.join(torch.cat([h[0], h[1]], dim=1))


EXTRA: dict[str, type[Competitor]] = {"cnn-500": CNN500, "bi-lstm-unpacked": BiLSTMUnpacked}


class Shuffled(Steps):
    """Batches as chance has them, long histories beside short ones."""

    def batches(
        self, part: Part, tasks: TaskSamples, candidates: Mapping[str, Tensor], generator: torch.Generator
    ) -> Iterator[Turn]:
        size, longest = self.recipe.batch_size, self.recipe.max_length
        plan = batches(part.histories, tasks, candidates, size, generator, self.model.histories, longest, pool=1)
        yield from ([(name, len(index), batch)] for name, index, batch in plan)


class ShuffledRows(Shuffled, RowSteps):
    """The same, with updates of rows."""


def uniform_log(length: int, users: int, count: int = OBJECTS, seed: int = 0) -> EventLog:
    """Users with ``length + 1`` behaviors each: the last one is predicted from a history of ``length``."""
    rng = np.random.default_rng(seed)
    features = {"object_id": {"kind": "categorical"}, "category_id": {"kind": "categorical"}}
    schema = Schema.model_validate(
        {"name": f"length {length}", "groups": {"item": {"actions": ["review"], "features": features}}}
    )
    number = users * (length + 1)
    events = pd.DataFrame(
        {
            "user_id": np.repeat(np.arange(users), length + 1).astype(str),
            "timestamp": np.tile(np.arange(length + 1), users) * 86_400,
            "action": "review",
            "object_id": rng.integers(count, size=number).astype(str),
        }
    )
    objects = pd.DataFrame({"object_id": np.arange(count).astype(str)})
    objects["category_id"] = rng.integers(CATEGORIES, size=count).astype(str)
    return EventLog.from_tables(schema, {"item": events}, {"item": objects})


def rate(
    model: str, histories: GroupedHistories, split: Split, batch_size: int, count: int, steps: type[Steps]
) -> float:
    """Samples per second of `fit` in so many steps."""
    torch.manual_seed(0)
    name, fast = model.removesuffix(KERNELS), model.endswith(KERNELS)
    build = EXTRA.get(name) or MODELS[name].build
    network = build(histories.schema, histories.vocabularies)
    recipe, only = Recipe(batch_size=batch_size, epochs=1), Split(split.train, {}, {})
    with nullcontext(speed_up(network)) if fast else kernels.off():
        result = fit(network, histories, only, recipe, max_steps=count, progress=False, steps=steps)
    return result.epochs[0]["samples_per_second"]


def measure(
    name: str, histories: GroupedHistories, split: Split, models: list[str], size: int, count: int, repeats: int
) -> list[dict[str, Any]]:
    """One row for each model: the median and range of its rates on these histories."""
    steps = ShuffledRows if name == SHUFFLED else RowSteps
    rates: dict[str, list[float]] = {model: [] for model in models}
    enough = {model: max(2, count // 40) if model == "cnn-500" else count for model in models}  # it is that slow
    for model in models:
        rate(model, histories, split, size, 2, steps)  # warm up
    for _ in range(repeats):
        for model in models:
            rates[model].append(rate(model, histories, split, size, enough[model], steps))
    return [
        {"histories": name, "batch": size, "model": model, "samples_per_second": statistics.median(values)}
        | {"low": min(values), "high": max(values), "repeats": repeats}
        for model, values in rates.items()
    ]


def main(
    data: Annotated[Path, typer.Option(help="Folder of an event log, for histories as they are.")],
    out: Annotated[Path, typer.Option(help="File for the numbers, with their provenance.")],
    models: str = "atrank,bi-lstm,bi-lstm-unpacked,cnn,cnn-500,atrank-kernels,bi-lstm-kernels",
    threads: int = 4,
    repeats: int = 3,
) -> None:
    torch.set_num_threads(threads)
    names = models.split(",")
    log = EventLog.read(data)
    histories, split = prepare(log, "validated")
    work: list[tuple[str, GroupedHistories, Split, int, int]] = [
        (name, histories, split, size, 5_000 // size + 10) for name in (AS_THEY_ARE, SHUFFLED) for size in SIZES
    ]
    for length in LENGTHS:
        uniform = prepare(uniform_log(length, 1_100), "paper")
        last = Split(uniform[1].test, {}, {})
        work += [(str(length), uniform[0], last, size, max(2, min(20, 20_000 // (size * length)))) for size in SIZES]
    rows = []
    for name, grouped, parts, size, count in tqdm(work, desc="settings"):
        rows += measure(name, grouped, parts, names, size, count, repeats)
    table = pd.DataFrame(rows).pivot(index=["batch", "histories"], columns="model", values="samples_per_second")
    print(table[names].round(0).to_string())
    for ours, theirs in (("atrank", "bi-lstm"), ("atrank" + KERNELS, "bi-lstm" + KERNELS)):
        if {ours, theirs} <= set(names):
            print((table[ours] / table[theirs]).round(2).rename(f"{ours} / {theirs}").to_string())
    content = {
        "kind": "speed",
        "data_name": log.schema.name,
        "data_fingerprint": log.fingerprint(),
        "threads": threads,
        "environment": MALLOC,
        "rows": rows,
        "commit": commit(Path.cwd()),
        "versions": versions(),
        "hardware": hardware(),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    if not MALLOC.items() <= os.environ.items():  # read once, when a process starts
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | MALLOC)
    typer.run(main)
