"""Rules for choices from lists against loops, and one cell of their table."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from atrank_lib.evaluation import fixed_candidates
from atrank_lib.impressions import prepare_shown
from atrank_lib.log import EventLog
from data_scripts import trivago
from experiments.cells import is_finished, run_cell
from experiments.choices import LISTS
from experiments.plans import plan
from experiments.records import read_record, unpack
from experiments.summary import read_table, table5
from experiments.tables import CONVERGED, SHOWN
from experiments.variations import without_place
from tests.data_scripts.test_trivago import some_rows, write
from tests.shown import shop_window

pytestmark = pytest.mark.filterwarnings(r"ignore:fetch_arrow_table\(\) is deprecated:DeprecationWarning")
LOG = shop_window()


def expected(name: str, before: list[str], item: str, shown: dict[str, float], places: dict[str, int]) -> float:
    last = max((n for n, other in enumerate(before, 1) if other == item), default=0)
    return {
        "again": last,
        "again-times": before.count(item),
        "place": -places[item],
        "cheapest": -shown[item],
        "again-then-place": 1_000 * last - places[item],
    }[name]


@pytest.mark.parametrize("name", LISTS)
def test_rules_order_a_list_as_loops_do(name: str) -> None:
    dear = LOG.impressions["item"]["price"].max()
    log = shop_window()
    log.impressions["item"]["place"] = (log.impressions["item"]["place"].astype(int) + 1).astype("str")
    histories, parts = prepare_shown(log, "validated", ["item"], choices=True)
    samples = parts.test["item"]
    rows = fixed_candidates(histories, parts.test, None, kind="impressions")["item"]
    scores = LISTS[name](histories, samples, rows.clamp(min=0), parts.train["item"])
    events, table = log.events["item"], log.impressions["item"]
    for i in range(len(samples)):
        row = int(histories.groups["item"].rows[samples.positions[i]])
        own = events[(events["user_id"] == events["user_id"][row]) & (events.index < row)]["object_id"].tolist()
        seen = table[table["event"] == row].set_index("object_id")
        items = [histories.catalogs["item"].object_ids[j] for j in rows[i].tolist() if j >= 0]
        prices, places = seen["price"].fillna(dear).to_dict(), seen["place"].astype(int).to_dict()
        right = [expected(name, own, item, prices, places) for item in items]
        found = scores[i, : len(items)].tolist()
        for a in range(len(items)):
            for b in range(a):
                assert (found[a] > found[b]) == (right[a] > right[b])
                assert (found[a] == found[b]) == (right[a] == right[b])


def test_cells_of_the_table(tmp_path: Path) -> None:
    trivago.prepare(write(tmp_path / "raw", some_rows(users=30, longest=60, hotels=200)), tmp_path / "log")
    log = EventLog.read(tmp_path / "log")
    names = ["place", "atrank-all2all", "atrank-one2one-placeless", "din-one2one"]
    cells = plan("shown", log, tmp_path / "results", names, seeds=1, profile="fast")
    assert [(cell.name, cell.judged) for cell in cells if cell.name == "place"] == [("place", ("item",))]
    for cell in cells:
        run_cell(tmp_path / "log", cell, tmp_path / "runs")
        assert is_finished(cell, log.fingerprint())
    folder = cells[0].folder
    found = read_table(folder)
    assert set(found) == {(cell.name, target) for cell in cells for target in cell.judged}
    assert ("atrank-all2all", "filter") in found
    assert table5(found)["AUC"].between(0, 1).all()

    histories, parts = prepare_shown(log, "validated", ["item"], choices=True)
    rows = fixed_candidates(histories, parts.test, None, kind="impressions")["item"]
    table = log.impressions["item"]
    aucs = []
    for row, target in zip(
        histories.groups["item"].rows[parts.test["item"].positions].tolist(), parts.test["item"].objects, strict=True
    ):
        seen = table[table["event"] == row]
        chosen = seen["object_id"] == histories.catalogs["item"].object_ids[int(target)]
        aucs.append(roc_auc_score(chosen, -seen["place"].astype(int)))
    assert rows.shape[0] == len(aucs)
    record = read_record(folder / "place-item-seed0.json")
    assert record["average_user_auc"] == pytest.approx(sum(aucs) / len(aucs))
    assert sorted(unpack(record["per_user"])) == pytest.approx(sorted(aucs), abs=1e-6)
    record = read_record(folder / "atrank-all2all-item-seed0.json")
    assert record["negatives"] is None
    assert record["random"]["users"] == record["users"] == len(aucs)
    assert "random" not in read_record(folder / "atrank-all2all-filter-seed0.json")


def test_without_place_forgets_the_place_alone() -> None:
    log = without_place(LOG)
    assert list(log.schema.groups["item"].context) == ["price", "labels"]
    pd.testing.assert_frame_equal(log.impressions["item"], LOG.impressions["item"].drop(columns="place"))
    assert all(row.choices for row in SHOWN.values())
    assert not LISTS.keys() & CONVERGED.keys()
