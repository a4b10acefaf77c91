"""Hyperparameters for every model by the same search: one space, one budget, chosen on validation alone.

Many configurations are tried on some users; the best few are trained again on all of them, and the best of those is
chosen. What is best for a part of the users overfits less, or more, with all of them.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import torch

from atrank_lib import EventLog, GroupedHistories, Recipe, Split, fit
from atrank_lib.fast import RowSteps
from atrank_lib.runs import MODELS
from atrank_lib.samples import prepare
from experiments.models import build
from experiments.records import ExperimentError, Record, place, provenance, read_record, write_record
from experiments.variations import some_users

Setting = tuple[dict[str, Any], Recipe, str]  # options of a model, recipe, and where they come from
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
FINALISTS = 3
OPTIONS = ("embedding_dropout", "id_dropout")  # belong to the model, the others to the recipe


def as_settings(parameters: dict[str, Any], epochs: int) -> tuple[dict[str, Any], Recipe]:
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
    finalists: int = FINALISTS,
    epochs: int = 8,
    seed: int = 0,
) -> Path:
    """Search one model's hyperparameters into ``out/search/<log>/<model>.json``; what is finished is kept.

    Trials are proposed by Optuna's TPE sampler, the first four at random and equal for all models. A trial's value is
    the best validation AUC of its epochs, on the log of ``users`` users. The best ``finalists`` trials are then trained
    on all users in the same way, and the best of these finals is chosen; with one finalist, or no more users than
    ``users``, the best trial is.

    The record is the study: a search that goes on tells Optuna what is in it. A storage of Optuna's own would be a
    second copy, without the curves and the finals.

    Raises:
        ExperimentError: the file was made with another budget, seed or log.
        ValueError: an unknown model, or Optuna is not installed.
    """
    try:
        import optuna  # nothing else needs it
    except ModuleNotFoundError:
        raise ValueError("a search needs Optuna: pip install 'atrank_lib[search]'") from None
    if model not in MODELS:
        raise ValueError(f"model {model!r}; use one of {sorted(MODELS)}")
    log = EventLog.read(data)
    file, part, origin = place(out, "search", log) / f"{model}.json", some_users(log, users, seed), provenance(log)
    budget = {"users": users, "epochs": epochs, "seed": seed, "space": SPACE, "fixed": FIXED}
    content: Record = {"model": model, **budget, "trials": [], "finals": [], "best": None}
    content |= {"sampler": f"optuna {importlib.metadata.version('optuna')} TPESampler", **origin}
    if file.exists():
        content |= _kept(file, {**budget, "data_fingerprint": origin["data_fingerprint"]})

    kinds = optuna.distributions
    space: dict[str, kinds.BaseDistribution] = {
        name: kinds.CategoricalDistribution(**spec) if "choices" in spec else kinds.FloatDistribution(**spec)
        for name, spec in SPACE.items()
    }
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    for trial in content["trials"]:
        known = optuna.trial.create_trial(params=trial["parameters"], distributions=space, value=trial["value"])
        study.add_trial(known)
    prepared = prepare(part, "validated")
    for number in range(len(content["trials"]), trials):
        # a sampler for each trial, so that an interrupted search proposes what an uninterrupted one would
        study.sampler = optuna.samplers.TPESampler(seed=1_000 * seed + number, n_startup_trials=4)
        trial = study.ask(space)
        content["trials"].append({"parameters": trial.params, **_tried(model, prepared, trial.params, epochs, seed)})
        study.tell(trial, content["trials"][-1]["value"])
        _write(file, content)
    ranked = sorted(range(len(content["trials"])), key=lambda number: -content["trials"][number]["value"])
    finished = {final["trial"] for final in content["finals"]}
    waiting = [number for number in ranked[:finalists] if number not in finished]
    if finalists == 1 or part is log or not waiting:
        return file
    prepared, here = prepare(log, "validated"), {name: origin[name] for name in ("commit", "hardware")}
    for number in waiting:
        found = _tried(model, prepared, content["trials"][number]["parameters"], epochs, seed)
        content["finals"].append({"trial": number, **found, **here})
        _write(file, content)
    return file


def _tried(
    model: str, prepared: tuple[GroupedHistories, Split], parameters: dict[str, Any], epochs: int, seed: int
) -> Record:
    """The validation AUC after each epoch, 0.5 alone where training diverged, and the best of them."""
    histories, parts = prepared
    options, recipe = as_settings(parameters, epochs)
    torch.manual_seed(seed)
    network = build(model, histories, options)
    try:
        done = fit(network, histories, parts, recipe, seed=seed, progress=False, steps=RowSteps)
        curve = [epoch["validation_auc"] for epoch in done.epochs]
    except FloatingPointError:
        curve = [0.5]
    return {"value": max(curve), "validation_auc": curve}


def _write(file: Path, content: Record) -> None:
    """The record, with the best so far: of the finals, if there are any."""
    trials = [{"trial": number, **trial} for number, trial in enumerate(content["trials"])]
    best = max(content["finals"] or trials, key=lambda found: found["value"])
    content["best"] = {**trials[best["trial"]], **best}
    write_record(file, content)


def _kept(file: Path, budget: Record) -> Record:
    """What is in the file of a search that was made in the same way."""
    found = read_record(file)
    if not found.keys() >= {"trials", "best"}:
        raise ExperimentError(f"{file} holds no search; delete it, and it is made again")
    different = [name for name, value in budget.items() if found.get(name) != value]
    if different:
        raise ExperimentError(
            f"{file} was searched with another {', '.join(different)}; delete it, or choose another --out"
        )
    return found


def chosen(model: str, folder: Path, fingerprint: str, epochs: int, finalist: int | None = 0) -> Setting | None:
    """The best settings that a search found for a model; None without a search.

    Args:
        folder: of the searches on the log of this ``fingerprint``, see ``place``.
        finalist: 1 is the runner-up of the finals, and so on (no setting where there are no more finals); None is the
            best on the sample of users, as if there had been no finals.

    Raises:
        ExperimentError: the search was made on another log.
    """
    file = folder / f"{model}.json"
    if not file.is_file():
        return None
    found = _kept(file, {"data_fingerprint": fingerprint})
    finals = sorted(found.get("finals", []), key=lambda final: -final["value"]) or [found["best"]]
    if finalist is None:
        number = max(range(len(found["trials"])), key=lambda trial: found["trials"][trial]["value"])
    elif finalist < len(finals):
        number = finals[finalist]["trial"]
    else:
        return None
    return *as_settings(
        found["trials"][number]["parameters"], epochs
    ), f"search/{folder.name}/{file.name}, trial {number}"
