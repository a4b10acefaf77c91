"""The tables of a Stack Exchange dump joined: what is a behavior, and why the rest is none. See ``stackexchange``."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import duckdb
import ibis
import ibis.expr.types as ir
import pyarrow as pa
from ibis import _

from atrank_lib.log import Feature, Group, Schema, TimeScale
from atrank_lib.log.events import EVENT_COLUMNS
from atrank_lib.log.schema import SCHEMA_FILE
from data_scripts._engine import connect
from data_scripts._errors import PreparationError
from data_scripts._lines import parse_lines, parsing_pool
from data_scripts._stackexchange_files import site_of, tables_of
from data_scripts._stackexchange_rows import COLUMNS, parse_row
from data_scripts._tables import joins_page, number, published, refuse_existing, report, require_unique, to_frame

Tables = Mapping[str, ir.Table]
ARROW = {"int": pa.int64(), "time": pa.int64(), "tags": pa.list_(pa.string()), "text": pa.string(), "flag": pa.bool_()}
QUESTION, ANSWER = 1, 2  # PostTypeId
INITIAL, MOVED_HERE = (1, 2, 3), 36  # PostHistoryTypeId
# the actions of the group edit, each with its PostHistoryTypeIds; an act of several kinds is the first of them
ACTIONS = {
    "rollback": (7, 8, 9),
    "edit_title": (4,),
    "edit_tags": (6,),
    "edit_body": (5,),
    "close": (10,),
    "reopen": (11,),
    "delete": (12,),
    "undelete": (13,),
}
# why a row is left out: the first reason that holds
PARTS = [
    (_.PostHistoryTypeId.isin(INITIAL), "the initial text or tags of a post"),
    (~_.PostHistoryTypeId.isin(sum(ACTIONS.values(), ())), "a state of the post and no edit"),
]
PLACES = [
    (_.kind.isnull(), "the post is missing (deleted)"),
    (~_.kind.isin((QUESTION, ANSWER)), "neither a question nor an answer (tag wikis and the like)"),
    (_.question.isnull(), "the question is missing (deleted)"),
]
PEOPLE = [
    (_.user.isnull(), "no user (deleted or anonymous)"),
    (_.user < 1, "an automatic user (id below 1)"),
]
SAME_ACT = "part of an act that counts once"
BADGE = _.Name.concat("/", _.Class.cast("string"), ibis.ifelse(_.TagBased, "/tag", ""))
STEPS = [
    "`ask`, `answer`: one row of `Posts` is one behavior; `comment`: one row of `Comments`, on the question or on an "
    "answer; `badge`: one row of `Badges`. What is done to an answer counts for the question where it stands now.",
    "`edit`: the rows of `PostHistory` of one user, post and time are one act, and one behavior, named by the first of "
    + ", ".join(f"{action} ({', '.join(map(str, kinds))})" for action, kinds in ACTIONS.items())
    + " that is among them (PostHistoryTypeId). Of deletions, only those that were undone are in a dump.",
    "A question has the tags of the day of the dump, also where it had others before.",
    "Posts that came from another site keep their times there; merged posts may be older than their question.",
    "A user's behaviors are in time order, to the millisecond; equal times keep the order of the file.",
    "The objects of a group are the questions, or badges, that its behaviors are about.",
    "Rows that are no behavior, of no known person, or about a post that is missing, are left out, and counted here.",
]


def schema_of(site: str) -> Schema:
    """Threads go on within minutes, questions are asked days apart, and badges are mostly given once a day."""
    tags = {"tags": Feature(kind="tokens", vocabulary="tag")}
    question = {"object_id": Feature(kind="categorical", vocabulary="question"), **tags}
    badge = {name: Feature(kind="categorical") for name in ("name", "class", "tag_based")}
    minutes = TimeScale(unit="minute", buckets=24)  # the last bucket begins after 8 years
    groups = {
        "ask": Group(actions=("ask",), features=tags, time=TimeScale(unit="hour", buckets=18)),
        "answer": Group(actions=("answer",), features=question, time=minutes),
        "comment": Group(actions=("comment",), features=question, time=minutes),
        "edit": Group(actions=tuple(ACTIONS), features=question, time=minutes),
        "badge": Group(actions=("receive",), features=badge, time=TimeScale(unit="day", buckets=14)),
    }
    return Schema(name=site, timestamp_unit="ms", groups=groups)


def attribution(site: str) -> str:
    """The text of ``ATTRIBUTION.md``."""
    return f"""# Attribution

Derived from the public data dump of https://{site}, © its contributors, licensed under CC BY-SA 2.5, 3.0 or 4.0, by the
date of each contribution (https://stackoverflow.com/help/licensing). Whoever shares this log, or what is derived from
it, says so, links to the site and to the license, and shares it under that license.

- An object of `ask`, `answer`, `comment` or `edit` is the question https://{site}/q/OBJECT_ID, a user the contributor
  https://{site}/users/USER_ID.
- Changes: only ids, times, tags and names of badges are kept, no text and no name of a person; see `JOINS.md`.
"""


def read(con: ibis.BaseBackend, files: Mapping[str, Path], scratch: Path, workers: int) -> dict[str, ir.Table]:
    """Parse every table to a parquet file, where the engine reads it; ``row`` counts the rows from 0."""
    tables = {}
    with parsing_pool(workers) as pool:
        for name, path in files.items():
            fields = [(column, ARROW[kind.removeprefix("!")]) for column, kind in COLUMNS[name].items()]
            target, end = scratch / f"{name}.parquet", f"</{name.lower()}>".encode()
            parse_lines(path, partial(parse_row, name), pa.schema(fields), target, pool, 2 * workers, end)
            tables[name] = con.read_parquet(str(target), file_row_number=True).rename(row="file_row_number")
            require_unique(tables[name], "Id", path)
    return tables


def classify(con: ibis.BaseBackend, tables: Tables) -> dict[str, ir.Table]:
    """The rows of Posts, Comments, PostHistory and Badges, with the ``reason`` to leave them out, null for none."""
    posts = tables["Posts"]
    questions = posts.filter(_.PostTypeId == QUESTION).select(question="Id", asked="CreationDate")
    about = ibis.cases((_.PostTypeId == QUESTION, _.Id), (_.PostTypeId == ANSWER, _.ParentId))
    places = posts.select(post="Id", kind="PostTypeId", about=about)
    places = places.left_join(questions, places.about == questions.question).drop("about")
    places = con.create_table("places", places, temp=True)

    def rows(name: str, user: str, time: str, post: str | None, *reasons: tuple) -> ir.Table:
        table = tables[name].mutate(user=_[user], timestamp=_[time])
        if post is not None:
            table = table.left_join(places, table[post] == places.post)
        return con.create_table(f"rows_{name}", table.mutate(reason=ibis.cases(*reasons, *PEOPLE)), temp=True)

    return {
        "Posts": rows("Posts", "OwnerUserId", "CreationDate", "Id", *PLACES),
        "Comments": rows("Comments", "UserId", "CreationDate", "PostId", *PLACES),
        "PostHistory": rows("PostHistory", "UserId", "CreationDate", "PostId", *PARTS, *PLACES),
        "Badges": rows("Badges", "UserId", "Date", None),
    }


def behaviors(con: ibis.BaseBackend, rows: Tables) -> dict[str, ir.Table]:
    """The behaviors of every group, with the ``row`` that breaks ties."""
    kept = {name: table.filter(_.reason.isnull()) for name, table in rows.items()}
    place_of = ibis.cases(*[(_.PostHistoryTypeId.isin(kinds), place) for place, kinds in enumerate(ACTIONS.values())])
    action_of = ibis.cases(*[(_.place == place, action) for place, action in enumerate(ACTIONS)])
    acts = kept["PostHistory"].mutate(place=place_of).group_by("user", "timestamp", "post", "question")
    acts = con.create_table("acts", acts.aggregate(place=_.place.min(), row=_.row.min()), temp=True)
    found = {
        "ask": (kept["Posts"].filter(_.kind == QUESTION), ibis.literal("ask"), _.question),
        "answer": (kept["Posts"].filter(_.kind == ANSWER), ibis.literal("answer"), _.question),
        "comment": (kept["Comments"], ibis.literal("comment"), _.question),
        "edit": (acts, action_of, _.question),
        "badge": (kept["Badges"], ibis.literal("receive"), BADGE),
    }
    return {
        group: table.select("user", "timestamp", "row", action=action, object_id=about.cast("string"))
        for group, (table, action, about) in found.items()
    }


def objects_of(group: str, events: ir.Table, tables: Tables) -> ir.Table:
    """Every object of a group's behaviors once, with its features."""
    if group == "badge":
        known = tables["Badges"].select("Name", "Class", "TagBased", object_id=BADGE).distinct()
        features = {"name": _.Name, "class": _.Class.cast("string"), "tag_based": _.TagBased.cast("string")}
    else:
        known = tables["Posts"].select("Tags", object_id=_.Id.cast("string"))
        features = {"tags": _.Tags}
    return known.semi_join(events, "object_id").order_by("object_id").select("object_id", **features)


def count(tables: Tables, rows: Tables, events: Tables) -> dict[str, int]:
    """What became of every row, and what else is odd in the tables."""
    counts = {f"{group} behaviors": number(table.count()) for group, table in events.items()}
    counts["users"] = number(ibis.union(*[table.select("user") for table in events.values()]).user.nunique())
    early = 0
    for name, table in rows.items():
        counts[f"rows of {name}"] = number(table.count())
        reasons = to_frame(table.group_by("reason").aggregate(n=_.count()).order_by("reason"))
        left_out = reasons.dropna()
        counts |= {f"rows of {name} left out: {reason}": int(n) for reason, n in left_out.itertuples(index=False)}
        if name == "PostHistory":
            kept = counts[f"rows of {name}"] - int(left_out["n"].sum())
            counts[f"rows of {name} left out: {SAME_ACT}"] = kept - counts["edit behaviors"]
        if name != "Badges":
            early += number(table.filter(_.reason.isnull() & (_.timestamp < _.asked)).count())
    questions = tables["Posts"].filter(_.PostTypeId == QUESTION)
    used, listed = questions.select(tag=_.Tags.unnest()).distinct(), tables["Tags"].select(tag="TagName").distinct()
    moved = tables["PostHistory"].filter(_.PostHistoryTypeId == MOVED_HERE)
    return counts | {
        "rows before their question": early,
        "posts that came from another site": number(moved.PostId.nunique()),
        "tags of questions": number(used.count()),
        "tags of questions that `Tags` does not list": number(used.anti_join(listed, "tag").count()),
        "tags of `Tags` that no question has": number(listed.anti_join(used, "tag").count()),
    }


def write(con: ibis.BaseBackend, tables: Tables, folder: Path) -> dict[str, int]:
    """Join the tables, write the log's into ``folder``, and return the counts."""
    rows = classify(con, tables)
    events = behaviors(con, rows)
    counts = count(tables, rows, events)
    for group, table in events.items():
        ordered = table.order_by("user", "timestamp", "row")
        ordered = ordered.mutate(user_id=_.user.cast("string")).select(*EVENT_COLUMNS)
        con.to_parquet(ordered, folder / f"{group}.events.parquet")
        con.to_parquet(objects_of(group, table, tables), folder / f"{group}.objects.parquet")
    return counts


def prepare(dump: Path, out: Path, site: str | None, overwrite: bool, workers: int) -> None:
    """Read the dump, join, write the log, and print what was joined and left out."""
    refuse_existing(out, overwrite)
    host = site_of(dump, site)
    schema = schema_of(host)
    with tempfile.TemporaryDirectory(prefix="atrank_stackexchange_") as scratch, connect() as con:
        tables = read(con, tables_of(dump, Path(scratch)), Path(scratch), workers)
        with published(out, overwrite) as fresh:
            try:
                counts = write(con, tables, fresh)
            except duckdb.Error as error:
                raise PreparationError(f"{dump}: cannot be joined ({error}); is there space in $TMPDIR?") from error
            empty = [group for group in schema.groups if not counts[f"{group} behaviors"]]
            if empty:
                raise PreparationError(
                    f"{dump}: nothing is left of {', '.join(empty)}; is it the whole dump of a site?"
                )
            steps = [f"Source: the public data dump of https://{host}; see `ATTRIBUTION.md`.", *STEPS]
            (fresh / SCHEMA_FILE).write_text(schema.text(), encoding="utf-8")
            (fresh / "ATTRIBUTION.md").write_text(attribution(host), encoding="utf-8")
            (fresh / "JOINS.md").write_text(joins_page(host, steps, counts, []), encoding="utf-8")
    report(out, steps, counts, [])
