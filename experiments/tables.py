"""The paper's tables and ours: what each row trains, with which settings, and where its records lie."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

from atrank_lib import RECIPES, EventLog
from atrank_lib.multitask import Mode, modes
from atrank_lib.runs import OPTIONS
from atrank_lib.samples import Protocol
from atrank_lib.training import RecipeName
from atrank_lib.variants import ORIGINAL
from experiments import search
from experiments.baselines import RULES
from experiments.cost import matching_width
from experiments.floors import FLOORS
from experiments.models import COMPARED, config, option_names
from experiments.records import ExperimentError, Profile, Record, place
from experiments.search import Setting
from experiments.tasks import TaskRecipe
from experiments.variations import one_time_scale, predictable, third, unshared

PAPER_TABLE_1 = {"Electronics": (192_403, 63_001, 801, 1_689_188), "Clothing": (39_387, 23_033, 484, 278_677)}
PAPER_TABLE_2 = {"users": 30_358, "item": 447_878, "query": 111_646, "coupon": 64_388, "average length": 19.8}
PAPER_TABLE_3 = {  # Electronics, Clothing
    "bpr-mf": (0.7982, 0.7061),
    "bi-lstm": (0.8757, 0.7869),
    "bi-lstm-attention": (0.8769, 0.7835),
    "cnn": (0.8804, 0.7786),
    "atrank": (0.8921, 0.7905),
}
PAPER_TABLE_4 = (0.2494, 0.1655, 0.1737, 0.1770, 0.1584, 0.1259, 0.1188)  # from [0, 2) days to [64, 128)
PAPER_TABLE_5 = {  # item, query, coupon
    "bi-lstm": (0.6779, 0.6019, 0.8500),
    "bi-lstm-attention": (0.6754, 0.5999, 0.8413),
    "cnn": (0.6762, 0.6100, 0.8611),
    "one2one": (0.6785, 0.6132, 0.8601),
    "all2one": (0.6825, 0.6297, 0.8725),
    "all2all": (0.6759, 0.6199, 0.8587),
}
# what `fast` does instead of a full run: seconds a cell, and recorded as such, beside the full records
FAST_USERS, FAST_EPOCHS, FAST_BATCH, FAST_SIZES = 400, 2, 64, {"embedding_size": 16, "hidden": 32}


Kind = Literal["one2one", "all2one", "all2all"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Row:
    """What a row trains: a model, in modes of this kind, and what is changed of its settings, recipe and log.

    Without a ``kind``, all groups are read and predicted, and one record holds the result.
    """

    model: str = "atrank"
    kind: Kind | None = None
    options: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    log: Callable[[EventLog], EventLog] | None = None
    seeds: int | None = None  # at most, where time allows no more
    matched: bool = False  # as wide as gives it the parameters that the model has without these options
    listed: int = 0  # test users whose targets are looked for among all objects
    steps_of: tuple[str, str] | None = None  # no more than this table's row took until its best epoch, target by target


@dataclass(frozen=True)
class Table:
    """Rows whose records lie in one folder, and whose settings come from one source."""

    rows: dict[str, Row]
    recipe: dict[str, Any] = field(default_factory=dict)  # instead of what the settings say
    settings: Literal["searched", "before-finals", "runner-up", "paper"] = "searched"
    of: str | None = None  # the model whose settings all rows take; its own by default
    named: RecipeName | None = None  # without a search; "modern" by default
    protocol: Protocol = "validated"


def _models(**options: Any) -> dict[str, Row]:
    return {name: Row(name, options=options) for name in COMPARED}


# what the paper leaves open, or its code does otherwise, one at a time
SWITCHES = {
    "base": Row(),
    "dot-attention": Row(options={"attention": "dot"}),
    "residual-attended": Row(options={"residual": "attended"}),
    "shared-target-attention": Row(options={"target_attention": "shared"}),
    "target-residual": Row(options={"target_residual": True}),
    "raw-target": Row(options={"ranked": "raw"}),
    "object-bias": Row(options={"object_bias": True}),
    "network-as-f": Row(options={"ranking": "mlp"}),
    "linear-projection": Row(options={"linear_projection": True}),
    "one-hot-time": Row(options={"time": "one_hot"}),
    "no-time": Row(options={"time": "none"}),
    "no-self-attention": Row(options={"blocks": 0}),
    "no-dropout": Row(options={"embedding_dropout": 0.0, "id_dropout": 0.0}),
    "pointwise-loss": Row(recipe={"loss": "pointwise", "negatives": 1}),
    "negatives-drawn-once": Row(recipe={"redraw_negatives": False}),
}
_CODE = ["dot-attention", "residual-attended", "target-residual", "object-bias", "linear-projection", "one-hot-time"]
SWITCHES["original-code"] = Row(  # all of the authors' choices at once
    options={name: value for switch in _CODE for name, value in SWITCHES[switch].options.items()},
    recipe=SWITCHES["pointwise-loss"].recipe | SWITCHES["negatives-drawn-once"].recipe,
)
# what lies between the paper and its authors' code, one true difference at a time; optimizer and batches are the
# search's at both ends (for the paper's: table3-paper-recipe)
DIFFERENCES = {
    "dot-attention": SWITCHES["dot-attention"],
    "two-norms": Row(options={"residual": "twice"}),
    "target-two-norms": Row(options={"target_residual": "twice"}),
    "bottleneck": Row(options={"bottleneck": True}),
    "target-not-projected": Row(options={"target": "raw"}),
    "linear-projection": SWITCHES["linear-projection"],
    "one-hot-12-time": Row(options={"time": "one_hot_12"}),
    "action-beside": Row(options={"action": "beside"}),
    "object-bias": SWITCHES["object-bias"],
    "glorot-start": Row(options={"start": "glorot"}),
    "no-dropout": Row(options={"dropout": 0.0, "embedding_dropout": 0.0, "id_dropout": 0.0}),
    "pointwise-loss": SWITCHES["pointwise-loss"],
    "negatives-drawn-once": SWITCHES["negatives-drawn-once"],
}


def _together(rows: Iterable[Row], **options: Any) -> Row:
    recipe: dict[str, Any] = {}
    for row in rows:
        options, recipe = options | row.options, recipe | row.recipe
    return Row(options=options, recipe=recipe)


def _without(row: Row, less: Row) -> Row:
    options = {name: value for name, value in row.options.items() if name not in less.options}
    return Row(options=options, recipe={name: value for name, value in row.recipe.items() if name not in less.recipe})


_WHOLE = _together(DIFFERENCES.values(), **ORIGINAL)
PAPER_TO_CODE = {"paper": Row()} | {f"paper-with-{name}": row for name, row in DIFFERENCES.items()}
PAPER_TO_CODE |= {"code": _WHOLE} | {f"code-without-{name}": _without(_WHOLE, row) for name, row in DIFFERENCES.items()}
PAPER_TO_CODE = {name: replace(row, log=third, seeds=3) for name, row in PAPER_TO_CODE.items()}
# what may make DIN better: what is added up, how, what ``f`` is, and whether behaviors read each other
FACTORS: dict[str, dict[str, dict[str, Any]]] = {
    "told": {"projected": {}, "raw": {"told": "raw"}},
    "weighting": {"softmax": {}, "sum": {"weighting": "sum"}},
    "f": {"dot": {}, "network": {"ranking": "mlp"}},
    "self-attention": {"self": {}, "alone": {"blocks": 0}},
}
FACTORIAL = {
    "-".join(level for level, _ in levels): Row(
        options={name: value for _, options in levels for name, value in options.items()},
        matched=True,
        log=third,
        seeds=3,
    )
    for levels in product(*(levels.items() for levels in FACTORS.values()))
}
MODES = {
    # nothing is trained
    **{name: Row(name, "one2one") for name in FLOORS},
    # as in the paper
    "bi-lstm": Row("bi-lstm", "one2one"),
    "bi-lstm-attention": Row("bi-lstm-attention", "one2one"),
    "cnn": Row("cnn", "one2one"),
    "one2one": Row(kind="one2one"),
    "all2one": Row(kind="all2one"),
    "all2all": Row(kind="all2all"),
    # beyond the paper's shuffle
    "all2all-heads": Row(kind="all2all", options={"task_heads": True}),
    "all2all-equal": Row(kind="all2all", recipe={"task_weights": "equal"}),
    "all2all-uncertainty": Row(kind="all2all", recipe={"task_weights": "uncertainty"}),
    "all2all-uniform": Row(kind="all2all", recipe={"task_mix": "uniform"}),
    "all2all-joint": Row(kind="all2all", recipe={"task_steps": "joint"}),
    "all2all-pcgrad": Row(kind="all2all", recipe={"task_steps": "pcgrad"}),
    # what all2one has from sharing embeddings, and from time
    "all2one-unshared": Row(kind="all2one", log=unshared),
    "all2one-one-time-scale": Row(kind="all2one", log=one_time_scale),
    "all2one-no-time": Row(kind="all2one", options={"time": "none"}),
    # targets that read behaviors as they are
    "one2one-raw": Row(kind="one2one", options={"told": "raw"}),
    "all2one-raw": Row(kind="all2one", options={"told": "raw"}),
    "all2all-raw": Row(kind="all2all", options={"told": "raw"}),
}
READERS = ("atrank", "bi-lstm", "cnn", "din", "bst")
# the authors' code, factors of its largest rate
RATES = {"item": 1.0, "query": 0.4, "coupon": 0.8}
EVERY_MODE = {
    **{name: Row(name, "one2one") for name in FLOORS},
    **{f"{model}-{kind}": Row(model, kind) for kind in KINDS for model in READERS},
    "atrank-all2all-rates": Row(kind="all2all", recipe={"task_rates": RATES}),
    # without samples that know what another task tests
    "atrank-all2one-apart": Row(kind="all2one", recipe={"apart": True}),
    "atrank-all2all-apart": Row(kind="all2all", recipe={"apart": True}),
}
EQUAL_STEPS = {
    f"{model}-{kind}": Row(model, kind, steps_of=("modes", f"{model}-one2one"))
    for kind in KINDS[1:]
    for model in READERS
}
# PROTOCOL.md says why: until validation has not improved for four epochs
TO_CONVERGENCE = {"epochs": 40, "patience": 4}
LISTED = 2_000
CONVERGED = {
    **{name: Row(name, listed=LISTED) for name in RULES if name not in ("recent-popularity", "starts-now")},
    "bpr-mf": Row("bpr-mf", listed=LISTED),
    "wide-deep": Row("wide-deep", listed=LISTED),
    "bi-lstm": Row("bi-lstm", seeds=3, listed=LISTED),
    "bi-lstm-attention": Row("bi-lstm-attention", seeds=2, listed=LISTED),
    "cnn": Row("cnn", seeds=3, listed=LISTED),
    "din": Row("din", listed=LISTED),
    "bst": Row("bst", seeds=2, listed=500),  # each candidate changes all that BST computes
    "atrank": Row(listed=LISTED),
    "atrank-raw": Row(options={"told": "raw"}, listed=LISTED),
    "atrank-alone": Row(options={"blocks": 0}, listed=LISTED),
}
# one moment in time for everybody: what trains in an afternoon
LATER = {name: replace(row, seeds=2) for name, row in CONVERGED.items() if name not in ("bi-lstm-attention", "bst")}
# one log a world of the simulator; rules and models that each should win where its assumption holds
WORLDS = {name: Row(name) for name in ("popularity", "recent-popularity", "counted-recent", "item-knn", "ials")}
WORLDS |= {name: Row(name) for name in ("bpr-mf", "wide-deep", "cnn", "bi-lstm", "din", "bst", "atrank")}
WORLDS |= {name: CONVERGED[name] for name in ("atrank-raw", "atrank-alone")}
WORLDS = {name: replace(row, seeds=3, listed=0) for name, row in WORLDS.items()}
TABLES = {
    "table3": Table(_models()),
    "table3-converged": Table(CONVERGED, recipe=TO_CONVERGENCE),
    "table3-paper-recipe": Table(_models(), settings="paper"),
    "table3-before-finals": Table(_models(), settings="before-finals"),
    "table3-runner-up": Table(_models(), settings="runner-up"),
    "table3-no-time": Table(_models(time="none")),
    "table3-normalized": Table(_models(normalized=True)),
    "table3-raw": Table(_models(told="raw")),
    "table3-raw-alone": Table(_models(told="raw", blocks=0)),
    "switches": Table(SWITCHES),
    "table3-original-code": Table({"original-code": replace(_WHOLE, seeds=3)}, recipe=TO_CONVERGENCE),
    "original": Table(PAPER_TO_CODE, recipe=TO_CONVERGENCE),
    "factorial": Table(FACTORIAL, recipe=TO_CONVERGENCE),
    "table3-global-time": Table(LATER, recipe=TO_CONVERGENCE, protocol="global_time"),
    "table5": Table(MODES, of="atrank"),
    "modes": Table(EVERY_MODE, recipe=TO_CONVERGENCE, of="atrank", named="small"),
    "modes-steps": Table(EQUAL_STEPS, recipe=TO_CONVERGENCE, of="atrank", named="small"),
    "worlds": Table(WORLDS, named="small"),  # as recorded for the marketplace's table 5
}


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
        for mode in _modes(log, row.kind, targets) if row.kind else [None]:
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
