"""RecBole's atomic files as raw tables: drafted as their headers declare them, refused by place and remedy."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from atrank_lib.cli import app
from atrank_lib.log import EventLog, EventLogError
from data_scripts.drafting import Hints, draft
from data_scripts.drafting.atomic import read_atomic, whole_times
from tests.atomic_files import MISSING, as_recbole_reads

INTER = """user_id:token\titem_id:token\trating:float\ttimestamp:float
1\t20\t4\t978300760
1\t7\t5\t978302109
007\t20\t1\t978301968
"""
ITEM = """item_id:token\tyear:token\tclass:token_seq\tprice:float\tvector:float_seq
7\t1995\tAnimation Children's [sic] a|b\t12.5\t0.1 0.2
20\t2001\tDrama\t\t0.3
30\tnan\t\t7e1\t
"""
USER = "user_id:token\tage:token\n1\t24\n"


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        name, _, suffix = name.rpartition("_")
        (folder / f"{name}.{suffix}").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return write(tmp_path / "raw", ml_inter=INTER, ml_item=ITEM, ml_user=USER)


# ----------------------------------------------------------------------------------------------------------- drafting


@pytest.mark.parametrize("form", ["flat", "nested", "windows"])
def test_a_data_set_is_drafted_without_a_hint(raw: Path, form: str) -> None:
    if form == "windows":
        for path in raw.iterdir():
            path.write_bytes(path.read_text().replace("\n", "\r\n").encode("utf-8-sig"))
    if form == "nested":  # as RecBole has it, data_path/ml/ml.inter
        raw.rename(raw.parent / "ml")
        raw.mkdir()
        (raw.parent / "ml").rename(raw / "ml")
    lines: list[str] = []
    log = draft(raw, say=lines.append).log
    assert log.events["ml"].astype({"action": "str"}).values.tolist() == [
        ["1", 978300760, "interact", "20"],
        ["1", 978302109, "interact", "7"],
        ["007", 978301968, "interact", "20"],
    ]
    things = log.objects["ml"]
    assert things["year"].tolist()[:2] == ["1995", "2001"]
    assert things["year"].isna().tolist() == [False, False, True]
    assert things["class"].tolist() == [["Animation", "Children's", "[sic]", "a|b"], ["Drama"], []]
    assert things["price"].fillna(-1).tolist() == [12.5, -1, 70]
    assert list(things) == ["object_id", "year", "class", "price"]
    assert log.schema.timestamp_unit == "s"
    said = "\n".join(lines)
    for part in (
        "interact in all rows: no column is called action",
        "year is categorical: declared as token",
        "vector is left out: declared as float_seq",
        "not read: rating",
    ):
        assert part in said
    assert [line for line in lines if "ml.user" in line] == [
        "not used: ml.user: an event log describes objects, and users by what they do"
    ]


@pytest.mark.parametrize(
    "values", [["1", "2"], ["12.5", "7"], ["2024-01-01", "2024-01-02"], ["a|b", "b|c"], ["0", "1"]]
)
@pytest.mark.parametrize("name", ["price", "index", "brand_id"])
def test_what_is_declared_is_not_guessed(tmp_path: Path, name: str, values: list[str]) -> None:
    inter = "user_id:token\titem_id:token\ttimestamp:float\na\tx\t978300760\na\ty\t978300761\n"
    for declared, kind in (("token", "categorical"), ("token_seq", "tokens"), ("float", "continuous")):
        if declared == "float" and "." not in values[0] and not values[0].isdigit():
            continue
        item = f"item_id:token\t{name}:{declared}\nx\t{values[0]}\ny\t{values[1]}\n"
        log = draft(write(tmp_path / declared, a_inter=inter, a_item=item)).log
        assert log.schema.groups["a"].features[name].kind == kind
        form: Any = {"token": str, "token_seq": lambda value: [value], "float": float}[declared]
        assert log.objects["a"][name].tolist() == [form(value) for value in values]


def test_hints_overrule(raw: Path) -> None:
    hints = Hints(action="rating", kinds={"class": "categorical", "price": "none"}, group="film", time_format="ms")
    log = draft(raw, hints).log
    assert log.events["film"]["action"].tolist() == ["4", "5", "1"]
    assert log.objects["film"]["class"].tolist()[1] == "Drama"
    assert list(log.objects["film"]) == ["object_id", "year", "class"]
    assert log.schema.timestamp_unit == "ms"
    (raw / "ml.item").unlink()
    log = draft(raw, Hints(one_action="rate")).log
    assert log.schema.groups["ml"].actions == ("rate",)
    assert log.objects["ml"].values.tolist() == [["20"], ["7"]]
    inter = INTER.replace("rating:float", "studio:token").replace("\t1\t", "\t4\t")
    log = draft(write(raw, ml_inter=inter), Hints(features=("studio",), events="ml.inter")).log
    assert log.objects["ml"]["studio"].tolist() == ["4", "5"]
    assert log.schema.groups["ml"].features["studio"].kind == "categorical"  # as declared, though numbers


def test_an_action_is_taken_by_its_name(raw: Path) -> None:
    log = draft(write(raw, ml_inter=INTER.replace("rating:float", "action:token"))).log
    assert log.events["ml"]["action"].tolist() == ["4", "5", "1"]


@pytest.mark.parametrize(
    ("times", "unit", "values"),
    [
        (["978300760.0", "978302109.00", "978301968"], "s", [978300760, 978302109, 978301968]),
        (["978300760.25", "978302109", "978301968.5"], "ms", [978300760250, 978302109000, 978301968500]),
        (["9.7830076E8", "978302109", "978301968"], "s", [978300760, 978302109, 978301968]),
        (["978300760123", "978302109000", "978301968000"], "ms", [978300760123, 978302109000, 978301968000]),
    ],
)
def test_times(raw: Path, times: list[str], unit: str, values: list[int]) -> None:
    text = INTER.replace("timestamp", "moment")
    for old, new in zip(["978300760", "978302109", "978301968"], times, strict=True):
        text = text.replace(old, new)
    log = draft(write(raw, ml_inter=text), Hints(time="moment")).log
    assert (log.schema.timestamp_unit, log.events["ml"]["timestamp"].tolist()) == (unit, values)


@given(st.lists(st.none() | st.decimals(-(10**9), 10**9, allow_nan=False, allow_infinity=False)))
def test_decimal_times_lose_nothing(times: list[Decimal | None]) -> None:
    texts = [None if time is None else f"{time:f}" for time in times]
    found = whole_times(pa.array(texts, pa.large_string())).to_pylist()
    places = max((-int(time.normalize().as_tuple().exponent) for time in times if time), default=0)
    factor = next((10**k for k in (0, 3, 6, 9) if k >= places), 0)
    if factor in (0, 1):
        assert found == texts
    else:
        assert [None if text is None else int(text) for text in found] == [
            None if time is None else int(time.scaleb(len(str(factor)) - 1)) for time in times
        ]


def test_files_of_one_folder_are_groups_and_share_what_is_the_same(raw: Path, tmp_path: Path) -> None:
    more = "item_id:token\tyear:token\tclass:float\nq\t1995\t3\n"
    write(raw, query_inter=INTER.replace("\t20\t", "\tq\t").replace("\t7\t", "\tq\t"), query_item=more)
    log = draft(raw).log
    assert list(log.schema.groups) == ["ml", "query"]
    assert log.schema.vocabulary("ml", "year") == log.schema.vocabulary("query", "year") == "year"
    assert log.schema.groups["ml"].features["class"].vocabulary is None
    assert list(draft(raw, Hints(group="query")).log.schema.groups) == ["query"]
    made = draft(raw, Hints(events="query.inter", group="other"))
    assert list(made.log.objects["other"]) == ["object_id", "year", "class"]
    made.write(raw)  # beside the raw files
    draft(raw, Hints(events="ml.inter"), add_to=raw).write(raw)
    assert list(EventLog.read(raw).schema.groups) == ["other", "ml"]


@pytest.mark.parametrize("text", [*MISSING, "na", "NONE", "Null", " nan", "-", "0", '"a ""b"" c"', 'a "b" c', '"a|b"'])
def test_a_value_is_what_recbole_reads(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.item").write_text(f"item_id:token\tbrand:token\ttags:token_seq\nx\t{text}\t{text}\ny\tz\tz\n")
    expected = as_recbole_reads(tmp_path / "a.item")
    found = read_atomic(tmp_path / "a.item").columns
    assert found["brand"].to_pandas().fillna("-").tolist() == expected["brand"].fillna("-").tolist()
    assert expected["brand"].isna().tolist() == [text in MISSING, False]
    write(tmp_path, a_inter="user_id:token\titem_id:token\ttimestamp:float\nu\tx\t978300760\n")
    assert draft(tmp_path).log.objects["a"]["tags"].tolist() == expected["tags"].tolist()


# ------------------------------------------------------------------------------------------------------------ refusals

HEAD, TAIL = INTER.partition("\n")[0] + "\n", ITEM.partition("\n")[2]
# the file, what is replaced in it, and by what; the place of the problem, and words of its message
BROKEN: dict[str, tuple[str, str, str, tuple[str | None, int | None], list[str]]] = {
    "no type": (
        "ml.inter",
        "rating:float",
        "rating",
        (None, None),
        ["value 'rating'", "NAME:TYPE", "token, token_seq"],
    ),
    "unknown type": ("ml.item", "year:token", "year:int", (None, None), ["value 'year:int'", "token_seq, float"]),
    "two colons": ("ml.item", "year:token", "a:year:token", (None, None), ["value 'a:year:token'", "NAME:TYPE"]),
    "no name": ("ml.item", "year:token", ":token", (None, None), ["value ':token'", "NAME:TYPE"]),
    "commas": ("ml.item", "\t", ",", (None, None), ["with tabs between"]),
    "no header": ("ml.inter", HEAD, "", (None, None), [r"value '1\t20\t4\t978300760'", "NAME:TYPE"]),
    "twice": ("ml.inter", "rating:float", "user_id:token", ("user_id:token", None), ["2 columns", "keep one"]),
    "twice as another": ("ml.item", "price:float", "year:float", ("year", None), ["there is year:token", "keep one"]),
    "ids as numbers": ("ml.inter", "user_id:token", "user_id:float", ("user_id", None), ["column user_id:token"]),
    "no user": ("ml.inter", "user_id", "who", (None, None), ["no column user_id", "add user_id:token", "--user"]),
    "no item": ("ml.inter", "item_id", "film", (None, None), ["no column item_id", "add item_id:token", "--object"]),
    "no time": ("ml.inter", "timestamp", "year", (None, None), ["no column timestamp", "timestamp:float", "--time"]),
    "no key": ("ml.item", ITEM, "a:token\nx\n", (None, None), ["no column holds the values of item_id", "--key"]),
    "a value less": ("ml.inter", "\t5\t", "\t", (None, 1), ["3 values for 4 columns"]),
    "a value more": ("ml.item", "30", "3\t0", (None, 2), ["6 values for 5 columns"]),
    "empty": ("ml.inter", INTER, "", (None, None), ["the file is empty"]),
    "header alone": ("ml.item", TAIL, "", (None, None), ["no row"]),
    "item twice": ("ml.item", "30\t", "20\t", ("item_id", 2), ["listed before"]),
    "item nowhere": ("ml.inter", "1\t7\t", "1\t70\t", ("item_id", 1), ["not in the objects table", "'70'"]),
    "no number": ("ml.item", "12.5", "cheap", ("price", 0), ["not a number", "'cheap'"]),
    "infinite": ("ml.item", "12.5", "inf", ("price", 0), ["finite"]),
    "no user here": ("ml.inter", "007\t", "nan\t", ("user_id", 2), ["is missing"]),
    "no time here": ("ml.inter", "978302109", "", ("timestamp", 1), ["the time is missing"]),
    "time as text": ("ml.inter", "978302109", "yesterday", ("timestamp", 1), ["the time is not a number"]),
    "time far away": ("ml.inter", "978302109", "978302109000", ("timestamp", 1), ["far from them"]),
    "time of no unit": ("ml.inter", "9783", "3", ("timestamp", 0), ["no time near ours", "--time-format"]),
    "NUL": ("ml.item", "Drama", "Dra\0ma", ("class", 1), ["NUL", r"'Dra\x00ma'"]),
    "open quote": ("ml.inter", "\n1\t7\t", '\n"1\t7\t', (None, 1), ["1 values for 4 columns", r"""'"1\t7"""]),
    "quotes": ("ml.item", "1995\t", '"1995\n"\t', ("year", 0), ["a line break inside", "quotation mark"]),
    "latin-1": ("ml.item", "Drama", "Com\xe9die", (None, None), ["not UTF-8 text (byte", "save the file as UTF-8"]),
    "UTF-16": ("ml.inter", HEAD, HEAD, (None, None), ["not UTF-8 text (byte 0)"]),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_broken_is_refused_once(raw: Path, case: str) -> None:
    file, old, new, place, words = BROKEN[case]
    text = (raw / file).read_text()
    assert old in text
    (raw / file).write_bytes(text.replace(old, new).encode(case if case in ("latin-1", "UTF-16") else "utf-8"))
    before = {path: path.read_bytes() for path in raw.iterdir()}
    assert CliRunner().invoke(app, ["init", str(raw)]).exit_code == 1
    assert {path: path.read_bytes() for path in raw.iterdir()} == before
    with pytest.raises(EventLogError) as caught:
        draft(raw)
    (problem,) = caught.value.problems
    assert (problem.table, problem.column, problem.row) == (file, *place)
    for word in words:
        assert word in str(problem)


def test_all_that_is_broken_is_said_at_once(raw: Path) -> None:
    write(
        raw, ml_inter=INTER.replace("978302109", "late").replace("\t20\t1", "\t21\t1"), ml_item=ITEM.replace("7e1", "-")
    )
    write(raw, query_inter="user_id:token\titem_id:token\tt:float\na\tb\t1\n")
    with pytest.raises(EventLogError) as caught:
        draft(raw)
    assert {(p.table, p.column) for p in caught.value.problems} >= {("ml.inter", "timestamp"), ("query.inter", None)}
    (raw / "query.inter").unlink()
    write(raw, ml_inter=(raw / "ml.inter").read_text().replace("978300760", "978300760.25"))  # no problem beside one
    with pytest.raises(EventLogError) as caught:
        draft(raw)
    found = {(p.table, p.column, p.row, p.value) for p in caught.value.problems}
    assert found == {
        ("ml.inter", "timestamp", 1, "late"),
        ("ml.inter", "item_id", 2, "21"),
        ("ml.item", "price", 2, "-"),
    }


def test_folders_refused(raw: Path) -> None:
    def refused(hints: Hints | None = None) -> str:
        with pytest.raises(EventLogError) as caught:
            draft(raw, hints)
        (problem,) = caught.value.problems
        return str(problem)

    write(raw, orders_csv="user_id,timestamp,action,object_id\na,978300760,x,1\n")
    assert "orders.csv may hold events as well; name the table to read with --events" in refused()
    (raw / "orders.csv").rename(raw / "ml.events.csv")
    assert refused() == "ml.inter: ml.events.csv is there as well; name one of the two with --events"
    (raw / "ml.events.csv").unlink()
    write(raw, b_inter=INTER)
    assert "film.inter: there is no such file; name one with --events (there are: b.inter, ml.inter)" in refused(
        Hints(group="film")
    )
    (raw / "b.inter").rename(raw / "ml.train.inter")
    assert "ml.train.inter: parts of a data set are one group; join them in one file" in refused()
    (raw / "ml.train.inter").unlink()
    (raw / "ml.inter").unlink()
    assert "no .csv, .parquet or .inter" in refused()
