"""What holds for every competitor: padding, order, time, gradients, and that it trains, resumes and ranks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from atrank_lib.competitors.base import in_time
from atrank_lib.ranking import LOSSES
from atrank_lib.runs import MODELS, load_run, train_run
from atrank_lib.serve.ranker import Ranker
from atrank_lib.training import Recipe
from tests.cases import even_log, make
from tests.random_logs import random_log

KINDS = sorted(set(MODELS) - {"atrank"})
OF_BEHAVIORS = [kind for kind in KINDS if kind != "bpr-mf"]


@pytest.mark.parametrize("seed", range(3))
def test_behaviors_of_all_groups_in_the_order_of_time(seed):
    case = make("bi-lstm", even_log(seed), "items", seed=seed)
    packing = in_time(case.batch)
    names = list(case.batch.histories)
    group = torch.cat([torch.full_like(b.positions, i) for i, b in enumerate(case.batch.histories.values())])
    elapsed = torch.cat([b.elapsed for b in case.batch.histories.values()])
    found = [(names[group[row]], int(elapsed[row])) for row in packing.order.tolist()]
    assert found == [(b.group, b.elapsed) for behaviors in case.behaviors for b in behaviors]
    assert packing.lengths.tolist() == [len(b) for b in case.behaviors]
    assert torch.equal(packing.owner, case.batch.packing.owner)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_scores_the_same_alone_and_beside_longer_ones(kind, speed):
    case = make(kind, even_log(4), "items", seed=4, speed=speed)
    whole = case.model(case.batch).scores
    for b in range(len(case.samples)):
        case.close(case.model(case.some(torch.tensor([b])).batch).scores[0], whole[b])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "bst"])  # torch's transformer knows no empty batch
def test_no_samples_have_no_scores(kind, speed):
    case = make(kind, even_log(4), "items", speed=speed)
    assert case.model(case.some(torch.arange(0)).batch).scores.shape == (0, 3)


@pytest.mark.parametrize("kind", OF_BEHAVIORS)
@pytest.mark.parametrize("time", ["lookup", "one_hot", "continuous", "none"])
def test_the_time_feature_can_be_taken_away(kind, time):
    """The same behaviors in the same order, asked a year later: only a model with time may notice."""
    case = make(kind, even_log(5), "items", {"time": time}, seed=5)
    batch = case.batch
    before = case.model(batch).scores
    year = 365 * 86_400_000
    for group in batch.histories.values():
        group.elapsed.add_(year)
    after = case.model(batch).scores
    some = torch.tensor([bool(b) for b in case.behaviors])
    torch.testing.assert_close(before[~some], after[~some])
    assert torch.allclose(before, after) == (time == "none")


@pytest.mark.parametrize("kind", OF_BEHAVIORS)
def test_only_sequence_models_read_the_order(kind, speed):
    """Elapsed times reversed within each sample: without the time feature, a model of sets cannot notice."""
    case = make(kind, even_log(6), "items", {"time": "none"}, seed=6, groups=("items",), speed=speed)
    before = case.model(case.batch).scores
    items = case.batch.histories["items"]
    backwards = items.positions.new_empty(0)
    first = 0
    for behaviors in case.behaviors:
        backwards = torch.cat([backwards, torch.arange(first, first + len(behaviors)).flip(0)])
        first += len(behaviors)
    for name, value in items.features.items():
        assert isinstance(value, torch.Tensor)  # no tokens among the features of items
        items.features[name] = value[backwards]
    items.actions.copy_(items.actions[backwards].clone())
    after = case.model(case.batch).scores
    difference = (before - after).abs().max() / max(1, before.abs().max())
    assert (difference < case.tolerance) == (kind in ("din", "bst", "wide-deep"))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_part(kind, speed):
    silent: set[str] | None = None  # in one model after the other, for some relus are never off
    for seed in (7, 8):
        case = make(kind, even_log(seed), "items", seed=seed, speed=speed)
        LOSSES["pairwise"](case.model.train()(case.batch).scores).backward()
        now = {name for name, p in case.model.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-6}
        silent = now if silent is None else silent & now
    assert silent is not None
    # other groups are no targets here; a pair-wise loss cancels what is the same for all candidates
    allowed = ("users.", "biases.", "objects.", "alone.", "crossed.", "embeddings.", "tables.")
    constant = {
        "top.bias",
        "top.3.bias",
        "top.5.bias",
        "target.attention.values.0.bias",
        "layers.0.self_attn.in_proj_bias",
    }
    silent = {name for name in silent if not name.startswith(allowed)}
    silent -= {name for name in silent if "target [query]" in name or "target [coupon]" in name}
    assert silent <= constant


@pytest.mark.parametrize("kind", KINDS)
def test_trains_resumes_and_ranks(kind, tmp_path: Path):
    log = random_log(4, users=7, behaviors=60, objects=30, times=40)
    sizes = {"embedding_size": 4, "hidden": 8}
    options = {k: v for k, v in sizes.items() if k in MODELS[kind].Config.model_fields}
    recipe = Recipe(epochs=2, batch_size=16, learning_rate=0.03, patience=None, average=0.5)
    result = train_run(log, tmp_path / "a", model=kind, options=options, recipe=recipe, progress=False)
    assert result.epochs[-1]["loss"] < result.epochs[0]["loss"]
    short = recipe.model_copy(update={"epochs": 1})
    train_run(log, tmp_path / "b", model=kind, options=options, recipe=short, progress=False)
    train_run(log, tmp_path / "b", model=kind, options=options, recipe=recipe, resume=True, progress=False)
    resumed = load_file(tmp_path / "b" / "model.safetensors")
    for name, value in load_file(tmp_path / "a" / "model.safetensors").items():
        torch.testing.assert_close(resumed[name], value)
    run = load_run(tmp_path / "a")
    best = Ranker(run.model, run.histories_of(log), "item").top("steady", 5)
    assert len(best) == 5
    assert best["score"].is_monotonic_decreasing
