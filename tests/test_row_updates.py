"""Updates of a batch's rows against updates of whole tables."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim.swa_utils import AveragedModel

from atrank_lib import ATRank, Recipe, fit, kernels, row_updates, training
from atrank_lib.competitors import WideDeep
from atrank_lib.competitors.base import CompetitorConfig
from atrank_lib.fast.row_updates import RowUpdates
from atrank_lib.model import ATRankConfig
from atrank_lib.runs import prepare
from atrank_lib.samples import build_batch
from atrank_lib.scale.processes import Processes
from data_scripts.simulate import MarketplaceConfig, simulate

SIZES = {"embedding_size": 8, "hidden": 16, "spaces": 2}


training_optimizer = training._optimizer


def without_eps(optimizer, *arguments):
    made = optimizer(*arguments)
    for group in made.param_groups:
        if "eps" in group:
            group["eps"] = 1e-30
    return made


@pytest.fixture(scope="module")
def prepared():
    return prepare(simulate(MarketplaceConfig(users=60, seed=3)).log, "paper")


def trained(prepared, monkeypatch, large, recipe, config=None, kind=ATRank, **options):
    """In 64 bits and with hardly any eps, so that differences are no rounding and no approximation."""
    monkeypatch.setattr(training, "large", lambda batch_size: large)
    monkeypatch.setattr(training, "_optimizer", partial(without_eps, training_optimizer))
    histories, split = prepared
    torch.manual_seed(0)
    model = kind(histories.schema, histories.vocabularies, config or ATRankConfig(**SIZES)).double()
    result = fit(model, histories, split, recipe, progress=False, **options)
    return result, dict(model.named_parameters())


def test_small_tables_are_updated_as_a_whole_and_so_are_all_with_weight_decay(prepared):
    histories, _ = prepared
    model = ATRank(histories.schema, histories.vocabularies, ATRankConfig(**SIZES))
    everything = list(model.parameters())
    decaying = torch.optim.AdamW(everything, weight_decay=0.1)
    for updates in (RowUpdates(model, torch.optim.Adam(everything)), RowUpdates(model, decaying, least=1)):
        assert not updates.tables
        assert len(updates.rest) == len(everything)
    assert RowUpdates(model, torch.optim.Adam(everything), least=1).tables
    assert row_updates.large(32) < row_updates.large(512)


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "adam"},
        {"optimizer": "adam", "average": 0.99},
        {"optimizer": "adamw", "average": 0.9, "decay_rate": 0.5, "decay_steps": 10},
        {"optimizer": "sgd", "learning_rate": 0.3},
        {"optimizer": "sgd", "learning_rate": 0.3, "average": 0.99},
        {"optimizer": "adam", "task_steps": "joint"},
        {"optimizer": "adam", "task_steps": "pcgrad", "average": 0.9},
        {"optimizer": "adam", "task_weights": "uncertainty", "gradient_clip": None},
    ],
    ids=str,
)
def test_training_in_rows_is_training_as_a_whole(prepared, monkeypatch, changes):
    recipe = Recipe(**{"batch_size": 8, "epochs": 1, "learning_rate": 3e-3, **changes})
    steps = {"max_steps": 60}
    whole, expected = trained(prepared, monkeypatch, 10**9, recipe, **steps)
    rows, found = trained(prepared, monkeypatch, 2, recipe, **steps)
    assert rows.epochs[0]["loss"] == pytest.approx(whole.epochs[0]["loss"], abs=1e-5)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-8, msg=name)


def test_every_table_of_every_kind_of_lookup_is_moved(prepared, monkeypatch):
    recipe = Recipe(batch_size=8, epochs=1, optimizer="sgd", learning_rate=0.1)
    for kind, config in (
        (ATRank, ATRankConfig(**SIZES)),
        (WideDeep, CompetitorConfig(embedding_size=8, hidden=16)),
    ):
        _, expected = trained(prepared, monkeypatch, 10**9, recipe, config, kind, max_steps=40)
        _, found = trained(prepared, monkeypatch, 2, recipe, config, kind, max_steps=40)
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-9)


def test_runs_resume_from_checkpoints_of_either_kind(prepared, monkeypatch, tmp_path):
    one = Recipe(batch_size=16, epochs=1, average=0.9)
    two = one.model_copy(update={"epochs": 2})
    _, straight = trained(prepared, monkeypatch, 2, two, run=tmp_path / "straight")
    trained(prepared, monkeypatch, 2, one, run=tmp_path / "stopped")
    _, resumed = trained(prepared, monkeypatch, 2, two, run=tmp_path / "stopped", resume=True)
    trained(prepared, monkeypatch, 10**9, one, run=tmp_path / "whole")
    _, mixed = trained(prepared, monkeypatch, 2, two, run=tmp_path / "whole", resume=True)
    for name, value in straight.items():
        assert torch.equal(resumed[name], value), name
        torch.testing.assert_close(mixed[name], value, rtol=1e-6, atol=1e-8)


class Toy(nn.Module):
    """A table whose rows are pulled where a gradient says."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.table = nn.Embedding(rows, 3)
        self.line = nn.Linear(3, 1)


@settings(max_examples=30, deadline=None)
@given(
    turns=st.lists(st.lists(st.integers(0, 6), max_size=4), min_size=1, max_size=60),
    decay=st.sampled_from([None, 0.5, 0.999]),
    scale=st.sampled_from([3e-8, 1e-6, 1.0]),
    window=st.sampled_from([5, 4_096]),
)
@example(turns=[[]] * 13 + [[0]] + [[1]] * 11, decay=0.5, scale=1e-6, window=4_096)  # long owed from the first step on
@example(turns=[[0]] + [[1]] * 50, decay=0.5, scale=3e-8, window=4_096)
def test_what_is_owed_is_what_adam_would_have_done(turns, decay, scale, window):
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
        table = row_updates._Table(module, sparse, next(averaged.module.parameters()).detach() if decay else None)
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
            if table.owed.now == window:
                table.pay_all()
        table.pay_all()
    near = 1e-5 if scale == 1 else 0.01 * 0.05  # where eps counts, the closed form is good to a hundredth of a step
    torch.testing.assert_close(table.weight.detach(), expected.detach(), rtol=1e-4, atol=near)
    if decay:
        torch.testing.assert_close(table.averaged, average, rtol=1e-4, atol=near)
    if dense.state[expected]:
        for name in ("exp_avg", "exp_avg_sq"):
            wanted = dense.state[expected][name]
            torch.testing.assert_close(sparse.state[table.weight][name], wanted, rtol=1e-3, atol=1e-3 * float(scale))
        assert float(table.state["step"]) == float(dense.state[expected]["step"])


class Pair(Processes):
    """One of two processes; the other one's batch holds these rows."""

    theirs: torch.Tensor

    def sum(self, value):
        return value + self.theirs


def test_processes_hold_the_rows_of_all_their_batches(prepared):
    histories, split = prepared
    samples = split.test["item"][:6]
    batch = build_batch(histories, samples, samples.objects[:, None])
    model = ATRank(histories.schema, histories.vocabularies, ATRankConfig(**SIZES)).eval()
    table = model.lookups()["item.object_id"][0]
    updates = RowUpdates(model, torch.optim.SGD(model.parameters()), least=len(table.weight))
    assert set(updates.tables) == {"item.object_id"}
    own = {0}
    for features in (batch.histories["item"].features, batch.candidates.features):
        index = features["object_id"]
        assert isinstance(index, torch.Tensor)
        own.update(index.tolist())
    theirs = [row for row in range(len(table.weight)) if row not in own][:5]
    pair = Pair(rank=0, world=2)
    object.__setattr__(pair, "theirs", torch.zeros(len(table.weight), dtype=torch.int32))
    pair.theirs[theirs] = 1
    expected, whole = model(batch).scores, table.weight
    with updates.small([batch], pair) as (small,):
        assert torch.equal(table.weight, whole[sorted(own | set(theirs))])
        torch.testing.assert_close(model(small).scores, expected)
    assert table.weight is whole


@pytest.mark.parametrize("averaged", [False, True])
def test_kernels_pay_what_torch_pays(averaged):
    torch.manual_seed(0)
    module = nn.Embedding(60, 16)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    for _ in range(3):
        module.weight.grad = torch.randn(60, 16)
        optimizer.step()
    average = torch.randn(60, 16) if averaged else None
    table = row_updates._Table(module, optimizer, average)
    for step in range(9):
        table.owed.step(None if step == 4 else 0.01 * step, 0.9 if averaged else None)
    table.last = torch.randint(10, (60,))
    rows = torch.randperm(60)[:25]
    found = table._paid(rows)
    with kernels.off():
        expected = table._paid(rows)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    table._write(rows, found)
    torch.testing.assert_close(module.weight[rows], found[0], rtol=0, atol=0)
    torch.testing.assert_close(table.state["exp_avg_sq"][rows], found[2], rtol=0, atol=0)
    if average is not None:
        torch.testing.assert_close(average[rows], found[3], rtol=0, atol=0)
