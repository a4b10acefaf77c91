"""The recipe, training steps against formulas, and the loop's rules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

import atrank_lib.training as training
from atrank_lib.batches import Batch
from atrank_lib.evaluation import AverageUserAUC
from atrank_lib.fast import speed_up
from atrank_lib.grouping import GroupedHistories
from atrank_lib.log.events import EventLog
from atrank_lib.model import ATRank, ATRankConfig
from atrank_lib.samples import Split, split
from atrank_lib.training import RECIPES, Part, Recipe, Steps, Training, fit, learning_rate
from tests.random_logs import SCHEMA, random_log
from tests.steps import InRows

CONFIG = ATRankConfig(embedding_size=4, hidden=8, spaces=2)
whole_or_in_rows = pytest.mark.parametrize("steps", [Steps, InRows])


@pytest.fixture(scope="module")
def histories() -> GroupedHistories:
    return GroupedHistories.from_log(random_log(4, users=7, behaviors=60, objects=30, times=40))


@pytest.fixture(scope="module")
def parts(histories: GroupedHistories) -> Split:
    return split(histories, "validated")


def new_model(histories: GroupedHistories, **options: object) -> ATRank:
    torch.manual_seed(0)
    return ATRank(SCHEMA, histories.vocabularies, CONFIG.model_copy(update=options))


def weights(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def steps_of(parts: Split, size: int) -> int:
    """The steps of an epoch."""
    return sum(-(-len(samples) // size) for samples in parts.train.values())


def test_learning_rate_formula() -> None:
    recipe = Recipe(learning_rate=2.0, decay_rate=0.1, decay_steps=1_000)
    assert [learning_rate(recipe, s) for s in (0, 500, 1_000, 3_000)] == pytest.approx([2.0, 2 * 0.1**0.5, 0.2, 0.002])
    assert learning_rate(RECIPES["modern"], 10**6) == RECIPES["modern"].learning_rate
    assert learning_rate(RECIPES["paper"], 336_000) == pytest.approx(0.1)


def test_paper_recipe() -> None:
    paper = RECIPES["paper"]
    assert (paper.optimizer, paper.learning_rate, paper.batch_size, paper.l2) == ("sgd", 1.0, 32, 5e-5)


def test_wrong_recipes_are_refused() -> None:
    with pytest.raises(ValidationError, match="learning_rate"):
        Recipe(learning_rate=0)
    with pytest.raises(ValidationError, match="momentum"):
        Recipe.model_validate({"momentum": 0.9})


@pytest.fixture
def seen_batches(monkeypatch: pytest.MonkeyPatch) -> list[Batch]:
    """The batches that `fit` trains on, in order."""
    met: list[Batch] = []
    original = training.batches

    def recording(*args: Any, **kwargs: Any) -> Iterator[Any]:
        for name, index, batch in original(*args, **kwargs):
            met.append(batch)
            yield name, index, batch

    monkeypatch.setattr(training, "batches", recording)
    return met


def gradients(model: ATRank, batch: Batch, recipe: Recipe) -> dict[str, Tensor]:
    """Autograd's gradients of the objective, its formula written out; of the parameters that play a part."""
    output = model(batch)
    p, n = output.scores[:, 0], output.scores[:, 1:]
    if recipe.loss == "pointwise":
        loss = -(torch.sigmoid(p).log().sum() + torch.sigmoid(-n).log().sum()) / output.scores.numel()
    else:
        loss = -torch.sigmoid(p[:, None] - n).log().mean()
    norms = output.users.square().sum() + output.targets.square().sum()
    loss = loss + recipe.l2 * norms / 2
    names, parameters = zip(*model.named_parameters(), strict=True)
    found = dict(zip(names, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True))
    slopes = {name: g for name, g in found.items() if g is not None}
    total = sum(float(g.square().sum()) for g in slopes.values()) ** 0.5
    clipped = recipe.gradient_clip is not None and total > recipe.gradient_clip
    factor = (recipe.gradient_clip or 1.0) / total if clipped else 1.0
    return {name: g * factor for name, g in slopes.items()}


@pytest.mark.parametrize("loss", ["pointwise", "pairwise"])
@pytest.mark.parametrize("clip", [None, 0.01])
@pytest.mark.parametrize("l2", [0.0, 0.1])
@whole_or_in_rows
def test_sgd_by_hand(
    histories: GroupedHistories,
    parts: Split,
    seen_batches: list[Batch],
    loss: str,
    clip: float | None,
    l2: float,
    steps: type[Steps],
) -> None:
    recipe = Recipe.model_validate(
        {
            "optimizer": "sgd",
            "learning_rate": 0.3,
            "decay_rate": 0.5,
            "decay_steps": 2,
            "gradient_clip": clip,
            "l2": l2,
            "loss": loss,
            "batch_size": 8,
            "negatives": 2,
        }
    )
    model, by_hand = new_model(histories).double(), new_model(histories).double()
    fit(model, histories, parts, recipe, max_steps=2, progress=False, steps=steps)
    for step in range(2):
        slope = gradients(by_hand, seen_batches[step], recipe)
        with torch.no_grad():
            for name, value in slope.items():
                by_hand.get_parameter(name).sub_(value * (0.3 * 0.5 ** (step / 2)))
    for name, value in model.named_parameters():
        torch.testing.assert_close(value, by_hand.get_parameter(name), rtol=1e-6, atol=1e-8)
    assert not same(weights(model), weights(new_model(histories).double()))


@pytest.mark.parametrize(("optimizer", "decay"), [("adam", 0.0), ("adam", 0.1), ("adamw", 0.1)])
@whole_or_in_rows
def test_adam_by_hand(
    histories: GroupedHistories,
    parts: Split,
    seen_batches: list[Batch],
    optimizer: str,
    decay: float,
    steps: type[Steps],
) -> None:
    """Kingma and Ba (2015), algorithm 1; weight decay joins the gradient (Adam) or the step (AdamW)."""
    recipe = Recipe.model_validate(
        {
            "optimizer": optimizer,
            "learning_rate": 0.01,
            "weight_decay": decay,
            "batch_size": 8,
            "decay_rate": 0.5,
            "decay_steps": 3,
        }
    )
    model, by_hand = new_model(histories).double(), new_model(histories).double()
    fit(model, histories, parts, recipe, max_steps=3, progress=False, steps=steps)
    first, second, times = ({name: 0 * p.detach() for name, p in by_hand.named_parameters()} for _ in range(3))
    for step in range(3):
        rate = 0.01 * 0.5 ** (step / 3)
        slopes = gradients(by_hand, seen_batches[step], recipe)
        with torch.no_grad():
            for name, slope in slopes.items():  # the others are left alone
                p, times[name] = by_hand.get_parameter(name), times[name] + 1
                g = slope + (decay * p if optimizer == "adam" else 0)
                first[name] = 0.9 * first[name] + 0.1 * g
                second[name] = 0.999 * second[name] + 0.001 * g * g
                m, v = first[name] / (1 - 0.9 ** times[name]), second[name] / (1 - 0.999 ** times[name])
                if optimizer == "adamw":
                    p.mul_(1 - rate * decay)
                p.sub_(m / (v.sqrt() + 1e-8) * rate)
    for name, value in weights(model).items():
        # where a gradient is as small as Adam's eps, what rows are owed is right to a hundredth of a step
        near = 1e-8 if steps is Steps else 1e-4
        torch.testing.assert_close(value, by_hand.get_parameter(name), rtol=1e-6, atol=near)
        if steps is InRows:
            assert float((value - by_hand.get_parameter(name).detach()).abs().mean()) < 1e-6


@whole_or_in_rows
def test_averaged_weights_by_hand(histories: GroupedHistories, parts: Split, steps: type[Steps]) -> None:
    """The average moves less and less, down to a share of 1 - decay, towards the weights of each step."""

    def after(count: int, average: float) -> dict[str, Tensor]:
        model = new_model(histories).double()
        recipe = Recipe(optimizer="sgd", learning_rate=0.05, batch_size=4, average=average)
        fit(model, histories, parts, recipe, max_steps=count, progress=False, steps=steps)
        return weights(model)

    expected = after(1, 0.0)
    for step in range(2, 5):
        keep = min(0.2, (step - 1) / (step + 9))
        expected = {name: keep * expected[name] + (1 - keep) * value for name, value in after(step, 0.0).items()}
    found = after(4, 0.2)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-8)
    assert not same(found, after(4, 0.0))


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("average", [0.0, 0.9])
def test_kernels_and_rows_learn_what_torch_learns(
    histories: GroupedHistories, parts: Split, optimizer: str, average: float
) -> None:
    """In 32 bits against 64, so for a few steps, and not where Adam divides a gradient's rounding by itself."""
    sizes = {"embedding_size": 16, "hidden": 32}
    recipe = Recipe.model_validate({"optimizer": optimizer, "batch_size": 16, "l2": 1e-3, "average": average})
    plain, fast, start = (new_model(histories, **sizes) for _ in range(3))
    for model, steps in ((plain.double(), Steps), (speed_up(fast), InRows)):
        result = fit(model, histories, parts, recipe, max_steps=3, progress=False, steps=steps)
        assert result.epochs[0]["loss"] > 0
    ours, before = weights(fast), weights(start)
    for name, value in weights(plain).items():
        moved, found = value - before[name], ours[name] - before[name]
        assert float((moved - found).norm()) <= 0.02 * float(moved.norm()) + 1e-6, name


def learnable() -> GroupedHistories:
    """Each user keeps to one of two shops, in items and coupons alike."""
    rng = np.random.default_rng(0)
    schema = SCHEMA.model_copy(update={"groups": {g: SCHEMA.groups[g] for g in ("item", "coupon")}})
    users = np.repeat(np.arange(80), 8)
    events, objects = {}, {}
    for name, group in schema.groups.items():
        ids = np.array([f"{name[0]}{i}" for i in range(40)])
        events[name] = pd.DataFrame(
            {
                "user_id": [f"u{u}" for u in users],
                "timestamp": rng.permutation(len(users)),
                "action": rng.choice(group.actions, len(users)),
                "object_id": ids[users % 2 + 2 * rng.integers(0, 20, len(users))],
            }
        )
        objects[name] = pd.DataFrame({"object_id": ids, "shop_id": [f"s{i % 2}" for i in range(40)], "price": 1.0})
    return GroupedHistories.from_log(EventLog.from_tables(schema, events, objects))


def test_loss_falls_where_there_is_something_to_learn() -> None:
    histories = learnable()
    torch.manual_seed(0)
    model = ATRank(histories.schema, histories.vocabularies, CONFIG)
    result = fit(
        model,
        histories,
        split(histories),
        Recipe(learning_rate=0.01, batch_size=64, epochs=6),
        progress=False,
    )
    losses = [entry["loss"] for entry in result.epochs]
    # other seeds come to 0.61 to 0.71 and 0.83 to 0.86
    assert losses[-1] < 0.85 * losses[0]
    assert max(entry["validation_auc"] for entry in result.epochs) > 0.75


def scripted(monkeypatch: pytest.MonkeyPatch, aucs: list[float]) -> None:
    """Let validation report these AUCs, one an epoch, for every target group."""
    said = iter([auc for auc in aucs for _ in SCHEMA.groups])
    monkeypatch.setattr(training, "user_auc", lambda *_: AverageUserAUC(np.array([next(said)]), 0))


@pytest.mark.parametrize("average", [0.0, 0.9])
@whole_or_in_rows
def test_early_stopping_restores_the_best_epoch(
    histories: GroupedHistories, parts: Split, monkeypatch: pytest.MonkeyPatch, average: float, steps: type[Steps]
) -> None:
    scripted(monkeypatch, [0.5, 0.7, 0.7, 0.6, 0.9])
    model, recipe = new_model(histories), Recipe(epochs=9, patience=2, average=average)
    course = Training(model, [Part(histories, parts)], recipe, steps=steps)
    evaluated = []
    while course.goes_on():
        assert course.epoch()
        evaluated.append(weights(course.steps.averaged))
    result = course.finish()
    assert [entry["validation_auc"] for entry in result.epochs] == pytest.approx([0.5, 0.7, 0.7, 0.6])
    assert (result.best_epoch, result.finished) == (2, True)  # an equal AUC is not a better one
    assert same(weights(model), evaluated[1])
    assert not same(evaluated[1], evaluated[3])


def test_without_patience_all_epochs_run(
    histories: GroupedHistories, parts: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, [0.9, 0.8, 0.7, 0.6])
    result = fit(new_model(histories), histories, parts, Recipe(epochs=4, patience=None), progress=False)
    assert (len(result.epochs), result.best_epoch, result.finished) == (4, 1, True)


def test_paper_protocol_has_no_validation(histories: GroupedHistories) -> None:
    model = new_model(histories)
    result = fit(model, histories, split(histories, "paper"), Recipe(epochs=2, patience=1), progress=False)
    assert [entry["validation_auc"] for entry in result.epochs] == [None, None]
    assert (result.best_epoch, result.finished) == (2, True)


def test_epoch_entries(histories: GroupedHistories, parts: Split) -> None:
    result = fit(new_model(histories), histories, parts, Recipe(epochs=2, batch_size=8), progress=False)
    total = sum(len(samples) for samples in parts.train.values())
    batches = sum(-(-len(samples) // 8) for samples in parts.train.values())
    assert [(e["epoch"], e["samples"], e["steps"]) for e in result.epochs] == [(1, total, batches), (2, total, batches)]
    assert result.steps == 2 * batches
    for entry in result.epochs:
        assert set(entry["validation_auc_by_target"]) == set(SCHEMA.groups)
        assert entry["validation_auc"] == pytest.approx(np.mean(list(entry["validation_auc_by_target"].values())))
        assert entry["samples_per_second"] == pytest.approx(total / entry["seconds"])


def test_max_steps(histories: GroupedHistories, parts: Split) -> None:
    recipe, full = Recipe(epochs=3, batch_size=16), steps_of(parts, 16)
    for count, per_epoch in (
        (full - 1, [full - 1]),
        (full, [full]),
        (full + 1, [full, 1]),
        (2 * full, [full] * 2),
    ):
        result = fit(new_model(histories), histories, parts, recipe, max_steps=count, progress=False)
        assert (result.steps, [e["steps"] for e in result.epochs]) == (count, per_epoch)
        assert not result.finished
    everything = fit(new_model(histories), histories, parts, recipe, max_steps=99 * full, progress=False)
    assert (everything.steps, everything.finished) == (3 * full, True)


def test_every_epoch_draws_new_negatives(
    histories: GroupedHistories, parts: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Tensor] = []
    original = training.draw_candidates

    def recording(*args: object) -> Tensor:
        drawn.append(original(*args))  # type: ignore[arg-type]
        return drawn[-1]

    monkeypatch.setattr(training, "draw_candidates", recording)
    recipe = Recipe(epochs=2, negatives=3)
    for _ in range(2):
        fit(new_model(histories), histories, parts, recipe, progress=False)
    fit(new_model(histories), histories, parts, recipe, seed=1, progress=False)
    first, second, again, other = drawn[0], drawn[3], drawn[6], drawn[12]  # of the first target group
    assert first.shape == (len(parts.train["item"]), 4)
    assert torch.equal(first[:, 0], second[:, 0])
    assert not torch.equal(first, second)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    once = recipe.model_copy(update={"redraw_negatives": False})
    del drawn[:]
    for seed in (0, 1):
        fit(new_model(histories), histories, parts, once, seed=seed, progress=False)
    assert torch.equal(drawn[0], drawn[3])
    assert not torch.equal(drawn[0], drawn[6])


def test_fit_leaves_global_randomness_alone(histories: GroupedHistories, parts: Split) -> None:
    model = new_model(histories, dropout=0.5)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fit(model, histories, parts, Recipe(epochs=1), progress=False)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("kind", ["uniform", "popularity"])
def test_equal_seeds_train_equal_bits(histories: GroupedHistories, kind: str) -> None:
    parts = split(histories, "validated", ["item", "query"])
    recipe = Recipe.model_validate({"epochs": 2, "negative_kind": kind, "batch_size": 16})
    models = [new_model(histories, dropout=0.2) for _ in range(3)]
    for number, (model, seed) in enumerate(zip(models, (3, 3, 4), strict=True)):
        torch.manual_seed(number)  # dropout follows the seed of `fit` as well, not what came before
        fit(model, histories, parts, recipe, seed=seed, progress=False)
    assert same(weights(models[0]), weights(models[1]))
    assert not same(weights(models[0]), weights(models[2]))


def test_max_length_limits_what_is_read(histories: GroupedHistories, parts: Split, seen_batches: list[Batch]) -> None:
    fit(new_model(histories), histories, parts, Recipe(epochs=1, max_length=2), progress=False)
    assert max(batch.packing.longest for batch in seen_batches) <= 6  # two of each of three groups


def test_a_model_trains_on_its_own_history_groups(
    histories: GroupedHistories, parts: Split, seen_batches: list[Batch]
) -> None:
    torch.manual_seed(0)
    model = ATRank(SCHEMA, histories.vocabularies, CONFIG, ["query"])
    fit(model, histories, parts, Recipe(epochs=1), progress=False)
    assert {tuple(batch.histories) for batch in seen_batches} == {("query",)}


def test_errors(histories: GroupedHistories, parts: Split) -> None:
    with pytest.raises(ValueError, match=r"recipe 'papper'; use one of \['paper', 'modern', 'small'\]"):
        fit(new_model(histories), histories, parts, "papper")
    nothing = Split({g: s[:0] for g, s in parts.train.items()}, parts.validation, parts.test)
    with pytest.raises(ValueError, match="no training samples"):
        fit(new_model(histories), histories, nothing)


def test_non_finite_loss(histories: GroupedHistories, parts: Split) -> None:
    recipe = Recipe(optimizer="sgd", learning_rate=1e30, gradient_clip=None, batch_size=8)
    with pytest.raises(FloatingPointError, match=r"loss (nan|inf) at step \d+ of epoch 1 \(learning rate 1e\+30\)"):
        fit(new_model(histories), histories, parts, recipe, progress=False)
