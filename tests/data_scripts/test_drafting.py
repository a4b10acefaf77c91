"""`atrank init`: any log comes back from raw tables, guesses say why, and a refusal leaves nothing behind."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from atrank_lib.cli import app
from atrank_lib.log.events import EventLog, EventLogError
from atrank_lib.log.schema import Problem, Schema
from data_scripts.drafting import Hints, draft
from data_scripts.drafting.guesses import guess_kind
from data_scripts.drafting.text import schema_text
from tests.random_logs import random_log, shapes

ORDERS = """customer,ordered_at,event,sku,channel
ann,2024-02-01 10:00:00,browse,7,web
ann,2024-02-01 10:05:00,buy,7,web
bob,2024-02-03 09:30:00,browse,12,app
bob,2024-02-04 21:00:00,browse,7,app
ann,2024-02-05 08:00:00,browse,12,web
"""
PRODUCTS = """sku,brand_name,price,tags
7,acme,10.5,red|wool
12,apex,,red|linen
30,acme,7,blue|wool
"""


def write(folder: Path, **tables: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in tables.items():
        (folder / f"{name}.csv").write_text(text)
    return folder


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return write(tmp_path / "raw", orders=ORDERS, products=PRODUCTS)


def refused(folder: Path, hints: Hints | None = None, **more: Any) -> tuple[Problem, ...]:
    with pytest.raises(EventLogError) as caught:
        draft(folder, hints, **more)
    return caught.value.problems


def spoil(folder: Path, table: str, old: str, new: str) -> None:
    path = folder / f"{table}.csv"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_the_example_without_a_hint(raw: Path) -> None:
    lines: list[str] = []
    log = draft(raw, say=lines.append).log
    assert log.events["item"].values.tolist()[:2] == [
        ["ann", 1706781600, "browse", "7"],
        ["ann", 1706781900, "buy", "7"],
    ]
    assert log.schema.groups["item"].actions == ("browse", "buy")  # the most frequent first
    assert {name: spec.kind for name, spec in log.schema.groups["item"].features.items()} == {
        "object_id": "categorical", "brand_name": "categorical", "price": "continuous", "tags": "tokens",
    }  # fmt: skip
    assert log.objects["item"]["tags"].tolist() == [["red", "wool"], ["red", "linen"], ["blue", "wool"]]
    assert log.objects["item"]["price"].isna().tolist() == [False, True, False]
    assert (log.schema.name, log.schema.timestamp_unit) == ("raw", "s")
    said = "\n".join(lines)
    for part in ("user_id   <- customer", "taken as UTC (--time-zone", "lists separated by '|'", "1 of 3", "channel"):
        assert part in said


# ------------------------------------------------------------------------------------------ any log, in odd tables

NAMES = {"user_id": "Kunde Nr", "timestamp": "wann, etwa", "action": "Vorgang", "object_id": "Artikel=Nr"}
FORMS = ["s", "ms", "us", "ns", "iso", "zone", "local", "%d.%m.%Y %H:%M:%S"]


def in_odd_tables(log: EventLog, folder: Path, form: str, separator: str | None) -> dict[str, Hints]:
    """Write a log as CSV tables with odd columns; return what to say about each group."""
    folder.mkdir()
    hints = {}
    for name, group in log.schema.groups.items():
        events, objects = log.events[name].copy(), log.objects[name].copy()
        moments = pd.to_datetime(events["timestamp"], unit="s", utc=True)
        if form in ("s", "ms", "us", "ns"):
            events["timestamp"] *= {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[form]
        elif form == "iso":
            events["timestamp"] = moments.dt.strftime("%Y-%m-%dT%H:%M:%SZ")
        elif form == "zone":
            events["timestamp"] = moments.dt.tz_convert("Asia/Kolkata").dt.strftime("%Y-%m-%d %H:%M:%S%z")
        else:
            shape = "%Y-%m-%d %H:%M:%S" if form == "local" else form
            events["timestamp"] = moments.dt.tz_convert("America/New_York").dt.strftime(shape)
        for feature, spec in group.features.items():
            if spec.kind == "tokens":
                objects[feature] = objects[feature].map((separator or " ").join)
        columns = {feature: f"f {feature}?" for feature in group.features if feature != "object_id"}
        events.assign(extra=1).rename(columns=NAMES).to_csv(folder / f"{name} e.csv", index=False)
        objects.rename(columns={"object_id": "Nr.", **columns}).to_csv(folder / f"{name} o.csv", index=False)
        hints[name] = Hints(
            events=f"{name} e.csv", objects=f"{name} o.csv", group=name, user="Kunde Nr", time="wann, etwa",
            object="Artikel=Nr", action="Vorgang", key="Nr.",
            kinds={columns[c]: spec.kind for c, spec in group.features.items() if c in columns},
            time_format=form if form not in ("iso", "zone", "local") else None,
            time_zone="America/New_York" if form == "local" or "%" in form else None,
        )  # fmt: skip
    return hints


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(shape=shapes(), form=st.sampled_from(FORMS), separator=st.sampled_from([None, "|", ";", ","]))
def test_any_log_comes_back(
    shape: tuple[int, int, int, int, int],
    form: str,
    separator: str | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    log = random_log(*shape)
    for frame in log.events.values():
        frame["timestamp"] = frame["timestamp"] * 4_000 + 1_500_000_000
    folder = tmp_path_factory.mktemp("raw")
    for number, hints in enumerate(in_odd_tables(log, folder / "odd", form, separator).values()):
        made = draft(folder / "odd", hints, add_to=folder / "log" if number else None)
        made.write(folder / "log")
    again = EventLog.read(folder / "log")
    factor = {"ms": 10**3, "us": 10**6, "ns": 10**9}.get(form, 1)
    events, objects = {}, {}
    for name in log.schema.groups:
        events[name] = log.events[name].assign(timestamp=log.events[name]["timestamp"] * factor)
        objects[name] = log.objects[name].rename(columns=lambda c: c if c == "object_id" else f"f {c}?")
        drafted, original = again.schema.groups[name], log.schema.groups[name]
        kinds = {c: spec.kind for c, spec in drafted.features.items() if c != "object_id"}
        assert kinds == {f"f {c}?": s.kind for c, s in original.features.items() if c != "object_id"}
        assert set(drafted.actions) == set(events[name]["action"])
    assert EventLog.from_tables(again.schema, events, objects).fingerprint() == again.fingerprint()
    shutil.rmtree(folder)


# -------------------------------------------------------------------------------------------------- kinds of features


@pytest.mark.parametrize(
    ("column", "values", "kind"),
    [
        ("brand", ["acme", "apex", "acme", None], "categorical"),
        ("category", ["Home and Garden", "Toys", "Home and Garden", "Home and Garden"], "categorical"),
        ("price", ["9.5", "12", None, "nan"], "continuous"),
        ("price", ["9.5", "12", "7", "free"], "continuous"),  # and validation then names `free`
        ("price", ["$9.50", "$12", "$7"], "categorical"),
        ("sizes", ["38,39,40", "39,40", "40,41,42"], "tokens"),
        ("sizes", ["38|39", "39|40", "40"], "tokens"),
        ("address", ["10.0.0.1", "10.0.0.2"], "categorical"),
        ("index", ["0", "1", "2"], None),
        ("row_id", [1, 2, 3], None),
        ("index", [0.5, 0.7, 0.1], "continuous"),
        ("row", [3, 1, 2], "continuous"),
        ("rank", [1, 2, 3], "continuous"),
        ("Unnamed: 0", ["4", "9", "2"], None),
        ("__index_level_0__", [4, 9, 2], None),
        ("shop_id", ["1", "2", "1"], "categorical"),
        ("shopId", ["1", "2", "1"], "categorical"),
        ("plz", ["01067", "80331"], "categorical"),
        ("stock", ["1", "2", "1"], "continuous"),
        ("tags", ["a|b", "b|c", "c"], "tokens"),
        ("tags", ["red, wool", "blue, wool"], "tokens"),
        ("tags", ["['red', 'wool']", "['wool']", "['blue', 'red']"], "tokens"),
        ("title", ["red shoes", "blue shoes", "tea cup", "red tea"], "tokens"),
        ("released", ["2024-01-01", "2023-05-05"], None),
        ("note", [None, None], None),
        ("flag", [True, False, None], "categorical"),
        ("stars", [1, 2, 3], "continuous"),
        ("brand_id", [1, 2, 3], "categorical"),
        ("score", [0.5, None], "continuous"),
        ("tags", [["a"], ["b", "c"], []], "tokens"),
        ("when", pd.to_datetime(["2024-01-01", "2024-01-02"]), None),
        ("parts", [{"a": 1}, {"a": 2}], None),
    ],
)
def test_kinds(column: str, values: Any, kind: str | None) -> None:
    array = pa.array(values, from_pandas=True)
    if pa.types.is_string(array.type):
        array = array.cast(pa.large_string())
    found = guess_kind(column, array)
    assert found.kind == kind
    assert found.why


@pytest.mark.parametrize(
    "numbers",
    [
        ["1,50", "2,50", "1,99", "12,00"],
        ["1.299,00", "99,50", "1.050,00", "7,25"],
        ["1,299", "1,050", "2,099", "999"],
        ["1,299.95", "99.95", "1,050.00", "12,000.50"],
        ["1 299", "2 050", "1 050", "12 000"],
        ["1'299.50", "2'050.00", "1'050.00", "999"],
        ["€ 1,50", "€ 2,50", "€ 2,00", "€ 7,25"],
        ["1,50 EUR", "2,50 EUR", "2,00 EUR", "7,25 EUR"],
        ["-1,5", "2,5", "-2,0", "7,2"],
    ],
)
def test_numbers_as_people_write_them_are_never_split_but_asked_about(tmp_path: Path, numbers: list[str]) -> None:
    products = "".join(f'{sku},"{price}"\n' for sku, price in zip((7, 12, 30, 31), numbers, strict=True))
    folder = write(tmp_path / "raw", orders=ORDERS, products="sku,price\n" + products)
    (problem,) = refused(folder)
    assert (problem.table, problem.column, problem.row, problem.value) == ("products.csv", "price", 0, numbers[0])
    assert "--kind 'price=KIND'" in problem.message
    assert "decimal=','" in problem.message
    log = draft(folder, Hints(kinds={"price": "categorical"})).log
    assert log.objects["item"]["price"].tolist() == numbers
    draft(folder, Hints(kinds={"price": "none"}))


def test_the_number_of_a_row_is_no_key(tmp_path: Path) -> None:
    """pandas wrote its index as a column, which covers the ids of the events as well as their own column does."""
    orders = "user,date,event,item\na,2024-02-01,buy,1\na,2024-02-02,buy,2\nb,2024-02-02,buy,3\n"
    products = "Unnamed: 0,article,brand\n1,3,x\n2,1,x\n3,2,y\n"
    log = draft(write(tmp_path / "raw", orders=orders, products=products)).log
    assert log.objects["item"].to_dict("list") == {"object_id": ["3", "1", "2"], "brand": ["x", "x", "y"]}


@pytest.mark.parametrize(
    ("text", "lists"), [("a|b", ["a", "b"]), ("['a', 'b c']", ["a", "b c"]), ("a ||b", ["a", "b"])]
)
def test_lists_lose_brackets_and_quotes(raw: Path, text: str, lists: list[str]) -> None:
    write(raw, products=f'sku,tags\n7,"{text}"\n12,\n')
    assert draft(raw, Hints(kinds={"tags": "tokens"})).log.objects["item"]["tags"].tolist() == [lists, []]


# ----------------------------------------------------------------------------------------------------------- times


@pytest.mark.parametrize(
    ("first", "hints", "seconds"),
    [
        ("2024-02-01", {}, 1706745600),
        ("2024-02-01T10:00", {}, 1706781600),
        ("2024-02-01 10:00:00", {"time_zone": "Europe/Berlin"}, 1706778000),
        ("2024-02-01 10:00:00+01:00", {}, 1706778000),
        ("2024-02-01T10:00:00Z", {"time_zone": "Europe/Berlin"}, 1706781600),
        ("1706781600", {}, 1706781600),
        ("1706781600.0", {}, 1706781600),
        ("25/02/2024", {}, 1708819200),
        ("02/25/2024 10:00", {}, 1708855200),
        ("01/02/2024", {"time_format": "%d/%m/%Y"}, 1706745600),
        ("01/02/2024", {"time_format": "%m/%d/%Y"}, 1704153600),
        ("20240201", {"time_format": "%Y%m%d"}, 1706745600),
        ("12", {"time_format": "s"}, 12),
    ],
)
def test_times(tmp_path: Path, first: str, hints: dict[str, Any], seconds: int) -> None:
    folder = write(tmp_path / "raw", e=f"user_id,timestamp,action,object_id\na,{first},x,1\n")
    log = draft(folder, Hints(events="e.csv", time="timestamp", **hints)).log
    assert log.events["item"]["timestamp"].tolist() == [seconds]
    assert log.schema.timestamp_unit == "s"


@pytest.mark.parametrize(
    ("times", "unit", "values"),
    [
        (["1706781600123", "1706781600000"], "ms", [1706781600123, 1706781600000]),
        (["1706781600123456"], "us", [1706781600123456]),
        (["1706781600123456789"], "ns", [1706781600123456789]),
        (["2024-02-01T10:00:00.5Z", "2024-02-01T10:00:00Z"], "ms", [1706781600500, 1706781600000]),
        (["2024-02-01T10:00:00.123456789"], "ns", [1706781600123456789]),
        (["2024-02-01T10:00:00Z", "2024-02-01T10:00:00"], "s", [1706781600, 1706781600]),
    ],
)
def test_the_unit_loses_nothing(tmp_path: Path, times: list[str], unit: str, values: list[int]) -> None:
    rows = "".join(f"a,{time},x,1\n" for time in times)
    log = draft(write(tmp_path / "raw", e="user_id,timestamp,action,object_id\n" + rows)).log
    assert (log.schema.timestamp_unit, log.events["item"]["timestamp"].tolist()) == (unit, values)


@pytest.mark.parametrize("zone", [None, "Asia/Shanghai"])
def test_times_of_parquet(tmp_path: Path, zone: str | None) -> None:
    moments = pd.to_datetime(["2024-02-01 10:00:00.250", "2024-02-02 00:00:00.000"]).tz_localize(zone)
    frame = pd.DataFrame({"user_id": [1, 2], "date": moments, "action": "x", "object_id": ["a", "b"]})
    frame.to_parquet(tmp_path / "e.parquet")
    log = draft(tmp_path).log
    expected = moments.tz_localize("UTC") if zone is None else moments
    assert log.schema.timestamp_unit == "ms"
    assert log.events["item"]["timestamp"].tolist() == [round(moment.timestamp() * 1000) for moment in expected]
    assert log.events["item"]["user_id"].tolist() == ["1", "2"]


@pytest.mark.parametrize(
    ("time", "hints", "words"),
    [
        ("01/02/2024", {}, ["does the day come first", "--time-format '%d/%m/%Y' or '%m/%d/%Y'"]),
        ("01.02.2024 10:30", {}, ["'%d.%m.%Y %H:%M'"]),
        ("", {}, ["the time is missing"]),
        ("yesterday", {}, ["cannot", "--time-format"]),
        ("2024-02-30 10:00:00", {}, ["no such date"]),
        ("2024-03-31 02:30:00", {"time_zone": "Europe/Berlin"}, ["Europe/Berlin skip or repeat", "offset"]),
        ("2024-10-27 02:30:00", {"time_zone": "Europe/Berlin"}, ["Europe/Berlin skip or repeat", "offset"]),
        ("10:00", {"time_format": "%Y-%m-%d %H:%M:%S"}, ["does not have the form", "another --time-format"]),
    ],
)
def test_times_refused(tmp_path: Path, time: str, hints: dict[str, Any], words: list[str]) -> None:
    good = "" if "/" in time or "." in time else "b,2024-02-01 10:00:00,x,1\n" * 3
    folder = write(tmp_path / "raw", e=f"user_id,timestamp,action,object_id\n{good}a,{time},x,1\n")
    (problem,) = refused(folder, Hints(events="e.csv", time="timestamp", **hints))
    assert (problem.table, problem.column, problem.row) == ("e.csv", "timestamp", 3 if good else 0)
    assert problem.value == (time or None)
    for word in words:
        assert word in problem.message or word == "cannot"


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["12", "13", "14"], ["no time near ours", "--time-format s"]),
        (["20240201", "20240202"], ["--time-format %Y%m%d"]),
        (["1706781600", "1706781700", "1706781600000"], ["far from them", "--time-format s"]),
        (["1706781600", "1706781700", "soon"], ["not a number"]),
        (["1706781600", "1706781700", "1706781700.5"], ["fractional"]),
    ],
)
def test_numbers_refused(tmp_path: Path, rows: list[str], words: list[str]) -> None:
    lines = "".join(f"a,{row},x,1\n" for row in rows)
    folder = write(tmp_path / "raw", e="user_id,timestamp,action,object_id\n" + lines)
    (problem,) = refused(folder, Hints(events="e.csv", time="timestamp"))
    assert (problem.column, problem.row) == ("timestamp", 0 if "1706781600" not in rows else 2)
    for word in words:
        assert word in problem.message


# -------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("hints", "place", "words"),
    [
        ({"user": "custom"}, ("orders.csv", "custom"), ["no such column, but 'customer'", "--user"]),
        ({"key": "sky"}, ("products.csv", "sky"), ["no such column, but 'sku'", "--key"]),
        ({"kinds": {"tag": "tokens"}}, ("orders.csv", "tag"), ["but 'tags'", "--kind"]),
        ({"kinds": {"tags": "list"}}, ("products.csv", "tags"), ["categorical, continuous, tokens, none"]),
        ({"kinds": {"brand_name": "continuous"}}, ("products.csv", "brand_name"), ["not a number"]),
        ({"events": "order.csv"}, ("order.csv", None), ["missing", "orders.csv?"]),
        ({"objects": "product.csv"}, ("product.csv", None), ["missing", "products.csv?"]),
        ({"one_action": "buy", "action": "event"}, ("orders.csv", "event"), ["not both"]),
        ({"time_zone": "Berlin"}, ("orders.csv", "ordered_at"), ["no time zone", "Europe/Berlin"]),
        ({"time_format": "%Q"}, ("orders.csv", "ordered_at"), ["bad directive", "--time-format"]),
        ({"group": "a/b"}, ("schema.yaml", "groups"), ["'a/b'", "letters"]),
        ({"features": ("chanel",), "events": "orders.csv"}, ("orders.csv", "chanel"), ["'channel'", "--feature"]),
        ({"features": ("channel",), "events": "orders.csv"}, ("orders.csv", "channel"), ["another value", "leave it"]),
    ],
)
def test_hints_refused(raw: Path, hints: dict[str, Any], place: tuple[str, str | None], words: list[str]) -> None:
    problem = refused(raw, Hints(**hints))[0]
    assert (problem.table, problem.column) == place
    for word in words:
        assert word in problem.message


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("a,ordered_at,event,sku,b", ["who it was", "--user", "a, ordered_at, event, sku, b"]),
        ("customer,b,event,sku,user", ["more than one", "customer, user", "--user"]),
        ("customer,ordered_at,b,sku,c", ["what was done", "--action", "--one-action"]),
        ("customer,ordered_at,event,a,product", ["what it was about", "--object"]),
    ],
)
def test_what_cannot_be_guessed_is_asked_for(tmp_path: Path, header: str, words: list[str]) -> None:
    names = ["customer", "ordered_at", "event", "sku", "channel"]
    orders = ORDERS.replace(",".join(names), header).replace("web", "w,").replace("w,", "w")
    if "product" in header:
        header = "customer,ordered_at,event,a,b"
        orders = orders.replace("a,product", "a,b")
    folder = write(tmp_path / "raw", orders=orders)
    problems = refused(folder, Hints(events="orders.csv"))
    (problem,) = [p for p in problems if words[0] in p.message]
    assert problem.table == "orders.csv"
    for word in words:
        assert word in problem.message


def test_defects_in_the_words_of_the_raw_tables(raw: Path) -> None:
    """Everything at once, with file, column and row of the raw tables, below a malformed row too."""
    hints = Hints(kinds={"price": "continuous"})
    spoil(raw, "orders", "bob,2024-02-03 09:30:00,browse,12,app", "bob\nbob,2024-02-03 09:30:00,browse,99,app")
    spoil(raw, "orders", "ann,2024-02-05 08:00:00,browse", "ann,soon,browse")
    spoil(raw, "orders", "bob,2024-02-04", ",2024-02-04")
    spoil(raw, "products", "30,acme,7", "7,acme,cheap")
    found = [(p.table, p.column, p.row, p.value) for p in refused(raw, hints)]
    malformed = ("orders.csv", None, 2, "bob")
    assert malformed in found
    spoil(raw, "orders", "bob\n", "")
    assert sorted([(p.table, str(p.column), p.row, p.value) for p in refused(raw, hints)], key=str) == sorted(
        [
            ("orders.csv", "ordered_at", 4, "soon"),
            ("orders.csv", "customer", 3, None),
            ("orders.csv", "sku", 2, "99"),
            ("products.csv", "sku", 2, "7"),
            ("products.csv", "price", 2, "cheap"),
        ],
        key=str,
    )


@pytest.mark.parametrize("price", ["1e300", "-inf", "cheap"])
def test_a_wrong_number_is_named_once(raw: Path, price: str) -> None:
    spoil(raw, "products", "30,acme,7", f"30,acme,{price}")
    (problem,) = refused(raw, Hints(kinds={"price": "continuous"}))
    assert (problem.table, problem.column, problem.row, problem.value) == ("products.csv", "price", 2, price)


def unreadable(kind: str, text: str, folder: Path, name: str) -> str:
    """Spoil a table in one of the ways that people meet; return its file."""
    (folder / f"{name}.csv").unlink(missing_ok=True)
    if kind in (";", "|", "\t"):
        # with a decimal comma, which makes a row of two values
        (folder / f"{name}.csv").write_text(text.replace(",", kind).replace("10.5", "10,5"))
    elif kind == "folder":
        (folder / f"{name}.parquet").mkdir()
        pd.DataFrame({"a": [1]}).to_parquet(folder / f"{name}.parquet" / "part-0.parquet")
        return f"{name}.parquet"
    elif kind == "broken":
        (folder / f"{name}.parquet").write_bytes(b"PAR1")
        return f"{name}.parquet"
    elif kind == "sep=":
        (folder / f"{name}.csv").write_text("sep=,\n" + text)
    elif kind == "one value more":
        header, *rows = text.splitlines()
        (folder / f"{name}.csv").write_text("\n".join([header, *(row + "," for row in rows)]))
    elif kind == "header alone":
        (folder / f"{name}.csv").write_text(text.partition("\n")[0] + "\n")
    elif kind == "nothing":
        (folder / f"{name}.csv").write_text("")
    else:
        (folder / f"{name}.csv").write_bytes(text.replace("acme", "acmé").replace("web", "wéb").encode(kind))
    return f"{name}.csv"


UNREADABLE = {
    ";": "separated by ';'; write commas, in pandas pd.read_csv('{file}', sep=';'",
    "|": "separated by '|'",
    "\t": "separated by '\\t'",
    "latin-1": "not UTF-8 text",
    "gbk": "not UTF-8 text",
    "utf-16": "not UTF-8 text",
    "folder": "a folder, not a file; write the tables in it as one file",
    "broken": "cannot be read as parquet",
    "sep=": "the first line is Excel's 'sep='",
    "one value more": " values for ",
    "header alone": "the table has no row",
    "nothing": "the file is empty",
}


@pytest.mark.parametrize("kind", UNREADABLE)
@pytest.mark.parametrize("named", [False, True])
def test_why_the_events_cannot_be_read(tmp_path: Path, kind: str, named: bool) -> None:
    (tmp_path / "raw").mkdir()
    file = unreadable(kind, ORDERS, tmp_path / "raw", "orders")
    problems = refused(tmp_path / "raw", Hints(events=file) if named else None)
    assert {problem.table for problem in problems} == {file}
    assert all(UNREADABLE[kind].format(file=file) in problem.message for problem in problems[:3])


@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_table_that_cannot_be_read_is_not_passed_over(raw: Path, kind: str) -> None:
    file = unreadable(kind, PRODUCTS, raw, "products")
    for hints in (Hints(), Hints(events="orders.csv")):
        problems = refused(raw, hints)
        assert {problem.table for problem in problems} == {file}
        assert all(UNREADABLE[kind].format(file=file) in problem.message for problem in problems[:3])
        assert all("move it out of the folder" in problem.message for problem in problems)
    lines: list[str] = []
    (raw / "elsewhere").mkdir()
    (raw / file).rename(raw / "elsewhere" / file)
    assert list(draft(raw, say=lines.append).log.objects["item"]) == ["object_id"]
    assert "not used: elsewhere" in lines


def test_files_that_are_not_used_are_named(raw: Path, tmp_path: Path) -> None:
    for name in ("notes.txt", "stock.xlsx", "products.csv.gz", ".hidden.csv"):
        (raw / name).write_text("something")
    write(raw, shops="shop,town\ns1,Leipzig\n")
    (raw / "products.csv").rename(raw / "products.CSV")
    lines: list[str] = []
    made = draft(raw, say=lines.append)
    assert list(made.log.objects["item"]) == ["object_id", "brand_name", "price", "tags"]
    assert lines[-1] == "not used: notes.txt, products.csv.gz, shops.csv, stock.xlsx"
    made.write(tmp_path / "log")
    assert EventLog.read(tmp_path / "log").fingerprint() == made.log.fingerprint()


@pytest.mark.parametrize(
    ("hints", "option"),
    [
        ({"one_action": ""}, "--one-action"),
        ({"group": " "}, "--group"),
        ({"events": ""}, "--events"),
        ({"user": ""}, "--user"),
        ({"time_format": ""}, "--time-format"),
        ({"time_zone": ""}, "--time-zone"),
        ({"name": ""}, "--name"),
        ({"features": ("genre", "")}, "--feature"),
    ],
)
def test_empty_hints_are_refused_by_their_names(hints: dict[str, Any], option: str) -> None:
    with pytest.raises(ValueError, match=f"^{option} is empty; write what it should say, or leave the option out$"):
        Hints(**hints)


def test_folders_refused(tmp_path: Path, raw: Path) -> None:
    assert "not a folder" in refused(tmp_path / "no")[0].message
    empty = write(tmp_path / "empty")
    assert "--events" in refused(empty)[0].message
    write(raw, searches="customer,searched_on,event,text\nann,2024-02-01,search,tea\n".replace("searched_on", "date"))
    assert "orders.csv, searches.csv" in refused(raw)[0].message
    (raw / "searches.csv").unlink()
    write(raw, other=PRODUCTS)
    assert "other.csv, products.csv; name it with --objects" in refused(raw)[0].message
    write(empty, e="user_id,timestamp,action,object_id\n")
    assert "no row" in refused(empty, Hints(events="e.csv"))[0].message


# -------------------------------------------------------------------------------------------------- several groups


def test_tables_in_the_contract_need_a_schema_only(tiny_log: EventLog, tmp_path: Path) -> None:
    """Nothing but schema.yaml is written, and shared columns share a vocabulary."""
    folder = tmp_path / "log"
    folder.mkdir()
    for name in tiny_log.schema.groups:
        tiny_log.events[name].assign(timestamp=lambda f: f["timestamp"] + 1_600_000_000).to_csv(
            folder / f"{name}.events.csv", index=False
        )
        objects = tiny_log.objects[name].copy()
        if name == "query":
            objects["tokens"] = objects["tokens"].map(" ".join)
        objects.to_csv(folder / f"{name}.objects.csv", index=False)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    made = draft(folder, Hints(kinds={"tokens": "tokens"}))
    made.write(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix == ".csv"} == before
    assert sorted(path.name for path in folder.iterdir()) == sorted([*before, "schema.yaml"])
    log = EventLog.read(folder)
    assert log.fingerprint() == made.log.fingerprint()
    assert log.schema.vocabulary("item", "shop_id") == log.schema.vocabulary("coupon", "shop_id") == "shop"
    assert log.schema.groups["item"].features["category_id"].vocabulary is None


def test_objects_from_events(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "raw",
        views="viewer_id,date,film,genre,minutes\na,2024-02-01,f1,drama,3\nb,2024-02-02,f2,,5\nb,2024-02-03,f1,,7\n",
    )
    made = draft(folder, Hints(user="viewer_id", one_action="view", features=("genre",), group="film"))
    assert made.log.objects["film"]["object_id"].tolist() == ["f1", "f2"]
    assert made.log.objects["film"]["genre"].tolist()[0] == "drama"
    assert made.log.objects["film"]["genre"].isna().tolist() == [False, True]
    assert made.log.schema.groups["film"].actions == ("view",)
    alone = draft(folder, Hints(user="viewer_id", one_action="view"))
    assert list(alone.log.objects["item"].columns) == ["object_id"]


def test_add(raw: Path, tmp_path: Path) -> None:
    draft(raw).write(tmp_path / "log")
    write(raw, searches="customer,date,event,text\nann,2024-02-01,search,q1\n", texts="text,brand_name\nq1,acme\n")
    hints = Hints(events="searches.csv", group="query", object="text")
    made = draft(raw, hints, add_to=tmp_path / "log")
    before = (tmp_path / "log" / "item.events.parquet").stat().st_mtime_ns
    made.write(tmp_path / "log")
    log = EventLog.read(tmp_path / "log")
    assert list(log.schema.groups) == ["item", "query"]
    assert log.fingerprint() == made.log.fingerprint()
    assert log.schema.vocabulary("item", "brand_name") == log.schema.vocabulary("query", "brand_name") == "brand_name"
    assert (tmp_path / "log" / "item.events.parquet").stat().st_mtime_ns == before
    assert "has a group 'query' already" in refused(raw, hints, add_to=tmp_path / "log")[0].message
    spoil(raw, "searches", "2024-02-01", "2024-02-01 10:00:00.5")
    problem = refused(raw, Hints(**{**vars(hints), "group": "more"}), add_to=tmp_path / "log")[0]
    assert (problem.table, problem.column) == ("searches.csv", "date")
    assert "no whole numbers of s" in problem.message
    spoil(raw, "searches", "2024-02-01 10:00:00.5", "1706781600000")
    made = draft(raw, Hints(**{**vars(hints), "group": "more"}), add_to=tmp_path / "log")
    assert made.log.events["more"]["timestamp"].tolist() == [1706781600]  # milliseconds, in seconds nothing is lost


@pytest.mark.parametrize(
    ("times", "unit"),
    [
        (["2024-02-01 10:00:01", "2024-02-01 12:00:00"], "second"),
        (["2024-02-01 10:00:01", "2024-02-03 12:00:00"], "minute"),
        (["2024-02-01 10:00:01", "2024-06-03 12:00:00"], "hour"),
        (["2024-02-01 10:00:00", "2024-02-01 12:00:00"], "hour"),
        (["2024-02-01", "2024-02-03"], "day"),
        (["2020-02-01 10:00:01", "2024-02-03 12:00:00"], "day"),
    ],
)
def test_time_scale(tmp_path: Path, times: list[str], unit: str) -> None:
    rows = "".join(f"a,{time},x,1\n" for time in times)
    log = draft(write(tmp_path / "raw", e="user_id,timestamp,action,object_id\n" + rows)).log
    assert log.schema.groups["item"].time.unit == unit


# ---------------------------------------------------------------------------------------------------------- writing


@pytest.mark.parametrize("name", ["購買", "é ", "yes", "1", "a\x85b", "\u2028", "\ufeff", "#x: y", "'\"", "\x01\x7f\n"])
def test_any_name_is_read_back(tmp_path: Path, name: str) -> None:
    content = {
        "name": name,
        "groups": {
            "on": {
                "actions": [name, "buy"],
                "features": {name: {"kind": "categorical", "vocabulary": name}, "p": {"kind": "continuous"}},
                "time": {"edges": [0.00001, 3, 1e20]},
            }
        },
    }
    schema = Schema.model_validate(content)
    text = schema_text(schema, {("on", name): f"why\n{name}"}, f"{name}.csv")
    (tmp_path / "schema.yaml").write_text(text, encoding="utf-8")
    assert Schema.read(tmp_path / "schema.yaml") == schema


def test_every_line_of_the_schema_is_explained(raw: Path) -> None:
    made = draft(raw)
    lines = made.text.splitlines()
    assert all("# " in line for line in lines)
    assert Schema.checked(yaml.safe_load(made.text)) == made.log.schema


def test_nothing_is_overwritten(raw: Path) -> None:
    made = draft(raw)
    (raw / "schema.yaml").write_text("mine")
    with pytest.raises(FileExistsError, match="--overwrite"):
        made.write(raw)
    assert sorted(path.name for path in raw.iterdir()) == ["orders.csv", "products.csv", "schema.yaml"]
    assert (raw / "schema.yaml").read_text() == "mine"
    made.write(raw, overwrite=True)
    assert EventLog.read(raw).fingerprint() == made.log.fingerprint()
    assert "may hold events as well; name the table to read with --events" in refused(raw)[0].message
    with pytest.raises(FileExistsError, match="is a file"):
        made.write(raw / "orders.csv")


def test_raw_tables_are_never_overwritten(tmp_path: Path) -> None:
    folder = write(tmp_path / "raw", **{"item.events": ORDERS, "item.objects": PRODUCTS})
    made = draft(folder)
    with pytest.raises(FileExistsError, match=r"item\.events\.csv is where the log's table belongs.*--out"):
        made.write(folder, overwrite=True)
    assert sorted(path.name for path in folder.iterdir()) == ["item.events.csv", "item.objects.csv"]
    pd.read_csv(folder / "item.events.csv").to_parquet(folder / "item.events.parquet")
    assert "is there as well; remove one" in refused(folder)[0].message
    (folder / "item.events.csv").unlink()
    with pytest.raises(FileExistsError, match=r"item\.events\.parquet is where"):
        draft(folder).write(folder, overwrite=True)


@pytest.mark.parametrize("exists", [False, True])
def test_failed_write_leaves_nothing(raw: Path, monkeypatch: pytest.MonkeyPatch, exists: bool) -> None:
    made = draft(raw)
    if exists:
        for name in ("schema.yaml", "item.events.parquet"):
            (raw / name).write_text("mine")
    before = {path.name: path.read_bytes() for path in raw.iterdir()}
    rename = Path.rename

    def fail_for_objects(self: Path, target: Path) -> Path:
        if self.name == "item.objects.parquet":
            raise OSError("no space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_for_objects)
    with pytest.raises(OSError, match="no space left"):
        made.write(raw, overwrite=True)
    assert {path.name: path.read_bytes() for path in raw.iterdir()} == before


# ------------------------------------------------------------------------------------------------- the command line


def atrank(*arguments: str | Path) -> SimpleNamespace:
    done = CliRunner().invoke(app, [str(a) for a in arguments], prog_name="atrank")
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return SimpleNamespace(code=done.exit_code, out=done.stdout, err=done.stderr)


def test_command(raw: Path, tmp_path: Path) -> None:
    done = atrank(
        *("init", raw, "--events", "orders.csv", "--objects", "products.csv", "--group", "item", "--out"),
        *(tmp_path / "log", "--user", "customer", "--time", "ordered_at", "--object", "sku", "--action", "event"),
        *("--time-zone", "Asia/Shanghai", "--kind", "tags=none", "--kind", "price=categorical", "--name", "shop"),
    )
    assert (done.code, done.err) == (0, "")
    assert "user_id   <- customer: as you say" in done.out
    assert done.out.splitlines()[-1] == f"{tmp_path / 'log'}: wrote item"
    log = EventLog.read(tmp_path / "log")
    assert list(log.schema.groups["item"].features) == ["object_id", "brand_name", "price"]
    assert log.schema.groups["item"].features["price"].kind == "categorical"
    assert log.events["item"]["timestamp"][0] == 1706781600 - 8 * 3600
    assert atrank("check", tmp_path / "log").code == 0
    write(raw, searches="customer,date,event,text\nann,2024-02-01,search,q1\n")
    done = atrank("init", raw, "--out", tmp_path / "log", "--events", "searches.csv", "--object", "text", "--add",
                  "--group", "query")  # fmt: skip
    assert done.out.splitlines()[-1] == f"{tmp_path / 'log'}: added to query".replace("added to query", "added query")
    assert list(EventLog.read(tmp_path / "log").schema.groups) == ["item", "query"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--user", "nobody"], ["orders.csv, column nobody", "correct --user", "1 problem;", "nothing was written"]),
        (["--kind", "tags"], ["--kind tags", "--kind tags=tokens"]),
        (["--add"], ["schema.yaml", "missing"]),
        (["--one-action", ""], ["--one-action is empty"]),
    ],
)
def test_command_refuses(raw: Path, tmp_path: Path, options: list[str], words: list[str]) -> None:
    (tmp_path / "log").mkdir()
    done = atrank("init", raw, "--out", tmp_path / "log", *options)
    assert done.code == 1
    for word in words:
        assert word in done.err
    assert list((tmp_path / "log").iterdir()) == []
