"""The function f, the two losses of eq. 8, and the best objects for a user, against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from atrank_lib.grouping import GroupedHistories
from atrank_lib.model import ATRank, ATRankConfig
from atrank_lib.ranking import LOSSES, MLP, DotProduct, pairwise_loss, pointwise_loss, top_objects
from atrank_lib.samples import build_batch, moments
from tests import reference

DAY = 86_400


def test_dot_product_agrees_with_a_loop():
    target, user = torch.randn(2, 3, 4).double(), torch.randn(2, 3, 4).double()
    found = DotProduct()(target, user)
    for b in range(2):
        for c in range(3):
            expected = sum(target[b, c, i].item() * user[b, c, i].item() for i in range(4))
            assert found[b, c].item() == pytest.approx(expected)


def test_mlp_agrees_with_a_loop():
    network = MLP(4).double()
    p = {name: parameter.detach().numpy() for name, parameter in network.named_parameters()}
    target, user = torch.randn(2, 3, 4).double(), torch.randn(2, 3, 4).double()
    found = network(target, user).detach().numpy()
    for b in range(2):
        for c in range(3):
            h, e = target[b, c].numpy(), user[b, c].numpy()
            inner = reference.perceptron(np.concatenate([h, e, h * e]), p["layers.0.weight"], p["layers.0.bias"])
            assert found[b, c] == pytest.approx(float(p["layers.3.weight"][0] @ inner + p["layers.3.bias"][0]))


@pytest.mark.parametrize("shape", [(5, 2), (3, 6), (1, 2)])
@pytest.mark.parametrize("name", ["pointwise", "pairwise"])
def test_losses_agree_with_loops(name, shape):
    scores = torch.randn(shape).double() * 3
    expected = {"pointwise": reference.pointwise_loss, "pairwise": reference.pairwise_loss}[name](scores.tolist())
    assert LOSSES[name](scores).item() == pytest.approx(expected, rel=1e-12)


def test_gradients_of_the_losses():
    scores = torch.randn(3, 4).double().requires_grad_()
    pointwise_loss(scores).backward()
    assert scores.grad is not None
    for b in range(3):
        for c in range(4):
            slope = (reference.sigmoid(scores[b, c].item()) - (c == 0)) / 12
            assert scores.grad[b, c].item() == pytest.approx(slope)
    scores.grad = None
    pairwise_loss(scores).backward()
    assert scores.grad is not None
    for b in range(3):
        slopes = [-reference.sigmoid(scores[b, c].item() - scores[b, 0].item()) / 9 for c in range(1, 4)]
        assert scores.grad[b].tolist() == pytest.approx([sum(slopes), *(-s for s in slopes)])


@pytest.mark.parametrize("loss", [pointwise_loss, pairwise_loss])
def test_losses_stay_finite_and_have_the_right_ends(loss):
    wrong = torch.tensor([[-1e4, 1e4]], requires_grad=True)
    value = loss(wrong)
    value.backward()
    assert math.isfinite(value.item())
    assert wrong.grad is not None
    assert wrong.grad.isfinite().all()
    assert loss(torch.tensor([[1e4, -1e4]])).item() == 0
    assert loss(torch.zeros(2, 3)).item() == pytest.approx(math.log(2))


@pytest.fixture
def ranker(tiny_log) -> tuple[ATRank, GroupedHistories]:
    torch.manual_seed(0)
    histories = GroupedHistories.from_log(tiny_log)
    return ATRank(
        tiny_log.schema, histories.vocabularies, ATRankConfig(embedding_size=4, hidden=8, spaces=2)
    ), histories


@pytest.mark.parametrize("group", ["item", "query", "coupon"])
@pytest.mark.parametrize("at", [None, 4 * DAY])
def test_top_objects_are_those_of_scoring_all(ranker, group, at):
    model, histories = ranker
    found = top_objects(model, histories, "anna", group, 2, at=at, include_seen=True, chunk=2)
    anna = torch.tensor([histories.user("anna")])
    samples = moments(histories, group, anna, torch.tensor([60 * DAY + 1 if at is None else at]))
    scores = model(build_batch(histories, samples, torch.arange(len(histories.catalogs[group]))[None])).scores[0]
    best = sorted(zip(scores.tolist(), histories.catalogs[group].object_ids, strict=True), reverse=True)[:2]
    assert found["rank"].tolist() == [1, 2]
    assert found["object_id"].tolist() == [name for _, name in best]
    np.testing.assert_allclose(found["score"], [score for score, _ in best], rtol=1e-5)


def test_top_objects_leave_out_what_was_touched_before(ranker):
    model, histories = ranker
    assert set(top_objects(model, histories, "anna", "item")["object_id"]) == {"i3", "i5", "i6"}
    # on day 5, i4 is still to come
    assert set(top_objects(model, histories, "anna", "item", at=5 * DAY)["object_id"]) == {
        "i3",
        "i4",
        "i5",
        "i6",
    }
    assert set(top_objects(model, histories, "dora", "item")["object_id"]) == {f"i{n}" for n in range(1, 7)}
    assert len(top_objects(model, histories, "anna", "item", include_seen=True)) == 6


def test_top_objects_refuse_nonsense(ranker):
    model, histories = ranker
    with pytest.raises(KeyError, match="nobody"):
        top_objects(model, histories, "nobody", "item")
    with pytest.raises(ValueError, match="top=0"):
        top_objects(model, histories, "anna", "item", 0)
    with pytest.raises(ValueError, match="movie"):
        top_objects(model, histories, "anna", "movie")
