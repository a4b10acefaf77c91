"""Training steps against formulas, the loop's rules, and runs that survive a kill bit by bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

import atrank_lib.training as training
from atrank_lib.batches import Batch
from atrank_lib.evaluation import AverageUserAUC
from atrank_lib.grouping import GroupedHistories
from atrank_lib.log.events import EventLog
from atrank_lib.model import ATRank, ATRankConfig
from atrank_lib.runs.checkpoints import Checkpoints
from atrank_lib.samples import Split, split
from atrank_lib.training import Recipe, fit
from tests.random_logs import SCHEMA, random_log

CONFIG = ATRankConfig(embedding_size=4, hidden=8, spaces=2)


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


@pytest.fixture
def seen_batches(monkeypatch: pytest.MonkeyPatch) -> list[Batch]:
    """The batches that `fit` trains on, in order."""
    met: list[Batch] = []
    original = training.batches

    def recording(*args: object, **kwargs: object) -> Iterator:
        for name, index, batch in original(*args, **kwargs):  # type: ignore[arg-type]
            met.append(batch)
            yield name, index, batch

    monkeypatch.setattr(training, "batches", recording)
    return met


def gradients(model: ATRank, batch: Batch, recipe: Recipe) -> dict[str, Tensor]:
    """Autograd's gradients of the objective, its formula written out; zero where a parameter plays no part."""
    output = model(batch)
    p, n = output.scores[:, 0], output.scores[:, 1:]
    if recipe.loss == "pointwise":
        loss = -(torch.sigmoid(p).log().sum() + torch.sigmoid(-n).log().sum()) / output.scores.numel()
    else:
        loss = -torch.sigmoid(p[:, None] - n).log().mean()
    norms = output.users.square().sum() + output.targets.square().sum()
    loss = loss + recipe.l2 * norms / 2
    found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    total = torch.sqrt(sum((g.square().sum() for g in found if g is not None), torch.zeros(())))
    factor = 1.0
    if recipe.gradient_clip is not None and total > recipe.gradient_clip:
        factor = recipe.gradient_clip / float(total)
    return {
        name: torch.zeros_like(p) if g is None else g * factor
        for (name, p), g in zip(model.named_parameters(), found, strict=True)
    }


@pytest.mark.parametrize("loss", ["pointwise", "pairwise"])
@pytest.mark.parametrize("clip", [None, 0.01])
@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_sgd_by_hand(
    histories: GroupedHistories, parts: Split, seen_batches: list[Batch], loss: str, clip: float | None, l2: float
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
    model, by_hand = new_model(histories), new_model(histories)
    fit(model, histories, parts, recipe, max_steps=2, progress=False)
    for step in range(2):
        slope = gradients(by_hand, seen_batches[step], recipe)
        with torch.no_grad():
            for name, value in by_hand.named_parameters():
                value.sub_(slope[name] * (0.3 * 0.5 ** (step / 2)))
    for name, value in model.named_parameters():
        torch.testing.assert_close(value, by_hand.get_parameter(name), rtol=1e-4, atol=1e-6)
    assert not same(weights(model), weights(new_model(histories)))


@pytest.mark.parametrize(("optimizer", "decay"), [("adam", 0.0), ("adam", 0.1), ("adamw", 0.1)])
def test_adam_by_hand(
    histories: GroupedHistories, parts: Split, seen_batches: list[Batch], optimizer: str, decay: float
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
    model, by_hand = new_model(histories), new_model(histories)
    fit(model, histories, parts, recipe, max_steps=3, progress=False)
    first = {name: torch.zeros_like(p) for name, p in by_hand.named_parameters()}
    second = {name: torch.zeros_like(p) for name, p in by_hand.named_parameters()}
    for step in range(1, 4):
        rate = 0.01 * 0.5 ** ((step - 1) / 3)
        slope = gradients(by_hand, seen_batches[step - 1], recipe)
        with torch.no_grad():
            for name, p in by_hand.named_parameters():
                g = slope[name] + (decay * p if optimizer == "adam" else 0)
                first[name] = 0.9 * first[name] + 0.1 * g
                second[name] = 0.999 * second[name] + 0.001 * g * g
                m, v = first[name] / (1 - 0.9**step), second[name] / (1 - 0.999**step)
                if optimizer == "adamw":
                    p.mul_(1 - rate * decay)
                p.sub_(m / (v.sqrt() + 1e-8) * rate)
    for name, value in model.named_parameters():
        if value.grad is None:  # never used by these batches: no optimizer touches it
            continue
        # Adam divides by the gradient's own size: where that is rounding noise, so is the step
        torch.testing.assert_close(value, by_hand.get_parameter(name), rtol=1e-3, atol=2e-4)


def test_averaged_weights_by_hand(histories: GroupedHistories, parts: Split) -> None:
    """The average moves less and less, down to a share of 1 - decay, towards the weights of each step."""

    def after(steps: int, average: float) -> dict[str, Tensor]:
        model = new_model(histories)
        recipe = Recipe(learning_rate=0.05, batch_size=4, average=average)
        fit(model, histories, parts, recipe, max_steps=steps, progress=False)
        return {name: value.double() for name, value in weights(model).items()}

    expected = after(1, 0.0)
    for step in range(2, 5):
        keep = min(0.2, (step - 1) / (step + 9))
        expected = {name: keep * expected[name] + (1 - keep) * value for name, value in after(step, 0.0).items()}
    found = after(4, 0.2)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)
    assert not same(found, after(4, 0.0))


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
    assert losses[-1] < 0.75 * losses[0]
    assert max(entry["validation_auc"] for entry in result.epochs) > 0.85


def scripted(monkeypatch: pytest.MonkeyPatch, aucs: list[float]) -> None:
    """Let validation report these AUCs, one an epoch, for every target group."""
    calls = iter(aucs)
    current = [0.0]

    def score(*_: object, **__: object) -> dict:
        current[0] = next(calls)
        return dict.fromkeys(SCHEMA.groups)

    monkeypatch.setattr(training, "score_candidates", score)
    monkeypatch.setattr(training, "user_auc", lambda *_: AverageUserAUC(np.array(current), 0))


def test_early_stopping_restores_the_best_epoch(
    histories: GroupedHistories, parts: Split, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scripted(monkeypatch, [0.5, 0.7, 0.7, 0.6, 0.9])
    model = new_model(histories)
    result = fit(model, histories, parts, Recipe(epochs=9, patience=2), run=tmp_path, progress=False)
    assert [entry["validation_auc"] for entry in result.epochs] == pytest.approx([0.5, 0.7, 0.7, 0.6])
    assert (result.best_epoch, result.finished) == (2, True)  # an equal AUC is not a better one
    best = training.load_file(tmp_path / "checkpoints" / "epoch-0002" / "weights.safetensors")
    last = training.load_file(tmp_path / "checkpoints" / "epoch-0004" / "weights.safetensors")
    for name, value in best.items():
        assert torch.equal(model.state_dict()[name], value)
    assert any(not torch.equal(best[name], last[name]) for name in best)


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


def test_max_steps(histories: GroupedHistories, parts: Split, tmp_path: Path) -> None:
    recipe = Recipe(epochs=3, batch_size=8)
    full = sum(-(-len(samples) // 8) for samples in parts.train.values())
    for steps, per_epoch, kept in (
        (full - 1, [full - 1], 0),
        (full, [full], 1),
        (full + 1, [full, 1], 1),
        (2 * full, [full] * 2, 2),
    ):
        run = tmp_path / str(steps)
        result = fit(new_model(histories), histories, parts, recipe, max_steps=steps, run=run, progress=False)
        assert (result.steps, [e["steps"] for e in result.epochs]) == (steps, per_epoch)
        assert not result.finished
        assert Checkpoints(run).latest() == kept  # an epoch that was cut short is no place to resume from
        assert json.loads((run / "metrics.json").read_text())["steps"] == steps
    everything = fit(new_model(histories), histories, parts, recipe, max_steps=99 * full, progress=False)
    assert (everything.steps, everything.finished) == (3 * full, True)


@pytest.mark.parametrize("first", [1, 0])
def test_resume_after_max_steps_is_as_if_never_stopped(
    histories: GroupedHistories, parts: Split, tmp_path: Path, first: int
) -> None:
    recipe = Recipe(epochs=2, batch_size=8)
    full = sum(-(-len(samples) // 8) for samples in parts.train.values())
    straight = new_model(histories)
    fit(straight, histories, parts, recipe, progress=False)
    fit(new_model(histories), histories, parts, recipe, max_steps=first * full + 2, run=tmp_path, progress=False)
    resumed = new_model(histories)
    result = fit(resumed, histories, parts, recipe, run=tmp_path, resume=True, progress=False)
    assert (len(result.epochs), result.steps, result.finished) == (2, 2 * full, True)
    assert same(weights(straight), weights(resumed))


def test_a_finished_run_goes_on_with_more_epochs(histories: GroupedHistories, parts: Split, tmp_path: Path) -> None:
    recipe = Recipe(epochs=3, patience=None)
    straight, resumed = new_model(histories), new_model(histories)
    fit(straight, histories, parts, recipe, progress=False)
    fit(new_model(histories), histories, parts, recipe.model_copy(update={"epochs": 1}), run=tmp_path, progress=False)
    result = fit(resumed, histories, parts, recipe, run=tmp_path, resume=True, progress=False)
    assert len(result.epochs) == 3
    assert same(weights(straight), weights(resumed))
    # and once more with nothing left to do
    again = new_model(histories)
    assert fit(again, histories, parts, recipe, run=tmp_path, resume=True, progress=False) == result
    assert same(weights(again), weights(resumed))


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
    assert max(batch.length for batch in seen_batches) <= 6  # two of each of three groups


def test_a_model_trains_on_its_own_history_groups(
    histories: GroupedHistories, parts: Split, seen_batches: list[Batch]
) -> None:
    torch.manual_seed(0)
    model = ATRank(SCHEMA, histories.vocabularies, CONFIG, ["query"])
    fit(model, histories, parts, Recipe(epochs=1), progress=False)
    assert {tuple(batch.histories) for batch in seen_batches} == {("query",)}


def test_errors(histories: GroupedHistories, parts: Split, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"recipe 'papper'; use one of \['paper', 'modern', 'small'\]"):
        fit(new_model(histories), histories, parts, "papper")
    nothing = Split({g: s[:0] for g, s in parts.train.items()}, parts.validation, parts.test)
    with pytest.raises(ValueError, match="no training samples"):
        fit(new_model(histories), histories, nothing)
    fit(new_model(histories), histories, parts, Recipe(epochs=1), run=tmp_path, progress=False)
    with pytest.raises(FileExistsError, match="already holds a trained run; resume it"):
        fit(new_model(histories), histories, parts, Recipe(epochs=1), run=tmp_path, progress=False)


def test_non_finite_loss(histories: GroupedHistories, parts: Split) -> None:
    recipe = Recipe(optimizer="sgd", learning_rate=1e30, gradient_clip=None, batch_size=8)
    with pytest.raises(FloatingPointError, match=r"loss (nan|inf) at step \d+ of epoch 1 \(learning rate 1e\+30\)"):
        fit(new_model(histories), histories, parts, recipe, progress=False)


def test_unfinished_checkpoints_are_ignored(histories: GroupedHistories, parts: Split, tmp_path: Path) -> None:
    straight, resumed = new_model(histories), new_model(histories)
    fit(straight, histories, parts, Recipe(epochs=2), progress=False)
    fit(new_model(histories), histories, parts, Recipe(epochs=1), run=tmp_path, progress=False)
    half = tmp_path / "checkpoints" / ".epoch-0002.3f9c"
    half.mkdir()
    (half / "weights.safetensors").write_bytes(b"half of a fi")
    assert Checkpoints(tmp_path).latest() == 1
    fit(resumed, histories, parts, Recipe(epochs=2), run=tmp_path, resume=True, progress=False)
    assert same(weights(straight), weights(resumed))
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["epoch-0001", "epoch-0002"]
    # the optimizer's state is kept for the latest epoch alone
    assert [p.parent.name for p in tmp_path.glob("checkpoints/*/optimizer.safetensors")] == ["epoch-0002"]


# a run that is killed


def run_of_three_epochs(run: Path | str, optimizer: str, resume: bool = False) -> ATRank:
    torch.set_num_threads(1)
    histories = GroupedHistories.from_log(random_log(9, users=7, behaviors=150, objects=120, times=400))
    model = new_model(histories, dropout=0.3, embedding_dropout=0.1)
    recipe = Recipe.model_validate(
        {
            "optimizer": optimizer,
            "epochs": 3,
            "patience": None,
            "batch_size": 4,
            "l2": 1e-4,
            "decay_rate": 0.5,
            "decay_steps": 99,
            "average": 0.9 if optimizer == "adam" else 0.0,
        }
    )
    fit(model, histories, split(histories), recipe, seed=2, run=run, resume=resume, progress=False)
    return model


def comparable(run: Path) -> dict:
    metrics = json.loads((run / "metrics.json").read_text())
    for entry in metrics["epochs"]:
        del entry["seconds"], entry["cpu_seconds"], entry["samples_per_second"]
    return metrics


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_killed_and_resumed_equals_straight(tmp_path: Path, optimizer: str) -> None:
    code = "import sys; from tests.test_training import run_of_three_epochs as go; go(*sys.argv[1:])"
    killed = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "killed"), optimizer],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    first = tmp_path / "killed" / "checkpoints" / "epoch-0001"
    patience = time.monotonic() + 120
    while not first.is_dir() and killed.poll() is None and time.monotonic() < patience:
        time.sleep(0.002)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert Checkpoints(tmp_path / "killed").latest() == 1  # it died within the second epoch
    resumed = run_of_three_epochs(tmp_path / "killed", optimizer, resume=True)
    straight = run_of_three_epochs(tmp_path / "straight", optimizer)
    assert same(weights(resumed), weights(straight))
    assert comparable(tmp_path / "killed") == comparable(tmp_path / "straight")
    assert len(comparable(tmp_path / "killed")["epochs"]) == 3
