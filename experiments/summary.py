"""Records as tables: means, spreads and paired differences, lengths of histories, learning curves."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from itertools import combinations, pairwise
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float64
from torch import Tensor

from atrank_lib import EventLog
from atrank_lib.samples import history_lengths, prepare
from experiments.crossed import crossed, crossed_difference, holm, pigeonhole
from experiments.full_ranking import ndcg_of, places, recall_of, sampled
from experiments.records import ExperimentError, Record, read_record, unpack
from experiments.tables import FACTORIAL, FACTORS, PAPER_TABLE_3, TABLES

PRIMARY = ("bi-lstm", "din", "atrank-raw", "atrank-alone")  # contrasts with ATRank that PROTOCOL.md names beforehand
Rows = dict[Any, list[Record]]  # the records of each row, by seed; a row of table 5 is (row, target)
NEEDED = ("model", "seed", "average_user_auc", "ci95", "users", "per_user", "data_name", "data_fingerprint")


def survey(folder: Path, fingerprint: str | None = None) -> tuple[Rows, list[str]]:
    """The records ``<table>/<log>/<name>-seed<n>.json`` of one log by row, in the order of the table, each by seed.

    Args:
        fingerprint: of the log; the first record's where it is not given.

    Returns:
        The records, and a line for each file that is left out: it cannot be read, is another log's, or no record.
    """
    found: Rows = {}
    left_out = []
    for file in sorted(folder.glob("*.json")):
        try:
            record = _checked(file)
        except ExperimentError as error:
            left_out.append(str(error))
            continue
        fingerprint = fingerprint or record["data_fingerprint"]
        if record["data_fingerprint"] != fingerprint:
            log = f"{record['data_name']!r} with fingerprint {record['data_fingerprint']}, not {fingerprint}"
            left_out.append(f"{file} is not used: it is of the log {log}; move it to another folder")
            continue
        row = (record["row"], record["target"]) if "row" in record else file.stem.rpartition("-seed")[0]
        found.setdefault(row, []).append(record)
    order = {name: number for number, name in enumerate(TABLES[folder.parent.name].rows)}
    names = sorted(found, key=lambda row: order.get(row if isinstance(row, str) else row[0], len(order)))
    return {name: sorted(found[name], key=lambda run: run["seed"]) for name in names}, left_out


def _checked(file: Path) -> Record:
    """A record that says what a table needs, and nothing that contradicts itself or its name."""
    record = read_record(file)
    try:
        seed, users = int(file.stem.rpartition("-seed")[2]), len(unpack({n: record[n] for n in NEEDED}["per_user"]))
        if (seed, users) != (record["seed"], record["users"]):
            said = f"seed {record['seed']} and {record['users']} users"
            raise ValueError(f"says {said}, its name and per_user say seed {seed} and {users} users")
    except (KeyError, ValueError, TypeError, zlib.error) as error:
        text = f"has no {error}" if isinstance(error, KeyError) else str(error)
        raise ExperimentError(f"{file} is no record of a table: {text}; delete it, or move it elsewhere") from None
    return record


def read_table(folder: Path) -> Rows:
    """The records of ``<table>/<log>`` by row. An ExperimentError where one cannot be used, or is another log's."""
    rows, left_out = survey(folder)
    if left_out:
        raise ExperimentError("\n".join(left_out))
    return rows


def per_user(runs: Sequence[Record]) -> Float64[np.ndarray, "seeds users"]:
    """AUC of every test user."""
    return np.stack([unpack(run["per_user"]) for run in runs])


def mean(runs: Sequence[Record]) -> dict[str, Any]:
    """Number of seeds, mean AUC, and its standard deviation over seeds (NaN for a single one)."""
    aucs = [run["average_user_auc"] for run in runs]
    spread = float(np.std(aucs, ddof=1)) if len(aucs) > 1 else float("nan")
    return {"seeds": len(aucs), "AUC": float(np.mean(aucs)), "sd": spread}


def difference(changed: Sequence[Record], base: Sequence[Record]) -> dict[str, Any]:
    """By how much the AUC of ``changed`` is above that of ``base``, with its interval over users and seeds.

    Over all seeds of both; with one seed of each the interval speaks of users alone. NaN where one has none.
    """
    if not changed or not base:
        return {"seeds": 0, **dict.fromkeys(("difference", "low", "high"), float("nan"))}
    found = crossed_difference(per_user(changed), per_user(base))
    low, high = found.interval()
    return {"seeds": min(len(changed), len(base)), "difference": found.value, "low": low, "high": high}


def table3(records: Rows) -> pd.DataFrame:
    """Average user AUC: mean and spread over seeds, beside the paper's numbers, and by how much ATRank is better."""
    rows = []
    for model, runs in records.items():
        low, high = np.mean([run["ci95"] for run in runs], axis=0)
        row = {"model": model, **mean(runs), "interval": f"{low:.4f} to {high:.4f}"}
        if "atrank" in records and model != "atrank":
            found = difference(records["atrank"], runs)
            row["atrank better by"] = found["difference"]
            row["95 %"] = f"{found['low']:+.4f} to {found['high']:+.4f}"
        row["paper, Electronics"], row["paper, Clothing"] = PAPER_TABLE_3.get(model, (float("nan"),) * 2)
        rows.append(row)
    return pd.DataFrame(rows).set_index("model")


def converged(records: Rows, base: str = "atrank") -> pd.DataFrame:
    """Table 3 as PROTOCOL.md asks for it: what ``base`` is better by, the verdict, and whether it holds by Holm.

    Primary contrasts have a bootstrap beside their interval. ``epochs`` is the mean of the best ones. NDCG and recall
    are over the users that are ranked among all objects.
    """
    others = records if base in records else {}
    found = {
        name: crossed_difference(per_user(records[base]), per_user(runs))
        for name, runs in others.items()
        if name != base
    }
    held, rows = holm({name: one for name, one in found.items() if name not in PRIMARY}), []
    for name, runs in records.items():
        row = {"model": name, **mean(runs)}
        if "best_epoch" in runs[0]:
            row["epochs"] = float(np.mean([run["best_epoch"] for run in runs]))
        if name in found:
            low, high = found[name].interval()
            row |= {f"{base} better by": found[name].value, "low": low, "high": high}
            row |= {"verdict": found[name].verdict(), "holds": "primary" if name in PRIMARY else held[name]}
        if name in found and name in PRIMARY:
            row["bootstrap"] = "{:+.4f} to {:+.4f}".format(*pigeonhole(per_user(records[base]), per_user(runs)))
        if there := _places(runs):
            row["NDCG@10"], row["recall@10"] = (float(of(*there, 10).mean()) for of in (ndcg_of, recall_of))
        row |= {"parameters": runs[0].get("parameters", {}).get("rest"), "multiply-adds": runs[0].get("multiply_adds")}
        rows.append(row)
    return pd.DataFrame(rows).set_index("model")


def protocols(records: Rows, later: Rows, objects: int) -> pd.DataFrame:
    """The same models by other questions, each the mean over seeds: one uniform negative, one drawn by popularity, the
    target first among itself and 100 others, the best 10 of all ``objects``, and one moment in time for everybody.

    Args:
        records: of models asked about the last behavior of each user.
        later: of the same models trained on what lies before one moment, and asked about what comes after.
    """
    rows = {}
    for name, runs in records.items():
        if name not in later or not (there := _places(runs)):
            continue
        rows[name] = {
            "uniform": mean(runs)["AUC"],
            "popular": mean([run["popular"] for run in runs])["AUC"],
            "first of 101": float(sampled(*there, 1, 100, objects).mean()),
            "NDCG@10": float(ndcg_of(*there, 10).mean()),
            "one moment": mean(later[name])["AUC"],
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _places(runs: Sequence[Record]) -> tuple[Tensor, Tensor] | None:
    """``full_ranking.places`` of all runs and groups; None where nothing was ranked among all objects."""
    lists = [places(one) for run in runs for one in run.get("whole_list", {}).values()]
    if not lists:
        return None
    above, level = (torch.cat(part) for part in zip(*lists, strict=True))
    return above, level


def switch_table(records: Rows, base: str = "base") -> pd.DataFrame:
    """What each switch changes: mean and spread over seeds, and the difference to the base."""
    rows = []
    for name, runs in records.items():
        changed = difference(runs, records[base]) if base in records and name != base else {}
        rows.append({"switch": name, **changed, **mean(runs)})
    return pd.DataFrame(rows, columns=["switch", "seeds", "AUC", "sd", "difference", "low", "high"]).set_index("switch")


def original_table(records: Rows) -> pd.DataFrame:
    """What each difference is worth at both ends: added to the paper's model, and taken from its authors' code."""
    ends = {end: {name: r for name, r in records.items() if name.split("-")[0] == end} for end in ("paper", "code")}
    return pd.concat([switch_table(rows, end) for end, rows in ends.items() if rows])


def factorial(records: Rows) -> pd.DataFrame:
    """What each factor changes, and each set of them beyond its parts: main effects are means of eight paired
    differences, interactions half the differences of two of them. ``holds``: by Holm's steps over all 15.

    While cells are missing, what each of the others changes against the first.
    """
    if any(name not in records for name in FACTORIAL):
        return switch_table(records, next(iter(FACTORIAL)))
    results, found = [per_user(records[name]) for name in FACTORIAL], {}
    levels = [dict(zip(FACTORS, name.split("-"), strict=True)) for name in FACTORIAL]
    for count in range(1, len(FACTORS) + 1):
        for some in combinations(FACTORS, count):
            signs = [prod(1 if level[f] == [*FACTORS[f]][1] else -1 for f in some) for level in levels]
            found[" x ".join(some)] = crossed([2 * sign / len(levels) for sign in signs], results)
    held, rows = holm(found), []
    for name, effect in found.items():
        low, high = effect.interval()
        rows.append((name, effect.value, low, high, effect.verdict(), held[name]))
    return pd.DataFrame(rows, columns=["effect", "worth", "low", "high", "verdict", "holds"]).set_index("effect")


def table5(records: Rows) -> pd.DataFrame:
    """Average user AUC of every row and target: mean and spread over seeds, and the gain over one2one, the same
    model's where rows are of several.

    ``missing`` is how much the best reachable AUC of a simulated log is above the mean; ``pooled`` the AUC over all
    users' targets and negatives together.
    """
    rows, several = [], any(name.endswith("-one2one") for name, _ in records)
    for (name, target), runs in records.items():
        base = f"{runs[0]['model']}-one2one" if several else "one2one"
        row = {"row": name, "target": target, "users": runs[0]["users"], **mean(runs)}
        row["pooled"] = float(np.mean([run.get("pooled_auc", np.nan) for run in runs]))
        row["missing"] = runs[0].get("best_auc", float("nan")) - row["AUC"]
        if name != base and (base, target) in records:
            found = difference(runs, records[base, target])
            row |= {"gain": found["difference"], "low": found["low"], "high": found["high"]}
        rows.append(row)
    columns = ["row", "target", "seeds", "users", "AUC", "sd", "pooled", "missing", "gain", "low", "high"]
    table = pd.DataFrame(rows, columns=columns).set_index(["row", "target"])
    return table.drop(columns="pooled") if table["pooled"].isna().all() else table


def by_length(log: EventLog, records: Rows, edges: Sequence[int] = (4, 8, 16, 32)) -> pd.DataFrame:
    """Test AUC of every model by the length of a user's history (all groups), the mean over its seeds.

    Args:
        edges: a bucket begins at each; the first one holds what is shorter.

    Raises:
        ExperimentError: the records hold other test users than the log.
    """
    histories, parts = prepare(log, "validated")
    lengths = np.concatenate(
        [
            history_lengths(samples, histories, tuple(histories.groups))[samples.users.argsort(stable=True)].numpy()
            for samples in parts.test.values()
        ]
    )
    bucket = np.searchsorted(edges, lengths, side="right")
    names = [f"below {edges[0]}", *(f"{a} to {b - 1}" for a, b in pairwise(edges)), f"from {edges[-1]}"]
    rows = []
    for model, runs in records.items():
        wins = per_user(runs).mean(axis=0)
        if wins.shape != lengths.shape:
            raise ExperimentError(f"records of {model!r} hold {len(wins):,} users, the log {len(lengths):,} test users")
        for number in np.unique(bucket):
            own = wins[bucket == number]
            rows.append((model, names[number], len(own), own.mean(), own.std() / len(own) ** 0.5))
    return pd.DataFrame(rows, columns=["model", "behaviors", "users", "AUC", "standard error"])


def curves(records: Rows) -> pd.DataFrame:
    """Figure 2 as a table: validation AUC after each epoch, with the samples seen and the seconds spent until then.

    Seconds are processor time: cells train on one thread each, beside others on the same machine.
    """
    rows = []
    for model, runs in records.items():
        for run in runs:
            samples, seconds = 0, 0.0
            for epoch in run.get("epochs", []):
                samples, seconds = samples + epoch["samples"], seconds + epoch["cpu_seconds"]
                rows.append((model, run["seed"], epoch["epoch"], samples, seconds, epoch["validation_auc"]))
    return pd.DataFrame(rows, columns=["model", "seed", "epoch", "samples", "seconds", "AUC"])


SHOWN = dict.fromkeys(TABLES, table3)
SHOWN |= {"table3-converged": converged, "switches": switch_table, "original": original_table}
SHOWN |= {"factorial": factorial, "table5": table5, "modes": table5, "modes-steps": table5}
