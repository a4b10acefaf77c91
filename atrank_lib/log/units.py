"""Units of time, in seconds, and units of timestamps."""

from __future__ import annotations

SECONDS = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400, "week": 604_800}
TICKS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}  # timestamp units in a second


def seconds_of(unit: str | float) -> float:
    """Seconds of a unit of time, given by its name or its seconds.

    >>> seconds_of("hour"), seconds_of(1.5)
    (3600, 1.5)
    """
    if isinstance(unit, str) and unit not in SECONDS:
        raise ValueError(f"unit {unit!r}; use one of {list(SECONDS)} or a number of seconds")
    return SECONDS[unit] if isinstance(unit, str) else unit
