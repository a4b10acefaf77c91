"""The ONNX graph of a model: one user, densely, says what the model says, for every variant and any length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor

from atrank_book.live import batch_of
from atrank_lib.batches import Batch, Features, Ragged
from atrank_lib.fast import speed_up
from atrank_lib.grouping import GroupedHistories
from atrank_lib.interpret import explain
from atrank_lib.model import ATRank
from atrank_lib.samples import build_batch, prepare
from atrank_lib.serve.onnx_graph import OneUser, export_onnx
from tests.models import VARIANTS, a_log, fitting
from tests.serve.pages import a_model, random_behaviors

EVERYWHERE = [way for way in VARIANTS if not fitting(VARIANTS[way])]


@pytest.fixture(scope="module")
def histories() -> GroupedHistories:
    """Objects that training never showed are unknown, and some have a shop that is."""
    return prepare(a_log(), "validated")[0]


def inputs_of(batch: Batch) -> dict[str, Tensor]:
    """The inputs of ``OneUser``, by name, from a batch of one sample."""
    inputs: dict[str, Tensor] = {}
    for name, group in batch.histories.items():
        inputs |= _named(f"features.{name}.", group.features)
        inputs |= {f"actions.{name}": group.actions, f"elapsed.{name}": group.elapsed}
    return inputs | _named("candidates.", batch.candidates.features)


def _named(prefix: str, features: Features) -> dict[str, Tensor]:
    return {prefix + name: _filled(value) if isinstance(value, Ragged) else value for name, value in features.items()}


def _filled(lists: Ragged) -> Tensor:
    """Lists of tokens as a table, filled with -1; at least one column."""
    lengths = lists.offsets.diff()
    width = max(int(lengths.max()), 1) if len(lengths) else 1
    table = torch.full((len(lengths), width), -1, dtype=lists.values.dtype)
    table[torch.arange(width)[None, :] < lengths[:, None]] = lists.values
    return table


def compare(model: ATRank, user: OneUser, batch: Batch, n: int, atol: float, session: Any = None) -> None:
    """Of a user's graph, or of its function in Python."""
    inputs = inputs_of(batch)
    assert set(inputs) == set(user.names)
    if session is None:
        with torch.no_grad():
            scores, target, *layers = user(*(inputs[name] for name in user.names))
    else:
        known = {entry.name for entry in session.get_inputs()}
        found = session.run(None, {name: value.numpy() for name, value in inputs.items() if name in known})
        scores, target, *layers = map(torch.from_numpy, found)
    explained = explain(model, batch)
    with torch.no_grad():
        torch.testing.assert_close(scores, model(batch).scores[0], atol=atol, rtol=1e-4)
    torch.testing.assert_close(target, explained.target_attention[0, :, :, :n], atol=atol, rtol=1e-4)
    assert len(layers) == len(explained.self_attention)
    for layer, expected in zip(layers, explained.self_attention, strict=True):
        torch.testing.assert_close(layer, expected[0, :, :n, :n], atol=atol, rtol=1e-4)


@pytest.mark.parametrize("way", EVERYWHERE)
@pytest.mark.parametrize("target", ["item", "query", "coupon"])
def test_one_user_agrees_with_the_model(histories: GroupedHistories, way: str, target: str) -> None:
    model, _ = a_model(way, histories)
    user = OneUser(model, target)
    rng = np.random.default_rng(0)
    for count in (0, 1, 3, 17):
        batch, order = batch_of(histories, random_behaviors(rng, histories, count), target, [0, None, 3])
        compare(model, user, batch, len(order), atol=1e-5)


def graph_of(model: ATRank, target: str, folder: Path) -> Any:
    export_onnx(model, target, folder / "model.onnx")
    assert [path.name for path in folder.iterdir()] == ["model.onnx"]
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    assert [entry.name for entry in session.get_outputs()] == OneUser(model, target).outputs
    return session


@pytest.mark.parametrize("way", EVERYWHERE)
def test_the_graph_agrees_with_the_model_for_any_length(histories: GroupedHistories, way: str, tmp_path: Path) -> None:
    model, _ = a_model(way, histories)
    session, user = graph_of(model, "item", tmp_path), OneUser(model, "item")
    rng = np.random.default_rng(1)
    for count in (0, 1, 2, 5, 40):
        for objects in ([0], [1, None, 2, 7, 7]):
            batch, order = batch_of(histories, random_behaviors(rng, histories, count), "item", objects)
            compare(model, user, batch, len(order), 1e-4, session)
    # one group alone, so that two are empty
    for number in range(3):
        behaviors: list[list[Any]] = [[number, 0, 1, 5], [number, 0, None, 50]]
        batch, order = batch_of(histories, behaviors, "item", [0, 1])
        compare(model, user, batch, len(order), 1e-4, session)


@pytest.mark.parametrize("way", [way for way in VARIANTS if way not in EVERYWHERE])
def test_variants_that_some_groups_allow(way: str, tmp_path: Path) -> None:
    model, histories = a_model(way)
    session, user = graph_of(model, "coupon", tmp_path), OneUser(model, "coupon")
    some: list[list[Any]] = [[0, 0, 1, 7 * 86_400], [0, 0, None, 86_399]]
    for behaviors in ([], some):
        batch, order = batch_of(histories, behaviors, "coupon", [0, 1, 2, None])
        compare(model, user, batch, len(order), 1e-4, session)


def test_histories_of_some_groups(histories: GroupedHistories, tmp_path: Path) -> None:
    """Of a model with kernels put in, which stay where they are."""
    model = ATRank(histories.schema, histories.vocabularies, histories=["query", "coupon"]).eval()
    session, user = graph_of(speed_up(model), "item", tmp_path), OneUser(model, "item")
    assert not any(name.partition(".")[2].startswith("item") for name in user.names)
    samples = prepare(a_log(), "validated")[1].test["item"]
    one = samples[torch.tensor([3])]
    batch = build_batch(histories, one, torch.tensor([[0, 1]]), model.histories)
    compare(model, user, batch, int(batch.packing.lengths[0]), 1e-4, session)
    assert type(model.block(0).attention).__name__ == "FasterAttentionForSpaceAttention"


def test_a_graph_of_a_group_that_is_missing(histories: GroupedHistories, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"target group: .*'shoe'.*item"):
        export_onnx(a_model("atrank", histories)[0], "shoe", tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())
