"""CSV as it is written comes back as it was, wherever a block of the file ends."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import pytest

from atrank_lib.log import files


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_no_byte_is_lost_where_a_block_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    draw = random.Random(0)
    pieces = ["\r\n", "\r", "\n", '"', ",", "x", "é", " "]
    rows = [["".join(draw.choices(pieces, k=draw.randrange(1, 6))) for _ in range(2)] for _ in range(40)]
    path = tmp_path / "item.objects.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator=end).writerows([["object_id", "words"], *rows])
    for size in range(60, 130):
        monkeypatch.setattr(files, "CSV_BLOCK", size)
        table = files.table_from_file(path, None)
        assert table.problems == []
        columns = [table.columns[name].to_pylist() for name in ("object_id", "words")]
        assert [list(row) for row in zip(*columns, strict=True)] == rows, f"in blocks of {size} bytes"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("object_id\nNoël\n".encode("latin-1"), "not UTF-8 text (byte 12); save the file as UTF-8"),
        ("object_id\nNoel\n".encode("utf-16"), "not UTF-8 text (byte 0); save the file as UTF-8"),
        (b"", "the file is empty; write a line of column names and a line for every row"),
    ],
)
def test_why_a_table_cannot_be_read(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "item.objects.csv").write_bytes(content)
    table = files.table_from_file(tmp_path / "item.objects.csv", ["object_id"])
    assert list(map(str, table.problems)) == [f"item.objects.csv: {message}"]
