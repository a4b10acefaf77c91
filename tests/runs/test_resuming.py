"""Runs that stopped, or were killed, and went on: as if they had never stopped."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from atrank_lib.log.events import EventLog
from atrank_lib.runs import load_run
from atrank_lib.runs.folder import Checkpoints, load_weights, save_weights
from atrank_lib.samples import prepare
from atrank_lib.training import FitResult
from atrank_lib.variants import build
from experiments.tasks import TaskRecipe, TaskRunSteps
from tests.cases import even_log, make
from tests.runs import killed
from tests.runs.small import RECIPE, Train
from tools.project import ROOT


def assert_close(one: Path, two: Path) -> None:
    """Both runs hold the same weights, up to rounding."""
    found, expected = (load_file(run / "model.safetensors") for run in (one, two))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, msg=name)


@pytest.fixture(scope="module")
def full(log: EventLog) -> int:
    """The steps of an epoch."""
    train = prepare(log, "validated")[1].train
    return sum(-(-len(samples) // RECIPE.batch_size) for samples in train.values())


def test_an_epoch_that_was_cut_short_is_no_place_to_resume_from(train: Train, full: int, tmp_path: Path) -> None:
    for count, per_epoch, kept in (
        (full - 1, [full - 1], 0),
        (full, [full], 1),
        (full + 1, [full, 1], 1),
        (2 * full, [full] * 2, 2),
    ):
        run = tmp_path / str(count)
        result = train(run, max_steps=count, recipe=RECIPE.model_copy(update={"epochs": 3}))
        assert (result.steps, [e["steps"] for e in result.epochs], result.finished) == (count, per_epoch, False)
        assert Checkpoints(run).latest() == kept
        assert json.loads((run / "metrics.json").read_text())["steps"] == count


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("first", [1, 0])
def test_a_run_that_stopped_goes_on(train: Train, full: int, tmp_path: Path, first: int, optimizer: str) -> None:
    recipe = RECIPE.model_copy(update={"optimizer": optimizer, "average": 0.9 if optimizer == "adam" else 0.0})
    train(tmp_path / "straight", recipe=recipe)
    train(tmp_path / "stopped", recipe=recipe, max_steps=first * full + 2)
    result = train(tmp_path / "stopped", recipe=recipe, resume=True)
    assert (len(result.epochs), result.steps, result.finished) == (2, 2 * full, True)
    assert_close(tmp_path / "stopped", tmp_path / "straight")


def test_with_nothing_left_to_do_nothing_changes(trained: Path, run: Path, train: Train) -> None:
    before = FitResult.model_validate_json((run / "metrics.json").read_text())
    assert train(run, resume=True) == before
    assert_close(run, trained)


def test_half_a_checkpoint_is_ignored(trained: Path, train: Train, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(run, recipe=RECIPE.model_copy(update={"epochs": 1}))
    half = run / "checkpoints" / ".epoch-0002.3f9c00d2e4b1"
    half.mkdir()
    (half / "weights.safetensors").write_bytes(b"half of a fi")
    assert Checkpoints(run).latest() == 1
    train(run, resume=True)
    assert_close(run, trained)
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["epoch-0001", "epoch-0002"]
    # the optimizer's state is kept for the latest epoch alone
    assert [p.parent.name for p in run.glob("checkpoints/*/optimizer.safetensors")] == ["epoch-0002"]


@pytest.mark.parametrize(
    "changes",
    [{"task_weights": "uncertainty"}, {"task_mix": "uniform"}, {"task_steps": "joint"}, {"task_steps": "pcgrad"}],
    ids=str,
)
def test_so_do_runs_of_several_tasks(train: Train, tmp_path: Path, changes: dict[str, str]) -> None:
    recipe = TaskRecipe.model_validate({"epochs": 2, "batch_size": 16, "patience": None, "average": 0.9, **changes})
    whole = train(tmp_path / "straight", recipe=recipe, steps=TaskRunSteps)
    train(tmp_path / "stopped", recipe=recipe.model_copy(update={"epochs": 1}), steps=TaskRunSteps)
    again = train(tmp_path / "stopped", recipe=recipe, steps=TaskRunSteps, resume=True)
    assert_close(tmp_path / "stopped", tmp_path / "straight")
    for one, two in zip(whole.epochs, again.epochs, strict=True):
        assert one.get("task_weights", {}) == pytest.approx(two.get("task_weights", {}))
        assert one.get("conflicts") == two.get("conflicts")
    if "task_weights" in changes:
        assert set(whole.epochs[-1]["task_weights"].values()) != {1.0}


def comparable(run: Path) -> list[dict[str, Any]]:
    epochs = json.loads((run / "metrics.json").read_text())["epochs"]
    return [{name: entry[name] for name in ("epoch", "steps", "samples", "loss")} for entry in epochs]


def test_a_run_that_is_killed_goes_on(full: int, tmp_path: Path) -> None:
    """With all that training keeps besides weights: moments, averages, and the seeds of dropout."""
    command = [sys.executable, "-m", "tests.runs.killed", str(tmp_path / "killed"), str(full + 3)]
    assert subprocess.run(command, cwd=ROOT).returncode == -signal.SIGKILL
    assert Checkpoints(tmp_path / "killed").latest() == 1  # it died within the second epoch
    killed.train(tmp_path / "killed", resume=True)
    killed.train(tmp_path / "straight")
    assert_close(tmp_path / "killed", tmp_path / "straight")
    for found, expected in zip(comparable(tmp_path / "killed"), comparable(tmp_path / "straight"), strict=True):
        assert found == pytest.approx(expected, rel=1e-4)
    assert len(comparable(tmp_path / "killed")) == 3


@pytest.mark.parametrize("options", [{}, {"blocks": 2, "target_attention": "shared"}, {"object_bias": True}], ids=str)
def test_models_are_saved_with_their_shared_tables(tmp_path: Path, options: dict[str, Any]) -> None:
    case = make("atrank", even_log(17), "items", options)
    save_weights(case.model, tmp_path / "model.safetensors")
    other = build(case.log.schema, case.histories.vocabularies, case.model.config).double()
    assert not torch.equal(other(case.batch).scores, case.model(case.batch).scores)
    load_weights(other, tmp_path / "model.safetensors")
    save_weights(other, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()
    assert torch.equal(other(case.batch).scores, case.model(case.batch).scores)
    assert len(list(other.parameters())) == len(list(case.model.parameters()))


def test_a_run_is_loaded_with_the_weights_of_its_best_epoch(train: Train, tmp_path: Path) -> None:
    """Averaged ones, which are not those in training."""
    result = train(tmp_path / "run", recipe=RECIPE.model_copy(update={"average": 0.9}))
    epoch = tmp_path / "run" / "checkpoints" / f"epoch-{result.best_epoch:04d}"
    best, loaded = load_file(epoch / "weights.safetensors"), load_run(tmp_path / "run").model
    assert all(torch.equal(p, best[name]) for name, p in loaded.named_parameters())
    last = load_file(tmp_path / "run" / "checkpoints" / "epoch-0002" / "training.safetensors")
    assert any(not torch.equal(p, last[name]) for name, p in loaded.named_parameters())
