"""Everything side by side: `atrank_lib`, ATRank in plain PyTorch, other libraries, and what the machine could do.

    make bench [DATA=LOG]
    python -m benchmarks.bench [--data LOG] [--only 32-50-full,epoch] [--threads 2] [--repeats 3]

Every contender has a process of its own with the same number of threads. All are warmed up and then take turns, a
repeat each, so that a slow minute of the machine hits all of them; medians are compared. On generated samples a
contender trains for about `--seconds` in each repeat. `epoch` is a real epoch of the log at `--data`, in batches as
each library's own loader makes them, histories cut at 50; who would need more than `--epoch-seconds` for it trains on
as many samples, by chance, as fit in that time.

A sample is a history and what followed it. Our models and the plain one score a negative beside it. Other libraries
score one target a row: generated samples are a row each, positives and negatives in turn, their batches are ready
before the clock starts, and those of `atrank_lib` are made while it runs; samples of the log are two rows each.

Settings that an earlier run recorded at the same commit, on the same machine, are kept.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from tqdm import tqdm

from atrank_lib import EventLog
from atrank_lib.runs import hardware, versions
from benchmarks import ceiling
from benchmarks.bench_figure import draw
from benchmarks.ours import OURS, samples_of, work_of
from benchmarks.speed import MALLOC
from benchmarks.work import Setting
from benchmarks.worker import PEERS
from experiments.provenance import commit
from experiments.records import read_record, write_record

ROOT = Path(__file__).resolve().parents[1]
PLAIN = ["plain-default", "plain"]  # with the allocator as it comes, and as all others have it
CONTENDERS = [*PLAIN, *OURS, *PEERS]
SHAPES = list(itertools.product((32, 1024), (20, 50), ("full", "ragged")))
EPOCH, EPOCH_BATCH, EPOCH_LENGTH = "epoch", 512, 50
SETTINGS = [f"{batch}-{length}-{kind}" for batch, length, kind in SHAPES]
GENERATED = {"data_name": "generated samples", "data_fingerprint": "seed 0"}
KINDS = {**dict.fromkeys(PLAIN, "atrank"), **{name: how.model for name, how in OURS.items()}}
KINDS |= {name: name.partition("-")[2] for name in PEERS}


class WorkerError(RuntimeError):
    """A contender's process ended before it answered."""


def keeps_memory(name: str) -> bool:
    """Whether a contender runs with the allocator's settings (`benchmarks.speed.MALLOC`)."""
    return OURS[name].malloc if name in OURS else name != "plain-default"


class Worker:
    """A contender in a process of its own (`benchmarks.worker`)."""

    def __init__(self, name: str, python: str, threads: int) -> None:
        self.name = name
        self.messages = tempfile.TemporaryFile("w+")  # noqa: SIM115  (open as long as the process runs)
        self.process = subprocess.Popen(
            [python, "-m", "benchmarks.worker", name, "--threads", str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.messages,
            text=True,
            cwd=ROOT,
            env=os.environ | (MALLOC if keeps_memory(name) else {}) | {"OMP_NUM_THREADS": str(threads)},
        )

    def send(self, request: Any) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # `answer` says so

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            status = self.process.wait()
            self.messages.seek(0)
            raise WorkerError(f"{self.name} ended with status {status}:\n{self.messages.read()[-2_000:]}")
        return json.loads(line)

    def train(self, samples: int) -> dict[str, Any]:
        self.send(samples)
        return self.answer()

    def close(self) -> None:
        """End it; what it forked ends with its input."""
        self.process.kill()
        self.process.communicate()
        self.messages.close()


def measure(
    setting: Setting, workers: list[Worker], seconds: float, repeats: int
) -> tuple[list[dict[str, Any]], list[str]]:
    """One row for each contender, and the names of those that failed."""
    failed: list[str] = []

    def each(what: Any) -> None:
        for worker in [w for w in workers if w.name not in failed]:
            try:
                what(worker)
            except WorkerError as error:
                print(error, file=sys.stderr)
                failed.append(worker.name)

    available, enough = {}, {}
    answers: dict[str, list[dict[str, Any]]] = {worker.name: [] for worker in workers}
    for worker in workers:
        worker.send(vars(setting))  # all prepare at the same time

    def prepare(worker: Worker) -> None:
        available[worker.name] = worker.answer()["samples"]

    def warm_up(worker: Worker) -> None:
        worker.train(2 * setting.batch)
        found = worker.train(2 * setting.batch)
        samples = int(found["samples"] / found["seconds"] * seconds) // setting.batch * setting.batch
        enough[worker.name] = max(2 * setting.batch, samples)
        if setting.real:
            enough[worker.name] = min(enough[worker.name], available[worker.name])

    def repeat(worker: Worker) -> None:
        answers[worker.name].append(worker.train(enough[worker.name]))

    each(prepare)
    each(warm_up)
    for _ in range(repeats):
        each(repeat)
    for worker in workers:
        worker.send(0)
    rows = []
    for name, found in answers.items():
        if name in failed:
            continue
        rates = [answer["samples"] / answer["seconds"] for answer in found]
        rows.append(
            {
                "setting": setting.name,
                "contender": name,
                "samples_per_second": statistics.median(rates),
                "low": min(rates),
                "high": max(rates),
                "repeats": repeats,
                "samples": found[0]["samples"],
                "cpu_ms_per_sample": statistics.median(1e3 * a["cpu_seconds"] / a["samples"] for a in found),
                "peak_mb": found[-1]["peak_mb"],
            }
        )
        if setting.real:
            rows[-1]["share_of_epoch"] = found[0]["samples"] / available[name]
            rows[-1]["epoch_seconds"] = available[name] / rows[-1]["samples_per_second"]
    return rows, failed


def shape_of(setting: Setting) -> tuple[int, int]:
    """Batch, and the length of its histories; that of a log is its mean."""
    return setting.batch, round(float(setting.work().lengths.mean())) if setting.real else setting.length


def shares(rows: list[dict[str, Any]], setting: Setting, limits: list[dict[str, float]], threads: int) -> None:
    """Add the share of the ceiling; other libraries' models differ in their details, so theirs are not counted."""
    limit = next(row for row in limits if shape(row) == (threads, *shape_of(setting)))
    for row in rows:
        count = ceiling.FLOPS.get(KINDS[row["contender"]])
        if count is not None and row["contender"] not in PEERS:
            operations = ceiling.TRAINING * float(count(setting.work().lengths).mean())
            row["training_mflop"] = operations / 1e6
            limit_flops = 1e9 * max(limit["layer"], limit["kernel"])
            row["share_of_ceiling"] = row["samples_per_second"] * operations / limit_flops


def tables(rows: list[dict[str, Any]]) -> str:
    """What was measured, as text."""
    frame = pd.DataFrame(rows)
    order = list(dict.fromkeys(frame["setting"]))
    names = [name for name in CONTENDERS if name in set(frame["contender"])]
    parts = []
    for column, title, digits in (
        ("samples_per_second", "samples per second", 0),
        ("peak_mb", "peak memory, MB", 0),
        ("share_of_ceiling", "share of the machine's matrix products", 3),
        ("epoch_seconds", "seconds for the epoch", 1),
    ):
        if column in frame:
            table = frame.pivot(index="contender", columns="setting", values=column).reindex(index=names, columns=order)
            table = table.dropna(how="all").dropna(axis=1, how="all").round(digits)
            parts.append(f"{title}\n{table.to_string(na_rep='')}")
    return "\n\n".join(parts)


def shape(row: dict[str, float]) -> tuple[float, float, float]:
    return row["threads"], row["batch"], row["length"]


def merged(old: dict[str, Any], new: dict[str, Any], out: Path) -> dict[str, Any]:
    """The record with what an earlier run measured under the same conditions.

    Raises:
        ValueError: the conditions differ.
    """
    for part in ("threads", "commit", "versions", "hardware", "environment"):
        if old.get(part) != new[part]:
            raise ValueError(
                f"{out} was recorded with {part} {old.get(part)!r}, not {new[part]!r}; choose another --out"
            )
    again = {shape(row) for row in new["ceiling"]}
    measured = {(row["setting"], row["contender"]) for row in new["rows"]}
    kept = [row for row in old["rows"] if (row["setting"], row["contender"]) not in measured]
    place = {name: i for i, name in enumerate([*SETTINGS, EPOCH])}
    rank = {name: i for i, name in enumerate(CONTENDERS)}
    rows = sorted([*kept, *new["rows"]], key=lambda row: (place[row["setting"]], rank[row["contender"]]))
    data = {part: (old if new[part] == GENERATED[part] else new)[part] for part in GENERATED}
    return {
        **new,
        **data,
        "libraries": {**old["libraries"], **new["libraries"]},
        "ceiling": [*[row for row in old["ceiling"] if shape(row) not in again], *new["ceiling"]],
        "rows": rows,
    }


def main(
    out: Annotated[Path, typer.Option(help="File for the numbers, with their provenance; the figure lies beside it.")],
    data: Annotated[Path | None, typer.Option(help="Folder of an event log with one group, for the epoch.")] = None,
    only: Annotated[str, typer.Option(help=f"Some of {', '.join(SETTINGS)}, {EPOCH}.")] = "",
    contenders: Annotated[str, typer.Option(help=f"Some of {', '.join(CONTENDERS)}.")] = "",
    peers_python: Annotated[Path | None, typer.Option(help="Python with `benchmarks/peers/requirements.txt`.")] = None,
    threads: Annotated[int, typer.Option(help="Of every contender; all cores by default.")] = os.cpu_count() or 1,
    repeats: int = 3,
    seconds: Annotated[float, typer.Option(help="Of a repeat on generated samples.")] = 0.7,
    epoch_seconds: Annotated[float, typer.Option(help="Of a repeat of the epoch, at most.")] = 20,
    epoch_repeats: int = 2,
    quick: Annotated[bool, typer.Option(help="One short repeat of everything: does it run?")] = False,
) -> None:
    """Measure all contenders under all settings."""
    if quick:
        repeats, seconds, epoch_seconds, epoch_repeats = 1, 0.1, 1, 1
    names = contenders.split(",") if contenders else CONTENDERS
    chosen = only.split(",") if only else [*SETTINGS, EPOCH]
    for kind, given, known in (("contender", names, CONTENDERS), ("setting", chosen, [*SETTINGS, EPOCH])):
        if unknown := [name for name in given if name not in known]:
            raise typer.BadParameter(f"{kind} {unknown[0]!r}; use some of {', '.join(known)}")
    if peers_python is None and (left_out := [name for name in names if name in PEERS]):
        print(f"left out, for they need --peers-python (`make bench` gives it): {', '.join(left_out)}")
        names = [name for name in names if name not in PEERS]
    if data is None and EPOCH in chosen:
        print("left out, for it needs --data: the real epoch")
        chosen.remove(EPOCH)
    if not names or not chosen:
        raise typer.BadParameter("nothing is left to measure")
    record: dict[str, Any] = {
        "kind": "benchmark",
        **GENERATED,
        "threads": threads,
        "environment": MALLOC,
        "commit": commit(Path.cwd()),
        "versions": versions(),
        "hardware": hardware(),
        "libraries": {},
        "ceiling": [],
        "rows": [],
    }
    if out.exists():
        merged(read_record(out), record, out)  # before hours are spent: may it be added to?
    with tempfile.TemporaryDirectory() as folder:
        work = [
            Setting(f"{batch}-{length}-{kind}", batch, length, kind == "ragged")
            for batch, length, kind in SHAPES
            if f"{batch}-{length}-{kind}" in chosen
        ]
        if EPOCH in chosen and data is not None:
            file = Path(folder) / "work.npz"
            log = EventLog.read(data)
            work_of(*samples_of(log), EPOCH_LENGTH).save(file)
            work.append(Setting(EPOCH, EPOCH_BATCH, EPOCH_LENGTH, file=str(file), log=str(data.resolve())))
            record |= {"data_name": log.schema.name, "data_fingerprint": log.fingerprint()}
        record["ceiling"] = ceiling.measure(sorted({shape_of(setting) for setting in work}), threads)
        print(pd.DataFrame(record["ceiling"]).round(1).to_string(index=False))
        everybody = [Worker(name, str(peers_python) if name in PEERS else sys.executable, threads) for name in names]
        workers, broken = list(everybody), []
        try:
            for worker in everybody:
                try:
                    if found := worker.answer()["versions"]:
                        record["libraries"][worker.name] = found
                except WorkerError as error:
                    print(error, file=sys.stderr)
                    broken.append(worker.name)
                    workers.remove(worker)
            for setting in tqdm(work, desc="settings"):
                real = (epoch_seconds, epoch_repeats) if setting.real else (seconds, repeats)
                rows, failed = measure(setting, workers, *real)
                shares(rows, setting, record["ceiling"], threads)
                broken += failed
                workers = [worker for worker in workers if worker.name not in failed]
                record["rows"] += rows
                whole = merged(read_record(out), record, out) if out.exists() else record
                write_record(out, whole)
        finally:
            for worker in everybody:
                worker.close()
    print(tables(whole["rows"]))
    draw(whole["rows"], KINDS, set(OURS), out.with_suffix(".svg"))
    if broken:
        print(f"failed: {', '.join(broken)}", file=sys.stderr)
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
