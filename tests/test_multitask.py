"""Modes, mixing, weights and conflict-free gradients, against counting, closed forms and scipy."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

import atrank_lib.training as training
from atrank_lib.batches import Batch
from atrank_lib.embedding import key
from atrank_lib.evaluation import fixed_candidates, score_candidates
from atrank_lib.grouping import GroupedHistories
from atrank_lib.log.events import EventLog
from atrank_lib.log.schema import Schema
from atrank_lib.model import ATRank, ATRankConfig
from atrank_lib.multitask import (
    TaskWeights,
    modes,
    one_time_scale,
    predictable,
    remix,
    turns,
    unshared,
    without_conflicts,
)
from atrank_lib.samples import Split, build_batch, split
from atrank_lib.training import Recipe, fit
from data_scripts.marketplace import SCHEMA as MARKET
from tests.random_logs import SCHEMA, random_log

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


def test_the_seven_modes_of_the_paper():
    found = {mode.name: (mode.histories, mode.targets) for mode in modes(MARKET)}
    everything = ("item", "query", "coupon")
    assert found == {
        "item2item": (("item",), ("item",)),
        "query2query": (("query",), ("query",)),
        "coupon2coupon": (("coupon",), ("coupon",)),
        "all2item": (everything, ("item",)),
        "all2query": (everything, ("query",)),
        "all2coupon": (everything, ("coupon",)),
        "all2all": (everything, everything),
    }


@pytest.mark.parametrize("groups", [1, 2, 5])
def test_the_number_of_modes_follows_from_the_schema(groups):
    schema = Schema(name="some", groups={f"g{k}": MARKET.groups["coupon"] for k in range(groups)})
    assert len(modes(schema)) == (1 if groups == 1 else 2 * groups + 1)
    assert [mode.name for mode in modes(schema, ["g0"])] == (["g02g0"] if groups == 1 else ["g02g0", "all2g0"])


def test_groups_that_nobody_has_four_behaviors_of_are_history_alone(tiny_log: EventLog):
    for group in predictable(tiny_log):
        lengths = tiny_log.events[group].groupby("user_id").size()
        assert (lengths >= 4).any()
    short = {g: e.groupby("user_id").head(3) for g, e in tiny_log.events.items()}
    log = EventLog.from_tables(tiny_log.schema, short, tiny_log.objects)
    assert predictable(log) == ()


def test_predictable_counts_the_training_samples():
    log = random_log(4, users=9, behaviors=80, objects=30, times=40)
    train = split(GroupedHistories.from_log(log), "validated").train
    for group, samples in train.items():
        assert group in predictable(log, len(samples))
        assert group not in predictable(log, len(samples) + 1)


def test_unshared_features_have_tables_of_their_own():
    log = random_log(4, users=9, behaviors=80, objects=30, times=40)
    apart = unshared(log)
    names = [apart.schema.vocabulary(g, f) for g, group in apart.schema.groups.items() for f in group.features]
    shared = [log.schema.vocabulary(g, f) for g, group in log.schema.groups.items() for f in group.features]
    assert len(set(names)) == len(names) > len(set(shared))
    for g in log.schema.groups:
        assert apart.events[g].equals(log.events[g])


def test_one_time_scale_is_the_first_group_s():
    log = one_time_scale(random_log(4, users=9, behaviors=80, objects=30, times=40))
    first, *others = (group.time for group in log.schema.groups.values())
    assert others
    assert all(other == first for other in others)


def test_a_proportional_epoch_is_every_sample_once(parts: Split):
    mixed = remix(parts.train, "proportional", torch.Generator().manual_seed(0))
    assert all(torch.equal(mixed[name].positions, samples.positions) for name, samples in parts.train.items())


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


def test_equal_weights_make_tasks_count_alike(parts: Split):
    weights = TaskWeights(parts.train, "equal")
    sums = [weights.now()[name] * len(samples) for name, samples in parts.train.items()]
    assert np.allclose(sums, sum(map(len, parts.train.values())) / len(parts.train))


def test_fixed_weights_multiply_the_loss(parts: Split):
    names = list(parts.train)
    weights = TaskWeights(parts.train, {names[0]: 3.0})
    assert float(weights(names[0], torch.tensor(2.0))) == 6.0
    assert float(weights(names[1], torch.tensor(2.0))) == 2.0
    with pytest.raises(ValueError, match="task_weights"):
        TaskWeights(parts.train, {"nothing": 1.0})
    with pytest.raises(ValueError, match="positive"):
        TaskWeights(parts.train, {names[0]: 0.0})


@pytest.mark.parametrize("loss", [0.1, 0.7, 3.0])
def test_uncertainty_weighs_a_loss_by_half_its_inverse(parts: Split, loss: float):
    """Where exp(-s) L + s / 2 is least, the weight exp(-s) is 1 / (2 L)."""
    name = next(iter(parts.train))
    weights = TaskWeights(parts.train, "uncertainty")
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


@pytest.mark.parametrize("steps", ["joint", "pcgrad"])
def test_joint_steps_by_hand(histories: GroupedHistories, parts: Split, seen: list[tuple[str, Batch]], steps: str):
    """Plain SGD along the sum of the tasks' gradients, each times its weight; PCGrad frees them of conflicts first."""
    first, second, *_ = parts.train
    some = {name: parts.train[name] for name in (first, second)}  # with two tasks, PCGrad knows no order
    recipe = Recipe.model_validate(
        {
            "optimizer": "sgd",
            "learning_rate": 0.5,
            "gradient_clip": None,
            "batch_size": 1_000,
            "task_steps": steps,
            "task_weights": {first: 2.0},
            "loss": "pairwise",
        }
    )
    model, by_hand = new_model(histories), new_model(histories)
    result = fit(model, histories, Split(some, {}, parts.test), recipe, max_steps=1, progress=False)
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
    if steps == "pcgrad" and a @ b < 0:
        a, b = a - (a @ b) / (b @ b) * b, b - (a @ b) / (a @ a) * a
    moved = torch.cat([(p - q).flatten() for p, q in zip(parameters, model.parameters(), strict=True)])
    torch.testing.assert_close(moved.detach(), 0.5 * (a + b), rtol=1e-3, atol=1e-6)


def test_conflicts_are_counted_and_pcgrad_differs_only_with_some(histories: GroupedHistories, parts: Split):
    trained = {}
    for steps in ("joint", "pcgrad"):
        trained[steps] = new_model(histories)
        recipe = Recipe.model_validate({"epochs": 2, "batch_size": 16, "task_steps": steps, "patience": None})
        entries = fit(trained[steps], histories, parts, recipe, progress=False).epochs
        assert ("conflicts" in entries[0]) == (steps == "pcgrad")
    conflicts = sum(entry["conflicts"] for entry in entries)
    same = all(torch.allclose(p, q) for p, q in zip(*(m.parameters() for m in trained.values()), strict=True))
    assert conflicts > 0
    assert not same


@pytest.mark.parametrize(
    "changes",
    [{"task_weights": "uncertainty"}, {"task_mix": "uniform"}, {"task_steps": "joint"}, {"task_steps": "pcgrad"}],
)
def test_a_resumed_run_is_bit_for_bit_a_straight_one(
    histories: GroupedHistories, parts: Split, tmp_path: Path, changes: dict[str, str]
):
    recipe = Recipe.model_validate({"epochs": 3, "batch_size": 16, "patience": None, "average": 0.9, **changes})
    straight, resumed = new_model(histories), new_model(histories)
    whole = fit(straight, histories, parts, recipe, progress=False)
    fit(new_model(histories), histories, parts, recipe.model_copy(update={"epochs": 1}), run=tmp_path, progress=False)
    again = fit(resumed, histories, parts, recipe, run=tmp_path, resume=True, progress=False)
    assert all(torch.equal(p, q) for p, q in zip(straight.parameters(), resumed.parameters(), strict=True))
    assert [e.get("task_weights") for e in whole.epochs] == [e.get("task_weights") for e in again.epochs]
    if "task_weights" in changes:
        assert set(whole.epochs[-1]["task_weights"].values()) != {1.0}


def test_a_head_belongs_to_one_task(histories: GroupedHistories, parts: Split):
    """Without heads the model has the parameters it had; a head changes the scores of its own group alone."""
    plain, model = new_model(histories), new_model(histories, task_heads=True)
    assert {name for name, _ in model.named_parameters()} - {name for name, _ in plain.named_parameters()} == {
        name for name, _ in model.named_parameters() if name.startswith("heads")
    }
    first, second, *_ = parts.train
    candidates = fixed_candidates(histories, parts.train)
    before = score_candidates(model, histories, parts.train, candidates)
    with torch.no_grad():
        for parameter in model.heads[key(first)].parameters():
            parameter.add_(0.1)
    after = score_candidates(model, histories, parts.train, candidates)
    assert not torch.allclose(before[first], after[first])
    assert torch.equal(before[second], after[second])


def test_a_head_adds_its_network_to_the_user_vector(histories: GroupedHistories, parts: Split):
    plain, model = new_model(histories), new_model(histories, task_heads=True)
    model.load_state_dict(plain.state_dict(), strict=False)
    name, samples = next(iter(parts.train.items()))
    batch = build_batch(histories, samples, samples.objects[:, None])
    without, found = plain(batch), model(batch)
    one, _, two = model.heads[key(name)].children()
    e = without.users
    assert isinstance(one, torch.nn.Linear)
    assert isinstance(two, torch.nn.Linear)
    wanted = e + torch.relu(e @ one.weight.T + one.bias) @ two.weight.T + two.bias
    torch.testing.assert_close(found.users, wanted)
    torch.testing.assert_close(found.scores, (wanted * found.targets).sum(-1))
