"""Kernels in the place of layers: the same numbers in every model and variant, and nothing else is changed."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from atrank_lib.batches import Batch
from atrank_lib.fast import kernels, off, ready, speed_up
from atrank_lib.fast.layers import plain
from atrank_lib.ranking import Model
from tests.fast.test_compiled import needs_compiler
from tests.models import VARIANTS, WAYS, a_batch, make

# widths that fill vector registers, so that kernels take part
WIDE: dict[str, Any] = {"size": 16, "spaces": 2}


def scores(model: Model, batch: Batch) -> Tensor:
    with torch.no_grad():
        return model(batch).scores


def gradients(model: Model, batch: Batch) -> dict[str, Tensor]:
    found = model(batch)
    total = found.scores.sigmoid().sum() + 0.01 * found.l2()
    given = torch.autograd.grad(total, list(model.parameters()), allow_unused=True, materialize_grads=True)
    return dict(zip((name for name, _ in model.named_parameters()), given, strict=True))


@contextmanager
def counted() -> Iterator[dict[str, mock.Mock]]:
    """The calls of each kernel inside."""
    functions = {"layers": kernels._Layers, "attend": kernels._Attention, "look_up": kernels._LookUp}
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(mock.patch.object(function, "apply", wraps=function.apply))
            for name, function in functions.items()
        }


@needs_compiler
@pytest.mark.parametrize("way", WAYS)
def test_scores_and_gradients_stay(way: str) -> None:
    model, histories = make(way, **WIDE)
    group = list(histories.groups)[-1]
    batch = a_batch(histories, group)
    kinds = [type(module) for module in model.modules()]
    names = [name for name, _ in model.named_parameters()]
    expected, slopes = scores(model, batch), gradients(model, batch)
    assert speed_up(model) is model
    with counted() as calls:
        found, ours = scores(model, batch), gradients(model, batch)
    assert calls["look_up"].called
    assert calls["layers"].called or way == "bpr-mf"
    assert calls["attend"].called == (way in VARIANTS or way == "bi-lstm-attention")
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    for name, value in slopes.items():  # as a whole, for rounding may switch a single relu
        assert float((ours[name] - value).norm()) <= 0.01 * float(value.norm()) + 1e-5, name
    assert [name for name, _ in model.named_parameters()] == names
    with off():
        assert torch.equal(scores(model, batch), expected)
    again = [type(module) for module in speed_up(model).modules()]
    assert again != kinds
    plain(model)
    assert [type(module) for module in model.modules()] == kinds
    with counted() as calls:
        assert torch.equal(scores(model, batch), expected)
    assert not any(call.called for call in calls.values())


@needs_compiler
@pytest.mark.parametrize("spaces", [2, (12, 20)])
@pytest.mark.parametrize("size", [16, 12])
def test_widths_that_kernels_cannot_do(size: int, spaces: object) -> None:
    """Spaces of different sizes, and rows that do not fill vector registers, are torch's."""
    model, histories = make("atrank", size=size, spaces=spaces, hidden=32)
    batch = a_batch(histories, "coupon")
    expected = scores(model, batch)
    with counted() as calls:
        torch.testing.assert_close(scores(speed_up(model), batch), expected, rtol=1e-5, atol=1e-4)
    assert calls["look_up"].called == (size == 16)
    assert calls["attend"].called == (spaces == 2)


@needs_compiler
@pytest.mark.parametrize("way", ["atrank", "authors", "two layers, shared"])
def test_copies_have_weights_of_their_own(way: str) -> None:
    model, histories = make(way, **WIDE)
    batch = a_batch(histories, "item")
    expected = scores(speed_up(model), batch)
    twin, averaged = copy.deepcopy(model), AveragedModel(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert not scores(model, batch).any()
    with counted() as calls:
        for other in (twin, cast(Model, averaged.module)):
            assert torch.equal(scores(other, batch), expected)
    assert calls["attend"].called
    twin.load_state_dict(model.state_dict())
    assert not scores(twin, batch).any()
    averaged.update_parameters(model)  # the first update copies
    assert not scores(cast(Model, averaged.module), batch).any()


@needs_compiler
def test_other_precisions_and_training() -> None:
    model, histories = make("atrank", **WIDE, embedding_dropout=0.5, id_dropout=0.5)
    batch = a_batch(histories, "item")
    for precision in (torch.float64, torch.float32):
        model.to(precision)
        expected = scores(plain(model), batch)
        torch.testing.assert_close(scores(speed_up(model), batch), expected, rtol=1e-5, atol=1e-4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = scores(plain(model), batch)
        assert torch.equal(scores(speed_up(model), batch), expected)
    model.train()  # dropout draws the same
    found = []
    for change in (plain, speed_up):
        torch.manual_seed(0)
        found.append(scores(change(model), batch))
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-4)


def test_a_machine_without_kernels_changes_nothing() -> None:
    model, histories = make("atrank", **WIDE)
    batch = a_batch(histories, "item")
    expected = scores(model, batch)
    with mock.patch.object(kernels, "library", return_value=None):
        assert not ready(torch.zeros(1, 16))
        assert torch.equal(scores(speed_up(model), batch), expected)


def test_the_environment_turns_kernels_off() -> None:
    code = "import torch; from atrank_lib.fast import ready; print(ready(torch.zeros(1, 16)))"
    environment = os.environ | {"ATRANK_KERNELS": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
