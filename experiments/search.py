"""Hyperparameters for every model by the same search: one space, one budget, chosen on validation alone.

Many configurations are tried on some users; the best few are trained again on all of them, and the best of those is
chosen. What is best for a part of the users overfits less, or more, with all of them.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import torch
from atrank_lib.recipes import Recipe

from atrank_lib.grouping import GroupedHistories
from atrank_lib.log.events import EventLog
from atrank_lib.runs import MODELS, prepare
from atrank_lib.samples import Split
from atrank_lib.training import fit
from experiments.records import RecordError, provenance, read_record, slug, write_record

# what is searched, the same for every model; log means uniform in the logarithm
SPACE: dict[str, dict[str, Any]] = {
    "learning_rate": {"low": 7e-4, "high": 7e-3, "log": True},
    "embedding_dropout": {"choices": [0.0, 0.1, 0.2, 0.3, 0.4]},
    "id_dropout": {"choices": [0.0, 0.25, 0.5]},
    "weight_decay": {"choices": [0.0, 0.01, 0.1]},
    "batch_size": {"choices": [128, 256, 512]},
}
# what is not searched, the same for every model too
FIXED = {"optimizer": "adamw", "loss": "pairwise", "negatives": 4, "average": 0.999}
OPTIONS = ("embedding_dropout", "id_dropout")  # belong to the model, the others to the recipe


def some_users(log: EventLog, users: int, seed: int) -> EventLog:
    """The log of ``users`` users drawn by ``seed``, with all their behaviors and all objects."""
    names = sorted(set().union(*(events["user_id"].unique() for events in log.events.values())))
    if users >= len(names):
        return log
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed))[:users]
    chosen = {names[i] for i in order.tolist()}
    events = {g: e[e["user_id"].isin(chosen)].reset_index(drop=True) for g, e in log.events.items()}
    return EventLog.from_tables(log.schema, events, log.objects)


def settings(parameters: dict[str, Any], epochs: int) -> tuple[dict[str, Any], Recipe]:
    """A point of the space as options of a model and a recipe."""
    options = {name: parameters[name] for name in OPTIONS}
    rest = {name: value for name, value in parameters.items() if name not in OPTIONS}
    return options, Recipe.model_validate({**FIXED, **rest, "epochs": epochs})


def search(
    data: Path,
    model: str,
    out: Path,
    *,
    trials: int = 12,
    users: int = 6_000,
    finalists: int = 3,
    epochs: int = 8,
    seed: int = 0,
) -> Path:
    """Search one model's hyperparameters into ``out/search/<log>/<model>.json``; what is finished is kept.

    Trials are proposed by Optuna's TPE sampler, the first four at random and equal for all models. A trial's value is
    the best validation AUC of its epochs, on the log of ``users`` users. The best ``finalists`` trials are then trained
    on all users in the same way, and the best of these finals is chosen; with one finalist, or no more users than
    ``users``, the best trial is.

    Raises:
        RecordError: the file was made with another budget, seed or log.
        ValueError: an unknown model, or Optuna is not installed.
    """
    try:
        import optuna  # nothing else needs it
    except ModuleNotFoundError:
        raise ValueError("a search needs Optuna: pip install 'atrank_lib[search]'") from None
    if model not in MODELS:
        raise ValueError(f"model {model!r}; use one of {sorted(MODELS)}")
    log = EventLog.read(data)
    file = out / "search" / slug(log.schema.name) / f"{model}.json"
    budget = {"users": users, "epochs": epochs, "seed": seed, "space": SPACE, "fixed": FIXED}
    origin = provenance(log)
    content: dict[str, Any] = {"model": model, **budget, "trials": [], "finals": [], "best": None}
    content |= {"sampler": f"optuna {importlib.metadata.version('optuna')} TPESampler", **origin}
    if file.exists():
        content |= _kept(file, {**budget, "data_fingerprint": origin["data_fingerprint"]})
    part = some_users(log, users, seed)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    space = {name: _distribution(optuna, spec) for name, spec in SPACE.items()}
    for trial in content["trials"]:
        study.add_trial(
            optuna.trial.create_trial(params=trial["parameters"], distributions=space, value=trial["value"])
        )
    prepared = prepare(part, "validated")
    while len(content["trials"]) < trials:
        number = len(content["trials"])
        # a sampler for each trial, so that an interrupted search proposes what an uninterrupted one would
        study.sampler = optuna.samplers.TPESampler(seed=1_000 * seed + number, n_startup_trials=4)
        trial = study.ask(space)
        curve = _curve(model, prepared, trial.params, epochs, seed)
        study.tell(trial, max(curve))
        content["trials"].append({"parameters": trial.params, "value": max(curve), "validation_auc": curve})
        _write(file, content)
    ranked = sorted(range(len(content["trials"])), key=lambda t: -content["trials"][t]["value"])
    finished = {final["trial"] for final in content["finals"]}
    waiting = [number for number in ranked[:finalists] if number not in finished]
    if finalists == 1 or part is log or not waiting:
        return file
    prepared = prepare(log, "validated")
    for number in waiting:
        curve = _curve(model, prepared, content["trials"][number]["parameters"], epochs, seed)
        found = {"trial": number, "value": max(curve), "validation_auc": curve}
        content["finals"].append(found | {name: origin[name] for name in ("commit", "hardware")})
        _write(file, content)
    return file


def _curve(
    model: str, prepared: tuple[GroupedHistories, Split], parameters: dict[str, Any], epochs: int, seed: int
) -> list[float]:
    """The validation AUC after each epoch; 0.5 alone where training diverged."""
    histories, parts = prepared
    options, recipe = settings(parameters, epochs)
    torch.manual_seed(seed)
    network = MODELS[model](histories.schema, histories.vocabularies, MODELS[model].Config(**options))
    try:
        return [e["validation_auc"] for e in fit(network, histories, parts, recipe, seed=seed, progress=False).epochs]
    except FloatingPointError:
        return [0.5]


def _write(file: Path, content: dict[str, Any]) -> None:
    """The record, with the best so far: of the finals, if there are any."""
    trials = [{"trial": number, **trial} for number, trial in enumerate(content["trials"])]
    best = max(content["finals"] or trials, key=lambda found: found["value"])
    content["best"] = {**trials[best["trial"]], **best}
    write_record(file, content)


def _distribution(optuna: Any, spec: dict[str, Any]) -> Any:
    if "choices" in spec:
        return optuna.distributions.CategoricalDistribution(spec["choices"])
    return optuna.distributions.FloatDistribution(spec["low"], spec["high"], log=spec["log"])


def _kept(file: Path, budget: dict[str, Any]) -> dict[str, Any]:
    """What is in the file of a search that was made in the same way."""
    found = read_record(file)
    different = [name for name, value in budget.items() if found.get(name) != value]
    if different:
        raise RecordError(
            f"{file} was searched with another {', '.join(different)}; delete it, or choose another --out"
        )
    return found


def chosen(
    model: str, log_name: str, out: Path, epochs: int, place: int = 0
) -> tuple[dict[str, Any], Recipe, str] | None:
    """The best settings found for a model on a log, and where they come from; None without a search.

    With ``place`` 1 it is the runner-up of the finals, and so on; None where there are no more finals.
    """
    file = out / "search" / slug(log_name) / f"{model}.json"
    if not file.is_file():
        return None
    found = read_record(file)
    places = sorted(found.get("finals", []), key=lambda final: -final["value"]) or [found["best"]]
    if place >= len(places):
        return None
    number = places[place]["trial"]
    options, recipe = settings(found["trials"][number]["parameters"], epochs)
    return options, recipe, f"search/{slug(log_name)}/{model}.json, trial {number}"
