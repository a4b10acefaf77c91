"""The Amazon script against plain Python, on small files of the original shape, whole and broken."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner, Result

from atrank_lib.log.events import EventLog
from data_scripts import _amazon_join, _amazon_lines, _download, _lines, amazon
from data_scripts._errors import PreparationError

# Ibis 12 calls DuckDB 2 by an old name
pytestmark = pytest.mark.filterwarnings(r"ignore:fetch_arrow_table\(\) is deprecated:DeprecationWarning")

app = typer.Typer()
app.command()(amazon.main)


def prepare(*arguments: object, workers: int = 1) -> Result:
    return CliRunner().invoke(app, [str(a) for a in (*arguments, "--workers", workers)])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def review(user: str, item: str, time: Any, text: str = 'It\'s "fine"') -> dict[str, Any]:
    return {"reviewerID": user, "asin": item, "helpful": [0, 1], "reviewText": text, "unixReviewTime": time}


def product(item: str, *leaves: str) -> dict[str, Any]:
    paths = [["Electronics", "Other", leaf] for leaf in leaves]
    related = {"also_bought": ["B1", "B2"], "buy_after_viewing": ["B3"]}
    description = """It's a 5" display; {'not': "a field"} \\ é"""
    return {"asin": item, "description": description, "related": related, "categories": paths, "price": 1.5}


def write_gzip(path: Path, lines: list[str]) -> None:
    path.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode()))


def write_pair(folder: Path, reviews: list[dict], products: list[dict], name: str = "Electronics") -> tuple[Path, Path]:
    folder.mkdir(exist_ok=True)
    paths = folder / f"reviews_{name}_5.json.gz", folder / f"meta_{name}.json.gz"
    write_gzip(paths[0], [json.dumps(record) for record in reviews])
    write_gzip(paths[1], [repr(record) for record in products])
    return paths


REVIEWS = [
    review("u2", "i1", 200),
    review("u1", "i3", 86_400),
    review("u1", "i1", 86_400),
    review("u1", "i2", 5),
    review("u2", "007", 100),
    review("u1", "i1", 86_400),  # the same item again
]
PRODUCTS = [
    product("i9", "Unread"),
    product("i1", "Cables", "Cases"),
    product("007", "Agents"),
    product("i3", "Cases"),
    product("i1", "Later line"),
]


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return write_pair(tmp_path / "raw", REVIEWS, PRODUCTS)


def by_hand(reviews: list[dict], products: list[dict]) -> tuple[list[tuple], dict[str, str | None]]:
    """Events in order and the category of every item, in plain Python."""
    leaves: dict[str, str] = {}
    for record in products:
        leaves.setdefault(record["asin"], record["categories"][-1][-1])
    rows = [(r["reviewerID"], r["unixReviewTime"], "review", r["asin"]) for r in reviews]
    rows.sort(key=lambda row: row[:2])  # stable
    return rows, {row[3]: leaves.get(row[3]) for row in rows}


def assert_is(log: EventLog, events: list[tuple], categories: dict[str, str | None]) -> None:
    assert list(log.events["item"].astype({"action": "str"}).itertuples(index=False, name=None)) == events
    objects = log.objects["item"]
    found = dict(zip(objects["object_id"], objects["category_id"], strict=True))
    assert {item: None if pd.isna(leaf) else leaf for item, leaf in found.items()} == categories


@pytest.mark.parametrize("workers", [1, 2])
def test_pair_of_files(pair: tuple[Path, Path], tmp_path: Path, workers: int) -> None:
    call = ("--category", "Electronics", "--out", tmp_path / "log", "--raw-dir", pair[0].parent)
    result = prepare(*call, workers=workers)
    assert result.exit_code == 0, result.output
    log = EventLog.read(tmp_path / "log")
    assert list(log.events["item"]["object_id"]) == ["i2", "i3", "i1", "i1", "007", "i1"]
    assert_is(log, *by_hand(REVIEWS, PRODUCTS))
    assert log.schema.timestamp_unit == "s"
    assert log.schema.groups["item"].time.unit == "day"
    assert set(log.schema.groups["item"].features) == {"object_id", "category_id"}
    assert "1 items without a category, 1 repeated product lines" in result.stdout


def test_random_pair_over_many_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # chunks of 700 bytes: some lines are longer, some chunks hold several
    monkeypatch.setattr(_lines, "CHUNK", 700)
    rng = np.random.default_rng(0)
    reviews = [
        review(
            f"u{rng.integers(20)}",
            f"i{rng.integers(30)}",
            int(rng.integers(8)),
            "x'\"" * int(rng.integers(500)),
        )
        for _ in range(400)
    ]
    products = [product(f"i{rng.integers(40)}", f"leaf {rng.integers(6)}") for _ in range(60)]
    paths = write_pair(tmp_path / "raw", reviews, products, "Toys")
    # blank lines, and no newline at the end, change nothing
    paths[0].write_bytes(
        gzip.compress(b"\n" + gzip.decompress(paths[0].read_bytes()).replace(b"\n", b"\n\n", 9).rstrip())
    )
    result = prepare("--category", "Toys", "--out", tmp_path / "log", "--raw-dir", tmp_path / "raw", workers=2)
    assert result.exit_code == 0, result.output
    assert not result.stderr
    assert_is(EventLog.read(tmp_path / "log"), *by_hand(reviews, products))


def test_counts_other_than_table_1_are_a_warning(pair: tuple[Path, Path], tmp_path: Path) -> None:
    result = prepare("--category", "Electro.", "--out", tmp_path / "log", "--raw-dir", pair[0].parent)
    assert result.exit_code == 0
    page = (tmp_path / "log" / "JOINS.md").read_text()
    for sentence in (
        "users: 2 found, 192,403 in",
        "items: 4 found, 63,001 in",
        "categories: 2 found, 801 in",
    ):
        assert f"WARNING: {sentence} Table 1" in result.stderr
        assert f"- {sentence} Table 1" in page
    assert "samples: 6 found, 1,689,188 in Table 1" in page


def test_counts_of_table_1_are_no_warning(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"users": 2, "items": 4, "categories": 2, "samples": 6}
    monkeypatch.setitem(_amazon_join.TABLE_1, "Electronics", small)
    result = prepare("--category", "Electronics", "--out", tmp_path / "log", "--raw-dir", pair[0].parent)
    assert result.exit_code == 0
    assert not result.stderr
    assert "Not as published" not in (tmp_path / "log" / "JOINS.md").read_text()


def test_table_1() -> None:
    names = "users", "items", "categories", "samples"
    electronics, clothing = (192_403, 63_001, 801, 1_689_188), (39_387, 23_033, 484, 278_677)
    assert _amazon_join.TABLE_1["Electronics"] == dict(zip(names, electronics, strict=True))
    assert _amazon_join.TABLE_1[_amazon_join.PAPER_NAMES["Clothing"]] == dict(zip(names, clothing, strict=True))


def line_of(path: Path, number: int, text: str) -> None:
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    lines[number - 1] = text
    write_gzip(path, lines)


def without(record: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key != name}


# which of the two files, what is done to it, what the message says
BROKEN: dict[str, tuple[int, Callable[[Path], object], str]] = {
    "truncated reviews": (
        0,
        lambda p: p.write_bytes(p.read_bytes()[:-20]),
        "line 1: the gzip file is truncated",
    ),
    "truncated meta": (
        1,
        lambda p: p.write_bytes(p.read_bytes()[:-20]),
        "line 1: the gzip file is truncated",
    ),
    "not gzip": (0, lambda p: p.write_bytes(b'{"reviewerID": 1}\n'), "line 1: not a sound gzip file"),
    "wrong checksum": (
        0,
        lambda p: p.write_bytes(p.read_bytes()[:-8] + b"\0" * 8),
        "not a sound .* fetch it again",
    ),
    "damaged": (0, lambda p: p.write_bytes(p.read_bytes()[:10] + b"\xff" * 90), "damaged gzip data"),
    "empty": (0, lambda p: p.write_bytes(gzip.compress(b"")), "empty, not a single record"),
    "bad line": (0, lambda p: line_of(p, 3, '{"reviewerID": "u'), "line 3: not JSON"),
    "bad literal": (1, lambda p: line_of(p, 2, "{'asin': 'i1', "), "line 2: not a Python literal"),
    "no time": (
        0,
        lambda p: line_of(p, 4, json.dumps(without(REVIEWS[3], "unixReviewTime"))),
        "line 4: no field 'unixReviewTime', it has 'reviewerID'",
    ),
    "no categories": (
        1,
        lambda p: line_of(p, 3, repr(without(PRODUCTS[2], "categories"))),
        "line 3: no field 'categories'",
    ),
    "meta given as reviews": (
        0,
        lambda p: p.write_bytes(p.with_name("meta_Electronics.json.gz").read_bytes()),
        "line 1: not JSON .* is this a reviews_NAME_5.json.gz",
    ),
    "reviews given as meta": (
        1,
        lambda p: p.write_bytes(p.with_name("reviews_Electronics_5.json.gz").read_bytes()),
        "line 1: no field 'categories'.* is this a meta_NAME.json.gz",
    ),
}


# in this process, and some in processes, from which errors come back
TRIED = [*((case, 1) for case in BROKEN), ("bad literal", 2), ("truncated meta", 2)]


@pytest.mark.parametrize(("case", "workers"), TRIED)
def test_broken_files_leave_nothing_behind(case: str, workers: int, pair: tuple[Path, Path], tmp_path: Path) -> None:
    which, spoil, message = BROKEN[case]
    spoil(pair[which])
    call = ("--category", "Electronics", "--out", tmp_path / "log", "--raw-dir", pair[0].parent)
    result = prepare(*call, workers=workers)
    assert result.exit_code == 1
    assert re.search(f"^error: .*{re.escape(pair[which].name)}.*{message}", result.stderr)
    assert result.stderr.count("\n") == 1
    assert names(tmp_path) == ["raw"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[" * 100_000, "not JSON"),
        ("[1, 2]", "a list, not one record a line"),
        (json.dumps(review("u", "i", "1")), "unixReviewTime is '1'"),
        (json.dumps(review("u", "i", 1.5)), "unixReviewTime is 1.5"),
        (json.dumps(review("u", "i", True)), "unixReviewTime is True"),
        (json.dumps(review("u", "i", 2**63)), "unixReviewTime is 92"),
        (json.dumps(review("", "i", 1)), "reviewerID is empty"),
        (json.dumps(review("\ud800", "i", 1)), "surrogates"),
        (json.dumps({**REVIEWS[0], "asin": 7}), "asin is 7; it must be text"),
    ],
)
def test_bad_review(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        _amazon_lines.parse_review(line.encode())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{'asin': __import__('os').getcwd(), 'categories': [['x']]}", "not a Python literal"),
        (b"(" * 100_000, "not a Python literal"),
        (b"{'asin': '\xff'}", "not a Python literal"),
        (b"{'asin': '\0'}", "not a Python literal"),
        (b"'text'", "a str, not one record a line"),
        (repr(product("i3")).encode(), "categories is []"),
        (b"{'asin': 'i', 'categories': [['x'], []]}", "categories is [['x'], []]"),
        (b"{'asin': 'i', 'categories': 'x'}", "categories is 'x'"),
        (b"{'asin': 'i', 'categories': [[5]]}", "the last category is 5; it must be text"),
    ],
)
def test_bad_product(line: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        _amazon_lines.parse_meta(line)


def test_line_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_lines, "CHUNK", 1_000)
    monkeypatch.setattr(_lines, "LONGEST_LINE", 10_000)
    path = tmp_path / "x.json.gz"
    path.write_bytes(gzip.compress(b"{}\n" + b"x" * 50_000))
    with pytest.raises(PreparationError, match="line 2: longer than 10,000 bytes"):
        list(_lines._chunks(path))


def test_existing_folder(pair: tuple[Path, Path], tmp_path: Path) -> None:
    call = ["--category", "Electronics", "--out", tmp_path / "log", "--raw-dir", pair[0].parent]
    (tmp_path / "log").mkdir()
    assert "pass --overwrite" in prepare(*call).stderr
    (tmp_path / "log" / "mine.txt").touch()
    assert "is not an event log" in prepare(*call, "--overwrite").stderr
    assert names(tmp_path / "log") == ["mine.txt"]
    (tmp_path / "log" / "mine.txt").rename(tmp_path / "log" / "schema.yaml")
    assert prepare(*call, "--overwrite").exit_code == 0
    EventLog.read(tmp_path / "log")
    before = names(tmp_path / "log")
    line_of(pair[0], 1, "{")
    assert prepare(*call, "--overwrite").exit_code == 1
    assert names(tmp_path / "log") == before
    assert names(tmp_path) == ["log", "raw"]


def test_bad_category_and_two_sources(tmp_path: Path) -> None:
    assert "only letters" in prepare("--category", "../x", "--out", tmp_path / "log").stderr
    both = prepare("--category", "Toys", "--out", tmp_path / "log", "--raw-dir", tmp_path, "--from-table", tmp_path)
    assert both.exit_code == 1
    assert "pass one of them" in both.stderr


def test_parsing_processes_stay_small() -> None:
    """A parsing process imports the script again; the heavy libraries must not come with it."""
    code = "import sys, data_scripts.amazon; print([m for m in ('torch', 'pandas', 'ibis') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


# --- download ---------------------------------------------------------------------------------------------


@dataclass
class Server:
    """A file server on this machine that can break off, ignore ranges, or fail; it notes every request."""

    files: dict[str, bytes] = field(default_factory=dict)
    ranges: list[str | None] = field(default_factory=list)
    break_after: int | None = None  # bytes of one answer
    knows_ranges: bool = True
    status: int = 200
    address: str = ""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            state.ranges.append(asked)
            body = state.files.get(self.path.lstrip("/"))
            if body is None or state.status != 200:
                return self.send_error(404 if body is None else state.status)
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and state.knows_ranges else 0
            if start >= len(body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.send_header("Content-Length", "0")
                return self.end_headers()
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            self.wfile.write(body[start : None if state.break_after is None else start + state.break_after])

        def log_message(self, format: str, *args: Any) -> None:
            pass

    monkeypatch.setattr(_download, "PAUSE", 0.0)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        state.address = f"http://127.0.0.1:{httpd.server_address[1]}"
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield state
        httpd.shutdown()
        thread.join()


BODY = np.random.default_rng(0).bytes(1_000_003)


def test_download_goes_on_where_it_broke_off(server: Server, tmp_path: Path) -> None:
    server.files["f.gz"] = BODY
    server.break_after = 400_000
    _download.download(f"{server.address}/f.gz", tmp_path / "raw" / "f.gz")
    assert (tmp_path / "raw" / "f.gz").read_bytes() == BODY
    assert server.ranges == [None, "bytes=400000-", "bytes=800000-"]
    assert names(tmp_path / "raw") == ["f.gz"]


def test_download_goes_on_from_an_earlier_run(server: Server, tmp_path: Path) -> None:
    server.files["f.gz"] = BODY
    (tmp_path / "f.gz.part").write_bytes(BODY[:1234])
    _download.download(f"{server.address}/f.gz", tmp_path / "f.gz")
    assert (tmp_path / "f.gz").read_bytes() == BODY
    assert server.ranges == ["bytes=1234-"]


def test_download_from_a_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    server.files["f.gz"] = BODY
    server.knows_ranges = False
    (tmp_path / "f.gz.part").write_bytes(b"other")
    _download.download(f"{server.address}/f.gz", tmp_path / "f.gz")
    assert (tmp_path / "f.gz").read_bytes() == BODY


@pytest.mark.parametrize("extra", [b"", b"too long"], ids=["complete", "of another file"])
def test_download_with_nothing_missing(extra: bytes, server: Server, tmp_path: Path) -> None:
    server.files["f.gz"] = BODY
    (tmp_path / "f.gz.part").write_bytes(BODY + extra)
    _download.download(f"{server.address}/f.gz", tmp_path / "f.gz")
    assert (tmp_path / "f.gz").read_bytes() == BODY


def test_download_of_the_pair(
    server: Server, pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_amazon_join, "ADDRESS", server.address)
    server.files.update({path.name: path.read_bytes() for path in pair})
    result = prepare("--category", "Electronics", "--out", tmp_path / "log", "--raw-dir", tmp_path / "fetched")
    assert result.exit_code == 0, result.output
    assert_is(EventLog.read(tmp_path / "log"), *by_hand(REVIEWS, PRODUCTS))
    assert len(server.ranges) == 2
    prepare("--category", "Electronics", "--out", tmp_path / "again", "--raw-dir", tmp_path / "fetched")
    assert len(server.ranges) == 2  # what is there is not fetched again


def test_download_errors_tell_where_to_put_the_file(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_amazon_join, "ADDRESS", server.address)
    call = ["--category", "Toys", "--out", tmp_path / "log", "--raw-dir", tmp_path / "raw"]
    by_hand = f"put the file at {tmp_path / 'raw' / 'reviews_Toys_5.json.gz'}"
    missing = prepare(*call)
    assert missing.exit_code == 1
    assert "404" in missing.stderr
    assert "check the category" in missing.stderr
    assert by_hand in missing.stderr
    server.files["reviews_Toys_5.json.gz"] = BODY
    server.status = 503
    assert "503" in prepare(*call).stderr
    assert len(server.ranges) == 1 + _download.ATTEMPTS
    monkeypatch.setattr(_amazon_join, "ADDRESS", "http://127.0.0.1:1")
    offline = prepare(*call)
    assert offline.exit_code == 1
    assert "check the network" in offline.stderr
    assert by_hand in offline.stderr
    assert not (tmp_path / "log").exists()


# --- ready tables -----------------------------------------------------------------------------------------


def write_tables(folder: Path, events: pd.DataFrame, attributes: pd.DataFrame) -> None:
    folder.mkdir(exist_ok=True)
    events.to_parquet(folder / "events.parquet")
    attributes.to_parquet(folder / "item_attributes.parquet")


@pytest.fixture
def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    events = pd.DataFrame(
        {
            "user_id": [10, 10, 9, 9],
            "item_id": [3, 1, 2, 1],
            "timestamp": [86_400, 86_400, 200_000, 0],
            "category_id": [7, 8, 7, 8],
        }
    )
    attributes = pd.DataFrame({"item_id": [1, 2, 3], "attribute_ids": [[5, 8], [7], [6, 5, 7]]})
    return events, attributes


def test_ready_tables(tables: tuple[pd.DataFrame, pd.DataFrame], tmp_path: Path) -> None:
    write_tables(tmp_path / "ready", *tables)
    result = prepare("--category", "Toys", "--out", tmp_path / "log", "--from-table", tmp_path / "ready")
    assert result.exit_code == 0, result.output
    times = {"10": [("3", 86_400), ("1", 86_400)], "9": [("1", 0), ("2", 200_000)]}
    events = [(user, time, "review", item) for user in ("10", "9") for item, time in times[user]]
    assert_is(EventLog.read(tmp_path / "log"), events, {"1": "8", "2": "7", "3": "7"})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda e, a: (e.drop(columns="timestamp"), a),
            "events.parquet: no column 'timestamp'; it has 'user_id', 'i",
        ),
        (
            lambda e, a: (e.astype({"timestamp": "str"}).replace("0", "noon"), a),
            "events.parquet: a value is not of",
        ),
        (
            lambda e, a: (e.astype("Int64").replace({"user_id": {9: None}}), a),
            "events.parquet, row 2: user_id is mi",
        ),
        (lambda e, a: (e.replace({"category_id": {8: 9}}), a), "row 1: category_id '9' of item '1' is '8'"),
        (
            lambda e, a: (e, a.rename(columns={"item_id": "id"})),
            "item_attributes.parquet: no column 'item_id'",
        ),
        (lambda e, a: (e.head(0), a), "item.events"),
    ],
    ids=["no column", "text as time", "no user", "other category", "no item", "no row"],
)
def test_broken_tables(
    spoil: Callable[..., tuple[pd.DataFrame, pd.DataFrame]],
    message: str,
    tables: tuple[pd.DataFrame, pd.DataFrame],
    tmp_path: Path,
) -> None:
    write_tables(tmp_path / "ready", *spoil(*tables))
    result = prepare("--category", "Toys", "--out", tmp_path / "log", "--from-table", tmp_path / "ready")
    assert result.exit_code == 1
    assert message in result.stderr
    assert names(tmp_path) == ["ready"]


def test_missing_and_unreadable_tables(tables: tuple[pd.DataFrame, pd.DataFrame], tmp_path: Path) -> None:
    write_tables(tmp_path / "ready", *tables)
    call = ["--category", "Toys", "--out", tmp_path / "log", "--from-table", tmp_path / "ready"]
    (tmp_path / "ready" / "item_attributes.parquet").write_bytes(b"PAR1 but no more")
    assert "item_attributes.parquet: not a readable parquet file" in prepare(*call).stderr
    (tmp_path / "ready" / "item_attributes.parquet").unlink()
    assert "item_attributes.parquet: no such file" in prepare(*call).stderr


@pytest.mark.skipif("ATRANK_DATA_DIR" not in os.environ, reason="ATRANK_DATA_DIR is not set: no real data here")
def test_sports_and_outdoors(tmp_path: Path) -> None:
    folder = Path(os.environ["ATRANK_DATA_DIR"]) / "amazon_sports_5core"
    result = prepare("--category", "Sports_and_Outdoors", "--out", tmp_path / "log", "--from-table", folder)
    assert result.exit_code == 0, result.output
    log = EventLog.read(tmp_path / "log")
    source = pd.read_parquet(folder / "events.parquet")
    assert len(log.events["item"]) == 296_337
    assert log.events["item"]["user_id"].nunique() == 35_598
    assert len(log.objects["item"]) == 18_357
    expected = source.assign(user_id=source["user_id"].astype(str), item_id=source["item_id"].astype(str))
    expected = expected.sort_values(["user_id", "timestamp"], kind="stable")
    events = log.events["item"]
    assert events["user_id"].tolist() == expected["user_id"].tolist()
    assert events["object_id"].tolist() == expected["item_id"].tolist()
    assert events["timestamp"].tolist() == expected["timestamp"].tolist()
    leaves = {str(i): str(a[-1]) for i, a in pd.read_parquet(folder / "item_attributes.parquet").to_numpy()}
    assert dict(log.objects["item"].to_numpy()) == leaves
