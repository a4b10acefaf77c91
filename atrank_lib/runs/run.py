"""A run on disk: how a model was made, what it knows, and its weights; everything plain JSON and safetensors."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, SerializeAsAny, ValidationError, model_validator

from atrank_lib.competitors import BPRMF, BST, CNN, DIN, BiLSTM, BiLSTMAttention, WideDeep
from atrank_lib.evaluation import Evaluation, evaluate
from atrank_lib.grouping import GroupedHistories, Vocabularies, check_groups
from atrank_lib.log.events import EventLog
from atrank_lib.log.schema import Schema
from atrank_lib.log.sharded import ShardedLog
from atrank_lib.log.writing import write_text
from atrank_lib.model import ATRank
from atrank_lib.recipes import Recipe
from atrank_lib.runs.checkpoints import Checkpoints, FitResult, load_weights, save_weights
from atrank_lib.samples import Protocol, Split, seen_objects, split
from atrank_lib.scale.execution import Execution
from atrank_lib.scale.processes import ALONE, Processes
from atrank_lib.scale.shards import Shards
from atrank_lib.training import fit

# every model has a Config and is built from (schema, vocabularies, config, histories)
MODELS: dict[str, Any] = {
    "atrank": ATRank,
    "bpr-mf": BPRMF,
    "bi-lstm": BiLSTM,
    "bi-lstm-attention": BiLSTMAttention,
    "cnn": CNN,
    "din": DIN,
    "bst": BST,
    "wide-deep": WideDeep,
}
# the options of any model that go with a recipe: the paper names no dropout, Adam needs it
OPTIONS: dict[str, dict[str, Any]] = {
    "paper": {},
    "modern": {"embedding_dropout": 0.2, "id_dropout": 0.5},
    "small": {"embedding_size": 32, "hidden": 64, "embedding_dropout": 0.1, "id_dropout": 0.5},
}


LIBRARIES = ("atrank_lib", "torch", "numpy", "pandas", "pyarrow")  # those that decide a result


def versions() -> dict[str, str]:
    """Versions of Python and of `LIBRARIES`."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in LIBRARIES}


class RunError(ValueError):
    """A run folder cannot be used as asked."""


class RunConfig(BaseModel):
    """``config.json``: all that is needed to build the model again and to repeat its training."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = "atrank"
    options: SerializeAsAny[BaseModel]
    log_schema: Schema
    histories: tuple[str, ...]
    targets: tuple[str, ...]
    protocol: Protocol = "validated"
    recipe: Recipe
    seed: int = 0
    data_name: str
    data_fingerprint: str
    versions: dict[str, str]

    @model_validator(mode="before")
    @classmethod
    def _options_of_the_model(cls, content: Any) -> Any:
        """Options are those of the model that is named beside them."""
        if isinstance(content, dict) and not isinstance(content.get("options"), BaseModel):
            name = content.get("model", "atrank")
            if name not in MODELS:
                raise ValueError(f"model {name!r}; use one of {sorted(MODELS)}")
            content = {**content, "options": MODELS[name].Config.model_validate(content.get("options") or {})}
        return content


@dataclass(frozen=True)
class Run:
    """A trained model with its vocabularies and configuration."""

    config: RunConfig
    vocabularies: Vocabularies
    model: Any  # of the class that config.model names

    def histories_of(self, log: EventLog) -> GroupedHistories:
        """Group a log as this run's model sees it.

        Raises:
            RunError: the log's groups, actions or features are not those the model was trained on.
        """
        self._check_schema(log)
        return GroupedHistories.from_log(log, self.vocabularies)

    def evaluate(self, log: EventLog | ShardedLog, negatives: int = 1, seed: int = 0) -> Evaluation:
        """Average user AUC on the test samples of a log; see ``evaluation.evaluate``.

        Raises:
            RunError: the log's groups, actions or features are not those the model was trained on.
        """
        protocol, targets = self.config.protocol, self.config.targets
        if isinstance(log, ShardedLog):
            self._check_schema(log)
            shards = replace(Shards.survey(log, protocol, targets), vocabularies=self.vocabularies)
            return shards.evaluate(self.model, negatives=negatives, seed=seed)
        histories = self.histories_of(log)
        return evaluate(self.model, histories, split(histories, protocol, targets).test, negatives=negatives, seed=seed)

    def _check_schema(self, log: EventLog | ShardedLog) -> None:
        ours, theirs = self.config.log_schema, log.schema
        if (ours.groups, ours.timestamp_unit) != (theirs.groups, theirs.timestamp_unit):
            names = [g for g in {**ours.groups, **theirs.groups} if ours.groups.get(g) != theirs.groups.get(g)]
            raise RunError(
                f"the log {theirs.name!r} does not have the schema this run was trained on: "
                f"{'groups ' + str(names) if names else 'timestamp_unit'} differ; use a log with the same groups, "
                "actions, features and time scales"
            )


def _build(config: RunConfig, vocabularies: Vocabularies) -> Any:
    torch.manual_seed(config.seed)
    return MODELS[config.model](config.log_schema, vocabularies, config.options, config.histories)


def prepare(log: EventLog, protocol: Protocol, targets: Sequence[str] | None = None) -> tuple[GroupedHistories, Split]:
    """Group a log and cut it into samples; the vocabularies hold only what training shows.

    >>> from data_scripts.simulate import MarketplaceConfig, simulate
    >>> histories, parts = prepare(simulate(MarketplaceConfig(users=40)).log, "validated", ["item"])
    >>> len(parts.test["item"]), histories.vocabularies.size("item.object_id") < 1 + 1_000  # only what training shows
    (40, True)
    """
    histories = GroupedHistories.from_log(log)
    parts = split(histories, protocol, targets)
    users = torch.cat([samples.users for samples in parts.train.values()])
    return histories.encode(histories.vocabularies_of(seen_objects(histories, parts.train), users)), parts


def train_run(
    log: EventLog | ShardedLog,
    out: Path,
    *,
    model: str = "atrank",
    options: BaseModel | Mapping[str, Any] | None = None,
    targets: Sequence[str] | None = None,
    histories: Sequence[str] | None = None,
    protocol: Protocol = "validated",
    recipe: Recipe,
    seed: int = 0,
    max_steps: int | None = None,
    resume: bool = False,
    progress: bool = True,
    on: Execution | None = None,
    processes: Processes = ALONE,
) -> FitResult:
    """Train a model on a log into the folder ``out``.

    Where it is trained, ``on`` what device and by how many ``processes`` (see ``fit``), is no setting of the run: one
    that began on a laptop may be resumed on GPUs.

    Raises:
        RunError: ``out`` is not empty and ``resume`` is False, or a resumed run was made with other settings (more
            epochs are allowed).
        ValueError: an unknown model, group or protocol.

    >>> from tempfile import TemporaryDirectory
    >>> from data_scripts.simulate import MarketplaceConfig, simulate
    >>> log, recipe = simulate(MarketplaceConfig(users=40)).log, Recipe(epochs=1)
    >>> with TemporaryDirectory() as folder:
    ...     result = train_run(log, Path(folder) / "run", recipe=recipe, max_steps=2, progress=False)
    ...     print(sorted(path.name for path in (Path(folder) / "run").glob("*.json")))
    ['config.json', 'metrics.json', 'vocabularies.json']
    >>> result.steps
    2
    """
    if model not in MODELS:
        raise ValueError(f"model {model!r}; use one of {sorted(MODELS)}")
    data: GroupedHistories | Shards
    if isinstance(log, ShardedLog):
        data, parts = Shards.survey(log, protocol, targets), None
    else:
        data, parts = prepare(log, protocol, targets)
    config = RunConfig(
        model=model,
        options=MODELS[model].Config() if options is None else options,  # a dict is validated
        log_schema=log.schema,
        histories=check_groups(log.schema, log.schema.groups if histories is None else histories, "history groups"),
        targets=check_groups(log.schema, log.schema.groups if targets is None else targets, "targets"),
        protocol=protocol,
        recipe=recipe,
        seed=seed,
        data_name=log.schema.name,
        data_fingerprint=log.fingerprint(),
        versions=versions(),
    )
    network = _build(config, data.vocabularies)
    existed, fresh = out.exists(), not out.exists() or not any(out.iterdir())
    if not fresh:
        if not resume:
            raise RunError(f"{out} is not empty; choose another folder, or resume the run in it")
        _check_same(out, config)
    processes.agree(config.model_dump_json())  # and all have looked into the folder before the first one writes
    if processes.first:
        out.mkdir(parents=True, exist_ok=True)
        data.vocabularies.write(out / "vocabularies.json")
        write_text(out / "config.json", config.model_dump_json(indent=1) + "\n")
    try:
        trained = fit(
            network,
            data,
            parts,
            recipe,
            seed=seed,
            max_steps=max_steps,
            run=out,
            resume=resume,
            progress=progress,
            on=on,
            processes=processes,
        )
    except Exception:
        if processes.first and fresh and not Checkpoints(out).latest():  # nothing to resume from: leave no trace
            shutil.rmtree(out)
            if existed:
                out.mkdir()
        raise
    if processes.first:
        save_weights(network, out / "model.safetensors")
    return trained


def _check_same(out: Path, config: RunConfig) -> None:
    """A run may be resumed with another number of epochs, unless more are done already; nothing else may change."""

    def settings(c: RunConfig) -> dict[str, object]:
        content = c.model_dump(mode="json", exclude={"versions"})
        parts = {f"{part}.{name}": v for part in ("options", "recipe") for name, v in content.pop(part).items()}
        return content | parts

    before, now = settings(_read_config(out)), settings(config)
    different = [name for name in now if now[name] != before[name]]
    if config.recipe.epochs >= Checkpoints(out).latest():
        different = [name for name in different if name != "recipe.epochs"]
    if different:
        raise RunError(
            f"{out} was trained with other settings: "
            + "; ".join(f"{name} was {before[name]!r}, is now {now[name]!r}" for name in different)
            + "; resume with the settings of config.json, or choose another folder"
        )


def _read_config(run: Path) -> RunConfig:
    path = run / "config.json"
    try:
        return RunConfig.model_validate_json(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(
            f"{run} holds no run (config.json is missing); name a folder that `atrank train` wrote"
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise RunError(
            f"{path}: {place}: {first['msg']}; the file was changed, or written by another version"
        ) from None
    except UnicodeDecodeError as error:
        raise RunError(f"{path} is damaged ({error}); train the run again") from None


def load_run(run: Path | str) -> Run:
    """Read a trained run; the model comes in evaluation mode.

    Raises:
        RunError: the folder holds no finished run.

    >>> from tempfile import TemporaryDirectory
    >>> from data_scripts.simulate import MarketplaceConfig, simulate
    >>> log, recipe = simulate(MarketplaceConfig(users=40)).log, Recipe(epochs=1)
    >>> with TemporaryDirectory() as folder:
    ...     _ = train_run(log, Path(folder) / "run", recipe=recipe, max_steps=2, progress=False)
    ...     run = load_run(Path(folder) / "run")
    >>> run.config.model, run.histories_of(log)
    ('atrank', GroupedHistories(40 users; item: 870, query: 431, coupon: 327 behaviors))
    """
    run = Path(run)
    config = _read_config(run)
    for name in ("vocabularies.json", "model.safetensors"):
        if not (run / name).is_file():
            raise RunError(f"{run / name} is missing; training did not finish: resume it with `atrank train --resume`")
    try:
        vocabularies = Vocabularies.read(run / "vocabularies.json")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{run / 'vocabularies.json'} is damaged ({error}); train the run again") from None
    try:
        model = _build(config, vocabularies)
    except (ValueError, KeyError) as error:
        raise RunError(f"{run}: no model can be built from config.json and vocabularies.json ({error})") from None
    try:
        load_weights(model, run / "model.safetensors")
    except Exception as error:  # safetensors raises its own type, torch RuntimeError
        raise RunError(f"{run / 'model.safetensors'} does not fit config.json ({error}); train the run again") from None
    model.eval()
    return Run(config, vocabularies, model)
