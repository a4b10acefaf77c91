"""The simulator's worlds: who wins where, and what became of the predictions of PROTOCOL.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from jaxtyping import Float64

from experiments.causes import COMPARED
from experiments.crossed import crossed_difference, holm
from experiments.records import Record, unpack
from experiments.summary import Rows, mean, per_user

ATTENTIVE = ("din", "bst", "atrank", "atrank-raw", "atrank-alone")  # by targets, or among behaviors
READING = ("cnn", "bi-lstm", *ATTENTIVE)  # histories
FORWARDS = ("sasrec", "onetrans")  # models that came after; HSTU adds up without a softmax
ADDING = ("counted-recent", "item-knn", "wide-deep", "din", "atrank-alone")  # each behavior by itself, then their sum
TOGETHER = ("bi-lstm", "bst", "atrank", "atrank-raw")  # recurrence or self-attention
# attention and what stands beside it
SUSPECTING = ["recent", "any name, recent", "any name, weighted", "gradient", "erasure", "integrated gradients"]
SUSPECTING += ["attention", "posterior"]
CLOSE = 0.02  # of AUC: PROTOCOL.md calls this near


def _by_world(records: Iterable[Rows]) -> dict[str, Rows]:
    """Records of worlds by the world's name, which their logs carry."""
    return {next(iter(rows.values()))[0]["data_name"].removeprefix("simulated "): rows for rows in records if rows}


def worlds(records: Iterable[Rows]) -> pd.DataFrame:
    """Mean AUC over groups of every model in each world, below the best that any model can reach there.

    Args:
        records: what ``read_table`` finds in ``results/worlds/<log>``, for one world or several.
    """
    table = {}
    for world, rows in _by_world(records).items():
        best = next(iter(rows.values()))[0].get("best_auc", {})
        table[world] = {"best": float(np.mean(list(best.values()))) if best else float("nan")}
        table[world] |= {name: mean(runs)["AUC"] for name, runs in rows.items()}
    return pd.DataFrame(table).rename_axis("model")


def predictions(records: Iterable[Rows]) -> pd.DataFrame:
    """What PROTOCOL.md says of the worlds, and what the records say.

    Each row compares a model with another, or with the best of several by their mean AUC. ``verdict`` is that of the
    difference; where ``said`` is *near* it is *near* or *below* if the interval lies on one side of -.02. ``holds``:
    by Holm's steps over all rows. A user's result is the mean over groups, so that users are what varies.
    """
    said: list[tuple[str, str, Sequence[str], str]] = [("drift", "recent-popularity", ["popularity"], "better")]
    said += [("lasting-taste", name, READING, "near") for name in ("bpr-mf", "wide-deep", "ials")]
    said += [("conjunction", name, ADDING, "better") for name in TOGETHER]
    said += [("conjunction", "cnn", ADDING, "not better")]
    lose = {name: "worse" if name in ATTENTIVE else "not better" for name in READING}
    said += [("no-history", name, ["recent-popularity"], how) for name, how in lose.items()]
    said += [("conjunction", name, ADDING, "better") for name in FORWARDS]
    said += [("no-history", name, ["recent-popularity"], "not better") for name in ("hstu", *FORWARDS)]
    found, rows, worlds = {}, [], _by_world(records)
    for world, name, others, predicted in said:
        there = worlds.get(world, {})
        against = max((other for other in others if other in there), key=lambda o: mean(there[o])["AUC"], default=None)
        if name not in there or against is None:
            continue
        one = crossed_difference(*(_over_groups(there[which]) for which in (name, against)))
        low, high = one.interval()
        found[world, name] = replace(one, value=one.value + CLOSE) if predicted == "near" else one
        verdict = found[world, name].verdict()
        if predicted == "near":
            verdict = {"better": "near", "worse": "below"}.get(verdict, "undecided")
        row = {"world": world, "model": name, "against": against, "said": predicted, "difference": one.value}
        rows.append(row | {"low": low, "high": high, "verdict": verdict})
    columns = ["world", "model", "against", "said", "difference", "low", "high", "verdict"]
    table = pd.DataFrame(rows, columns=columns).set_index(["world", "model"])
    return table.assign(holds=list(holm(found).values()))  # rows are in the order of what was found


def detectors(records: Iterable[Rows]) -> pd.DataFrame:
    """Who finds the planted causes in each world: detector AUC of every method, mean over groups and seeds.

    ``above``: by how much attention is above the weighted rule, with its interval over targets and seeds.
    """
    rows, (ours, *_, rule) = [], COMPARED
    for world, of_world in _by_world(records).items():
        for name, runs in of_world.items():
            found = [run["causes"] for run in runs if run.get("causes")]
            if not found:
                continue
            judged = [
                pd.DataFrame(group["rows"]).set_index("detector")["AUC"] for run in found for group in run.values()
            ]
            told, ruled = (
                np.stack([np.concatenate([unpack(g["per_sample"][method]) for g in run.values()]) for run in found])
                for method in (ours, rule)
            )
            one = crossed_difference(told, ruled)
            low, high = one.interval()
            means = pd.concat(judged, axis=1).mean(axis=1)
            row = {"world": world, "model": name, "seeds": len(found)} | means.reindex(SUSPECTING).to_dict()
            rows.append(row | {"above": one.value, "low": low, "high": high})
    return pd.DataFrame(rows, columns=None if rows else ["world", "model"]).set_index(["world", "model"])


def _over_groups(runs: Sequence[Record]) -> Float64[np.ndarray, "seeds users"]:
    """The mean over groups of every user's AUC; all users of a world have targets in all groups."""
    return per_user(runs).reshape(len(runs), len(runs[0]["targets"]), -1).mean(axis=1)
