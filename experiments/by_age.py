"""The paper's Table 4: how much attention a target gives to behaviors of each age."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from atrank_lib.batches import Samples
from atrank_lib.grouping import GroupedHistories
from atrank_lib.interpret import attention
from atrank_lib.model import ATRank


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
