"""Which models a run can hold, and ``config.json``: how a run was made, and whether it may be resumed so."""

import importlib.metadata
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, SerializeAsAny, ValidationError, model_validator

from atrank_lib.competitors.later import HSTU, OneTrans, SASRec
from atrank_lib.competitors.models import BPRMF, BST, CNN, DIN, BiLSTM, BiLSTMAttention, WideDeep
from atrank_lib.log.events import EventLog
from atrank_lib.log.schema import Schema, Settings
from atrank_lib.log.sharded import ShardedLog
from atrank_lib.ranking import Model
from atrank_lib.runs.folder import RunError
from atrank_lib.samples import Protocol
from atrank_lib.training import Recipe
from atrank_lib.variants import ATRankOptions, build


class Kind(NamedTuple):
    """How a model of some kind is made from a schema, vocabularies, options and histories."""

    Config: type[BaseModel]
    build: Callable[..., Model]


_OTHERS: dict[str, Any] = {"bpr-mf": BPRMF, "bi-lstm": BiLSTM, "bi-lstm-attention": BiLSTMAttention, "cnn": CNN}
_OTHERS |= {"din": DIN, "bst": BST, "wide-deep": WideDeep, "sasrec": SASRec, "hstu": HSTU, "onetrans": OneTrans}
MODELS = {"atrank": Kind(ATRankOptions, build)} | {name: Kind(of.Config, of) for name, of in _OTHERS.items()}
# the options of any model that go with a recipe: the paper names no dropout, Adam needs it
OPTIONS: dict[str, dict[str, Any]] = {
    "paper": {},
    "modern": {"embedding_dropout": 0.2, "id_dropout": 0.5},
    "small": {"embedding_size": 32, "hidden": 64, "embedding_dropout": 0.1, "id_dropout": 0.5},
}


def options_of(model: str, recipe: str) -> dict[str, Any]:
    """The options that go with a recipe, as far as a model has them; ValueError for an unknown model.

    >>> options_of("bpr-mf", "small")  # which has no hidden layer
    {'embedding_size': 32, 'embedding_dropout': 0.1, 'id_dropout': 0.5}
    """
    return {name: value for name, value in OPTIONS[recipe].items() if name in named(model).Config.model_fields}


def named(model: str) -> Kind:
    """The kind of a model; ``ValueError`` where there is none of this name."""
    if model not in MODELS:
        raise ValueError(f"model {model!r}; use one of {sorted(MODELS)}")
    return MODELS[model]


def hardware() -> str:
    """Processor model and number of cores."""
    lines = [line for file in Path("/proc").glob("cpuinfo") for line in file.read_text().splitlines()]
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{(named or [platform.processor() or platform.machine()])[0]}, {os.cpu_count()} cores"


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide a result."""
    libraries = ("atrank_lib", "torch", "numpy", "pandas", "pyarrow")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in libraries}


# what 0.1 wrote of every run's recipe, and experiments do; to train many tasks in other ways is no longer the library's
_FORMER: dict[str, object] = {"task_mix": "proportional", "task_weights": None, "task_steps": "shuffled"}
_FORMER |= {"task_rates": None, "apart": False, "all_objects": False}


class KeptRecipe(Recipe):
    """A recipe as a run keeps it, with the settings that its steps have besides, once their module is imported."""

    model_config = ConfigDict(extra="allow")


class RunConfig(Settings):
    """``config.json``: all that is needed to build the model again and to repeat its training."""

    model: str = "atrank"
    options: SerializeAsAny[BaseModel]
    log_schema: Schema
    histories: tuple[str, ...]
    targets: tuple[str, ...]
    protocol: Protocol = "validated"
    choices: bool = False  # targets are behaviors beside which something else was shown, in groups that have some
    recipe: KeptRecipe
    seed: int = 0
    data_name: str
    data_fingerprint: str
    versions: dict[str, str]

    @model_validator(mode="before")
    @classmethod
    def _options_of_the_model(cls, content: Any) -> Any:
        """Options are those of the model that is named beside them."""
        if isinstance(content, dict):
            options = content.get("options") or {}
            given = options.model_dump() if isinstance(options, BaseModel) else options
            try:
                content = {**content, "options": named(content.get("model", "atrank")).Config.model_validate(given)}
            except ValidationError as error:
                raise ValueError(first_problem(error, "options")) from None
        return content

    @classmethod
    def of(
        cls,
        log: EventLog | ShardedLog,
        model: str,
        recipe: Recipe,
        options: BaseModel | Mapping[str, Any] | None = None,
        histories: Sequence[str] | None = None,
        targets: Sequence[str] | None = None,
        **settings: Any,
    ) -> "RunConfig":
        """The configuration of a run on a log; all groups, and the model's own options, where none are given.
        ValueError for an unknown model, group or option."""
        try:
            return cls(
                model=model,
                recipe=KeptRecipe.model_validate(recipe.model_dump()),
                options=options,
                log_schema=log.schema,
                histories=log.schema.check_groups(histories, "history groups"),
                targets=log.schema.check_groups(targets, "targets"),
                data_name=log.schema.name,
                data_fingerprint=log.fingerprint(),
                versions=versions(),
                **settings,
            )
        except ValidationError as error:
            raise RunError(first_problem(error)) from None

    def settings(self) -> dict[str, object]:
        """Every setting by its name, such as ``recipe.epochs``, without the versions."""
        content = self.model_dump(mode="json", exclude={"versions"})
        parts = [(part, *item) for part in ("options", "recipe") for item in content.pop(part).items()]
        return content | {f"{part}.{name}": v for part, name, v in parts if (name, v) not in _FORMER.items()}


def first_problem(error: ValidationError, *place: str) -> str:
    """The first problem of several in one line: where it is, and what."""
    first = error.errors(include_url=False)[0]
    where, said = ".".join([*place, *map(str, first["loc"])]), first["msg"].removeprefix("Value error, ")
    return f"{where}: {said}" if where else said


def read_config(run: Path) -> RunConfig:
    """Read ``config.json`` of a run's folder; ``RunError`` where there is none that this version can read."""
    path = run / "config.json"
    try:
        config = RunConfig.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        said = f"{run} holds no run (config.json is missing); name a folder that `atrank train` wrote"
        raise RunError(said) from None
    except ValidationError as error:
        raise RunError(f"{path}: {first_problem(error)}; the file was changed, or written by another version") from None
    known = _FORMER.keys() | {name for kind in Recipe.__subclasses__() for name in kind.model_fields}
    if more := (config.recipe.model_extra or {}).keys() - known:
        raise RunError(f"{path}: recipe.{min(more)} is no setting; known are {', '.join(sorted(known))}")
    return config


def check_same(run: Path, config: RunConfig, complete: int) -> None:
    """``RunError`` if a run is resumed with other settings than those in ``config.json``; the number of epochs alone
    may change, as long as no more are ``complete``."""
    before, now = read_config(run).settings(), config.settings()
    if config.recipe.epochs >= complete:
        now["recipe.epochs"] = before["recipe.epochs"]
    if before["model"] != now["model"]:  # another model has other options
        before, now = {"model": before["model"]}, {"model": now["model"]}
    different = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if different:
        changes = "; ".join(f"{name} was {before.get(name)!r}, is now {now.get(name)!r}" for name in different)
        remedy = "resume with the settings of config.json, or choose another folder"
        raise RunError(f"{run} was trained with other settings: {changes}; {remedy}")
