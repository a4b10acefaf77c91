"""The completejourney script against plain Python and pandas, on small tables and on the real ones."""

from __future__ import annotations

import collections
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rdata
import typer
from rdata.conversion.to_r import DEFAULT_CLASS_MAP, RObjectType, build_r_object
from typer.testing import CliRunner, Result

from atrank_lib.log.events import EventLog
from data_scripts import completejourney

pytestmark = [
    # Ibis 12 calls DuckDB 2 by an old name
    pytest.mark.filterwarnings(r"ignore:fetch_arrow_table\(\) is deprecated:DeprecationWarning"),
]
real_data = pytest.mark.skipif(
    "ATRANK_DATA_DIR" not in os.environ, reason="ATRANK_DATA_DIR is not set: no real data here"
)
app = typer.Typer()
app.command()(completejourney.main)

Tables = dict[str, pd.DataFrame]
RDA_NAMES = {"transactions_100k": "transactions_sample"}


def prepare(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def tables() -> Tables:
    """Three households; product p9 is not listed, p3 has no category, coupons c2 and c3 are ties."""
    products = [
        ("p1", "1", "GROCERY", "National", "TEA", "GREEN TEA", None),
        ("p2", "1", "GROCERY", "Private", "TEA", "BLACK TEA", "1 OZ"),
        ("p3", "2", "MISC", "National", None, None, None),
        ("p4", "3", "PASTRY", "Private", "BREAD", "RYE", None),
        ("p5", "3", "PASTRY", "Private", "COFFEE", "BEANS", None),
    ]
    columns = ["product_id", "manufacturer_id", "department", "brand", "product_category", "product_type"]
    purchases = [
        ("h2", "p4", "2017-03-02 00:00:01"),
        ("h1", "p2", "2017-03-01 10:00:00"),
        ("h1", "p9", "2017-03-01 10:00:00"),
        ("h1", "p1", "2017-03-01 10:00:00"),
        ("h1", "p3", "2017-02-01 23:59:59"),
    ]
    coupons = [
        ("c1", "p4", "1"),
        ("c1", "p1", "1"),
        ("c1", "p2", "2"),
        ("c2", "p5", "2"),
        ("c2", "p4", "2"),
        ("c3", "p3", "1"),
        ("c3", "p3", "3"),
        ("c8", "p1", "3"),
    ]
    redemptions = [
        ("h2", "c2", "2", "2017-04-02"),
        ("h1", "c3", "3", "2017-04-02"),
        ("h1", "c1", "1", "2017-04-02"),
        ("h1", "c1", "2", "2017-04-01"),
    ]
    dates = {"1": "2017-03-03", "2": "2017-04-01", "3": "2016-12-28"}
    return {
        "transactions_100k": pd.DataFrame(
            [
                {
                    "household_id": h,
                    "store_id": "s",
                    "product_id": p,
                    "transaction_timestamp": t,
                }
                for h, p, t in purchases
            ]
        ).astype({"transaction_timestamp": "datetime64[us]"}),
        "products": pd.DataFrame(products, columns=[*columns, "package_size"]),
        "coupons": pd.DataFrame(coupons, columns=["coupon_upc", "product_id", "campaign_id"]),
        "coupon_redemptions": pd.DataFrame(
            redemptions, columns=["household_id", "coupon_upc", "campaign_id", "redemption_date"]
        ).astype({"redemption_date": "datetime64[s]"}),
        "campaigns": pd.DataFrame(
            [("1", "h2"), ("2", "h1"), ("1", "h1"), ("3", "h3")], columns=["campaign_id", "household_id"]
        ),
        "campaign_descriptions": pd.DataFrame(
            {
                "campaign_id": list(dates),
                "campaign_type": pd.Categorical(["Type B", "Type A", "Type B"]),
                "start_date": pd.to_datetime(list(dates.values())),
            }
        ),
    }


def write_parquet(tables: Tables, folder: Path) -> Path:
    """Like the package's tables as parquet: days as dates, not as instants."""
    folder.mkdir(exist_ok=True)
    for name, table in tables.items():
        days = [column for column in table.columns if column.endswith("_date")]
        table.assign(**{day: table[day].dt.date for day in days}).to_parquet(folder / f"{name}.parquet")
    return folder


def r_frame(frame: pd.DataFrame, converter: Any) -> Any:
    """A data frame of R in which days are of class Date and instants of class POSIXct."""
    vectors = []
    for column, values in frame.items():
        if str(column).endswith(("_date", "_timestamp")):
            unit, *classes = ("D", "Date") if str(column).endswith("_date") else ("s", "POSIXct", "POSIXt")
            vector = converter.convert_to_r_object(values.to_numpy().astype(f"datetime64[{unit}]").astype("float64"))
            vector.attributes = converter.convert_to_r_attributes({"class": np.array(classes, dtype="U")})
            vector.info.object = vector.info.attributes = True
        elif isinstance(values.dtype, pd.CategoricalDtype):
            vector = converter.convert_to_r_object(values.array)
        else:
            vector = converter.convert_to_r_object(np.array(values.to_list(), dtype=object))
        vectors.append(vector)
    attributes = {
        "names": np.array(frame.columns, dtype="U"),
        "class": np.array(["tbl_df", "tbl", "data.frame"], dtype="U"),
        "row.names": np.arange(1, len(frame) + 1, dtype=np.int32),
    }
    attributes = converter.convert_to_r_attributes(attributes)
    return build_r_object(RObjectType.VEC, value=vectors, is_object=True, attributes=attributes)


def write_rda(tables: Tables, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for name, table in tables.items():
        name = RDA_NAMES.get(name, name)
        constructors = {**DEFAULT_CLASS_MAP, pd.DataFrame: r_frame}
        rdata.write_rda(folder / f"{name}.rda", {name: table}, constructor_dict=constructors)
    return folder


def most_frequent(values: list[str]) -> str | None:
    """The first in the alphabet of the most frequent values."""
    counts = collections.Counter(values)
    return min((value for value in counts if counts[value] == max(counts.values())), default=None)


def by_hand(tables: Tables) -> tuple[dict[str, list[tuple]], dict[str, dict[str, tuple]]]:
    """Events and objects of every group, in plain Python loops."""
    products = {row["product_id"]: row for row in tables["products"].to_dict("records")}
    types = dict(tables["campaign_descriptions"][["campaign_id", "campaign_type"]].to_numpy())
    start = {row["campaign_id"]: row["start_date"] for row in tables["campaign_descriptions"].to_dict("records")}

    def seconds(moment: Any) -> int:
        return int(pd.Timestamp(moment).timestamp())

    rows = {
        "product": [
            (r["household_id"], seconds(r["transaction_timestamp"]), "purchase", r["product_id"])
            for r in tables["transactions_100k"].to_dict("records")
        ],
        "coupon": [
            (r["household_id"], seconds(r["redemption_date"]), "redeem", r["coupon_upc"])
            for r in tables["coupon_redemptions"].to_dict("records")
        ],
        "campaign": [
            (r["household_id"], seconds(start[r["campaign_id"]]), "receive", r["campaign_id"])
            for r in tables["campaigns"].to_dict("records")
        ],
    }
    events = {group: sorted(found, key=lambda row: row[:2]) for group, found in rows.items()}
    used = {group: sorted({row[3] for row in found}) for group, found in rows.items()}
    features = ["product_category", "product_type", "department", "brand", "manufacturer_id"]
    listings: dict[str, list[tuple[str, str]]] = collections.defaultdict(list)
    for coupon, product, campaign in tables["coupons"].to_numpy():
        listings[coupon].append((product, campaign))
    objects: dict[str, dict[str, tuple]] = {
        "product": {p: tuple(products.get(p, {}).get(name) for name in features) for p in used["product"]},
        "campaign": {c: (types[c],) for c in used["campaign"]},
        "coupon": {},
    }
    for coupon in used["coupon"]:
        categories = [products.get(p, {}).get("product_category") for p, _ in listings[coupon]]
        objects["coupon"][coupon] = (
            most_frequent([c for c in categories if not pd.isna(c)]),
            most_frequent([types[c] for c in {campaign for _, campaign in listings[coupon]}]),
        )
    return events, objects


def contents(log: EventLog) -> tuple[dict[str, list[tuple]], dict[str, dict[str, tuple]]]:
    events = {g: list(t.astype({"action": "str"}).itertuples(index=False, name=None)) for g, t in log.events.items()}
    objects = {g: {row[0]: row[1:] for row in t.itertuples(index=False, name=None)} for g, t in log.objects.items()}
    return events, objects


def without_missing(objects: dict[str, dict[str, tuple]]) -> dict[str, dict[str, tuple]]:
    return {g: {o: tuple(None if pd.isna(v) else v for v in row) for o, row in t.items()} for g, t in objects.items()}


@pytest.mark.parametrize("write", [write_parquet, write_rda])
def test_small_tables(write: Callable[[Tables, Path], Path], tables: Tables, tmp_path: Path) -> None:
    result = prepare("--out", tmp_path / "log", "--raw-dir", write(tables, tmp_path / "source"))
    assert result.exit_code == 0, result.output
    log = EventLog.read(tmp_path / "log")
    events, objects = contents(log)
    expected_events, expected_objects = by_hand(tables)
    assert events == expected_events
    assert without_missing(objects) == without_missing(expected_objects)
    # checked by eye: ties of time in the order of the table, ties of frequency in the alphabet
    assert [row[3] for row in events["product"]] == ["p3", "p2", "p9", "p1", "p4"]
    assert events["coupon"][0] == ("h1", 1_491_004_800, "redeem", "c1")
    assert without_missing(objects)["coupon"] == {
        "c1": ("TEA", "Type A"),
        "c2": ("BREAD", "Type A"),
        "c3": (None, "Type B"),
    }
    schema = log.schema
    assert schema.vocabulary("product", "category") == schema.vocabulary("coupon", "category") == "category"
    assert schema.vocabulary("coupon", "campaign_type") == schema.vocabulary("campaign", "campaign_type")
    assert {group.time.unit for group in schema.groups.values()} == {"day"}


def test_joins_are_disclosed(tables: Tables, tmp_path: Path) -> None:
    result = prepare("--out", tmp_path / "log", "--raw-dir", write_parquet(tables, tmp_path / "source"))
    page = (tmp_path / "log" / "JOINS.md").read_text()
    for step in completejourney.STEPS:
        assert step in page
        assert step in result.stdout
    assert "| products that `products` does not list | 1 |" in page
    assert "| products without a category | 2 |" in page
    assert "| coupons without a category | 1 |" in page
    assert "| redemptions in a campaign of another type than the coupon's | 1 |" in page
    # small tables are not the published ones, and that is said
    assert "WARNING: purchases: 5 found, 100,000 in the published tables" in result.stderr
    assert "- campaigns: 3 found, 27 in the published tables" in page


def test_rda_gives_the_same_log(tables: Tables, tmp_path: Path) -> None:
    prepare("--out", tmp_path / "a", "--raw-dir", write_parquet(tables, tmp_path / "parquet"))
    (tmp_path / "rda").mkdir()
    write_rda(tables, tmp_path / "rda" / "raw")
    prepare("--out", tmp_path / "b", "--raw-dir", tmp_path / "rda")
    assert EventLog.read(tmp_path / "a").fingerprint() == EventLog.read(tmp_path / "b").fingerprint()


def replaced(name: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Tables, Path], object]:
    return lambda tables, folder: write_parquet({**tables, name: change(tables[name])}, folder)


BROKEN: dict[str, tuple[Callable[[Tables, Path], object], str]] = {
    "no table": (
        lambda tables, folder: (folder / "coupons.parquet").unlink(),
        "neither coupons.parquet nor coupons.rda",
    ),
    "not parquet": (
        lambda tables, folder: (folder / "products.parquet").write_bytes(b"PAR1"),
        "products.parquet: not a readable parquet file",
    ),
    "no column": (
        replaced("products", lambda t: t.drop(columns="brand")),
        "products.parquet: no column 'brand'; it has 'product_id'",
    ),
    "no time": (
        replaced("transactions_100k", lambda t: t.assign(transaction_timestamp=t["transaction_timestamp"].shift())),
        "transactions_100k.parquet, row 0: transaction_timestamp is missing",
    ),
    "no household": (
        replaced("campaigns", lambda t: t.replace("h3", None)),
        "campaigns.parquet, row 3: household_id is missing",
    ),
    "text as time": (
        replaced("transactions_100k", lambda t: t.assign(transaction_timestamp="noon")),
        "transactions_100k.parquet: a value is not of the type",
    ),
    "repeated product": (
        replaced("products", lambda t: pd.concat([t, t.tail(1)])),
        "product_id 'p5' is on 2 rows",
    ),
    "repeated campaign": (
        replaced("campaign_descriptions", lambda t: pd.concat([t, t.head(1)])),
        "campaign_id '1' is on 2 rows",
    ),
    "campaign without a date": (
        replaced("campaign_descriptions", lambda t: t.head(2)),
        "row 3: campaign_id '3' is not in campaign_descriptions",
    ),
    "no redemption": (replaced("coupon_redemptions", lambda t: t.head(0)), "coupon.events"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_tables_leave_nothing_behind(case: str, tables: Tables, tmp_path: Path) -> None:
    folder = write_parquet(tables, tmp_path / "source")
    spoil, message = BROKEN[case]
    spoil(tables, folder)
    result = prepare("--out", tmp_path / "log", "--raw-dir", folder)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert names(tmp_path) == ["source"]


def test_broken_rda(tables: Tables, tmp_path: Path) -> None:
    folder = write_rda(tables, tmp_path / "source")
    path = folder / "coupons.rda"
    path.write_bytes(path.read_bytes()[:60])
    assert "coupons.rda: not a readable .rda file" in prepare("--out", tmp_path / "log", "--raw-dir", folder).stderr
    path.write_bytes((folder / "campaigns.rda").read_bytes())
    assert "holds campaigns, not the table coupons" in prepare("--out", tmp_path / "log", "--raw-dir", folder).stderr
    assert names(tmp_path) == ["source"]


def test_existing_folder_and_no_source(tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_parquet(tables, tmp_path / "completejourney")
    monkeypatch.delenv("ATRANK_DATA_DIR", raising=False)
    assert "ATRANK_DATA_DIR is not set" in prepare("--out", tmp_path / "log").stderr
    monkeypatch.setenv("ATRANK_DATA_DIR", str(tmp_path))
    assert prepare("--out", tmp_path / "log").exit_code == 0
    assert "pass --overwrite" in prepare("--out", tmp_path / "log").stderr
    before = EventLog.read(tmp_path / "log").fingerprint()
    write_parquet({"campaigns": tables["campaigns"].head(3)}, source)
    assert prepare("--out", tmp_path / "log", "--overwrite").exit_code == 0
    assert EventLog.read(tmp_path / "log").fingerprint() != before
    assert names(tmp_path) == ["completejourney", "log"]


@pytest.fixture(scope="module")
def real_log(tmp_path_factory: pytest.TempPathFactory) -> EventLog:
    folder = tmp_path_factory.mktemp("real") / "log"
    result = prepare("--out", folder, "--raw-dir", Path(os.environ["ATRANK_DATA_DIR"]) / "completejourney")
    assert result.exit_code == 0, result.output
    assert not result.stderr
    return EventLog.read(folder)


@real_data
def test_real_tables_give_the_joined_table(real_log: EventLog) -> None:
    """The table that comes with the data was joined independently; it has the same behaviors and features."""
    log = real_log
    joined = pd.read_parquet(Path(os.environ["ATRANK_DATA_DIR"]) / "completejourney" / "events.parquet")
    columns = ["user_id", "timestamp", "action", "object_id"]
    features = {
        "product": ["category", "product_type", "department", "brand", "manufacturer_id"],
        "coupon": ["category"],
        "campaign": ["campaign_type"],
    }
    for group, count, users, objects in (
        ("product", 100_000, 2_405, 23_950),
        ("coupon", 2_102, 410, 491),
        ("campaign", 6_589, 1_559, 27),
    ):
        assert len(log.events[group]) == count
        assert log.events[group]["user_id"].nunique() == users
        assert len(log.objects[group]) == objects
        found = log.events[group].merge(log.objects[group], on="object_id", how="left", validate="many_to_one")
        both = [columns + features[group]] * 2
        rows = [
            sorted(map(tuple, table[names].astype(object).where(table[names].notna(), "").to_numpy()))
            for table, names in zip((found, joined[joined["group"] == group]), both, strict=True)
        ]
        assert rows[0] == rows[1]


@real_data
def test_real_rda_files_give_the_same_log(real_log: EventLog, tmp_path: Path) -> None:
    source = Path(os.environ["ATRANK_DATA_DIR"]) / "completejourney" / "raw"
    result = prepare("--out", tmp_path / "log", "--raw-dir", source)
    assert result.exit_code == 0, result.output
    assert EventLog.read(tmp_path / "log").fingerprint() == real_log.fingerprint()
