"""Sharded logs hold the same users, samples and training as the logs they were made from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from atrank_lib.cli import app
from atrank_lib.evaluation import AverageUserAUC
from atrank_lib.grouping import GroupedHistories
from atrank_lib.log.events import EventLog, EventLogError
from atrank_lib.log.sharded import ShardedLog, read_log
from atrank_lib.model import ATRank, ATRankConfig
from atrank_lib.parts import Part, Whole
from atrank_lib.recipes import Recipe
from atrank_lib.runs import load_run, prepare, train_run
from atrank_lib.samples import Protocol, Samples
from atrank_lib.scale.shards import Shards
from atrank_lib.training import fit
from data_scripts.marketplace import MarketplaceConfig
from data_scripts.simulate import simulate
from tests.log.test_sharded import BROKEN, write
from tests.random_logs import random_log

CONFIG = ATRankConfig(embedding_size=4, hidden=8, spaces=2)
RECIPE = Recipe(epochs=2, batch_size=32, negatives=2, loss="pairwise", patience=None, average=0.9)


@pytest.fixture(scope="module")
def log() -> EventLog:
    return simulate(MarketplaceConfig(users=60, behaviors=20, seed=3, items=60, queries=40, coupons=30)).log


@pytest.fixture
def sharded(log: EventLog, tmp_path: Path) -> Path:
    return write(log, tmp_path / "sharded", 4)


def sample_set(histories: GroupedHistories, tasks: dict[str, Samples]) -> Counter:
    """Every sample by itself: user, moment, target, and the objects, actions and times of its history."""
    found: Counter = Counter()
    for name, samples in tasks.items():
        for i in range(len(samples)):
            user = int(samples.users[i])
            history = []
            for g, (group, own) in enumerate(histories.groups.items()):
                piece = slice(int(own.offsets[user]), int(samples.ends[i, g]))
                ids = [histories.catalogs[group].object_ids[row] for row in own.objects[piece].tolist()]
                history.append((group, *ids, *own.actions[piece].tolist(), *own.timestamps[piece].tolist()))
            target = histories.catalogs[name].object_ids[int(samples.objects[i])]
            found[histories.user_ids[user], name, int(samples.times[i]), target, *history] += 1
    return found


@pytest.mark.parametrize("protocol", ["paper", "validated", "global_time"])
def test_samples_are_those_of_the_whole_log(log: EventLog, sharded: Path, protocol: Protocol) -> None:
    histories, split = prepare(log, protocol)
    shards = Shards.survey(ShardedLog.read(sharded), protocol)
    assert shards.vocabularies == histories.vocabularies
    parts = list(shards.in_order())
    for ours, theirs in ((split.train, "train"), (split.validation, "validation"), (split.test, "test")):
        together = sum((sample_set(part.histories, getattr(part.split, theirs)) for part in parts), Counter())
        assert together == sample_set(histories, ours)
    assert {name: len(samples) for name, samples in shards.totals().items()} == {
        name: len(samples) for name, samples in split.train.items()
    }
    for part in parts:
        assert {name: len(samples) for name, samples in part.split.train.items()} == shards.sizes[part.number]


@pytest.mark.parametrize("seed", range(5))
def test_samples_with_ties_and_empty_groups(seed: int, tmp_path: Path) -> None:
    log = random_log(seed, users=7, behaviors=25)
    histories, split = prepare(log, "validated")
    read = ShardedLog.read(write(log, tmp_path / "sharded", 2))
    shards = Shards.survey(read, "validated")
    together = sum((sample_set(part.histories, part.split.train) for part in shards.in_order()), Counter())
    assert together == sample_set(histories, split.train)
    assert shards.vocabularies == histories.vocabularies


def test_popularity_is_that_of_all_shards(log: EventLog, sharded: Path) -> None:
    histories, split = prepare(log, "validated")
    shards = Shards.survey(ShardedLog.read(sharded), "validated")
    for name, samples in split.train.items():
        counts = torch.bincount(samples.objects, minlength=len(histories.catalogs[name]))
        assert torch.equal(shards.popularity[name], counts)
        line = shards.load(1).samplers("popularity")[name].line
        assert torch.equal(line.diff(), counts)


def test_every_epoch_has_its_order(log: EventLog, sharded: Path) -> None:
    shards = Shards.survey(ShardedLog.read(sharded), "validated")
    orders = [[part.number for part in shards.shuffled(seed)] for seed in (0, 0, 1, 2, 3)]
    assert orders[0] == orders[1]
    assert len({tuple(order) for order in orders}) > 1
    assert all(sorted(order) == [0, 1, 2, 3] for order in orders)


def trained(data: GroupedHistories | Shards, split: object = None, recipe: Recipe = RECIPE, **options: object) -> tuple:
    torch.manual_seed(0)
    schema = data.schema if isinstance(data, GroupedHistories) else data.log.schema
    model = ATRank(schema, data.vocabularies, CONFIG)
    result = fit(model, data, split, recipe, seed=5, progress=False, **options)  # type: ignore[arg-type]
    timing = ("seconds", "cpu_seconds", "samples_per_second")
    return model, [{k: v for k, v in entry.items() if k not in timing} for entry in result.epochs]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"negative_kind": "popularity", "redraw_negatives": False},
        {"task_mix": "uniform", "task_steps": "joint", "task_weights": "equal"},
    ],
)
def test_one_shard_trains_to_the_same_bits(log: EventLog, tmp_path: Path, changes: dict) -> None:
    recipe = RECIPE.model_copy(update=changes)
    whole, entries = trained(*prepare(log, "validated"), recipe=recipe)
    read = ShardedLog.read(write(log, tmp_path / "sharded", 1))
    model, same = trained(Shards.survey(read, "validated"), recipe=recipe)
    assert entries == same
    for name, value in whole.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


def test_an_epoch_sees_all_shards_and_one_at_a_time(
    log: EventLog, sharded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = Shards.survey(ShardedLog.read(sharded), "validated")
    loaded = []

    def load(self: Shards, number: int) -> Part:
        loaded.append(number)
        return original(self, number)

    original: Callable[[Shards, int], Part] = Shards.load
    monkeypatch.setattr(Shards, "load", load)
    _, entries = trained(shards)
    everything = sum(len(samples) for samples in shards.totals().values())
    assert [entry["samples"] for entry in entries] == [everything, everything]
    assert entries[1]["loss"] < entries[0]["loss"]
    assert len(loaded) == 16  # two epochs, each with a validation
    for epoch in (loaded[:4], loaded[4:8], loaded[8:12], loaded[12:]):
        assert sorted(epoch) == [0, 1, 2, 3]
    assert loaded[4:8] == loaded[12:] == [0, 1, 2, 3]


def test_validation_samples_and_their_mean(log: EventLog, sharded: Path) -> None:
    halves = [AverageUserAUC(np.array([1.0, 1.0, 0.5]), 1), AverageUserAUC(np.array([0.0]), 0)]
    together = AverageUserAUC.over(halves)
    assert (float(together), together.users, together.skipped_users) == (0.625, 4, 1)
    histories, split = prepare(log, "validated")
    whole, shards = Whole(histories, split), Shards.survey(ShardedLog.read(sharded), "validated")
    sizes = [sum(len(part.validation[name]) for part in shards.in_order()) for name in split.validation]
    assert sizes == [len(whole.part.validation[name]) for name in split.validation]


def test_resumed_run_ends_with_the_same_bits(log: EventLog, sharded: Path, tmp_path: Path) -> None:
    read = read_log(sharded)
    train_run(read, tmp_path / "a", options=CONFIG, recipe=RECIPE, progress=False)
    train_run(read, tmp_path / "b", options=CONFIG, recipe=RECIPE.model_copy(update={"epochs": 1}), progress=False)
    train_run(read, tmp_path / "b", options=CONFIG, recipe=RECIPE, resume=True, progress=False)
    ours, theirs = (load_run(tmp_path / run).model.state_dict() for run in ("a", "b"))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_command_line(log: EventLog, sharded: Path, tmp_path: Path) -> None:
    run, one = tmp_path / "run", write(log, tmp_path / "one", 1)
    log.write(tmp_path / "whole")
    command = ["--recipe", "small", "--epochs", "1", "--max-steps", "30"]
    for data, out in ((sharded, run), (tmp_path / "whole", tmp_path / "run_whole")):
        done = CliRunner().invoke(app, ["train", "--data", str(data), "--out", str(out), *command])
        assert done.exit_code == 0, done.output
    results = []
    for data in (tmp_path / "whole", one):
        done = CliRunner().invoke(app, ["evaluate", "--run", str(run), "--data", str(data), "--json"])
        assert done.exit_code == 0, done.output
        results.append(json.loads(done.stdout))
    assert results[0] == results[1]
    done = CliRunner().invoke(app, ["evaluate", "--run", str(run), "--data", str(sharded), "--json"])
    assert json.loads(done.stdout)["users"] == results[0]["users"]
    lists = []
    for data in (tmp_path / "whole", sharded):
        asked = ["rank", "--run", str(run), "--data", str(data), "--user", "user7", "--group", "item", "--json"]
        done = CliRunner().invoke(app, asked)
        assert done.exit_code == 0, done.output
        lists.append([entry["object_id"] for entry in json.loads(done.stdout)])
    assert lists[0] == lists[1]
    shown = CliRunner().invoke(app, ["check", str(sharded)]).stdout
    assert f"in 4 shards, fingerprint {ShardedLog.read(sharded).fingerprint()}" in shown


@pytest.mark.parametrize("case", BROKEN)
def test_broken_shards_are_all_named(case: str, sharded: Path) -> None:
    spoil, words = BROKEN[case]
    spoil(sharded)
    done = CliRunner().invoke(app, ["check", str(sharded)])
    assert done.exit_code == 1
    for word in words:
        assert word in done.stderr
    with pytest.raises(EventLogError):
        Shards.survey(ShardedLog.read(sharded), "validated")


def test_no_training_samples_in_any_shard(sharded: Path) -> None:
    for shard in range(4):
        path = sharded / f"shard-{shard:04d}" / "coupon.events.parquet"
        frame = pd.read_parquet(path)
        frame[~frame["user_id"].duplicated()].to_parquet(path)
    with pytest.raises(ValueError, match=r"group 'coupon' has no training sample .* at most 1 behaviors"):
        Shards.survey(ShardedLog.read(sharded), "validated")
    assert Shards.survey(ShardedLog.read(sharded), "validated", ["item"]).targets == ("item",)


def test_histories_without_a_split(log: EventLog) -> None:
    histories, _ = prepare(log, "validated")
    with pytest.raises(ValueError, match="histories without a split"):
        fit(ATRank(log.schema, histories.vocabularies, CONFIG), histories)
