"""Table 5: every training mode on any log, the paper's competitors, and what goes beyond the paper's shuffle."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from atrank_lib.recipes import Recipe, RecipeName

from atrank_lib.evaluation import evaluate, paired_difference
from atrank_lib.grouping import GroupedHistories
from atrank_lib.log.events import EventLog
from atrank_lib.log.vocabularies import UNKNOWN
from atrank_lib.multitask import Kind, Mode, modes, one_time_scale, predictable, unshared
from atrank_lib.runs import MODELS, load_run, train_run
from atrank_lib.samples import Split, split
from experiments.records import read_record, record_run
from experiments.reproduce import FAST_USERS, Profile, ReproduceError, per_user, settings, table_folder
from experiments.search import some_users

# Table 5 of the paper: item, query, coupon
PAPER_TABLE_5 = {
    "bi-lstm": (0.6779, 0.6019, 0.8500),
    "bi-lstm-attention": (0.6754, 0.5999, 0.8413),
    "cnn": (0.6762, 0.6100, 0.8611),
    "one2one": (0.6785, 0.6132, 0.8601),
    "all2one": (0.6825, 0.6297, 0.8725),
    "all2all": (0.6759, 0.6199, 0.8587),
}


@dataclass(frozen=True)
class Row:
    """A row of the table: a training mode of a model, and what is changed."""

    kind: Kind
    model: str = "atrank"
    options: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    log: Callable[[EventLog], EventLog] | None = None


ROWS = {
    # as in the paper
    "bi-lstm": Row("one2one", "bi-lstm"),
    "bi-lstm-attention": Row("one2one", "bi-lstm-attention"),
    "cnn": Row("one2one", "cnn"),
    "one2one": Row("one2one"),
    "all2one": Row("all2one"),
    "all2all": Row("all2all"),
    # beyond the paper's shuffle
    "all2all-heads": Row("all2all", options={"task_heads": True}),
    "all2all-equal": Row("all2all", recipe={"task_weights": "equal"}),
    "all2all-uncertainty": Row("all2all", recipe={"task_weights": "uncertainty"}),
    "all2all-uniform": Row("all2all", recipe={"task_mix": "uniform"}),
    "all2all-joint": Row("all2all", recipe={"task_steps": "joint"}),
    "all2all-pcgrad": Row("all2all", recipe={"task_steps": "pcgrad"}),
    # what all2one has from sharing embeddings, and from time
    "all2one-unshared": Row("all2one", log=unshared),
    "all2one-one-time-scale": Row("all2one", log=one_time_scale),
    "all2one-no-time": Row("all2one", options={"time": "none"}),
    # targets that read behaviors as they are
    "one2one-raw": Row("one2one", options={"told": "raw"}),
    "all2one-raw": Row("all2one", options={"told": "raw"}),
    "all2all-raw": Row("all2all", options={"told": "raw"}),
}


@dataclass(frozen=True)
class ModeCell:
    """One row trained with one seed, and the files of its records: one for each target."""

    row: str
    mode: Mode
    seed: int
    options: dict[str, Any]
    recipe: Recipe
    chosen_by: str
    profile: Profile
    files: dict[str, Path]

    @property
    def file(self) -> Path:
        """The record that names the cell."""
        return next(iter(self.files.values()))

    def records(self) -> list[Path]:
        """The files that finish the cell."""
        return list(self.files.values())

    def settings(self) -> dict[str, Any]:
        """What the records of this cell must agree with."""
        model = ROWS[self.row].model
        return {
            "model": model,
            "mode": self.mode.name,
            "seed": self.seed,
            "profile": self.profile,
            "options": MODELS[model].Config(**self.options).model_dump(mode="json"),
            "recipe": self.recipe.model_dump(mode="json"),
        }


def plan(
    log: EventLog,
    rows: list[str],
    seeds: int,
    profile: Profile,
    out: Path,
    epochs: int,
    named: RecipeName | None = None,
    targets: list[str] | None = None,
) -> list[ModeCell]:
    """The cells of table 5; all rows have the settings of ATRank in table 3, or those of the ``named`` recipe.

    Groups that cannot be predicted, for nobody has four behaviors of them, are history alone.

    Raises:
        ReproduceError: an unknown row or target, a target that cannot be predicted, or no row that fits the log.
    """
    unknown = [name for name in rows if name not in ROWS]
    if unknown or not rows:
        raise ReproduceError(f"modes {unknown or 'none given'}; use some of {list(ROWS)}")
    possible = predictable(log)
    wanted = tuple(possible if targets is None else targets)
    wrong = [name for name in wanted if name not in possible]
    if wrong or not wanted:
        raise ReproduceError(
            f"targets {wrong or list(log.schema.groups)}: no user has the four behaviors of the group that a training "
            f"sample, a validation and a test need; of this log {list(possible)} can be predicted"
        )
    folder, cells = table_folder(out, "table5", log.schema.name, profile), []
    for name in rows:
        row = ROWS[name]
        options, recipe, chosen_by = settings("atrank", log.schema.name, profile, out, epochs, named)
        fields = MODELS[row.model].Config.model_fields
        options = {n: v for n, v in {**options, **row.options}.items() if n in fields}
        for mode in modes(log.schema, wanted):
            if mode.kind == row.kind:
                own = recipe.model_copy(update=row.recipe)
                for seed in range(seeds):
                    files = {target: folder / f"{name}-{target}-seed{seed}.json" for target in mode.targets}
                    cells.append(ModeCell(name, mode, seed, options, own, chosen_by, profile, files))
    if not cells:
        raise ReproduceError(f"a log with the groups {list(log.schema.groups)} has no mode for {rows}")
    return cells


def run_mode(data: Path, cell: ModeCell, runs: Path) -> None:
    """Train, test and record one cell, on one thread. A cut-off training goes on from its last epoch."""
    torch.set_num_threads(1)
    row, original = ROWS[cell.row], EventLog.read(data)
    log = some_users(original, FAST_USERS, 0) if cell.profile == "fast" else original
    log = log if row.log is None else row.log(log)
    name = f"{cell.row}-{'-'.join(cell.mode.targets)}-seed{cell.seed}"
    run = runs.joinpath(*cell.file.parts[-3:-1], name)
    train_run(
        log,
        run,
        model=row.model,
        options=cell.options,
        targets=cell.mode.targets,
        histories=cell.mode.histories,
        recipe=cell.recipe,
        seed=cell.seed,
        resume=True,
        progress=False,
    )
    trained = load_run(run)
    histories = trained.histories_of(log)
    parts = split(histories, trained.config.protocol, cell.mode.targets)
    best = best_auc(data)
    for target, file in cell.files.items():
        more: dict[str, Any] = {"mode": cell.mode.name, "row": cell.row, "target": target, "chosen_by": cell.chosen_by}
        if target in best:
            more["best_auc"] = best[target]
        more |= novelty(histories, parts, target)
        found = evaluate(trained.model, histories, {target: parts.test[target]})
        record_run(run, trained.config, original, found, file, profile=cell.profile, **more)


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


def best_auc(data: Path) -> dict[str, Any]:
    """Of a simulated log, the best AUC that any model can reach for each group; nothing for other logs."""
    file = data / "truth" / "truth.json"
    return dict(json.loads(file.read_text(encoding="utf-8"))["best_auc"]) if file.is_file() else {}


def read_modes(folder: Path) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Records of table 5 by (row, target), in the order of ``ROWS``, each sorted by seed."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for file in sorted(folder.glob("*-seed*.json")):
        record = read_record(file)
        found.setdefault((record["row"], record["target"]), []).append(record)
    order = list(ROWS)
    return {
        name: sorted(found[name], key=lambda record: record["seed"])
        for name in sorted(found, key=lambda name: order.index(name[0]))
    }


def table5(records: dict[tuple[str, str], list[dict[str, Any]]], base: str = "one2one") -> pd.DataFrame:
    """Average user AUC of every row and target: mean and spread over seeds, and the gain over ``base``.

    The gain is over the same users and negatives, with its paired bootstrap interval; ``missing`` is how much the best
    reachable AUC of a simulated log is above the mean.
    """
    rows = []
    for (row, target), runs in records.items():
        aucs = [run["average_user_auc"] for run in runs]
        entry: dict[str, Any] = {"row": row, "target": target, "seeds": len(runs), "users": runs[0]["users"]}
        entry["AUC"] = float(np.mean(aucs))
        entry["sd"] = float(np.std(aucs, ddof=1)) if len(aucs) > 1 else float("nan")
        entry["missing"] = runs[0].get("best_auc", float("nan")) - entry["AUC"]
        if row != base and (base, target) in records:
            entry["gain"], entry["low"], entry["high"] = paired_difference(
                per_user(runs), per_user(records[base, target])
            )
        rows.append(entry)
    return pd.DataFrame(rows).set_index(["row", "target"])
