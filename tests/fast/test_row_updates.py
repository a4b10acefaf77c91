"""Updates of a batch's rows against updates of whole tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from atrank_lib import Recipe, fit
from atrank_lib.fast import RowSteps, off, row_updates
from atrank_lib.grouping import GroupedHistories
from atrank_lib.ranking import Model, Scores
from atrank_lib.runs import train_run
from atrank_lib.samples import Split, batches, prepare
from atrank_lib.training import FitResult, Steps
from data_scripts.simulate import MarketplaceConfig, simulate
from experiments.tasks import TaskRecipe, TaskSteps
from tests.models import VARIANTS as OPTIONS
from tests.models import WAYS, a_log, fitting, make


@pytest.fixture(scope="module")
def prepared() -> tuple[GroupedHistories, Split]:
    return prepare(simulate(MarketplaceConfig(users=60, seed=3)).log, "paper")


def exact(kind: type[Steps], **options: Any) -> Callable[[Model, Recipe, Mapping[str, int]], Steps]:
    """Steps with hardly any eps, so that the closed form is no approximation."""

    def made(model: Model, recipe: Recipe, tasks: Mapping[str, int]) -> Steps:
        steps = kind(model, recipe, tasks, **options)
        for group in steps.optimizer.param_groups:
            if "eps" in group:
                group["eps"] = 1e-30
        return steps

    return made


class AllInRows(RowSteps):
    """However small a table is."""

    def __init__(self, model: Model, recipe: Recipe, tasks: Mapping[str, int]) -> None:
        super().__init__(model, recipe, tasks, least=2)


class TaskRowSteps(TaskSteps, AllInRows):
    """Of many tasks, and of a batch's rows alone."""


WHOLE, ROWS = exact(TaskSteps), exact(TaskRowSteps)


def trained(
    way: str,
    prepared: tuple[GroupedHistories, Split],
    recipe: Recipe,
    steps: Callable[[Model, Recipe, Mapping[str, int]], Steps],
    count: int = 40,
) -> tuple[FitResult, dict[str, Tensor]]:
    """In 64 bits, so that differences are no rounding."""
    histories, split = prepared
    model = make(way, histories)[0].double()
    result = fit(model, histories, split, recipe, max_steps=count, progress=False, steps=steps)
    return result, dict(model.named_parameters())


def large_tables(steps: RowSteps) -> int:
    return sum(map(len, steps.tables.values()))


def test_which_tables_are_updated_by_rows(prepared: tuple[GroupedHistories, Split]) -> None:
    model, _ = make("atrank", prepared[0])
    everything = len(list(model.parameters()))
    tables = len(prepared[0].vocabularies.words)
    for steps in (
        RowSteps(model, Recipe(), {"item": 1}),  # all tables are small
        RowSteps(model, Recipe(optimizer="adamw", weight_decay=0.1), {"item": 1}, least=1),  # all rows move anyway
    ):
        assert not large_tables(steps)
        assert len(steps.leading) == everything
    steps = RowSteps(model, Recipe(average=0.9), {"item": 1}, least=1)
    assert large_tables(steps) == tables
    assert len(steps.leading) == len(steps.following) == everything - tables
    assert len(steps.parameters()) == everything
    assert row_updates.large(32) < row_updates.large(512)


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "adam"},
        {"optimizer": "adam", "average": 0.99},
        {"optimizer": "adamw", "average": 0.9, "decay_rate": 0.5, "decay_steps": 10},
        {"optimizer": "sgd", "learning_rate": 0.3},
        {"optimizer": "sgd", "learning_rate": 0.3, "average": 0.99},
        {"optimizer": "adam", "task_steps": "joint", "l2": 1e-3},
        {"optimizer": "adam", "task_steps": "pcgrad", "average": 0.9},
        {"optimizer": "adam", "task_weights": "uncertainty", "gradient_clip": None},
    ],
    ids=str,
)
def test_training_in_rows_is_training_as_a_whole(
    prepared: tuple[GroupedHistories, Split], changes: dict[str, Any]
) -> None:
    recipe = TaskRecipe.model_validate({"batch_size": 8, "epochs": 1, "learning_rate": 3e-3, **changes})
    whole, expected = trained("atrank", prepared, recipe, WHOLE)
    rows, found = trained("atrank", prepared, recipe, ROWS)
    assert rows.epochs[0]["loss"] == pytest.approx(whole.epochs[0]["loss"], rel=1e-9)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-8, atol=1e-8, msg=name)


@pytest.mark.parametrize("way", [way for way in WAYS if way not in OPTIONS or fitting(OPTIONS[way])])
def test_every_table_of_every_model_is_moved(way: str) -> None:
    """Biases and crossed weights are tables too; a user's vector is none, and moves as ever."""
    some = prepare(a_log(groups=fitting(OPTIONS.get(way, {}))), "paper")
    recipe = Recipe(batch_size=8, epochs=1, optimizer="sgd", learning_rate=0.03, average=0.9)
    _, expected = trained(way, some, recipe, WHOLE, 25)
    _, found = trained(way, some, recipe, ROWS, 25)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-7, atol=1e-8, msg=name)


def test_runs_resume_from_checkpoints_of_either_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = a_log()

    def run(name: str, epochs: int, least: int, resume: bool = False) -> dict[str, Tensor]:
        monkeypatch.setattr(row_updates, "large", lambda batch_size: least)
        recipe = Recipe(batch_size=16, epochs=epochs, average=0.9, patience=None, learning_rate=0.01)
        options = {"embedding_size": 16, "hidden": 32, "spaces": 2}
        train_run(log, tmp_path / name, options=options, recipe=recipe, resume=resume, progress=False)
        return load_file(tmp_path / name / "model.safetensors")

    straight = run("straight", 2, 2)
    run("stopped", 1, 2)
    run("whole", 1, 10**9)
    resumed, mixed = run("stopped", 2, 2, resume=True), run("whole", 2, 2, resume=True)
    first = load_file(tmp_path / "straight" / "checkpoints" / "epoch-0001" / "weights.safetensors")
    for name, value in straight.items():
        assert torch.equal(resumed[name], value), name
        torch.testing.assert_close(mixed[name], value, rtol=1e-3, atol=1e-3)
    assert max(float((first[name] - value).abs().max()) for name, value in straight.items()) > 0.01


@settings(max_examples=30, deadline=None)
@given(
    turns=st.lists(st.lists(st.integers(0, 6), max_size=4), min_size=1, max_size=60),
    decay=st.sampled_from([None, 0.5, 0.999]),
    scale=st.sampled_from([3e-8, 1e-6, 1.0]),
    window=st.sampled_from([5, 4_096]),
)
@example(turns=[[]] * 13 + [[0]] + [[1]] * 11, decay=0.5, scale=1e-6, window=4_096)  # missed from the first step on
@example(turns=[[0]] + [[1]] * 50, decay=0.5, scale=3e-8, window=4_096)
def test_rows_catch_up_with_what_adam_would_have_done(turns, decay, scale, window):
    """Any pattern of rows, with gradients so small that Adam's eps counts, and steps without any gradient."""
    torch.manual_seed(len(turns))
    expected = torch.randn(7, 3).requires_grad_()
    dense = torch.optim.Adam([expected], lr=0.05)
    average, count = expected.detach().clone(), 0
    module = nn.Embedding(7, 3)
    module.weight = nn.Parameter(expected.detach().clone())
    holder = nn.ModuleList([module])
    sparse = torch.optim.Adam(holder.parameters(), lr=0.05)
    averaged = AveragedModel(holder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_updates, "_WINDOW", window)
        table = row_updates._LargeTable(module, sparse, next(averaged.module.parameters()).detach() if decay else None)
        for turn in turns:
            gradient = torch.zeros(7, 3)
            rows = torch.tensor(sorted(set(turn)), dtype=torch.long)
            gradient[rows] = torch.randn(len(rows), 3) * scale
            expected.grad = gradient if len(rows) else None
            dense.step()
            if decay:
                d = decay if count else 0.0
                average.lerp_(expected.detach(), 1 - d)
            table.shrink(rows)
            if len(rows):
                module.weight.grad = gradient[rows]
            table.step(None if not decay else d)
            count += 1
            module.weight = table.weight
            if table.missed.now == window:
                table.catch_up()
        table.catch_up()
    near = 1e-5 if scale == 1 else 0.01 * 0.05  # where eps counts, the closed form is good to a hundredth of a step
    torch.testing.assert_close(table.weight.detach(), expected.detach(), rtol=1e-4, atol=near)
    if decay:
        torch.testing.assert_close(table.averaged, average, rtol=1e-4, atol=near)
    if dense.state[expected]:
        for name in ("exp_avg", "exp_avg_sq"):
            wanted = dense.state[expected][name]
            torch.testing.assert_close(sparse.state[table.weight][name], wanted, rtol=1e-3, atol=1e-3 * float(scale))
        assert float(table.state["step"]) == float(dense.state[expected]["step"])


class Others(RowSteps):
    """One of several processes; the others' batches hold these rows too."""

    theirs: Tensor

    def seen(self, mark: Tensor) -> Tensor:
        return mark.index_fill(0, self.theirs, True)


def test_a_step_holds_the_rows_that_it_reads(prepared: tuple[GroupedHistories, Split]) -> None:
    histories, split = prepared
    model, _ = make("atrank", histories)
    rows = len(histories.vocabularies.words["item.object_id"]) + 1
    steps = Others(model, Recipe(optimizer="sgd", batch_size=6), {"item": 1}, least=rows)
    (table,) = steps.tables["item.object_id"]
    assert list(steps.tables) == ["item.object_id"]
    drawn = {"item": split.test["item"].objects[:, None].expand(-1, 2)}
    _, _, batch = next(iter(batches(histories, {"item": split.test["item"]}, drawn, 6)))
    ids = [cast(Tensor, part.features["object_id"]) for part in (batch.histories["item"], batch.candidates)]
    own = {0, *torch.cat(ids).tolist()}
    steps.theirs = torch.tensor([row for row in range(rows) if row not in own][:5])
    expected, held = model(batch).scores, list[Tensor]()

    def look(_: nn.Module, __: object, output: Scores) -> None:
        held.append(table.module.weight.detach().clone())
        torch.testing.assert_close(output.scores, expected)

    whole = table.weight.detach().clone()
    with model.register_forward_hook(look):
        steps.take([("item", 6, batch)], 0.1, torch.Generator())
    assert torch.equal(held[0], whole[sorted(own | set(steps.theirs.tolist()))])
    assert table.module.weight is table.weight
    moved = (table.weight != whole).any(dim=1).nonzero()[:, 0].tolist()
    assert moved
    assert set(moved) <= own


def test_a_step_that_fails_leaves_the_tables_whole(prepared: tuple[GroupedHistories, Split]) -> None:
    histories, split = prepared
    model, _ = make("atrank", histories)
    steps = RowSteps(model, Recipe(), {"item": 1}, least=2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    _, _, batch = next(iter(batches(histories, split.test, {n: s.objects[:, None] for n, s in split.test.items()}, 6)))

    def fail(*_: object) -> None:
        raise MemoryError

    with model.register_forward_hook(fail), pytest.raises(MemoryError):
        steps.take([("item", 6, batch)], 0.1, torch.Generator())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("averaged", [False, True])
def test_kernels_catch_up_as_torch_does(averaged: bool) -> None:
    torch.manual_seed(0)
    module = nn.Embedding(60, 16)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    for _ in range(3):
        module.weight.grad = torch.randn(60, 16)
        optimizer.step()
    average = torch.randn(60, 16) if averaged else None
    table = row_updates._LargeTable(module, optimizer, average)
    for step in range(9):
        table.missed.step(None if step == 4 else 0.01 * step, 0.9 if averaged else None)
    table.last = torch.randint(10, (60,))
    rows = torch.randperm(60)[:25]
    found = table._up_to_date(rows)
    with off():
        expected = table._up_to_date(rows)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    table._write(rows, found)
    torch.testing.assert_close(module.weight[rows], found[0], rtol=0, atol=0)
    torch.testing.assert_close(table.state["exp_avg_sq"][rows], found[2], rtol=0, atol=0)
    if average is not None:
        torch.testing.assert_close(average[rows], found[3], rtol=0, atol=0)
