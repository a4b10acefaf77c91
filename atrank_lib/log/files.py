"""The tables of a log where they lie: Parquet or CSV files, or frames in memory, taken as columns to be checked."""

import csv
import difflib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from atrank_lib.log.columns import EXAMPLES, CheckedTable, is_text
from atrank_lib.log.schema import Problem

CSV_BLOCK = 1 << 24  # bytes that are parsed at a time


def table_path(folder: Path, stem: str, problems: list[Problem]) -> Path | None:
    """The one table `stem` of a folder, Parquet or CSV; a problem is noted where there is none, or two."""
    paths = [path for suffix in ("parquet", "csv") if (path := folder / f"{stem}.{suffix}").exists()]
    if len(paths) == 1:
        return paths[0]
    if paths:
        message = f"{stem}.csv is there as well; remove one of the two"
    else:
        near = difflib.get_close_matches(f"{stem}.parquet", [path.name for path in folder.iterdir()], n=1)
        message = f"the table is missing; add it, or {stem}.csv" + (f" (or rename {near[0]}?)" if near else "")
    problems.append(Problem(f"{stem}.parquet", None, None, None, message))
    return None


def read_table(folder: Path, stem: str, wanted: Sequence[str], problems: list[Problem]) -> CheckedTable:
    """The wanted columns of the one table `stem` of a folder; none where `table_path` notes a problem."""
    path = table_path(folder, stem, problems)
    return CheckedTable(stem, None) if path is None else table_from_file(path, wanted)


def table_from_frame(name: str, frame: pd.DataFrame | None, wanted: Sequence[str]) -> CheckedTable:
    """Take the wanted columns out of a frame in memory. Its index is not looked at."""
    if frame is None:
        return CheckedTable(name, None, problems=[Problem(name, None, None, None, "the table is missing; add it")])
    header = [str(label) for label in frame.columns]
    table = CheckedTable(name, header)
    for column in _once(table, header, wanted):
        values = frame.iloc[:, header.index(column)]
        try:
            _keep(table, column, pa.table({column: pa.array(values, from_pandas=True)}).column(0))
        except (pa.ArrowException, OverflowError):
            _note_mixture(table, column, values)
    return table


def table_from_file(path: Path, wanted: Sequence[str] | None, mark: str = ",") -> CheckedTable:
    """Read the wanted columns of a `.parquet` file, or of one with a mark between values; None for all of them."""
    try:
        return _read_parquet(path, wanted) if path.suffix.lower() == ".parquet" else _read_csv(path, wanted, mark)
    except UnicodeDecodeError as error:
        message = f"not UTF-8 text (byte {error.start}); save the file as UTF-8"
    except (pa.ArrowException, OSError, csv.Error) as error:
        what = "a folder, not a file" if path.is_dir() else " ".join(str(error).split())
        message = f"cannot be read as {path.suffix[1:].lower()}: {what}; write the file again"
    return CheckedTable(path.name, None, problems=[Problem(path.name, None, None, None, message)])


def _read_parquet(path: Path, wanted: Sequence[str] | None) -> CheckedTable:
    with pyarrow.parquet.ParquetFile(path) as file:
        header = file.schema_arrow.names
        table = CheckedTable(path.name, header)
        names = _once(table, header, wanted)
        content = file.read(columns=names)
    for column in names:
        _keep(table, column, content.column(column))
    return table


def _read_csv(path: Path, wanted: Sequence[str] | None, mark: str) -> CheckedTable:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        header = next(csv.reader(lines, delimiter=mark), None)
    table = CheckedTable(path.name, header)
    if header is None:
        table.note(None, "the file is empty; write a line of column names and a line for every row")
        return table
    names = _once(table, header, wanted)
    malformed = []

    def skip(row: pyarrow.csv.InvalidRow) -> str:
        malformed.append(row)
        return "skip"

    # one thread, because only then a malformed row knows its number
    reading = pyarrow.csv.ReadOptions(use_threads=False, block_size=CSV_BLOCK)
    parsing = pyarrow.csv.ParseOptions(delimiter=mark, newlines_in_values=True, invalid_row_handler=skip)
    # everything as text, so that 007 keeps its zeros; only an empty value without quotes is missing
    text = dict.fromkeys(header, pa.large_string())
    missing = {"null_values": [""], "strings_can_be_null": True, "quoted_strings_can_be_null": False}
    converting = pyarrow.csv.ConvertOptions(include_columns=names or header[:1], column_types=text, **missing)
    with path.open("rb") as file:
        content = pyarrow.csv.read_csv(_WholeLineBreaks(file), reading, parsing, converting)
    table.is_text = True
    at = [row.number - 2 for row in malformed]  # the parser calls the header row 1
    if malformed:
        table.rows = np.delete(np.arange(content.num_rows + len(at)), at)
    for row, number in list(zip(malformed, at, strict=True))[:EXAMPLES]:
        message = f"the row has {row.actual_columns} values for {row.expected_columns} columns; correct or quote it"
        table.note(None, message, row=number, value=row.text)
    if len(at) > EXAMPLES:
        table.note(None, f"{len(at) - EXAMPLES:,} more rows have the problem of the one before")
    for column in names:
        _keep(table, column, content.column(column))
    return table


class _WholeLineBreaks(io.RawIOBase):
    """A file read in blocks that never end between CR and LF: Arrow's parser drops the LF there, inside quotes too."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.held = file, b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        block = self.held + self.file.read(size - len(self.held) if size > 0 else size)
        self.held = b"\r" if len(block) > 1 and block.endswith(b"\r") else b""
        return block.removesuffix(self.held)


def _once(table: CheckedTable, header: Sequence[str], wanted: Sequence[str] | None) -> list[str]:
    """The wanted columns that the header has, less those that it has twice, which are noted."""
    wanted = list(dict.fromkeys(header)) if wanted is None else wanted
    for column in wanted:
        if header.count(column) > 1:
            table.note(column, f"{header.count(column)} columns have this name; keep one")
    return [column for column in wanted if header.count(column) == 1]


def _keep(table: CheckedTable, column: str, chunks: pa.ChunkedArray) -> None:
    """Store a column in one piece, decoded, NaN as null."""
    kind = chunks.type.value_type if pa.types.is_dictionary(chunks.type) else chunks.type
    if is_text(kind):
        kind = pa.large_string()  # one piece may exceed the 2 GB that a plain string array can hold
    elif pa.types.is_float16(kind):
        kind = pa.float32()
    chunks = chunks.cast(kind)
    array = chunks.combine_chunks() if chunks.num_chunks else pa.array([], kind)
    if pa.types.is_floating(kind):
        array = pc.if_else(pc.is_nan(array), pa.scalar(None, kind), array)
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        table.note(column, "the column holds text that is not UTF-8; write it again as UTF-8")
        return
    table.columns[column] = array


def _note_mixture(table: CheckedTable, column: str, values: pd.Series) -> None:
    """Find the first value of another type than the ones before it."""
    rows = np.flatnonzero(values.notna())
    kinds = [type(value) for value in values.iloc[rows]]
    for row, kind in zip(rows.tolist(), kinds, strict=True):
        if kind is not kinds[0]:
            message = f"the column mixes {kinds[0].__name__} and {kind.__name__}; write one type throughout"
            table.note(column, message, row=row, value=values.iloc[row])
            return
    name = kinds[0].__name__
    table.note(column, f"the column holds {name} of mixed or unknown types; write text, numbers or lists of text")
