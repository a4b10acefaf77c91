"""The command line of `python -m experiments`: the paper's tables and figures, on any event log."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import torch
import typer
from atrank_lib.recipes import RecipeName
from tqdm import tqdm

from atrank_lib import interpret
from atrank_lib.cli.errors import plain_errors
from atrank_lib.evaluation import evaluate
from atrank_lib.log.events import EventLog
from atrank_lib.log.sharded import read_log
from atrank_lib.log.writing import write_text, writing_file
from atrank_lib.model import ATRank
from atrank_lib.runs import MODELS, Run, load_run
from atrank_lib.samples import split
from experiments import reproduce as tables
from experiments import reproduce_modes as by_mode
from experiments.records import provenance, read_record, record_run, slug, write_record
from experiments.search import search as search_model
from experiments.search import some_users

app = typer.Typer(no_args_is_help=True, help="The paper's tables and figures, on any event log.")

Data = Annotated[Path, typer.Option("--data", metavar="DIR", help="Folder of an event log.")]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="Where records are kept.")]
Models = Annotated[str, typer.Option(help="Names separated by commas, or 'all'.")]
Workers = Annotated[int, typer.Option(min=1, help="Processes, of one thread each.")]
RESULTS, CORES = Path("results"), os.cpu_count() or 1


def _show(table: pd.DataFrame) -> None:
    typer.echo(table.to_string(na_rep="-", float_format=lambda value: f"{value:.4f}"))


def _names(text: str, everything: list[str]) -> list[str]:
    return everything if text == "all" else [name.strip() for name in text.split(",") if name.strip()]


@app.command()
@plain_errors()
def record(
    run: Annotated[Path, typer.Option("--run", metavar="RUN", help="Folder that `atrank train` wrote.")],
    data: Data,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Record to write, as JSON.")],
) -> None:
    """Evaluate a run and write the result with its provenance: the records of chapter 6."""
    trained, log = load_run(run), read_log(data)
    record_run(run, trained.config, log, trained.evaluate(log), out)
    typer.echo(f"{out}: recorded")


@app.command()
@plain_errors()
def table1(data: Data) -> None:
    """Users, items, categories and samples of a log, beside the paper's Table 1."""
    summary = EventLog.read(data).summary()
    _show(summary)
    columns = ["# Users", "# Items", "# Cates", "# Samples"]
    typer.echo("\nThe paper's Table 1:")
    typer.echo(pd.DataFrame.from_dict(tables.PAPER_TABLE_1, orient="index", columns=columns).to_string())


@app.command()
@plain_errors()
def table2(data: Data) -> None:
    """Users, objects of every group and behaviors a user, beside the paper's Table 2."""
    _show(EventLog.read(data).summary())
    typer.echo("\nThe paper's Table 2:")
    typer.echo(pd.Series(tables.PAPER_TABLE_2).to_string())


@app.command()
@plain_errors()
def search(
    data: Data,
    models: Models = "all",
    trials: Annotated[int, typer.Option(min=1, help="Configurations of each model.")] = 12,
    users: Annotated[int, typer.Option(min=1, help="Users of the subsample that is searched on.")] = 6_000,
    finalists: Annotated[int, typer.Option(min=1, help="Best ones that all users then decide between.")] = 3,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs at most; a trial stops early on validation.")] = 8,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    out: Out = RESULTS,
    workers: Workers = CORES,
) -> None:
    """Search every model's hyperparameters with one space and one budget, chosen on validation alone."""
    names, failures = _names(models, list(MODELS)), []
    budget = {"trials": trials, "users": users, "finalists": finalists, "epochs": epochs, "seed": seed}
    context = multiprocessing.get_context("spawn")
    with tqdm(total=len(names), desc="searches") as bar, ProcessPoolExecutor(workers, context, _one_thread) as pool:
        waiting = {pool.submit(search_model, data, name, out, **budget): name for name in names}
        try:
            for done in as_completed(waiting):
                if (error := done.exception()) is not None:
                    failures.append(f"{waiting[done]}: {error}")
                bar.update()
        except KeyboardInterrupt:
            tables.stop(pool)
            raise
    folder = out / "search" / slug(EventLog.read(data).schema.name)
    best = {name: read_record(folder / f"{name}.json")["best"] for name in names if (folder / f"{name}.json").is_file()}
    _show(pd.DataFrame({name: {"validation AUC": b["value"], **b["parameters"]} for name, b in best.items()}).T)
    _fail(failures)


def _one_thread() -> None:
    torch.set_num_threads(1)


def _fail(failures: list[str]) -> None:
    for failure in failures:
        typer.echo(failure, err=True)
    if failures:
        raise typer.Exit(1)


Seeds = Annotated[int, typer.Option(min=1, help="Seeds of every row, counted from 0.")]
Epochs = Annotated[int, typer.Option(min=1, help="Epochs at most; training stops early on validation.")]
Runs = Annotated[Path | None, typer.Option(help="Keep the trained runs here; interrupted ones go on.")]
Force = Annotated[bool, typer.Option("--force", help="Make finished cells again.")]


def _run(
    log: EventLog,
    data: Path,
    cells: Sequence[Any],
    runs: Path | None,
    workers: int,
    force: bool,
    run: Callable[[Path, Any, Path], None] = tables.run_cell,
) -> list[str]:
    """Run what is not finished; returns what failed."""
    fingerprint = log.fingerprint()
    left = [cell for cell in cells if not tables.is_finished(cell, fingerprint, force)]
    typer.echo(f"{len(cells)} cells, {len(cells) - len(left)} finished before", err=True)
    return tables.run_cells(data, left, runs, workers, run) if left else []


@app.command()
@plain_errors()
def table3(
    data: Data,
    models: Models = "all",
    seeds: Seeds = 5,
    epochs: Epochs = 8,
    profile: tables.Profile = "full",
    variant: Annotated[
        tables.Variant,
        typer.Option(
            help="Searched settings, the paper's (SGD 1.0, batch 32), no time feature, DIN's weights summing to one, an"
            " ATRank whose target reads the behaviors themselves, without self-attention besides, or the second of the"
            " search's finals."
        ),
    ] = "searched",
    out: Out = RESULTS,
    runs: Runs = None,
    workers: Workers = CORES,
    force: Force = False,
) -> None:
    """Average user AUC of every model, beside the paper's Table 3. Finished cells are not run again."""
    log = EventLog.read(data)
    cells = tables.plan(log, _names(models, tables.COMPARED), seeds, profile, out, epochs, variant)
    if not cells:
        raise tables.ReproduceError(f"no cells: none of the models {models!r} has a variant {variant!r}")
    failures = _run(log, data, cells, runs, workers, force)
    _show(tables.table3(tables.read_table(cells[0].file.parent)))
    _fail(failures)


@app.command()
@plain_errors()
def switches(
    data: Data,
    names: Annotated[str, typer.Option(help="Switches separated by commas, or 'all'.")] = "all",
    seeds: Seeds = 3,
    epochs: Epochs = 2,
    profile: tables.Profile = "full",
    out: Out = RESULTS,
    runs: Runs = None,
    workers: Workers = CORES,
    force: Force = False,
) -> None:
    """What each choice is worth that the paper leaves open, or that its code makes otherwise."""
    log = EventLog.read(data)
    cells = tables.plan_switches(log, _names(names, list(tables.SWITCHES)), seeds, profile, out, epochs)
    failures = _run(log, data, cells, runs, workers, force)
    found = tables.read_table(cells[0].file.parent, list(tables.SWITCHES))
    if "base" in found:
        _show(tables.switch_table(found))
    _fail(failures)


@app.command()
@plain_errors()
def table5(
    data: Data,
    modes: Annotated[str, typer.Option(help="Rows of the table separated by commas, or 'all'.")] = "all",
    targets: Annotated[str, typer.Option(help="Groups to predict separated by commas, or 'all' that can be.")] = "all",
    seeds: Seeds = 5,
    epochs: Epochs = 8,
    recipe: Annotated[RecipeName | None, typer.Option(help="Instead of the settings that a search found.")] = None,
    profile: tables.Profile = "full",
    out: Out = RESULTS,
    runs: Runs = None,
    workers: Workers = CORES,
    force: Force = False,
) -> None:
    """Every training mode of a log (one2one, all2one, all2all and variants), beside the paper's Table 5."""
    log = EventLog.read(data)
    cells = by_mode.plan(
        log,
        _names(modes, list(by_mode.ROWS)),
        seeds,
        profile,
        out,
        epochs,
        recipe,
        None if targets == "all" else _names(targets, []),
    )
    failures = _run(log, data, cells, runs, workers, force, by_mode.run_mode)
    found = by_mode.read_modes(cells[0].file.parent)
    if found:
        _show(by_mode.table5(found))
    typer.echo("\nThe paper's Table 5 (item, query, coupon):")
    typer.echo(pd.DataFrame.from_dict(by_mode.PAPER_TABLE_5, orient="index").to_string(header=False))
    _fail(failures)


@app.command()
@plain_errors()
def figure2(data: Data, profile: tables.Profile = "full", out: Out = RESULTS) -> None:
    """Learning curves of the runs of table 3: AUC against samples and seconds, as CSV and as a picture."""
    from atrank_book.figures import learning_curves, use_style  # here: matplotlib belongs to the extra [book]

    log = EventLog.read(data)
    found = tables.read_table(tables.table_folder(out, "table3", log.schema.name, profile))
    curves = tables.curves(found)
    if curves.empty:
        raise tables.ReproduceError(
            f"no runs of table 3 in {out}; make them first: python -m experiments table3 --help"
        )
    folder = out / "figure2" / slug(log.schema.name)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "curves.csv", curves.to_csv(index=False))
    use_style()
    with writing_file(folder / "curves.png") as beside:
        learning_curves(curves).savefig(beside, format="png", dpi=150)
    _show(curves.groupby("model")["AUC"].max().to_frame("best validation AUC"))
    typer.echo(f"curves.csv and curves.png are in {folder}")


@app.command()
@plain_errors()
def lengths(data: Data, profile: tables.Profile = "full", out: Out = RESULTS) -> None:
    """Table 3 by the length of a user's history: where does a model win?"""
    log = EventLog.read(data)
    found = tables.read_table(tables.table_folder(out, "table3", log.schema.name, profile))
    if not found:
        raise tables.ReproduceError(
            f"no runs of table 3 in {out}; make them first: python -m experiments table3 --help"
        )
    used = log if profile == "full" else some_users(log, tables.FAST_USERS, 0)
    table = tables.by_length(used, found)
    file = tables.table_folder(out, "lengths", log.schema.name, profile).with_suffix(".json")
    write_record(file, {"rows": table.to_dict("records"), **provenance(log)})
    _show(table.pivot(index="behaviors", columns="model", values="AUC").loc[list(dict.fromkeys(table["behaviors"]))])


TrainedRun = Annotated[Path, typer.Option("--run", metavar="RUN", help="A trained run of model atrank.")]


def _attentive(run: Path) -> Run:
    trained = load_run(run)
    if trained.config.model != "atrank":
        raise tables.ReproduceError(f"{run} holds model {trained.config.model!r}; attention is read from 'atrank'")
    return trained


def _settings(run: Run) -> dict[str, Any]:
    options, recipe = (part.model_dump(mode="json") for part in (run.config.options, run.config.recipe))
    return {"seed": run.config.seed, "options": options, "recipe": recipe}


@app.command()
@plain_errors()
def table4(data: Data, run: TrainedRun, out: Out = RESULTS) -> None:
    """Mean target attention by elapsed time, beside the paper's Table 4."""
    trained, log = _attentive(run), EventLog.read(data)
    histories = trained.histories_of(log)
    test = split(histories, trained.config.protocol, trained.config.targets).test
    for group, samples in test.items():
        found = interpret.table4(trained.model, histories, samples)
        file = out / "table4" / slug(log.schema.name) / f"{group}.json"
        write_record(file, {"rows": found.to_dict("records"), "target": group, **_settings(trained), **provenance(log)})
        typer.echo(f"{group}; bucket 0 is [0, 1) {log.schema.groups[group].time.unit}, bucket k is [2^(k-1), 2^k)")
        _show(found.set_index("bucket"))
    typer.echo(f"The paper's Table 4, from [0, 2) days to [64, 128): {tables.PAPER_TABLE_4}")


@app.command()
@plain_errors()
def detectors(
    data: Data,
    run: TrainedRun,
    out: Out = RESULTS,
    samples: Annotated[int, typer.Option(min=2, help="Targets with a cause, at most, of each group and part.")] = 2_000,
    negatives: Annotated[int, typer.Option(min=1, help="Objects that erasure and gradient compare with.")] = 8,
) -> None:
    """Who finds the planted causes of a simulated log: attention, erasure, gradients, rules, the true posterior.

    The record is named after the folder of the run.
    """
    from data_scripts.truth import Truth  # here: reading a truth is all that the command line needs of the simulator

    trained, log = _attentive(run), EventLog.read(data)
    truth = Truth.read(data, log)
    histories, config = trained.histories_of(log), trained.config
    parts = split(histories, config.protocol, config.targets)
    torch.manual_seed(config.seed)
    control = ATRank(config.log_schema, trained.vocabularies, trained.model.config, config.histories)
    content = {}
    for group in parts.test:
        found, more = interpret.judge(
            trained.model, control, histories, parts, group, truth, log, samples=samples, negatives=negatives
        )
        content[group] = {"rows": found.reset_index().to_dict("records"), **more}
        typer.echo(f"{group}; the best single space on validation is {more['best_space']!r}")
        _show(found)
    auc = evaluate(trained.model, histories, parts.test).targets
    record = {"targets": content, "test_auc": auc, "best_auc": truth.best_auc, **_settings(trained)}
    write_record(
        out / "interpret" / slug(log.schema.name) / f"{run.resolve().name}.json", {**record, **provenance(log)}
    )
