"""The records that the chapter on speed reads hold all that it compares."""

from __future__ import annotations

import pytest

from benchmarks.bench import EPOCH, PLAIN
from benchmarks.growth import POINTS
from benchmarks.ours import STEPS
from benchmarks.ragged import SETTINGS
from benchmarks.worker import PEERS
from experiments.records import read_record
from tools.project import ROOT

SPEED = ROOT / "results" / "speed"
OURS = ["atrank", "bi-lstm", "din", "bst", "atrank-workers", "bi-lstm-workers"]


@pytest.mark.parametrize("setting", ["32-50-full", "32-50-ragged", "1024-50-full", EPOCH])
def test_every_contender_is_in_the_record(setting):
    rows = read_record(SPEED / "peers.json")["rows"]
    measured = {row["contender"] for row in rows if row["setting"] == setting}
    assert [name for name in (*PLAIN, *STEPS, *OURS, *PEERS) if name not in measured] == []


def test_every_point_of_every_curve_is_in_the_record():
    rows = read_record(SPEED / "growth.json")["rows"]
    assert {(row["curve"], row["value"]) for row in rows} == {(point.curve, point.value) for point in POINTS}


def test_every_way_of_attending_is_in_the_record_or_says_why_not():
    rows = read_record(SPEED / "ragged.json")["rows"]
    wanted = {(setting, what) for setting in SETTINGS for what in ("forwards", "both")}
    for way in ("padded", "nested", "flex", "varlen", "kernel"):
        own = [row for row in rows if row["way"] == way]
        assert {(row["setting"], row["what"]) for row in own} == wanted
        assert all(("refused" in row) != ("cpu_ms" in row) for row in own)
