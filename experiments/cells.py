"""Cells are trained side by side, recorded, and never run twice."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from atrank_lib import Evaluation, EventLog, GroupedHistories, Split, evaluate, split
from atrank_lib.batches import Samples, TaskSamples
from atrank_lib.evaluation import average_user_auc, fixed_candidates, score_candidates, user_auc
from atrank_lib.impressions import prepare_shown
from atrank_lib.log.vocabularies import UNKNOWN
from atrank_lib.ranking import Model
from atrank_lib.runs import load_run, train_run
from atrank_lib.samples import Protocol
from atrank_lib.scale.devices import Execution
from atrank_lib.serve.ranker import Ranker
from data_scripts.truth import Truth
from experiments.baselines import RULES, Scorer, choose
from experiments.causes import judge_run
from experiments.cost import cost
from experiments.full_ranking import standing
from experiments.models import config
from experiments.plans import FAST_USERS, Cell
from experiments.records import ExperimentError, Record, provenance, read_record, record_run, result, write_record
from experiments.tasks import TaskRecipe, TaskRunSteps
from experiments.variations import some_users


def is_finished(cell: Cell, fingerprint: str, force: bool = False) -> bool:
    """Whether all records of a cell are there, made in the same way, on the log of this fingerprint.

    A setting that came later than a record has its default, which is what was done before there was a choice.

    Raises:
        ExperimentError: a record was made in another way.
    """
    if force or not all(file.exists() for file in cell.files.values()):
        return False
    wanted = {**cell.settings(), "data_fingerprint": fingerprint}
    for file in cell.files.values():
        record = read_record(file)
        try:
            if "recipe" in record:
                record["recipe"] = TaskRecipe.model_validate(record["recipe"]).model_dump(mode="json")
            if "options" in record:
                record["options"] = config(record["model"], record["options"]).model_dump(mode="json")
        except (ValueError, KeyError, TypeError) as error:
            raise ExperimentError(f"{file} has other settings than are known here ({error}); give --force") from None
        different = [name for name, value in wanted.items() if record.get(name) != value]
        if different:
            raise ExperimentError(
                f"{file} was made with another {', '.join(different)}; give --force to make it again, or another --out"
            )
    return True


def run_cell(data: Path, cell: Cell, runs: Path, on: Execution | None = None) -> None:
    """Train, test and record one cell. A cut-off training goes on from its last epoch."""
    original = EventLog.read(data)
    log = some_users(original, FAST_USERS, 0) if cell.profile == "fast" else original
    log = log if cell.row.log is None else cell.row.log(log)
    told: Record = {"profile": cell.profile, "chosen_by": cell.chosen_by, **cell.of_log}
    model, mode, best = cell.row.model, cell.mode, best_auc(data)
    if mode is None and best:
        told["best_auc"] = best
    if model in RULES:
        for target, file in cell.files.items():  # a rule of one mode has one target
            of = {} if mode is None else {"mode": mode.name, "row": cell.name, "target": target}
            targets = None if mode is None else mode.targets
            found = judge_rule(log, model, targets, cell.row.listed, cell.protocol, cell.row.choices)
            content = {"model": model, "seed": cell.seed, **found, **told, "protocol": cell.protocol, **of}
            write_record(file, {**content, **provenance(original)})
        return
    most = steps_allowed(cell)
    if most is not None:
        told["max_steps"] = most
    run = runs / cell.folder.parent.name / cell.folder.name / cell.label
    train_run(
        log,
        run,
        model=model,
        options=cell.options,
        targets=None if mode is None else mode.targets,
        histories=None if mode is None else mode.histories,
        protocol=cell.protocol,
        choices=cell.row.choices,
        recipe=cell.recipe,
        seed=cell.seed,
        max_steps=most,
        resume=True,
        progress=False,
        on=on,
        steps=TaskRunSteps,
    )
    trained = load_run(run)
    histories = trained.histories_of(log)
    parts = split(histories, trained.config.protocol, trained.config.targets)
    for target, file in cell.files.items():
        more: Record = {}
        if mode is not None:
            known = {"best_auc": best[target]} if target in best else {}
            more = {"mode": mode.name, "row": cell.name, "target": target, **known, **novelty(histories, parts, target)}
            more["pooled_auc"] = pooled_auc(trained.model, histories, parts.test[target])
            if cell.row.choices and histories.lists(target):
                more["random"] = result(evaluate(trained.model, histories, {target: parts.test[target]}))
        elif cell.row.causes and cell.profile == "full" and (data / "truth").is_dir():
            truth = Truth.read(data, log)
            more = {"causes": judge_run(trained, histories, parts, truth, log, samples=cell.row.causes)}
        elif cell.row.listed:
            popular = evaluate(trained.model, histories, parts.test, kind="popularity", training=parts.train)
            more = {"popular": result(popular), **cost(trained.model, histories)}
            more |= listed(trained.model, histories, parts.test, cell.row.listed)
        tests = {target: parts.test[target]} if mode else parts.test
        how: dict[str, Any] = {"kind": "impressions", "negatives": None} if cell.row.choices else {}
        judged = evaluate(trained.model, histories, tests, **how)
        record_run(run, trained.config, original, judged, file, **told, **more)


def steps_allowed(cell: Cell) -> int | None:
    """How many steps a cell may take: as many as another row took until its best epoch, for this target and seed.

    Raises:
        ExperimentError: that row is not recorded.
    """
    if cell.row.steps_of is None:
        return None
    (table, row), (target,) = cell.row.steps_of, cell.judged
    record = read_record(cell.folder.parent.parent / table / cell.folder.name / f"{row}-{target}-seed{cell.seed}.json")
    return sum(epoch["steps"] for epoch in record["epochs"][: record["best_epoch"]])


def pooled_auc(model: Model, histories: GroupedHistories, samples: Samples) -> float:
    """AUC over all users' targets and negatives together, as if of one user: what the authors' code for many groups
    reports, and what also asks whether a user's scores are high or low as a whole."""
    tasks = {samples.target_group: samples}
    (scores,) = score_candidates(model, histories, tasks, fixed_candidates(histories, tasks)).values()
    labels = (torch.arange(scores.shape[1]) == 0).expand_as(scores)
    return float(average_user_auc(torch.zeros_like(labels, dtype=torch.long), scores, labels))


def judge_rule(
    log: EventLog,
    name: str,
    targets: Sequence[str] | None,
    users: int = 0,
    protocol: Protocol = "validated",
    choices: bool = False,
) -> Record:
    """A rule on the same test users and negatives as the models, its setting chosen on validation.

    For these groups, or all (None); with ``users``, for so many of them also among all objects.
    """
    histories, parts = prepare_shown(log, protocol, targets, choices)
    chosen = {target: choose(name, histories, parts, target) for target in parts.test}

    def against(candidates: Mapping[str, Tensor]) -> Record:
        def scores(target: str) -> Tensor:
            rows = candidates[target]
            return chosen[target].scorer(parts.test[target], rows.clamp(min=0)).masked_fill(rows < 0, float("-inf"))

        found = {target: user_auc(samples, scores(target)) for target, samples in parts.test.items()}
        return result(Evaluation.of(found, negatives=None if choices else 1, seed=0))

    how: dict[str, Any] = {"kind": "impressions", "negatives": None} if choices else {}
    said = against(fixed_candidates(histories, parts.test, **how))
    settings = {target: one.setting for target, one in chosen.items() if one.setting}
    if settings:
        said |= {"setting": settings, "validation_auc": {t: chosen[t].validation_auc for t in settings}}
    if users:
        popular = fixed_candidates(histories, parts.test, kind="popularity", training=parts.train)
        said |= {"popular": against(popular), "whole_list": {}}
    for target, samples in parts.test.items() if users else ():
        everything = torch.arange(len(histories.catalogs[target]))[None]

        def all_scores(some: Samples, scorer: Scorer = chosen[target].scorer, row: Tensor = everything) -> Tensor:
            return scorer(some, row.expand(len(some), -1))

        said["whole_list"][target] = standing(all_scores, histories, samples, users, batch_size=64)
    return said


def listed(model: Model, histories: GroupedHistories, tests: TaskSamples, users: int) -> Record:
    """Where the targets of some test users stand in the whole list, by target group."""
    found = {}
    for target, samples in tests.items():
        ranker = Ranker(model, histories, target, chunk=2_048)  # small: what is made for a pair stays in the cache
        found[target] = standing(ranker.all_scores, histories, samples, users)
    return {"whole_list": found}


def novelty(histories: GroupedHistories, parts: Split, target: str) -> dict[str, float]:
    """Shares of the test targets: ``never_target``, an object that no training sample has as its target; and
    ``known_never_target``, such an object that the vocabulary knows all the same, from histories."""
    objects = parts.test[target].objects
    never = ~torch.isin(objects, parts.train[target].objects)
    index = histories.catalogs[target].features.get("object_id")
    known = index[objects] != UNKNOWN if isinstance(index, torch.Tensor) else torch.zeros_like(never)
    return {
        "never_target": float(never.double().mean()),
        "known_never_target": float((never & known).double().mean()),
    }


def best_auc(data: Path) -> dict[str, float]:
    """Of a simulated log, the best AUC that any model can reach for each group; nothing for other logs."""
    file = data / "truth" / "truth.json"
    return dict(json.loads(file.read_text(encoding="utf-8"))["best_auc"]) if file.is_file() else {}


def run_all(jobs: Mapping[str, Callable[[], object]], workers: int, called: str) -> list[str]:
    """Run jobs in processes of one thread each, or here where one is enough. Returns what failed, by the jobs' names.

    One that fails does not stop the others. An interrupt drops what has not begun; what is finished is recorded.
    """
    failures = []
    with tqdm(total=len(jobs), desc=called, disable=not jobs) as bar:

        def ended(name: str, failure: str | None) -> None:
            if failure is not None:
                failures.append(f"{name}: {failure}")
            bar.update()
            bar.set_postfix_str(name)

        if min(workers, len(jobs)) < 2:
            torch.set_num_threads(1)
            for name, job in jobs.items():
                ended(name, _failure_of(job))
            return failures
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(workers, len(jobs)), context, torch.set_num_threads, (1,)) as pool:
            waiting = {pool.submit(_failure_of, job): name for name, job in jobs.items()}
            try:
                for done in as_completed(waiting):
                    died = done.exception()
                    ended(waiting[done], done.result() if died is None else str(died))
            except KeyboardInterrupt:  # leaving the pool would first run what it holds
                pool.shutdown(wait=False, cancel_futures=True)
                for process in multiprocessing.active_children():
                    process.terminate()
                raise
    return failures


def _failure_of(job: Callable[[], object]) -> str | None:
    """What a job failed with, as text: not every error can be sent from a process to another."""
    try:
        job()
    except Exception as error:
        return str(error) or type(error).__name__
    return None
