"""The paper's tables and ours: what each row trains, and where its settings come from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, Literal, get_args

from atrank_lib import EventLog
from atrank_lib.samples import Protocol
from atrank_lib.training import RecipeName
from atrank_lib.variants import ORIGINAL
from experiments.baselines import RULES
from experiments.choices import LISTS
from experiments.floors import FLOORS
from experiments.models import CAME_AFTER, COMPARED
from experiments.variations import one_time_scale, third, unshared, without_place

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
    targets: tuple[str, ...] | None = None  # which alone it has a place for
    choices: bool = False  # what was chosen from a list, against what else was in it
    causes: int = 0  # test targets of each group for which attention and its rivals are judged by the true causes


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
    # experts that all tasks share, and gates of their own
    "atrank-all2all-experts": Row(kind="all2all", options={"ranking": "mmoe"}),
    # without samples that know what another task tests
    "atrank-all2one-apart": Row(kind="all2one", recipe={"apart": True}),
    "atrank-all2all-apart": Row(kind="all2all", recipe={"apart": True}),
}
EVERY_MODE = {name: replace(row, seeds=3) for name, row in EVERY_MODE.items()}
EQUAL_STEPS = {
    f"{model}-{kind}": Row(model, kind, seeds=3, steps_of=("modes", f"{model}-one2one"))
    for kind in KINDS[1:]
    for model in READERS
}
# trivago: hotels chosen from lists; searches and filters as the paper makes them. Floors, every reader in every mode,
# ATRank with less of the context
# BST would read each of 25 hotels with all of the history anew: 37 GB for 64 samples; DIN has a network of its own
_DROPPED: dict[str, Any] = {"dropout": 0.2, "id_dropout": 0.9}
_TOLD = {"ranking": "mlp"} | _DROPPED
SHOWN = {
    **{name: Row(name, "one2one") for name in ("popularity", "recent-popularity")},
    **{name: Row(name, "one2one", targets=("item",)) for name in LISTS},
    **{
        f"{model}-{kind}": Row(model, kind, options=_DROPPED if model == "din" else _TOLD)
        for model in READERS
        for kind in KINDS
        if model != "bst"
    },
    "atrank-one2one-placeless": Row(kind="one2one", options=_TOLD, log=without_place, targets=("item",)),
    "atrank-one2one-unaware": Row(kind="one2one", options=_TOLD | {"ranking": "dot"}, targets=("item",)),
    "atrank-all2all-apart": Row(kind="all2all", options=_TOLD, recipe={"apart": True}),
}
SHOWN |= {f"{name}-one2one": Row(name, "one2one", options=_TOLD, targets=("item",)) for name in ("sasrec", "hstu")}
SHOWN["onetrans-one2one"] = Row("onetrans", "one2one", options=_DROPPED, targets=("item",))
SHOWN = {name: replace(row, choices=True) for name, row in SHOWN.items()}
# PROTOCOL.md says why: until validation has not improved for four epochs
TO_CONVERGENCE = {"epochs": 40, "patience": 4}
LISTS_RECIPE = {"learning_rate": 1e-3, "batch_size": 64, "negatives": None, "negative_kind": "impressions"}
LISTED = 2_000
CONVERGED = {
    **{name: Row(name, listed=LISTED) for name in RULES if name not in {*LISTS, "recent-popularity", "starts-now"}},
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
# what came after the paper, with the same questions asked
AFTER = {
    "sasrec": Row("sasrec", listed=LISTED),
    "hstu": Row("hstu", listed=LISTED),
    "hstu-softmax": Row("hstu", options={"softmax": True}, seeds=3, listed=LISTED),
    "onetrans": Row("onetrans", seeds=3, listed=LISTED),
}
# what is asked of the scores, and of how many: said to matter more than the architecture
ASKED: dict[str, dict[str, Any]] = {
    "pointwise-1": {"loss": "pointwise", "negatives": 1},
    "pairwise-8": {"loss": "pairwise", "negatives": 8},
    "softmax-8": {"loss": "softmax", "negatives": 8},
    "softmax-64": {"loss": "softmax", "negatives": 64},
    "calibrated-64": {"loss": "calibrated", "negatives": 64},
}
ASKING = ("sasrec", "hstu", "atrank", "din")
EVERY_LOSS = {
    f"{model}-{how}": Row(model, recipe=recipe, log=third, seeds=3, listed=LISTED)
    for model in ASKING
    for how, recipe in ASKED.items()
}
# one log a world of the simulator; rules and models that each should win where its assumption holds
EVERY_WORLD = {name: Row(name) for name in ("popularity", "recent-popularity", "counted-recent", "item-knn", "ials")}
EVERY_WORLD |= {name: Row(name) for name in ("bpr-mf", "wide-deep", "cnn", "bi-lstm", "din", "bst")}
EVERY_WORLD |= {name: replace(CONVERGED[name], causes=500) for name in ("atrank", "atrank-raw", "atrank-alone")}
EVERY_WORLD |= {name: Row(name) for name in CAME_AFTER}
_WHOLE_SOFTMAX = {"loss": "softmax", "all_objects": True}
EVERY_WORLD |= {f"{name}-all-objects": Row(name, recipe=_WHOLE_SOFTMAX) for name in ASKING}
EVERY_WORLD = {name: replace(row, seeds=3, listed=0) for name, row in EVERY_WORLD.items()}
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
    "table3-came-after": Table(AFTER, recipe=TO_CONVERGENCE),
    "table3-losses": Table(EVERY_LOSS, recipe=TO_CONVERGENCE),
    "table3-global-time": Table(LATER, recipe=TO_CONVERGENCE, protocol="global_time"),
    "table5": Table(MODES, of="atrank"),
    "modes": Table(EVERY_MODE, recipe=TO_CONVERGENCE, of="atrank", named="small"),
    "modes-steps": Table(EQUAL_STEPS, recipe=TO_CONVERGENCE, of="atrank", named="small"),
    "shown": Table(SHOWN, recipe=TO_CONVERGENCE | LISTS_RECIPE, of="atrank", named="small"),
    "worlds": Table(EVERY_WORLD, named="small"),  # as recorded for the marketplace's table 5
}
