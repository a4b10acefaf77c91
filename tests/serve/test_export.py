"""`atrank export`: documents and graphs say what the model says; errors are one message."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from typer.testing import CliRunner

from atrank_lib.cli import app
from atrank_lib.grouping import GroupedHistories
from atrank_lib.model import ATRank, ATRankConfig
from atrank_lib.samples import Split, build_batch, history_lengths, prepare
from atrank_lib.serve.browser import (
    batch_of,
    browser_document,
    document_text,
    examples_of,
    pack_weights,
    rounded,
    some_samples,
    unpack_weights,
)
from atrank_lib.serve.onnx_graph import OneUser, export_onnx, inputs_of
from tests.random_logs import SCHEMA, random_log

OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "authors": {
        "attention": "dot",
        "residual": "attended",
        "time": "one_hot",
        "target_residual": True,
        "linear_projection": True,
        "object_bias": True,
    },
    "shared": {"target_attention": "shared", "blocks": 2, "spaces": (3, 5, 8)},
    "no self-attention": {"blocks": 0, "time": "none", "ranking": "mlp"},
    "heads": {"task_heads": True},
    "told raw": {"told": "raw"},
    "told raw, shared": {"told": "raw", "target_attention": "shared", "target_residual": True, "spaces": (3, 5, 8)},
    "raw": {"embedding_size": 8, "hidden": 16, "ranked": "raw", "time": "continuous"},
}


def model_of(histories: GroupedHistories, seed: int = 0, **options: Any) -> ATRank:
    """An untrained model whose biases are not zero and whose attention is not flat."""
    torch.manual_seed(seed)
    config = ATRankConfig.model_validate({"embedding_size": 8, "hidden": 16, "spaces": 4} | options)
    model = ATRank(histories.schema, histories.vocabularies, config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    return model


def random_behaviors(rng: np.random.Generator, histories: GroupedHistories, count: int) -> list[list[Any]]:
    """Behaviors as a page has them; now and then on an object of which nothing is known (None)."""
    found: list[list[Any]] = []
    for _ in range(count):
        number = int(rng.integers(len(histories.groups)))
        name = list(histories.groups)[number]
        unknown = rng.random() < 0.2
        place = None if unknown else int(rng.integers(len(histories.catalogs[name])))
        action = int(rng.integers(len(histories.schema.groups[name].actions)))
        found.append([number, action, place, int(2 ** (24 * rng.random())) - 1])
    return found


@pytest.fixture(scope="module")
def prepared() -> tuple[GroupedHistories, Split]:
    return prepare(random_log(4, users=7, behaviors=60, objects=30, times=40), "validated")


@pytest.fixture(scope="module")
def histories(prepared: tuple[GroupedHistories, Split]) -> GroupedHistories:
    # the log's objects that training never showed are unknown, and some have a shop that is
    return prepared[0]


# --- one user, densely, and as a graph


def usable(options: dict[str, Any]) -> bool:
    return not options.get("object_bias") and options.get("ranked") != "raw"  # queries have one feature, and no id


GROUPS = ["item", "query", "coupon"]


@pytest.mark.parametrize("name", [name for name, options in OPTIONS.items() if usable(options)])
@pytest.mark.parametrize("target", GROUPS)
def test_one_user_agrees_with_the_model(histories: GroupedHistories, name: str, target: str):
    model = model_of(histories, **OPTIONS[name])
    user = OneUser(model, target)
    rng = np.random.default_rng(0)
    for count in (0, 1, 3, 17):
        batch, order = batch_of(histories, random_behaviors(rng, histories, count), target, [0, None, 3])
        compare(model, user, batch, len(order), atol=1e-5)


def compare(model: ATRank, user: OneUser, batch: Any, n: int, atol: float, session: Any = None) -> None:
    inputs = inputs_of(batch)
    assert set(inputs) == set(user.names)
    if session is None:
        with torch.no_grad():
            scores, target, *layers = user(*(inputs[name] for name in user.names))
    else:
        known = {entry.name for entry in session.get_inputs()}
        found = session.run(None, {name: value.numpy() for name, value in inputs.items() if name in known})
        scores, target, *layers = map(torch.from_numpy, found)
    explained = model.explain(batch)
    with torch.no_grad():
        torch.testing.assert_close(scores, model(batch).scores[0], atol=atol, rtol=1e-4)
    torch.testing.assert_close(target, explained.target_attention[0, :, :, :n], atol=atol, rtol=1e-4)
    assert len(layers) == len(explained.self_attention)
    for layer, expected in zip(layers, explained.self_attention, strict=True):
        torch.testing.assert_close(layer, expected[0, :, :n, :n], atol=atol, rtol=1e-4)


@pytest.mark.parametrize("name", [name for name, options in OPTIONS.items() if usable(options)])
def test_the_graph_agrees_with_the_model_for_any_length(histories: GroupedHistories, name: str, tmp_path: Path):
    model = model_of(histories, **OPTIONS[name])
    export_onnx(model, "item", tmp_path / "model.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    assert [entry.name for entry in session.get_outputs()] == OneUser(model, "item").outputs
    rng = np.random.default_rng(1)
    for count in (0, 1, 2, 5, 40):
        for objects in ([0], [1, None, 2, 7, 7]):
            batch, order = batch_of(histories, random_behaviors(rng, histories, count), "item", objects)
            compare(model, OneUser(model, "item"), batch, len(order), 1e-4, session)
    # one group alone, so that two are empty
    for number in range(3):
        behaviors: list[list[Any]] = [[number, 0, 1, 5], [number, 0, None, 50]]
        batch, order = batch_of(histories, behaviors, "item", [0, 1])
        compare(model, OneUser(model, "item"), batch, len(order), 1e-4, session)


def test_options_that_need_an_id_or_one_width_reach_the_graph(tmp_path: Path, tiny_log):
    """Object bias and raw targets, on a log whose groups allow them."""
    schema = tiny_log.schema.model_copy(update={"groups": {"coupon": tiny_log.schema.groups["coupon"]}})
    log = type(tiny_log).from_tables(
        schema, {"coupon": tiny_log.events["coupon"]}, {"coupon": tiny_log.objects["coupon"]}
    )
    one = GroupedHistories.from_log(log)
    for name, more in (("authors", {}), ("raw", {"hidden": 24, "spaces": 3})):
        model = model_of(one, **(OPTIONS[name] | more))
        export_onnx(model, "coupon", tmp_path / "m.onnx")
        session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
        some: list[list[Any]] = [[0, 0, 1, 7 * 86_400], [0, 0, None, 86_399]]
        for behaviors in ([], some):
            batch, order = batch_of(one, behaviors, "coupon", [0, 1, 2, None])
            compare(model, OneUser(model, "coupon"), batch, len(order), 1e-4, session)


def test_a_graph_of_a_group_that_is_missing(histories: GroupedHistories, tmp_path: Path):
    with pytest.raises(ValueError, match=r"target group: .*'shoe'.*item"):
        export_onnx(model_of(histories), "shoe", tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_a_graph_reads_one_user_at_a_time(prepared: tuple[GroupedHistories, Split]):
    histories, parts = prepared
    samples = parts.test["item"]
    with pytest.raises(ValueError, match=f"a batch of {len(samples)} samples"):
        inputs_of(build_batch(histories, samples, samples.objects[:, None]))


# --- the document of a page


def test_weights_are_packed_once_and_come_back_with_16_bits(histories: GroupedHistories):
    model = model_of(histories, **OPTIONS["shared"])
    found = unpack_weights(json.loads(json.dumps(pack_weights(model))))
    expected = dict(rounded(model).named_parameters())
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert torch.equal(found[name], value)
        torch.testing.assert_close(value, model.get_parameter(name), atol=1e-7, rtol=2**-11)
    assert not any(name.startswith("target.attention") for name in found)  # shared: it is the last block's


@pytest.mark.parametrize("bad", [float("nan"), 1e6])
def test_weights_that_16_bits_cannot_hold_are_refused(histories: GroupedHistories, bad: float):
    model = model_of(histories)
    with torch.no_grad():
        model.get_parameter("target.feed_forward.0.bias")[0] = bad
    with pytest.raises(ValueError, match=r"weight target.feed_forward.0.bias"):
        browser_document(model, histories, [])


def test_a_document_holds_the_objects_as_the_model_sees_them(histories: GroupedHistories):
    document = json.loads(document_text(browser_document(model_of(histories), histories, [])))
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


def test_a_document_can_stand_inside_a_page():
    text = document_text({"name": "a </script><b> & \u2028 é"})
    assert "<" not in text
    assert "\u2028" not in text
    assert json.loads(text) == {"name": "a </script><b> & \u2028 é"}


def test_examples_are_the_latest_of_what_the_model_reads(prepared: tuple[GroupedHistories, Split]):
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
                model = model_of(histories)
                batch = build_batch(histories, one, one.objects[:, None], groups)
                same, _ = batch_of(histories, example["behaviors"], samples.target_group, one.objects.tolist())
                with torch.no_grad():
                    torch.testing.assert_close(model(batch).scores, model(same).scores)


def test_some_samples_are_spread_over_tasks(prepared: tuple[GroupedHistories, Split]):
    test = prepared[1].test
    found = some_samples(test, 5)
    assert [part.target_group for part in found] == list(test)
    assert [len(part) for part in found] == [2, 2, 1]
    assert [len(part) for part in some_samples(test, 10_000)] == [len(samples) for samples in test.values()]
    assert [len(part) for part in some_samples(test, 0)] == [0, 0, 0]


# --- the command


def atrank(*arguments: str | Path | int) -> SimpleNamespace:
    done = CliRunner().invoke(app, [str(a) for a in arguments], prog_name="atrank")
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception  # a user would see a traceback
    return SimpleNamespace(code=done.exit_code, out=done.stdout, err=done.stderr)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "log"
    random_log(4, users=7, behaviors=60, objects=30, times=40).write(folder)
    return folder


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "run"
    assert atrank("train", "--data", data, "--out", folder, "--epochs", 1, "--batch-size", 16).code == 0
    return folder


def test_the_command_writes_a_document(run: Path, data: Path, tmp_path: Path):
    done = atrank("export", "--run", run, "--data", data, "--format", "browser", "--out", tmp_path / "m.json")
    assert done.code == 0, done.err
    document = json.loads((tmp_path / "m.json").read_text(encoding="utf-8"))
    assert document["format"] == "atrank-browser-1"
    assert 3 <= len(document["examples"]) <= 6  # two a group, where there are two test samples
    assert f"{(tmp_path / 'm.json').stat().st_size:,} bytes" in done.out
    assert [p.name for p in tmp_path.iterdir()] == ["m.json"]


def test_the_command_writes_a_graph(run: Path, tmp_path: Path):
    done = atrank("export", "--run", run, "--format", "onnx", "--target", "query", "--out", tmp_path / "m.onnx")
    assert done.code == 0, done.err
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    assert "candidates.tokens" in {entry.name for entry in session.get_inputs()}


def test_what_the_command_refuses(run: Path, data: Path, tmp_path: Path):
    cnn, out = tmp_path / "cnn", tmp_path / "out" / "m"
    assert atrank("train", "--data", data, "--out", cnn, "--model", "cnn", "--epochs", 1).code == 0
    for arguments, parts in [
        (("--run", run, "--format", "browser"), ["--data"]),
        (("--run", run, "--format", "onnx"), ["--target", ", ".join(SCHEMA.groups)]),
        (("--run", run, "--format", "onnx", "--target", "shoe"), ["shoe", "item"]),
        (("--run", cnn, "--format", "onnx", "--target", "item"), ["'cnn'", "atrank"]),
        (("--run", cnn, "--format", "browser", "--data", data), ["'cnn'", "atrank"]),
        (("--run", tmp_path, "--format", "browser", "--data", data), ["holds no run"]),
        (("--run", run, "--format", "browser", "--data", data), [str(out.parent)]),  # no such folder
    ]:
        done = atrank("export", *arguments, "--out", out)
        assert (done.code, done.out) == (1, ""), arguments
        assert len(done.err.splitlines()) == 1, done.err
        assert all(part in done.err for part in parts), done.err
    assert not out.parent.exists()


def test_a_log_of_another_schema_is_refused(run: Path, tiny_log, tmp_path: Path):
    tiny_log.write(tmp_path / "tiny")
    done = atrank("export", "--run", run, "--data", tmp_path / "tiny", "--format", "browser", "--out", tmp_path / "m")
    assert done.code == 1
    assert "schema" in done.err
    assert not (tmp_path / "m").exists()


def test_training_options_do_not_matter(histories: GroupedHistories):
    """Dropout of every kind is off in what is exported."""
    model = model_of(histories, dropout=0.5, embedding_dropout=0.5, id_dropout=0.5).train()
    batch, _ = batch_of(histories, [[0, 0, 1, 10]], "item", [2])
    with torch.no_grad():
        assert torch.equal(rounded(model)(batch).scores, rounded(model)(batch).scores)
