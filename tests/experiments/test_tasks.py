"""Mixing, weights and conflict-free gradients, against counting, closed forms and scipy."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

import atrank_lib.training as training
from atrank_lib.batches import Batch
from atrank_lib.grouping import GroupedHistories
from atrank_lib.model import ATRank, ATRankConfig
from atrank_lib.ranking import softmax_loss
from atrank_lib.samples import Split, build_batch, split
from atrank_lib.training import Part, fit
from experiments.tasks import (
    TaskRecipe,
    TaskSteps,
    TaskWeights,
    apart,
    every_object,
    remix,
    turns,
    without_conflicts,
)
from tests.random_logs import SCHEMA, random_log
from tests.steps import TasksInRows

CONFIG = ATRankConfig(embedding_size=4, hidden=8, spaces=2)


@pytest.fixture(scope="module")
def histories() -> GroupedHistories:
    return GroupedHistories.from_log(random_log(4, users=9, behaviors=80, objects=30, times=40))


@pytest.fixture(scope="module")
def parts(histories: GroupedHistories) -> Split:
    return split(histories, "validated")


def new_model(histories: GroupedHistories, **options: object) -> ATRank:
    torch.manual_seed(0)
    return ATRank(SCHEMA, histories.vocabularies, CONFIG.model_copy(update=options))


def test_a_proportional_epoch_is_every_sample_once(parts: Split):
    mixed = remix(parts.train, "proportional", torch.Generator().manual_seed(0))
    assert all(torch.equal(mixed[name].positions, samples.positions) for name, samples in parts.train.items())


def test_every_object_is_a_candidate_once(histories: GroupedHistories, parts: Split):
    candidates = every_object(histories, parts.train)
    for name, samples in parts.train.items():
        everything = list(range(len(histories.tables[name])))
        for row, target in zip(candidates[name].tolist(), samples.objects.tolist(), strict=True):
            assert row == [target, *(number for number in everything if number != target)]
    recipe = TaskRecipe(loss="softmax", all_objects=True, batch_size=1_000, optimizer="sgd", epochs=1)
    model = new_model(histories).eval()
    expected = {
        name: softmax_loss(model(build_batch(histories, samples, candidates[name])).scores).item()
        for name, samples in parts.train.items()
    }
    steps = TaskSteps(model, recipe, {name: len(samples) for name, samples in parts.train.items()})
    generator = torch.Generator().manual_seed(0)
    for turn in steps.turns(Part(histories, parts), generator, generator):
        (name, batch), *rest = ((one[0], one[-1]) for one in turn)
        assert not rest
        assert softmax_loss(model(batch).scores).item() == pytest.approx(expected[name], rel=1e-5)


def test_apart_no_history_holds_what_another_task_tests(histories: GroupedHistories, parts: Split):
    """Against a walk through every history."""
    left = apart(histories, parts.train)
    for name, samples in parts.train.items():
        kept = []
        for i in range(len(samples)):
            known = False
            for number, (group, history) in enumerate(histories.groups.items()):
                user = int(samples.users[i])
                own = range(int(history.offsets[user]), int(history.offsets[user + 1]))
                seen = [row for row in own if row < int(samples.ends[i, number])]
                known = known or (group != name and bool(own) and own[-1] in seen)
            kept.append(not known)
        assert torch.equal(left[name].positions, samples[torch.tensor(kept)].positions)
    assert set(left) == set(parts.train)
    assert 0 < sum(map(len, left.values())) < sum(map(len, parts.train.values()))


def test_apart_is_what_a_training_sees(histories: GroupedHistories, parts: Split):
    result = fit(
        ATRank(histories.schema, histories.vocabularies, ATRankConfig(embedding_size=4, hidden=4, spaces=1)),
        histories,
        parts,
        TaskRecipe(epochs=1, apart=True),
        progress=False,
        steps=TaskSteps,
    )
    assert result.epochs[0]["samples"] == sum(map(len, apart(histories, parts.train).values()))


def test_a_uniform_epoch_has_as_many_samples_of_every_task(parts: Split):
    mixed = remix(parts.train, "uniform", torch.Generator().manual_seed(0))
    each = sum(map(len, parts.train.values())) // len(parts.train)
    for name, samples in parts.train.items():
        assert len(mixed[name]) == each
        times = np.unique(mixed[name].positions.numpy(), return_counts=True)[1]
        assert times.max() - (times.min() if each >= len(samples) else 1) <= 1  # none much more often than another
        assert set(mixed[name].positions.tolist()) <= set(samples.positions.tolist())


@given(st.dictionaries(st.sampled_from("abcd"), st.integers(0, 30), min_size=1))
def test_joint_steps_take_every_batch_once_evenly_spread(counts):
    plan = turns(counts)
    assert len(plan) == max(counts.values())
    for name, count in counts.items():
        at = [number for number, names in enumerate(plan) if name in names]
        assert sum(names.count(name) for names in plan) == count
        if count > 1:
            gaps = np.diff(at)
            assert gaps.max() - gaps.min() <= 1


def counts(parts: Split) -> dict[str, int]:
    """The number of training samples of each task."""
    return {name: len(samples) for name, samples in parts.train.items()}


def test_equal_weights_make_tasks_count_alike(parts: Split):
    weights = TaskWeights(counts(parts), "equal")
    sums = [weights.now()[name] * len(samples) for name, samples in parts.train.items()]
    assert np.allclose(sums, sum(map(len, parts.train.values())) / len(parts.train))


def test_fixed_weights_multiply_the_loss(parts: Split):
    names = list(parts.train)
    weights = TaskWeights(counts(parts), {names[0]: 3.0})
    assert float(weights(names[0], torch.tensor(2.0))) == 6.0
    assert float(weights(names[1], torch.tensor(2.0))) == 2.0
    with pytest.raises(ValueError, match="task_weights"):
        TaskWeights(counts(parts), {"nothing": 1.0})
    with pytest.raises(ValueError, match="positive"):
        TaskWeights(counts(parts), {names[0]: 0.0})


@pytest.mark.parametrize("loss", [0.1, 0.7, 3.0])
def test_uncertainty_weighs_a_loss_by_half_its_inverse(parts: Split, loss: float):
    """Where exp(-s) L + s / 2 is least, the weight exp(-s) is 1 / (2 L)."""
    name = next(iter(parts.train))
    weights = TaskWeights(counts(parts), "uncertainty")
    optimizer = torch.optim.Adam(weights.parameters(), 0.05)
    for _ in range(800):
        optimizer.zero_grad()
        weights(name, torch.tensor(loss)).backward()
        optimizer.step()
    least = minimize(lambda s: math.exp(-s[0]) * loss + s[0] / 2, [0.0])
    assert weights.now()[name] == pytest.approx(math.exp(-least.x[0]), rel=0.01)
    assert weights.now()[name] == pytest.approx(1 / (2 * loss), rel=0.01)


def pcgrad_by_hand(gradients: list[list[float]], orders: list[list[int]]) -> list[float]:
    """The algorithm as the paper prints it, number by number."""
    total = [0.0] * len(gradients[0])
    for i, gradient in enumerate(gradients):
        own = list(gradient)
        for j in orders[i]:
            inner = sum(a * b for a, b in zip(own, gradients[j], strict=True))
            if j != i and inner < 0:
                square = sum(b * b for b in gradients[j])
                own = [a - inner / square * b for a, b in zip(own, gradients[j], strict=True)]
        total = [a + b for a, b in zip(total, own, strict=True)]
    return total


@given(st.integers(2, 4), st.integers(0, 10_000))
def test_gradients_without_conflicts_by_hand(tasks, seed):
    gradients = torch.randn(tasks, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    orders = torch.Generator().manual_seed(7)
    by_hand = pcgrad_by_hand(
        gradients.tolist(), [torch.randperm(tasks, generator=orders).tolist() for _ in range(tasks)]
    )
    found, conflicts = without_conflicts(list(gradients), torch.Generator().manual_seed(7))
    torch.testing.assert_close(found, torch.tensor(by_hand, dtype=torch.float64))
    pairs = [(i, j) for i in range(tasks) for j in range(i) if float(gradients[i] @ gradients[j]) < 0]
    assert conflicts == len(pairs)


def test_two_opposed_gradients_leave_what_both_can_use():
    a, b = torch.tensor([1.0, 1.0]), torch.tensor([-1.0, 0.5])
    total, conflicts = without_conflicts([a, b], torch.Generator().manual_seed(0))
    assert conflicts == 1
    assert float(total @ a) >= 0
    assert float(total @ b) >= 0


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Batch]]:
    """The batches that `fit` trains on, in order, and their tasks."""
    met: list[tuple[str, Batch]] = []
    original = training.batches

    def recording(*args: Any, **kwargs: Any) -> Iterator[Any]:
        for name, index, batch in original(*args, **kwargs):
            met.append((name, batch))
            yield name, index, batch

    monkeypatch.setattr(training, "batches", recording)
    return met


@pytest.mark.parametrize("kind", ["joint", "pcgrad"])
@pytest.mark.parametrize("steps", [TaskSteps, TasksInRows])
def test_joint_steps_by_hand(
    histories: GroupedHistories, parts: Split, seen: list[tuple[str, Batch]], kind: str, steps: type[TaskSteps]
):
    """Plain SGD along the sum of the tasks' gradients, each times its weight; PCGrad frees them of conflicts first."""
    first, second, *_ = parts.train
    some = {name: parts.train[name] for name in (first, second)}  # with two tasks, PCGrad knows no order
    recipe = TaskRecipe.model_validate(
        {
            "optimizer": "sgd",
            "learning_rate": 0.5,
            "gradient_clip": None,
            "batch_size": 1_000,
            "task_steps": kind,
            "task_weights": {first: 2.0},
            "loss": "pairwise",
        }
    )
    model, by_hand = new_model(histories).double(), new_model(histories).double()
    split_ = Split(some, {}, parts.test)
    result = fit(model, histories, split_, recipe, max_steps=1, progress=False, steps=steps)
    assert result.epochs[0]["samples"] == sum(map(len, some.values()))
    assert [name for name, _ in seen] == [first, second]
    assert result.steps == 1
    parameters, gradients = list(by_hand.parameters()), []
    for name, batch in seen:
        scores = by_hand(batch).scores
        loss = -torch.sigmoid(scores[:, :1] - scores[:, 1:]).log().mean() * (2 if name == first else 1)
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        flat = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]
        gradients.append(torch.cat([g.flatten() for g in flat]))
    a, b = gradients
    assert result.epochs[0].get("conflicts", 0) == (kind == "pcgrad" and bool(a @ b < 0))
    if kind == "pcgrad" and a @ b < 0:
        a, b = a - (a @ b) / (b @ b) * b, b - (a @ b) / (a @ a) * a
    moved = torch.cat([(p - q).flatten() for p, q in zip(parameters, model.parameters(), strict=True)])
    torch.testing.assert_close(moved.detach(), 0.5 * (a + b), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("steps", [TaskSteps, TasksInRows])
def test_rates_of_tasks_by_hand(
    histories: GroupedHistories, parts: Split, seen: list[tuple[str, Batch]], steps: type[TaskSteps]
):
    """Plain SGD, batch after batch, each along its own gradient at the learning rate times its task's factor."""
    rates = dict(zip(parts.train, (1.0, 0.4, 0.8), strict=True))  # the authors' .1, .04, .08
    settings = {"optimizer": "sgd", "learning_rate": 0.5, "gradient_clip": None, "loss": "pairwise"}
    named = {name: rate for name, rate in rates.items() if rate != 1.0}
    recipe = TaskRecipe.model_validate(settings | {"batch_size": 1_000, "task_rates": named})
    model, by_hand = new_model(histories).double(), new_model(histories).double()
    split_ = Split(parts.train, {}, parts.test)
    fit(model, histories, split_, recipe, max_steps=len(rates), progress=False, steps=steps)
    assert sorted(name for name, _ in seen) == sorted(rates)
    parameters = list(by_hand.parameters())
    for name, batch in seen:
        scores = by_hand(batch).scores
        loss = -torch.sigmoid(scores[:, :1] - scores[:, 1:]).log().mean()
        found = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, found, strict=True):
                parameter.sub_(0.5 * rates[name] * gradient)
    for ours, theirs in zip(model.parameters(), parameters, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task_rates": {"nothing": 1.0}}, r"task_rates \{'nothing': 1.0\}; give positive numbers .* \['item'"),
        ({"task_rates": {"item": 0.0}}, "task_rates"),
        ({"task_rates": {"item": 0.5}, "task_steps": "joint"}, "task_steps is 'joint'"),
    ],
)
def test_rates_that_make_no_sense(histories: GroupedHistories, parts: Split, settings: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        TaskSteps(new_model(histories), TaskRecipe.model_validate(settings), counts(parts))


def test_conflicts_are_counted_and_pcgrad_differs_only_with_some(histories: GroupedHistories, parts: Split):
    trained = {}
    for kind in ("joint", "pcgrad"):
        trained[kind] = new_model(histories)
        recipe = TaskRecipe.model_validate({"epochs": 1, "batch_size": 16, "task_steps": kind, "patience": None})
        entries = fit(trained[kind], histories, parts, recipe, progress=False, steps=TaskSteps).epochs
        assert ("conflicts" in entries[0]) == (kind == "pcgrad")
    conflicts = sum(entry["conflicts"] for entry in entries)
    same = all(torch.allclose(p, q) for p, q in zip(*(m.parameters() for m in trained.values()), strict=True))
    assert conflicts > 0
    assert not same
