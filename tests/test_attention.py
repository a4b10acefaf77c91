"""Eq. 3 to 7 on ragged batches: values and gradients against loops, and the two ways to compute one score."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import jaxtyping
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from atrank_lib.attention import (
    FeedForward,
    SelfAttention,
    SpaceAttention,
    TargetAttention,
    attend,
    attention_weights,
    join_spaces,
    split_spaces,
)
from tests import reference
from tests.ragged import HIDDEN, LENGTHS, ragged

pytestmark = pytest.mark.usefixtures("strips")  # everything here holds however a batch is cut into strips

M = TypeVar("M", bound=nn.Module)

FORMS = [("bilinear", (2, 2, 2)), ("bilinear", (1, 3, 2)), ("dot", (3, 3))]


def scrambled(module: M, seed: int = 0) -> M:
    """The module in float64 with random parameters, biases and norms included."""
    generator = torch.Generator().manual_seed(seed)
    module.double()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.7, generator=generator)
    return module


def arrays(module: nn.Module, prefix: str) -> dict[str, np.ndarray]:
    return {f"{prefix}.{name}": p.detach().numpy() for name, p in module.named_parameters()}


@pytest.mark.parametrize("sizes", [(2, 2, 2), (1, 3, 2), (6,)])
def test_splitting_and_joining_spaces_are_inverse(sizes):
    x = torch.randn(2, 4, HIDDEN)
    spaces = split_spaces(x, sizes)
    assert spaces.shape == (2, len(sizes), 4, max(sizes))
    for k, part in enumerate(x.split(sizes, dim=-1)):
        assert torch.equal(spaces[:, k, :, : sizes[k]], part)
        assert not spaces[:, k, :, sizes[k] :].any()
    assert torch.equal(join_spaces(spaces, sizes), x)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_weights_times_values_is_attend(scale):
    torch.manual_seed(0)
    q, k, v = (
        torch.randn(4, 3, 2, 2).double(),
        torch.randn(4, 3, 5, 2).double(),
        torch.randn(4, 3, 5, 2).double(),
    )
    visible = ragged()[1].visible()
    for seen in (visible, None):
        weights = attention_weights(q, k, seen, scale)
        torch.testing.assert_close(weights @ v, attend(q, k, v, seen, scale), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(4, 3, 2).double())
    assert visible is not None
    hidden = ~visible[:, None, None, :].expand(4, 3, 2, 5)
    assert not attention_weights(q, k, visible, scale)[hidden].any()


@pytest.mark.parametrize("sizes", [(2, 2, 2), (1, 3, 2)])
def test_the_bilinear_score_as_it_is_written(sizes):
    """``softmax(S_k W_k S^T) F_Q_k(S)``, compared in all ``d`` dimensions, is the fused call with projected keys."""
    module = scrambled(SpaceAttention(HIDDEN, sizes))
    s, _, _ = ragged(lengths=(7,))
    assert isinstance(module.keys, nn.Linear)
    literal = []
    for s_k, w_k, v_k in zip(
        module.queries.spaces(s),
        module.keys.weight.split(sizes),
        module.values(s).split(sizes, dim=1),
        strict=True,
    ):
        literal.append((s_k @ w_k @ s.T).softmax(dim=-1) @ v_k)
    q, k, v = (split_spaces(x[None], sizes) for x in (module.queries(s), module.keys(s), module.values(s)))
    fused = join_spaces(attend(q, k, v, None, module.scale), sizes)[0]
    torch.testing.assert_close(fused, torch.cat(literal, dim=1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("residual", ["input", "attended"])
@pytest.mark.parametrize(("form", "sizes"), FORMS)
@pytest.mark.parametrize("lengths", [LENGTHS, (4, 4)])
def test_self_attention_agrees_with_loops(form, sizes, residual, lengths):
    layer = scrambled(SelfAttention(HIDDEN, sizes, form, residual))
    s, layout, places = ragged(3, lengths)
    found, weights = layer(s, layout).detach().numpy(), layer.weights(s, layout).detach().numpy()
    for b, numbers in enumerate(places):
        n = len(numbers)
        matrices, c = reference.self_attention(list(s[numbers].numpy()), arrays(layer, "x"), "x", sizes, form, residual)
        np.testing.assert_allclose(weights[b, :, :n, :n], np.array(matrices).reshape(len(sizes), n, n), atol=1e-12)
        np.testing.assert_allclose(found[numbers], np.array(c).reshape(n, HIDDEN), rtol=1e-10, atol=1e-12)
        if n:
            np.testing.assert_allclose(weights[b, :, :n].sum(axis=-1), 1, rtol=1e-12)
            assert not weights[b, :, :, n:].any()


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize(("form", "sizes"), FORMS)
def test_target_attention_agrees_with_loops(form, sizes, residual):
    layer = scrambled(TargetAttention(HIDDEN, SpaceAttention(HIDDEN, sizes, form), residual))
    c, layout, places = ragged(4)
    h = torch.randn(len(LENGTHS), 2, HIDDEN, dtype=torch.float64)
    keys, values = layer.read(c)
    found = layer(h, keys, values, layout).detach().numpy()
    weights = layer.weights(h, keys, layout).detach().numpy()
    p = arrays(layer, "x")
    for b, numbers in enumerate(places):
        targets = list(h[b].numpy())
        matrices, contexts = reference.attention(targets, list(c[numbers].numpy()), p, "x.attention", sizes, form)
        for column, (target, context) in enumerate(zip(targets, contexts, strict=True)):
            e = reference.feed_forward(context, p, "x.feed_forward")
            if residual:
                e = reference.layer_norm(target + e, p, "x.norm")
            np.testing.assert_allclose(found[b, column], e, rtol=1e-10, atol=1e-12)
        if numbers:
            np.testing.assert_allclose(weights[b, :, :, : len(numbers)], np.array(matrices), atol=1e-12)


@pytest.mark.parametrize(("form", "sizes"), FORMS)
def test_gradients_are_those_of_finite_differences(form, sizes):
    layer = scrambled(SelfAttention(HIDDEN, sizes, form), 5)
    target = scrambled(TargetAttention(HIDDEN, layer.attention, residual=True), 6)
    s, layout, _ = ragged(7, (2, 0, 3))
    h = torch.randn(3, 1, HIDDEN, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in layer.named_parameters()]

    def whole(s: Tensor, h: Tensor, *parameters: Tensor) -> Tensor:
        c = torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (s, layout))
        return target(h, *target.read(c), layout)

    inputs = (s.requires_grad_(), h, *layer.parameters())
    assert torch.autograd.gradcheck(whole, inputs, fast_mode=True)


def test_feed_forward_agrees_with_loops():
    network = scrambled(FeedForward(HIDDEN))
    x = torch.randn(3, HIDDEN, dtype=torch.float64)
    expected = [reference.feed_forward(row, arrays(network, "x"), "x") for row in x.numpy()]
    np.testing.assert_allclose(network(x).detach().numpy(), expected, rtol=1e-12)


def test_dropout_comes_between_the_network_and_the_residual():
    layer = scrambled(SelfAttention(HIDDEN, (6,), dropout=0.999999))
    s, layout, _ = ragged()
    torch.testing.assert_close(layer(s, layout), layer.norm(s))  # nothing is left of F_self
    layer.eval()
    assert not torch.allclose(layer(s, layout), layer.norm(s))


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Annotations are not checked, as for every reader of the book: what does the code itself say?"""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("unchecked")
def test_wrong_forms_are_refused():
    with pytest.raises(ValueError, match="attention 'additive'; use 'bilinear' or 'dot'"):
        SpaceAttention(HIDDEN, (6,), "additive")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"needs spaces of one size, not \[1, 3, 2\]"):
        SpaceAttention(HIDDEN, (1, 3, 2), "dot")
    with pytest.raises(ValueError, match="told 'rwa'; use 'projected' or 'raw'"):
        TargetAttention(HIDDEN, SpaceAttention(HIDDEN, (6,)), told="rwa")  # type: ignore[arg-type]
