"""A table's cells on a log: what each trains, with which settings, and where its records lie."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from atrank_lib import RECIPES, EventLog
from atrank_lib.multitask import Mode, modes
from atrank_lib.runs import OPTIONS
from atrank_lib.samples import Protocol
from atrank_lib.training import RecipeName
from experiments import search
from experiments.baselines import RULES
from experiments.cost import matching_width
from experiments.models import config, option_names
from experiments.records import ExperimentError, Profile, Record, place
from experiments.search import Setting
from experiments.tables import TABLES, Kind, Row, Table
from experiments.tasks import TaskRecipe
from experiments.variations import predictable

# what `fast` does instead of a full run: seconds a cell, and recorded as such, beside the full records
FAST_USERS, FAST_EPOCHS, FAST_BATCH, FAST_SIZES = 400, 2, 64, {"embedding_size": 16, "hidden": 32}


@dataclass(frozen=True)
class Cell:
    """One row of a table, in one mode, trained with one seed."""

    name: str  # of the row
    row: Row
    mode: Mode | None  # None reads and predicts all groups
    seed: int
    options: dict[str, Any]
    recipe: TaskRecipe
    chosen_by: str
    profile: Profile
    folder: Path
    judged: tuple[str, ...] = ()  # the targets of its mode that it is recorded for
    protocol: Protocol = "validated"

    @property
    def label(self) -> str:
        """The name of the cell in its folder, and of its run."""
        return "-".join([self.name, *self.judged, f"seed{self.seed}"])

    @property
    def files(self) -> dict[str, Path]:
        """Its records by target group; without a mode a single one, for all groups, under ``""``."""
        names = {t: f"{self.name}-{t}" for t in self.judged} if self.mode else {"": self.name}
        return {target: self.folder / f"{name}-seed{self.seed}.json" for target, name in names.items()}

    @property
    def of_log(self) -> Record:
        """Of what variation of the log its record is, where no mode is named."""
        return {} if self.row.log is None or self.mode else {"variation": self.row.log.__name__}

    def settings(self) -> Record:
        """What a record of this cell must agree with."""
        said: Record = {"model": self.row.model, "profile": self.profile, "protocol": self.protocol, **self.of_log}
        if self.row.model not in RULES:
            options, recipe = (s.model_dump(mode="json") for s in (config(self.row.model, self.options), self.recipe))
            said |= {"seed": self.seed, "options": options, "recipe": recipe}
        return said | ({"mode": self.mode.name, "row": self.name} if self.mode else {})


def plan(
    table: str,
    log: EventLog,
    out: Path,
    names: Sequence[str] | None = None,
    *,
    seeds: int = 5,
    epochs: int = 8,
    profile: Profile = "full",
    recipe: RecipeName | None = None,
    targets: Sequence[str] | None = None,
    settings_of: EventLog | None = None,
) -> list[Cell]:
    """The cells of a table: its rows of these ``names``, all by default, each with seeds counted from 0.

    Settings are the best of a search on this log, or on ``settings_of``; without one, or with the name of a ``recipe``
    (the caller's, or else the table's), those of that recipe. Rows that the log or the model has no place for are left
    out, those that need a feature of the log with a line on stderr; groups that cannot be predicted are history alone.

    Raises:
        ExperimentError: an unknown row, a target that cannot be predicted, no row that has a place, or a search that
            was made on another log.
    """
    rows = TABLES[table].rows
    wanted = list(rows) if names is None else list(names)
    unknown = [name for name in wanted if name not in rows]
    if unknown or not wanted:
        raise ExperimentError(f"rows of {table}: {unknown or 'none given'}; use some of {list(rows)}")
    searched = settings_of or log
    folder, searches, cells = place(out, table, log, profile), place(out, "search", searched), []
    best = partial(search.chosen, folder=searches, fingerprint=searched.fingerprint(), epochs=epochs)
    without = [g for g, group in log.schema.groups.items() if "object_id" not in group.features]
    for name in wanted:
        row, known = rows[name], option_names(rows[name].model)
        if without and row.options.get("object_bias"):
            print(f"{name}: left out, object_id is no feature of {', '.join(without)}", file=sys.stderr)
            continue
        found = _settings(TABLES[table], row.model, best, profile, epochs, recipe or TABLES[table].named)
        if found is None or not row.options.keys() <= known:
            continue
        own = {option: value for option, value in found[0].items() if option in known}
        options = own | row.options
        if row.matched:
            options["hidden"] = matching_width(log, row.model, options, own)
        longer = TABLES[table].recipe if profile == "full" else {}
        training = TaskRecipe.model_validate(found[1].model_dump() | longer | row.recipe)
        if foreign := [group for group in training.task_rates or () if group not in predictable(log)]:
            print(f"{name}: left out, {', '.join(foreign)} cannot be predicted", file=sys.stderr)
            continue
        for mode in _modes(log, row.kind, row.targets or targets) if row.kind else [None]:
            judged = mode.targets if mode else ()
            for some in [(target,) for target in judged] if row.steps_of else [judged]:
                for seed in range(1 if row.model in RULES else min(seeds, row.seeds or seeds)):
                    how = (options, training, found[2], profile, folder, some, TABLES[table].protocol)
                    cells.append(Cell(name, row, mode, seed, *how))
    if not cells:
        raise ExperimentError(
            f"no cells of {table} for {wanted}: no such option or finals of these models, or a log with the groups "
            f"{list(log.schema.groups)} has no such mode or feature"
        )
    return cells


def _settings(
    table: Table,
    model: str,
    best: Callable[..., Setting | None],
    profile: Profile,
    epochs: int,
    named: RecipeName | None,
) -> Setting | None:
    """The settings of a row; None where the table takes finals that are not there."""
    fast: dict[str, Any] = {"epochs": FAST_EPOCHS} if profile == "fast" else {}
    sizes = FAST_SIZES if profile == "fast" else {}
    if table.settings == "paper":  # with its own number of epochs
        return sizes, RECIPES["paper"].model_copy(update=fast), "the paper"
    place = {"before-finals": None, "runner-up": 1}.get(table.settings, 0)
    found = best(table.of or model, finalist=place) if profile == "full" and named is None else None
    if found is not None or place != 0:
        return found
    batch = {"batch_size": FAST_BATCH} if profile == "fast" else {}
    recipe = RECIPES[named or "modern"].model_copy(update={"epochs": epochs, **batch, **fast})
    return {**OPTIONS[named or "modern"], **sizes}, recipe, f"{named or 'modern'} recipe, no search"


def _modes(log: EventLog, kind: Kind, targets: Sequence[str] | None) -> list[Mode]:
    possible = predictable(log)
    wanted = possible if targets is None else tuple(targets)
    wrong = [name for name in wanted if name not in possible]
    if wrong or not wanted:
        raise ExperimentError(
            f"targets {wrong or list(log.schema.groups)}: no user has the four behaviors of the group that a training "
            f"sample, a validation and a test need; of this log {list(possible)} can be predicted"
        )
    return [mode for mode in modes(log.schema, wanted) if mode.kind == kind]
