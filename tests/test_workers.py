"""Parts of a batch on threads against the whole batch on one."""

from __future__ import annotations

import pytest
import torch
from atrank_lib.noise import Dropout, drawn_from
from atrank_lib.workers import Workers, part
from torch import nn

from atrank_lib import ATRank, Recipe, fit
from atrank_lib.model import ATRankConfig
from atrank_lib.negatives import NegativeSampler, draw_candidates
from atrank_lib.runs import MODELS, prepare
from atrank_lib.samples import batches
from atrank_lib.scale.execution import Execution
from data_scripts.simulate import MarketplaceConfig, simulate

SIZES = {"embedding_size": 8, "hidden": 16, "spaces": 2}


@pytest.fixture(scope="module")
def prepared():
    return prepare(simulate(MarketplaceConfig(users=50, seed=4)).log, "paper")


@pytest.fixture(scope="module")
def some_batches(prepared):
    histories, split = prepared
    generator = torch.Generator().manual_seed(0)
    candidates = {
        name: draw_candidates(samples, NegativeSampler(histories, name), 2, generator)
        for name, samples in split.test.items()
    }
    return [batch for _, _, batch in batches(histories, split.test, candidates, 7, generator=generator)]


@pytest.mark.parametrize("name", sorted(MODELS))
def test_parts_score_what_the_whole_batch_scores(prepared, some_batches, name):
    histories, _ = prepared
    torch.manual_seed(0)
    model = MODELS[name](histories.schema, histories.vocabularies).eval()
    for batch in some_batches[:6]:
        whole = model(batch).scores
        for cut in (1, 3, batch.size - 1):
            if 0 < cut < batch.size:
                pieces = [part(batch, 0, cut), part(batch, cut, batch.size)]
                torch.testing.assert_close(torch.cat([model(p).scores for p in pieces]), whole, rtol=1e-4, atol=1e-5)


def test_every_sample_is_in_one_part(prepared, some_batches):
    histories, _ = prepared
    model = ATRank(histories.schema, histories.vocabularies, ATRankConfig(**SIZES))
    for count in (1, 2, 3, 5, 40):
        for batch in some_batches:
            pieces = Workers(count, model).cut(batch)
            assert torch.equal(torch.cat([p.users for p in pieces]), batch.users)
            assert sum(len(p.slots) for p in pieces) == len(batch.slots)
            assert len(pieces) <= max(count, 1)
            assert all(p.size for p in pieces)


@pytest.mark.parametrize("name", ["atrank", "bi-lstm", "din", "wide-deep"])
def test_two_workers_learn_what_one_learns(prepared, name):
    histories, split = prepared
    found = []
    for workers in (1, 2):
        torch.manual_seed(0)
        kind = MODELS[name]
        model = kind(histories.schema, histories.vocabularies, kind.Config(embedding_size=8, hidden=16)).double()
        recipe = Recipe(batch_size=16, epochs=1, learning_rate=1e-2, optimizer="sgd", l2=1e-4, average=0.9)
        result = fit(model, histories, split, recipe, max_steps=30, progress=False, on=Execution(workers=workers))
        found.append((result.epochs[0]["loss"], [p.detach().clone() for p in model.parameters()]))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-9)
    for one, two in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-9)


def test_noise_is_repeatable_with_threads(prepared):
    histories, split = prepared
    runs = []
    for _ in range(2):
        torch.manual_seed(0)
        config = ATRankConfig(**SIZES, dropout=0.3, embedding_dropout=0.2, id_dropout=0.3)
        model = ATRank(histories.schema, histories.vocabularies, config)
        fit(model, histories, split, Recipe(batch_size=16), max_steps=15, progress=False, on=Execution(workers=3))
        runs.append([p.detach().clone() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_dropout_keeps_the_mean_and_follows_its_seed():
    layer = Dropout(0.25)
    x = torch.ones(200_000)
    with drawn_from(5):
        first = layer(x)
    with drawn_from(5):
        assert torch.equal(layer(x), first)
    assert first.mean() == pytest.approx(1, abs=0.01)
    assert first.unique().tolist() == pytest.approx([0, 4 / 3])
    torch.manual_seed(1)
    ours = layer(x)
    torch.manual_seed(1)
    assert torch.equal(ours, nn.Dropout(0.25)(x))


def test_what_threads_cannot_do_is_refused(prepared):
    histories, split = prepared
    model = ATRank(histories.schema, histories.vocabularies, ATRankConfig(**SIZES))
    with pytest.raises(ValueError, match="pcgrad"):
        fit(model, histories, split, Recipe(task_steps="pcgrad"), on=Execution(workers=2), progress=False)
    bst = MODELS["bst"]
    noisy = bst(histories.schema, histories.vocabularies, bst.Config(dropout=0.1))
    with pytest.raises(ValueError, match="repeatable; use workers=1"):
        Workers(2, noisy)
    with pytest.raises(ValueError, match="workers=0"):
        Workers(0, model)
