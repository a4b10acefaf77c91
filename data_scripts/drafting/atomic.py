"""RecBole's atomic files, ``NAME.inter`` and ``NAME.item``, as raw tables whose header declares every column's kind.

They are read as RecBole 1.2 reads them, by pandas: tabs between columns, blanks between the tokens of a list, quotes as
in CSV, and some words, such as ``nan``, for what is missing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from atrank_lib.log.columns import CheckedTable, mask
from atrank_lib.log.files import table_from_file
from atrank_lib.log.schema import suggest
from data_scripts.drafting.guesses import Kind

INTER, ITEM = ".inter", ".item"
FIELDS = {"user": "user_id:token", "time": "timestamp:float", "object": "item_id:token", "action": "action:token"}
KINDS = {
    "token": Kind("categorical", "declared as token"),
    "token_seq": Kind("tokens", "declared as token_seq", " "),
    "float": Kind("continuous", "declared as float"),
    "float_seq": Kind(None, "declared as float_seq, and an event log has no lists of numbers"),
}
# what pandas, and so RecBole, takes as missing, beside an empty value
MISSING = [
    *("#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA"),
    *("NULL", "NaN", "None", "n/a", "nan", "null"),
]
_DECIMAL = r"^(?P<whole>-?[0-9]+)(?:\.(?P<part>[0-9]*?)0*)?$"


@dataclass(eq=False)
class AtomicTable(CheckedTable):
    """A raw table whose header says what its columns are; `kinds` has it by column."""

    kinds: dict[str, Kind] = field(default_factory=dict)


def read_atomic(path: Path) -> AtomicTable:
    """All columns of an atomic file as text, by the names of their fields; what stands in the way is noted."""
    raw = table_from_file(path, None, "\t")
    header = raw.header or []
    table = AtomicTable(raw.name, [name.partition(":")[0] for name in header], problems=raw.problems, rows=raw.rows)
    table.is_text = True
    if not _is_sound(table, header) or len(raw.columns) < len(header):  # what the rows hold says nothing then
        return table
    for name, array in raw.columns.items():
        column, _, kind = name.partition(":")
        odd = mask(pc.fill_null(pc.match_substring_regex(array, r"[\x00\n\r]"), False))
        message = (
            "a NUL byte or a line break inside a value: the file is damaged, or a value begins with a quotation mark "
            "and goes on to the next one; take them out"
        )
        table.report(column, odd, array, message)
        missing = pc.is_in(array, pa.array(MISSING, array.type))
        table.columns[column] = pc.if_else(missing, pa.scalar(None, array.type), array)
        table.kinds[column] = KINDS[kind]
    return table


def _is_sound(table: AtomicTable, header: list[str]) -> bool:
    """Whether every column has a type, and ids that of ids; what is wrong is noted."""
    before, types = len(table.problems), dict[str, str]()
    strange = [name for name in header if name.partition(":")[2] not in KINDS or name.startswith(":")]
    if strange:
        message = f"names of columns are written NAME:TYPE, with tabs between; as TYPE {suggest('', KINDS)}"
        table.note(None, message, value="\t".join(strange))
    for column, _, kind in (name.partition(":") for name in header if name not in strange):
        if types.setdefault(column, kind) != kind:
            table.note(column, f"there is {column}:{types[column]} as well; keep one", value=f"{column}:{kind}")
        elif column in ("user_id", "item_id") and kind != "token":
            table.note(column, f"an id is a token; call the column {column}:token", value=f"{column}:{kind}")
    return len(table.problems) == before


def whole_times(array: pa.Array) -> pa.Array:
    """Decimal numbers as text, such as 978300760.25, as whole ones of a unit that loses nothing; others as they are."""
    parts = pc.extract_regex(array, _DECIMAL)
    whole, part = (pc.struct_field(parts, name) for name in ("whole", "part"))
    places = pc.max(pc.utf8_length(part)).as_py() or 0
    if not 0 < places <= 9:
        return array
    digits = pc.utf8_rpad(part, -(-places // 3) * 3, "0")
    return pc.if_else(parts.is_valid(), pc.binary_join_element_wise(whole, digits, pa.scalar("", array.type)), array)
