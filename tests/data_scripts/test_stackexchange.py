"""The stackexchange script against plain Python, on small dumps, whole and broken, and on a real site's."""

from __future__ import annotations

import gzip
import html
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from atrank_lib.log import EventLog
from atrank_lib.runs import train_run
from atrank_lib.training import Recipe
from data_scripts import _lines, stackexchange
from data_scripts._stackexchange_files import site_of
from data_scripts._stackexchange_rows import parse_row

# Ibis 12 calls DuckDB 2 by an old name
pytestmark = pytest.mark.filterwarnings(r"ignore:fetch_arrow_table\(\) is deprecated:DeprecationWarning")
real_data = pytest.mark.skipif(
    "ATRANK_DATA_DIR" not in os.environ, reason="ATRANK_DATA_DIR is not set: no real data here"
)
app = typer.Typer()
app.command()(stackexchange.main)

Row = dict[str, str]
Dump = dict[str, list[Row]]
SITE = "beer.stackexchange.com"
DAY = "2014-01-21T20:26"


def convert(dump: Path, out: Path, *options: object, site: str | None = SITE, workers: int = 1) -> Result:
    told = [] if site is None else ["--site", site]
    arguments = ["--dump", dump, "--out", out, "--workers", workers, *told, *options]
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def text_of(table: str, rows: list[Row]) -> str:
    """A table in the form of the public dumps: a byte order mark, Windows' line ends, one element a line."""
    lines = (f"  <row {' '.join(f'{name}={quoteattr(value)}' for name, value in row.items())} />\r\n" for row in rows)
    root = table.lower()
    return f'\ufeff<?xml version="1.0" encoding="utf-8"?>\r\n<{root}>\r\n{"".join(lines)}</{root}>'


def write_dump(dump: Dump, folder: Path, zipped: bool = False) -> Path:
    folder.mkdir(exist_ok=True)
    for table, rows in dump.items():
        text = text_of(table, rows).encode()
        (folder / f"{table}.xml{'.gz' * zipped}").write_bytes(gzip.compress(text) if zipped else text)
    return folder


def number_rows(tables: dict[str, list[Row]]) -> Dump:
    """Ids from 1 where a row has none; a row without a user has the name that real dumps give it."""
    return {
        table: [
            {"Id": str(place)} | row | ({} if "UserId" in row else {"UserDisplayName": "Nobody's <name>"})
            for place, row in enumerate(rows, 1)
        ]
        for table, rows in tables.items()
    }


def post(number: int, kind: int, second: float, user: int | None, **others: str) -> Row:
    row = {"Id": str(number), "PostTypeId": str(kind), "CreationDate": f"{DAY}:{second:06.3f}"}
    return row | ({} if user is None else {"OwnerUserId": str(user)}) | others | {"Body": 'A "text"\n<p>&</p>'}


def about(number: int, second: float, user: int | None, **others: str) -> Row:
    row = {"PostId": str(number), "CreationDate": f"{DAY}:{second:06.3f}"}
    return row | ({} if user is None else {"UserId": str(user)}) | others


def edit(number: int, kind: int, second: float, user: int | None) -> Row:
    return about(number, second, user, PostHistoryTypeId=str(kind), RevisionGUID="a-b", Text="<malt>")


def badge(user: int, name: str, second: float, kind: int = 3, tag: bool = False) -> Row:
    moment = f"{DAY}:{second:06.3f}"
    return {"UserId": str(user), "Name": name, "Date": moment, "Class": str(kind), "TagBased": str(tag)}


@pytest.fixture
def dump() -> Dump:
    """A site with everything that a dump may lack: users, posts, questions, tags."""
    posts = [
        post(1, 1, 1, 7, Tags="<hops><yeast>"),
        post(2, 1, 2, None, Tags="|malt|hops|"),  # the account is deleted
        post(3, 1, 3.007, 8),  # no tags
        post(4, 2, 4, 8, ParentId="1"),
        post(5, 2, 4, 9, ParentId="2"),
        post(6, 2, 4, 8, ParentId="77"),  # the question is deleted
        post(7, 2, 5, -1, ParentId="1"),
        post(8, 5, 5, 7),  # a tag wiki
        post(9, 4, 5, -1),
        post(10, 1, 9, 7, Tags="<c#><.net>"),
        post(11, 2, 8.5, 7, ParentId="10"),  # older than its question, which it was merged into
    ]
    comments = [
        about(5, 6.002, 7),
        about(1, 6.001, 7),
        about(3, 6.002, 7),  # the same millisecond as the first
        about(6, 6, 7),  # the answer's question is deleted
        about(99, 6, 7),  # the post is deleted
        about(1, 6, None),
        about(8, 6, 7),
        about(11, 6, 0),
    ]
    history = [
        edit(1, 2, 1, 7),
        edit(1, 1, 1, 7),
        edit(1, 3, 1, 7),  # the question as it was asked
        edit(1, 5, 7, 8),
        edit(1, 4, 7, 8),
        edit(1, 24, 7, None),  # an act of user 8 that somebody approved
        edit(4, 5, 7, 8),  # at the same time another post of the same question
        edit(1, 6, 7, 9),
        edit(2, 5, 7.5, 9),
        edit(2, 6, 7.5, 9),
        edit(3, 8, 8, 9),
        edit(3, 10, 8.5, 9),
        edit(3, 11, 8.6, 9),
        edit(4, 12, 9, 7),
        edit(4, 13, 9.1, 7),
        edit(1, 5, 9, None),  # anonymous
        edit(1, 5, 9, -1),
        edit(8, 5, 9, 7),
        edit(77, 5, 9, 7),
        edit(6, 5, 9, 7),
        edit(10, 36, 9, -1),  # from another site
        edit(1, 25, 9, None),
        edit(1, 666, 9, 7),  # of a kind that nobody knows
    ]
    badges = [
        badge(7, "Teacher", 2),
        badge(7, "hops", 1, 1, tag=True),
        badge(7, "hops", 1, 2, tag=True),
        badge(-1, "Teacher", 1),
        badge(3, "Teacher", 1),
        badge(3, "hops", 1, 1),  # not the tag's
        badge(7, "Teacher", 2),  # again
    ]
    tags = [{"TagName": name, "Count": "1"} for name in ("hops", "yeast", "malt", "c#", "gone")]
    return number_rows({"Posts": posts, "Comments": comments, "PostHistory": history, "Badges": badges, "Tags": tags})


FIRST = [(7, 8, 9), (4,), (6,), (5,), (10,), (11,), (12,), (13,)]
CALLED = ["rollback", "edit_title", "edit_tags", "edit_body", "close", "reopen", "delete", "undelete"]


def milliseconds(text: str) -> int:
    moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return int(moment.timestamp()) * 1000 + moment.microsecond // 1000


def by_hand(dump: Dump) -> tuple[dict[str, list[tuple]], dict[str, dict[str, list[str]]]]:
    """Events of every group, and the tags of every question that occurs in it, in plain Python loops."""
    posts = {row["Id"]: row for row in dump["Posts"]}
    found: dict[str, list[tuple]] = {group: [] for group in ("ask", "answer", "comment", "edit", "badge")}

    def question(number: str) -> str | None:
        row = posts.get(number, {})
        number = {"1": row.get("Id", ""), "2": row.get("ParentId", "")}.get(row.get("PostTypeId", ""), "")
        return number if posts.get(number, {}).get("PostTypeId") == "1" else None

    def add(group: str, user: str | None, time: str, action: str, thing: str | None) -> None:
        if user is not None and int(user) > 0 and thing is not None:
            found[group].append((user, milliseconds(time), action, thing))

    for row in dump["Posts"]:
        group = {"1": "ask", "2": "answer"}.get(row["PostTypeId"])
        if group is not None:
            add(group, row.get("OwnerUserId"), row["CreationDate"], group, question(row["Id"]))
    for row in dump["Comments"]:
        add("comment", row.get("UserId"), row["CreationDate"], "comment", question(row["PostId"]))
    acts: dict[tuple, list[int]] = {}
    for row in dump["PostHistory"]:
        if any(int(row["PostHistoryTypeId"]) in kinds for kinds in FIRST):
            act = row["PostId"], row.get("UserId"), row["CreationDate"]
            acts.setdefault(act, []).append(int(row["PostHistoryTypeId"]))
    for (number, user, time), kinds in acts.items():
        action = next(called for called, these in zip(CALLED, FIRST, strict=True) if set(these) & set(kinds))
        add("edit", user, time, action, question(number))
    for row in dump["Badges"]:
        thing = f"{row['Name']}/{row['Class']}" + "/tag" * (row["TagBased"] == "True")
        add("badge", row.get("UserId"), row["Date"], "receive", thing)
    events = {group: sorted(rows, key=lambda row: (int(row[0]), row[1])) for group, rows in found.items()}
    tags = {
        group: {thing: re.findall(r"[^<>|]+", posts[thing].get("Tags", "")) for _, _, _, thing in rows}
        for group, rows in events.items()
        if group != "badge"
    }
    return events, tags


def contents(log: EventLog) -> tuple[dict[str, list[tuple]], dict[str, dict[str, list[str]]]]:
    events = {g: list(t.astype({"action": "str"}).itertuples(index=False, name=None)) for g, t in log.events.items()}
    tables = {group: table for group, table in log.objects.items() if group != "badge"}
    return events, {g: dict(zip(t["object_id"], map(list, t["tags"]), strict=True)) for g, t in tables.items()}


def counts(folder: Path) -> dict[str, int]:
    rows = re.findall(r"^\| (.+) \| ([0-9,]+) \|$", (folder / "JOINS.md").read_text(), re.MULTILINE)
    return {name: int(number.replace(",", "")) for name, number in rows}


def assert_adds_up(found: dict[str, int], dump: dict[str, int]) -> None:
    """Every row of the dump is a behavior, or counted among those that were left out."""
    groups = {"Posts": ("ask", "answer"), "Comments": ("comment",), "PostHistory": ("edit",), "Badges": ("badge",)}
    for table, kept in groups.items():
        left_out = sum(number for name, number in found.items() if name.startswith(f"rows of {table} left out"))
        assert dump[table] == found[f"rows of {table}"] == left_out + sum(found[f"{group} behaviors"] for group in kept)


@pytest.mark.parametrize("zipped", [False, True])
def test_small_dump(zipped: bool, dump: Dump, tmp_path: Path) -> None:
    result = convert(write_dump(dump, tmp_path / "dump", zipped), tmp_path / "log")
    assert result.exit_code == 0, result.output
    log = EventLog.read(tmp_path / "log")
    assert contents(log) == by_hand(dump)
    # checked by eye: milliseconds, ties in the order of the file, acts, and what is left out
    base = milliseconds(f"{DAY}:00")
    events, tags = contents(log)
    assert events["ask"] == [
        ("7", base + 1000, "ask", "1"),
        ("7", base + 9000, "ask", "10"),
        ("8", base + 3007, "ask", "3"),
    ]
    assert [row[3] for row in events["comment"]] == ["1", "2", "3"]
    assert [(row[0], row[2], row[3]) for row in events["edit"]] == [
        ("7", "delete", "1"),
        ("7", "undelete", "1"),
        ("8", "edit_title", "1"),
        ("8", "edit_body", "1"),
        ("9", "edit_tags", "1"),
        ("9", "edit_tags", "2"),
        ("9", "rollback", "3"),
        ("9", "close", "3"),
        ("9", "reopen", "3"),
    ]
    assert tags["ask"] == {"1": ["hops", "yeast"], "3": [], "10": ["c#", ".net"]}
    assert tags["answer"] == {"1": ["hops", "yeast"], "2": ["malt", "hops"], "10": ["c#", ".net"]}
    assert sorted(map(tuple, log.objects["badge"].to_numpy())) == [
        ("Teacher/3", "Teacher", "3", "false"),
        ("hops/1", "hops", "1", "false"),
        ("hops/1/tag", "hops", "1", "true"),
        ("hops/2/tag", "hops", "2", "true"),
    ]


def test_schema(dump: Dump, tmp_path: Path) -> None:
    convert(write_dump(dump, tmp_path / "dump"), tmp_path / "log")
    schema = EventLog.read(tmp_path / "log").schema
    assert schema.timestamp_unit == "ms"
    assert {schema.vocabulary(group, "tags") for group in ("ask", "answer", "comment", "edit")} == {"tag"}
    assert {schema.vocabulary(group, "object_id") for group in ("answer", "comment", "edit")} == {"question"}
    # a new question has an id that no behavior has taught, which would tell it from the others
    assert set(schema.groups["ask"].features) == {"tags"}
    assert schema.groups["edit"].actions == tuple(CALLED)


def test_everything_is_counted(dump: Dump, tmp_path: Path) -> None:
    result = convert(write_dump(dump, tmp_path / "dump"), tmp_path / "log")
    found = counts(tmp_path / "log")
    assert_adds_up(found, {table: len(rows) for table, rows in dump.items()})
    left_out = {name.removeprefix("rows of "): n for name, n in found.items() if "left out" in name}
    assert left_out == {
        "Posts left out: an automatic user (id below 1)": 1,
        "Posts left out: neither a question nor an answer (tag wikis and the like)": 2,
        "Posts left out: no user (deleted or anonymous)": 1,
        "Posts left out: the question is missing (deleted)": 1,
        "Comments left out: an automatic user (id below 1)": 1,
        "Comments left out: neither a question nor an answer (tag wikis and the like)": 1,
        "Comments left out: no user (deleted or anonymous)": 1,
        "Comments left out: the post is missing (deleted)": 1,
        "Comments left out: the question is missing (deleted)": 1,
        "PostHistory left out: a state of the post and no edit": 4,
        "PostHistory left out: an automatic user (id below 1)": 1,
        "PostHistory left out: neither a question nor an answer (tag wikis and the like)": 1,
        "PostHistory left out: no user (deleted or anonymous)": 1,
        "PostHistory left out: the initial text or tags of a post": 3,
        "PostHistory left out: the post is missing (deleted)": 1,
        "PostHistory left out: the question is missing (deleted)": 1,
        "PostHistory left out: part of an act that counts once": 2,
        "Badges left out: an automatic user (id below 1)": 1,
    }
    assert found["users"] == 4
    assert found["rows before their question"] == 1
    assert found["posts that came from another site"] == 1
    assert found["tags of questions"] == 5
    assert found["tags of questions that `Tags` does not list"] == 1
    assert found["tags of `Tags` that no question has"] == 1
    for name, number in found.items():
        assert f"{number:,} {name}" in result.stdout


def test_attribution_and_no_names(dump: Dump, tmp_path: Path) -> None:
    convert(write_dump(dump, tmp_path / "dump"), tmp_path / "log", site="https://beer.stackexchange.com/")
    page = (tmp_path / "log" / "ATTRIBUTION.md").read_text()
    assert "https://beer.stackexchange.com, © its contributors, licensed under CC BY-SA" in page
    assert "https://beer.stackexchange.com/q/OBJECT_ID" in page
    assert "https://beer.stackexchange.com/users/USER_ID" in page
    for path in (tmp_path / "log").iterdir():
        assert b"Nobody" not in path.read_bytes()
        assert b"<malt>" not in path.read_bytes()  # the text of an edit


@pytest.mark.parametrize(
    ("name", "host"),
    [("beer.stackexchange.com", SITE), ("MathOverflow.net.7z", "mathoverflow.net"), ("dump", None), ("v2.0", None)],
)
def test_site_of_the_name(name: str, host: str | None, tmp_path: Path) -> None:
    if host is not None:
        assert site_of(tmp_path / name, None) == host
    else:
        (tmp_path / name).mkdir()
        result = convert(tmp_path / name, tmp_path / "log", site=None)
        assert result.exit_code == 1
        assert "the name does not tell the site; pass --site" in result.stderr


# --- random dumps -----------------------------------------------------------------------------------------


def random_dump(seed: int, rows: int) -> Dump:
    """Few users, posts and seconds, so that everything meets: ties, acts of many rows, and whatever is missing."""
    rng = np.random.default_rng(seed)

    def whole(high: int, low: int = 0) -> int:
        return int(rng.integers(low, high))

    def user() -> int | None:
        return whole(30, -1) or None

    def tags() -> str:
        chosen = [f"tag-{whole(9)}" for _ in range(whole(4))]
        return "".join(f"<{tag}>" for tag in chosen) if whole(2) or not chosen else f"|{'|'.join(chosen)}|"

    def second() -> float:
        return round(float(rng.integers(0, 40)) / 1000 + whole(3), 3)

    posts = []
    for number in rng.permutation(rows)[: rows - 9].tolist():
        kind = whole(6, 1) if whole(4) == 0 else whole(3, 1)
        others = {1: {"Tags": tags()}, 2: {"ParentId": str(whole(rows))}}.get(kind, {})
        posts.append(post(number, kind, second(), user(), **others))
    comments = [about(whole(rows), second(), user(), Text="a < b & 'c'") for _ in range(rows)]
    history = [edit(whole(rows // 4), whole(15, 1), second(), whole(9) or None) for _ in range(3 * rows)]
    badges = [badge(whole(30, -1), f"B {whole(9)}", second(), whole(4, 1), whole(2) == 1) for _ in range(rows)]
    listed = [{"TagName": f"tag-{number}"} for number in range(9)]
    return number_rows({"Posts": posts, "Comments": comments, "PostHistory": history, "Badges": badges, "Tags": listed})


@pytest.fixture(scope="module")
def random_log(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dump, Path]:
    folder = tmp_path_factory.mktemp("random")
    dump = random_dump(0, 300)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_lines, "CHUNK", 5_000)  # many chunks, and rows across their ends
        result = convert(write_dump(dump, folder / "dump", zipped=True), folder / "log", workers=2)
    assert result.exit_code == 0, result.output
    return dump, folder / "log"


def test_random_dump(random_log: tuple[Dump, Path]) -> None:
    dump, folder = random_log
    events, tags = contents(EventLog.read(folder))
    assert (events, tags) == by_hand(dump)
    assert set(CALLED) == {row[2] for row in events["edit"]}
    assert_adds_up(counts(folder), {table: len(rows) for table, rows in dump.items()})


def test_a_model_trains_on_the_log(random_log: tuple[Dump, Path], tmp_path: Path) -> None:
    log = EventLog.read(random_log[1])
    sizes, recipe = {"embedding_size": 4, "hidden": 8, "spaces": 2}, Recipe(epochs=1, batch_size=32)
    result = train_run(log, tmp_path / "run", options=sizes, recipe=recipe, max_steps=3, progress=False)
    assert result.steps == 3
    assert np.isfinite(result.epochs[0]["loss"])


SAFE = st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff")
WORDS = st.text(SAFE, min_size=1).filter(str.strip)
TAG = st.text("abcxyzéß0189#+-.", min_size=1)


@given(
    name=WORDS,
    text=st.text(st.one_of(SAFE, st.sampled_from("\n\t\r<>&\"'"))),
    number=st.integers(-(10**17), 10**17),
    moment=st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1)),
)
def test_a_row_is_read_as_it_was_written(name: str, text: str, number: int, moment: datetime) -> None:
    written = moment.isoformat(timespec="milliseconds")
    row = {"Id": str(number), "Text": text, "Name": name, "Date": written, "Class": "2", "TagBased": "True"}
    line = text_of("Badges", [row]).split("\r\n")[2]
    assert parse_row("Badges", line.encode()) == (number, None, name, milliseconds(written), 2, True)


@given(tags=st.lists(TAG, min_size=1))
def test_both_notations_of_tags(tags: list[str]) -> None:
    for text in ("".join(f"<{tag}>" for tag in tags), f"|{'|'.join(tags)}|"):
        line = f'<row Id="1" PostTypeId="1" CreationDate="{DAY}:00" Tags={quoteattr(text)}/>'
        row = parse_row("Posts", line.encode())
        assert row is not None
        assert row[-1] == tags


# --- broken dumps -----------------------------------------------------------------------------------------


def line_of(table: str, number: int, change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    """Change one line of a table, counted from 1."""

    def spoil(folder: Path) -> None:
        path = folder / f"{table}.xml"
        lines = path.read_bytes().split(b"\r\n")
        lines[number - 1] = change(lines[number - 1])
        path.write_bytes(b"\r\n".join(lines))

    return spoil


def replaced(table: str, number: int, old: bytes, new: bytes) -> Callable[[Path], object]:
    def change(line: bytes) -> bytes:
        assert old in line
        return line.replace(old, new)

    return line_of(table, number, change)


def whole(table: str, change: Callable[[bytes], bytes], name: str | None = None) -> Callable[[Path], object]:
    """Change a whole file, which may get another name."""

    def spoil(folder: Path) -> None:
        path = folder / f"{table}.xml"
        content = change(path.read_bytes())
        path.unlink()
        (folder / (name or path.name)).write_bytes(content)

    return spoil


def without(table: str, attribute: str) -> Callable[[bytes], bytes]:
    return lambda content: re.sub(rf' {attribute}="[^"]*"'.encode(), b"", content)


LAUGHS = b'<!DOCTYPE posts [<!ENTITY lol "lol"><!ENTITY lots "&lol;&lol;&lol;">]>'
# what is done to the folder, and what the message says
BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no table": (lambda folder: (folder / "Badges.xml").unlink(), r"dump: no Badges.xml, Badges.xml.gz or Badges.7z"),
    "a table twice": (
        lambda folder: (folder / "posts.xml.gz").write_bytes(b""),
        r"Posts.xml and posts.xml.gz are both the table Posts; keep one",
    ),
    "not gzip": (whole("Posts", lambda text: text, "Posts.xml.gz"), r"Posts.xml.gz, near line 1: not a sound gzip"),
    "gzip cut off": (
        whole("Tags", lambda text: gzip.compress(text)[:-9], "Tags.xml.gz"),
        r"Tags.xml.gz, near line 1: the gzip file is truncated",
    ),
    "cut off in a row": (whole("Posts", lambda text: text[:700]), r"Posts.xml, line 6: not one whole XML element"),
    "cut off between rows": (
        whole("Comments", lambda text: text[: text.index(b'  <row Id="5"')]),
        r"Comments.xml: does not end with </comments>, so it is truncated",
    ),
    "empty file": (whole("Posts", lambda text: b""), r"Posts.xml: does not end with </posts>, so it is truncated"),
    "no row": (
        whole("Badges", lambda text: b"<badges>\n</badges>"),
        r"Badges.xml: empty, not a single record; fetch it again",
    ),
    "entities": (
        line_of("Posts", 2, lambda line: LAUGHS + b"\n" + line),
        r"Posts.xml, line 2: declarations, such as DOCTYPE and ENTITY, are refused",
    ),
    "entities before a row": (
        line_of("Posts", 4, lambda line: LAUGHS + line),
        r"Posts.xml, line 4: declarations, such as DOCTYPE and ENTITY, are refused",
    ),
    "entities in the row": (
        replaced("Posts", 4, b"<row ", b"<row " + LAUGHS),
        r"Posts.xml, line 4: not one whole XML element \(not well-formed",
    ),
    "an unknown entity": (
        replaced("Posts", 3, b"Body='A", b"Body='&lots;"),
        r"Posts.xml, line 3: not one whole XML element \(undefined entity",
    ),
    "another table": (
        lambda folder: (folder / "Comments.xml").write_bytes((folder / "Posts.xml").read_bytes()),
        r"Comments.xml, line 2: neither <row \.\.\./> nor <comments> around the rows; is this a Comments.xml",
    ),
    "a row over two lines": (
        replaced("PostHistory", 6, b" PostId", b"\n PostId"),
        r"PostHistory.xml, line 6: not one whole XML element .*, and whole\?",
    ),
    "two rows in a line": (
        line_of("Badges", 4, lambda line: line + line),
        r"Badges.xml, line 4: not one whole XML element \(junk",
    ),
    "something in a row": (
        line_of("Badges", 4, lambda line: line.replace(b"/>", b"><row/></row>")),
        r"Badges.xml, line 4: not one <row \.\.\./>",
    ),
    "an attribute twice": (
        replaced("Badges", 4, b"<row ", b'<row Id="1" '),
        r"Badges.xml, line 4: not one whole XML element \(duplicate attribute",
    ),
    "not UTF-8": (replaced("Badges", 3, b"Teacher", b"T\xeacher"), r"Badges.xml, line 3: not one whole XML element"),
    "another encoding": (
        whole("Posts", lambda text: text.decode().replace("utf-8", "utf-16").encode()),
        r"Posts.xml, line 1: the text must be UTF-8",
    ),
    "no attribute": (
        whole("PostHistory", without("PostHistory", "PostHistoryTypeId")),
        r"PostHistory.xml, line 3: no attribute PostHistoryTypeId, it has Id, PostId, CreationDate, UserId",
    ),
    "an old dump": (
        whole("Badges", without("Badges", "Class")),
        r"Badges.xml, line 3: no attribute Class.*2016 or later",
    ),
    "no number": (replaced("Posts", 3, b'UserId="7"', b'UserId="7.0"'), r"Posts.xml, line 3: OwnerUserId is '7.0'; it"),
    "a huge number": (
        replaced("Comments", 4, b'PostId="1"', b'PostId="10000000000000000000"'),
        r"Comments.xml, line 4: PostId is '10000000000000000000'; it must be a whole number",
    ),
    "no time": (
        replaced("Comments", 5, b"2014-01-21T20:26", b"yesterday"),
        r"Comments.xml, line 5: CreationDate is 'yesterday:06.002'; it must be a time such as 2014-01-21T20:26:05.383",
    ),
    "no day": (
        replaced("Badges", 3, b"2014-01-21", b"2014-02-30"),
        r"Badges.xml, line 3: Date is '2014-02-30T20:26:02.000'; day .*; correct or remove the row",
    ),
    "tags with spaces": (
        replaced("Posts", 3, b"&lt;hops&gt;&lt;yeast&gt;", b"hops yeast"),
        r"Posts.xml, line 3: Tags is 'hops yeast'; tags must be written as <a><b> or \|a\|b\|",
    ),
    "half a notation": (
        replaced("Posts", 4, b"|malt|hops|", b"|malt|hops"),
        r"Posts.xml, line 4: Tags is '\|malt\|hops'; tags must be written",
    ),
    "no flag": (
        replaced("Badges", 3, b"False", b"maybe"),
        r"Badges.xml, line 3: TagBased is 'maybe'; it must be True or",
    ),
    "a badge without a name": (
        replaced("Badges", 3, b"Teacher", b" "),
        r"Badges.xml, line 3: Name is ' '; it must not be",
    ),
    "an id twice": (
        replaced("Posts", 5, b'Id="3"', b'Id="2"'),
        r"Posts.xml: Id 2 is on 2 rows; keep one row for each Id",
    ),
    "nothing left of a group": (
        whole("Comments", without("Comments", "UserId")),
        r"dump: nothing is left of comment; is it the whole dump of a site",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_dumps_leave_nothing_behind(case: str, dump: Dump, tmp_path: Path) -> None:
    folder = write_dump(dump, tmp_path / "dump")
    spoil, message = BROKEN[case]
    spoil(folder)
    result = convert(folder, tmp_path / "log")
    assert result.exit_code == 1
    assert re.search(f"^error: .*{message}", result.stderr)
    assert result.stderr.count("\n") == 1
    assert names(tmp_path) == ["dump"]


def test_other_places(dump: Dump, tmp_path: Path) -> None:
    folder = write_dump(dump, tmp_path / "dump")
    assert "nowhere: neither a folder nor a .7z archive" in convert(tmp_path / "nowhere", tmp_path / "log").stderr
    wrong = convert(folder, tmp_path / "log", site="beer / stackexchange").stderr
    assert "--site 'beer / stackexchange': not the address of a site, such as beer.stackexchange.com" in wrong
    assert convert(folder, tmp_path / "log").exit_code == 0
    before = EventLog.read(tmp_path / "log").fingerprint()
    assert "pass --overwrite" in convert(folder, tmp_path / "log").stderr
    (folder / "Tags.xml").write_bytes(b"<tags>")
    assert convert(folder, tmp_path / "log", "--overwrite").exit_code == 1
    assert EventLog.read(tmp_path / "log").fingerprint() == before
    write_dump({**dump, "Comments": dump["Comments"][:2]}, folder)
    assert convert(folder, tmp_path / "log", "--overwrite").exit_code == 0
    assert len(EventLog.read(tmp_path / "log").events["comment"]) == 2
    assert names(tmp_path) == ["dump", "log"]


def test_parsing_processes_stay_small() -> None:
    """A parsing process imports the script again; the heavy libraries must not come with it."""
    code = "import sys, data_scripts.stackexchange, data_scripts._stackexchange_rows; "
    code += "print([m for m in ('torch', 'pandas', 'ibis') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


# --- archives ---------------------------------------------------------------------------------------------


def pack(folder: Path, archive: Path, tables: list[str], **others: bytes) -> Path:
    """Tables of a folder, and other members, as a .7z archive."""
    py7zr = pytest.importorskip("py7zr")
    with py7zr.SevenZipFile(archive, "w") as packed:
        for table in tables:
            packed.write(folder / f"{table}.xml", f"{table}.xml")
        for name, content in others.items():
            packed.writestr(content, name)
    return archive


TABLES = ["Posts", "Comments", "PostHistory", "Badges", "Tags"]


def test_archive_of_a_site(dump: Dump, tmp_path: Path) -> None:
    folder = write_dump(dump, tmp_path / "dump")
    archive = pack(
        folder, tmp_path / "beer.stackexchange.com.7z", TABLES, **{"Votes.xml": b"<votes>", "a/Posts.xml": b""}
    )
    result = convert(archive, tmp_path / "log", site=None)
    assert result.exit_code == 0, result.output
    log = EventLog.read(tmp_path / "log")
    assert contents(log) == by_hand(dump)
    assert log.schema.name == SITE


def test_an_archive_for_every_table(dump: Dump, tmp_path: Path) -> None:
    folder = write_dump(dump, tmp_path / "dump")
    together = tmp_path / "stackoverflow.com"
    together.mkdir()
    for table in TABLES:
        pack(folder, together / f"stackoverflow.com-{table}.7z", [table])
    result = convert(together, tmp_path / "log", site=None)
    assert result.exit_code == 0, result.output
    assert contents(EventLog.read(tmp_path / "log")) == by_hand(dump)


def test_members_stay_inside(dump: Dump, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A member whose name leads out of the folder is not unpacked, and a link in a table's place not followed."""
    py7zr = pytest.importorskip("py7zr")
    folder = write_dump(dump, tmp_path / "dump")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("py7zr.py7zr.check_archive_path", lambda name: True)  # let it write such a name
    names_out = {"../evil.txt": b"evil", "../Posts.xml": b"evil", str(tmp_path / "evil.txt"): b"evil"}
    archive = pack(folder, tmp_path / "out.7z", TABLES, **names_out)
    with py7zr.SevenZipFile(archive) as packed:
        assert set(names_out) <= set(packed.getnames())
    assert convert(archive, tmp_path / "log").exit_code == 0
    assert {path.name for path in tmp_path.rglob("*") if path.is_file() and path.read_bytes() == b"evil"} == set()

    (tmp_path / "Tags.xml").symlink_to(folder / "Tags.xml")
    with py7zr.SevenZipFile(tmp_path / "link.7z", "w") as packed:
        for table in TABLES:
            packed.write((tmp_path if table == "Tags" else folder) / f"{table}.xml", f"{table}.xml")
    result = convert(tmp_path / "link.7z", tmp_path / "log2")
    assert result.exit_code == 1
    assert "link.7z: no Tags.xml in it" in result.stderr


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p, f: p.write_bytes(p.read_bytes()[:-40]), "x.7z: not a sound .7z archive .*; fetch it again"),
        (lambda p, f: p.write_bytes(b"PK" + p.read_bytes()), "x.7z: not a sound .7z archive"),
        (
            lambda p, f: p.write_bytes(p.read_bytes()[:99] + b"\xff" * 99 + p.read_bytes()[198:]),
            "x.7z: not a sound .7z",
        ),
        (
            lambda p, f: pack(f, p, ["Posts", "Tags"]),
            "x.7z: no Comments.xml, PostHistory.xml, Badges.xml in it, but Posts.xml, Tags.xml",
        ),
    ],
    ids=["cut off", "no archive", "damaged", "not all tables"],
)
def test_broken_archives(spoil: Callable[[Path, Path], object], message: str, dump: Dump, tmp_path: Path) -> None:
    folder = write_dump(dump, tmp_path / "dump")
    spoil(pack(folder, tmp_path / "x.7z", TABLES), folder)
    result = convert(tmp_path / "x.7z", tmp_path / "log")
    assert result.exit_code == 1
    assert re.search(f"^error: .*{message}", result.stderr)
    assert result.stderr.count("\n") == 1
    assert names(tmp_path) == ["dump", "x.7z"]


def test_without_py7zr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.7z").touch()
    monkeypatch.setitem(sys.modules, "py7zr", None)
    result = convert(tmp_path / "x.7z", tmp_path / "log")
    assert result.exit_code == 1
    assert "x.7z: .7z archives need py7zr" in result.stderr
    assert 'pip install "atrank_lib[sevenzip]", or unpack it yourself' in result.stderr


# --- a real site ------------------------------------------------------------------------------------------


@real_data
def test_real_site(tmp_path: Path) -> None:
    folder = Path(os.environ["ATRANK_DATA_DIR"]) / "stackexchange_beer"
    result = convert(folder, tmp_path / "log")
    assert result.exit_code == 0, result.output
    log = EventLog.read(tmp_path / "log")
    dump = {}
    for table in TABLES:
        text = gzip.decompress((folder / f"{table}.xml.gz").read_bytes()).decode()
        rows = re.findall(r"<row (.*) />", text)  # no ElementTree: another reader than the script's
        dump[table] = [dict(re.findall(r'(\w+)="([^"]*)"', row)) for row in rows]
        for row in dump[table]:
            row |= {name: html.unescape(value) for name, value in row.items()}
    assert contents(log) == by_hand(dump)
    found = counts(tmp_path / "log")
    assert_adds_up(found, {"Posts": 3_471, "Comments": 3_509, "PostHistory": 9_071, "Badges": 9_367})
    assert found["users"] == log.summary()["users"]["all groups"] == 4_223
    assert found["tags of questions"] == 153
    kept = {group: found[f"{group} behaviors"] for group in log.schema.groups}
    assert kept == {"ask": 1_022, "answer": 2_259, "comment": 3_459, "edit": 1_729, "badge": 9_367}
    kinds = Counter(row["PostTypeId"] for row in dump["Posts"])
    assert found["rows of Posts left out: neither a question nor an answer (tag wikis and the like)"] == 165
    assert kinds["1"] + kinds["2"] == 3_471 - 165
