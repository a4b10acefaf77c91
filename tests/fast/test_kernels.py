"""Compiled kernels against torch's own operators, in double precision where the reference is computed."""

from __future__ import annotations

import math
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from atrank_lib.fast import kernels
from tests.fast.test_compiled import needs_compiler

SEED = st.integers(0, 2**31)


@needs_compiler
def test_a_machine_with_a_compiler_has_kernels():
    assert kernels.library() is not None
    assert kernels.ready(torch.zeros(1, 16), 16)


@needs_compiler
@given(
    seed=SEED, n=st.integers(0, 450), inputs=st.sampled_from([16, 48, 128]),
    out=st.lists(st.sampled_from([16, 32, 80]), min_size=1, max_size=3), bias=st.booleans(), relu=st.booleans(),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_layers(seed, n, inputs, out, bias, relu):
    torch.manual_seed(seed)
    linears = [nn.Linear(inputs, o, bias=bias) for o in out]
    own = [p for linear in linears for p in linear.parameters()]
    x = torch.randn(n, inputs, requires_grad=True)
    positive = [relu, *[not relu] * (len(out) - 1)]
    ys = kernels.layers(x, linears, positive)
    weights = [torch.randn_like(y) for y in ys]
    found = torch.autograd.grad(list(ys), [x, *own], weights)

    exact = x.detach().double().requires_grad_()
    parameters = [p.detach().double().requires_grad_() for p in own]
    rows = iter(parameters)
    total = torch.zeros((), dtype=torch.float64)
    for y, w, plus in zip(ys, weights, positive, strict=True):
        z = exact @ next(rows).T
        z = z + next(rows) if bias else z
        torch.testing.assert_close(y.double(), z.relu() if plus else z, rtol=1e-5, atol=1e-5)
        total = total + (z * (y > 0) if plus else z).mul(w).sum()  # the mask of y: near zero rounding may differ
    expected = torch.autograd.grad(total, [exact, *parameters], allow_unused=True, materialize_grads=True)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-4 * math.sqrt(n + 1))


@needs_compiler
@given(
    seed=SEED, lengths=st.lists(st.integers(0, 140), min_size=1, max_size=5), spaces=st.sampled_from([1, 2, 4]),
    width=st.sampled_from([16, 24, 32]), targets=st.integers(0, 3), mixed=st.booleans(),
    scale=st.sampled_from([1.0, 0.25]),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_attention(seed, lengths, spaces, width, targets, mixed, scale):
    torch.manual_seed(seed)
    d, b, n = spaces * width, len(lengths), sum(lengths)
    if d % 16:
        return
    owner = torch.arange(b).repeat_interleave(torch.tensor(lengths))
    order = torch.randperm(n) if mixed else torch.arange(n)
    owner = torch.empty_like(owner).index_copy_(0, order, owner)  # row order[i] holds what comes as number i
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    asking = torch.arange(b).repeat_interleave(targets) if targets else owner
    if targets:
        rows = kernels.Rows(torch.arange(b + 1) * targets, offsets, key_order=order)
    else:
        rows = kernels.Rows(offsets, offsets, order, order)
    count = len(asking)
    q, k, v = (torch.randn(size, d, requires_grad=True) for size in (count, n, n))
    out = kernels.attend(q, k, v, rows, spaces, scale)
    weight = torch.randn(count, d)
    found = torch.autograd.grad((out * weight).sum(), [q, k, v])

    exact = [x.detach().double().requires_grad_() for x in (q, k, v)]
    expected = 0.0 * exact[0]
    for i in range(b):
        mine, asks = owner == i, asking == i
        if mine.any() and asks.any():
            qs, ks, vs = (
                x[m].unflatten(1, (spaces, width)).transpose(0, 1)
                for x, m in zip(exact, (asks, mine, mine), strict=True)
            )
            a = (scale * qs @ ks.transpose(1, 2)).softmax(dim=2)
            expected = expected.index_put((asks.nonzero()[:, 0],), (a @ vs).transpose(0, 1).flatten(1))
    torch.testing.assert_close(out.double(), expected, rtol=1e-4, atol=1e-5)
    for a, b_ in zip(
        found,
        torch.autograd.grad((expected * weight).sum(), exact, allow_unused=True, materialize_grads=True),
        strict=True,
    ):
        torch.testing.assert_close(a.double(), b_, rtol=1e-3, atol=1e-4)


@needs_compiler
def test_attention_of_extreme_scores():
    """A softmax whose exponentials would overflow, and one whose losers vanish."""
    keys = torch.eye(16)[:2] * torch.tensor([[1.0], [-1.0]])
    values = torch.arange(32.0).view(2, 16)
    rows = kernels.Rows(torch.tensor([0, 2]), torch.tensor([0, 2]))
    out = kernels.attend(torch.eye(16)[:2] * torch.tensor([[1e4], [3e4]]), keys, values, rows, 1, 1.0)
    torch.testing.assert_close(
        out, values[[0, 0]] * torch.tensor([[1.0], [0]]) + torch.stack([values[0] * 0, values[0]])
    )


@needs_compiler
@given(seed=SEED, n=st.integers(1, 300), actions=st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_look_up(seed, n, actions):
    torch.manual_seed(seed)
    tables = [nn.Parameter(torch.randn(rows, width)) for rows, width in ((50, 16), (7, 32), (actions, 48), (4, 48))]
    indices = [torch.randint(len(table), (n,)) for table in tables]
    added = [False, False, True, True]
    weight = torch.randn(n, 48)
    parts = [table[index] for table, index in zip(tables, indices, strict=True)]
    expected = torch.cat(parts[:2], dim=1) + parts[2] + parts[3]
    found = kernels.look_up(tables, indices, added)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    gradients = (torch.autograd.grad((x * weight).sum(), tables) for x in (found, expected))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@needs_compiler
@pytest.mark.parametrize("wrong", [5, -1])
def test_an_index_outside_of_its_table(wrong):
    tables = [torch.zeros(5, 16), torch.zeros(3, 16)]
    with pytest.raises(IndexError, match=rf"2 indices point outside .*{wrong}.* 5\)"):
        kernels.look_up(tables, [torch.tensor([0, wrong, wrong]), torch.tensor([0, 1, 2])], [False, True])


@needs_compiler
def test_threads_share_rows_and_repeat_themselves():
    """As many threads give the same bits; another number the same to rounding."""
    torch.manual_seed(0)
    n, d = 3_000, 64
    linear, x = nn.Linear(d, d), torch.randn(n, d, requires_grad=True)
    offsets = torch.arange(61) * 50

    def run():
        (y,) = kernels.layers(x, [linear], [True])
        out = kernels.attend(y, y, y, kernels.Rows(offsets, offsets), 4, 0.5)
        return torch.cat([g.flatten() for g in torch.autograd.grad(out.square().sum(), [x, *linear.parameters()])])

    before = torch.get_num_threads()
    try:
        found = {}
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found[threads] = run()
            assert torch.equal(found[threads], run())
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(found[1], found[2], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found[1], found[3], rtol=1e-3, atol=1e-3)


def test_where_kernels_stay_out():
    x = torch.zeros(2, 16)
    with kernels.off():
        assert not kernels.ready(x)
        thread = threading.Thread(target=lambda: seen.append(kernels.ready(x)))
        seen: list[bool] = []
        thread.start()
        thread.join()
        assert seen == [False]
    assert not kernels.ready(x.double(), 16)
    assert not kernels.ready(x, 16, 10)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not kernels.ready(x)


def test_what_does_not_fit():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        kernels.layers(torch.zeros(3, 32), [nn.Linear(16, 16)], [True])
    with pytest.raises(RuntimeError, match="dtype"):
        kernels.layers(torch.zeros(3, 16), [nn.Linear(16, 16).double()], [True])
    rows = kernels.Rows(torch.tensor([0, 2]), torch.tensor([0, 4]))
    with pytest.raises(ValueError, match=r"\(3, 16\).* do not have the rows \(2, 4, 4\)"):
        kernels.attend(torch.zeros(2, 16), torch.zeros(3, 16), torch.zeros(3, 16), rows, 1, 1.0)
