"""The Amazon tables joined: which files, which checks, which expressions (Ibis). See ``amazon``."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from atrank_lib.log import EventLog, Feature, Group, Schema, TimeScale
from data_scripts._amazon_lines import parse_meta, parse_review
from data_scripts._download import cache_folder, download
from data_scripts._engine import connect
from data_scripts._errors import PreparationError
from data_scripts._lines import parse_lines, parsing_pool
from data_scripts._options import HERE, Engine, Spark
from data_scripts._tables import (
    differing_counts,
    joins_page,
    number,
    publish,
    read_table,
    refuse_existing,
    report,
    to_frame,
)

ADDRESS = "http://snap.stanford.edu/data/amazon/productGraph/categoryFiles"
PAPER_NAMES = {"Electro": "Electronics", "Clothing": "Clothing_Shoes_and_Jewelry"}
TABLE_1 = {
    "Electronics": {"users": 192_403, "items": 63_001, "categories": 801, "samples": 1_689_188},
    "Clothing_Shoes_and_Jewelry": {"users": 39_387, "items": 23_033, "categories": 484, "samples": 278_677},
}
REVIEWS = pa.schema([("user_id", pa.string()), ("object_id", pa.string()), ("timestamp", pa.int64())])
META = pa.schema([("object_id", pa.string()), ("category_id", pa.string())])


def raw_files(category: str, raw_dir: Path) -> tuple[Path, Path]:
    """Paths of the reviews and of the products; what ``raw_dir`` lacks is downloaded into it."""
    paths = raw_dir / f"reviews_{category}_5.json.gz", raw_dir / f"meta_{category}.json.gz"
    for path in paths:
        if not path.exists():
            download(f"{ADDRESS}/{path.name}", path)
    return paths


def chronological(reviews: ir.Table) -> ir.Table:
    """Each user's reviews in time order; the order of the file breaks ties."""
    return reviews.order_by("user_id", "timestamp", "row").select("user_id", "timestamp", "object_id")


def reviewed_items(reviews: ir.Table, meta: ir.Table) -> ir.Table:
    """Every reviewed item once, with its category; null where the products do not list it.

    A product listed on several lines counts with its first one.
    """
    first = meta.group_by("object_id").aggregate(category_id=lambda t: t.category_id.argmin(t.row))
    items = reviews.select("object_id").distinct()
    joined = items.left_join(first, "object_id")
    return joined.select("object_id", "category_id").order_by("object_id")


def count(reviews: ir.Table, meta: ir.Table, items: ir.Table) -> dict[str, int]:
    """The columns of Table 1, and what the join met on its way."""
    listed = meta.semi_join(items, "object_id")
    totals = {
        "users": reviews.user_id.nunique(),
        "items": items.count(),
        "categories": items.category_id.nunique(),
        "samples": reviews.count(),
        "items without a category": items.category_id.isnull().sum().fill_null(0),
        "repeated product lines": listed.count() - listed.object_id.nunique(),
    }
    return {name: number(total) for name, total in totals.items()}


def event_log(name: str, reviews: ir.Table, items: ir.Table) -> EventLog:
    """One group, ``item``, one action, ``review``; days are the unit of time, for that is all the data knows."""
    schema = Schema(
        name=name,
        timestamp_unit="s",
        groups={
            "item": Group(
                actions=("review",),
                features={
                    "object_id": Feature(kind="categorical"),
                    "category_id": Feature(kind="categorical", vocabulary="category"),
                },
                time=TimeScale(unit="day"),
            )
        },
    )
    events = to_frame(chronological(reviews).mutate(action=ibis.literal("review")))
    return EventLog.from_tables(schema, {"item": events}, {"item": to_frame(items)})


def read_pair(con: ibis.BaseBackend, files: tuple[Path, Path], workers: int) -> tuple[ir.Table, ir.Table]:
    """Reviews and products of the original pair of files, each with its file row."""
    with tempfile.TemporaryDirectory(prefix="atrank_amazon_") as folder, parsing_pool(workers) as pool:
        reviews, meta = Path(folder) / "reviews.parquet", Path(folder) / "meta.parquet"
        parse_lines(files[0], parse_review, REVIEWS, reviews, pool, ahead=2 * workers)
        parse_lines(files[1], parse_meta, META, meta, pool, ahead=2 * workers)
        return (
            read_table(con, reviews, {"user_id": "!string", "object_id": "!string", "timestamp": "!int64"}),
            read_table(con, meta, {"object_id": "!string", "category_id": "!string"}),
        )


def read_joined(con: ibis.BaseBackend, folder: Path) -> tuple[ir.Table, ir.Table]:
    """Reviews and products of the tables that are ready: ``events.parquet``, ``item_attributes.parquet``."""
    events = read_table(
        con,
        folder / "events.parquet",
        {"user_id": "!string", "item_id": "!string", "timestamp": "!int64", "category_id": "string"},
    )
    attributes = read_table(
        con, folder / "item_attributes.parquet", {"item_id": "!string", "attribute_ids": "array<string>"}
    )
    last = attributes.attribute_ids.length().nullif(0) - 1  # null for an empty list: Spark refuses to look into it
    leaf = attributes.attribute_ids[last]
    meta = attributes.select(object_id="item_id", category_id=leaf, row="row")
    other = events.join(meta, events.item_id == meta.object_id)
    other = other.filter(~other.category_id.identical_to(other.category_id_right))
    wrong = to_frame(other.order_by("row").select("row", "item_id", "category_id", "category_id_right").limit(1))
    if len(wrong):
        row, item, here, there = wrong.iloc[0]
        raise PreparationError(
            f"{folder / 'events.parquet'}, row {row}: category_id {here!r} of item {item!r} is {there!r}, the last of "
            "its attribute_ids, in item_attributes.parquet; take both tables from one source"
        )
    return events.select("user_id", "timestamp", "row", object_id="item_id"), meta


def prepare(
    category: str,
    out: Path,
    raw_dir: Path | None,
    from_table: Path | None,
    overwrite: bool,
    workers: int,
    engine: Engine = "duckdb",
    spark: Spark = HERE,
) -> None:
    """Read one category, join, compare with Table 1, publish the log, and print what was joined."""
    category = PAPER_NAMES.get(category.rstrip("."), category)
    if not re.fullmatch(r"\w+", category):
        raise PreparationError(f"--category {category!r}: only letters, digits and _, as in Electronics")
    if raw_dir is not None and from_table is not None:
        raise PreparationError("--raw-dir and --from-table name two sources; pass one of them")
    refuse_existing(out, overwrite)
    with connect(engine, spark) as con:
        if from_table is None:
            files = raw_files(category, raw_dir or cache_folder() / "amazon")
            reviews, meta = read_pair(con, files, workers)
            sources = " and ".join(f"`{path.name}`" for path in files)
            leaf = "the last element of the last category path of its product"
        else:
            reviews, meta = read_joined(con, from_table)
            sources = "`events.parquet` and `item_attributes.parquet`"
            leaf = "the last of its `attribute_ids`"
        items = con.create_table("items", reviewed_items(reviews, meta), temp=True)
        counts = count(reviews, meta, items)
        differing = differing_counts(counts, TABLE_1.get(category, {}), "Table 1 of the paper")
        steps = [
            f"Source: {sources} (Amazon reviews 2014, 5-core, McAuley et al.).",
            "Every review is one behavior, with the action `review`; repeated reviews of an item are all kept.",
            "A user's reviews are in time order; reviews of the same second keep the order of the file.",
            f"An item's category is {leaf}.",
            "An item that the products do not list has an unknown category.",
            "Of several product lines of one item the first counts.",
        ]
        title = f"Amazon {category} (2014, 5-core)"
        publish(event_log(title, reviews, items), out, joins_page(title, steps, counts, differing), overwrite)
        report(out, steps, counts, differing)
