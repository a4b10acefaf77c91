"""What a trained model looked at: attention, erasure and gradients, behavior by behavior, and whom they suspect.

Everything here is about *positive targets*: one row stands for one (sample, earlier behavior), sorted by sample, then
by group in the schema's order, then by time. ``attention`` makes the table; ``erasure`` and ``gradient`` give one
number a row, in the same order. On a simulated log ``planted`` adds the truth, and ``detector_auc`` judges suspicions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from atrank_lib.evaluation import AverageUserAUC, average_user_auc, fixed_candidates
from atrank_lib.grouping import GroupedHistories, ranges
from atrank_lib.layout import Layout
from atrank_lib.log.events import EventLog
from atrank_lib.model import ATRank, Encoding
from atrank_lib.samples import Batch, Candidates, Samples, Split, build_batch

if TYPE_CHECKING:
    from data_scripts.truth import Truth

ROWS = 100_000  # behaviors encoded at a time while erasing, so that memory stays bounded


@contextmanager
def _evaluating(model: ATRank) -> Iterator[None]:
    """Without dropout, and back."""
    was_training = model.training
    model.eval()
    yield
    model.train(was_training)


def _parts(
    model: ATRank, histories: GroupedHistories, samples: Samples, candidates: Int[Tensor, "s c"] | None, size: int
) -> Iterator[tuple[Int[Tensor, " b"], Int[Tensor, "b c"], Batch]]:
    """Batches in the order of the samples, where the model is; without ``candidates`` the target is the only one."""
    device = next(model.parameters()).device
    objects = samples.objects[:, None] if candidates is None else candidates
    for index in torch.arange(len(samples)).split(size):
        batch = build_batch(histories, samples[index], objects[index], model.histories)
        yield index, objects[index], batch.to(device)


def _margin(model: ATRank, encoding: Encoding, candidates: Candidates) -> Float[Tensor, " b"]:
    """Score of column 0, or by how much it exceeds the mean of the other columns."""
    scores = model.score(encoding, candidates).scores
    return scores[:, 0] if scores.shape[1] == 1 else scores[:, 0] - scores[:, 1:].mean(dim=1)


@torch.no_grad()
def attention(model: ATRank, histories: GroupedHistories, samples: Samples, batch_size: int = 256) -> pd.DataFrame:
    """The attention that each sample's target gives to each earlier behavior (eq. 7).

    Returns:
        Columns ``sample`` (its number), ``group`` (name), ``row`` (in the log's events table of the group),
        ``elapsed`` (in timestamp units), ``attention`` (the mean over spaces), ``space 1``, ``space 2``, ...

    >>> from atrank_lib import split
    >>> from data_scripts.simulate import MarketplaceConfig, simulate
    >>> histories = GroupedHistories.from_log(simulate(MarketplaceConfig(users=40)).log)
    >>> model = ATRank(histories.schema, histories.vocabularies)
    >>> table = attention(model, histories, split(histories).test["item"][:3])
    >>> table.groupby("sample")["attention"].sum().round(4).tolist()
    [1.0, 1.0, 1.0]
    """
    names = list(histories.groups)
    frames = []
    with _evaluating(model):
        for index, _, batch in _parts(model, histories, samples, None, batch_size):
            seen = model.explain(batch)
            sample, place = (seen.groups >= 0).nonzero(as_tuple=True)
            group, position = seen.groups[sample, place], seen.positions[sample, place]
            row, moment = torch.empty_like(position), torch.empty_like(position)
            for number, history in enumerate(histories.groups.values()):
                own = group == number
                row[own] = history.rows[position[own]].long()
                moment[own] = history.timestamps[position[own]]
            weights = seen.target_attention.cpu()[sample, :, 0, place]  # [n, k]
            frame = pd.DataFrame(
                {
                    "sample": index[sample].numpy(),
                    "group": pd.Categorical.from_codes(group.numpy(), pd.Index(names)),
                    "row": row.numpy(),
                    "elapsed": (samples.times[index[sample]] - moment).numpy(),
                    "attention": weights.mean(dim=1).numpy(),
                }
            )
            spaces = {f"space {k + 1}": weights[:, k].numpy() for k in range(weights.shape[1])}
            frames.append(frame.assign(**spaces))
    return pd.concat(frames, ignore_index=True)


@torch.no_grad()
def erasure(
    model: ATRank,
    histories: GroupedHistories,
    samples: Samples,
    candidates: Int[Tensor, "s c"] | None = None,
    batch_size: int = 64,
) -> Float[np.ndarray, " n"]:
    """By how much the target's score falls when one behavior is taken out of the history, for every behavior.

    The model reads the history again without it. Eq. 1 looks at one behavior at a time, so a behavior is taken out by
    leaving out its row of ``S``.

    Args:
        candidates: objects of the target group, the target in column 0. If given, what falls is the target's lead
            over the mean of the others: a pair-wise loss trains leads alone.

    >>> from atrank_lib import split
    >>> from data_scripts.simulate import MarketplaceConfig, simulate
    >>> histories = GroupedHistories.from_log(simulate(MarketplaceConfig(users=40)).log)
    >>> model, samples = ATRank(histories.schema, histories.vocabularies), split(histories).test["item"][:3]
    >>> falls = erasure(model, histories, samples)
    >>> len(falls) == len(attention(model, histories, samples))  # behaviors in the same order
    True
    """
    found = []
    with _evaluating(model):
        for _, objects, batch in _parts(model, histories, samples, candidates, batch_size):
            order = batch.slots.argsort()
            s = model.project(batch)[order]  # [n, d], sample by sample
            sample = batch.slots[order] // batch.length  # [n]
            lengths = torch.bincount(sample, minlength=batch.size)
            starts = lengths.cumsum(0) - lengths
            layout = Layout(batch.slots[order], batch.size, batch.length)
            whole = _margin(model, model.read(s, layout), batch.candidates)  # [b]
            budget = lengths[sample].cumsum(0) // ROWS
            for erased in torch.arange(len(sample), device=s.device).split(
                torch.bincount(budget).tolist() if len(sample) else 1
            ):
                # copy i is the history of behavior erased[i]'s sample without it
                owner = sample[erased]
                kept, copy = ranges(starts[owner], lengths[owner])
                other = kept != erased[copy]
                kept, copy = kept[other], copy[other]
                place = kept - starts[owner[copy]] - (kept > erased[copy]).long()
                longest = max(int(lengths[owner].max()) - 1, 1)
                left = model.read(s[kept], Layout(copy * longest + place, len(erased), longest))
                group = samples.target_group
                features = histories.catalogs[group].take(objects[owner.cpu()].flatten())
                features = {name: f.to(s.device) for name, f in features.items()}
                again = _margin(model, left, Candidates(group, features, (len(erased), objects.shape[1])))
                found.append((whole[owner] - again).cpu().numpy())
    return np.concatenate(found)


def gradient(
    model: ATRank,
    histories: GroupedHistories,
    samples: Samples,
    candidates: Int[Tensor, "s c"] | None = None,
    batch_size: int = 256,
) -> Float[np.ndarray, " n"]:
    """Gradient times input: ``s_j . d score / d s_j`` for every behavior's projected vector ``s_j``, a row of ``S``.

    The first-order estimate of what the score loses when ``s_j`` shrinks to zero. ``candidates`` as in ``erasure``.

    >>> from atrank_lib import split
    >>> from data_scripts.simulate import MarketplaceConfig, simulate
    >>> histories = GroupedHistories.from_log(simulate(MarketplaceConfig(users=40)).log)
    >>> model, samples = ATRank(histories.schema, histories.vocabularies), split(histories).test["item"][:3]
    >>> gradient(model, histories, samples).shape == erasure(model, histories, samples).shape
    True
    """
    found = []
    with _evaluating(model):
        for _, _, batch in _parts(model, histories, samples, candidates, batch_size):
            with torch.no_grad():
                s = model.project(batch)
            s.requires_grad_()
            layout = Layout(batch.slots, batch.size, batch.length)
            (slope,) = torch.autograd.grad(_margin(model, model.read(s, layout), batch.candidates).sum(), s)
            found.append((slope * s.detach()).sum(dim=1)[batch.slots.argsort()].cpu().numpy())
    return np.concatenate(found)


def shares(
    table: pd.DataFrame, histories: GroupedHistories, samples: Samples, features: Sequence[str]
) -> Bool[np.ndarray, " n"]:
    """Whether a behavior's object and the target have the same value in one of these columns of the objects tables.

    A group without the column, and a missing value, share nothing.

    >>> from atrank_lib import split
    >>> from data_scripts.simulate import MarketplaceConfig, simulate
    >>> histories = GroupedHistories.from_log(simulate(MarketplaceConfig(users=40)).log)
    >>> model, samples = ATRank(histories.schema, histories.vocabularies), split(histories).test["item"][:3]
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


def caused(truth: Truth, histories: GroupedHistories, samples: Samples) -> Bool[Tensor, " s"]:
    """Which samples of a simulated log have an earlier behavior as their cause, and not the background.

    >>> from atrank_lib import split
    >>> from data_scripts.simulate import MarketplaceConfig, simulate
    >>> market = simulate(MarketplaceConfig(users=40))
    >>> histories = GroupedHistories.from_log(market.log)
    >>> found = caused(market.truth, histories, split(histories).test["item"])
    >>> found.shape, 0 < int(found.sum()) < 40
    (torch.Size([40]), True)
    """
    rows = histories.groups[samples.target_group].rows[samples.positions].numpy()
    return torch.from_numpy(truth.causes[samples.target_group]["cause_row"].to_numpy()[rows] >= 0)


def planted(
    table: pd.DataFrame, truth: Truth, log: EventLog, histories: GroupedHistories, samples: Samples
) -> pd.DataFrame:
    """The table of ``attention`` with the truth: ``cause`` (bool) and ``posterior``, the chance of being the cause.

    The posterior knows the simulator, the history and the target, but not what was drawn: nobody finds causes better.

    >>> from atrank_lib import split
    >>> from data_scripts.simulate import MarketplaceConfig, simulate
    >>> market = simulate(MarketplaceConfig(users=40))
    >>> histories = GroupedHistories.from_log(market.log)
    >>> samples = split(histories).test["item"]
    >>> samples = samples[caused(market.truth, histories, samples)][:3]
    >>> table = attention(ATRank(histories.schema, histories.vocabularies), histories, samples)
    >>> int(planted(table, market.truth, market.log, histories, samples)["cause"].sum())  # one for each sample
    3
    """
    group = samples.target_group
    rows = histories.groups[group].rows[samples.positions].numpy()
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
        The columns of ``attention`` and ``planted``, and ``erasure``, ``gradient``, ``recent`` (minus the elapsed
        time), ``same <feature>`` for every categorical feature of the target but its own id, and ``any feature``.

    >>> from atrank_lib import split
    >>> from data_scripts.simulate import MarketplaceConfig, simulate
    >>> market = simulate(MarketplaceConfig(users=40))
    >>> histories = GroupedHistories.from_log(market.log)
    >>> samples = split(histories).test["item"]
    >>> samples = samples[caused(market.truth, histories, samples)][:3]
    >>> table = suspects(ATRank(histories.schema, histories.vocabularies), histories, samples, market.truth, market.log)
    >>> [name for name in table if name.startswith(("erasure", "same", "any"))]
    ['erasure', 'same shop_id', 'same brand_id', 'same category_id', 'any feature']
    """
    table = planted(attention(model, histories, samples), truth, log, histories, samples)
    table["erasure"] = erasure(model, histories, samples, candidates)
    table["gradient"] = gradient(model, histories, samples, candidates)
    table["recent"] = -table["elapsed"]
    spec = histories.schema.groups[samples.target_group].features
    features = [name for name, f in spec.items() if f.kind == "categorical" and name != "object_id"]
    for feature in features:
        table[f"same {feature}"] = shares(table, histories, samples, [feature])
    if features:
        table["any feature"] = shares(table, histories, samples, features)
    return table


def spaces_of(table: pd.DataFrame) -> list[str]:
    """The columns of a table of ``attention`` that hold single spaces.

    >>> spaces_of(pd.DataFrame({"attention": [0.5], "space 1": [0.4], "space 2": [0.6]}))
    ['space 1', 'space 2']
    """
    return [name for name in table.columns if name.startswith("space ")]


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
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """All detectors on the first so many test targets that have a cause.

    The best single space is the one that does best on validation targets: a choice that takes known causes.

    Args:
        control: the same model, untrained.
        samples: targets, at most, of test and of validation.
        negatives: objects that the target's score is compared with in ``erasure`` and ``gradient``.

    Returns:
        The table of ``detectors``; and ``best_space``, ``agreement`` (mean rank correlation of attention with erasure
        and with its size) and ``without_cause`` (share of test targets).

    Raises:
        ValueError: the protocol has no validation part, or no target has a cause.

    >>> from atrank_lib import split
    >>> from data_scripts.simulate import MarketplaceConfig, simulate
    >>> market = simulate(MarketplaceConfig(users=40))
    >>> histories = GroupedHistories.from_log(market.log)
    >>> model, control = (ATRank(histories.schema, histories.vocabularies) for _ in range(2))
    >>> table, more = judge(model, control, histories, split(histories), "item", market.truth, market.log, samples=5)
    >>> table.columns.tolist(), sorted(more)
    (['AUC', 'low', 'high', 'samples'], ['agreement', 'best_space', 'without_cause'])
    """
    chosen = {}
    for name, part in (("validation", parts.validation), ("test", parts.test)):
        some = part[target][caused(truth, histories, part[target])][:samples]
        if not len(some):
            raise ValueError(f"no {name} target of group {target!r} has a cause; simulate more users, with influence")
        chosen[name] = some
    tried = planted(attention(model, histories, chosen["validation"]), truth, log, histories, chosen["validation"])
    spaces = {name: detector_auc(tried, name).mean() for name in spaces_of(tried)}
    best = max(spaces, key=lambda name: spaces[name])
    candidates = fixed_candidates(histories, {target: chosen["test"]}, negatives)[target]
    table = suspects(model, histories, chosen["test"], truth, log, candidates)
    table["untrained"] = attention(control, histories, chosen["test"])["attention"]
    table["best space"] = table[best]
    table["erasure, size"] = table["erasure"].abs()
    rules = ["recent", *(name for name in table if name.startswith("same ") or name == "any feature")]
    names = ["untrained", *rules, "gradient", "erasure", "best space", "attention", "posterior"]
    more = {
        "best_space": best,
        "agreement": {name: agreement(table, "attention", name).mean() for name in ("erasure", "erasure, size")},
        "without_cause": 1 - float(caused(truth, histories, parts.test[target]).double().mean()),
    }
    return detectors(table, names), more


def table4(model: ATRank, histories: GroupedHistories, samples: Samples, resamples: int = 500) -> pd.DataFrame:
    """Mean target attention by elapsed time, in the time buckets of the target's group, with intervals over users.

    The attention of a behavior is the mean over spaces of what the positive target gives it; behaviors of other
    groups are left out. A bucket's mean is over its behaviors, and users are resampled. ``even`` is the same mean if
    each target attended evenly, one over the number of behaviors in the history: who has old behaviors has many.

    >>> from atrank_lib import split
    >>> from data_scripts.simulate import MarketplaceConfig, simulate
    >>> histories = GroupedHistories.from_log(simulate(MarketplaceConfig(users=40)).log)
    >>> model = ATRank(histories.schema, histories.vocabularies)
    >>> table4(model, histories, split(histories).test["item"], resamples=10).columns.tolist()
    ['bucket', 'behaviors', 'attention', 'low', 'high', 'even']
    """
    encoding = model.embedding(samples.target_group).time
    table = attention(model, histories, samples, batch_size=512)
    table["even"] = 1 / table.groupby("sample")["row"].transform("size")
    table = table[table["group"] == samples.target_group]
    bucket = encoding.bucketize(torch.tensor(table["elapsed"].to_numpy())).numpy()
    user = samples.users.numpy()[table["sample"]]
    sums = np.zeros((len(histories), encoding.buckets))
    counts = np.zeros_like(sums)
    np.add.at(sums, (user, bucket), table["attention"].to_numpy())
    np.add.at(counts, (user, bucket), 1)
    rng, draws = np.random.default_rng(0), []
    for _ in range(resamples):
        times = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)))
        with np.errstate(invalid="ignore", divide="ignore"):
            draws.append((times @ sums) / (times @ counts))
    some = counts.sum(axis=0) > 0
    even = np.bincount(bucket, table["even"], minlength=encoding.buckets)[some]
    low, high = np.nanquantile(np.array(draws)[:, some], [0.025, 0.975], axis=0)
    return pd.DataFrame(
        {
            "bucket": np.flatnonzero(some),
            "behaviors": counts.sum(axis=0)[some].astype(int),
            "attention": sums.sum(axis=0)[some] / counts.sum(axis=0)[some],
            "low": low,
            "high": high,
            "even": even / counts.sum(axis=0)[some],
        }
    )
