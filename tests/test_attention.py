"""Eq. 3 to 7 on ragged batches: values and gradients against loops, and the two ways to compute one score."""

from __future__ import annotations

from typing import TypeVar, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from atrank_lib.attention import (
    FeedForward,
    SelfAttention,
    SpaceAttention,
    TargetAttention,
    join_spaces,
    split_spaces,
)
from atrank_lib.fast import speed_up
from atrank_lib.original import DotAttention
from atrank_lib.variants import AttendedResidual, ResidualTarget
from tests import reference
from tests.cases import LARGER, TOLERANCE, close
from tests.ragged import HIDDEN, LENGTHS, ragged

M = TypeVar("M", bound=nn.Module)

BILINEAR, DOT = (SpaceAttention, "bilinear"), (DotAttention, "dot")
FORMS = [(BILINEAR, (2, 2, 2)), (BILINEAR, (1, 3, 2)), (DOT, (3, 3))]
DTYPES = {"torch": torch.float64, "kernels": torch.float32}


def scrambled(module: M, seed: int = 0, speed: str = "torch") -> M:
    """The module with random parameters, biases and norms included."""
    generator = torch.Generator().manual_seed(seed)
    module.to(DTYPES[speed])
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.7 / LARGER[speed] ** 0.5, generator=generator)
    return speed_up(module) if speed == "kernels" else module


def arrays(module: nn.Module, prefix: str) -> dict[str, np.ndarray]:
    return {f"{prefix}.{name}": p.detach().double().numpy() for name, p in module.named_parameters()}


@pytest.mark.parametrize("sizes", [(2, 2, 2), (1, 3, 2), (6,)])
def test_splitting_and_joining_spaces_are_inverse(sizes):
    x = torch.randn(2, 4, HIDDEN)
    spaces = split_spaces(x, sizes)
    assert spaces.shape == (2, len(sizes), 4, max(sizes))
    for k, part in enumerate(x.split(sizes, dim=-1)):
        assert torch.equal(spaces[:, k, :, : sizes[k]], part)
        assert not spaces[:, k, :, sizes[k] :].any()
    assert torch.equal(join_spaces(spaces, sizes), x)


@pytest.mark.parametrize(("form", "sizes"), FORMS)
def test_weights_times_values_is_what_attention_gives(form, sizes, speed):
    """The matrices that are never stored, for targets, and for behaviors among each other."""
    hidden, sizes = HIDDEN * LARGER[speed], tuple(size * LARGER[speed] for size in sizes)
    layer = scrambled(form[0](hidden, sizes), speed=speed)
    s, packing, _ = ragged(5, hidden=hidden)
    h = torch.randn(len(LENGTHS), 2, hidden, generator=torch.Generator().manual_seed(0), dtype=DTYPES[speed])
    queries, keys, values = layer.project(s.to(DTYPES[speed]))
    spaces, tolerance = packing.pad(values).split(sizes, dim=2), TOLERANCE[DTYPES[speed]]
    for asking, found in (
        (packing.pad(queries), packing.pad(layer.attend(queries, keys, values, packing))),
        (h, layer.attend(h, keys, values, packing)),
    ):
        weights = layer.weights(asking, keys, packing)
        assert not weights[~packing.visible[:, None, None, :].expand_as(weights)].any()
        close(weights.sum(dim=-1), np.ones(weights.shape[:3]), tolerance)
        told = torch.cat([weights[:, k] @ v for k, v in enumerate(spaces)], dim=-1)
        if asking is not h:  # empty places ask for nothing
            told = told * packing.mask[:, :, None]
        close(found, told.detach(), tolerance)


@pytest.mark.parametrize("sizes", [(2, 2, 2), (1, 3, 2)])
def test_the_bilinear_score_as_it_is_written(sizes):
    """``softmax(S_k W_k S^T) F_Q_k(S)``, compared in all ``d`` dimensions, is the fused call with projected keys."""
    module = scrambled(SpaceAttention(HIDDEN, sizes))
    s, packing, _ = ragged(lengths=(7,))
    literal = []
    for s_k, w_k, v_k in zip(
        module.queries.spaces(s),
        cast(nn.Linear, module.keys).weight.split(sizes),
        module.values(s).split(sizes, dim=1),
        strict=True,
    ):
        literal.append((s_k @ w_k @ s.T).softmax(dim=-1) @ v_k)
    queries, keys, values = module.project(s)
    fused = module.attend(queries, keys, values, packing)
    torch.testing.assert_close(fused, torch.cat(literal, dim=1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", [SelfAttention, AttendedResidual])
@pytest.mark.parametrize(("form", "sizes"), FORMS)
@pytest.mark.parametrize("lengths", [LENGTHS, (4, 4)])
def test_self_attention_agrees_with_loops(form, sizes, kind, lengths, speed):
    hidden, sizes = HIDDEN * LARGER[speed], tuple(size * LARGER[speed] for size in sizes)
    attention, name = form
    layer = scrambled(kind(hidden, attention(hidden, sizes)), speed=speed)
    s, packing, rows = ragged(3, lengths, hidden)
    s, tolerance = s.to(DTYPES[speed]), TOLERANCE[DTYPES[speed]]
    queries, keys, _ = layer.attention.project(s)
    found, weights = layer(s, packing), layer.attention.weights(packing.pad(queries), keys, packing)
    residual = "input" if kind is SelfAttention else "attended"
    for b, numbers in enumerate(rows):
        n, own = len(numbers), list(s[numbers].double().numpy())
        matrices, c = reference.self_attention(own, arrays(layer, "x"), "x", sizes, name, residual)
        close(weights[b, :, :n, :n], np.array(matrices).reshape(len(sizes), n, n), tolerance)
        close(found[numbers], np.array(c).reshape(n, hidden), tolerance)
        if n:
            close(weights[b, :, :n].sum(dim=-1), np.ones((len(sizes), n)), tolerance)
            assert not weights[b, :, :n, n:].any()


@pytest.mark.parametrize("kind", [TargetAttention, ResidualTarget])
@pytest.mark.parametrize(("form", "sizes"), FORMS)
def test_target_attention_agrees_with_loops(form, sizes, kind, speed):
    hidden, sizes = HIDDEN * LARGER[speed], tuple(size * LARGER[speed] for size in sizes)
    attention, name = form
    layer = scrambled(kind(hidden, attention(hidden, sizes)), speed=speed)
    c, packing, rows = ragged(4, hidden=hidden)
    h = torch.randn(len(LENGTHS), 2, hidden, generator=torch.Generator().manual_seed(0), dtype=DTYPES[speed])
    c, tolerance = c.to(DTYPES[speed]), TOLERANCE[DTYPES[speed]]
    (keys, values), queries = layer.read(c), layer.attention.queries(h)
    found, weights = layer(h, queries, keys, values, packing), layer.attention.weights(queries, keys, packing)
    p = arrays(layer, "x")
    for b, numbers in enumerate(rows):
        targets, own = list(h[b].double().numpy()), list(c[numbers].double().numpy())
        matrices, contexts = reference.attention(targets, own, p, "x.attention", sizes, name)
        for column, (target, context) in enumerate(zip(targets, contexts, strict=True)):
            e = reference.feed_forward(context, p, "x.feed_forward")
            if kind is ResidualTarget:
                e = reference.layer_norm(target + e, p, "x.norm")
            close(found[b, column], e, tolerance)
        if numbers:
            close(weights[b, :, :, : len(numbers)], np.array(matrices), tolerance)


@pytest.mark.parametrize(("form", "sizes"), FORMS)
def test_gradients_are_those_of_finite_differences(form, sizes):
    layer = scrambled(SelfAttention(HIDDEN, form[0](HIDDEN, sizes)), 5)
    target = scrambled(ResidualTarget(HIDDEN, layer.attention), 6)
    s, packing, _ = ragged(7, (2, 0, 3))
    h = torch.randn(3, 1, HIDDEN, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in layer.named_parameters()]

    def whole(s: Tensor, h: Tensor, *parameters: Tensor) -> Tensor:
        c = torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (s, packing))
        return target(h, target.attention.queries(h), *target.read(c), packing)

    inputs = (s.requires_grad_(), h, *layer.parameters())
    assert torch.autograd.gradcheck(whole, inputs, fast_mode=True)


@pytest.mark.parametrize("form", [BILINEAR, DOT])
def test_gradients_of_kernels_are_those_of_torch_in_64_bits(form):
    hidden = 48
    layer = scrambled(SelfAttention(hidden, form[0](hidden, (16, 16, 16))), 5, "kernels")
    s, packing, _ = ragged(7, (2, 0, 3), hidden)
    found = torch.autograd.grad(layer(s.float(), packing).square().sum(), list(layer.parameters()))
    exact = SelfAttention(hidden, form[0](hidden, (16, 16, 16))).double()
    exact.load_state_dict(layer.state_dict())
    expected = torch.autograd.grad(exact(s.float().double(), packing).square().sum(), list(exact.parameters()))
    for a, b in zip(found, expected, strict=True):
        close(a, b.numpy(), TOLERANCE[torch.float32])


def test_feed_forward_agrees_with_loops(speed):
    hidden = HIDDEN * LARGER[speed]
    network = scrambled(FeedForward(hidden), speed=speed)
    x = torch.randn(3, hidden, generator=torch.Generator().manual_seed(0), dtype=DTYPES[speed])
    expected = [reference.feed_forward(row, arrays(network, "x"), "x") for row in x.double().numpy()]
    close(network(x), expected, TOLERANCE[DTYPES[speed]])


def test_dropout_comes_between_the_network_and_the_residual(speed):
    hidden = HIDDEN * LARGER[speed]
    layer = scrambled(SelfAttention(hidden, SpaceAttention(hidden, (hidden,)), 0.999999), speed=speed)
    s, packing, _ = ragged(hidden=hidden)
    s = s.to(DTYPES[speed])
    torch.manual_seed(0)
    torch.testing.assert_close(layer(s, packing), layer.norm(s))  # nothing is left of F_self
    layer.eval()
    assert not torch.allclose(layer(s, packing), layer.norm(s))


def test_a_quotient_needs_spaces_of_one_size():
    with pytest.raises(ValueError, match=r"needs spaces of one size, not \[1, 3, 2\]"):
        DotAttention(HIDDEN, (1, 3, 2))
