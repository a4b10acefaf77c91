"""`atrank evaluate`: how good is a run?"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from atrank_lib.cli.shared import DataOption, JsonOption, RunOption
from atrank_lib.log.sharded import read_log
from atrank_lib.runs.run import load_run


def evaluate(
    run: RunOption,
    data: DataOption,
    negatives: Annotated[int, typer.Option(min=1, help="Negatives drawn for each test behavior.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the negatives.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Average user AUC of a run on the test samples of a log, with a 95 % bootstrap interval over users."""
    result = load_run(run).evaluate(read_log(data), negatives=negatives, seed=seed)
    if as_json:
        typer.echo(json.dumps(result.as_dict()))
        return
    low, high = result.ci95
    typer.echo(f"average user AUC {result.average_user_auc:.4f} (95 % interval {low:.4f} to {high:.4f})")
    typer.echo(f"{result.users:,} users, {result.skipped_users:,} skipped, {negatives} negatives each")
    for name, auc in result.targets.items():
        typer.echo(f"  {name}: {auc:.4f}")
