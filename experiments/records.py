"""Recorded results: one JSON file a run, with all that is needed to judge and to repeat it."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from atrank_lib.evaluation import Evaluation
from atrank_lib.log.events import EventLog
from atrank_lib.log.sharded import ShardedLog
from atrank_lib.log.writing import write_text
from atrank_lib.runs import RunConfig, versions
from atrank_lib.runs.checkpoints import FitResult
from experiments.provenance import commit, hardware


class RecordError(ValueError):
    """A recorded result cannot be used."""


def slug(name: str) -> str:
    """A log's name as the name of a folder: ``Amazon Sports (2014)`` becomes ``amazon_sports``."""
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"\(.*?\)", "", name).lower()).strip("_") or "log"


def pack(per_user: Float64[np.ndarray, " users"]) -> str:
    """AUC of every user under one negative (lost 0, tied 1/2, won 1) as text: 2 * AUC in a byte, zlib, base64.

    Raises:
        ValueError: another value; with several negatives a user's AUC is not one of three.
    """
    halves = np.asarray(per_user) * 2
    if not np.isin(halves, (0, 1, 2)).all():
        raise ValueError("only AUCs of 0, 1/2 and 1 can be packed: evaluate with one negative")
    return base64.b64encode(zlib.compress(halves.astype(np.uint8).tobytes(), 9)).decode()


def unpack(text: str) -> Float64[np.ndarray, " users"]:
    """The inverse of ``pack``."""
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=np.uint8) / 2


def provenance(log: EventLog | ShardedLog) -> dict[str, Any]:
    """Where a result comes from: data, commit, versions, hardware."""
    return {
        "data_name": log.schema.name,
        "data_fingerprint": log.fingerprint(),
        "commit": commit(Path.cwd()),
        "versions": versions(),
        "hardware": hardware(),
    }


def result(evaluation: Evaluation) -> dict[str, Any]:
    """An evaluation as a record holds it; with one negative, also who was won and who was lost."""
    won = {"per_user": pack(evaluation.per_user)} if evaluation.negatives == 1 else {}
    return {**evaluation.as_dict(), **won}


def write_record(file: Path, content: Mapping[str, Any]) -> None:
    """Write a record, complete or not at all, into a folder that is made for it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(content, indent=1) + "\n")


def read_record(file: Path) -> dict[str, Any]:
    """Read a record.

    Raises:
        RecordError: the file is not one.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise RecordError(f"{file} cannot be read ({error}); delete it, and it is made again") from None
    if not isinstance(content, dict):
        raise RecordError(f"{file} holds no record; delete it, and it is made again")
    return content


def recorded(folder: str) -> Path | None:
    """``results/<folder>``, looked for in the current folder and above it, beside this package, and inside it."""
    package = Path(__file__).resolve().parent
    for root in (Path.cwd(), *Path.cwd().parents, package.parent, package):
        if (root / "results" / folder).is_dir():
            return root / "results" / folder
    return None


def recorded_runs(folder: str, model: str = "atrank") -> list[dict[str, Any]]:
    """The records ``results/<folder>/<model>-seed*.json``, by seed; empty where there are none."""
    place = recorded(folder)
    files = place.glob(f"{model}-seed*.json") if place else ()
    return sorted((read_record(file) for file in files), key=lambda run: run["seed"])


def record_run(
    run: Path, config: RunConfig, log: EventLog | ShardedLog, evaluation: Evaluation, file: Path, **more: Any
) -> None:
    """Write a run's result with all that is needed to judge and to repeat it; ``more`` goes into the record too.

    >>> import json
    >>> from tempfile import TemporaryDirectory
    >>> from atrank_lib import evaluate
    >>> from data_scripts.simulate import MarketplaceConfig, simulate
    >>> log, recipe = simulate(MarketplaceConfig(users=40)).log, Recipe(epochs=1)
    >>> with TemporaryDirectory() as folder:
    ...     run, file = Path(folder) / "run", Path(folder) / "record.json"
    ...     _ = train_run(log, run, recipe=recipe, max_steps=2, progress=False)
    ...     trained = load_run(run)
    ...     histories = trained.histories_of(log)
    ...     found = evaluate(trained.model, histories, split(histories).test)
    ...     record_run(run, trained.config, log, found, file)
    ...     print(json.loads(file.read_text())["data_fingerprint"] == log.fingerprint())
    True
    """
    metrics = FitResult.model_validate_json((run / "metrics.json").read_text(encoding="utf-8"))
    content = {
        "model": config.model,
        "seed": config.seed,
        **result(evaluation),
        "protocol": config.protocol,
        "options": config.options.model_dump(mode="json"),
        "recipe": config.recipe.model_dump(mode="json"),
        "best_epoch": metrics.best_epoch,
        "epochs": metrics.epochs,
        "wall_seconds": sum(epoch["seconds"] for epoch in metrics.epochs),
        **more,
        **provenance(log),
    }
    write_record(file, content)
