"""The authors' models against numbers of their own code: scores, attention, loss, every weight after one step."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import atrank_lib.training as training
from atrank_lib.batches import Batch, Candidates, Features, GroupBatch, Packing
from atrank_lib.fast import plain, speed_up
from atrank_lib.interpret import explain
from atrank_lib.log.schema import Schema
from atrank_lib.log.vocabularies import Vocabularies
from atrank_lib.model import ATRank
from atrank_lib.ranking import pointwise_loss
from atrank_lib.training import Recipe, Steps
from atrank_lib.variants import ORIGINAL, ORIGINAL_MULTI, ATRankOptions, build
from tests.cases import close, even_log, make

GOLDEN = np.load(Path(__file__).parent / "golden" / "original_code.npz")
DAY = 86_400
TOLERANCE = 1e-5


class Case(NamedTuple):
    """How a model of theirs is called here. Of a group: its letter there, its features' tables, its kernel's name."""

    options: dict[str, Any]
    l2: float
    groups: dict[str, tuple[str, dict[str, str], str, str]]  # letter, {feature: table}, dense layer, bias


SINGLE = Case(
    ORIGINAL | {"embedding_size": 4, "hidden": 8, "spaces": 2},
    5e-5,
    {"item": ("i", {"object_id": "item_emb_w", "category": "cate_emb_w"}, "dense", "item_b")},
)
MULTI = Case(
    ORIGINAL_MULTI | {"hidden": 16, "dropout": 0.0},
    1e-5,
    {
        "item": (
            "i",
            {"object_id": "item_emb_w", "shop": "shop_emb_w", "category": "cate_emb_w", "brand": "brand_emb_w"},
            "i_layer",
            "item_b",
        ),
        "query": ("q", {"object_id": "query_emb_w"}, "q_layer", "item_q"),
        "coupon": (
            "c",
            {"object_id": "coupon_emb_w", "shop": "shop_emb_w", "category": "cate_emb_w"},
            "c_layer",
            "item_c",
        ),
    },
)
MODELS = {"atrank": SINGLE, "multi-item_batch": MULTI, "multi-query_batch": MULTI, "multi-coupon_batch": MULTI}


def feature_of(model: str, group: str, feature: str, objects: np.ndarray) -> np.ndarray:
    if feature == "object_id":
        return objects
    return GOLDEN["categories" if model == "atrank" else f"multi/{group}_{feature}"][objects]


def tables(case: Case) -> dict[str, str]:
    """The name of a table there by its vocabulary's here; features of one name share theirs, ids do not."""
    return {
        (f"{group}.object_id" if feature == "object_id" else feature): table
        for group, (_, features, _, _) in case.groups.items()
        for feature, table in features.items()
    }


def new_model(name: str) -> ATRank:
    case = MODELS[name]
    spec = {"kind": "categorical"}
    groups = {
        group: {
            "actions": ["browse", "mark", "buy"] if (case, group) == (MULTI, "item") else ["act"],
            "features": {f: spec if f == "object_id" else spec | {"vocabulary": f} for f in features},
        }
        for group, (_, features, _, _) in case.groups.items()
    }
    schema = Schema.model_validate({"name": name, "groups": groups})
    rows = {vocabulary: len(GOLDEN[f"{name}/before/{table}:0"]) for vocabulary, table in tables(case).items()}
    words = {vocabulary: tuple(map(str, range(count))) for vocabulary, count in rows.items()}
    return build(schema, Vocabularies(words, {}), ATRankOptions(**case.options))


def a_model(name: str) -> ATRank:
    """The model with their weights; the row of an unknown value, which they have not, is zero."""
    model = new_model(name)
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), weights(name, model, "before").values(), strict=True):
            assert parameter.shape == value.shape
            parameter.copy_(value)
    return model


def weights(name: str, model: ATRank, state: str) -> dict[str, Tensor]:
    """Their variables by our parameters' names."""
    case = MODELS[name]

    def of(there: str) -> np.ndarray:
        return GOLDEN[f"{name}/{state}/{there}:0"]

    found: dict[str, np.ndarray] = {}
    for vocabulary, table in tables(case).items():
        place = vocabulary.replace(".", "/")
        found[f"tables.[{place}].weight"] = np.pad(of(table), ((1, 0), (0, 0)))
    for group, (_, _, dense, bias) in case.groups.items():
        embedding, kernel = model.embedding(group), of(f"{dense}/kernel")
        objects, beside = embedding.objects.size, embedding.size - embedding.objects.size - 12
        # theirs are object, action and time, ours object, time and action
        order = [*range(objects), *range(objects + beside, len(kernel)), *range(objects, objects + beside)]
        found[f"projection.maps.[{group}].weight"] = kernel[order].T
        found[f"projection.maps.[{group}].bias"] = of(f"{dense}/bias")
        found[f"rank.biases.[{group}].weight"] = np.pad(of(bias), (1, 0))[:, None]
        if beside:
            found[f"embeddings.[{group}].actions.weight"] = of("action_emb_w")
    blocks = {"blocks.0": ("user_hist_group", "self"), "target": ("item_feature_group", "vanilla")}
    for ours, (scope, kind) in blocks.items():
        block = f"all/{scope}/num_blocks_0"
        for part, dense in {"queries.map": "dense", "keys": "dense_1", "values": "dense_2"}.items():
            layer = f"{block}/{kind}_attention/{dense}"
            found[f"{ours}.attention.{part}.0.weight"] = of(f"{layer}/kernel").T
            found[f"{ours}.attention.{part}.0.bias"] = of(f"{layer}/bias")
        for norm, part in {"inner": f"{kind}_attention", "norm": "feed_forward"}.items():
            found[f"{ours}.{norm}.bias"] = of(f"{block}/{part}/ln/Variable")
            found[f"{ours}.{norm}.weight"] = of(f"{block}/{part}/ln/Variable_1")
        for number, conv in {0: "conv1d", 2: "conv1d_1"}.items():
            found[f"{ours}.feed_forward.{number}.weight"] = of(f"{block}/feed_forward/{conv}/kernel")[0].T
            found[f"{ours}.feed_forward.{number}.bias"] = of(f"{block}/feed_forward/{conv}/bias")
    return {n: torch.from_numpy(np.ascontiguousarray(found.pop(n))) for n, _ in model.named_parameters()}


def features(name: str, group: str, objects: np.ndarray) -> Features:
    """Indices: 0 is unknown here, and theirs begin with 1."""
    return {
        f: torch.from_numpy(feature_of(name, group, f, objects).astype(np.int64) + 1)
        for f in MODELS[name].groups[group][1]
    }


def a_batch(name: str) -> tuple[Batch, np.ndarray]:
    """The batch; and where in a history of theirs, groups padded one by one, each behavior of a sample stands."""
    single = name == "atrank"
    given = {key.rpartition("/")[2]: GOLDEN[key] for key in GOLDEN.files if key.startswith(f"{name}/in/")}
    size, first = len(given["y"]), 0
    histories, owners, places, theirs = {}, [], [], []
    before = np.zeros(size, dtype=np.int64)
    for group, (letter, *_) in MODELS[name].groups.items():
        there = ("hist_i", "hist_t", "sl") if single else (f"hist_{letter}_{part}" for part in ("id", "time", "sl"))
        ids, times, lengths = (given[part] for part in there)
        owner, place = np.nonzero(np.arange(ids.shape[1]) < lengths[:, None])
        actions = given[f"hist_{letter}_act"][owner, place] if f"hist_{letter}_act" in given else 0 * owner
        elapsed = (2 ** times[owner, place].astype(np.int64) - 1) * DAY  # the first day of each bucket
        histories[group] = GroupBatch(
            features(name, group, ids[owner, place]),
            torch.from_numpy(actions),
            torch.from_numpy(elapsed),
            torch.arange(len(owner)),
        )
        owners.append(owner)
        places.append(place + before[owner])
        theirs.append(first + place)
        before, first = before + lengths, first + ids.shape[1]
    owner, place = np.concatenate(owners), np.concatenate(places)
    group = "item" if single else name.removeprefix("multi-").removesuffix("_batch")
    targets = given[MODELS[name].groups[group][0]]
    packing = Packing.of(torch.from_numpy(owner), torch.from_numpy(place), size)
    where = np.full((size, packing.longest), -1)
    where[owner, place] = np.concatenate(theirs)
    candidates = Candidates(group, features(name, group, targets), (size, 1))
    return Batch(histories, packing, torch.arange(size), candidates), where


def output(name: str, what: str) -> np.ndarray:
    return GOLDEN[f"{name}/out/{what}"]


def paired(scores: Tensor) -> Tensor:
    """Theirs is a batch of single candidates, taken and not taken by turns: two samples of two candidates."""
    return pointwise_loss(scores.view(-1, 2))


def norms(model: ATRank, batch: Batch, l2: float) -> tuple[float, float]:
    """The gradient's norm, and TensorFlow's, which has the gradient of a table's row once for each time it is read."""
    model = plain(copy.deepcopy(model))
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            module.sparse = True  # gradients come read by read
    found = model(batch)
    (paired(found.scores) + l2 * found.l2()).backward()
    given = [p.grad for p in model.parameters() if p.grad is not None]
    reads = [g._values() if g.is_sparse else g for g in given]
    return tuple(float(sum(g.square().sum() for g in gs)) ** 0.5 for gs in ([g.to_dense() for g in given], reads))


@pytest.mark.parametrize("name", MODELS)
def test_scores_attention_and_loss_are_those_of_the_authors_code(name, speed):
    model, (batch, where) = a_model(name).eval(), a_batch(name)
    if speed == "kernels":
        speed_up(model)
    with torch.no_grad():
        found, seen = model(batch), explain(model, batch)
    assert GOLDEN[f"{name}/in/y"].tolist() == [1, 0, 1, 0]
    close(found.scores[:, 0], output(name, "logits"), TOLERANCE)
    close(paired(found.scores) + MODELS[name].l2 * found.l2(), output(name, "loss"), TOLERANCE)
    spaces, size = len(model.target.attention.sizes), len(where)
    target = output(name, "target_attention").reshape(spaces, size, -1)
    among = output(name, "self_attention").reshape(spaces, size, *output(name, "self_attention").shape[1:])
    for b in range(size):
        places = where[b][where[b] >= 0]
        n = len(places)
        assert n == int(batch.packing.lengths[b]) > 0
        close(seen.target_attention[b, :, 0, :n], target[:, b, places], TOLERANCE)
        close(seen.self_attention[0][b, :, :n, :n], among[:, b][:, places][:, :, places], TOLERANCE)


@pytest.mark.parametrize("name", MODELS)
def test_every_weight_after_a_step_is_that_of_the_authors_code(name, speed, monkeypatch):
    model, (batch, _) = a_model(name), a_batch(name)
    if speed == "kernels":
        speed_up(model)
    l2, rate = MODELS[name].l2, float(GOLDEN[f"{name}/in/lr"])
    rows, reads = norms(model, batch, l2)
    assert (reads > 5.0) == (name != "atrank")  # where it clips
    recipe = Recipe(optimizer="sgd", learning_rate=rate, l2=l2, gradient_clip=5.0 * rows / reads)
    monkeypatch.setitem(training.LOSSES, "pointwise", paired)
    steps = Steps(model, recipe, {batch.candidates.group: batch.size})
    steps.take([(batch.candidates.group, batch.size, batch)], rate, torch.Generator())
    after, before = weights(name, model, "after"), weights(name, model, "before")
    moved = 0
    for part, parameter in model.named_parameters():
        close(parameter, after[part], TOLERANCE)
        moved += not torch.equal(after[part], before[part])
    assert moved == len(after) - (0 if name == "atrank" else 2)  # but for the biases of the other groups


def test_the_first_weights_are_drawn_as_tensorflow_draws_them():
    torch.manual_seed(0)
    for name, parameter in new_model("multi-item_batch").named_parameters():
        weight = parameter.detach()
        if weight.dim() > 1 and ".biases." not in name:
            limit = (6 / sum(weight.shape)) ** 0.5
            assert 0.5 * limit < float(weight.abs().max()) <= limit, name
        else:
            assert bool((weight == ("norm.weight" in name or "inner.weight" in name)).all()), name


def test_weights_of_attention_are_dropped_one_by_one(speed):
    """Of a single behavior a space tells all or nothing: its weight is 1, kept in half of all cases, then doubled."""
    torch.manual_seed(0)
    options = {"hidden": 32, "spaces": 2, "dropout": 0.5, "dropout_on": "weights", "target_residual": True}
    model = make("atrank", even_log(0), "items", options, dtype=torch.float32).model.train()
    if speed == "kernels":
        speed_up(model)
    assert not any(isinstance(module, nn.Dropout) and module.p == 0.5 for module in model.modules())
    packing = Packing.of(torch.arange(200), torch.zeros(200, dtype=torch.long), 200)
    for attention in (model.block(0).attention, model.target.attention):
        _, keys, values = attention.project(torch.randn(200, 32))
        found = attention.attend(keys, keys, values, packing).unflatten(1, (2, 16)).flatten(0, 1)
        told = values.unflatten(1, (2, 16)).flatten(0, 1)
        kept = (found == 2 * told).all(dim=1)
        assert bool((kept | (found == 0).all(dim=1)).all())
        assert 50 < int(kept.sum()) < 350
        torch.testing.assert_close(attention.eval().attend(keys, keys, values, packing), values)
