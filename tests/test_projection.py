"""Eq. 1 and 2 against loops, and the sizes of the semantic spaces."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from atrank_lib.original import LinearProjection
from atrank_lib.projection import GroupProjection, SemanticProjection, space_sizes
from tests.reference import perceptron


@pytest.mark.parametrize("linear", [False, True])
def test_every_group_has_its_own_map_into_the_overall_space(linear):
    torch.manual_seed(0)
    widths = {"items": 5, "query": 2, "coupon": 3}  # "items" is also a method of nn.ModuleDict
    projection = (LinearProjection if linear else GroupProjection)(widths, 4).double()
    groups = {name: torch.randn(n, widths[name]).double() for name, n in [("items", 3), ("query", 0), ("coupon", 2)]}
    found = projection(groups)
    assert found.shape == (5, 4)
    parameters = {name: p.detach().numpy() for name, p in projection.named_parameters()}
    expected, first = [], 0
    for name, rows in groups.items():
        stem = f"maps.[{name}]" if linear else f"maps.[{name}].0"
        weight, bias = parameters[f"{stem}.weight"], parameters[f"{stem}.bias"]
        for u in rows.numpy():
            expected.append(weight @ u + bias if linear else perceptron(u, weight, bias))
        assert torch.equal(projection.one(name, rows), found[first : first + len(rows)])
        first += len(rows)
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-12)
    assert bool((found < 0).any()) == linear


@pytest.mark.parametrize("sizes", [(2, 2, 2), (1, 3, 2), (6,)])
def test_every_space_is_a_perceptron_of_its_own(sizes):
    torch.manual_seed(1)
    projection = SemanticProjection(6, sizes).double()
    s = torch.randn(4, 6).double()
    spaces = projection.spaces(s)
    assert [x.shape for x in spaces] == [(4, size) for size in sizes]
    parameters = {name: p.detach().numpy() for name, p in projection.named_parameters()}
    weight, bias = parameters["map.0.weight"], parameters["map.0.bias"]
    first = 0
    for size, x in zip(sizes, spaces, strict=True):
        rows = slice(first, first + size)
        expected = [perceptron(row, weight[rows], bias[rows]) for row in s.numpy()]
        np.testing.assert_allclose(x.detach().numpy(), expected, rtol=1e-12)
        first += size
    assert torch.equal(torch.cat(spaces, dim=1), projection(s))


def test_spaces_by_number_or_by_sizes():
    assert space_sizes(128, 8) == (16,) * 8
    assert space_sizes(6, [1, 2, 3]) == (1, 2, 3)
    assert space_sizes(5, 1) == (5,)


@pytest.mark.parametrize(
    ("hidden", "spaces", "message"),
    [
        (128, 7, "hidden=128 cannot be divided into spaces=7"),
        (128, 0, "hidden=128 cannot be divided into spaces=0"),
        (6, (1, 2), r"spaces=\[1, 2\], in all 3, must be positive and sum to hidden=6"),
        (6, (7, -1), r"must be positive"),
        (6, (), r"spaces=\[\]"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(hidden, spaces, message):
    with pytest.raises(ValueError, match=message):
        space_sizes(hidden, spaces)
