"""`atrank score`: the scores of a file of pairs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import torch
import typer

from atrank_lib.cli.shared import AtOption, DataOption, RunOption, one_target
from atrank_lib.log.events import EventLog
from atrank_lib.log.extent import check_moment
from atrank_lib.runs.run import load_run
from atrank_lib.serve.pairs import check_suffix, read_pairs
from atrank_lib.serve.ranker import Ranker


def score(
    run: RunOption,
    data: DataOption,
    pairs: Annotated[
        Path,
        typer.Option(metavar="FILE", help="Parquet or CSV: user_id, object_id and, if wanted, timestamp (the moment)."),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Parquet or CSV: the same rows and their score.")],
    group: Annotated[str | None, typer.Option(help="Group of the objects; by default the run's one target.")] = None,
    at: AtOption = None,
) -> None:
    """Score pairs of users and objects. Histories are encoded once each; FILE appears complete or not at all."""
    check_suffix(out)
    trained = load_run(run)
    target = one_target(trained.config.targets, group, "--group")
    log = EventLog.read(data)
    if at is not None:
        check_moment(at, log.schema, log.extents()[None])
    histories = trained.histories_of(log)
    asked = read_pairs(pairs, histories, target)
    if asked.times is not None and at is not None:
        raise ValueError(f"{pairs} has a column timestamp, the moment of each pair: leave --at out, or the column")
    times = asked.times if at is None else torch.full_like(asked.users, at)
    began = time.perf_counter()
    scores = Ranker(trained.model, histories, target, asked.objects).score(asked.users, asked.objects, times)
    seconds = time.perf_counter() - began
    asked.write(out, scores)
    typer.echo(f"{out}: {len(asked):,} pairs, scored in {seconds:.2f} s")
