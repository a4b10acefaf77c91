"""Moments that make sense beside a log, and those whose unit must be another."""

from __future__ import annotations

import pytest

from atrank_lib.log import Extent, Schema, check_moment

PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
FIRST, LAST = 1_396_310_400, 1_405_987_200  # 2014-04-01 and 2014-07-22, in seconds


def schema(unit: str) -> Schema:
    group = {"actions": ["buy"], "features": {"object_id": {"kind": "categorical"}}}
    return Schema.checked({"name": "mine", "timestamp_unit": unit, "groups": {"item": group}})


def extent(unit: str) -> Extent:
    return Extent(users=3, behaviors=9, first=FIRST * PER_SECOND[unit], last=LAST * PER_SECOND[unit])


@pytest.mark.parametrize("unit", PER_SECOND)
@pytest.mark.parametrize("second", [1_300_000_000, FIRST, 1_400_000_000, LAST, 1_800_000_000, 4_102_444_800])
def test_moments_before_in_and_after_a_log(unit: str, second: int) -> None:
    check_moment(second * PER_SECOND[unit], schema(unit), extent(unit))


@pytest.mark.parametrize("unit", PER_SECOND)
@pytest.mark.parametrize("other", PER_SECOND)
@pytest.mark.parametrize("second", [1_400_000_000, 1_750_000_000])
def test_a_moment_in_another_unit_is_named_with_the_number_that_was_meant(unit: str, other: str, second: int) -> None:
    if unit == other:
        check_moment(second * PER_SECOND[unit], schema(unit), extent(unit))
        return
    with pytest.raises(ValueError, match="far from the log") as raised:
        check_moment(second * PER_SECOND[other], schema(unit), extent(unit))
    day = {1_400_000_000: "2014-05-13", 1_750_000_000: "2025-06-15"}[second]
    assert "from 2014-04-01 to 2014-07-22" in str(raised.value)
    assert f"its timestamp_unit, {unit}; as {other} it would be {day}: write {second * PER_SECOND[unit]}" in str(
        raised.value
    )


@pytest.mark.parametrize("moment", [0, -1, 10**18, 2**63, -(2**70)])
def test_a_moment_that_fits_no_unit(moment: int) -> None:
    with pytest.raises(ValueError, match=rf"the moment {moment}: far from the log"):
        check_moment(moment, schema("s"), extent("s"))
