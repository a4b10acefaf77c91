"""Explanations are the weights of the loops, and rebuild the scores."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from atrank_lib.batches import Packing
from atrank_lib.interpret import explain
from tests.cases import EVEN, even_log, make

OPTIONS: dict[str, dict[str, Any]] = {
    "paper": {},
    "unequal spaces": {"spaces": (1, 3, 2)},
    "two layers": {"blocks": 2, "spaces": (4, 2)},
    "no layer": {"blocks": 0, "target_attention": "shared"},
    "dot": {"attention": "dot"},
    "shared target attention": {"target_attention": "shared"},
}
NAMES = list(EVEN.groups)


@pytest.mark.parametrize("name", list(OPTIONS))
def test_explanations_are_the_weights_of_the_loops(name, speed):
    case = make("atrank", even_log(7), "query", OPTIONS[name], speed=speed)
    found, model = explain(case.model, case.batch), case.reference()
    assert len(found.self_attention) == case.model.config.blocks
    for b, behaviors in enumerate(case.behaviors):
        # where does the explanation put each behavior of the log?
        where = {}
        for place, (g, position) in enumerate(zip(found.groups[b].tolist(), found.positions[b].tolist(), strict=True)):
            assert (g == -1) == (position == -1)
            if g >= 0:
                where[NAMES[g], int(case.histories.groups[NAMES[g]].rows[position])] = place
        assert set(where) == {(x.group, x.row) for x in behaviors}
        order = [where[x.group, x.row] for x in behaviors]
        empty = [place for place in range(case.batch.packing.longest) if place not in order]
        c, layers = model.encode(behaviors)
        for weights, expected in zip(found.self_attention, layers, strict=True):
            if behaviors:
                case.close(weights[b][:, order][:, :, order], expected)
                case.close(weights[b][:, order].sum(dim=-1), torch.ones(len(expected), len(order)))
            assert not weights[b][:, empty].any()
            assert not weights[b][:, :, empty].any()
        for column in range(case.rows.shape[1]):
            weights = found.target_attention[b, :, column]
            if behaviors:
                case.close(weights[:, order], model.score(c, "query", case.object_id(b, column)).weights)
                case.close(weights.sum(dim=-1), torch.ones(len(weights)))
            assert not weights[:, empty].any()


@pytest.mark.parametrize("name", ["paper", "unequal spaces", "two layers", "shared target attention"])
def test_explanations_rebuild_the_scores(name, speed):
    """Values weighted by the explained matrices give C, the user vectors and the scores of the forward pass."""
    case = make("atrank", even_log(8), "items", OPTIONS[name], speed=speed)
    model, found = case.model, explain(case.model, case.batch)
    encoding = model.encode(case.batch)
    packing, s = encoding.packing, model.project(case.batch)
    for number, weights in enumerate(found.self_attention):
        block = model.block(number)
        values = packing.pad(block.attention.values(s)).split(block.attention.sizes, dim=-1)
        told = torch.cat([weights[:, k] @ v for k, v in enumerate(values)], dim=-1)
        s = block.norm(s + block.feed_forward(packing.pack(told)))
    case.close(s, encoding.behaviors)
    values = packing.pad(model.target.attention.values(s)).split(model.target.attention.sizes, dim=-1)
    users = model.target.feed_forward(
        torch.cat([found.target_attention[:, k] @ v for k, v in enumerate(values)], dim=-1)
    )
    scores = model(case.batch)
    case.close(users, scores.users)
    case.close((users * scores.targets).sum(dim=-1), scores.scores)


@pytest.mark.parametrize("name", ["paper", "unequal spaces", "two layers", "dot"])
def test_places_inside_a_history_only_permute_explanations(name, speed):
    case = make("atrank", even_log(11), "items", OPTIONS[name], speed=speed)
    generator, packing = torch.Generator().manual_seed(0), case.batch.packing
    place = packing.place.clone()
    for b in range(case.batch.size):
        own = (packing.owner == b).nonzero()[:, 0]
        place[own] = place[own][torch.randperm(len(own), generator=generator)]
    moved = replace(case.batch, packing=Packing.of(packing.owner, place, case.batch.size))
    first, second = explain(case.model, case.batch), explain(case.model, moved)
    for b in range(case.batch.size):
        own = packing.owner == b
        old, new = packing.place[own], place[own]
        assert torch.equal(second.groups[b, new], first.groups[b, old])
        assert torch.equal(second.positions[b, new], first.positions[b, old])
        case.close(second.target_attention[b][:, :, new], first.target_attention[b][:, :, old])
        for x, y in zip(first.self_attention, second.self_attention, strict=True):
            case.close(y[b][:, new][:, :, new], x[b][:, old][:, :, old])


def test_nothing_is_explained_where_nothing_happened():
    case = make("atrank", even_log(14), "items")
    nobody = case.some(torch.tensor([len(case.samples) - 1]))
    found = explain(case.model, nobody.batch)
    assert not found.target_attention.any()
    assert found.groups.tolist() == [[-1]]
