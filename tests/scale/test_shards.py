"""A sharded log gives the same samples and the same training as the log it was made from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from atrank_lib.batches import Samples
from atrank_lib.cli import app
from atrank_lib.evaluation import AverageUserAUC, evaluate
from atrank_lib.grouping import GroupedHistories
from atrank_lib.log.events import EventLog
from atrank_lib.log.sharded import ShardedLog, read_log
from atrank_lib.model import ATRank, ATRankConfig
from atrank_lib.runs import load_run, train_run
from atrank_lib.samples import Protocol, Split, prepare
from atrank_lib.scale import Shards
from atrank_lib.training import Part, Training
from data_scripts.marketplace import MarketplaceConfig
from data_scripts.simulate import simulate
from experiments.tasks import TaskRecipe, TaskSteps
from tests.models import a_log
from tests.sharded import write

SIZES = {"embedding_size": 4, "hidden": 8, "spaces": 2}
RECIPE = TaskRecipe(epochs=2, batch_size=32, negatives=2, loss="pairwise", patience=None, average=0.9)


@pytest.fixture(scope="module")
def log() -> EventLog:
    return simulate(MarketplaceConfig(users=40, behaviors=16, seed=3, items=60, queries=40, coupons=30)).log


@pytest.fixture(scope="module")
def prepared(log: EventLog) -> tuple[GroupedHistories, Split]:
    return prepare(log, "validated")


@pytest.fixture(scope="module")
def sharded(log: EventLog, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(log, tmp_path_factory.mktemp("shards") / "four", 4)


@pytest.fixture(scope="module")
def shards(sharded: Path) -> Shards:
    return Shards.survey(ShardedLog.read(sharded), "validated")


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
    parts = list(shards)
    assert [part.number for part in parts] == [0, 1, 2, 3]
    for name in ("train", "validation", "test"):
        together = sum((sample_set(part.histories, getattr(part.split, name)) for part in parts), Counter())
        assert together == sample_set(histories, getattr(split, name))
    for part in parts:
        assert {name: len(samples) for name, samples in part.split.train.items()} == shards.sizes[part.number]


@pytest.mark.parametrize("seed", range(5))
def test_samples_with_ties_and_empty_groups(seed: int, tmp_path: Path) -> None:
    log = a_log(seed)
    histories, split = prepare(log, "validated")
    shards = Shards.survey(ShardedLog.read(write(log, tmp_path / "sharded", 2)), "validated")
    together = sum((sample_set(part.histories, part.split.train) for part in shards), Counter())
    assert together == sample_set(histories, split.train)
    assert shards.vocabularies == histories.vocabularies


def test_popularity_is_that_of_all_shards(prepared: tuple[GroupedHistories, Split], shards: Shards) -> None:
    histories, split = prepared
    recipe = TaskRecipe(negatives=200, negative_kind="popularity")
    for name, samples in split.train.items():
        counts = torch.bincount(samples.objects, minlength=len(histories.catalogs[name]))
        assert torch.equal(shards.popularity[name], counts)
        # what is popular in other shards is drawn here too
        drawn = shards[1].draw({name: shards[1].split.train[name]}, recipe, torch.Generator().manual_seed(0))
        assert set(drawn[name][:, 1:].flatten().tolist()) <= set(counts.nonzero()[:, 0].tolist())
        own = torch.bincount(shards[1].split.train[name].objects, minlength=len(counts))
        assert ((own == 0) & (counts > 0))[drawn[name][:, 1:]].any()


def training_of(
    parts: Sequence[Part], whole: GroupedHistories, recipe: TaskRecipe = RECIPE, sizes: Any = None
) -> Training:
    torch.manual_seed(0)
    model = ATRank(whole.schema, whole.vocabularies, ATRankConfig.model_validate(SIZES))
    return Training(model, parts, recipe, seed=5, sizes=sizes, steps=TaskSteps)


def trained(training: Training) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    while training.goes_on():
        training.epoch()
    timing = ("seconds", "cpu_seconds", "samples_per_second")
    epochs = [{k: v for k, v in entry.items() if k not in timing} for entry in training.finish().epochs]
    return training.model.state_dict(), epochs


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"negative_kind": "popularity", "redraw_negatives": False},
        {"task_mix": "uniform", "task_steps": "joint", "task_weights": "equal"},
    ],
    ids=str,
)
def test_one_shard_trains_to_the_same_bits(
    log: EventLog, prepared: tuple[GroupedHistories, Split], tmp_path: Path, changes: dict[str, Any]
) -> None:
    recipe, histories = RECIPE.model_copy(update=changes), prepared[0]
    expected, entries = trained(training_of([Part(*prepared)], histories, recipe))
    one = Shards.survey(ShardedLog.read(write(log, tmp_path / "one", 1)), "validated")
    found, same = trained(training_of(one, histories, recipe, one.sizes))
    assert entries == same
    assert all(torch.equal(value, found[name]) for name, value in expected.items())


class Counted(Sequence[Part]):
    """Parts that note which one is loaded."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts, self.loaded = parts, list[int]()

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, number: int) -> Part:  # type: ignore[override]
        part = self.parts[number]  # there is an end to them
        self.loaded.append(number)
        return part


def test_an_epoch_sees_all_shards_and_one_at_a_time(prepared: tuple[GroupedHistories, Split], shards: Shards) -> None:
    histories, split = prepared
    counted = Counted(shards)
    training = training_of(counted, histories, RECIPE.model_copy(update={"epochs": 4}), shards.sizes)
    counted.loaded.clear()  # whoever checks arguments looks at some
    _, entries = trained(training)
    everything = sum(len(samples) for samples in split.train.values())
    assert [entry["samples"] for entry in entries] == [everything] * 4
    assert [entry["steps"] for entry in entries] == [sum(map(training.steps.count, shards.sizes))] * 4
    assert entries[-1]["loss"] < entries[0]["loss"]
    epochs = [counted.loaded[i : i + 8] for i in range(0, 32, 8)]  # each with a validation
    assert len(counted.loaded) == 32
    for epoch in epochs:
        assert sorted(epoch[:4]) == epoch[4:] == [0, 1, 2, 3]
    assert len({tuple(epoch[:4]) for epoch in epochs}) > 1  # every epoch has its order


def test_users_of_all_shards_count_alike(prepared: tuple[GroupedHistories, Split], shards: Shards) -> None:
    halves = [AverageUserAUC(np.array([1.0, 1.0, 0.5]), 1), AverageUserAUC(np.array([0.0]), 0)]
    together = AverageUserAUC.over(halves)
    assert (float(together), together.users, together.skipped_users) == (0.625, 4, 1)
    training = training_of(shards, prepared[0], sizes=shards.sizes)
    validated, tested = training.validate(), shards.evaluate(training.model, negatives=3, seed=8)
    for name in prepared[1].test:
        found: dict[str, list[float]] = {"validation": [], "test": []}
        for part in shards:
            for which, seed, negatives in (("validation", part.number, 1), ("test", 8 + part.number, 3)):
                samples = {name: getattr(part.split, which)[name]}
                if len(samples[name]):
                    judged = evaluate(training.model, part.histories, samples, negatives=negatives, seed=seed)
                    found[which] += judged.per_user.tolist()
        assert len(found["test"]) > 20
        assert validated[name] == pytest.approx(np.mean(found["validation"]))
        assert tested.targets[name] == pytest.approx(np.mean(found["test"]))


def test_a_shard_that_is_not_there(shards: Shards) -> None:
    assert len(shards) == 4
    for number in (-1, 4):
        with pytest.raises(IndexError):
            shards[number]


def test_resumed_run_ends_with_the_same_bits(sharded: Path, tmp_path: Path) -> None:
    read = read_log(sharded)
    settings: dict[str, Any] = {"options": SIZES, "progress": False}
    train_run(read, tmp_path / "a", recipe=RECIPE, **settings)
    train_run(read, tmp_path / "b", recipe=RECIPE.model_copy(update={"epochs": 1}), **settings)
    train_run(read, tmp_path / "b", recipe=RECIPE, resume=True, **settings)
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


def test_no_training_samples_in_any_shard(log: EventLog, tmp_path: Path) -> None:
    sharded = write(log, tmp_path / "sharded", 4)
    for shard in range(4):
        path = sharded / f"shard-{shard:04d}" / "coupon.events.parquet"
        frame = pd.read_parquet(path)
        frame[~frame["user_id"].duplicated()].to_parquet(path)
    with pytest.raises(ValueError, match=r"group 'coupon' has no training sample .* at most 1 behaviors"):
        Shards.survey(ShardedLog.read(sharded), "validated")
    assert Shards.survey(ShardedLog.read(sharded), "validated", ["item"]).targets == ("item",)
