"""Elapsed times fall into the buckets that the paper names, exactly, whatever they are made of."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from atrank_lib.log.schema import TimeScale
from atrank_lib.time_encoding import TimeEncoding, bucketize_elapsed
from tests.reference import TICKS, UNIT, bucket, doubling


def paper_bucket(units: Fraction) -> int:
    """[0, 1) is 0, [1, 2) is 1, [2, 4) is 2, ..., [2^k, 2^(k+1)) is k + 1."""
    number = 0
    while 2**number <= units:
        number += 1
    return number


def test_the_paper_s_own_intervals():
    days = torch.tensor([0.0, 0.5, 1, 1.5, 2, 3, 3.99, 4, 7, 8, 15, 16])
    assert bucketize_elapsed(days * UNIT["day"]).tolist() == [0, 0, 1, 1, 2, 2, 2, 3, 3, 4, 4, 5]


@pytest.mark.parametrize("unit", list(UNIT))
@pytest.mark.parametrize("number", [int, float])
def test_edges_are_exact(unit, number):
    for k in range(14):
        edge = 2**k * UNIT[unit]
        below = edge - 1 if number is int else float(np.nextafter(edge, 0))
        assert bucketize_elapsed([below, number(edge)], unit=unit).tolist() == [k, k + 1]


@given(
    elapsed=st.integers(0, 2**62) | st.floats(0, 1e15),
    unit=st.sampled_from([*UNIT, 1, 0.25, 7.5, 1000]),
    buckets=st.integers(2, 64),
)
def test_agrees_with_plain_python(elapsed, unit, buckets):
    # a Fraction holds an int, a float and their quotient exactly
    seconds = UNIT[unit] if isinstance(unit, str) else unit
    expected = min(paper_bucket(Fraction(elapsed) / Fraction(seconds)), buckets - 1)
    if isinstance(unit, float) and elapsed > 2**53:
        elapsed = float(elapsed)  # edges that are no whole numbers are compared as floats
        expected = min(paper_bucket(Fraction(elapsed) / Fraction(seconds)), buckets - 1)
    assert bucketize_elapsed(elapsed, unit=unit, buckets=buckets).item() == expected


@given(
    edges=st.lists(st.integers(1, 10**6), min_size=1, max_size=8, unique=True).map(sorted),
    elapsed=st.lists(st.integers(0, 2 * 10**6), min_size=1),
)
def test_explicit_edges_agree_with_counting(edges, elapsed):
    found = bucketize_elapsed(elapsed, unit="second", edges=edges)
    assert found.tolist() == [bucket(value, edges) for value in elapsed]


def test_decimal_edges_mean_what_they_say():
    # 1.1 * 86,400 is 95,040.00000000001 in binary
    assert bucketize_elapsed([95_039, 95_040], edges=[1.1]).tolist() == [0, 1]
    time = TimeEncoding(TimeScale(edges=(0.7, 1.1)), 2)
    assert time.bucketize(torch.tensor([60_479, 60_480, 95_039, 95_040])).tolist() == [0, 1, 1, 2]


def test_the_last_bucket_is_open():
    assert bucketize_elapsed([2.0, 4.0, 1e12], unit=1, buckets=4).tolist() == [2, 3, 3]
    assert bucketize_elapsed([29, 30, 10**9], unit=1, edges=[7, 30]).tolist() == [1, 2, 2]


def test_numbers_lists_arrays_and_tensors_agree():
    values = [0, 5, 86_399, 86_400, 172_800]
    expected = [0, 0, 0, 1, 2]
    frozen = np.array(values)
    frozen.setflags(write=False)
    for given_as in (
        values,
        tuple(values),
        [float(v) for v in values],
        np.array(values),
        frozen,
        np.array(values[::-1])[::-1],
        np.array(values, dtype=np.float32),
        pd.Series(values).to_numpy(),
        torch.tensor(values),
        torch.tensor(values, dtype=torch.int32),
        torch.tensor(values, dtype=torch.float64),
    ):
        found = bucketize_elapsed(given_as)
        assert found.dtype == torch.int64
        assert found.tolist() == expected
    assert bucketize_elapsed(86_400).item() == 1
    assert bucketize_elapsed(86_399.999999).item() == 0  # a Python float is not rounded to 32 bits
    assert bucketize_elapsed([16_777_215.9], unit="second", buckets=40).tolist() == [24]
    assert bucketize_elapsed(torch.tensor(values).view(5, 1)).shape == (5, 1)
    assert bucketize_elapsed([]).shape == (0,)


@pytest.mark.parametrize("bad", [-1, [3, -1], -0.001, [1.0, float("nan")], np.array([-(2**40)])])
def test_the_future_and_the_missing_are_refused(bad):
    with pytest.raises(ValueError, match=r"elapsed time (-|nan).*cut the history"):
        bucketize_elapsed(bad)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unit": "month"}, "unit 'month'; use one of"),
        ({"unit": 0}, "longer than zero"),
        ({"unit": -3.0}, "longer than zero"),
        ({"buckets": 1}, "buckets=1"),
        ({"edges": [4, 2]}, r"edges=\[4, 2\].*ascend"),
        ({"edges": [2, 2]}, "ascend"),
    ],
)
def test_wrong_scales_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        bucketize_elapsed([1.0], **options)


@pytest.mark.parametrize("timestamp_unit", list(TICKS))
@pytest.mark.parametrize("unit", list(UNIT))
def test_timestamp_units_change_nothing(timestamp_unit, unit):
    time = TimeEncoding(TimeScale(unit=unit), 3, timestamp_unit=timestamp_unit)
    ticks = UNIT[unit] * TICKS[timestamp_unit]
    for k, edge in enumerate(doubling(16)):
        if edge * ticks < 2**63:  # 16,384 weeks are more nanoseconds than 64 bits hold
            assert time.bucketize(torch.tensor([edge * ticks - 1, edge * ticks])).tolist() == [k, k + 1]
    assert time.bucketize(torch.tensor([0])).tolist() == [0]


def test_casts_of_the_model_leave_the_edges_alone():
    scale, elapsed = (
        TimeScale(unit="second", edges=(0.5, 1.5, 20_000_001)),
        torch.tensor([0, 1, 2, 20_000_000]),
    )
    for cast in (torch.nn.Module.float, torch.nn.Module.double, torch.nn.Module.bfloat16):
        assert cast(TimeEncoding(scale, 2)).bucketize(elapsed).tolist() == [0, 1, 2, 2]


def test_lookup_reads_one_row_a_bucket_and_trains_it():
    time = TimeEncoding(TimeScale(buckets=5), 3)
    elapsed = torch.tensor([0, 90_000, 10**9, 90_000])
    out = time(elapsed)
    assert time.table.weight.shape == (5, 3)
    torch.testing.assert_close(out, time.table.weight[torch.tensor([0, 1, 4, 1])])
    out.sum().backward()
    assert time.table.weight.grad is not None
    assert time.table.weight.grad[:, 0].tolist() == [1, 2, 0, 0, 1]
