"""The shard script against a log that is split with pandas."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner, Result

from atrank_lib.log.events import EventLog
from atrank_lib.log.sharded import ShardedLog
from data_scripts import shard
from data_scripts.marketplace import MarketplaceConfig
from data_scripts.simulate import simulate
from tests.random_logs import random_log
from tests.sharded import write
from tests.shown import shop_window

pytestmark = pytest.mark.filterwarnings(r"ignore:fetch_arrow_table\(\) is deprecated:DeprecationWarning")
app = typer.Typer()
app.command()(shard.main)


def prepare(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def assert_same(ours: ShardedLog, theirs: ShardedLog) -> None:
    assert ours.fingerprint() == theirs.fingerprint()
    assert ours.shards == theirs.shards
    for number in range(ours.shards):
        for name, events in ours.shard(number).events.items():
            pd.testing.assert_frame_equal(events, theirs.shard(number).events[name])


@pytest.mark.parametrize("shards", [1, 3, 8])
def test_simulated_log(shards: int, tmp_path: Path) -> None:
    log = simulate(MarketplaceConfig(users=80, behaviors=15, seed=2)).log
    log.write(tmp_path / "log")
    result = prepare("--data", tmp_path / "log", "--out", tmp_path / "out", "--shards", shards)
    assert result.exit_code == 0, result.output
    sharded = ShardedLog.read(tmp_path / "out")
    assert_same(sharded, ShardedLog.read(write(log, tmp_path / "expected", shards)))
    sizes = [extent[None].users for extent in sharded.extents()]
    behaviors = sum(map(len, log.events.values()))
    expected = f"{behaviors:,} behaviors of 80 users in {shards} shards, {min(sizes)} to {max(sizes)} users each"
    assert expected in result.stdout


def test_ties_empty_groups_and_odd_ids(tmp_path: Path) -> None:
    for seed in range(3):
        log = random_log(seed, users=7, behaviors=30)
        log.write(tmp_path / f"log{seed}")
        written = shard.write(tmp_path / f"log{seed}", tmp_path / f"out{seed}", 2)
        assert_same(written, ShardedLog.read(write(log, tmp_path / f"expected{seed}", 2)))


def test_numbers_as_ids(tmp_path: Path) -> None:
    log = random_log(0)
    log.write(tmp_path / "log")
    path = tmp_path / "log" / "item.events.parquet"
    frame = pd.read_parquet(path)
    frame.assign(user_id=range(100, 100 + len(frame))).to_parquet(path)
    written = shard.write(tmp_path / "log", tmp_path / "out", 2)
    found = {user for number in range(2) for user in written.shard(number).events["item"]["user_id"]}
    assert found == {str(100 + row) for row in range(len(frame))}


def as_csv(folder: Path) -> None:
    path = folder / "query.events.parquet"
    pd.read_parquet(path).to_csv(path.with_suffix(".csv"), index=False)
    path.unlink()


def changed(**columns: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "item.events.parquet"
        pd.read_parquet(path).assign(**columns).to_parquet(path)

    return change


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "csv": (as_csv, "query.events.csv: only Parquet is sharded; write the log with EventLog.read(...).write(...)"),
    "fractional times": (changed(timestamp=1.5), "item.events.parquet: timestamp is double; write whole numbers"),
    "missing user": (changed(user_id=None), "item.events.parquet, row 0: user_id is missing"),
    "unknown action": (changed(action="steal"), "shard-0000/item.events.parquet, column action, row 0, value 'steal'"),
    "unknown object": (changed(object_id="?"), "shard-0001/item.events.parquet, column object_id, row 0, value '?'"),
    "no table": (
        lambda folder: (folder / "coupon.events.parquet").unlink(),
        "coupon.events.parquet: the table is missing",
    ),
    "no parquet": (
        lambda folder: (folder / "item.events.parquet").write_bytes(b"PAR1"),
        "item.events.parquet: not a readable table of behaviors",
    ),
    "no schema": (lambda folder: (folder / "schema.yaml").unlink(), "schema.yaml"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_logs_leave_nothing_behind(case: str, tmp_path: Path) -> None:
    spoil, message = BROKEN[case]
    simulate(MarketplaceConfig(users=30, behaviors=15)).log.write(tmp_path / "log")
    spoil(tmp_path / "log")
    result = prepare("--data", tmp_path / "log", "--out", tmp_path / "out", "--shards", 2)
    assert result.exit_code == 1
    assert message in " ".join(result.stderr.split())
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_impressions_are_not_sharded(tmp_path: Path) -> None:
    shop_window(users=5).write(tmp_path / "log")
    result = prepare("--data", tmp_path / "log", "--out", tmp_path / "out", "--shards", 2)
    assert result.exit_code == 1
    assert "item.impressions.parquet: a sharded log has no impressions" in result.stderr
    assert not (tmp_path / "out").exists()


def test_more_shards_than_users(tmp_path: Path) -> None:
    random_log(1).write(tmp_path / "log")
    result = prepare("--data", tmp_path / "log", "--out", tmp_path / "out", "--shards", 50)
    assert result.exit_code == 1
    assert "the shard is empty; write the log again in fewer shards" in result.stderr
    assert not (tmp_path / "out").exists()


def test_existing_folder(tmp_path: Path) -> None:
    random_log(1).write(tmp_path / "log")
    call = ["--data", tmp_path / "log", "--out", tmp_path / "out", "--shards", 2]
    assert prepare(*call).exit_code == 0
    again = prepare(*call)
    assert again.exit_code == 1
    assert "exists already; choose another --out or pass --overwrite" in again.stderr
    assert prepare(*call, "--overwrite").exit_code == 0
    assert EventLog.read(tmp_path / "log").schema == ShardedLog.read(tmp_path / "out").schema
