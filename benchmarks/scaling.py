"""What processes, threads and compilation give: samples per second of training, side by side in one run.

    python benchmarks/scaling.py --data LOG --out results/speed/scaling.json [--sizes 32,512,1024] [--repeats 3]

Every row is one way to use the cores: N processes of one thread each, one process of N threads, or one thread and
compiled layers. All train the same fresh ATRank with the recipe `modern` on some samples of the log: the second epoch
is timed, batches included, reading the log, starting up and compiling excluded. The ways take turns, a repeat each, so
that a slow minute of the machine hits all of them; medians are compared.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, NamedTuple

import torch
import typer
from tqdm import tqdm

from atrank_lib import ATRank, ATRankConfig, EventLog, fit
from atrank_lib.fast import speed_up
from atrank_lib.log.writing import write_text
from atrank_lib.runs import OPTIONS
from atrank_lib.runs.run import RunSteps
from atrank_lib.samples import Split, prepare
from atrank_lib.scale.devices import Execution
from atrank_lib.scale.processes import joined
from atrank_lib.training import RECIPES
from experiments.records import provenance, write_record


class Way(NamedTuple):
    """How the cores are used."""

    processes: int
    threads: int
    compiled: bool = False


WAYS = (Way(1, 1), Way(2, 1), Way(4, 1), Way(1, 2), Way(1, 4), Way(1, 1, True))
SAMPLES = 4_096  # of every target group, in an epoch


def measure(data: Path, sizes: list[int], way: Way, out: Path) -> None:
    """One process of a way: steps of every batch size, timed from the moment when all are ready."""
    torch.set_num_threads(way.threads)
    on = Execution(compiled=way.compiled)
    histories, split = prepare(EventLog.read(data), "validated")
    found = {}
    with joined(on) as processes:
        for size in sizes:
            recipe = RECIPES["modern"].model_copy(update={"batch_size": size, "epochs": 2})
            torch.manual_seed(0)
            some = {name: part[torch.randperm(len(part))[:SAMPLES]] for name, part in split.train.items()}
            model = speed_up(ATRank(histories.schema, histories.vocabularies, ATRankConfig(**OPTIONS["modern"])))
            steps = partial(RunSteps, on=on, processes=processes)
            # the first epoch warms up, and compiles
            entry = fit(model, histories, Split(some, {}, {}), recipe, progress=False, steps=steps).epochs[1]
            found[size] = {name: entry[name] for name in ("samples_per_second", "cpu_seconds", "samples")}
        if processes.first:
            write_text(out, json.dumps(found))


def main(
    data: Annotated[Path, typer.Option(help="Folder of an event log.")],
    out: Annotated[Path, typer.Option(help="File for the numbers, with their provenance.")],
    sizes: Annotated[str, typer.Option(help="Batch sizes, of all processes together.")] = "32,512,1024",
    repeats: Annotated[int, typer.Option(min=1)] = 3,
    way: Annotated[str, typer.Option(hidden=True, help="Measure this way, in a process of its own.")] = "",
) -> None:
    wanted = [int(size) for size in sizes.split(",")]
    if way:
        processes, threads, compiled = map(int, way.split(","))
        return measure(data, wanted, Way(processes, threads, bool(compiled)), out)
    found: dict[tuple[Way, int], list[dict[str, float]]] = {(w, size): [] for w in WAYS for size in wanted}
    began = time.perf_counter()
    with TemporaryDirectory() as folder, tqdm(total=repeats * len(WAYS), desc="ways") as bar:
        for _ in range(repeats):
            for w in WAYS:
                single = Path(folder) / "way.json"
                command = [__file__, "--data", str(data), "--out", str(single), "--sizes", sizes]
                command += ["--way", ",".join(str(int(value)) for value in w)]
                launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(w.processes)]
                alone = w.processes == 1
                environment = os.environ | {"OMP_NUM_THREADS": str(w.threads), "PYTHONPATH": str(Path.cwd())}
                subprocess.run([sys.executable, *([] if alone else launcher), *command], check=True, env=environment)
                for size, numbers in json.loads(single.read_text()).items():
                    found[w, int(size)].append(numbers)
                bar.update()
    rows = []
    for (w, size), numbers in found.items():
        speeds = [n["samples_per_second"] for n in numbers]
        cpu = statistics.median(n["cpu_seconds"] / n["samples"] for n in numbers)
        rows.append(
            w._asdict()
            | {"batch": size, "samples_per_second": statistics.median(speeds), "low": min(speeds), "high": max(speeds)}
            | {"cpu_milliseconds_per_sample": 1_000 * cpu, "repeats": len(speeds)}
        )
        print(f"{w} batch {size}: {rows[-1]['samples_per_second']:,.0f} samples/s")
    model = {"options": OPTIONS["modern"], "recipe": RECIPES["modern"].model_dump(mode="json")}
    content = {"kind": "scaling", "rows": rows, **model, "wall_seconds": time.perf_counter() - began}
    write_record(out, {**content, **provenance(EventLog.read(data))})
    return None


if __name__ == "__main__":
    typer.run(main)
