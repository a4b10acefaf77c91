"""Event logs: round trips, what a faulty folder says, and what the summary counts."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atrank_lib.log.columns import time_range
from atrank_lib.log.events import EventLog, EventLogError
from atrank_lib.log.schema import Problem, Schema

Tables = tuple[dict[str, pd.DataFrame], dict[str, pd.DataFrame]]


def assert_equal(a: EventLog, b: EventLog) -> None:
    assert a.schema == b.schema
    for left, right in ((a.events, b.events), (a.objects, b.objects)):
        assert list(left) == list(right)
        for name in left:
            pd.testing.assert_frame_equal(left[name], right[name])


def write_csv(log: EventLog, folder: Path) -> None:
    """Write a log as a teacher would, with pandas and CSV."""
    folder.mkdir()
    (folder / "schema.yaml").write_text(log.schema.text(), encoding="utf-8")
    for name, group in log.schema.groups.items():
        log.events[name].to_csv(folder / f"{name}.events.csv", index=False)
        objects = log.objects[name].copy()
        for feature, spec in group.features.items():
            if spec.kind == "tokens":
                objects[feature] = objects[feature].map(" ".join)
        objects.to_csv(folder / f"{name}.objects.csv", index=False)


def found(tables: Callable[[], object]) -> tuple[Problem, ...]:
    with pytest.raises(EventLogError) as caught:
        tables()
    assert str(caught.value).splitlines() == [str(problem) for problem in caught.value.problems]
    return caught.value.problems


@pytest.fixture
def folder(tiny_log: EventLog, tmp_path: Path) -> Path:
    """The tiny log as CSV, to be spoiled."""
    write_csv(tiny_log, tmp_path / "log")
    return tmp_path / "log"


def test_types(tiny_log: EventLog) -> None:
    item = tiny_log.events["item"]
    assert list(item.columns) == ["user_id", "timestamp", "action", "object_id"]
    assert [str(kind) for kind in item.dtypes] == ["str", "int64", "category", "str"]
    assert list(item["action"].cat.categories) == ["browse", "mark", "buy"]
    objects = tiny_log.objects["item"]
    assert [str(kind) for kind in objects.dtypes] == ["str", "str", "str", "float64"]
    assert objects["shop_id"].isna().tolist() == [False] * 4 + [True, False]
    assert tiny_log.objects["query"]["tokens"].tolist() == [
        ["red", "shoes"],
        ["tea"],
        ["green", "tea", "cup"],
    ]


def test_round_trip(tiny_log: EventLog, tmp_path: Path) -> None:
    tiny_log.write(tmp_path / "parquet")
    write_csv(tiny_log, tmp_path / "csv")
    assert_equal(EventLog.read(tmp_path / "parquet"), tiny_log)
    assert_equal(EventLog.read(tmp_path / "csv"), tiny_log)
    assert EventLog.read(tmp_path / "csv").fingerprint() == tiny_log.fingerprint()


# text without surrogates, which no file can hold, and without the characters that pandas does not quote in CSV
text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), min_size=1, max_size=6)
words = st.lists(st.text("abcé漢0,\"'", min_size=1, max_size=4), max_size=4)


@st.composite
def contents(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, pd.DataFrame], dict[str, pd.DataFrame]]:
    """What makes a random log, whose groups between them have features of all three kinds."""
    schema: dict[str, Any] = {
        "name": draw(text),
        "timestamp_unit": draw(st.sampled_from(["s", "ms", "us", "ns"])),
        "groups": {
            "item": {
                "actions": draw(st.lists(text, min_size=1, max_size=3, unique=True)),
                "features": {"shop": {"kind": "categorical"}, "price": {"kind": "continuous"}},
            },
            "query-2": {
                "actions": ["search"],
                "features": {"words": {"kind": "tokens"}, "object_id": {"kind": "categorical"}},
                "time": {"edges": [0.5, 3]},
            },
        },
    }
    low, high = time_range(schema["timestamp_unit"])
    events, objects = {}, {}
    for name, group in schema["groups"].items():
        ids = draw(st.lists(text, min_size=1, max_size=5, unique=True))
        row = st.tuples(text, st.integers(low, high), st.sampled_from(group["actions"]), st.sampled_from(ids))
        rows = draw(st.lists(row, min_size=1, max_size=8))
        events[name] = pd.DataFrame(rows, columns=["user_id", "timestamp", "action", "object_id"])
        n = len(ids)
        columns: dict[str, Any] = {"object_id": ids}
        if name == "item":
            columns["shop"] = pd.Series(draw(st.lists(st.none() | text, min_size=n, max_size=n)), dtype="str")
            price = st.none() | st.floats(-3.4e38, 3.4e38)
            columns["price"] = pd.Series(draw(st.lists(price, min_size=n, max_size=n)), dtype=float)
        else:
            columns["words"] = draw(st.lists(words, min_size=n, max_size=n))
        objects[name] = pd.DataFrame(columns)
    return schema, events, objects


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(content=contents())
def test_round_trip_of_any_log(
    content: tuple[dict[str, Any], dict[str, pd.DataFrame], dict[str, pd.DataFrame]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    schema, events, objects = content
    log = EventLog.from_tables(Schema.model_validate(schema), events, objects)
    folder = tmp_path_factory.mktemp("log")
    log.write(folder / "parquet")
    write_csv(log, folder / "csv")
    for name in ("parquet", "csv"):
        again = EventLog.read(folder / name)
        assert_equal(again, log)
        assert again.fingerprint() == log.fingerprint()
    shutil.rmtree(folder)


def test_ids_are_text(tiny_schema: Schema, tiny_tables: Tables, folder: Path) -> None:
    events, objects = tiny_tables
    for frame in (events["coupon"], objects["coupon"]):
        frame["object_id"] = frame["object_id"].str.removeprefix("c").astype(int)
    log = EventLog.from_tables(tiny_schema, events, objects)
    assert log.objects["coupon"]["object_id"].tolist() == ["1", "2", "3"]
    for name in ("events", "objects"):
        path = folder / f"coupon.{name}.csv"
        path.write_text(path.read_text().replace("c1", "007").replace("c2", "7"))
    assert EventLog.read(folder).objects["coupon"]["object_id"].tolist() == ["007", "7", "c3"]


def test_frames_are_copied(tiny_schema: Schema, tiny_tables: Tables) -> None:
    events, objects = tiny_tables
    times, prices = np.arange(12), np.arange(6.0)
    events["item"] = pd.DataFrame({"timestamp": times} | dict(events["item"].drop(columns="timestamp")), copy=False)
    objects["item"] = pd.DataFrame({"price": prices} | dict(objects["item"].drop(columns="price")), copy=False)
    assert np.shares_memory(events["item"]["timestamp"].to_numpy(), times)
    log = EventLog.from_tables(tiny_schema, events, objects)
    before = log.fingerprint()
    times[:], prices[:] = 5, 5
    objects["query"]["tokens"][0].append("more")
    assert log.fingerprint() == before


def test_extras_are_ignored(tiny_log: EventLog, folder: Path) -> None:
    (folder / "truth").mkdir()
    (folder / "notes.txt").write_text("mine")
    path = folder / "coupon.events.csv"
    head, *rows = path.read_text().splitlines()
    path.write_text("\n".join([f"note,{head}", *(f"x,{row}" for row in rows)]))
    assert_equal(EventLog.read(folder), tiny_log)


@pytest.mark.parametrize("values", [[1.0, 2.0, 3.0, 4.0], np.array([1, 2, 3, 4], dtype="uint64"), [1, 2, 3, 4]])
def test_whole_times(tiny_schema: Schema, tiny_tables: Tables, values: Any) -> None:
    events, objects = tiny_tables
    events["coupon"]["timestamp"] = values
    log = EventLog.from_tables(tiny_schema, events, objects)
    assert log.events["coupon"]["timestamp"].tolist() == [1, 2, 3, 4]


def spoil(kind: str, group: str, column: str, row: int, value: Any) -> Callable[[Tables], None]:
    def change(tables: Tables) -> None:
        frame = tables[0 if kind == "events" else 1][group]
        values = frame[column].astype(object)
        values[row] = value
        frame[column] = values.infer_objects()

    return change


def replace(kind: str, group: str, column: str, values: Any) -> Callable[[Tables], None]:
    def change(tables: Tables) -> None:
        frame = tables[0 if kind == "events" else 1][group]
        frame[column] = values

    return change


@pytest.mark.parametrize(
    ("change", "place", "words"),
    [
        (
            spoil("events", "item", "action", 3, "by"),
            ("action", 3, "by"),
            ["browse, mark, buy", "did you mean buy"],
        ),
        (spoil("events", "item", "action", 3, None), ("action", 3, None), ["missing"]),
        (spoil("events", "item", "object_id", 2, "i9"), ("object_id", 2, "i9"), ["not in the objects table"]),
        (spoil("events", "item", "object_id", 2, None), ("object_id", 2, None), ["missing"]),
        (spoil("events", "item", "user_id", 4, None), ("user_id", 4, None), ["missing"]),
        (spoil("events", "item", "user_id", 4, ""), ("user_id", 4, ""), ["missing"]),
        (spoil("events", "item", "user_id", 4, 5), ("user_id", 4, 5), ["mixes str and int"]),
        (
            spoil("events", "item", "timestamp", 1, None),
            ("timestamp", 1, None),
            ["missing", "whole numbers of s"],
        ),
        (
            spoil("events", "item", "timestamp", 1, 0.5),
            ("timestamp", 1, 0.5),
            ["fractional", "whole numbers of s"],
        ),
        (
            spoil("events", "item", "timestamp", 1, 1e30),
            ("timestamp", 1, 1e30),
            ["out of range", "timestamp_unit"],
        ),
        (
            spoil("events", "item", "timestamp", 1, float("inf")),
            ("timestamp", 1, float("inf")),
            ["out of range"],
        ),
        (spoil("events", "item", "timestamp", 1, 2**63), ("timestamp", 1, 2**63), ["out of range"]),
        (spoil("events", "item", "timestamp", 1, 10**12), ("timestamp", 1, 10**12), ["out of range"]),
        (spoil("events", "item", "timestamp", 1, "noon"), ("timestamp", 1, "noon"), ["mixes int and str"]),
        (replace("events", "item", "timestamp", "noon"), ("timestamp", 0, "noon"), ["wrong kind", "numbers"]),
        (
            replace("events", "item", "timestamp", pd.Timestamp("2020-01-01")),
            ("timestamp", 0, ...),
            ["wrong kind"],
        ),
        (replace("events", "item", "user_id", 1.5), ("user_id", 0, 1.5), ["wrong kind", "Int64"]),
        (spoil("objects", "item", "object_id", 5, "i1"), ("object_id", 5, "i1"), ["listed before"]),
        (spoil("objects", "item", "object_id", 5, None), ("object_id", 5, None), ["missing"]),
        (
            spoil("objects", "item", "price", 0, float("-inf")),
            ("price", 0, float("-inf")),
            ["infinite", "finite"],
        ),
        (spoil("objects", "item", "price", 3, 1e39), ("price", 3, 1e39), ["beyond 3.4e+38", "nothing when unknown"]),
        (spoil("objects", "item", "price", 3, -1.7e308), ("price", 3, -1.7e308), ["beyond 3.4e+38"]),
        (replace("objects", "item", "price", "cheap"), ("price", 0, "cheap"), ["wrong kind", "numbers"]),
        (replace("objects", "item", "price", True), ("price", 0, True), ["wrong kind", "bool"]),
        (
            replace("objects", "item", "shop_id", 0.5),
            ("shop_id", 0, 0.5),
            ["wrong kind", "text or whole numbers"],
        ),
        (replace("objects", "query", "tokens", [1, 2, 3]), ("tokens", 0, 1), ["wrong kind", "lists of text"]),
        (replace("objects", "query", "tokens", "a b"), ("tokens", 0, "a b"), ["wrong kind", ".str.split()"]),
        (
            replace("objects", "query", "tokens", [["a"], ["a", None], None]),
            ("tokens", 1, ["a", None]),
            ["a token in the list is missing"],
        ),
        (
            replace("objects", "query", "tokens", [["a"], [1, "b"], []]),
            ("tokens", None, None),
            ["mixed or unknown types"],
        ),
    ],
)
def test_one_problem(
    tiny_schema: Schema,
    tiny_tables: Tables,
    change: Callable[[Tables], None],
    place: tuple[str, int | None, object],
    words: list[str],
) -> None:
    change(tiny_tables)
    (problem,) = found(lambda: EventLog.from_tables(tiny_schema, *tiny_tables))
    column, row, value = place
    assert problem.table in ("item.events", "item.objects", "query.objects")
    assert (problem.column, problem.row) == (column, row)
    if value is not ...:
        assert problem.value == value
    for word in words:
        assert word in problem.message


def test_missing_lists_are_empty(tiny_schema: Schema, tiny_tables: Tables) -> None:
    replace("objects", "query", "tokens", [["a"], None, []])(tiny_tables)
    log = EventLog.from_tables(tiny_schema, *tiny_tables)
    assert log.objects["query"]["tokens"].tolist() == [["a"], [], []]


def test_missing_and_unknown_groups(tiny_schema: Schema, tiny_tables: Tables) -> None:
    events, objects = tiny_tables
    events["cupon"] = events.pop("coupon")
    first, second = found(lambda: EventLog.from_tables(tiny_schema, events, objects))
    assert first.table == "cupon.events"
    assert "did you mean coupon?" in first.message
    assert (second.table, second.message) == ("coupon.events", "the table is missing; add it")


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("dora,172800,", "dora,,", "column timestamp, row 2: the time is missing"),
        ("dora,172800,", "dora,noon,", "column timestamp, row 2, value 'noon': the time is not a number"),
        ("dora,172800,", "dora,1.5,", "column timestamp, row 2, value '1.5': the time is fractional"),
        (
            "dora,172800,",
            "dora,99999999999999999999,",
            "row 2, value '99999999999999999999': the time is out",
        ),
        ("dora,172800,", "dora,9300000000000000000,", "row 2, value '9300000000000000000': the time is out"),
        ("dora,172800,", ",172800,", "column user_id, row 2: is missing"),
        ("dora,172800,receive,", "dora,172800,recieve,", "value 'recieve': the schema has no such action"),
        (
            "dora,172800,",
            "dora,172800,x,",
            "coupon.events.csv, row 2, value 'dora,172800,x,receive,c1': the row has 5",
        ),
        ("user_id,", "user,", "column user_id: the column is missing; rename 'user', or add it"),
        ("user_id,", "timestamp,", "column timestamp: 2 columns have this name; keep one"),
    ],
)
def test_csv_problem(folder: Path, old: str, new: str, problem: str) -> None:
    path = folder / "coupon.events.csv"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    problems = found(lambda: EventLog.read(folder))
    assert problem in str(problems[0])
    assert str(problems[0]).startswith("coupon.events.csv")


@pytest.mark.parametrize("value", ["172800.0", " 172800", "172800."])
def test_csv_times_that_pandas_writes(tiny_log: EventLog, folder: Path, value: str) -> None:
    path = folder / "coupon.events.csv"
    path.write_text(path.read_text().replace("172800", value))
    assert_equal(EventLog.read(folder), tiny_log)


def test_csv_rows_keep_their_numbers_after_a_malformed_one(folder: Path) -> None:
    path = folder / "coupon.events.csv"
    path.write_text(path.read_text().replace("anna,86400,receive,c1", "anna").replace("dora,172800", "dora,x"))
    assert [(problem.row, problem.value) for problem in found(lambda: EventLog.read(folder))] == [
        (0, "anna"),
        (2, "x"),
    ]


def test_csv_numbers(tiny_log: EventLog, folder: Path) -> None:
    path = folder / "item.objects.csv"
    good = path.read_text()
    path.write_text(good.replace("25.5", "nan"))
    assert np.isnan(EventLog.read(folder).objects["item"]["price"][1])
    path.write_text(good.replace("25.5", "inf").replace("99.0", "much"))
    first, second = found(lambda: EventLog.read(folder))
    assert (first.column, first.row, first.value) == ("price", 4, "much")
    assert (second.column, second.row, second.value) == ("price", 1, "inf")


def test_csv_quotes(tiny_log: EventLog, folder: Path) -> None:
    path = folder / "item.objects.csv"
    path.write_text("\ufeff" + path.read_text().replace("i2,s1", 'i2,"s,\n1"').replace("i3,s2", 'i3,""'))
    shops = EventLog.read(folder).objects["item"]["shop_id"]
    assert shops[:3].tolist() == ["s1", "s,\n1", ""]
    assert shops.isna().tolist() == [False] * 4 + [True, False]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"user_id,timestamp,action,object_id\n\xff,1,receive,c1\n"])
def test_unreadable_csv(folder: Path, content: bytes) -> None:
    (folder / "coupon.events.csv").write_bytes(content)
    (problem,) = found(lambda: EventLog.read(folder))
    assert problem.table == "coupon.events.csv"
    assert problem.column is None


def test_unreadable_parquet(folder: Path) -> None:
    (folder / "coupon.events.csv").unlink()
    (folder / "coupon.events.parquet").mkdir()
    (problem,) = found(lambda: EventLog.read(folder))
    assert str(problem).startswith("coupon.events.parquet: cannot be read as parquet: a folder, not a file")


def test_parquet_of_other_writers(tiny_log: EventLog, folder: Path) -> None:
    """Dictionaries, small integers, several row groups and other columns read the same."""
    (folder / "coupon.events.csv").unlink()
    frame = tiny_log.events["coupon"]
    table = pa.table(
        {
            "note": pa.array([1, 2, 3, 4]),
            "user_id": pa.array(frame["user_id"]).dictionary_encode(),
            "object_id": pa.array(frame["object_id"].tolist(), pa.string()),
            "action": pa.array(frame["action"].tolist()),
            "timestamp": pa.array(frame["timestamp"], pa.int32()),
        }
    )
    pq.write_table(table, folder / "coupon.events.parquet", row_group_size=2)
    assert_equal(EventLog.read(folder), tiny_log)


def test_parquet_text_that_is_not_utf8(folder: Path) -> None:
    (folder / "coupon.objects.csv").unlink()
    kinds = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(np.array([0, 1], "int32")), pa.py_buffer(b"\xff")]
    )
    table = pa.table({"object_id": ["c1"], "shop_id": ["s1"], "coupon_type": kinds})
    pq.write_table(table, folder / "coupon.objects.parquet")
    problems = found(lambda: EventLog.read(folder))
    assert ("coupon.objects.parquet", "coupon_type") in [(problem.table, problem.column) for problem in problems]
    assert "not UTF-8" in str(problems)


def test_both_formats(tiny_log: EventLog, folder: Path, tmp_path: Path) -> None:
    tiny_log.write(tmp_path / "parquet")
    shutil.copy(tmp_path / "parquet" / "query.objects.parquet", folder)
    (problem,) = found(lambda: EventLog.read(folder))
    assert str(problem) == "query.objects.parquet: query.objects.csv is there as well; remove one of the two"


def test_missing_table(folder: Path) -> None:
    (folder / "query.events.csv").rename(folder / "query.event.csv")
    (problem,) = found(lambda: EventLog.read(folder))
    assert problem.table == "query.events.parquet"
    assert "missing" in problem.message
    assert "rename query.event.csv?" in problem.message


def test_empty_group(folder: Path) -> None:
    (folder / "query.events.csv").write_text("user_id,timestamp,action,object_id\n")
    (problem,) = found(lambda: EventLog.read(folder))
    assert (problem.table, problem.row) == ("query.events.csv", None)
    assert "the group is empty" in problem.message


def test_missing_columns_all_named(folder: Path) -> None:
    (folder / "coupon.events.csv").write_text("a,b\n1,2\n")
    (folder / "coupon.objects.csv").write_text("a\n1\n")
    problems = found(lambda: EventLog.read(folder))
    columns = ["user_id", "timestamp", "action", "object_id", "object_id", "shop_id", "coupon_type"]
    assert [problem.column for problem in problems] == columns
    assert all("the column is missing; add it (the table has: a" in problem.message for problem in problems)


def test_all_problems_at_once(folder: Path) -> None:
    """Faults of the schema, of files and of values, in one go."""

    def edit(name: str, old: str, new: str) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    edit("schema.yaml", "unit: hour", "unit: hours")
    edit("item.events.csv", "anna,0,browse", "anna,zero,brows")
    edit("item.objects.csv", "i6,", "i5,")
    (folder / "coupon.objects.csv").unlink()
    edit("coupon.events.csv", "receive,c3", ",c3")
    assert [(problem.table, problem.column, problem.row) for problem in found(lambda: EventLog.read(folder))] == [
        ("schema.yaml", "groups.query.time.unit", None),
        ("coupon.objects.parquet", None, None),
        ("item.events.csv", "timestamp", 0),
        ("item.events.csv", "action", 0),
        ("item.objects.csv", "object_id", 5),
        ("coupon.events.csv", "action", 3),
    ]


def test_groups_that_differ_in_case(folder: Path) -> None:
    text = (folder / "schema.yaml").read_text()
    (folder / "schema.yaml").write_text(text.replace("  coupon:", "  ITEM:"))
    problems = found(lambda: EventLog.read(folder))
    assert "two groups differ only in upper and lower case" in problems[0].message


def test_many_rows_make_few_lines(tiny_schema: Schema, tiny_tables: Tables) -> None:
    events, objects = tiny_tables
    events["item"] = pd.concat([events["item"]] * 1000)
    events["item"]["object_id"] = [f"x{i}" for i in range(len(events["item"]))]
    events["item"]["action"] = "take"
    problems = found(lambda: EventLog.from_tables(tiny_schema, events, objects))
    assert [(problem.column, problem.row) for problem in problems] == [
        ("action", 0),
        ("object_id", 0),
        ("object_id", 1),
        ("object_id", 2),
        ("object_id", None),
    ]
    assert problems[0].message.endswith("(also rows 1, 2 and 11,997 more)")
    assert problems[-1].message.startswith("11,997 more values in 11,997 rows")


def test_not_a_folder(tmp_path: Path) -> None:
    (problem,) = found(lambda: EventLog.read(tmp_path / "nowhere"))
    assert str(problem).endswith("nowhere: not a folder; name a log's folder")
    (problem,) = found(lambda: EventLog.read(tmp_path))
    assert problem.table == "schema.yaml"


def test_write_refuses(tiny_log: EventLog, tmp_path: Path) -> None:
    tiny_log.write(tmp_path / "a" / "log")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        tiny_log.write(tmp_path / "a" / "log")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="no event log"):
        tiny_log.write(tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_overwrite(tiny_log: EventLog, tiny_tables: Tables, tmp_path: Path) -> None:
    tiny_log.write(tmp_path / "log")
    tiny_tables[0]["item"]["timestamp"] += 1
    other = EventLog.from_tables(tiny_log.schema, *tiny_tables)
    other.write(tmp_path / "log", overwrite=True)
    assert_equal(EventLog.read(tmp_path / "log"), other)
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


@pytest.mark.parametrize("exists", [False, True])
def test_failed_write_leaves_nothing(
    tiny_log: EventLog, tiny_tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exists: bool
) -> None:
    if exists:
        tiny_log.write(tmp_path / "log")
    calls = []

    def disk_full(table: pa.Table, where: Path) -> None:
        calls.append(where)
        if len(calls) == 3:
            raise OSError("no space left on device")
        where.write_bytes(b"half a file")

    monkeypatch.setattr(pq, "write_table", disk_full)
    with pytest.raises(OSError, match="no space left"):
        tiny_log.write(tmp_path / "log", overwrite=exists)
    assert [path.name for path in tmp_path.iterdir()] == ["log"] * exists
    if exists:
        assert_equal(EventLog.read(tmp_path / "log"), tiny_log)


def test_failed_swap_restores(tiny_log: EventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_log.write(tmp_path / "log")
    rename = Path.rename
    failed: list[Path] = []

    def fail_once_for_the_log(self: Path, target: Path) -> Path:
        if target.name == "log" and not failed:
            failed.append(target)
            raise OSError("rename failed")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_once_for_the_log)
    with pytest.raises(OSError, match="rename failed"):
        tiny_log.write(tmp_path / "log", overwrite=True)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["log"]
    assert_equal(EventLog.read(tmp_path / "log"), tiny_log)


def test_summary(tiny_log: EventLog) -> None:
    summary = tiny_log.summary()
    assert list(summary.index) == ["item", "query", "coupon", "all groups"]
    assert summary["users"].tolist() == [4, 2, 2, 5]
    assert summary["behaviors"].tolist() == [12, 4, 4, 20]
    assert summary["objects"].tolist() == [6, 3, 3, 12]
    assert summary["average length"].tolist() == [3.0, 2.0, 2.0, 4.0]
    # items and coupons share the vocabulary of shops: s1, s2 and s3 are counted once
    assert summary["distinct shop_id"].fillna(-1).tolist() == [3, -1, 3, 3]
    assert summary["distinct category_id"].fillna(-1).tolist() == [3, -1, -1, 3]
    assert summary["distinct tokens"].fillna(-1).tolist() == [-1, 5, -1, 5]
    assert "distinct price" not in summary
    assert summary["first day"].tolist() == ["1970-01-01", "1970-01-01", "1970-01-02", "1970-01-01"]
    assert summary["last day"].tolist() == ["1970-02-10", "1970-01-21", "1970-03-02", "1970-03-02"]


def test_summary_keeps_vocabularies_apart(tiny_schema: Schema, tiny_tables: Tables) -> None:
    content = tiny_schema.model_dump()
    del content["groups"]["item"]["features"]["shop_id"]["vocabulary"]
    log = EventLog.from_tables(Schema.model_validate(content), *tiny_tables)
    assert log.summary().loc["all groups", "distinct shop_id"] == 6


def test_fingerprint_ignores_order_of_groups_and_columns(tiny_log: EventLog, tiny_tables: Tables) -> None:
    content = tiny_log.schema.model_dump()
    content["groups"] = dict(reversed(content["groups"].items()))
    content["groups"]["item"]["features"] = dict(reversed(content["groups"]["item"]["features"].items()))
    events, objects = (
        {name: frame[frame.columns[::-1]] for name, frame in reversed(frames.items())} for frames in tiny_tables
    )
    other = EventLog.from_tables(Schema.model_validate(content), events, objects)
    assert list(other.events) != list(tiny_log.events)
    assert other.fingerprint() == tiny_log.fingerprint()
    assert len(other.fingerprint()) == 12


@pytest.mark.parametrize(
    "change",
    [
        spoil("events", "item", "timestamp", 0, 1),
        spoil("events", "item", "action", 0, "buy"),
        spoil("events", "item", "user_id", 0, "hans"),
        spoil("events", "item", "object_id", 0, "i2"),
        spoil("objects", "item", "shop_id", 0, None),
        spoil("objects", "item", "shop_id", 4, ""),
        spoil("objects", "item", "price", 2, 0.0),
        replace("objects", "query", "tokens", [["red"], ["shoes", "tea"], ["green", "tea", "cup"]]),
        replace("objects", "query", "tokens", [["redshoes"], ["tea"], ["green", "tea", "cup"]]),
    ],
)
def test_fingerprint_sees_every_change(
    tiny_log: EventLog, tiny_tables: Tables, change: Callable[[Tables], None]
) -> None:
    change(tiny_tables)
    assert EventLog.from_tables(tiny_log.schema, *tiny_tables).fingerprint() != tiny_log.fingerprint()


def test_fingerprint_sees_row_order_and_schema(tiny_log: EventLog, tiny_tables: Tables) -> None:
    events, objects = tiny_tables
    events["item"] = events["item"].iloc[[0, 2, 1, *range(3, 12)]]
    assert EventLog.from_tables(tiny_log.schema, events, objects).fingerprint() != tiny_log.fingerprint()
    other = EventLog(tiny_log.schema.model_copy(update={"timestamp_unit": "ms"}), tiny_log.events, tiny_log.objects)
    assert other.fingerprint() != tiny_log.fingerprint()
