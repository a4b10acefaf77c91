"""The commands of the program `atrank`; `init`, which drafts a log, is `data_scripts.drafting.command`."""

import json
import re
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
import torch
import typer
from rich.table import Table

from atrank_book.page import browser_document, document_text, examples_of, some_samples
from atrank_lib.cli.output import print_rows, shown
from atrank_lib.heads import Context
from atrank_lib.log import EventLog, EventLogError, ShardedLog, check_moment, read_log
from atrank_lib.log.schema import key
from atrank_lib.log.writing import write_text
from atrank_lib.model import ATRank
from atrank_lib.negatives import NegativeKind
from atrank_lib.runs.config import MODELS, options_of
from atrank_lib.runs.folder import RunError
from atrank_lib.runs.run import load_run, train_run
from atrank_lib.samples import Protocol, split
from atrank_lib.scale.devices import Device, Execution, Precision
from atrank_lib.scale.processes import joined
from atrank_lib.serve.onnx_graph import export_onnx
from atrank_lib.serve.pairs import check_suffix, read_pairs, read_shown
from atrank_lib.serve.ranker import Ranker
from atrank_lib.training import RECIPES, RecipeName

DataOption = Annotated[Path, typer.Option("--data", metavar="DIR", help="Folder of an event log.")]
RunOption = Annotated[Path, typer.Option("--run", metavar="RUN", help="Folder that `atrank train` wrote.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
NegativesOption = Annotated[
    str | None,
    typer.Option(
        metavar="N|impressions[:N]", help="Objects beside each target: drawn from all, or what was shown then."
    ),
]
Ranking = Literal["dot", "mlp", "mmoe"]
AtOption = Annotated[int | None, typer.Option(help="Moment of ranking (timestamp); after the log by default.")]


def check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of an event log, with its schema.yaml.")],
) -> None:
    """Check an event log and sum it up. Every problem goes to stderr, one a line, and the exit code is 1."""
    try:
        log = read_log(folder)
        if isinstance(log, ShardedLog):
            log.check()
    except EventLogError as error:
        count = len(error.problems)
        plural = "s" if count > 1 else ""
        raise ValueError(f"{error}\n{folder}: {count:,} problem{plural}; rows count from 0") from None
    kind = f"event log in {log.shards} shards" if isinstance(log, ShardedLog) else "event log"
    typer.echo(f"{log.schema.name}: a valid {kind}, fingerprint {log.fingerprint()}")
    summary = log.summary()
    table = Table("")  # a row for each column: few groups and many features make a narrow table
    for group in summary.index:
        table.add_column(shown(group), justify="right", overflow="fold")
    print_rows(table, ((name, *map(_cell, row)) for name, row in summary.items()))


def _cell(value: Any) -> str:
    if pd.isna(value):
        return "-"
    if isinstance(value, float):
        return f"{value:,.1f}"
    return f"{value:,}" if not isinstance(value, str) else value


def train(
    data: DataOption,
    out: Annotated[Path, typer.Option("--out", metavar="RUN", help="Folder for the trained run.")],
    model: Annotated[str, typer.Option(help=f"Which model: {', '.join(MODELS)}.")] = "atrank",
    targets: Annotated[str | None, typer.Option(help="Groups to predict, such as item,query; all by default.")] = None,
    histories: Annotated[str | None, typer.Option(help="Groups a history may hold; all by default.")] = None,
    protocol: Annotated[Protocol, typer.Option(help="What trains, validates, tests.")] = "validated",
    recipe: Annotated[RecipeName, typer.Option(help="Optimizer, its settings, and sizes to go with them.")] = "modern",
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of the recipe's.")] = None,
    max_steps: Annotated[int | None, typer.Option(min=1, help="Stop after this many steps.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Instead of the recipe's.")] = None,
    negatives: NegativesOption = None,
    ranking: Annotated[
        Ranking, typer.Option(help="f: inner product, a network, or experts; context is read by these.")
    ] = "dot",
    seed: Annotated[int, typer.Option(min=0, help="All randomness follows from it.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last complete epoch in RUN.")] = False,
    threads: Annotated[
        int | None, typer.Option("--threads", "--workers", min=1, help="Of a CPU; as many as it has cores by default.")
    ] = None,
    device: Annotated[Device, typer.Option(help="auto: a GPU where there is one.")] = "cpu",
    precision: Annotated[Precision, typer.Option(help="Of the forward pass; weights stay float32.")] = "float32",
    compiled: Annotated[bool, typer.Option("--compile", help="Compile the dense layers; for GPUs.")] = False,
) -> None:
    """Train a model on an event log. RUN gets config.json, metrics.json, model.safetensors and the checkpoints.

    Under `torchrun --nproc_per_node N -m atrank_lib train ...` N processes share every batch.
    """
    changes: dict[str, Any] = {"epochs": epochs, "batch_size": batch_size}
    changes = {name: value for name, value in changes.items() if value is not None}
    if negatives is not None:
        changes["negative_kind"], changes["negatives"] = _beside(negatives)
    on = Execution(device=device, precision=precision, compiled=compiled)
    with ExitStack() as undo:
        undo.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(threads or torch.get_num_threads())
        processes = undo.enter_context(joined(on))
        result = train_run(
            read_log(data),
            out,
            model=model,
            options=options_of(model, recipe) | ({"ranking": ranking} if ranking != "dot" else {}),
            targets=_names(targets),
            histories=_names(histories),
            protocol=protocol,
            recipe=RECIPES[recipe].model_copy(update=changes),
            seed=seed,
            max_steps=max_steps,
            resume=resume,
            on=on,
            processes=processes,
        )
    if not processes.first:
        return
    for entry in result.epochs:
        auc = entry["validation_auc"]
        typer.echo(
            f"epoch {entry['epoch']:>3}  loss {entry['loss']:.4f}  "
            + (f"validation AUC {auc:.4f}  " if auc is not None else "")
            + f"{entry['samples_per_second']:,.0f} samples/s"
        )
    typer.echo(f"best epoch {result.best_epoch}; the run is in {out}")


def _beside(text: str) -> tuple[NegativeKind, int | None]:
    """Kind and number of negatives, from the text of an option."""
    found = re.fullmatch(r"impressions|(?:impressions:)?([1-9][0-9]*)", text)
    if found is None:
        raise ValueError(f"--negatives {text}: write a number of at least 1, impressions, or impressions:5")
    return "impressions" if text[0] == "i" else "uniform", int(found[1]) if found[1] else None


def _names(text: str | None) -> list[str] | None:
    """`item,query` as a list; None stays None (all groups)."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def evaluate(
    run: RunOption,
    data: DataOption,
    negatives: NegativesOption = "1",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the negatives.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Average user AUC of a run on the test samples of a log, with a 95 % bootstrap interval over users."""
    kind, count = _beside(negatives or "1")
    result = load_run(run).evaluate(read_log(data), negatives=count, seed=seed, kind=kind)
    if as_json:
        typer.echo(json.dumps(result.as_dict()))
        return
    low, high = result.ci95
    typer.echo(f"average user AUC {result.average_user_auc:.4f} (95 % interval {low:.4f} to {high:.4f})")
    beside = "against all that was shown beside" if count is None else f"{count} negatives each"
    typer.echo(f"{result.users:,} users, {result.skipped_users:,} skipped, {beside}")
    for name, auc in result.targets.items():
        typer.echo(f"  {name}: {auc:.4f}")


def rank(
    run: RunOption,
    data: DataOption,
    user: Annotated[str, typer.Option(metavar="ID", help="A user of the log.")],
    group: Annotated[str, typer.Option(help="Rank the objects of this group.")],
    top: Annotated[int, typer.Option(min=1, help="How many objects.")] = 10,
    at: AtOption = None,
    include_seen: Annotated[bool, typer.Option("--include-seen", help="Also objects the user touched.")] = False,
    as_shown: Annotated[
        Path | None,
        typer.Option("--shown", metavar="FILE", help="Rank this list: object_id and context, Parquet or CSV."),
    ] = None,
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
    if as_shown is None:
        best = ranker.top(user, top, at=at, include_seen=include_seen)
        if any(isinstance(part, Context) and key(group) in part.groups for part in trained.model.modules()):
            missing = ", ".join(log.schema.groups[group].context)
            typer.echo(f"ranked without {missing}, which --shown FILE would tell", err=True)
    else:
        best = ranker.shown(user, read_shown(as_shown, histories, group), at=at).head(top)
    done = time.perf_counter()
    if as_json:
        typer.echo(best.to_json(orient="records"))
        return
    described = best.merge(histories.tables[group], on="object_id", how="left")
    took = f"the objects' side {1e3 * (ready - began):,.0f} ms, then {1e3 * (done - ready):,.0f} ms a user"
    caption = f"{len(ranker.objects):,} objects: {took}" if timing else None
    print_rows(Table(*map(shown, described.columns), caption=caption), described.itertuples(index=False))


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


def export(
    run: RunOption,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="File to write.")],
    file_format: Annotated[
        Literal["browser", "onnx"],
        typer.Option("--format", help="browser: JSON for the book's live model; onnx: a graph for one user."),
    ],
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="browser: event log with the objects and examples.")
    ] = None,
    examples: Annotated[int, typer.Option(min=0, help="browser: how many histories of the test samples.")] = 6,
    target: Annotated[str | None, typer.Option(metavar="GROUP", help="onnx: group of the candidates.")] = None,
) -> None:
    """Write a trained ATRank for a web page, or as an ONNX graph. FILE appears complete or not at all."""
    trained = load_run(run)
    model = trained.model
    if not isinstance(model, ATRank):
        raise RunError(f"a run of model {trained.config.model!r} cannot be exported; only 'atrank' can")
    if file_format == "onnx":
        export_onnx(model, one_target(trained.config.targets, target, "--target"), out)
    elif data is None:
        raise ValueError("a page needs objects to rank: name an event log with --data")
    else:
        histories = trained.histories_of(EventLog.read(data))
        test = split(histories, trained.config.protocol, trained.config.targets).test
        found = [e for s in some_samples(test, examples) for e in examples_of(histories, s, model.histories)]
        write_text(out, document_text(browser_document(model, histories, found)) + "\n")
    typer.echo(f"{out}: {out.stat().st_size:,} bytes")


def one_target(targets: Sequence[str], group: str | None, option: str) -> str:
    """The group that the option names, or the run's one target."""
    if group is None and len(targets) > 1:
        raise ValueError(f"the run has several target groups: choose one with {option}: {', '.join(targets)}")
    return targets[0] if group is None else group
