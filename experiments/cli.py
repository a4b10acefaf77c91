"""The command line of `python -m experiments`: the paper's tables and figures, on any event log."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import typer

from atrank_lib import RECIPES, ATRank, EventLog, evaluate, split
from atrank_lib.cli.output import plain_errors
from atrank_lib.log.sharded import read_log
from atrank_lib.runs import MODELS, Run, load_run
from atrank_lib.scale.devices import Execution
from experiments import by_age, causes, summary, tables
from experiments import search as searching
from experiments.cells import is_finished, run_all, run_cell
from experiments.own_log import QUESTIONS, STEPS, Own
from experiments.plans import FAST_USERS, plan
from experiments.queue import run_queue
from experiments.records import (
    ExperimentError,
    Profile,
    Record,
    place,
    provenance,
    read_record,
    record_run,
    slug,
    write_record,
)
from experiments.variations import some_users
from experiments.worlds import detectors as suspicions
from experiments.worlds import predictions
from experiments.worlds import worlds as side_by_side

SHOWN = summary.SHOWN | {"worlds": lambda rows: side_by_side([rows])}


def count(text: str) -> int:
    """A number from 1."""
    if int(text) < 1:
        raise ValueError
    return int(text)


VARIANT = """searched settings, until validation no longer improves, the paper's (SGD 1.0, batch 32), the best on the
search's sample of users, without finals, the second of its finals, no time feature, DIN's weights that sum to one, an
ATRank whose target reads the behaviors themselves, or without self-attention too, the authors' code until validation no
longer improves, one moment in time for everybody"""
VARIANTS = ["searched", *(name.removeprefix("table3-") for name in tables.TABLES if name.startswith("table3-"))]
OPTIONS: dict[str, dict[str, Any]] = {
    "data": {"type": Path, "metavar": "DIR", "required": True, "help": "folder of an event log"},
    "run": {"type": Path, "metavar": "RUN", "required": True, "help": "folder that `atrank train` wrote"},
    "out": {"type": Path, "metavar": "PLACE", "default": Path("results"), "help": "where records are kept"},
    "models": {"default": "all", "help": "names separated by commas, or all"},
    "names": {"default": "all", "help": "rows of the table separated by commas, or all"},
    "modes": {"default": "all", "help": "rows of the table separated by commas, or all"},
    "targets": {"default": "all", "help": "groups to predict separated by commas, or all that can be"},
    "variant": {"choices": VARIANTS, "default": "searched", "help": VARIANT},
    "recipe": {"choices": list(RECIPES), "help": "instead of the settings that a search found"},
    "seeds": {"type": count, "default": 5, "help": "seeds of every row, counted from 0"},
    "epochs": {"type": count, "default": 8, "help": "epochs at most; training stops early on validation"},
    "profile": {"choices": get_args(Profile), "default": "full", "help": "fast: seconds a cell, recorded apart"},
    "runs": {"type": Path, "metavar": "DIR", "help": "keep the trained runs here; interrupted ones go on"},
    "workers": {"type": count, "default": os.cpu_count() or 1, "help": "processes, of one thread each"},
    "raw": {"type": Path, "metavar": "DIR", "help": "folder of the raw tables that logs are made from"},
    "device": {"choices": ["cpu", "cuda"], "default": "cpu", "help": "where models are trained"},
    "force": {"action": "store_true", "help": "make finished cells again"},
    "trials": {"type": count, "default": 12, "help": "configurations of each model"},
    "users": {"type": count, "default": 6_000, "help": "users of the subsample that is searched on"},
    "finalists": {"type": count, "default": 3, "help": "best ones that all users then decide between"},
    "seed": {"type": int, "default": 0, "help": "of the search"},
    "samples": {"type": count, "default": 2_000, "help": "targets with a cause, at most, of each group and part"},
    "negatives": {"type": count, "default": 8, "help": "objects that erasure and gradient compare with"},
}


def _show(table: pd.DataFrame) -> None:
    print(table.to_string(na_rep="-", float_format=lambda value: f"{value:.4f}"))


def _names(text: str) -> list[str] | None:
    return None if text == "all" else [name.strip() for name in text.split(",") if name.strip()]


def _fail(failures: list[str]) -> None:
    if failures:
        raise ExperimentError("\n".join(failures))


def _records(folder: Path, log: EventLog) -> tuple[summary.Rows, list[str]]:
    """The records of a log in a folder of a table, and what is left out there."""
    if log.fingerprint() in folder.name:
        print(f"{folder}: of this log alone; the folder of its name is another one's", file=sys.stderr)
    return summary.survey(folder, log.fingerprint())


def record(run: Path, data: Path, out: Path) -> None:
    """Evaluate a run and write the result with its provenance: the records of chapter 6."""
    trained, log = load_run(run), read_log(data)
    record_run(run, trained.config, log, trained.evaluate(log), out)
    print(f"{out}: recorded")


def table1(data: Path, out: Path) -> None:
    """Users, items, categories and samples of a log, beside the paper's Table 1; recorded for the page of all logs."""
    log = EventLog.read(data)
    summary = log.summary()
    _show(summary)
    rows = summary.astype(object).where(summary.notna(), None).to_dict(orient="index")
    write_record(out / "logs" / f"{slug(log.schema.name)}.json", {"summary": rows, **provenance(log)})
    columns = ["# Users", "# Items", "# Cates", "# Samples"]
    paper = pd.DataFrame.from_dict(tables.PAPER_TABLE_1, orient="index", columns=columns)
    print(f"\nThe paper's Table 1:\n{paper.to_string()}")


def own(data: Path, out: Path) -> None:
    """The questions of chapters 7 to 10, asked briefly of a log: some minutes."""
    log, found = EventLog.read(data), {}
    for question, ask in QUESTIONS.items():
        rows = ask(Own.of(log))
        found[question] = rows.astype(object).where(rows.notna(), None).to_dict("records")
        print(f"{question}:")
        _show(rows)
    write_record(out / "own_log" / f"{slug(log.schema.name)}.json", {"steps": STEPS, **found, **provenance(log)})


def table2(data: Path) -> None:
    """Users, objects of every group and behaviors a user, beside the paper's Table 2."""
    _show(EventLog.read(data).summary())
    print(f"\nThe paper's Table 2:\n{pd.Series(tables.PAPER_TABLE_2, dtype=object).to_string()}")


def search(data: Path, models: str, out: Path, workers: int, **budget: int) -> None:
    """Search every model's hyperparameters with one space and one budget, chosen on validation alone."""
    names = list(MODELS) if models == "all" else _names(models)
    if not names:
        raise ExperimentError(f"no model given; use some of {list(MODELS)}")
    failures = run_all({n: partial(searching.search, data, n, out, **budget) for n in names}, workers, "searches")
    folder = place(out, "search", EventLog.read(data))
    best = {name: read_record(folder / f"{name}.json")["best"] for name in names if (folder / f"{name}.json").is_file()}
    rows = {name: {"validation AUC": found["value"], **found["parameters"]} for name, found in best.items()}
    _show(pd.DataFrame.from_dict(rows, orient="index"))
    _fail(failures)


def _make(
    table: str, names: str, data: Path, out: Path, runs: Path | None, workers: int, force: bool, **how: Any
) -> None:
    """Run the cells of a table that are not finished, and show what its folder then holds of this log."""
    log = EventLog.read(data)
    cells, fingerprint = plan(table, log, out, _names(names), **how), log.fingerprint()
    left = [cell for cell in cells if not is_finished(cell, fingerprint, force)]
    print(f"{len(cells)} cells, {len(cells) - len(left)} finished before", file=sys.stderr)
    with tempfile.TemporaryDirectory() as scratch:
        jobs = {cell.label: partial(run_cell, data, cell, runs or Path(scratch)) for cell in left}
        failures = run_all(jobs, workers, "cells")
    rows, left_out = _records(cells[0].folder, log)
    if rows:
        _show(SHOWN[table](rows))
    _fail(failures + left_out)


def table3(models: str, variant: str, **how: Any) -> None:
    """Average user AUC of every model, beside the paper's Table 3. Finished cells are not run again."""
    _make("table3" if variant == "searched" else f"table3-{variant}", models, **how)


def switches(names: str, **how: Any) -> None:
    """What each choice is worth that the paper leaves open, or that its code makes otherwise."""
    _make("switches", names, **how)


def original(names: str, **how: Any) -> None:
    """What each difference between the paper and its authors' code is worth, from both ends."""
    _make("original", names, **how)


def factorial(names: str, **how: Any) -> None:
    """Why DIN leads: what is added up, how, what f is, and whether behaviors read each other, in all combinations."""
    _make("factorial", names, **how)


def modes(names: str, **how: Any) -> None:
    """Every reader of histories in every mode, until validation no longer improves; floors, a control for leaks."""
    _make("modes", names, **how)


def shown(names: str, **how: Any) -> None:
    """Choices from lists, on a log with impressions: floors, every reader in every mode, with less of the context."""
    _make("shown", names, **how)


def table5(modes: str, targets: str, **how: Any) -> None:
    """Every training mode of a log (one2one, all2one, all2all and variants), beside the paper's Table 5."""
    _make("table5", modes, targets=_names(targets), **how)
    paper = pd.DataFrame.from_dict(tables.PAPER_TABLE_5, orient="index").to_string(header=False)
    print(f"\nThe paper's Table 5 (item, query, coupon):\n{paper}")


def worlds(names: str, data: Path, out: Path, **how: Any) -> None:
    """Rules and models in a world of the simulator, beside the best AUC there, and what was said beforehand."""
    _make("worlds", names, data=data, out=out, **how)
    log = EventLog.read(data)
    rows, _ = _records(place(out, "worlds", log, how["profile"]), log)
    for title, found in (("Said beforehand (PROTOCOL.md)", predictions), ("Who finds the causes", suspicions)):
        if not (table := found([rows])).empty:
            print(f"\n{title}:")
            _show(table)


def queue(out: Path, runs: Path, raw: Path | None, workers: int, device: str) -> None:
    """All experiments of PROTOCOL.md that are not recorded yet, in their order."""
    _fail(run_queue(out, runs, raw, workers, Execution.model_validate({"device": device})))


def _of_table3(log: EventLog, out: Path, profile: Profile) -> tuple[str, summary.Rows]:
    """The name of the folder of table 3, and its records."""
    folder = place(out, "table3", log, profile)
    rows, left_out = _records(folder, log)
    _fail(left_out)
    if not rows:
        raise ExperimentError(f"no runs of table 3 in {folder}; make them first: python -m experiments table3 --help")
    return folder.name, rows


def figure2(data: Path, profile: Profile, out: Path) -> None:
    """Learning curves of the runs of table 3: AUC against samples and seconds, as CSV and as a picture."""
    name, rows = _of_table3(EventLog.read(data), out, profile)
    curves, folder = summary.curves(rows), out / "figure2" / name
    if curves.empty:
        raise ExperimentError(f"{', '.join(rows)} are not trained and have no learning curves")
    from atrank_book.figures import learning_curves, use_style  # here: matplotlib belongs to the extra [book]

    folder.mkdir(parents=True, exist_ok=True)
    curves.to_csv(folder / "curves.csv", index=False)
    use_style()
    learning_curves(curves).savefig(folder / "curves.png", dpi=150)
    _show(curves.groupby("model")["AUC"].max().to_frame("best validation AUC"))
    print(f"curves.csv and curves.png are in {folder}")


def lengths(data: Path, profile: Profile, out: Path) -> None:
    """Table 3 by the length of a user's history: where does a model win?"""
    log = EventLog.read(data)
    name, rows = _of_table3(log, out, profile)
    table = summary.by_length(log if profile == "full" else some_users(log, FAST_USERS, 0), rows)
    write_record(out / "lengths" / f"{name}.json", {"rows": table.to_dict("records"), **provenance(log)})
    _show(table.pivot(index="behaviors", columns="model", values="AUC").loc[list(dict.fromkeys(table["behaviors"]))])


def _attentive(run: Path) -> tuple[Run, ATRank, Record]:
    """A run of ATRank, its model, and what a record says of its training."""
    trained = load_run(run)
    if not isinstance(trained.model, ATRank):
        raise ExperimentError(f"{run} holds model {trained.config.model!r}; attention is read from 'atrank'")
    options, recipe = (part.model_dump(mode="json") for part in (trained.config.options, trained.config.recipe))
    return trained, trained.model, {"seed": trained.config.seed, "options": options, "recipe": recipe}


def table4(data: Path, run: Path, out: Path) -> None:
    """Mean target attention by elapsed time, beside the paper's Table 4."""
    (trained, model, settings), log = _attentive(run), EventLog.read(data)
    histories, folder = trained.histories_of(log), place(out, "table4", log)
    for group, samples in split(histories, trained.config.protocol, trained.config.targets).test.items():
        found = by_age.table4(model, histories, samples)
        content = {"rows": found.to_dict("records"), "target": group, **settings, **provenance(log)}
        write_record(folder / f"{group}.json", content)
        print(f"{group}; bucket 0 is [0, 1) {log.schema.groups[group].time.unit}, bucket k is [2^(k-1), 2^k)")
        _show(found.set_index("bucket"))
    print(f"The paper's Table 4, from [0, 2) days to [64, 128): {tables.PAPER_TABLE_4}")


def detectors(data: Path, run: Path, samples: int, negatives: int, out: Path) -> None:
    """Who finds the planted causes of a simulated log: attention, erasure, gradients, rules, the true posterior.

    The record is named after the folder of the run.
    """
    from data_scripts.truth import Truth  # here: reading a truth is all that the command line needs of the simulator

    (trained, model, settings), log = _attentive(run), EventLog.read(data)
    truth, histories = Truth.read(data, log), trained.histories_of(log)
    parts = split(histories, trained.config.protocol, trained.config.targets)
    found = causes.judge_run(trained, histories, parts, truth, log, samples=samples, negatives=negatives)
    if not found:
        raise ExperimentError(f"{data}: no target of {run} has a cause; simulate more users, with influence")
    for group, content in found.items():
        print(f"{group}; the best single space on validation is {content['best_space']!r}")
        _show(pd.DataFrame(content["rows"]).set_index("detector"))
    auc = evaluate(model, histories, parts.test).targets
    judged = {"targets": found, "test_auc": auc, "best_auc": truth.best_auc, **settings, **provenance(log)}
    write_record(place(out, "interpret", log) / f"{run.resolve().name}.json", judged)


RECORD = {"metavar": "FILE", "default": None, "required": True, "help": "record to write, as JSON"}
MAKING = "seeds epochs profile out runs workers force"
# what a command does, its options, and what it wants otherwise than OPTIONS
COMMANDS: dict[str, tuple[Callable[..., None], str, dict[str, dict[str, Any]]]] = {
    "table1": (table1, "data out", {}),
    "table2": (table2, "data", {}),
    "own": (own, "data out", {}),
    "search": (search, "data models trials users finalists epochs seed out workers", {}),
    "table3": (table3, f"data models variant {MAKING}", {}),
    "lengths": (lengths, "data profile out", {}),
    "figure2": (figure2, "data profile out", {}),
    "switches": (switches, f"data names {MAKING}", {"seeds": {"default": 3}, "epochs": {"default": 2}}),
    "original": (original, f"data names {MAKING}", {"seeds": {"default": 3}}),
    "factorial": (factorial, f"data names {MAKING}", {"seeds": {"default": 3}}),
    "modes": (modes, f"data names {MAKING}", {"seeds": {"default": 3}}),
    "shown": (shown, f"data names {MAKING}", {}),
    "table5": (table5, f"data modes targets recipe {MAKING}", {}),
    "worlds": (worlds, f"data names {MAKING}", {"seeds": {"default": 3}}),
    "table4": (table4, "data run out", {}),
    "detectors": (detectors, "data run samples negatives out", {}),
    "record": (record, "data run out", {"out": RECORD}),
    "queue": (queue, "out runs raw workers device", {"runs": {"required": True}}),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 1 where something failed that the user can mend, which is then said on stderr."""
    parser = argparse.ArgumentParser("python -m experiments", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (function, options, otherwise) in COMMANDS.items():
        one = commands.add_parser(name, help=function.__doc__, description=function.__doc__)
        for option in options.split():
            form = OPTIONS[option] | otherwise.get(option, {})
            shown = " (%(default)s)" if form.get("default") else ""
            one.add_argument(f"--{option}", **form | {"help": form["help"] + shown})
        one.set_defaults(function=function)
    chosen = vars(parser.parse_args(arguments))
    try:
        with plain_errors():
            chosen.pop("function")(**chosen)
    except typer.Exit as end:
        return end.exit_code
    return 0
