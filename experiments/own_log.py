"""The questions of chapters 7 to 10, asked briefly of any log: some hundred steps of training, some hundred users."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from atrank_lib import RECIPES, ATRank, EventLog, GroupedHistories, Split, fit, interpret
from atrank_lib.batches import Samples
from atrank_lib.evaluation import AverageUserAUC, fixed_candidates, score_candidates, user_auc
from atrank_lib.ranking import Model
from atrank_lib.samples import Protocol, prepare
from experiments.baselines import Scorer, choose
from experiments.causes import names_shared
from experiments.full_ranking import listed, ndcg_at, score_all
from experiments.models import build, option_names
from experiments.records import ExperimentError, read_record, recorded
from experiments.variations import predictable, some_users

USERS, TARGETS, LISTED, NEGATIVES = 5_000, 1_000, 200, 20
LEAST, STEPS = 100, 300  # training samples of a group that is predicted; steps of a model
RULES = ("popularity", "popular-lately", "last-category", "counted-recent", "item-knn")
READERS = ("bpr-mf", "wide-deep", "bi-lstm", "din", "atrank")
SIZES = {"embedding_size": 16, "hidden": 32, "spaces": 4, "id_dropout": 0.3}
RECIPE = RECIPES["small"].model_copy(update={"max_length": 50, "epochs": 20})


@dataclass(frozen=True)
class Own:
    """A log cut down to ``USERS`` users and ``TARGETS`` test targets of each group, and how long models train on it."""

    log: EventLog
    steps: int
    seed: int = 0

    @classmethod
    def of(cls, log: EventLog, steps: int = STEPS, seed: int = 0) -> Own:
        return cls(some_users(log, USERS, seed), steps, seed)

    def targets(self, most: int = 3) -> list[str]:
        """The groups that can be predicted, the one with the most behaviors first."""
        groups = sorted(predictable(self.log, LEAST), key=lambda group: -len(self.log.events[group]))
        if not groups:
            raise ExperimentError(
                f"no group of {self.log.schema.name!r} has {LEAST} training samples, behaviors of a user after the "
                "first and before the last two; take a longer log, or more users"
            )
        return groups[:most]

    def parts(self, targets: Sequence[str], protocol: Protocol = "validated") -> tuple[GroupedHistories, Split]:
        histories, parts = prepare(self.log, protocol, targets)
        for tasks in (parts.validation, parts.test):
            for name, samples in tasks.items():
                order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(self.seed))[:TARGETS]
                tasks[name] = samples[order.sort().values]
        return histories, parts

    def train(
        self, name: str, histories: GroupedHistories, parts: Split, read: Sequence[str] | None = None, turns: int = 1
    ) -> Model:
        """A small model after ``turns * steps`` steps at most; it reads some groups, or all."""
        torch.manual_seed(self.seed)
        options = {key: value for key, value in SIZES.items() if key in option_names(name)}
        model = build(name, histories, options, read)
        fit(model, histories, parts, RECIPE, seed=self.seed, max_steps=turns * self.steps, progress=False)
        return model


def _asked(histories: GroupedHistories, samples: Samples, negatives: int = NEGATIVES) -> Int[Tensor, "s c"]:
    group = samples.target_group
    return fixed_candidates(histories, {group: samples}, negatives)[group]


def _auc(scorer: Model | Scorer, histories: GroupedHistories, samples: Samples, rows: Tensor) -> AverageUserAUC:
    if isinstance(scorer, Model):
        group = samples.target_group
        return user_auc(samples, score_candidates(scorer, histories, {group: samples}, {group: rows})[group])
    return user_auc(samples, scorer(samples, rows))


def _minus(one: AverageUserAUC, other: AverageUserAUC, name: str) -> dict[str, float]:
    """The mean difference over the same users, and its 95 % interval."""
    of = AverageUserAUC(one.per_user - other.per_user, 0)
    return dict(zip((name, "from", "to"), (float(of), *of.interval()), strict=True))


def _best_rule(histories: GroupedHistories, parts: Split, group: str) -> tuple[str, Scorer]:
    """What validation likes best of the rules."""
    chosen = {name: choose(name, histories, parts, group) for name in RULES}
    best = max(chosen, key=lambda name: chosen[name].validation_auc)
    return best, chosen[best].scorer


def readers(own: Own) -> pd.DataFrame:
    """Chapter 7: rules and models on the group with the most behaviors, with the difference to the best rule."""
    (group,) = own.targets(1)
    histories, parts = own.parts([group])
    samples, best = parts.test[group], _best_rule(histories, parts, group)[0]
    rows = _asked(histories, samples)
    found = {rule: _auc(choose(rule, histories, parts, group).scorer, histories, samples, rows) for rule in RULES}
    found |= {name: _auc(own.train(name, histories, parts), histories, samples, rows) for name in READERS}
    return pd.DataFrame(
        [
            {"target": group, "users": auc.users, "model": name, "AUC": float(auc)}
            | _minus(auc, found[best], f"minus {best}")
            for name, auc in found.items()
        ]
    )


def modes(own: Own) -> pd.DataFrame:
    """Chapter 8: does a target gain by all groups as history, and by a model that serves all targets?

    A model of several targets takes as many steps for each as a model of one.
    """
    groups, found = own.targets(), []
    histories, parts = own.parts(groups)
    together = own.train("atrank", histories, parts, turns=len(groups))
    for group in groups:
        mine = Split(*({group: tasks[group]} for tasks in (parts.train, parts.validation, parts.test)))
        samples = mine.test[group]
        rows, (rule, scorer) = _asked(histories, samples), _best_rule(histories, mine, group)
        alone, wide = (own.train("atrank", histories, mine, read) for read in ([group], None))
        auc = {"one2one": alone, "all2one": wide, "all2all": together}
        judged = {name: _auc(model, histories, samples, rows) for name, model in auc.items()}
        floor = {"best rule": rule, "its AUC": float(_auc(scorer, histories, samples, rows))}
        gain = _minus(judged["all2one"], judged["one2one"], "all2one minus one2one")
        found.append({"target": group, **floor, **{n: float(a) for n, a in judged.items()}, **gain})
    return pd.DataFrame(found)


def looks(own: Own) -> pd.DataFrame:
    """Chapter 9: which behaviors get attention, beside their number, and what a model loses without one of them.

    ``lead`` is by how much the target's score comes nearer to the mean of ``NEGATIVES`` others, for one behavior.
    """
    (group,) = own.targets(1)
    histories, parts = own.parts([group])
    model, samples = own.train("atrank", histories, parts), parts.test[group][:LISTED]
    table = interpret.attention(cast(ATRank, model), histories, samples)
    table["lead"] = interpret.erasure(cast(ATRank, model), histories, samples, _asked(histories, samples))
    latest = table["elapsed"] == table.groupby("sample")["elapsed"].transform("min")
    kinds = {"the latest": latest, "share a value": pd.Series(names_shared(table, histories, samples) > 0)}
    kinds |= {f"of {name}": table["group"] == name for name in histories.groups}
    total = table["attention"].sum()
    return pd.DataFrame(
        {
            "target": group,
            "behaviors that are": kind,
            "of all": chosen.mean(),
            "of attention": table.loc[chosen, "attention"].sum() / total,
            "lead": table.loc[chosen, "lead"].mean(),
        }
        for kind, chosen in kinds.items()
        if chosen.any()
    )


def protocols(own: Own) -> pd.DataFrame:
    """Chapter 10: the best rule and two models asked in several ways; at last, at one moment of time for everybody.

    ``+-`` is half of the 95 % interval of the last one.
    """
    (group,) = own.targets(1)
    histories, parts = own.parts([group])
    samples, rule = parts.test[group], _best_rule(histories, parts, group)[0]

    def judges() -> dict[str, Model | Scorer]:
        trained = {name: own.train(name, histories, parts) for name in ("din", "atrank")}
        return {rule: choose(rule, histories, parts, group).scorer, **trained}

    asked = judges()
    popular = fixed_candidates(histories, parts.test, NEGATIVES, kind="popularity", training=parts.train)[group]
    ways = {"one negative": _asked(histories, samples, 1), f"{NEGATIVES} negatives": _asked(histories, samples)}
    found = [
        {"asked": way, **_row({name: _auc(one, histories, samples, rows) for name, one in asked.items()})}
        for way, rows in {**ways, f"{NEGATIVES} popular negatives": popular}.items()
    ]
    some = samples[:LISTED]
    whole = {name: AverageUserAUC(_ndcg(one, histories, some).numpy(), 0) for name, one in asked.items()}
    found.append({"asked": "NDCG@10 of all objects", **_row(whole)})
    try:
        histories, parts = own.parts([group], "global_time")
    except ValueError as error:  # nobody is left to train on or to ask
        return pd.DataFrame([*found, {"asked": f"one moment: {error}"}])
    samples = parts.test[group]
    rows = _asked(histories, samples)
    later = {name: _auc(one, histories, samples, rows) for name, one in judges().items()}
    return pd.DataFrame([*found, {"asked": f"{NEGATIVES} negatives, one moment", **_row(later)}])


def _row(found: Mapping[str, AverageUserAUC]) -> dict[str, float | str | int]:
    means = {name: float(auc) for name, auc in found.items()}
    last = list(found.values())[-1]
    low, high = last.interval()
    return {"users": last.users, **means, "+-": (high - low) / 2, "first": max(means, key=means.__getitem__)}


def _ndcg(scorer: Model | Scorer, histories: GroupedHistories, samples: Samples) -> Float[Tensor, " s"]:
    if isinstance(scorer, Model):
        return ndcg_at(score_all(scorer, histories, samples), 10)
    every = torch.arange(len(histories.catalogs[samples.target_group]))[None].expand(len(samples), -1)
    return ndcg_at(listed(scorer(samples, every), histories, samples), 10)


QUESTIONS: dict[str, Callable[[Own], pd.DataFrame]] = {
    "readers": readers,
    "modes": modes,
    "looks": looks,
    "protocols": protocols,
}


def answer(question: str, data: str = "", steps: int = STEPS, seed: int = 0) -> pd.DataFrame:
    """The answer on the log in the folder ``data``, or a recorded one where none is given. Says which it is, and for
    which target and how many users where all rows have one."""
    if data:
        log, how = EventLog.read(data), "trained here"
        name, table = log.schema.name, QUESTIONS[question](Own.of(log, steps, seed))
    else:
        folder = recorded("own_log")
        if folder is None:
            raise ExperimentError("results/own_log is part of the book's repository; clone it, or give a log as `data`")
        record, how = read_record(min(folder.glob("*.json"))), "recorded"
        name, steps, table = record["data_name"], record["steps"], pd.DataFrame(record[question])
    same = {column: table[column].iloc[0] for column in ("target", "users") if column in table}
    same = {column: value for column, value in same.items() if (table[column] == value).all()}
    print(f"{name}: {how}, {steps} steps a model", *(f"{column} {value}" for column, value in same.items()), sep="; ")
    return table.drop(columns=[*same])
