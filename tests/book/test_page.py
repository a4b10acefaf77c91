"""The document of a page: weights, objects and histories as the model has them."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from atrank_book.live import batch_of, rounded
from atrank_book.page import (
    browser_document,
    document_text,
    examples_of,
    pack_weights,
    some_samples,
)
from atrank_lib.grouping import GroupedHistories
from atrank_lib.samples import Split, build_batch, history_lengths, prepare
from tests.models import VARIANTS, a_log
from tests.serve.pages import a_model


@pytest.fixture(scope="module")
def prepared() -> tuple[GroupedHistories, Split]:
    return prepare(a_log(), "validated")


@pytest.fixture(scope="module")
def histories(prepared: tuple[GroupedHistories, Split]) -> GroupedHistories:
    return prepared[0]


def unpack_weights(packed: dict[str, Any]) -> dict[str, Tensor]:
    """The inverse of ``pack_weights``, as a page does it."""
    numbers = np.frombuffer(base64.b64decode(packed["data"]), dtype="<f2").astype(np.float32)
    sizes = [math.prod(shape) for shape in packed["shapes"].values()]
    parts = torch.from_numpy(numbers).split(sizes)
    return {name: part.reshape(shape) for part, (name, shape) in zip(parts, packed["shapes"].items(), strict=True)}


def test_weights_are_packed_once_and_come_back_with_16_bits(histories: GroupedHistories) -> None:
    model, _ = a_model("two layers, shared", histories)
    found = unpack_weights(json.loads(json.dumps(pack_weights(model))))
    expected = dict(rounded(model).named_parameters())
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert torch.equal(found[name], value)
        torch.testing.assert_close(value, model.get_parameter(name), atol=1e-7, rtol=2**-11)
    assert not any(name.startswith("target.attention") for name in found)  # shared: it is the last block's


# the names of f's weights that a page looks for
PARTS = {
    "object_bias": "biases.[coupon].weight",
    "task_heads": "heads.[coupon].0.weight",
    "ranking": "rank.layers.0.weight",
}


@pytest.mark.parametrize("way", VARIANTS)
def test_the_parts_of_f_have_one_name_however_they_are_nested(way: str) -> None:
    model, _ = a_model(way)
    names = list(pack_weights(model)["shapes"])
    assert len(names) == len(set(names)) == len(list(model.parameters()))
    assert {setting for setting, name in PARTS.items() if name in names} == set(VARIANTS[way]) & set(PARTS)
    assert not any("rank.rank" in name for name in names)


def test_what_a_page_does_not_compute_is_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match="a page does not compute weighting='sum'; train a model without"):
        browser_document(*a_model("summed"), [])
    model, histories = a_model("original")
    message = "a page does not compute time='one_hot_12', residual='twice', .*, target='raw', action='beside'; train"
    with pytest.raises(ValueError, match=message):
        browser_document(model, histories, [])


@pytest.mark.parametrize("bad", [float("nan"), 1e6])
def test_weights_that_16_bits_cannot_hold_are_refused(histories: GroupedHistories, bad: float) -> None:
    model = a_model("atrank", histories)[0]
    with torch.no_grad():
        model.get_parameter("target.feed_forward.0.bias")[0] = bad
    with pytest.raises(ValueError, match=r"weight target.feed_forward.0.bias"):
        browser_document(model, histories, [])


def test_a_document_holds_the_objects_as_the_model_sees_them(histories: GroupedHistories) -> None:
    document = json.loads(document_text(browser_document(a_model("atrank", histories)[0], histories, [])))
    for entry, (name, group) in zip(document["groups"], histories.schema.groups.items(), strict=True):
        catalog = histories.catalogs[name]
        assert (entry["name"], entry["actions"]) == (name, list(group.actions))
        assert entry["objects"]["ids"] == list(catalog.object_ids)
        for feature, column in zip(entry["features"], entry["objects"]["columns"], strict=True):
            for place, value in enumerate(column):
                seen: Any = catalog.take(torch.tensor([place]))[feature["name"]]
                if feature["kind"] == "continuous":
                    expected = [0.0, 1.0] if value is None else [(value - feature["mean"]) / feature["deviation"], 0.0]
                    torch.testing.assert_close(seen[0], torch.tensor(expected))
                elif feature["kind"] == "tokens":
                    assert value == seen.values.tolist()
                else:
                    assert value == seen.item()
    assert any(None in column for group in document["groups"] for column in group["objects"]["columns"])


def test_a_document_can_stand_inside_a_page() -> None:
    text = document_text({"name": "a </script><b> & \u2028 é"})
    assert "<" not in text
    assert "\u2028" not in text
    assert json.loads(text) == {"name": "a </script><b> & \u2028 é"}


def test_examples_are_the_latest_of_what_the_model_reads(prepared: tuple[GroupedHistories, Split]) -> None:
    histories, parts = prepared
    groups = ["item", "coupon"]
    for samples in some_samples(parts.test, 8):
        examples = examples_of(histories, samples, groups, longest=5)
        lengths = history_lengths(samples, histories, groups).tolist()
        assert [len(e["behaviors"]) + e["older"] for e in examples] == lengths
        for number, example in enumerate(examples):
            ages = [behavior[3] for behavior in example["behaviors"]]
            assert ages == sorted(ages, reverse=True)
            assert len(ages) == min(5, lengths[number])
            assert not any(behavior[0] == 1 for behavior in example["behaviors"])
            assert example["label"] == histories.user_ids[int(samples.users[number])]
            if not example["older"]:
                one = samples[torch.tensor([number])]
                model = a_model("atrank", histories)[0]
                batch = build_batch(histories, one, one.objects[:, None], groups)
                same, _ = batch_of(histories, example["behaviors"], samples.target_group, one.objects.tolist())
                with torch.no_grad():
                    torch.testing.assert_close(model(batch).scores, model(same).scores)


def test_some_samples_are_spread_over_tasks(prepared: tuple[GroupedHistories, Split]) -> None:
    test = prepared[1].test
    found = some_samples(test, 5)
    assert [part.target_group for part in found] == list(test)
    assert [len(part) for part in found] == [2, 2, 1]
    assert [len(part) for part in some_samples(test, 10_000)] == [len(samples) for samples in test.values()]
    assert [len(part) for part in some_samples(test, 0)] == [0, 0, 0]


def test_training_options_do_not_matter(histories: GroupedHistories) -> None:
    """Dropout of every kind is off in what is exported."""
    model = a_model("atrank", histories, dropout=0.5, embedding_dropout=0.5, id_dropout=0.5)[0].train()
    batch, _ = batch_of(histories, [[0, 0, 1, 10]], "item", [2])
    with torch.no_grad():
        assert torch.equal(rounded(model)(batch).scores, rounded(model)(batch).scores)
