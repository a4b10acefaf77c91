"""What holds for every competitor: padding, order, time, gradients, and that it trains, resumes and ranks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from atrank_lib.competitors import BPRMF, BST, CNN, DIN, BiLSTM, BiLSTMAttention, WideDeep
from atrank_lib.competitors.base import in_time, mean_of_samples
from atrank_lib.ranking import LOSSES, top_objects
from atrank_lib.runs import MODELS, load_run, train_run
from atrank_lib.samples import build_batch
from atrank_lib.training import Recipe
from tests.competitors.cases import close, make
from tests.random_logs import random_log

KINDS = [BPRMF, BiLSTM, BiLSTMAttention, CNN, DIN, BST, WideDeep]
OF_BEHAVIORS = KINDS[1:]


def test_every_competitor_can_be_named():
    assert set(KINDS) < set(MODELS.values())


@pytest.mark.parametrize("seed", range(3))
def test_behaviors_of_all_groups_in_the_order_of_time(seed):
    case = make(BiLSTM, seed=seed)
    order, layout = in_time(case.batch)
    assert order is not None
    names = list(case.batch.histories)
    group = torch.cat([torch.full_like(b.positions, i) for i, b in enumerate(case.batch.histories.values())])[order]
    elapsed = torch.cat([b.elapsed for b in case.batch.histories.values()])[order]
    place = [(names[g], e) for g, e in zip(group.tolist(), elapsed.tolist(), strict=True)]
    assert place == [(b.group, b.elapsed) for behaviors in case.behaviors for b in behaviors]
    assert layout.mask.sum(dim=1).tolist() == [len(b) for b in case.behaviors]


def test_mean_of_samples():
    x, owner = torch.tensor([[1.0], [3.0], [5.0]]), torch.tensor([0, 0, 2])
    assert mean_of_samples(x, owner, 4).tolist() == [[2.0], [0.0], [5.0], [0.0]]


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_scores_the_same_alone_and_beside_longer_ones(kind):
    case = make(kind, seed=4)
    whole = case.model(case.batch).scores
    for b in range(len(case.samples)):
        one = torch.tensor([b])
        batch = build_batch(case.histories, case.samples[one], case.rows[one], case.model.histories)
        close(case.model(batch).scores[0], whole[b].detach().numpy())


@pytest.mark.parametrize("kind", OF_BEHAVIORS)
@pytest.mark.parametrize("time", ["lookup", "none"])
def test_the_time_feature_can_be_taken_away(kind, time):
    """The same behaviors in the same order, asked a year later: only a model with time may notice."""
    case = make(kind, seed=5, time=time)
    batch = case.batch
    before = case.model(batch).scores
    year = 365 * 86_400_000
    for group in batch.histories.values():
        group.elapsed.add_(year)
    after = case.model(batch).scores
    some = torch.tensor([bool(b) for b in case.behaviors])
    assert torch.equal(before[~some], after[~some])
    assert torch.allclose(before, after) == (time == "none")


@pytest.mark.parametrize("kind", OF_BEHAVIORS)
def test_only_sequence_models_read_the_order(kind):
    """Elapsed times reversed within each sample: without the time feature, a model of sets cannot notice."""
    case = make(kind, seed=6, time="none", groups=("items",))
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
    assert torch.allclose(before, after) == (kind in (DIN, BST, WideDeep))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_part(kind):
    case = make(kind, seed=7)
    model = case.model.train()
    LOSSES["pairwise"](model(case.batch).scores).backward()
    silent = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    # other groups are no targets here; a pair-wise loss cancels what is the same for all candidates
    allowed = ("users.", "biases.", "objects.", "alone.", "crossed.", "embeddings.", "tables.")
    constant = {"top.bias", "top.3.bias", "top.5.bias", "target.attention.values.0.bias"}
    assert {name for name in silent if not name.startswith(allowed)} <= constant


@pytest.mark.parametrize("name", sorted(set(MODELS) - {"atrank"}))
def test_trains_resumes_and_ranks(name, tmp_path: Path):
    log = random_log(4, users=7, behaviors=60, objects=30, times=40)
    sizes = {"embedding_size": 4, "hidden": 8}
    options = {k: v for k, v in sizes.items() if k in MODELS[name].Config.model_fields}
    recipe = Recipe(epochs=2, batch_size=16, learning_rate=0.03, patience=None, average=0.5)
    result = train_run(log, tmp_path / "a", model=name, options=options, recipe=recipe, progress=False)
    assert result.epochs[-1]["loss"] < result.epochs[0]["loss"]
    short = recipe.model_copy(update={"epochs": 1})
    train_run(log, tmp_path / "b", model=name, options=options, recipe=short, progress=False)
    train_run(log, tmp_path / "b", model=name, options=options, recipe=recipe, resume=True, progress=False)
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()
    run = load_run(tmp_path / "a")
    best = top_objects(run.model, run.histories_of(log), "steady", "item", 5)
    assert len(best) == 5
    assert best["score"].is_monotonic_decreasing
