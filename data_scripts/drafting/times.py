"""Times of a raw table, in any of the usual forms, as the whole numbers of an event log."""

from __future__ import annotations

import re
import zoneinfo
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int64

from atrank_lib.log import Problem
from atrank_lib.log.columns import CheckedTable, mask, time_range
from atrank_lib.log.schema import TICKS

# numbers since 1970 are told by their size: in one of the units they lie in the years 1973 to 2096
YEARS = (100_000_000, 4_000_000_000)  # seconds

_NUMBER = r"^\s*-?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?\s*$"
_ISO = (
    r"^\s*[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]{1,9})?)?\s*(Z|[+-][0-9]{2}:?[0-9]{2})?)?\s*$"
)
_OFFSET = r":.*(Z|[+-][0-9]{2}:?[0-9]{2})\s*$"
_DAY_OR_MONTH = re.compile(r"\s*\d{1,2}([/.-])\d{1,2}\1\d{4}(([T ])\d{1,2}:\d{2}(:\d{2})?)?\s*")


@dataclass(frozen=True)
class RawTimes:
    """Times in `unit`s since 1970 (0 where a problem was noted), and how they were understood.

    is_plain: the column held these very numbers, so that an event log can keep it as it is.
    """

    values: Int64[np.ndarray, " n"]
    unit: str
    how: str
    is_plain: bool = False

    def to(self, unit: str) -> Int64[np.ndarray, " n"] | None:
        """The times in another unit, or None if they do not fit into 64 bits there, or not into whole numbers."""
        if TICKS[unit] < TICKS[self.unit]:
            whole, rest = np.divmod(self.values, TICKS[self.unit] // TICKS[unit])
            return None if rest.any() else whole
        factor = TICKS[unit] // TICKS[self.unit]
        if len(self.values) and max(-int(self.values.min()), int(self.values.max())) >= 2**62 // factor:
            return None
        return self.values * factor


def is_time(array: pa.Array) -> bool:
    """Whether a column looks like times: most of its values do."""
    if pa.types.is_temporal(array.type):
        return not (pa.types.is_time(array.type) or pa.types.is_duration(array.type))
    if pa.types.is_integer(array.type) or pa.types.is_floating(array.type):
        return _unit_of(array.drop_null().cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)) is not None
    if not pa.types.is_large_string(array.type):
        return False
    filled = array.drop_null()
    if _mostly(filled, _NUMBER):
        return _unit_of(_floats(filled)) is not None
    return _mostly(filled, _ISO) or _mostly(filled, "^" + _DAY_OR_MONTH.pattern.replace(r"\1", "[/.-]") + "$")


def read_times(table: CheckedTable, column: str, time_format: str | None, zone: str | None) -> RawTimes | None:
    """Understand a column as times; what cannot be understood is noted in the table's problems.

    Args:
        time_format: `s`, `ms`, `us` or `ns` for numbers since 1970, or strptime's directives, such as
            `%d/%m/%Y %H:%M`; None to find out.
        zone: IANA name of the time zone of times that name none; None for UTC.

    Returns:
        None for a column that cannot be used at all.
    """
    array = table.columns[column]
    if not _known_zone(table, column, zone):
        return None
    if time_format in TICKS:
        return _numbers(table, column, str(time_format), f"whole numbers of {time_format} since 1970")
    if array.null_count == len(array):
        table.report(column, mask(array.is_null()), array, _MISSING)
        return RawTimes(np.zeros(len(array), np.int64), "s", "nothing")
    if pa.types.is_temporal(array.type):
        return _arrow_times(table, column, zone)
    if not pa.types.is_large_string(array.type) and time_format is None:
        return _guessed_numbers(table, column, array)
    text = array.cast(pa.large_string())
    if time_format is not None:
        return _formatted(table, column, text, time_format, zone, f"text like {time_format}")
    if _mostly(text.drop_null(), _NUMBER):
        return _guessed_numbers(table, column, array)
    first = next(value for value in text.to_pylist() if value is not None)
    if _DAY_OR_MONTH.fullmatch(first):
        return _day_or_month(table, column, text, first, zone)
    return _iso(table, column, text, zone)


_MISSING = "the time is missing; every event needs one"
_REMEDY = "write ISO 8601, such as 2024-02-01 10:30, or name the form with --time-format, such as '%d/%m/%Y %H:%M'"


def _known_zone(table: CheckedTable, column: str, zone: str | None) -> bool:
    try:
        return zone is None or bool(zoneinfo.ZoneInfo(zone))
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        message = "no time zone has this name; give --time-zone a name such as Europe/Berlin, Asia/Shanghai or UTC"
        table.problems.append(Problem(table.name, column, None, zone, message))
        return False


def _mostly(filled: pa.Array, pattern: str) -> bool:
    hits = mask(pc.match_substring_regex(filled, pattern)) if len(filled) else np.zeros(1, dtype=bool)
    return bool(2 * hits.sum() > len(hits))


def _floats(text: pa.Array) -> np.ndarray:
    return pd.to_numeric(text.to_pandas(), errors="coerce").dropna().to_numpy(dtype=np.float64)


def _unit_of(numbers: np.ndarray) -> str | None:
    """The unit in which the middle one of the numbers lies in our times."""
    middle = float(np.median(numbers)) if len(numbers) else 0.0
    fits = [unit for unit, factor in TICKS.items() if YEARS[0] <= middle / factor < YEARS[1]]
    return fits[0] if fits else None


def _guessed_numbers(table: CheckedTable, column: str, array: pa.Array) -> RawTimes | None:
    if pa.types.is_large_string(array.type):
        numbers = pd.to_numeric(array.to_pandas(), errors="coerce").to_numpy(dtype=np.float64)
    elif pa.types.is_integer(array.type) or pa.types.is_floating(array.type):
        numbers = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    else:
        row = int(np.argmax(mask(array.is_valid())))
        table.note(column, f"the column holds {array.type}, not times; {_REMEDY}", row=row, value=array[row].as_py())
        return None
    is_number = ~np.isnan(numbers)
    unit = _unit_of(numbers[is_number])
    if unit is None:
        row = int(np.argmax(is_number))
        message = (
            "a number, but no time near ours in s, ms, us or ns since 1970; name its unit with --time-format, such as "
            "--time-format s, or its form, such as --time-format %Y%m%d"
        )
        table.note(column, message, row=row, value=array[row].as_py())
        return None
    strange = is_number & ((numbers < YEARS[0] * TICKS[unit]) | (numbers >= YEARS[1] * TICKS[unit]))
    message = (
        f"most times are in {unit} since 1970, and this one would lie far from them; correct it, or say "
        f"--time-format {unit}"
    )
    table.report(column, strange, array, message)
    return _numbers(table, column, unit, f"numbers of the size of {unit} since 1970", strange)


def _numbers(
    table: CheckedTable, column: str, unit: str, how: str, noted: Bool[np.ndarray, " n"] | None = None
) -> RawTimes | None:
    before = len(table.problems)
    values = table.times(column, unit)
    if values is None:
        return None
    if noted is not None and noted.any():  # said once is enough
        table.problems[before:] = [p for p in table.problems[before:] if "out of range" not in p.message]
    low, high = time_range(unit)
    bad = (values < low) | (values > high) | (False if noted is None else noted)  # noted; what follows sees a 0
    return RawTimes(np.where(bad, 0, values), unit, how, is_plain=True)


def _arrow_times(table: CheckedTable, column: str, zone: str | None) -> RawTimes | None:
    array = table.columns[column]
    if pa.types.is_date(array.type):
        array = array.cast(pa.timestamp("s"))
    if not pa.types.is_timestamp(array.type):
        row = int(np.argmax(mask(array.is_valid())))
        message = f"the column holds {array.type}, not moments; {_REMEDY}"
        table.note(column, message, row=row, value=str(array[row].as_py()))
        return None
    moments, how = _in_utc(table, column, array.to_pandas(), array, zone, "timestamps")
    return _whole(table, column, moments, array, how)


def _iso(table: CheckedTable, column: str, text: pa.Array, zone: str | None) -> RawTimes:
    form = mask(pc.fill_null(pc.match_substring_regex(text, _ISO), False))
    table.report(column, ~form & mask(text.is_valid()), text, f"not a time that can be read for certain; {_REMEDY}")
    offset = mask(pc.fill_null(pc.match_substring_regex(text, _OFFSET), False)) & form
    frame = text.to_pandas().str.strip().str.replace(",", ".", regex=False)
    with_zone = pd.to_datetime(frame.where(offset), format="ISO8601", utc=True, errors="coerce")
    without = pd.to_datetime(frame.where(form & ~offset), format="ISO8601", errors="coerce")
    no_date = form & with_zone.isna().to_numpy() & without.isna().to_numpy()
    table.report(column, no_date, text, "there is no such date or time; correct it")
    how = "ISO 8601 text"
    if offset.any():
        how += " with time zones"
    if not offset.all():
        without, how = _in_utc(table, column, without, text, zone, how)
    finest = max((str(part.dt.unit) for part in (with_zone, without)), key=lambda unit: TICKS[unit])
    try:
        moments = with_zone.dt.as_unit(finest).fillna(
            without.dt.tz_localize(None).dt.tz_localize("UTC").dt.as_unit(finest)
        )
    except pd.errors.OutOfBoundsDatetime as error:
        table.note(column, f"some times are too fine to go with others ({error}); round them to microseconds")
        return RawTimes(np.zeros(len(text), np.int64), "s", how)
    return _whole(table, column, moments, text, how)


def _day_or_month(table: CheckedTable, column: str, text: pa.Array, first: str, zone: str | None) -> RawTimes | None:
    match = _DAY_OR_MONTH.fullmatch(first)
    assert match is not None
    sep, clock, blank, seconds = match.groups()
    suffix = "" if not clock else f"{blank}%H:%M{':%S' if seconds else ''}"
    forms = [f"%d{sep}%m{sep}%Y{suffix}", f"%m{sep}%d{sep}%Y{suffix}"]
    frame, filled = text.to_pandas().str.strip(), mask(text.is_valid())
    read = [pd.to_datetime(frame, format=form, errors="coerce").notna().to_numpy()[filled] for form in forms]
    fits = [bool(ok.all()) for ok in read]
    if all(fits) or read[0].sum() == read[1].sum():
        row = int(np.argmax(filled))
        message = f"does the day come first, or the month? Give --time-format '{forms[0]}' or '{forms[1]}'"
        table.note(column, message, row=row, value=first)
        return None
    best = int(read[1].sum() > read[0].sum())
    how = f"text like {forms[best]}: with {('day', 'month')[1 - best]} first, some would be no dates"
    return _formatted(table, column, text, forms[best], zone, how)


def _formatted(
    table: CheckedTable, column: str, text: pa.Array, form: str, zone: str | None, how: str
) -> RawTimes | None:
    try:
        moments = pd.to_datetime(text.to_pandas().str.strip(), format=form, errors="coerce", utc="%z" in form)
    except ValueError as error:
        message = (
            f"no form of a time ({error}); use s, ms, us, ns, or directives, such as --time-format '%d/%m/%Y %H:%M'"
        )
        table.problems.append(Problem(table.name, column, None, form, message))
        return None
    wrong = moments.isna().to_numpy() & mask(text.is_valid())
    table.report(column, wrong, text, f"does not have the form {form}; correct it, or give another --time-format")
    moments, how = _in_utc(table, column, moments, text, zone, how)
    return _whole(table, column, moments, text, how)


def _in_utc(
    table: CheckedTable, column: str, moments: pd.Series, array: pa.Array, zone: str | None, how: str
) -> tuple[pd.Series, str]:
    """Moments with the time zone UTC; those without a zone are taken as those of `zone`."""
    if moments.dt.tz is not None:
        return moments.dt.tz_convert("UTC"), how
    local = moments.dt.tz_localize(zone or "UTC", ambiguous="NaT", nonexistent="NaT")
    message = (
        f"the clocks of {zone} skip or repeat this hour, so it is not certain which moment is meant; write it with its "
        "offset, such as 2024-02-01T10:30+01:00"
    )
    table.report(column, (moments.notna() & local.isna()).to_numpy(), array, message)
    how += f", taken as times of {zone}" if zone else ", no time zone given: taken as UTC (--time-zone names another)"
    return local.dt.tz_convert("UTC"), how


def _whole(table: CheckedTable, column: str, moments: pd.Series, array: pa.Array, how: str) -> RawTimes:
    """Whole numbers since 1970, in the coarsest unit that loses nothing."""
    table.report(column, mask(array.is_null()), array, _MISSING)
    moments = moments.dt.tz_localize(None)
    unit = str(moments.dtype).removeprefix("datetime64[").removesuffix("]")
    values = np.where(moments.isna(), 0, moments.to_numpy().astype(np.int64))
    for coarser in [u for u in TICKS if TICKS[u] < TICKS[unit]]:
        factor = TICKS[unit] // TICKS[coarser]
        if not (values % factor).any():
            return RawTimes(values // factor, coarser, how)
    return RawTimes(values, unit, how)
