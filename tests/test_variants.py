"""Every switch against loops: what each value puts in, what contradicts what, and names that weights once had."""

from __future__ import annotations

from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor

from atrank_lib.grouping import GroupedHistories
from atrank_lib.log.schema import key
from atrank_lib.ranking import LOSSES, Targets
from atrank_lib.runs.folder import load_weights, save_weights
from atrank_lib.variants import MLP, ORIGINAL, PARTS, ATRankOptions, build, options_of
from tests import reference
from tests.cases import EVEN, agrees_with_loops, even_log, make, sizes

OPTIONS: dict[str, dict[str, Any]] = {
    "the paper": {},
    "dot": {"attention": "dot"},
    "attended residual": {"residual": "attended"},
    "shared target attention": {"target_attention": "shared"},
    "two layers, shared": {"target_attention": "shared", "blocks": 2},
    "no layer, shared": {"target_attention": "shared", "blocks": 0},
    "target residual": {"target_residual": True},
    "raw target": {"ranked": "raw"},
    "told raw": {"told": "raw", "spaces": (1, 3, 2)},
    "told raw, shared": {"told": "raw", "target_attention": "shared", "target_residual": True},
    "told raw alone": {"told": "raw", "blocks": 0},
    "object bias": {"object_bias": True},
    "task heads": {"task_heads": True},
    "linear projection": {"linear_projection": True},
    "one-hot time": {"time": "one_hot"},
    "continuous time": {"time": "continuous"},
    "no time": {"time": "none"},
    "mlp": {"ranking": "mlp"},
    "two norms": {"residual": "twice", "blocks": 2},
    "two norms of the target": {"target_residual": "twice"},
    "bottleneck": {"bottleneck": True},
    "target not projected": {"target": "raw"},
    "twelve times": {"time": "one_hot_12"},
    "action beside": {"action": "beside"},
    "action beside, no time": {"action": "beside", "time": "none"},
    "action beside, continuous time": {"action": "beside", "time": "continuous"},
    "dropout of weights": {"dropout_on": "weights", "dropout": 0.5},
    "TensorFlow's start": {"start": "glorot"},
    "the original code": ORIGINAL,
    "the original code for many tasks": ORIGINAL | {"target": "projected"},
    "everything around f": {"ranked": "raw", "task_heads": True, "object_bias": True, "ranking": "mlp"},
    "scores as they are": {"weighting": "sum", "spaces": (1, 3, 2)},
    "scores as they are, everything else otherwise": {
        "weighting": "sum",
        "told": "raw",
        "attention": "dot",
        "target_residual": True,
        "blocks": 0,
    },
    "experts": {"ranking": "mmoe"},
}
GROUPS = list(EVEN.groups)


def values(switch: str) -> tuple[Any, ...]:
    """Every value that a switch may have; none if it is a size."""
    kind = ATRankOptions.model_fields[switch].annotation
    kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    found = [(False, True) if k is bool else get_args(k) if get_origin(k) is Literal else () for k in kinds]
    return tuple(value for some in found for value in some)


SWITCHES = {(switch, value) for switch in ATRankOptions.model_fields for value in values(switch)}


def test_every_value_of_every_switch_is_compared_with_loops():
    tested = {pair for some in OPTIONS.values() for pair in ATRankOptions(**{"hidden": 6, "spaces": 3} | some)}
    assert len(SWITCHES) > 20
    assert {(switch, value) for switch, value in tested if values(switch)} == SWITCHES
    assert set(PARTS) <= SWITCHES  # no part that no value puts in


@pytest.mark.parametrize(("setting", "parts"), PARTS.items(), ids=str)
def test_a_setting_puts_in_its_part_and_the_paper_s_does_not(setting, parts):
    switch, value = setting
    paper, varied = (
        make("atrank", even_log(0), "items", {s: v} if s else {}).model for s, v in ((None, None), setting)
    )
    for part in parts.values():
        assert not any(isinstance(module, part) for module in paper.modules())
        assert any(isinstance(module, part) for module in varied.modules())
    assert getattr(ATRankOptions(), switch) != value


@pytest.mark.parametrize("name", list(OPTIONS))
def test_scores_and_gradients_agree_with_loops(name, speed):
    seed = list(OPTIONS).index(name)
    case = make("atrank", even_log(seed), GROUPS[seed % 3], OPTIONS[name], seed, speed=speed)
    assert case.behaviors[-1] == []
    agrees_with_loops(case, seed)


@pytest.mark.parametrize("group", ["item", "query", "coupon"])
def test_one_hot_times_widen_groups_of_any_number_of_features(tiny_log, group, speed):
    case = make("atrank", tiny_log, group, {"time": "one_hot"}, speed=speed)
    embeddings = [case.model.embedding(g) for g in tiny_log.schema.groups]
    assert [(e.size - e.time.buckets) // case.model.config.embedding_size for e in embeddings] == [4, 1, 3]
    case.close(case.model(case.batch).scores, [[x.score for x in row] for row in case.scored(case.reference())])


def test_the_default_options_are_the_paper_s_model():
    """The same parameters under the same names, the same scores."""
    paper, built = (make(kind, even_log(3), "items") for kind in ("paper", "atrank"))
    for (name, p), (other, q) in zip(paper.model.named_parameters(), built.model.named_parameters(), strict=True):
        assert name == other
        assert torch.equal(p, q)
    assert torch.equal(paper.model(paper.batch).scores, built.model(built.batch).scores)
    assert options_of(paper.model) == built.model.config == ATRankOptions(**sizes(ATRankOptions.model_fields, {}, 1))


@pytest.mark.parametrize("name", list(OPTIONS))
@pytest.mark.parametrize(
    ("speed", "dtype"), [("torch", torch.float64), ("torch", torch.float32), ("kernels", torch.float32)]
)
def test_a_history_scores_the_same_alone_and_beside_longer_ones(name, speed, dtype):
    """With an empty one among them, whose scores and gradients are finite."""
    case = make("atrank", even_log(10), "items", OPTIONS[name], speed=speed, dtype=dtype)
    together = case.model(case.batch)
    lengths = [len(b) for b in case.behaviors]
    assert (min(lengths), max(lengths) > 10) == (0, True)
    for b in (0, 1, len(lengths) - 1):
        case.close(case.model(case.some(torch.tensor([b])).batch).scores[0], together.scores[b])
    (LOSSES["pointwise"](together.scores) + together.l2()).backward()
    assert together.scores.isfinite().all()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in case.model.parameters())
    nothing = case.some(torch.tensor([len(lengths) - 1] * 2)).batch  # nobody has any behavior
    assert len(nothing.packing.owner) == 0
    case.model.zero_grad()
    alone = case.model(nothing)
    (LOSSES["pointwise"](alone.scores) + alone.l2()).backward()
    case.close(alone.scores[0], together.scores[-1])
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in case.model.parameters())


def test_dropout_stands_in_every_part_that_has_some(speed):
    dropping = {"dropout": 0.5, "target_residual": True, "blocks": 0}
    case, plain = (make("atrank", even_log(15), "items", dropping | o, speed=speed) for o in ({}, {"dropout": 0.0}))
    case.close(case.model(case.batch).scores, plain.model(plain.batch).scores)
    case.model.train()
    torch.manual_seed(0)
    assert not torch.allclose(case.model(case.batch).scores, case.model(case.batch).scores)


def test_a_raw_target_is_ranked_as_it_came_out_of_dropout(speed):
    case = make("atrank", even_log(15), "items", {"embedding_dropout": 0.5, "ranked": "raw"}, speed=speed)
    case.model.train()
    torch.manual_seed(0)
    targets = case.model.prepare(case.batch.candidates)
    found = case.model.match(case.model.encode(case.batch), targets)
    assert bool((targets.q == 0).any())
    case.close(found.scores, (targets.q * found.users).sum(dim=-1))


def test_mlp_agrees_with_a_loop():
    torch.manual_seed(0)
    network = MLP(4).double()
    p = {name: parameter.detach().numpy() for name, parameter in network.named_parameters()}
    target, user = torch.randn(2, 3, 4).double(), torch.randn(2, 3, 4).double()
    found = network(Targets("item", target, target, None), user).detach().numpy()
    for b in range(2):
        for c in range(3):
            h, e = target[b, c].numpy(), user[b, c].numpy()
            inner = reference.perceptron(np.concatenate([h, e, h * e]), p["layers.0.weight"], p["layers.0.bias"])
            assert found[b, c] == pytest.approx(float(p["layers.3.weight"][0] @ inner + p["layers.3.bias"][0]))


def test_a_head_belongs_to_one_task(speed):
    """Another head leaves the scores of every other group as they are."""
    items, query = (make("atrank", even_log(2), g, {"task_heads": True}, speed=speed) for g in ("items", "query"))
    before = [items.model(case.batch).scores for case in (items, query)]
    with torch.no_grad():
        for name, parameter in items.model.named_parameters():
            if f".heads.{key('items')}." in f".{name}":
                parameter.add_(0.1)
    after = [items.model(case.batch).scores for case in (items, query)]
    assert not torch.allclose(before[0], after[0])
    assert torch.equal(before[1], after[1])


def test_attentions_are_shared_where_the_options_say_so():
    model = make("atrank", even_log(0), "items", OPTIONS["two layers, shared"]).model
    assert model.target.attention is model.block(-1).attention
    model = make("atrank", even_log(0), "items", {"blocks": 2}).model
    assert model.target.attention is not model.block(-1).attention


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"ranked": "raw", "embedding_size": 3},
            r"ranked='raw' compares q_t of group 'items' \(9 wide\) with hidden=6",
        ),
        ({"ranked": "raw", "time": "one_hot"}, r"group 'items' \(22 wide\)"),
        ({"target": "raw", "embedding_size": 3}, r"target='raw' compares q_t of group 'items' \(9 wide\)"),
        ({"target_residual": "thrice"}, "target_residual"),
        ({"attention": "additive"}, "'bilinear' or 'dot'"),
        ({"told": "rwa"}, "'projected' or 'raw'"),
        ({"attention": "dot", "spaces": (1, 3, 2)}, r"needs spaces of one size, not \[1, 3, 2\]"),
        ({"target_attention": "shared", "told": "raw", "blocks": 0, "heads": 8}, "heads"),
        ({"weighting": "sum", "target_attention": "shared"}, "needs an attention of the target's own"),
        ({"hidden": 7}, "hidden=7 cannot be divided into spaces=3"),
    ],
)
def test_contradictions_are_refused(options, message):
    vocabularies = GroupedHistories.from_log(even_log(18)).vocabularies
    with pytest.raises((ValueError, ValidationError), match=message):
        build(EVEN, vocabularies, ATRankOptions(**{"embedding_size": 2, "hidden": 6, "spaces": 3} | options))


def test_a_bias_needs_an_object_id(tiny_log):
    vocabularies = GroupedHistories.from_log(tiny_log).vocabularies
    with pytest.raises(ValueError, match="object_bias needs object_id among the features of group 'query'"):
        build(tiny_log.schema, vocabularies, ATRankOptions(object_bias=True))


@pytest.mark.parametrize("name", list(OPTIONS))
def test_weights_load_under_the_names_they_once_had(name, tmp_path: Path):
    """Parts of ``f`` once stood beside it: ``heads.``, ``biases.``; and what ``f`` holds, right below ``rank.``"""
    case = make("atrank", even_log(17), "items", OPTIONS[name])
    once: dict[str, Tensor] = {}
    for new, p in case.model.named_parameters():
        for part in ("heads.", "biases."):
            if new.startswith("rank.") and part in new:
                once[new[new.index(part) :]] = p.detach().clone()
                break
        else:
            inside = new.startswith("rank.") and "layers." in new
            once[f"rank.{new[new.index('layers.') :]}" if inside else new] = p.detach().clone()
    assert len(once) == len(list(case.model.parameters()))
    save_file(once, tmp_path / "old.safetensors")
    other = build(EVEN, case.histories.vocabularies, case.model.config).double().eval()
    before = other(case.batch).scores
    load_weights(other, tmp_path / "old.safetensors")
    assert torch.equal(other(case.batch).scores, case.model(case.batch).scores)
    assert not torch.equal(other(case.batch).scores, before)
    # and come out under the names of today
    save_weights(other, tmp_path / "new.safetensors")
    assert set(load_file(tmp_path / "new.safetensors")) == {n for n, _ in case.model.named_parameters()}


def test_weights_of_another_variant_are_refused(tmp_path: Path):
    one, other = (make("atrank", even_log(17), "items", OPTIONS[name]).model for name in ("task heads", "object bias"))
    save_weights(one, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"holds other parameters than the model .*heads"):
        load_weights(other, tmp_path / "model.safetensors")
