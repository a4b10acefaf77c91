"""Kernels in the place of layers: put in from outside, and taken out again. What they compute is compared in the tests
of each model, which run with and without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from atrank_lib.fast import kernels, off, speed_up
from atrank_lib.fast.layers import _FASTER, FasterLinear, plain
from tests.cases import KINDS, even_log, make
from tests.test_variants import OPTIONS


@pytest.mark.parametrize("name", list(OPTIONS))
def test_kernels_are_put_in_and_taken_out(name):
    case = make("atrank", even_log(1), "coupon", OPTIONS[name])
    before = {n: type(module) for n, module in case.model.named_modules()}
    weights = {n: p.data_ptr() for n, p in case.model.named_parameters()}
    for _ in range(2):  # once is as good as twice
        assert speed_up(case.model) is case.model
        for n, module in case.model.named_modules():
            for kind, faster in _FASTER.items():
                assert isinstance(module, faster) == issubclass(before[n], kind)
            assert isinstance(module, before[n])
    assert {n: p.data_ptr() for n, p in case.model.named_parameters()} == weights
    assert plain(case.model) is case.model
    assert {n: type(module) for n, module in case.model.named_modules()} == before


def noted(original: Callable[..., Any], called: set[str]) -> Callable[..., Any]:
    """The same function, which notes that it was called."""

    def function(*given: Any) -> Any:
        called.add(original.__name__)
        return original(*given)

    return function


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_kernels_do_the_work_where_they_can(kind, monkeypatch):
    called: set[str] = set()
    for name in ("layers", "attend", "look_up"):
        monkeypatch.setattr(kernels, name, noted(getattr(kernels, name), called))
    case = make(kind, even_log(1), "coupon", speed="kernels")
    fast = case.model(case.batch).scores
    attends = {"attend"} if kind in ("paper", "atrank", "bi-lstm-attention") else set()
    expected = {"look_up"} | ({"layers"} | attends if kind != "bpr-mf" else set())
    assert called == (expected if kernels.ready(torch.zeros(1, 16), 16) else set())
    called.clear()
    with off():
        case.close(fast, case.model(case.batch).scores)
    case.close(fast, plain(case.model)(case.batch).scores)
    case.model.double()(case.batch)
    assert not called


def test_a_layer_without_relu_is_one_too():
    case = make("atrank", even_log(1), "coupon", {"linear_projection": True}, speed="kernels")
    kinds = [type(module) for module in (case.model.target.attention.keys, *case.model.projection.maps.values())]
    assert kinds == [FasterLinear] * 4
