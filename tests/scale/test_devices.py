"""Device, precision and compilation change where a model is trained, not what it learns; a missing part says so."""

from __future__ import annotations

import copy
import dataclasses
import logging
import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

import atrank_lib.training as training
from atrank_lib.attention import FeedForward
from atrank_lib.evaluation import evaluate
from atrank_lib.fast import kernels, speed_up
from atrank_lib.interpret import attention, erasure
from atrank_lib.log.events import EventLog
from atrank_lib.model import ATRank
from atrank_lib.ranking import Scores
from atrank_lib.runs import MODELS, load_run, train_run
from atrank_lib.samples import prepare, split
from atrank_lib.scale import Execution, Placed, ScaledSteps, moved
from atrank_lib.scale.devices import compile_layers, plain_layers
from atrank_lib.serve.ranker import Ranker
from atrank_lib.training import FitResult, Recipe, Steps, fit
from tests.models import a_batch, a_log, make
from tests.scale.together import SIZES

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
RECIPE = Recipe(epochs=2, batch_size=16, patience=None, loss="pairwise", negatives=2, l2=1e-3, average=0.9)


@pytest.fixture(scope="module")
def log() -> EventLog:
    return a_log()


def trained(log: EventLog, on: Execution | None, name: str = "atrank", fast: bool = False) -> FitResult:
    """With ``ScaledSteps``, or with plain ``Steps``."""
    histories, parts = prepare(log, "validated")
    torch.manual_seed(0)
    kind = MODELS[name]
    sizes = {k: v for k, v in SIZES.items() if k in kind.Config.model_fields}
    model = kind.build(log.schema, histories.vocabularies, kind.Config.model_validate(sizes))
    steps = Steps if on is None else partial(ScaledSteps, on=on)
    result = fit(speed_up(model) if fast else model, histories, parts, RECIPE, progress=False, steps=steps)
    assert all(p.dtype == torch.float32 for p in model.parameters())
    return result


def losses(result: FitResult) -> list[float]:
    return [epoch["loss"] for epoch in result.epochs]


@pytest.mark.parametrize("name", MODELS)
def test_bfloat16_trains_every_model(log: EventLog, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.dtype] = []

    def loss(scores: Tensor) -> Tensor:
        seen.append(scores.dtype)
        return -torch.nn.functional.logsigmoid(scores[:, :1] - scores[:, 1:]).mean()

    monkeypatch.setitem(training.LOSSES, "pairwise", loss)
    full = losses(trained(log, Execution(), name))
    half = losses(trained(log, Execution(precision="bfloat16"), name))
    assert set(seen) == {torch.float32}
    assert half == pytest.approx(full, rel=0.05)
    assert half != full  # or nothing was computed with fewer bits


def test_bfloat16_of_the_dense_layers_alone() -> None:
    model, histories = make("atrank")
    assert isinstance(model, ATRank)
    batch = a_batch(histories, "item")
    inside: list[torch.dtype] = []

    def look(_: nn.Module, __: object, out: Tensor) -> None:
        inside.append(out.dtype)

    model.block(0).feed_forward.register_forward_hook(look)
    output = Execution(precision="bfloat16").forward(model, batch, torch.device("cpu"))
    assert inside == [torch.bfloat16]
    assert {output.scores.dtype, output.users.dtype, output.targets.dtype} == {torch.float32}


def test_on_the_cpu_alone_steps_are_plain(log: EventLog) -> None:
    assert losses(trained(log, None)) == losses(trained(log, Execution()))


@pytest.mark.parametrize("fast", [False, True])
def test_an_epoch_says_where_it_was_trained(log: EventLog, fast: bool) -> None:
    for entry in trained(log, Execution(), fast=fast).epochs:
        told = {name: entry[name] for name in ("device", "precision", "compiled", "processes", "kernels")}
        ready = fast and kernels.ready(torch.empty(0))
        assert told == {"device": "cpu", "precision": "float32", "compiled": False, "processes": 1, "kernels": ready}
        assert entry["cpu_seconds"] >= 0


def tensors(x: object) -> Iterator[Tensor]:
    """All tensors inside, however deep."""
    if isinstance(x, Tensor):
        yield x
    elif isinstance(x, dict):
        for value in x.values():
            yield from tensors(value)
    elif dataclasses.is_dataclass(x):
        for field in dataclasses.fields(x):
            yield from tensors(getattr(x, field.name))


@pytest.mark.parametrize("group", ["item", "query"])
def test_all_of_a_batch_is_moved_but_its_places_in_the_log(group: str) -> None:
    batch = a_batch(make("atrank")[1], group)
    there = moved(batch, torch.device("meta"))  # a device without memory
    before, after = list(tensors(batch)), list(tensors(there))
    assert [x.shape for x in after] == [x.shape for x in before]
    assert len(before) > 20
    stayed = [x for x in after if x.device.type == "cpu"]
    assert {x.data_ptr() for x in stayed} == {part.positions.data_ptr() for part in batch.histories.values()}
    assert (there.packing.longest, there.candidates.shape) == (batch.packing.longest, batch.candidates.shape)


def test_a_placed_model_is_the_model() -> None:
    model, histories = make("atrank")
    batch, placed = a_batch(histories, "item"), Placed(model)
    assert (placed.schema, placed.histories) == (model.schema, model.histories)
    with torch.no_grad():
        expected, found = model(batch), placed(batch)
        again = placed.score(placed.encode(batch), batch.candidates)
    for name in Scores.__dataclass_fields__:
        for other in (found, again):
            assert torch.equal(getattr(other, name), getattr(expected, name))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_missing_gpu_is_named(log: EventLog, tmp_path: Path) -> None:
    assert Execution(device="auto").place() == torch.device("cpu")
    with pytest.raises(ValueError, match="finds no GPU here; use --device cpu"):
        train_run(log, tmp_path / "run", options=SIZES, recipe=RECIPE, on=Execution(device="cuda"), progress=False)
    assert not (tmp_path / "run").exists()


def test_every_process_has_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert Execution(device="auto").place(1) == torch.device("cuda", 1)
    with pytest.raises(ValueError, match="process 2 of this machine finds no GPU of its own, there are 2"):
        Execution(device="cuda").place(2)
    assert Execution(device="cpu").place(2) == torch.device("cpu")


def test_without_a_compiler_training_goes_on(
    log: EventLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_compiler(*_: object, **__: object) -> None:
        raise RuntimeError("\nInvalidCxxCompiler: no working C++ compiler found\nmore")

    plain = losses(trained(log, Execution()))
    monkeypatch.setattr(torch, "compile", no_compiler)
    with caplog.at_level(logging.WARNING):
        assert losses(trained(log, Execution(compiled=True))) == plain
    assert [record.getMessage() for record in caplog.records] == [
        "nothing can be compiled here, so training goes on without (InvalidCxxCompiler: no working C++ compiler found)"
    ]


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler here")
@pytest.mark.filterwarnings("ignore")  # the compiler warns of itself
def test_layers_are_compiled_once_for_any_number_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    # what was compiled for one kind of instructions is wrong for another, and torch's cache takes it all the same
    kind = torch.backends.cpu.get_cpu_capability().replace(" ", "-")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", f"{tempfile.gettempdir()}/torchinductor-tests-{kind}")
    counters.clear()
    plain = FeedForward(8)
    compiled = copy.deepcopy(plain)
    layers = compile_layers(compiled, torch.device("cpu"))
    assert layers == [compiled]
    for rows in (5, 9, 17):
        x = torch.randn(rows, 8)
        y = compiled(x)
        torch.testing.assert_close(y, plain(x))
        y.sum().backward()
        plain(x).sum().backward()
    for a, b in zip(plain.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)
    assert counters["stats"]["unique_graphs"] == 2  # the probe, and this
    assert list(plain.state_dict()) == list(compiled.state_dict())  # checkpoints do not see it
    plain_layers(layers)
    assert "forward" not in vars(compiled)


@GPU
def test_a_gpu_learns_the_same(log: EventLog, tmp_path: Path) -> None:
    """And its run is read, resumed and asked on a CPU."""
    settings: dict[str, Any] = {"options": SIZES, "progress": False}
    train_run(log, tmp_path / "cpu", recipe=RECIPE, **settings)
    train_run(
        log, tmp_path / "gpu", recipe=RECIPE.model_copy(update={"epochs": 1}), on=Execution(device="cuda"), **settings
    )
    on = Execution(device="cuda", precision="bfloat16", compiled=True)
    mixed = train_run(log, tmp_path / "mixed", recipe=RECIPE, on=on, **settings)
    both = train_run(log, tmp_path / "gpu", recipe=RECIPE, resume=True, **settings)
    cpu = train_run(log, tmp_path / "cpu", recipe=RECIPE, resume=True, **settings)
    assert [e["loss"] for e in both.epochs] == pytest.approx([e["loss"] for e in cpu.epochs], rel=1e-4)
    assert [e["loss"] for e in mixed.epochs] == pytest.approx([e["loss"] for e in cpu.epochs], rel=0.02)
    assert [e["device"] == "cpu" for e in both.epochs] == [False, True]


@GPU
def test_a_model_on_a_gpu_answers_as_on_a_cpu(log: EventLog, tmp_path: Path) -> None:
    train_run(log, tmp_path / "run", options=SIZES, recipe=RECIPE, progress=False)
    run = load_run(tmp_path / "run")
    histories = run.histories_of(log)
    test = split(histories, "validated").test

    def answers() -> tuple[float, list[str], np.ndarray, np.ndarray]:
        assert isinstance(run.model, ATRank)
        ranked = Ranker(run.model, histories, "item").top("steady", top=3)
        weights = attention(run.model, histories, test["item"])["attention"].to_numpy()
        falls = erasure(run.model, histories, test["item"])
        auc = evaluate(Placed(run.model), histories, test, negatives=3).average_user_auc
        return auc, list(ranked["object_id"]), weights, falls

    cpu = answers()
    run.model.cuda()
    gpu = answers()
    assert cpu[:2] == gpu[:2]
    np.testing.assert_allclose(cpu[2], gpu[2], atol=1e-5)
    np.testing.assert_allclose(cpu[3], gpu[3], atol=1e-5)
