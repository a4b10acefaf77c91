"""`atrank rank`: the best objects for a user."""

from __future__ import annotations

import time
from typing import Annotated

import typer
from rich.table import Table

from atrank_lib.cli.shared import AtOption, DataOption, JsonOption, RunOption, print_rows, shown
from atrank_lib.log.extent import check_moment
from atrank_lib.log.sharded import ShardedLog, read_log
from atrank_lib.runs.run import load_run
from atrank_lib.serve.ranker import Ranker


def rank(
    run: RunOption,
    data: DataOption,
    user: Annotated[str, typer.Option(metavar="ID", help="A user of the log.")],
    group: Annotated[str, typer.Option(help="Rank the objects of this group.")],
    top: Annotated[int, typer.Option(min=1, help="How many objects.")] = 10,
    at: AtOption = None,
    include_seen: Annotated[bool, typer.Option("--include-seen", help="Also objects the user touched.")] = False,
    timing: Annotated[bool, typer.Option("--timing", help="Say below the table how long ranking took.")] = False,
    as_json: JsonOption = False,
) -> None:
    """The top objects of a group for one user."""
    trained = load_run(run)
    whole = read_log(data)
    log = whole.of_user(user) if isinstance(whole, ShardedLog) else whole
    if at is not None:
        check_moment(at, log.schema, log.extents()[None])
    histories = trained.histories_of(log)
    began = time.perf_counter()
    ranker = Ranker(trained.model, histories, group)
    ready = time.perf_counter()
    best = ranker.top(user, top, at=at, include_seen=include_seen)
    done = time.perf_counter()
    if as_json:
        typer.echo(best.to_json(orient="records"))
        return
    described = best.merge(histories.tables[group], on="object_id", how="left")
    took = f"the objects' side {1e3 * (ready - began):,.0f} ms, then {1e3 * (done - ready):,.0f} ms a user"
    caption = f"{len(ranker.objects):,} objects: {took}" if timing else None
    print_rows(Table(*map(shown, described.columns), caption=caption), described.itertuples(index=False))
