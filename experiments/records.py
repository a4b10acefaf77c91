"""Recorded results: one JSON file a run, with all that is needed to judge and to repeat it."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64, Int, Num

from atrank_lib import Evaluation, EventLog, FitResult
from atrank_lib.log.sharded import ShardedLog
from atrank_lib.log.writing import write_text
from atrank_lib.runs import RunConfig, hardware, versions
from experiments.provenance import commit

Record = dict[str, Any]
Profile = Literal["fast", "full"]


class ExperimentError(ValueError):
    """An experiment cannot be made as asked, or a recorded result not be used."""


def pack(per_user: Float64[np.ndarray, " users"]) -> str:
    """AUC of every user as text: 2 * AUC in a byte where one target met one negative (lost 0, tied 1/2, won 1), and
    otherwise ``f:`` and 32 bits; zlib, base64.

    >>> unpack(pack(np.array([0.5, 1.0]))).tolist(), unpack(pack(np.array([0.25, 1.0]))).tolist()
    ([0.5, 1.0], [0.25, 1.0])
    """
    halves = np.asarray(per_user) * 2
    if np.isin(halves, (0, 1, 2)).all():
        return _text(halves.astype("u1"))
    return "f:" + _text(np.asarray(per_user).astype("<f4"))


def unpack(text: str) -> Float64[np.ndarray, " users"]:
    """The inverse of ``pack``."""
    return _numbers(text[2:], "<f4").astype(float) if text.startswith("f:") else _numbers(text, "u1") / 2


def pack_whole(numbers: Num[np.ndarray, " n"]) -> str:
    """Whole numbers from 0 to 2^32 as text."""
    return _text(numbers.astype("<u4"))


def unpack_whole(text: str) -> Int[np.ndarray, " n"]:
    """The inverse of ``pack_whole``.

    >>> unpack_whole(pack_whole(np.array([0, 70_000]))).tolist()
    [0, 70000]
    """
    return _numbers(text, "<u4").astype(int)


def _text(numbers: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(numbers.tobytes(), 9)).decode()


def _numbers(text: str, kind: str) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), kind)


def provenance(log: EventLog | ShardedLog) -> Record:
    """Where a result comes from: data, commit, versions, hardware."""
    data = {"data_name": log.schema.name, "data_fingerprint": log.fingerprint()}
    return {**data, "commit": commit(Path.cwd()), "versions": versions(), "hardware": hardware()}


def result(evaluation: Evaluation) -> Record:
    """An evaluation as a record holds it; with one negative, or all that was shown, also every user's AUC."""
    won = {"per_user": pack(evaluation.per_user)} if evaluation.negatives in (1, None) else {}
    return {**evaluation.as_dict(), **won}


def record_run(
    run: Path, config: RunConfig, log: EventLog | ShardedLog, evaluation: Evaluation, file: Path, **more: Any
) -> None:
    """Write a run's result with all that is needed to judge and to repeat it; ``more`` goes into the record too."""
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


def write_record(file: Path, content: Mapping[str, Any]) -> None:
    """Write a record beside its place, then rename it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(content, indent=1) + "\n")


def read_record(file: Path) -> Record:
    """Read a record; an ExperimentError where the file is none."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ExperimentError(f"{file} cannot be read ({error}); delete it, and it is made again") from None
    if not isinstance(content, dict):
        raise ExperimentError(f"{file} holds no record; delete it, and it is made again")
    return content


def slug(name: str) -> str:
    """A log's name as the name of a folder: ``Amazon Sports (2014)`` becomes ``amazon_sports``."""
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"\(.*?\)", "", name).lower()).strip("_") or "log"


def place(out: Path, table: str, log: EventLog, profile: Profile = "full") -> Path:
    """Where the records of a table of a log lie: ``<out>/<table>/<slug>``; those of the fast profile beside it.

    Names that differ in brackets, signs or script have one slug, and a log may change under its name. Where a folder
    holds records of other logs alone, this log's lie beside it: ``<slug>-<fingerprint>``.
    """
    fingerprint, end = log.fingerprint(), "-fast" if profile == "fast" else ""
    plain, own = (out / table / f"{slug(log.schema.name)}{mark}{end}" for mark in ("", f"-{fingerprint}"))
    logs = set()
    for file in plain.glob("*.json"):
        try:
            logs.add(read_record(file).get("data_fingerprint"))
        except ExperimentError:
            continue  # named where the folder is read
    return own if own.exists() or (logs - {None} and fingerprint not in logs) else plain


def recorded(folder: str) -> Path | None:
    """``results/<folder>``, looked for in the current folder and above it, beside this package, and inside it."""
    package = Path(__file__).resolve().parent
    roots = (Path.cwd(), *Path.cwd().parents, package.parent, package)
    return next((root / "results" / folder for root in roots if (root / "results" / folder).is_dir()), None)


def recorded_runs(folder: str, model: str = "atrank") -> list[Record]:
    """The records ``results/<folder>/<model>-seed*.json``, by seed; empty where there are none."""
    where = recorded(folder)
    files = where.glob(f"{model}-seed*.json") if where else ()
    return sorted((read_record(file) for file in files), key=lambda run: run["seed"])
