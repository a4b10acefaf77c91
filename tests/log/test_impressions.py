"""Tables of impressions: round trips, what a faulty one says, and what is counted."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from atrank_lib.log import EventLog, EventLogError, Schema
from tests.shown import SCHEMA, shop_window

LOG = shop_window(users=6, behaviors=5)
ITEM = SCHEMA.groups["item"].model_dump(mode="json")


def with_impressions(table: pd.DataFrame) -> EventLog:
    return EventLog.from_tables(SCHEMA, LOG.events, LOG.objects, {"item": table})


def test_round_trip(tmp_path: Path) -> None:
    LOG.write(tmp_path / "log")
    again = EventLog.read(tmp_path / "log")
    pd.testing.assert_frame_equal(again.impressions["item"], LOG.impressions["item"])
    assert again.fingerprint() == LOG.fingerprint()
    (tmp_path / "log" / "item.impressions.parquet").unlink()
    table = LOG.impressions["item"].assign(labels=lambda t: t["labels"].map(" ".join))
    table.to_csv(tmp_path / "log" / "item.impressions.csv", index=False)
    assert EventLog.read(tmp_path / "log").fingerprint() == LOG.fingerprint()


def test_impressions_change_the_fingerprint_and_nothing_else_does() -> None:
    table = LOG.impressions["item"]
    assert with_impressions(table.assign(price=1.0)).fingerprint() != LOG.fingerprint()
    plain = Schema.model_validate(SCHEMA.model_dump() | {"groups": {"item": ITEM | {"context": {}}}})
    assert "context" not in plain.text()  # so that a log without it keeps its fingerprint
    log = EventLog.from_tables(plain, {"item": LOG.events["item"]}, {"item": LOG.objects["item"]})
    assert log.impressions == {}


def test_impressions_without_context_are_read_where_they_are(tmp_path: Path) -> None:
    plain = Schema.model_validate({"name": "lists", "groups": {"item": ITEM | {"context": {}}}})
    tables = {"item": LOG.events["item"]}, {"item": LOG.objects["item"]}
    log = EventLog.from_tables(plain, *tables, {"item": LOG.impressions["item"][["event", "object_id"]]})
    log.write(tmp_path / "log")
    assert EventLog.read(tmp_path / "log").impressions["item"].columns.tolist() == ["event", "object_id"]


def test_summary_counts_choices_and_what_was_shown() -> None:
    table, summary = LOG.impressions["item"], LOG.summary()
    assert summary.loc["item", ["choices", "shown"]].tolist() == [table["event"].nunique(), len(table)]
    assert pd.isna(summary.loc["other", "shown"])
    assert summary.loc["all groups", "shown"] == len(table)


FIRST = LOG.impressions["item"].iloc[0]
CHOSEN = LOG.events["item"]["object_id"][FIRST["event"]]


@pytest.mark.parametrize(
    ("spoiled", "column", "message"),
    [
        (lambda t: t.drop(columns="event"), "event", "the column is missing; add it"),
        (lambda t: t.drop(columns="price"), "price", "the column is missing; "),
        (lambda t: t.drop(columns="object_id"), "object_id", "the column is missing; add it"),
        (
            lambda t: t.assign(event=[None, *t["event"][1:]]).astype({"event": "Int64"}),
            "event",
            "is missing; every row",
        ),
        (
            lambda t: t.assign(event=[999, *t["event"][1:]]),
            "event",
            "no row of the events table, whose rows count from",
        ),
        (lambda t: t.assign(event=[-1, *t["event"][1:]]), "event", "no row of the events table"),
        (lambda t: t.assign(event=["3x", *t["event"][1:].astype(str)]), "event", "no row of the events table"),
        (lambda t: t.assign(event=["1.5", *t["event"][1:].astype(str)]), "event", "no row of the events table"),
        (lambda t: t.assign(event=t["event"] + 0.5), "event", "wrong kind: the column holds double"),
        (lambda t: t.assign(object_id=["x9", *t["object_id"][1:]]), "object_id", "not in the objects table"),
        (lambda t: t.assign(object_id=[None, *t["object_id"][1:]]), "object_id", "is missing; every row"),
        (lambda t: pd.concat([t, t.iloc[[0]]]), "object_id", "shown before for the same event"),
        (
            lambda t: t[(t["event"] != FIRST["event"]) | (t["object_id"] != CHOSEN)],
            "event",
            "the object that was chosen then is not among those that were shown",
        ),
        (lambda t: t.assign(price="cheap"), "price", "wrong kind"),
        (lambda t: t.assign(price=float("inf")), "price", "the value is infinite"),
        (lambda t: t.assign(place=1.5), "place", "wrong kind"),
        (lambda t: t.assign(labels="l1 l2"), "labels", "wrong kind"),
    ],
)
def test_a_faulty_table_says_where_and_what(spoiled, column, message) -> None:
    with pytest.raises(EventLogError) as caught:
        with_impressions(spoiled(LOG.impressions["item"]))
    said = [p for p in caught.value.problems if p.table == "item.impressions" and p.column == column]
    assert message in said[0].message
    assert said[0].row is not None or "column is missing" in message


def test_a_declared_table_must_be_there(tmp_path: Path) -> None:
    LOG.write(tmp_path / "log")
    (tmp_path / "log" / "item.impressions.parquet").unlink()
    with pytest.raises(EventLogError, match=r"item.impressions.parquet: the table is missing"):
        EventLog.read(tmp_path / "log")
    with pytest.raises(EventLogError, match=r"item.impressions: the table is missing"):
        EventLog.from_tables(SCHEMA, LOG.events, LOG.objects)
    with pytest.raises(EventLogError, match=r"thing.impressions: the schema has no such group"):
        EventLog.from_tables(SCHEMA, LOG.events, LOG.objects, LOG.impressions | {"thing": LOG.impressions["item"]})


@pytest.mark.parametrize(
    ("context", "message"),
    [
        ({"event": {"kind": "categorical"}}, "the context 'event' is a column or a feature already"),
        ({"object_id": {"kind": "categorical"}}, "the context 'object_id' is a column or a feature already"),
        ({"place": {"kind": "categorical", "vocabulary": "place"}}, "the context 'place' has a vocabulary of its own"),
        ({"place": {"kind": "number"}}, "not allowed; use one of categorical, tokens, continuous"),
        ({"place": {"kindd": "categorical"}}, "unknown key; "),
    ],
)
def test_a_faulty_context_says_what(context, message) -> None:
    with pytest.raises(EventLogError) as caught:
        Schema.checked({"name": "lists", "groups": {"item": ITEM | {"context": context}}})
    assert message in str(caught.value)
    assert "groups.item" in str(caught.value)
