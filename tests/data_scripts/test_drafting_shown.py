"""`atrank init` with tables of impressions: what comes out, and what is said of a faulty one."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from atrank_lib.log import EventLog, EventLogError
from data_scripts.drafting import Hints, draft
from tests.cli.runner import atrank
from tests.shown import shop_window

LOG = shop_window(users=8)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """The tables of a shop under names of its own, and a group without impressions."""
    folder = tmp_path / "raw"
    folder.mkdir()
    names = {"user_id": "customer_id", "timestamp": "clicked_at", "object_id": "sku"}
    LOG.events["item"].rename(columns=names).to_csv(folder / "item.events.csv", index=False)
    LOG.objects["item"].rename(columns={"object_id": "sku"}).to_csv(folder / "item.objects.csv", index=False)
    shown = LOG.impressions["item"].rename(columns={"object_id": "sku"})
    shown.assign(labels=shown["labels"].map("|".join)).to_csv(folder / "item.impressions.csv", index=False)
    LOG.events["other"].to_csv(folder / "other.events.csv", index=False)
    return folder


def test_impressions_are_drafted(raw: Path, tmp_path: Path) -> None:
    said: list[str] = []
    made = draft(raw, Hints(kinds={"place": "categorical"}), say=said.append)
    made.write(tmp_path / "log")
    log = EventLog.read(tmp_path / "log")
    context = {name: spec.kind for name, spec in log.schema.groups["item"].context.items()}
    assert context == {"place": "categorical", "price": "continuous", "labels": "tokens"}
    pd.testing.assert_frame_equal(log.impressions["item"], LOG.impressions["item"])
    assert "  impressions from item.impressions.csv: event counts its events from 0, sku was shown" in said
    assert "  place there is categorical: as you say" in said
    text = (tmp_path / "log" / "schema.yaml").read_text()
    assert "    context:" in text
    assert "      price: {kind: continuous}" in text
    assert not any("not used" in line for line in said)


def test_groups_are_added_beside_impressions(raw: Path, tmp_path: Path) -> None:
    draft(raw).write(tmp_path / "log")
    more = tmp_path / "more"
    more.mkdir()
    LOG.events["other"].to_csv(more / "third.events.csv", index=False)
    made = draft(more, add_to=tmp_path / "log")
    assert made.log.impressions["item"].shape == LOG.impressions["item"].shape


def test_tables_that_are_fit_stay_where_they_are(tmp_path: Path) -> None:
    LOG.write(tmp_path / "log")
    (tmp_path / "log" / "schema.yaml").unlink()
    before = {path.name: path.read_bytes() for path in (tmp_path / "log").iterdir()}
    assert atrank("init", tmp_path / "log", "--kind", "place=categorical").code == 0
    assert EventLog.read(tmp_path / "log").impressions["item"].shape == LOG.impressions["item"].shape
    assert before == {name: (tmp_path / "log" / name).read_bytes() for name in before}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="event"), "no column is called event, the row of item.events.csv"),
        (lambda t: t.drop(columns="sku"), "no column says which object was shown; call it sku or object_id"),
        (lambda t: t.assign(event=999), "item.impressions.csv, column event, row 0, value '999': no row of the events"),
        (lambda t: t.assign(sku="x9"), "item.impressions.csv, column sku, row 0, value 'x9': the object is not in"),
        (lambda t: pd.concat([t, t.iloc[[0]]]), "column sku, row"),
        (lambda t: t.iloc[:0], "item.impressions.csv: the table has no row"),
    ],
)
def test_a_faulty_table_is_named(raw: Path, change, message: str) -> None:
    file = raw / "item.impressions.csv"
    change(pd.read_csv(file, dtype=str)).to_csv(file, index=False)
    with pytest.raises(EventLogError) as caught:
        draft(raw)
    assert message in str(caught.value)
    assert not (raw / "schema.yaml").exists()


def test_a_kind_of_no_column_is_refused(raw: Path) -> None:
    with pytest.raises(EventLogError, match="no such column describes an object, but 'place'"):
        draft(raw, Hints(kinds={"plase": "categorical"}))
