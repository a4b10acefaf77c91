"""A run on disk: how a model was made, what it knows, and its weights; everything plain JSON and safetensors."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from pydantic import BaseModel, ValidationError

from atrank_lib.evaluation import Evaluation, evaluate
from atrank_lib.fast.layers import speed_up
from atrank_lib.fast.row_updates import RowSteps
from atrank_lib.grouping import GroupedHistories
from atrank_lib.impressions import ShownHistories, prepare_shown
from atrank_lib.log.events import EventLog
from atrank_lib.log.sharded import ShardedLog
from atrank_lib.log.vocabularies import Vocabularies
from atrank_lib.log.writing import write_text
from atrank_lib.negatives import NegativeKind
from atrank_lib.ranking import Model
from atrank_lib.runs.config import MODELS, RunConfig, check_same, first_problem, read_config
from atrank_lib.runs.folder import Checkpoints, RunError, load_weights, opened, save_weights
from atrank_lib.samples import Protocol, split
from atrank_lib.scale.devices import Execution, plain_layers
from atrank_lib.scale.processes import ALONE, Processes, ScaledSteps
from atrank_lib.scale.shards import Shards
from atrank_lib.training import FitResult, Part, Recipe, Training


@dataclass(frozen=True)
class Run:
    """A trained model with its vocabularies and configuration."""

    config: RunConfig
    vocabularies: Vocabularies
    model: Model  # of the kind that config.model names

    def histories_of(self, log: EventLog) -> GroupedHistories:
        """Group a log as this run's model sees it.

        Raises:
            RunError: the log's groups, actions or features are not those the model was trained on.
        """
        self._check_schema(log)
        return ShownHistories.from_log(log, self.vocabularies, self.config.choices)

    def evaluate(
        self, log: EventLog | ShardedLog, negatives: int | None = 1, seed: int = 0, kind: NegativeKind = "uniform"
    ) -> Evaluation:
        """Average user AUC on the test samples of a log; see ``evaluation.evaluate``. Raises as ``histories_of``."""
        protocol, targets = self.config.protocol, self.config.targets
        if kind == "impressions":
            _require_impressions(log)
            if not self.config.choices:
                raise RunError("the run was not trained to predict choices: train it with --negatives impressions")
        if isinstance(log, ShardedLog):
            self._check_schema(log)
            shards = replace(Shards.survey(log, protocol, targets), vocabularies=self.vocabularies)
            return shards.evaluate(self.model, negatives=negatives or 1, seed=seed)
        histories = self.histories_of(log)
        tests = split(histories, protocol, targets).test
        return evaluate(self.model, histories, tests, negatives=negatives, seed=seed, kind=kind)

    def _check_schema(self, log: EventLog | ShardedLog) -> None:
        ours, theirs = self.config.log_schema, log.schema
        if (ours.groups, ours.timestamp_unit) != (theirs.groups, theirs.timestamp_unit):
            names = [g for g in {**ours.groups, **theirs.groups} if ours.groups.get(g) != theirs.groups.get(g)]
            raise RunError(
                f"the log {theirs.name!r} does not have the schema this run was trained on: "
                f"{'groups ' + str(names) if names else 'timestamp_unit'} differ; use a log with the same groups, "
                "actions, features and time scales"
            )


def _require_impressions(log: EventLog | ShardedLog) -> None:
    if isinstance(log, ShardedLog) or not log.impressions:
        raise RunError(f"the log {log.schema.name!r} has no impressions; take negatives of another kind")


def _build(config: RunConfig, vocabularies: Vocabularies) -> Model:
    torch.manual_seed(config.seed)
    return speed_up(MODELS[config.model].build(config.log_schema, vocabularies, config.options, config.histories))


class RunSteps(ScaledSteps, RowSteps):
    """All that steps can be: on a device, with other processes, and of a batch's rows alone."""

    settings: type[Recipe] = Recipe  # which they know


def train_run(
    log: EventLog | ShardedLog,
    out: Path,
    *,
    model: str = "atrank",
    options: BaseModel | Mapping[str, Any] | None = None,
    targets: Sequence[str] | None = None,
    histories: Sequence[str] | None = None,
    protocol: Protocol = "validated",
    choices: bool = False,
    recipe: Recipe,
    seed: int = 0,
    max_steps: int | None = None,
    resume: bool = False,
    progress: bool = True,
    on: Execution | None = None,
    processes: Processes = ALONE,
    steps: type[RunSteps] = RunSteps,
) -> FitResult:
    """Train a model on a log into the folder ``out``, which is locked meanwhile.

    Where it is trained, ``on`` what device and by how many ``processes``, is no setting of the run: one that began on a
    laptop may be resumed on GPUs. A failure before the first epoch is complete leaves nothing behind; later, and
    wherever the process is killed, the run can be resumed, and ends as if nothing had happened. ``steps`` of another
    kind may have a recipe with more settings, which the run keeps. ``choices``: only those are targets
    (``impressions``), as always where impressions are the negatives.

    Raises:
        RunError: another process trains in ``out``; it is not empty and ``resume`` is False; a resumed run was made
            with other settings (more epochs are allowed), or is damaged; the steps do not know a setting of the recipe.
        ValueError: an unknown model, group or protocol.
        OSError: ``out`` cannot be written to.

    >>> train_run(log, folder / "run", recipe=Recipe(epochs=1), max_steps=2, progress=False).steps
    2
    """
    with opened(out, resume) if processes.first else nullcontext(True) as fresh:
        choices = choices or recipe.negative_kind == "impressions"
        settings = {"protocol": protocol, "seed": seed, "choices": choices}
        config = RunConfig.of(log, model, recipe, options, histories, targets, **settings)
        if choices:
            _require_impressions(log)
        chosen, known = config.settings(), steps.settings.model_fields
        if more := [x for x in config.recipe.model_extra or () if f"recipe.{x}" in chosen and x not in known]:
            raise RunError(f"{steps.__name__} know no {', '.join(more)}; hand in steps that do, or another recipe")
        if not fresh:
            check_same(out, config, Checkpoints(out).latest())
        if isinstance(log, ShardedLog):
            shards = Shards.survey(log, protocol, targets)
            parts: Sequence[Part] = shards
            vocabularies, sizes = shards.vocabularies, shards.sizes
        else:
            histories_, split_ = prepare_shown(log, protocol, targets, choices)
            parts, sizes, vocabularies = [Part(histories_, split_)], None, histories_.vocabularies
        network = _build(config, vocabularies)
        processes.agree(config.model_dump_json())
        if processes.first:
            # before all else: whatever comes to an end from here on can be resumed
            write_text(out / "config.json", config.model_dump_json(indent=1) + "\n")
            vocabularies.write(out / "vocabularies.json")
        made = partial(steps, on=on, processes=processes)
        training = Training(network, parts, recipe, seed=seed, steps=made, sizes=sizes)
        trained = _follow(training, Checkpoints(out), max_steps, progress and processes.first, processes.first)
        if processes.first:
            save_weights(network, out / "model.safetensors")
    return trained


def _follow(
    training: Training, checkpoints: Checkpoints, max_steps: int | None, progress: bool, first: bool
) -> FitResult:
    """Train to the end, from the last complete epoch on disk, and keep every epoch; the ``first`` process writes."""
    if checkpoints.latest():
        checkpoints.restore(training)
        if first:  # it may have been cut before they were written
            checkpoints.write_metrics(training.result)
    while training.goes_on(max_steps):
        whole = training.epoch(max_steps, progress)
        if first:
            if whole:
                checkpoints.save(training)
            checkpoints.write_metrics(training.result)
    plain_layers(cast(RunSteps, training.steps).compiled)  # before the weights of the best epoch are put in
    return training.finish()


def load_run(run: Path | str) -> Run:
    """Read a trained run; the model comes in evaluation mode.

    Raises:
        RunError: the folder holds no finished run.

    >>> _ = train_run(log, folder / "run", recipe=Recipe(epochs=1), max_steps=2, progress=False)
    >>> run = load_run(folder / "run")
    >>> run.config.model, run.histories_of(log)
    ('atrank', GroupedHistories(40 users; item: 870, query: 431, coupon: 327 behaviors))
    """
    run = Path(run)
    config, words = read_config(run), run / "vocabularies.json"
    try:
        try:
            vocabularies = Vocabularies.read(words)
        except ValidationError as error:
            raise RunError(f"{words} is damaged ({first_problem(error)}); train the run again") from None
        try:
            model = _build(config, vocabularies)
        except (ValueError, KeyError) as error:
            raise RunError(f"{run}: no model can be built from config.json and vocabularies.json ({error})") from None
        try:
            load_weights(model, run / "model.safetensors")
        except RunError as error:
            raise RunError(f"{error}; `atrank train --resume` writes it again") from None
    except FileNotFoundError as error:
        raise RunError(
            f"{error.filename} is missing; training did not finish: resume it with `atrank train --resume`"
        ) from None
    return Run(config, vocabularies, model.eval())
