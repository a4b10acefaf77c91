"""Attention as a table: one row for each (sample, earlier behavior), sorted by sample, then group, then time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from atrank_lib.batches import Batch, Samples
from atrank_lib.evaluation import evaluating
from atrank_lib.grouping import GroupedHistories
from atrank_lib.interpret.explain import explain
from atrank_lib.model import ATRank
from atrank_lib.samples import build_batch
from atrank_lib.scale.devices import moved


def batches_of(
    model: ATRank, histories: GroupedHistories, samples: Samples, candidates: Int[Tensor, "s c"] | None, size: int
) -> Iterator[tuple[Int[Tensor, " b"], Int[Tensor, "b c"], Batch]]:
    """Batches in the order of the samples, where the model is; without ``candidates`` the target is the only one."""
    device = next(model.parameters()).device
    objects = samples.objects[:, None] if candidates is None else candidates
    for index in torch.arange(len(samples)).split(size):
        batch = build_batch(histories, samples[index], objects[index], model.histories)
        yield index, objects[index], moved(batch, device)


@torch.no_grad()
def attention(model: ATRank, histories: GroupedHistories, samples: Samples, batch_size: int = 256) -> pd.DataFrame:
    """The attention that each sample's target gives to each earlier behavior (eq. 7).

    Returns:
        Columns ``sample`` (its number), ``group`` (name), ``row`` (in the log's events table of the group),
        ``elapsed`` (in timestamp units), ``attention`` (the mean over spaces), ``space 1``, ``space 2``, ...

    >>> table = attention(model, histories, split(histories).test["item"][:3])
    >>> table.groupby("sample")["attention"].sum().round(4).tolist()
    [1.0, 1.0, 1.0]
    """
    names = list(histories.groups)
    frames = []
    with evaluating(model):
        for index, _, batch in batches_of(model, histories, samples, None, batch_size):
            seen = explain(model, batch)
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


def spaces_of(table: pd.DataFrame) -> list[str]:
    """The columns of a table of ``attention`` that hold single spaces.

    >>> spaces_of(pd.DataFrame({"attention": [0.5], "space 1": [0.4], "space 2": [0.6]}))
    ['space 1', 'space 2']
    """
    return [name for name in table.columns if name.startswith("space ")]


def table4(model: ATRank, histories: GroupedHistories, samples: Samples, resamples: int = 500) -> pd.DataFrame:
    """Mean target attention by elapsed time, in the time buckets of the target's group, with intervals over users.

    The attention of a behavior is the mean over spaces of what the positive target gives it; behaviors of other
    groups are left out. A bucket's mean is over its behaviors, and users are resampled. ``even`` is the same mean if
    each target attended evenly, one over the number of behaviors in the history: who has old behaviors has many.

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
