"""The log of the RecSys Challenge 2019 (trivago) as an event log: hotels, searches, filters, and what was shown.

``--raw`` is the challenge's ``train.csv``, the same table as Parquet, or the folder that holds one of them; where
``item_metadata.csv`` lies beside it, hotels get their properties. The data is for research and must be asked for::

    python -m data_scripts.trivago --raw trivago --out logs/trivago

Groups: ``item`` (hotels: six actions, of which a clickout has impressions), ``search`` (destination, poi) and
``filter`` (select, sort), both with their words. Sessions of one user are one history. A hotel's city is the one in
which it was acted on or shown most often. Context of an impression: its place in the list, its price, how many were
cheaper, what the user last did with this hotel (``last_action``), and how many behaviors of the group ago (``ago``, a
power of two). Nothing is held in memory as a whole: DuckDB reads the table three times, and sorts on disk.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import duckdb
import ibis
import ibis.expr.types as ir
import typer

from atrank_lib.log import Schema
from atrank_lib.log.schema import SCHEMA_FILE
from data_scripts._engine import connect, failures
from data_scripts._errors import PreparationError
from data_scripts._tables import (
    joins_page,
    number,
    or_exit,
    published,
    refuse_existing,
    report,
    require_unique,
    to_frame,
)

COLUMNS = ("user_id", "timestamp", "action_type", "reference", "city", "impressions", "prices")
CLICKOUT = "clickout item"
ACTIONS = {  # group, action
    CLICKOUT: ("item", "clickout"),
    "interaction item rating": ("item", "rating"),
    "interaction item info": ("item", "info"),
    "interaction item image": ("item", "image"),
    "interaction item deals": ("item", "deals"),
    "search for item": ("item", "search_item"),
    "search for destination": ("search", "destination"),
    "search for poi": ("search", "poi"),
    "filter selection": ("filter", "select"),
    "change of sort order": ("filter", "sort"),
}
TIME = {"unit": "minute", "buckets": 16}  # the last one: eleven days, longer than the log
CONTEXT = {
    "place": {"kind": "categorical"},
    "price": {"kind": "continuous"},
    "cheaper": {"kind": "categorical"},
    "last_action": {"kind": "categorical"},
    "ago": {"kind": "categorical"},
}
FEATURES = {
    "item": {"object_id": {"kind": "categorical"}, "city": {"kind": "categorical"}},
    "search": {"object_id": {"kind": "categorical"}, "words": {"kind": "tokens"}},
    "filter": {"object_id": {"kind": "categorical"}, "words": {"kind": "tokens"}},
}


def schema_of(properties: bool) -> Schema:
    """The schema of the log; ``properties``: of hotels they are known."""
    groups = {}
    for name, features in FEATURES.items():
        actions = [action for group, action in ACTIONS.values() if group == name]
        groups[name] = {"actions": actions, "features": dict(features), "time": TIME}
    groups["item"]["context"] = CONTEXT
    if properties:
        groups["item"]["features"]["properties"] = {"kind": "tokens"}  # type: ignore[index]
    return Schema.model_validate({"name": "trivago", "timestamp_unit": "s", "groups": groups})


def find_table(raw: Path) -> Path:
    """The table of behaviors that ``--raw`` names.

    Raises:
        PreparationError: there is none, or there are several.
    """
    if raw.is_file():
        return raw
    found = [path for path in (raw / "train.csv", *sorted(raw.glob("*.parquet"))) if path.is_file()]
    if len(found) != 1:
        held = ", ".join(path.name for path in found) or "neither train.csv nor a .parquet"
        raise PreparationError(f"{raw}: {held}; name the one table of behaviors as --raw")
    return found[0]


def read(con: ibis.BaseBackend, path: Path, wanted: tuple[str, ...]) -> ir.Table:
    """The wanted columns of a table as text, and ``row``, counted from 0 without the header."""
    try:
        if path.suffix.lower() == ".parquet":
            table = con.read_parquet(str(path), file_row_number=True).rename(row="file_row_number")
        else:
            table = con.read_csv(str(path), all_varchar=True, header=True, delim=",", quote='"', null_padding=False)
            table = table.mutate(row=ibis.row_number())
    except failures(con) as error:
        raise PreparationError(f"{path}: cannot be read; fetch it again ({_said(error)})") from error
    if missing := [name for name in wanted if name not in table.columns]:
        has = ", ".join(name for name in table.columns if name != "row")
        raise PreparationError(f"{path}: no column {', '.join(missing)}; it has {has}")
    return table.select("row", *(table[name].cast("string").nullif("").name(name) for name in wanted))


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def check(table: ir.Table, path: Path) -> None:
    """Refuse a table with a value that is none of its column's.

    Raises:
        PreparationError: of the first such row, what is wrong with it.
    """
    shown, prices = table.impressions.split("|"), table.prices.split("|")
    no_number = prices.filter(lambda price: price.try_cast("float64").isnull()).length() > 0
    wrong = [
        *((column, table[column].isnull(), "") for column in ("user_id", "timestamp", "action_type")),
        ("timestamp", table.timestamp.try_cast("int64").isnull(), "is not a whole number of seconds; correct it"),
        ("action_type", ~table.action_type.isin(list(ACTIONS)), f"is none of {', '.join(ACTIONS)}"),
        ("prices", table.impressions.notnull() & table.prices.isnull(), ""),
        ("prices", shown.length() != prices.length(), "are not as many as impressions; give one for each, joined by |"),
        ("prices", no_number, "hold what is no number; correct it"),
    ]
    for column, is_wrong, message in wrong:
        first = to_frame(table.filter(is_wrong).select("row", column).order_by("row").limit(1))
        if len(first):
            said = f"{first[column][0]!r} {message}" if message else "is missing; complete or remove that row"
            raise PreparationError(f"{path}, row {first['row'][0]}: {column} {said}")


def behaviors(table: ir.Table) -> ir.Table:
    """Every row that is about something, with its group and action: row, user_id, timestamp, group, action, object_id,
    city; in ``item`` an object is a number."""
    group, action = (
        table.action_type.cases(*((raw, said[place]) for raw, said in ACTIONS.items())) for place in (0, 1)
    )
    about = table.mutate(group=group, action=action, object_id=table.reference.strip())
    about = about.mutate(timestamp=about.timestamp.cast("int64"))
    known = (about.object_id != "") & ((about.group != "item") | about.object_id.re_search("^[0-9]+$"))
    return about.filter(known).select("row", "user_id", "timestamp", "group", "action", "object_id", "city")


def lists(table: ir.Table, events: ir.Table) -> ir.Table:
    """What clickouts were shown, where the chosen hotel is among it: event, object_id, the context, order, city.

    Of a hotel that is shown twice in a list the first place counts. What the user did before is what stands in
    ``events``, whose numbers follow users and time, before the clickout.
    """
    shown = table.filter(table.action_type == CLICKOUT, table.impressions.notnull())
    shown = shown.select("row", "city", hotels=shown.impressions.split("|"), prices=shown.prices.split("|"))
    nth = ibis.row_number().over(ibis.window(group_by=events.user_id, order_by=events.event))
    events = events.mutate(nth=nth)
    chosen = events.filter(events.action == "clickout").select("row", "event", "object_id", "user_id", "nth")
    shown = shown.join(chosen, "row")
    shown = shown.filter(shown.hotels.contains(shown.object_id))
    shown = shown.mutate(prices=shown.prices.map(lambda price: price.try_cast("float64")))
    one = shown.mutate(place=ibis.range(shown.hotels.length().cast("int64")).unnest())
    one = one.mutate(object_id=one.hotels[one.place], price=one.prices[one.place])
    one = one.filter(one.hotels.index(one.object_id) == one.place)
    cheaper = one.prices.filter(lambda price: price < one.price).length()
    one = one.select("event", "user_id", "nth", "object_id", "place", "price", "city", cheaper=cheaper.cast("string"))
    before = events.select("user_id", "object_id", since="event", last_action="action", at="nth")
    one = one.asof_join(before, one.event > before.since, ["user_id", "object_id"])
    return one.select(
        "event",
        "object_id",
        place=(one.place + 1).cast("string"),
        price=one.price,
        cheaper=one.cheaper,
        last_action=one.last_action,
        ago=(one.nth - one.at).log2().ceil().cast("int64").cast("string"),
        order=one.place,
        city=one.city,
    )


def hotels(seen: ir.Table, metadata: ir.Table | None) -> ir.Table:
    """One row a hotel: the city it was seen in most often, and its properties where there is metadata."""
    counts = seen.group_by("object_id", "city").aggregate(n=seen.n.sum())
    first = ibis.row_number().over(
        ibis.window(group_by=counts.object_id, order_by=[counts.city.isnull(), counts.n.desc(), counts.city])
    )
    table = counts.mutate(turn=first).filter(lambda t: t.turn == 0).select("object_id", "city")
    if metadata is not None:
        properties = metadata.properties.split("|")
        table = table.left_join(metadata.select(object_id=metadata.item_id, properties=properties), "object_id")
        table = table.select("object_id", "city", "properties")
    return table.order_by("object_id")


def words(text: ir.StringValue) -> ir.ArrayValue:
    """The words of a text in small letters, in any script."""
    return text.lower().re_split(r"[\s,;:.!?&'\"()/-]+").filter(lambda word: word != "")


def prepare(raw: Path, out: Path, overwrite: bool = False) -> None:
    """Convert the table, and say what came out.

    Raises:
        PreparationError: a table cannot be read, or a value of it cannot be used.
    """
    refuse_existing(out, overwrite)
    path = find_table(raw)
    beside = path.with_name("item_metadata.csv")
    steps = [
        "rows: an item action is about a hotel, whose reference is a number; a search or filter is about its text",
        "a clickout's impressions are kept where the chosen hotel is among them, each hotel at its first place",
        "within a user rows are in the order of time, equal times in the order of the table",
        "a hotel's city: that in which it was acted on or shown most often",
        f"a hotel's properties: {beside.name}" if beside.is_file() else "no hotel metadata, so no properties",
    ]
    with connect() as con, published(out, overwrite) as fresh:
        try:
            counts = _write(con, path, beside if beside.is_file() else None, fresh)
        except duckdb.Error as error:
            raise PreparationError(f"{path}: cannot be read as this table ({_said(error)})") from error
        (fresh / "JOINS.md").write_text(joins_page("trivago", steps, counts, []), encoding="utf-8")
    report(out, steps, counts, [])


def _write(con: ibis.BaseBackend, path: Path, beside: Path | None, folder: Path) -> dict[str, int]:
    table = read(con, path, COLUMNS)
    check(table, path)
    rows = number(table.count())
    if not rows:
        raise PreparationError(f"{path}: not a single row; fetch it again")
    metadata = None
    if beside is not None:
        metadata = con.create_table("metadata", read(con, beside, ("item_id", "properties")), temp=True)
        require_unique(metadata, "item_id", beside)
    events = con.create_table("events", behaviors(table), temp=True)
    order = ibis.window(group_by=events.group, order_by=[events.user_id, events.timestamp, events.row])
    events = con.create_table("numbered", events.mutate(event=ibis.row_number().over(order)), temp=True)
    counts = {"rows": rows}
    for name in FEATURES:
        own = events.filter(events.group == name).order_by("event")
        con.to_parquet(own.select("user_id", "timestamp", "action", "object_id"), folder / f"{name}.events.parquet")
        counts[f"behaviors of {name}"] = number(own.count())
        if not counts[f"behaviors of {name}"]:
            raise PreparationError(f"{path}: no row of the group {name}; give the whole table")
    counts["rows about nothing that can be named, left out"] = rows - sum(list(counts.values())[1:])

    shown = con.create_table("shown", lists(table, events.filter(events.group == "item")), temp=True)
    con.to_parquet(
        shown.order_by("event", "order").select("event", "object_id", *CONTEXT), folder / "item.impressions.parquet"
    )
    clickouts = number(table.filter(table.action_type == CLICKOUT).count())
    counts |= {"clickouts": clickouts, "of them with impressions": number(shown.event.nunique())}
    counts["impressions"] = number(shown.count())

    acted = events.filter(events.group == "item").select("object_id", "city")
    seen = shown.select("object_id", "city").union(acted)
    seen = con.create_table("seen", seen.group_by("object_id", "city").aggregate(n=seen.count()), temp=True)
    con.to_parquet(hotels(seen, metadata), folder / "item.objects.parquet")
    for name in ("search", "filter"):
        objects = events.filter(events.group == name).select("object_id").distinct().order_by("object_id")
        objects = objects.mutate(words=words(objects.object_id))
        con.to_parquet(objects, folder / f"{name}.objects.parquet")
    (folder / SCHEMA_FILE).write_text(schema_of(metadata is not None).text(), encoding="utf-8")
    return counts


def main(
    raw: Annotated[Path, typer.Option(metavar="PATH", help="train.csv, the same as Parquet, or their folder.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the event log to write.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an event log at --out.")] = False,
) -> None:
    """Turn the log of the RecSys Challenge 2019 into an event log (see JOINS.md inside it)."""
    or_exit(lambda: prepare(raw, out, overwrite))


if __name__ == "__main__":
    typer.run(main)
