"""Whom attention and its rivals suspect, beside the true causes of a simulated log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict, cast

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from atrank_lib.batches import Samples
from atrank_lib.evaluation import AverageUserAUC, average_user_auc, fixed_candidates
from atrank_lib.grouping import GroupedHistories
from atrank_lib.interpret import attention, erasure, gradient, integrated_gradients
from atrank_lib.log.events import EventLog
from atrank_lib.log.schema import TICKS
from atrank_lib.model import ATRank
from atrank_lib.runs import Run
from atrank_lib.samples import Split
from atrank_lib.variants import build, options_of
from data_scripts.truth import Truth
from experiments.records import Record, pack

COMPARED = ("attention", "integrated gradients", "erasure", "any name, weighted")  # sample by sample in the records


class Findings(TypedDict):
    """What ``judge`` finds beside its table."""

    best_space: str
    agreement: dict[str, float]  # mean rank correlation of attention with erasure and with its size
    without_cause: float  # share of test targets
    per_sample: dict[str, str]  # AUC of the methods in ``COMPARED`` for every sample, packed


def shares(
    table: pd.DataFrame, histories: GroupedHistories, samples: Samples, features: Sequence[str]
) -> Bool[np.ndarray, " n"]:
    """Whether a behavior's object and the target have the same value in one of these columns of the objects tables.

    A group without the column, and a missing value, share nothing.

    >>> samples = split(histories).test["item"][:3]
    >>> table = attention(model, histories, samples)
    >>> same = shares(table, histories, samples, ["shop_id"])
    >>> same.shape == (len(table),), bool(same[table["group"] == "query"].any())  # queries have no shop
    (True, False)
    """
    target = samples.target_group
    same = np.zeros(len(table), dtype=bool)
    wanted = samples.objects.numpy()[table["sample"]]
    for group, history in histories.groups.items():
        own = np.flatnonzero(table["group"] == group)
        by_row = np.empty(len(history.rows), dtype=np.int64)
        by_row[history.rows.numpy()] = history.objects.numpy()
        objects = by_row[table["row"].to_numpy()[own]]
        for feature in features:
            if feature in histories.tables[group] and feature in histories.tables[target]:
                mine = histories.tables[group][feature].iloc[objects].reset_index(drop=True)
                theirs = histories.tables[target][feature].iloc[wanted[own]].reset_index(drop=True)
                same[own] |= ((mine == theirs) & mine.notna()).to_numpy(dtype=bool)
    return same


def names_shared(table: pd.DataFrame, histories: GroupedHistories, samples: Samples) -> Int[np.ndarray, " n"]:
    """How much a behavior's object and the target share: values, words, and values that words of the other name.

    A word names a value that it equals, or equals without a letter at its end: `category4a` speaks of `category4`, as
    words of the simulator's queries do. Ids of objects are no values here.

    >>> samples = split(histories).test["item"][:3]
    >>> table = attention(model, histories, samples)
    >>> bool((names_shared(table, histories, samples) >= shares(table, histories, samples, ["shop_id"])).all())
    True
    """
    values, words = {}, {}
    for group, spec in histories.schema.groups.items():
        objects = histories.tables[group]
        chosen = [n for n, f in spec.features.items() if f.kind == "categorical" and n != "object_id"]
        values[group] = [
            {(n, v) for n, v in zip(chosen, row, strict=True) if isinstance(v, str)}
            for row in objects[chosen].itertuples(index=False)
        ]
        told = [objects[n] for n, f in spec.features.items() if f.kind == "tokens"]
        words[group] = [{w for cell in row for w in cell} for row in zip(*told, strict=True)] or [set()] * len(objects)
    by_row = {}
    for group, history in histories.groups.items():
        by_row[group] = np.empty(len(history.rows), dtype=np.int64)
        by_row[group][history.rows.numpy()] = history.objects.numpy()

    def named(said: set[str], of: set[tuple[str, str]]) -> int:
        return len({word for w in said for word in (w, w[:-1] if w[-1:].isalpha() else w)} & {value for _, value in of})

    goal, shared = samples.target_group, np.zeros(len(table), dtype=np.int64)
    targets = samples.objects.numpy()[table["sample"]]
    for i, (group, row, target) in enumerate(zip(table["group"], table["row"], targets, strict=True)):
        mine, wanted = by_row[group][row], target
        v, w, x, y = values[group][mine], words[group][mine], values[goal][wanted], words[goal][wanted]
        shared[i] = len(v & x) + len(w & y) + named(w, x) + named(y, v)
    return shared


def caused(truth: Truth, histories: GroupedHistories, samples: Samples) -> Bool[Tensor, " s"]:
    """Which samples of a simulated log have an earlier behavior as their cause, and not the background.

    >>> found = caused(market.truth, histories, split(histories).test["item"])
    >>> found.shape, 0 < int(found.sum()) < 40
    (torch.Size([40]), True)
    """
    causes = truth.causes[samples.target_group]["cause_row"].to_numpy()
    return torch.from_numpy(causes[_rows_of(histories, samples)] >= 0)


def _rows_of(histories: GroupedHistories, samples: Samples) -> Int[np.ndarray, " s"]:
    """Rows of the targets in the events table of their group."""
    return histories.groups[samples.target_group].rows[samples.positions].numpy()


def planted(
    table: pd.DataFrame, truth: Truth, log: EventLog, histories: GroupedHistories, samples: Samples
) -> pd.DataFrame:
    """The table of ``attention`` with the truth: ``cause`` (bool) and ``posterior``, the chance of being the cause.

    The posterior knows the simulator, the history and the target, but not what was drawn: nobody finds causes better.

    >>> samples = split(histories).test["item"]
    >>> samples = samples[caused(market.truth, histories, samples)][:3]
    >>> table = attention(model, histories, samples)
    >>> int(planted(table, market.truth, market.log, histories, samples)["cause"].sum())  # one for each sample
    3
    """
    group = samples.target_group
    rows = _rows_of(histories, samples)
    posterior = truth.posterior(log, group, rows)
    names = np.array([*truth.causes])
    known = pd.DataFrame(
        {
            "sample": np.repeat(np.arange(len(samples)), np.diff(posterior.offsets)),
            "group": names[posterior.group],
            "row": posterior.row,
            "posterior": posterior.probability,
        }
    )
    known = known[posterior.group >= 0]
    found = table.astype({"group": "str"}).merge(known, on=["sample", "group", "row"], how="left", validate="1:1")
    causes = truth.causes[group].iloc[rows]
    owner = table["sample"].to_numpy()
    is_cause = (causes["cause_row"].to_numpy()[owner] == table["row"].to_numpy()) & (
        causes["cause_group"].astype(str).to_numpy()[owner] == table["group"].astype(str).to_numpy()
    )
    return table.assign(cause=is_cause, posterior=found["posterior"].to_numpy())


def detector_auc(table: pd.DataFrame, suspicion: str, cause: str = "cause") -> pd.Series:
    """How often a true cause gets more suspicion than another behavior of the same history; a tie counts half.

    Returns:
        One value for each sample that has both a cause and another behavior, indexed by ``sample``.

    >>> table = pd.DataFrame({"sample": [0, 0, 0], "attention": [0.2, 0.5, 0.3], "cause": [False, False, True]})
    >>> detector_auc(table, "attention").to_dict()  # more than one of the two others
    {0: 0.5}
    """
    auc = average_user_auc(table["sample"], table[suspicion], table[cause])
    judged = table.groupby("sample")[cause].agg(["any", "all"])
    return pd.Series(auc.per_user, index=judged.index[judged["any"] & ~judged["all"]], name=suspicion)


def agreement(table: pd.DataFrame, a: str, b: str) -> pd.Series:
    """Spearman's rank correlation of two suspicions within each history; NaN where one of them is constant.

    >>> table = pd.DataFrame({"sample": [0, 0, 0], "attention": [0.2, 0.5, 0.3], "erasure": [1.0, 9.0, 4.0]})
    >>> agreement(table, "attention", "erasure").round(6).to_dict()
    {0: 1.0}
    """
    ranks = table.groupby("sample")[[a, b]].rank()
    centered = ranks - ranks.groupby(table["sample"]).transform("mean")
    products = pd.DataFrame({"ab": centered[a] * centered[b], "aa": centered[a] ** 2, "bb": centered[b] ** 2})
    total = products.groupby(table["sample"]).sum()
    return (total["ab"] / np.sqrt(total["aa"] * total["bb"]).replace(0, np.nan)).rename(f"{a}, {b}")


def rules(table: pd.DataFrame, histories: GroupedHistories, samples: Samples) -> pd.DataFrame:
    """The table of ``attention`` with the suspicion of rules that ask no model.

    Returns:
        The table with ``recent`` (minus the elapsed time), ``same <feature>`` for every categorical feature of the
        target but its own id, ``any feature``, ``any feature, recent`` (what shares one before what shares none, the
        most recent first), ``any name, recent``, the same with the words of queries (``names_shared``), and ``any name,
        weighted``: how much is shared, divided by one plus the age in days.

    >>> samples = split(histories).test["item"][:3]
    >>> table = rules(attention(model, histories, samples), histories, samples)
    >>> table.columns[-3:].tolist()
    ['any feature, recent', 'any name, recent', 'any name, weighted']
    """
    table = table.assign(recent=-table["elapsed"])
    spec = histories.schema.groups[samples.target_group].features
    features = [name for name, f in spec.items() if f.kind == "categorical" and name != "object_id"]
    for feature in features:
        table[f"same {feature}"] = shares(table, histories, samples, [feature])
    first = float(table["elapsed"].max()) + 1  # more than any difference in age
    if features:
        table["any feature"] = shares(table, histories, samples, features)
        table["any feature, recent"] = table["any feature"] * first + table["recent"]
    shared, day = names_shared(table, histories, samples), 86_400 * TICKS[histories.schema.timestamp_unit]
    table["any name, recent"] = (shared > 0) * first + table["recent"]
    table["any name, weighted"] = shared / (1 + table["elapsed"] / day)
    return table


def suspects(
    model: ATRank,
    histories: GroupedHistories,
    samples: Samples,
    truth: Truth,
    log: EventLog,
    candidates: Int[Tensor, "s c"] | None = None,
) -> pd.DataFrame:
    """Every detector's suspicion of every earlier behavior, beside the truth.

    Returns:
        The columns of ``attention`` and ``planted``, ``erasure``, ``gradient``, ``integrated gradients``, and those of
        ``rules``.

    >>> samples = split(histories).test["item"]
    >>> samples = samples[caused(market.truth, histories, samples)][:3]
    >>> table = suspects(model, histories, samples, market.truth, market.log)
    >>> [name for name in table if name.startswith(("erasure", "gradient", "integrated"))]
    ['erasure', 'gradient', 'integrated gradients']
    """
    table = planted(attention(model, histories, samples), truth, log, histories, samples)
    table["erasure"] = erasure(model, histories, samples, candidates)
    table["gradient"] = gradient(model, histories, samples, candidates)
    table["integrated gradients"] = integrated_gradients(model, histories, samples, candidates)
    return rules(table, histories, samples)


def detectors(table: pd.DataFrame, names: Sequence[str], level: float = 0.95) -> pd.DataFrame:
    """Mean ``detector_auc`` of some columns, with bootstrap intervals over samples.

    Returns:
        Columns ``AUC``, ``low``, ``high``, ``samples``; one row for each name.

    >>> table = pd.DataFrame({"sample": [0, 0, 0], "attention": [0.2, 0.5, 0.3], "cause": [False, False, True]})
    >>> detectors(table, ["attention"]).to_dict("index")
    {'attention': {'AUC': 0.5, 'low': 0.5, 'high': 0.5, 'samples': 1}}
    """
    rows = []
    for name in names:
        auc = AverageUserAUC(detector_auc(table, name).to_numpy(), 0)
        low, high = auc.interval(level)
        rows.append({"detector": name, "AUC": float(auc), "low": low, "high": high, "samples": auc.users})
    return pd.DataFrame(rows).set_index("detector")


def judge(
    model: ATRank,
    control: ATRank,
    histories: GroupedHistories,
    parts: Split,
    target: str,
    truth: Truth,
    log: EventLog,
    samples: int = 2_000,
    negatives: int = 8,
) -> tuple[pd.DataFrame, Findings]:
    """All detectors on the first so many test targets that have a cause.

    The best single space is the one that does best on validation targets: a choice that takes known causes.

    Args:
        control: the same model, untrained.
        samples: targets, at most, of test and of validation.
        negatives: objects that the target's score is compared with in ``erasure`` and the gradients.

    Returns:
        The table of ``detectors``, and the ``Findings`` beside it.

    Raises:
        ValueError: the protocol has no validation part, or no target has a cause.

    >>> model, control = (ATRank(histories.schema, histories.vocabularies) for _ in range(2))
    >>> table, more = judge(model, control, histories, split(histories), "item", market.truth, market.log, samples=5)
    >>> table.columns.tolist(), sorted(more)
    (['AUC', 'low', 'high', 'samples'], ['agreement', 'best_space', 'per_sample', 'without_cause'])
    """
    chosen = {}
    for name, part in (("validation", parts.validation), ("test", parts.test)):
        some = part[target][caused(truth, histories, part[target])][:samples]
        if not len(some):
            raise ValueError(f"no {name} target of group {target!r} has a cause; simulate more users, with influence")
        chosen[name] = some
    tried = planted(attention(model, histories, chosen["validation"]), truth, log, histories, chosen["validation"])
    spaces = {name: detector_auc(tried, name).mean() for name in tried.filter(like="space ")}
    best = max(spaces, key=lambda name: spaces[name])
    candidates = fixed_candidates(histories, {target: chosen["test"]}, negatives)[target]
    table = suspects(model, histories, chosen["test"], truth, log, candidates)
    table["untrained"] = attention(control, histories, chosen["test"])["attention"]
    table["best space"] = table[best]
    table["erasure, size"] = table["erasure"].abs()
    plain = [name for name in table if name == "recent" or name.startswith(("same ", "any "))]
    names = ["untrained", *plain, "gradient", "integrated gradients", "erasure", "best space", "attention", "posterior"]
    more: Findings = {
        "best_space": best,
        "agreement": {name: agreement(table, "attention", name).mean() for name in ("erasure", "erasure, size")},
        "without_cause": 1 - float(caused(truth, histories, parts.test[target]).double().mean()),
        "per_sample": {name: pack(detector_auc(table, name).to_numpy()) for name in COMPARED},
    }
    return detectors(table, names), more


def judge_run(
    trained: Run, histories: GroupedHistories, parts: Split, truth: Truth, log: EventLog, **how: int
) -> dict[str, Record]:
    """What ``judge`` finds for each target group of a run of ATRank, as a record holds it; groups in which nothing has
    a cause are left out. ``how`` are its numbers of samples and negatives."""
    config, model, found = trained.config, cast(ATRank, trained.model), {}
    torch.manual_seed(config.seed)
    control = build(config.log_schema, trained.vocabularies, options_of(model), config.histories)
    for group in parts.test:
        if not all(caused(truth, histories, part[group]).any() for part in (parts.validation, parts.test)):
            continue
        table, more = judge(model, control, histories, parts, group, truth, log, **how)
        rows: list[dict[str, Any]] = table.reset_index().to_dict("records")
        found[group] = {"rows": rows, **more}
    return found
