"""Table 4: attention by age, against one sample after the other."""

from __future__ import annotations

import numpy as np
import pytest

from atrank_lib.interpret import explain
from atrank_lib.samples import build_batch, split
from experiments.by_age import table4
from tests.attending import HISTORIES, a_model, alone


def test_table_4_is_the_mean_attention_of_each_bucket() -> None:
    samples, model = split(HISTORIES, "validated").test["item"], a_model(blocks=2)
    table = table4(model, HISTORIES, samples, resamples=50)
    found: dict[int, list[float]] = {}
    even: dict[int, list[float]] = {}
    for i in range(len(samples)):
        one = alone(samples, i)
        seen = explain(model, build_batch(HISTORIES, one, one.objects[:, None]))
        for place in range(seen.groups.shape[1]):
            if int(seen.groups[0, place]) == 0:
                moment = int(HISTORIES.groups["item"].timestamps[int(seen.positions[0, place])])
                elapsed = int(one.times[0]) - moment  # items count time in seconds
                bucket = sum(elapsed >= edge for edge in (1, 2, 4, 8))
                found.setdefault(bucket, []).append(float(seen.target_attention[0, :, 0, place].mean()))
                even.setdefault(bucket, []).append(1 / seen.groups.shape[1])
    assert dict(zip(table["bucket"], table["behaviors"], strict=True)) == {b: len(w) for b, w in found.items()}
    for row in table.to_dict("records"):
        assert row["attention"] == pytest.approx(np.mean(found[row["bucket"]]), rel=1e-5)
        assert row["even"] == pytest.approx(np.mean(even[row["bucket"]]))
        assert row["low"] <= row["attention"] <= row["high"]
    assert (table["low"] < table["high"]).any()
