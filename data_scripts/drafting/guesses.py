"""Guesses about raw tables: which column plays which role of an event, and what kind of feature a column is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from atrank_lib.log.columns import CheckedTable, mask
from data_scripts.drafting.times import is_time

# words in a column's name that speak for a role; the columns of the event log's contract are among them
WORDS = {
    "user": "user customer client member account visitor buyer shopper reviewer household person reader student player",
    "time": "timestamp time datetime date day created ordered purchased bought occurred when at ts",
    "object": "object item product sku article asin isbn book movie film track song game course document page coupon",
    "action": "action event activity behavior type verb interaction operation",
}
CONTRACT = {"user": "user_id", "time": "timestamp", "object": "object_id", "action": "action"}
MOST_ACTIONS = 30
_ID_WORDS = {"id", "ids", "no", "nr", "number", "num", "key", "code", "sku", "isbn", "asin", "ean", "zip", "uuid"}
_SEPARATORS = ("|", ";", ",")
_DOUBT = (
    "a number with a comma or in blocks of digits, or a list? Write numbers as 1234.5, in pandas "
    "pd.read_csv(..., decimal=',', thousands='.'), or say --kind '{column}=KIND' with tokens for lists, categorical "
    "for text, or none to leave it out"
)
_A_TIME = "a time; first make it a number (an age, a year) or a category"


# numbers as people write them: 1,50 and 1.299,00 and 1,299 and 1 299, with a currency before or behind
_WRITTEN_NUMBER = (
    r"[^\d,]{0,4}-?([0-9]+([.'’\s][0-9]{3})*,[0-9]+|[0-9]{1,3}(,[0-9]{3})+(\.[0-9]+)?|"
    r"[0-9]{1,3}(['’\s][0-9]{3})+([.,][0-9]+)?)[^\d,]{0,4}"
)
# the index of pandas in CSV and in Parquet, and what readr calls a column without a name
_INDEX = r"Unnamed: [0-9.]+|__index_level_[0-9]+__|\.\.\.[0-9]+"
_COUNTERS = {"index", "idx", "line", "row", "rows", "rowid", "rownum", "rownumber"}


@dataclass(frozen=True)
class Kind:
    """The kind of a feature, or None to leave the column out; why; and what separates the tokens of a list.

    doubt: what has to be asked, where a guess would be a gamble.
    """

    kind: str | None
    why: str
    separator: str | None = None
    doubt: str | None = None


def words(column: str) -> list[str]:
    """`orderedAt`, `ordered_at` and `Ordered At` as `ordered`, `at`."""
    parts = re.split(r"[^A-Za-z0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", column))
    return [part.lower() for part in parts if part]


def candidates(role: str, table: CheckedTable, taken: Iterable[str]) -> list[str]:
    """Columns that may play a role, by name and content; only the best, so several are a tie."""
    known, ranks = set(WORDS[role].split()), {}
    for column, array in table.columns.items():
        own = [word for word in words(column) if word not in _ID_WORDS] or words(column)
        hits = [word in known for word in own]
        if column in taken or not any(hits) or not _may_be(role, array):
            continue
        ranks[column] = 0 if column == CONTRACT[role] else 1 if all(hits) else 2
    return [column for column, rank in ranks.items() if rank == min(ranks.values())]


def _may_be(role: str, array: pa.Array) -> bool:
    if role == "time":
        return is_time(array)
    if not (pa.types.is_large_string(array.type) or pa.types.is_integer(array.type)):
        return False
    return role != "action" or (pc.count_distinct(array).as_py() <= MOST_ACTIONS and not is_time(array))


def counts_rows(column: str, array: pa.Array) -> bool:
    """Whether a column is the number of the row, which says nothing of the object: by its name, or name and values."""
    if re.fullmatch(_INDEX, column):
        return True
    own = set(words(column))
    if not own & _COUNTERS or own - _COUNTERS - _ID_WORDS:
        return False
    numbers = pd.to_numeric(array.to_pandas(), errors="coerce").to_numpy(dtype=np.float64)
    return any(np.array_equal(numbers, np.arange(first, first + len(numbers))) for first in (0, 1))


def key_of(values: pa.Array, table: CheckedTable) -> str | None:
    """The column of an objects table that holds the ids of the events: it never repeats, and covers most of them."""
    wanted = pc.unique(values.cast(pa.large_string()).drop_null())
    best, most = None, 0.5
    for column, array in table.columns.items():
        if not (pa.types.is_large_string(array.type) or pa.types.is_integer(array.type)):
            continue
        if counts_rows(column, array):
            continue
        text = array.cast(pa.large_string()).drop_null()
        covered = float(np.mean(mask(pc.is_in(wanted, text)))) if len(wanted) else 0.0
        # a few repeats are a defect that validation names; many mean that it is no key
        if 2 * len(pc.unique(text)) > len(text) and covered > most:
            best, most = column, covered
    return best


def guess_kind(column: str, array: pa.Array) -> Kind:
    """What kind of feature a column of an objects table is, by its values."""
    filled = array.drop_null()
    if not len(filled):
        return Kind(None, "every value is missing")
    if counts_rows(column, array):
        return Kind(None, f"it counts the rows; --kind '{column}=continuous' keeps it")
    gaps = f", missing for {array.null_count:,} of {len(array):,}" if array.null_count else ""
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        return Kind("tokens", "lists" + gaps)
    if pa.types.is_temporal(array.type):
        return Kind(None, _A_TIME)
    is_id = bool(_ID_WORDS & set(words(column)))
    if pa.types.is_boolean(array.type):
        return Kind("categorical", "true or false" + gaps)
    if pa.types.is_integer(array.type) or pa.types.is_floating(array.type) or pa.types.is_decimal(array.type):
        if is_id and pa.types.is_integer(array.type):
            return Kind("categorical", f"numbers, but named like an id{gaps}")
        return Kind("continuous", "numbers" + gaps)
    if not pa.types.is_large_string(array.type):
        return Kind(None, f"{array.type} is neither text, nor numbers, nor lists")
    return _kind_of_text(filled.to_pandas(), is_id, gaps)


def _kind_of_text(text: pd.Series, is_id: bool, gaps: str) -> Kind:
    distinct = text.drop_duplicates()
    numbers = pd.to_numeric(text, errors="coerce").notna() | (text.str.strip().str.lower() == "nan")
    if numbers.mean() > 0.5:
        if is_id:
            return Kind("categorical", f"numbers, but named like an id{gaps}")
        if text.str.fullmatch(r"0[0-9]+").any():
            return Kind("categorical", f"numbers, but some begin with 0, as ids do{gaps}")
        return Kind("continuous", "numbers" + gaps)
    if is_time(pa.array(text, pa.large_string())):
        return Kind(None, _A_TIME)
    written = text.str.strip().str.fullmatch(_WRITTEN_NUMBER)
    if written.any() and (written | numbers).mean() > 0.5:
        return Kind(None, "numbers, or lists of them", doubt=_DOUBT)
    for separator in _SEPARATORS:
        if text.str.contains(separator, regex=False).mean() > 0.5 and _recur(split(distinct, separator)):
            return Kind("tokens", f"lists separated by {separator!r}{gaps}", separator)
    spaced = text.str.contains(r"\S\s+\S", regex=True).mean() > 0.5
    if spaced and 2 * len(distinct) > len(text) and _recur(split(distinct, None)):
        return Kind("tokens", f"words, hardly any text is there twice{gaps}")
    if len(distinct) == len(text) and len(text) > 1:
        return Kind("categorical", f"text that never repeats, so it says no more than the id; leave it out?{gaps}")
    return Kind("categorical", f"{len(distinct):,} different texts{gaps}")


def split(text: Sequence[str] | pd.Series, separator: str | None) -> list[list[str]]:
    """Texts as lists of tokens; brackets and quotes around them, as of a list that was printed, go away."""
    if separator is None:
        return [value.split() for value in text]
    if separator == " ":  # never guessed: a file that declares it has it exactly so
        return [[token for token in value.split(" ") if token] for value in text]
    strip = "[]'\" \t\r\n"
    return [[token for piece in value.split(separator) if (token := piece.strip(strip))] for value in text]


def separator_of(array: pa.Array) -> str | None:
    """What separates the tokens of a text column that is said to hold lists; None for blanks."""
    text = array.drop_null().to_pandas()
    counts = {sep: int(text.str.contains(sep, regex=False).sum()) for sep in _SEPARATORS}
    best = max(counts, key=lambda sep: counts[sep])
    # a comma now and then among words is no separator
    others = text.str.replace(rf"[{re.escape(best)}]\s*", "", regex=True).str.contains(r"\S\s+\S", regex=True).sum()
    return best if counts[best] and counts[best] >= others else None


def _recur(lists: list[list[str]]) -> bool:
    """Whether different texts share pieces: then the pieces mean something by themselves."""
    pieces = [piece for pieces in lists for piece in set(pieces)]
    return len(set(pieces)) < len(pieces)
