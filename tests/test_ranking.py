"""The function f and the two losses of eq. 8, against plain loops."""

from __future__ import annotations

import math

import pytest
import torch

from atrank_lib.ranking import LOSSES, DotProduct, Targets, calibrated_loss, pairwise_loss, pointwise_loss, softmax_loss
from tests import reference


def test_dot_product_agrees_with_a_loop():
    torch.manual_seed(0)
    target, user = torch.randn(2, 3, 4).double(), torch.randn(2, 3, 4).double()
    found = DotProduct()(Targets("item", target, torch.full_like(target, torch.nan), None), user)
    for b in range(2):
        for c in range(3):
            expected = sum(target[b, c, i].item() * user[b, c, i].item() for i in range(4))
            assert found[b, c].item() == pytest.approx(expected)


@pytest.mark.parametrize("shape", [(5, 2), (3, 6), (1, 2)])
@pytest.mark.parametrize("name", ["pointwise", "pairwise"])
def test_losses_agree_with_loops(name, shape):
    scores = torch.randn(shape, generator=torch.Generator().manual_seed(0)).double() * 3
    expected = {"pointwise": reference.pointwise_loss, "pairwise": reference.pairwise_loss}[name](scores.tolist())
    assert LOSSES[name](scores).item() == pytest.approx(expected, rel=1e-12)


def test_softmax_loss_is_the_cross_entropy_of_the_first():
    scores = torch.randn(5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    wanted = torch.nn.functional.cross_entropy(scores, torch.zeros(5, dtype=torch.long))
    torch.testing.assert_close(softmax_loss(scores), wanted)


def test_gradients_of_the_losses():
    scores = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).double().requires_grad_()
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


def test_calibrated_loss_raises_the_positive_s_chance_to_a_power():
    """gBCE as its paper has it, ``-log(sigmoid(s)^beta)``, with beta for infinitely many objects."""
    scores = torch.randn(5, 9, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    chances = scores.sigmoid()
    wanted = -((chances[:, 0] ** 0.25).log().sum() + (1 - chances[:, 1:]).log().sum()) / scores.numel()
    torch.testing.assert_close(calibrated_loss(scores), wanted)


@pytest.mark.parametrize(("name", "loss"), LOSSES.items())
def test_losses_stay_finite_and_have_the_right_ends(name, loss):
    wrong = torch.tensor([[-1e4, 1e4]], requires_grad=True)
    value = loss(wrong)
    value.backward()
    assert math.isfinite(value.item())
    assert wrong.grad is not None
    assert wrong.grad.isfinite().all()
    assert loss(torch.tensor([[1e4, -1e4]])).item() == 0
    assert loss(torch.zeros(2, 2)).item() == pytest.approx(math.log(2) * {"calibrated": 0.625}.get(name, 1.0))
