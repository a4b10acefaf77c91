"""Ten million behaviors on four cores within 8 GB: simulated, checked, sharded, trained for one epoch, evaluated.

    python benchmarks/ten_million.py --folder FOLDER --out results/speed/ten_million.json

Every step is a command of its own, as a reader would type it, and its time and peak memory are watched from outside.
The log and the run stay in FOLDER (about 1 GB). `--users 2500` tries the same with a hundredth of it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from _memory import watch

from atrank_lib.log.sharded import ShardedLog
from atrank_lib.runs import hardware, versions
from experiments.provenance import commit
from experiments.records import write_record

LIMIT_GB = 8.0
BATCH = 512  # steps of the recipe's 128 are so many that starting each takes longer than computing it


def main(
    folder: Annotated[Path, typer.Option(help="Where the logs and the run go; an empty or a new folder.")],
    out: Annotated[Path, typer.Option(help="File for the numbers, with their provenance.")],
    users: Annotated[int, typer.Option(help="Number of users, of 40 behaviors on average.")] = 250_700,
    shards: Annotated[int, typer.Option(help="Number of shards.")] = 16,
    threads: Annotated[int, typer.Option(help="Threads of torch.")] = 4,
    seed: Annotated[int, typer.Option(help="Seed of the marketplace and of training.")] = 0,
) -> None:
    """Run the whole chain once, print a line for each step, and record them all."""
    if folder.exists() and any(folder.iterdir()):
        raise typer.BadParameter(f"{folder} is not empty; name a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    whole, sharded, run = (str(folder / name) for name in ("log", "sharded", "run"))
    result = str(folder / "evaluation.json")
    recipe = ["--recipe", "small", "--batch-size", BATCH, "--epochs", 1]
    steps: dict[str, list[object]] = {
        "simulate": ["data_scripts.simulate", "--users", users, "--seed", seed, "--out", whole],
        "check": ["atrank_lib", "check", whole],
        "shard": ["data_scripts.shard", "--data", whole, "--out", sharded, "--shards", shards],
        "check the shards": ["atrank_lib", "check", sharded],
        "train one epoch": ["atrank_lib", "train", "--data", sharded, "--out", run, *recipe, "--seed", seed],
        "evaluate": ["experiments", "record", "--run", run, "--data", sharded, "--out", result],
    }
    env = os.environ | {"OMP_NUM_THREADS": str(threads)}
    rows: dict[str, dict[str, Any]] = {}
    for name, command in steps.items():
        rows[name] = watch([sys.executable, "-m", *map(str, command)], env).as_dict()
        typer.echo(f"{name}: {json.dumps(rows[name])}")
    log = ShardedLog.read(sharded)
    total = log.summary().loc["all groups"]
    trained = json.loads((Path(run) / "metrics.json").read_text(encoding="utf-8"))["epochs"][0]
    evaluated = json.loads(Path(result).read_text(encoding="utf-8"))
    truth = json.loads((Path(whole) / "truth" / "truth.json").read_text(encoding="utf-8"))
    peak = max(row["peak_gb"] for row in rows.values())
    content = {
        "kind": "ten million",
        "data_name": log.schema.name,
        "data_fingerprint": log.fingerprint(),
        "behaviors": int(total["behaviors"]),
        "users": int(total["users"]),
        "shards": shards,
        "threads": threads,
        "batch": BATCH,
        "seed": seed,
        "steps": rows,
        "peak_gb": peak,
        "limit_gb": LIMIT_GB,
        "epoch": {name: trained[name] for name in ("samples", "steps", "loss", "validation_auc", "samples_per_second")},
        "test": {name: evaluated[name] for name in ("average_user_auc", "ci95", "users", "targets")},
        "best_auc": truth["best_auc"],
        "commit": commit(Path.cwd()),
        "versions": versions(),
        "hardware": hardware(),
    }
    write_record(out, content)
    typer.echo(f"{content['behaviors']:,} behaviors: at most {peak} GB of {LIMIT_GB}")
    if peak > LIMIT_GB:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
