"""Files of pairs: what they mean in a log, every problem at once, and the scores beside the rows as they came."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from atrank_lib.grouping import GroupedHistories
from atrank_lib.log.events import EventLog, EventLogError
from atrank_lib.serve.pairs import read_pairs


@pytest.fixture
def histories(tiny_log: EventLog) -> GroupedHistories:
    return GroupedHistories.from_log(tiny_log)


def save(frame: pd.DataFrame, file: Path) -> Path:
    if file.suffix == ".csv":
        frame.to_csv(file, index=False)
    else:
        frame.to_parquet(file, index=False)
    return file


PAIRS = pd.DataFrame(
    {
        "label": ["007", "b", "c, d"],
        "object_id": ["i3", "i1", "i3"],
        "user_id": ["bert", "anna", "emil"],
        "timestamp": [90, 10, 20],
    }
)


@pytest.mark.parametrize("into", [".csv", ".parquet"])
@pytest.mark.parametrize("kind", [".csv", ".parquet"])
def test_rows_come_back_as_they_were(histories: GroupedHistories, tmp_path: Path, kind: str, into: str) -> None:
    pairs = read_pairs(save(PAIRS, tmp_path / f"in{kind}"), histories, "item")
    assert [histories.user_ids[u] for u in pairs.users.tolist()] == PAIRS["user_id"].tolist()
    assert [histories.catalogs["item"].object_ids[o] for o in pairs.objects.tolist()] == PAIRS["object_id"].tolist()
    assert pairs.times is not None
    assert pairs.times.tolist() == [90, 10, 20]
    out = tmp_path / f"out{into}"
    out.write_text("of another time")
    pairs.write(out, torch.tensor([0.5, -1.25, 1e-9]))
    back = pd.read_csv(out, dtype={"label": str}) if into == ".csv" else pd.read_parquet(out)
    assert list(back) == [*PAIRS, "score"]
    assert back["score"].tolist() == pytest.approx([0.5, -1.25, 1e-9])
    assert back[list(PAIRS)].astype(str).equals(PAIRS.astype(str))
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([f"in{kind}", f"out{into}"])


def test_without_timestamps(histories: GroupedHistories, tmp_path: Path) -> None:
    assert read_pairs(save(PAIRS.drop(columns="timestamp"), tmp_path / "in.csv"), histories, "item").times is None


def test_all_problems_at_once(histories: GroupedHistories, tmp_path: Path) -> None:
    bad = pd.DataFrame(
        {
            "user_id": ["anna", "zoe", "bert", None, "zoe"],
            "object_id": ["i1", "i2", "q1", "i2", "i2"],
            "timestamp": [1.0, 2.0, 2.5, 3.0, float("nan")],
            "score": 0.0,
        }
    )
    for kind in ("csv", "parquet"):
        with pytest.raises(EventLogError) as caught:
            read_pairs(save(bad, tmp_path / f"in.{kind}"), histories, "item")
        found = "\n".join(map(str, caught.value.problems))
        for part in (
            f"in.{kind}",
            "'zoe'",
            "the log has no behavior of this user; leave the row out",
            "row 1",
            "'q1'",
            "no object of group 'item'; correct the id",
            "row 2",
            "is missing; every row needs one",
            "row 3",
            "the time is fractional",
            "the time is missing",
            "row 4",
            "rename it",
        ):
            assert part in found, (part, found)


def test_moments_far_from_the_log_are_named_with_what_may_be_meant(histories: GroupedHistories, tmp_path: Path) -> None:
    file = save(PAIRS.assign(timestamp=[86_400, 5_000_000_000, 86_400]), tmp_path / "in.csv")
    with pytest.raises(EventLogError) as caught:
        read_pairs(file, histories, "item")
    assert str(caught.value) == (
        "in.csv, column timestamp, row 1, value 5000000000: far from the log, whose behaviors go from 1970-01-01 to "
        "1970-03-02 in its timestamp_unit, s; as ms it would be 1970-02-27: write 5000000; as us it would be "
        "1970-01-01: write 5000; as ns it would be 1970-01-01: write 5"
    )


def test_missing_columns_and_rows(histories: GroupedHistories, tmp_path: Path) -> None:
    file = save(PAIRS.rename(columns={"user_id": "userid"}), tmp_path / "in.csv")
    with pytest.raises(EventLogError, match="rename 'userid', or add it"):
        read_pairs(file, histories, "item")
    with pytest.raises(EventLogError, match="there is no pair"):
        read_pairs(save(PAIRS.iloc[:0], tmp_path / "in.parquet"), histories, "item")
    with pytest.raises(EventLogError, match="cannot be read as parquet"):
        read_pairs(tmp_path / "none.parquet", histories, "item")
    with pytest.raises(ValueError, match=r"ends in \.parquet or \.csv"):
        read_pairs(tmp_path / "in.txt", histories, "item")
    with pytest.raises(ValueError, match=r"group: \['shop'\]"):
        read_pairs(file, histories, "shop")


def test_nothing_is_left_when_writing_fails(histories: GroupedHistories, tmp_path: Path) -> None:
    pairs = read_pairs(save(PAIRS, tmp_path / "in.csv"), histories, "item")
    with pytest.raises(ValueError, match="length"):
        pairs.write(tmp_path / "out.csv", torch.zeros(2))
    with pytest.raises(OSError, match="nowhere"):
        pairs.write(tmp_path / "nowhere" / "out.csv", torch.zeros(3))
    assert [p.name for p in tmp_path.iterdir()] == ["in.csv"]
