"""One table of an event log, checked column by column: every problem is noted, none is raised. Whole columns are
checked at once in Arrow memory; Python looks at single values only where one is wrong."""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float64, Int64

from atrank_lib.log.schema import TICKS, Problem

# how many different values, and how many rows of each, a problem shows before it only counts
EXAMPLES = 3
LARGEST = float(np.finfo(np.float32).max)
HUGE = 2**62  # no time is as large

_NUMBERS = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)


@dataclass(eq=False)
class CheckedTable:
    """Columns of one table, and the problems found in it."""

    name: str  # what problems call it
    header: list[str] | None  # all its column names; None where the table cannot be read
    columns: dict[str, pa.Array] = field(default_factory=dict)  # the wanted ones that can be used, as read
    is_text: bool = False  # read from CSV, where every value is text
    rows: Int64[np.ndarray, " n"] | None = None  # the data row of each row, where malformed lines were left out
    problems: list[Problem] = field(default_factory=list)

    def note(self, column: str | None, message: str, row: int | None = None, value: object = None) -> None:
        """Note one problem."""
        self.problems.append(Problem(self.name, column, row, value, message))

    def report(
        self, column: str, wrong: Bool[np.ndarray, " n"], values: pa.Array, message: Callable[[object], str] | str
    ) -> None:
        """Note the rows where `wrong` is true: one problem for each of the first few different values."""
        index = np.flatnonzero(wrong)
        if not len(index):
            return
        rows = index if self.rows is None else self.rows[index]
        found: dict[str, tuple[object, list[int]]] = {}
        for row, value in zip(rows.tolist(), values.take(pa.array(index)).to_pylist(), strict=True):
            found.setdefault(repr(value), (value, []))[1].append(row)
        shown, more = list(found.values())[:EXAMPLES], list(found.values())[EXAMPLES:]
        for value, at in shown:
            text = message(value) if callable(message) else message
            self.note(column, text + _also(at[1:]), row=at[0], value=value)
        if more:
            count = sum(len(at) for _, at in more)
            self.note(column, f"{len(more):,} more values in {count:,} rows have the problem of the one before")

    def is_empty(self) -> bool:
        """Whether the table could be read and has no row."""
        return any(not len(array) for array in self.columns.values())

    def text(self, column: str, *, required: bool) -> pa.Array | None:
        """Ids, actions and categorical values as text, null where missing; None for an unusable column."""
        if (array := self._column(column, pa.large_string())) is None:
            return None
        if not (is_text(array.type) or pa.types.is_integer(array.type)):
            remedy = 'write them as such, in pandas with .astype("Int64") or .astype(str)'
            self._wrong_kind(column, array, "text or whole numbers", remedy)
            return None
        array = array.cast(pa.large_string())
        if required:
            missing = pc.equal(pc.fill_null(array, ""), "")
            self.report(column, mask(missing), array, "is missing; every row needs one")
            array = pc.if_else(missing, pa.scalar(None, pa.large_string()), array)
        return array

    def times(self, column: str, unit: str) -> Int64[np.ndarray, " n"] | None:
        """Timestamps in `unit`s since 1970; None for an unusable column."""
        if (array := self._column(column, pa.int64())) is None:
            return None
        if self.is_text or pa.types.is_uint64(array.type):
            times, rough = _times_of_text(array.cast(pa.large_string()))
        elif pa.types.is_integer(array.type):
            times = rough = _numpy(array.cast(pa.int64()), 0)
        elif pa.types.is_floating(array.type) or pa.types.is_decimal(array.type):
            rough = _numpy(array.cast(pa.float64(), safe=False), 0)
            times = _whole(rough)
        else:
            self._wrong_kind(column, array, "numbers", f"convert it to whole numbers of {unit} since 1970")
            return None
        (low, high), no_number = time_range(unit), np.isnan(rough)
        remedy = f"write whole numbers of {unit} since 1970"
        self.report(column, mask(array.is_null()), array, f"the time is missing; {remedy}, one for every event")
        self.report(column, no_number, array, f"the time is not a number; {remedy}")
        self.report(column, ~no_number & (rough != np.trunc(rough)), array, f"the time is fractional; {remedy}")
        message = f"the time is out of range, which in {unit} goes from {low} to {high}"
        wrong = (times < low) | (times > high)
        self.report(column, wrong, array, f"{message}; correct the time, or the timestamp_unit of the schema")
        return times

    def numbers(self, column: str) -> Float64[np.ndarray, " n"] | None:
        """A continuous feature as 64-bit floats, NaN where missing or noted; None for an unusable column."""
        if (array := self._column(column, pa.float64())) is None:
            return None
        if self.is_text:
            parsed = pd.to_numeric(array.to_pandas(), errors="coerce").to_numpy(dtype=np.float64)
            # empty, or "nan", which is how NumPy writes a missing number
            missing = pc.fill_null(pc.equal(pc.utf8_lower(pc.utf8_trim_whitespace(array)), "nan"), True)
            wrong = np.isnan(parsed) & ~mask(missing)
            self.report(column, wrong, array, "not a number; write one, or nothing when unknown")
        elif any(is_number(array.type) for is_number in _NUMBERS):
            parsed = _numpy(array.cast(pa.float64(), safe=False), np.nan)
        else:
            self._wrong_kind(column, array, "numbers", "convert it, or change the kind of the feature")
            return None
        message = f"the value is infinite, or beyond {LARGEST:.2g}, the largest 32-bit float, with which models compute"
        wrong = np.abs(parsed) > LARGEST
        self.report(column, wrong, array, f"{message}; write a finite number, or nothing when unknown")
        return np.where(wrong, np.nan, parsed)

    def tokens(self, column: str) -> list[list[str]] | None:
        """A tokens feature as lists of text, an empty one where missing; None for an unusable column."""
        if (array := self._column(column, pa.list_(pa.large_string()))) is None:
            return None
        if self.is_text:
            return [(text or "").split() for text in array.to_pylist()]
        inner = array.type.value_type if any(is_list(array.type) for is_list in _LISTS) else None
        if inner is not None and pa.types.is_dictionary(inner):
            inner = inner.value_type
        if inner is None or not (is_text(inner) or pa.types.is_integer(inner) or pa.types.is_null(inner)):
            self._wrong_kind(column, array, "lists of text", "split it into lists, in pandas with .str.split()")
            return None
        raw = array.to_pylist()
        gaps = np.fromiter((row is not None and None in row for row in raw), bool, len(raw))
        self.report(column, gaps, array, "a token in the list is missing; leave it out of the list")
        return [[str(token) for token in row or ()] for row in raw]

    def _column(self, column: str, kind: pa.DataType) -> pa.Array | None:
        """A column as read, but of this kind if it holds nothing; None, and a note, where there is none."""
        if self.header is not None and column not in self.header:
            near = difflib.get_close_matches(column, self.header, n=1)
            hint = f"rename {near[0]!r}, or add it" if near else "add it"
            self.note(column, f"the column is missing; {hint} (the table has: {', '.join(self.header)})")
        array = self.columns.get(column)
        if array is None or self.is_text or array.null_count < len(array):
            return array
        return pa.nulls(len(array), kind)

    def _wrong_kind(self, column: str, array: pa.Array, expected: str, remedy: str) -> None:
        row = int(np.argmax(mask(array.is_valid())))
        message = f"wrong kind: the column holds {array.type}, not {expected}; {remedy}"
        self.note(column, message, row=row, value=array[row].as_py())


def mask(array: pa.Array) -> Bool[np.ndarray, " n"]:
    """An Arrow array of booleans, without nulls, for NumPy."""
    return array.to_numpy(zero_copy_only=False).astype(bool)


def time_range(unit: str) -> tuple[int, int]:
    """Smallest and largest timestamp: the years 1 to 9999, and any two less than 2^63 apart."""
    factor = TICKS[unit]
    return max(-62_135_596_800 * factor, 1 - HUGE), min(253_402_300_799 * factor, HUGE - 1)


def _times_of_text(array: pa.Array) -> tuple[Int64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """Whole numbers, exact beyond 2^53 as well; and all as floats, NaN where there is no number."""
    # 1400000000.0 is whole too: so does pandas write whole numbers once a column had gaps
    digits = pc.fill_null(pc.replace_substring_regex(array, r"^\s*(-?[0-9]+)(\.0*)?\s*$", r"\1"), "0")
    fits = mask(pc.match_substring_regex(digits, r"^-?([0-9]{1,18}|[0-8][0-9]{18})$"))  # below 9 * 10^18
    times = _numpy(pc.if_else(pa.array(fits), digits, "0").cast(pa.int64()), 0)
    rough = times.astype(np.float64)
    if not fits.all():
        others = pd.to_numeric(digits.filter(pa.array(~fits)).to_pandas(), errors="coerce")
        rough[~fits] = others.to_numpy(dtype=np.float64)
        times[~fits] = _whole(rough[~fits])
    return times, rough


def _whole(rough: Float64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    return np.clip(np.nan_to_num(rough), -HUGE, HUGE).astype(np.int64)


def _also(rows: Sequence[int]) -> str:
    if not rows:
        return ""
    shown = ", ".join(map(str, rows[: EXAMPLES - 1]))
    rest = f" and {len(rows) - EXAMPLES + 1:,} more" if len(rows) >= EXAMPLES else ""
    return f" (also row{'s' if len(rows) > 1 else ''} {shown}{rest})"


def is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _numpy(array: pa.Array, missing: float) -> Float64[np.ndarray, " n"] | Int64[np.ndarray, " n"]:
    """A copy, so that no frame shares memory with the one it came from."""
    return np.array(pc.fill_null(array, missing))
