"""The Complete Journey (one grocery chain, 2017) as an event log of three groups, joined from its tables.

The tables come from the R package ``completejourney`` (CC0), as parquet or as the package's own ``.rda``
files, whichever ``--raw-dir`` holds::

    python -m data_scripts.completejourney --out logs/completejourney

Groups: ``product`` (action purchase), ``coupon`` (redeem), ``campaign`` (receive). Products and coupons share
the vocabulary ``category``, coupons and campaigns share ``campaign_type``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd
import pyarrow as pa
import rdata
import typer

from atrank_lib.log import EventLog, Feature, Group, Schema, TimeScale
from data_scripts._engine import connect
from data_scripts._errors import PreparationError
from data_scripts._options import HERE, Engine, EngineOption, Spark, SparkConfOption, SparkMasterOption
from data_scripts._tables import (
    differing_counts,
    joins_page,
    number,
    or_exit,
    publish,
    read_table,
    refuse_existing,
    report,
    require_unique,
    take_columns,
    to_frame,
)


@dataclass(frozen=True)
class Source:
    """A table of the package: names of its files without the ending, and the Ibis types of what is used."""

    parquet: str
    rda: str
    columns: Mapping[str, str]


SOURCES = {
    "transactions": Source(
        "transactions_100k",
        "transactions_sample",
        {"household_id": "!string", "product_id": "!string", "transaction_timestamp": "!timestamp"},
    ),
    "products": Source(
        "products",
        "products",
        {
            "product_id": "!string",
            "product_category": "string",
            "product_type": "string",
            "department": "string",
            "brand": "string",
            "manufacturer_id": "string",
        },
    ),
    "coupons": Source(
        "coupons", "coupons", {"coupon_upc": "!string", "product_id": "!string", "campaign_id": "!string"}
    ),
    "redemptions": Source(
        "coupon_redemptions",
        "coupon_redemptions",
        {
            "household_id": "!string",
            "coupon_upc": "!string",
            "campaign_id": "!string",
            "redemption_date": "!timestamp",
        },
    ),
    "campaigns": Source("campaigns", "campaigns", {"campaign_id": "!string", "household_id": "!string"}),
    "descriptions": Source(
        "campaign_descriptions",
        "campaign_descriptions",
        {"campaign_id": "!string", "campaign_type": "string", "start_date": "!timestamp"},
    ),
}
# the package's tables with its 100,000-row sample of the transactions
PUBLISHED = {
    "purchases": 100_000,
    "redemptions": 2_102,
    "receipts": 6_589,
    "households that purchase": 2_405,
    "households that redeem": 410,
    "households that receive": 1_559,
    "products": 23_950,
    "coupons": 491,
    "campaigns": 27,
}
STEPS = [
    "Source: the tables of the R package `completejourney` (CC0), with its random sample of 100,000 transactions.",
    "`product`, purchase: one row of `transactions` is one behavior, at its second, whatever the quantity; the "
    "features come from `products` by `product_id`, and are unknown where it does not list the product.",
    "`store_id` is left out: it belongs to the purchase, not to the product.",
    "`coupon`, redeem: one row of `coupon_redemptions` is one behavior, at midnight of its date.",
    "A coupon's category is the most frequent `product_category` over its rows in `coupons`, that is, over the "
    "products that it is valid for (a product counts once for every row); of equals, the first in the alphabet.",
    "A coupon's campaign type is the most frequent type of the campaigns that it is listed in; of equals, the "
    "first in the alphabet. A redemption may so carry another type than the campaign it was redeemed in.",
    "`campaign`, receive: one row of `campaigns` is one behavior, at midnight of the campaign's start date, the "
    "same for every household: the tables do not say when a household received it.",
    "Purchase times are UTC, and evening purchases of the stores (US Eastern time) fall on the next UTC day; dates "
    "are taken as midnight UTC. Across groups, order within a day is therefore not known.",
    "A household's behaviors are in time order; equal times keep the order of the table.",
]


def _r_dates(values: Any, attributes: Mapping[str, Any]) -> Any:
    """R's Date: days since 1970."""
    return np.asarray(values, dtype="float64").astype("datetime64[D]").astype("datetime64[s]")


def _r_times(values: Any, attributes: Mapping[str, Any]) -> Any:
    """R's POSIXct: seconds since 1970, UTC."""
    return np.asarray(values, dtype="float64").astype("datetime64[s]")


_R_FRAME = rdata.conversion.DEFAULT_CLASS_MAP["data.frame"]
R_CLASSES = {
    **rdata.conversion.DEFAULT_CLASS_MAP,
    "Date": _r_dates,
    "POSIXct": _r_times,
    "tbl_df": _R_FRAME,
    "spec_tbl_df": _R_FRAME,
}


def load(con: ibis.BaseBackend, folder: Path, source: Source) -> ir.Table:
    """One source table: the parquet file, else the ``.rda`` file, of ``folder`` or of ``folder/raw``."""
    folders = [folder, folder / "raw"]
    for path in (place / f"{source.parquet}.parquet" for place in folders):
        if path.exists():
            return read_table(con, path, source.columns)
    for path in (place / f"{source.rda}.rda" for place in folders):
        if path.exists():
            frame = read_rda(path, source.rda)
            arrow = pa.Table.from_pandas(frame, preserve_index=False)
            arrow = arrow.append_column("row", pa.array(range(len(frame)), pa.int64()))
            return take_columns(con, ibis.memtable(arrow), source.columns, path)
    raise PreparationError(
        f"{folder}: neither {source.parquet}.parquet nor {source.rda}.rda is there or in its folder raw; point "
        "--raw-dir at the tables of the R package completejourney "
        "(https://github.com/bradleyboehmke/completejourney, folder data)"
    )


def read_rda(path: Path, name: str) -> pd.DataFrame:
    """The data frame ``name`` of an R data file; R's serialization is decoded, nothing in it is run."""
    try:
        content = rdata.read_rda(path, constructor_dict=R_CLASSES)
    except Exception as error:  # the decoder raises whatever the damaged bytes lead it to
        raise PreparationError(f"{path}: not a readable .rda file ({error}); fetch it again") from error
    frame = content.get(name)
    if not isinstance(frame, pd.DataFrame):
        raise PreparationError(f"{path}: holds {', '.join(content)}, not the table {name}; fetch it again")
    return frame


def most_frequent(table: ir.Table, key: str, value: str) -> ir.Table:
    """For each key its most frequent non-null value; of equally frequent ones the first in the alphabet."""
    counts = table.filter(table[value].notnull()).group_by(key, value).aggregate(n=lambda t: t.count())
    best = ibis.row_number().over(group_by=key, order_by=[ibis.desc("n"), ibis.asc(value)])
    return counts.mutate(place=best).filter(lambda t: t.place == 0).select(key, value)


def behaviors(table: ir.Table, action: str, object_id: str, time: str) -> ir.Table:
    """Events of one group, each household's in time order; the order of the table breaks ties."""
    return table.order_by("household_id", time, "row").select(
        user_id="household_id",
        timestamp=table[time].epoch_seconds(),
        action=ibis.literal(action),
        object_id=object_id,
    )


def objects_of(events: ir.Table, key: str, *lookups: ir.Table) -> ir.Table:
    """Every object that occurs, once, with what the lookup tables know of it; null where they know nothing."""
    objects = events.select(key).distinct()
    for lookup in lookups:
        objects = objects.left_join(lookup, key, rname="{name}_known").drop(f"{key}_known")
    return objects.rename(object_id=key).order_by("object_id")


SCHEMA = Schema(
    name="The Complete Journey (2017)",
    timestamp_unit="s",
    groups={
        "product": Group(
            actions=("purchase",),
            features={
                "object_id": Feature(kind="categorical"),
                "category": Feature(kind="categorical", vocabulary="category"),
                "product_type": Feature(kind="categorical"),
                "department": Feature(kind="categorical"),
                "brand": Feature(kind="categorical"),
                "manufacturer_id": Feature(kind="categorical"),
            },
            time=TimeScale(unit="day"),
        ),
        "coupon": Group(
            actions=("redeem",),
            features={
                "object_id": Feature(kind="categorical"),
                "category": Feature(kind="categorical", vocabulary="category"),
                "campaign_type": Feature(kind="categorical", vocabulary="campaign_type"),
            },
            time=TimeScale(unit="day"),
        ),
        "campaign": Group(
            actions=("receive",),
            features={
                "object_id": Feature(kind="categorical"),
                "campaign_type": Feature(kind="categorical", vocabulary="campaign_type"),
            },
            time=TimeScale(unit="day"),
        ),
    },
)


def join(tables: Mapping[str, ir.Table]) -> tuple[dict[str, ir.Table], dict[str, ir.Table]]:
    """Events and objects of every group from the source tables (Ibis expressions; see STEPS)."""
    transactions, redemptions = tables["transactions"], tables["redemptions"]
    products = tables["products"].drop("row").rename(category="product_category")
    types = tables["descriptions"].select("campaign_id", "campaign_type")
    receipts = tables["campaigns"].inner_join(tables["descriptions"].select("campaign_id", "start_date"), "campaign_id")
    listed = tables["coupons"].select("coupon_upc", "campaign_id").distinct()
    coupon_category = most_frequent(tables["coupons"].inner_join(products, "product_id"), "coupon_upc", "category")
    coupon_type = most_frequent(listed.inner_join(types, "campaign_id"), "coupon_upc", "campaign_type")
    events = {
        "product": behaviors(transactions, "purchase", "product_id", "transaction_timestamp"),
        "coupon": behaviors(redemptions, "redeem", "coupon_upc", "redemption_date"),
        "campaign": behaviors(receipts, "receive", "campaign_id", "start_date"),
    }
    objects = {
        "product": objects_of(transactions, "product_id", products),
        "coupon": objects_of(redemptions, "coupon_upc", coupon_category, coupon_type),
        "campaign": objects_of(receipts, "campaign_id", types),
    }
    return events, objects


def count(
    tables: Mapping[str, ir.Table], events: Mapping[str, pd.DataFrame], objects: Mapping[str, pd.DataFrame]
) -> dict[str, int]:
    """The published counts, and what the joins left unknown or had to choose."""
    types = tables["descriptions"].select("campaign_id", "campaign_type")
    redeemed_in = to_frame(tables["redemptions"].inner_join(types, "campaign_id"))
    chosen = objects["coupon"].set_index("object_id")["campaign_type"]
    other = redeemed_in["coupon_upc"].map(chosen) != redeemed_in["campaign_type"]
    unlisted = tables["transactions"].anti_join(tables["products"], "product_id").product_id.nunique()
    return {
        "purchases": len(events["product"]),
        "redemptions": len(events["coupon"]),
        "receipts": len(events["campaign"]),
        "households that purchase": events["product"]["user_id"].nunique(),
        "households that redeem": events["coupon"]["user_id"].nunique(),
        "households that receive": events["campaign"]["user_id"].nunique(),
        "products": len(objects["product"]),
        "coupons": len(objects["coupon"]),
        "campaigns": len(objects["campaign"]),
        "products that `products` does not list": number(unlisted),
        "products without a category": int(objects["product"]["category"].isna().sum()),
        "coupons without a category": int(objects["coupon"]["category"].isna().sum()),
        "coupons without a campaign type": int(objects["coupon"]["campaign_type"].isna().sum()),
        "redemptions in a campaign of another type than the coupon's": int(other.sum()),
    }


def refuse_undated(tables: Mapping[str, ir.Table], raw_dir: Path) -> None:
    """Refuse campaigns whose start date is unknown."""
    undated = to_frame(tables["campaigns"].anti_join(tables["descriptions"], "campaign_id").order_by("row").limit(1))
    if len(undated):
        raise PreparationError(
            f"{raw_dir / 'campaigns'}, row {undated['row'][0]}: campaign_id {undated['campaign_id'][0]!r} is not in "
            "campaign_descriptions, so its start date is unknown; take all tables from one source"
        )


def prepare(out: Path, raw_dir: Path | None, overwrite: bool, engine: Engine = "duckdb", spark: Spark = HERE) -> None:
    """Read the tables, join, compare with the published counts, publish the log, and print what was joined."""
    refuse_existing(out, overwrite)
    if raw_dir is None:
        if "ATRANK_DATA_DIR" not in os.environ:
            raise PreparationError(
                "no --raw-dir, and ATRANK_DATA_DIR is not set; pass --raw-dir with the folder of the tables"
            )
        raw_dir = Path(os.environ["ATRANK_DATA_DIR"]) / "completejourney"
    with connect(engine, spark) as con:
        tables = {name: load(con, raw_dir, source) for name, source in SOURCES.items()}
        require_unique(tables["products"], "product_id", raw_dir / "products")
        require_unique(tables["descriptions"], "campaign_id", raw_dir / "campaign_descriptions")
        refuse_undated(tables, raw_dir)
        event_tables, object_tables = join(tables)
        events = {group: to_frame(table) for group, table in event_tables.items()}
        objects = {group: to_frame(table) for group, table in object_tables.items()}
        counts = count(tables, events, objects)
    differing = differing_counts(counts, PUBLISHED, "the published tables")
    log = EventLog.from_tables(SCHEMA, events, objects)
    publish(log, out, joins_page(SCHEMA.name, STEPS, counts, differing), overwrite)
    report(out, STEPS, counts, differing)


def main(
    out: Annotated[Path, typer.Option(help="Folder of the event log to write.")],
    raw_dir: Annotated[
        Path | None,
        typer.Option(help="Folder of the .parquet or .rda tables. Default: $ATRANK_DATA_DIR/completejourney."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an event log at --out.")] = False,
    engine: EngineOption = "duckdb",
    spark_master: SparkMasterOption = None,
    spark_conf: SparkConfOption = None,
) -> None:
    """Turn the tables of the R package completejourney into an event log (see JOINS.md inside it)."""
    or_exit(lambda: prepare(out, raw_dir, overwrite, engine, Spark.of(spark_master, spark_conf)))


if __name__ == "__main__":
    typer.run(main)
