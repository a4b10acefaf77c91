"""Sharded logs: every behavior once and in its order, the numbers of the whole log, and what is wrong with them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from atrank_lib.cli import app
from atrank_lib.log import EventLog, EventLogError, ShardedLog
from atrank_lib.log.sharded import shard_of
from atrank_lib.scale import Shards
from data_scripts.marketplace import MarketplaceConfig
from data_scripts.simulate import simulate
from tests.sharded import number, write


@pytest.fixture(scope="module")
def log() -> EventLog:
    return simulate(MarketplaceConfig(users=60, behaviors=20, seed=3, items=60, queries=40, coupons=30)).log


@pytest.fixture
def sharded(log: EventLog, tmp_path: Path) -> Path:
    return write(log, tmp_path / "sharded", 4)


def test_shard_of() -> None:
    users = [f"user{i}" for i in range(2000)] + ["", "Zoë", "用户"]
    assert [shard_of(user, 7) for user in users] == [number(user, 7) for user in users]
    sizes = np.bincount([shard_of(user, 16) for user in users])
    assert len(sizes) == 16
    assert sizes.min() > 80  # 125 expected, with a deviation of 11


def test_shards_hold_every_behavior_once_and_in_order(log: EventLog, sharded: Path) -> None:
    read = ShardedLog.read(sharded)
    assert read.shards == 4
    users: list[str] = []
    for shard in (read.shard(k) for k in range(read.shards)):
        mine = set().union(*(events["user_id"] for events in shard.events.values()))
        users += mine
        for name, events in shard.events.items():
            whole = log.events[name]
            pd.testing.assert_frame_equal(events, whole[whole["user_id"].isin(mine)].reset_index(drop=True))
            pd.testing.assert_frame_equal(shard.objects[name], log.objects[name])
    assert sorted(users) == sorted(set().union(*(events["user_id"] for events in log.events.values())))
    assert len(read.of_user(users[0]).events) == len(log.events)


def test_summary_and_fingerprint(log: EventLog, sharded: Path, tmp_path: Path) -> None:
    read = ShardedLog.read(sharded)
    pd.testing.assert_frame_equal(read.summary(), log.summary())
    assert read.fingerprint() == ShardedLog.read(sharded).fingerprint()
    path = sharded / "shard-0002" / "item.events.parquet"
    frame = pd.read_parquet(path)
    frame.assign(timestamp=frame["timestamp"] + 1).to_parquet(path)
    assert ShardedLog.read(sharded).fingerprint() != read.fingerprint()


def spoil_user(folder: Path) -> None:
    path = folder / "shard-0001" / "query.events.parquet"
    frame = pd.read_parquet(path)
    frame.loc[2, "user_id"] = next(f"x{i}" for i in range(99) if shard_of(f"x{i}", 4) == 3)
    frame.to_parquet(path)


def spoil_object(folder: Path) -> None:
    for shard in (0, 3):
        path = folder / f"shard-{shard:04d}" / "item.events.parquet"
        pd.read_parquet(path).assign(object_id="nothing").to_parquet(path)


def empty(folder: Path) -> None:
    for path in (folder / "shard-0002").iterdir():
        pd.read_parquet(path).iloc[:0].to_parquet(path)


def renumber(folder: Path) -> None:
    (folder / "shard-0001").rename(folder / "shard-0007")


BROKEN: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "user of another shard": (spoil_user, ["shard-0001/query.events", "row 2", "belongs to number 3"]),
    "unknown objects": (
        spoil_object,
        ["shard-0000/item.events.parquet", "shard-0003/item.events.parquet", "'nothing'"],
    ),
    "empty shard": (empty, ["shard-0002: the shard is empty", "fewer shards"]),
    "missing shard": (renumber, ["shard-0001: 4 shards are numbered from 0"]),
    "missing table": (
        lambda folder: (folder / "shard-0000" / "coupon.events.parquet").unlink(),
        ["shard-0000/coupon.events.parquet: the table is missing"],
    ),
    "lost shard": (lambda folder: shutil.rmtree(folder / "shard-0003"), ["of 3 shards, this user belongs to"]),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_shards_are_all_named(case: str, sharded: Path) -> None:
    spoil, words = BROKEN[case]
    spoil(sharded)
    with pytest.raises(EventLogError) as caught:
        ShardedLog.read(sharded).check()
    done = CliRunner().invoke(app, ["check", str(sharded)])
    assert done.exit_code == 1
    for word in words:
        assert word in str(caught.value)
        assert word in done.stderr
    with pytest.raises(EventLogError):
        Shards.survey(ShardedLog.read(sharded), "validated")


def test_wrong_kind_of_log(log: EventLog, sharded: Path, tmp_path: Path) -> None:
    with pytest.raises(EventLogError, match="a sharded log; read it shard by shard"):
        EventLog.read(sharded)
    log.write(tmp_path / "whole")
    with pytest.raises(EventLogError, match=r"no sharded log \(shard-0000 is missing\)"):
        ShardedLog.read(tmp_path / "whole")
    (sharded / "item.objects.parquet").unlink()
    with pytest.raises(EventLogError, match=r"item.objects.parquet: the table is missing"):
        ShardedLog.read(sharded)
