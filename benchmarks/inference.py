"""Serving, side by side in one run: all objects of a group for one user, and a million pairs, against the naive way.

    python benchmarks/inference.py --out results/speed/inference.json [--threads 1] [--repeats 5]

Histories hold 20 behaviors on a generated log; the model has the default sizes. Times are processor seconds of this
process, which on a busy machine say more than a clock; with one thread the two are the same on an idle one.

`ready` makes a `Ranker` (once for a model and a group), `later` ranks all objects for one more user, `anew` does
both, and `naive` gives each pair a sample of its own, so that the history is encoded for every
object; it is timed on some pairs and counted up to as many as the others score. The ways take turns.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from speed import uniform_log
from torch import Tensor

from atrank_lib import ATRank, EventLog
from atrank_lib.evaluation import evaluating
from atrank_lib.fast import speed_up
from atrank_lib.grouping import GroupedHistories
from atrank_lib.runs import train_run
from atrank_lib.samples import build_batch
from atrank_lib.serve.ranker import Ranker, moments
from atrank_lib.training import Recipe
from experiments.records import provenance, write_record

LENGTH, USERS, EACH = 20, 10_000, 100
OBJECTS = (1_000, 20_000, 200_000)
NAIVE = 4_096  # pairs that the naive way is timed on, in batches of 512


def seconds(work: Callable[[], Any]) -> float:
    """Processor seconds of some work."""
    began = time.process_time()
    work()
    return time.process_time() - began


def one_by_one(model: Any, histories: GroupedHistories, users: Tensor, objects: Tensor, now: int) -> Tensor:
    """Scores of pairs, each with a history of its own: all is encoded again for every pair."""
    scores = []
    with evaluating(model):
        for some, rows in zip(users.split(512), objects.split(512), strict=True):
            samples = moments(histories, "item", some, torch.full_like(some, now))
            scores.append(model(build_batch(histories, samples, rows[:, None])).scores[:, 0])
    return torch.cat(scores)


def peak_megabytes(work: Callable[[], Any]) -> float:
    """The most memory this process holds during some work (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
    work()
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found.group(1)) / 1024


def summed_up(times: list[float]) -> dict[str, float]:
    return {"seconds": statistics.median(times), "low": min(times), "high": max(times)}


def rank_all(objects: int, repeats: int) -> list[dict[str, Any]]:
    """All objects for one user, by each way."""
    histories = GroupedHistories.from_log(uniform_log(LENGTH, 1_000, objects))
    torch.manual_seed(0)
    model = speed_up(ATRank(histories.schema, histories.vocabularies))
    ranker = Ranker(model, histories, "item")
    some = torch.arange(min(NAIVE, objects))
    times: dict[str, list[float]] = {"ready": [], "first": [], "later": [], "anew": [], "naive": []}
    for turn in range(repeats):
        users = list(histories.user_ids[10 * turn : 10 * turn + 10])
        user = torch.full_like(some, histories.user(users[0]))
        fresh: list[Ranker] = []
        times["ready"].append(seconds(lambda fresh=fresh: fresh.append(Ranker(model, histories, "item"))))
        times["first"].append(seconds(lambda fresh=fresh, users=users: fresh[0].top(users[0])))
        times["later"].append(seconds(lambda users=users: [ranker.top(user) for user in users]) / len(users))
        times["anew"].append(seconds(lambda users=users: Ranker(model, histories, "item").top(users[0])))
        naive = seconds(lambda user=user: one_by_one(model, histories, user, some, ranker.now))
        times["naive"].append(naive * objects / len(some))
    rows = [{"objects": objects, "way": way, "repeats": repeats, **summed_up(found)} for way, found in times.items()]
    print("  ".join(f"{row['way']} {1e3 * row['seconds']:,.1f} ms" for row in rows), f"({objects:,} objects)")
    return rows


def score_pairs(log: EventLog, repeats: int) -> dict[str, Any]:
    """A million pairs: 100 objects for each of 10,000 users, in random order."""
    histories = GroupedHistories.from_log(log)
    torch.manual_seed(0)
    model = speed_up(ATRank(histories.schema, histories.vocabularies))
    users = torch.arange(len(histories)).repeat(EACH)[torch.randperm(len(histories) * EACH)]
    objects = torch.randint(len(histories.catalogs["item"]), users.shape)
    ranker = Ranker(model, histories, "item")
    tenth = len(users) // 10
    memory = {  # first of all: what is given back inside a process stays with it
        "before": peak_megabytes(lambda: None),
        "a_tenth": peak_megabytes(lambda: ranker.score(users[:tenth], objects[:tenth])),
        "all": peak_megabytes(lambda: ranker.score(users, objects)),
    }
    ours, naive = [], []
    for _ in range(repeats):
        ours.append(seconds(lambda: Ranker(model, histories, "item", objects).score(users, objects)))
        part = seconds(lambda: one_by_one(model, histories, users[:NAIVE], objects[:NAIVE], ranker.now))
        naive.append(part * len(users) / NAIVE)
    content = {
        "pairs": len(users),
        "users": len(histories),
        "objects": len(histories.catalogs["item"]),
        "ours": summed_up(ours),
        "naive": summed_up(naive),
        "ratio": statistics.median(n / o for n, o in zip(naive, ours, strict=True)),
        "peak_megabytes": memory,
        "largest_difference": float(
            (ranker.score(users[:NAIVE], objects[:NAIVE])
             - one_by_one(model, histories, users[:NAIVE], objects[:NAIVE], ranker.now)).abs().max()
        ),
    }  # fmt: skip
    print(content)
    return content


def command(log: EventLog, repeats: int) -> dict[str, float]:
    """Processor seconds of the whole command `atrank rank`, imports and reading the log included."""
    with tempfile.TemporaryDirectory() as place:
        data, run = Path(place) / "log", Path(place) / "run"
        log.write(data)
        train_run(log, run, recipe=Recipe(batch_size=32, epochs=1), max_steps=1, progress=False)
        line = [sys.executable, "-m", "atrank_lib", "rank", "--run", str(run), "--data", str(data)]
        times = []
        for _ in range(repeats):
            began = os.times()
            subprocess.run([*line, "--user", "7", "--group", "item"], check=True, stdout=subprocess.DEVNULL)
            ended = os.times()
            times.append(ended.children_user - began.children_user + ended.children_system - began.children_system)
    print(f"the whole command: {statistics.median(times):.2f} s")
    return summed_up(times)


def main(
    out: Annotated[Path, typer.Option(help="File for the numbers, with their provenance.")],
    threads: int = 1,
    repeats: int = 5,
) -> None:
    torch.set_num_threads(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    log = uniform_log(LENGTH, USERS, 20_000)
    content = {
        "pairs": score_pairs(log, repeats),
        "rows": [row for objects in OBJECTS for row in rank_all(objects, repeats)],
        "command": command(log, repeats),
        "history": LENGTH,
        "threads": threads,
        "repeats": repeats,
        **provenance(log),
    }
    write_record(out, content)


if __name__ == "__main__":
    typer.run(main)
