"""Device, precision and compilation change where a model is trained, not what it learns; a missing part says so."""

from __future__ import annotations

import copy
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

import atrank_lib.training as training
from atrank_lib.attention import FeedForward
from atrank_lib.evaluation import evaluate
from atrank_lib.interpret import attention, erasure
from atrank_lib.log.events import EventLog
from atrank_lib.ranking import top_objects
from atrank_lib.recipes import Recipe
from atrank_lib.runs import MODELS, load_run, prepare, train_run
from atrank_lib.samples import split
from atrank_lib.scale.execution import Execution, compile_layers, plain_layers
from atrank_lib.training import fit
from tests.random_logs import random_log
from tests.together import CONFIG

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
RECIPE = Recipe(epochs=2, batch_size=16, patience=None, loss="pairwise", negatives=2, l2=1e-3, average=0.9)


@pytest.fixture(scope="module")
def log() -> EventLog:
    return random_log(4, users=7, behaviors=60, objects=30, times=40)


def losses(log: EventLog, on: Execution | None, name: str = "atrank") -> list[float]:
    histories, parts = prepare(log, "validated")
    torch.manual_seed(0)
    options = CONFIG if name == "atrank" else MODELS[name].Config()
    model = MODELS[name](log.schema, histories.vocabularies, options)
    result = fit(model, histories, parts, RECIPE, progress=False, on=on)
    assert all(p.dtype == torch.float32 for p in model.parameters())
    return [epoch["loss"] for epoch in result.epochs]


@pytest.mark.parametrize("name", MODELS)
def test_bfloat16_trains_every_model(log: EventLog, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.dtype] = []

    def loss(scores: Tensor) -> Tensor:
        seen.append(scores.dtype)
        return -torch.nn.functional.logsigmoid(scores[:, :1] - scores[:, 1:]).mean()

    monkeypatch.setitem(training.LOSSES, "pairwise", loss)
    full = losses(log, Execution(), name)
    half = losses(log, Execution(precision="bfloat16"), name)
    assert set(seen) == {torch.float32}
    assert half == pytest.approx(full, rel=0.02)
    assert half != full  # or nothing was computed with fewer bits


def test_bfloat16_of_the_dense_layers_alone(log: EventLog) -> None:
    histories, parts = prepare(log, "validated", ["item"])
    model = MODELS["atrank"](log.schema, histories.vocabularies, CONFIG)
    batch = next(training.batches(histories, parts.train, {"item": parts.train["item"].objects[:, None]}, 8))[2]
    inside: list[torch.dtype] = []
    model.blocks[0].feed_forward.register_forward_hook(lambda _, __, out: inside.append(out.dtype))
    output = Execution(precision="bfloat16").forward(model, batch, torch.device("cpu"))
    assert inside == [torch.bfloat16]
    assert {output.scores.dtype, output.users.dtype, output.targets.dtype} == {torch.float32}


def test_no_option_no_change(log: EventLog) -> None:
    assert losses(log, None) == losses(log, Execution())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_missing_gpu_is_named(log: EventLog, tmp_path: Path) -> None:
    assert Execution(device="auto").place() == torch.device("cpu")
    with pytest.raises(ValueError, match="finds no GPU here; use --device cpu"):
        train_run(log, tmp_path / "run", options=CONFIG, recipe=RECIPE, on=Execution(device="cuda"), progress=False)
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

    plain = losses(log, Execution())
    monkeypatch.setattr(torch, "compile", no_compiler)
    with caplog.at_level(logging.WARNING):
        assert losses(log, Execution(compiled=True)) == plain
    assert [record.getMessage() for record in caplog.records] == [
        "nothing can be compiled here, so training goes on without (InvalidCxxCompiler: no working C++ compiler found)"
    ]


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler here")
@pytest.mark.filterwarnings("ignore")  # the compiler warns of itself
def test_layers_are_compiled_once_for_any_number_of_rows() -> None:
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
    settings: dict[str, Any] = {"options": CONFIG, "progress": False}
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
    train_run(log, tmp_path / "run", options=CONFIG, recipe=RECIPE, progress=False)
    trained = load_run(tmp_path / "run")
    histories = trained.histories_of(log)
    test = split(histories, "validated").test

    def answers() -> tuple[float, list[str], np.ndarray, np.ndarray]:
        ranked = top_objects(trained.model, histories, "steady", "item", top=3)
        weights = attention(trained.model, histories, test["item"])["attention"].to_numpy()
        falls = erasure(trained.model, histories, test["item"])
        auc = evaluate(trained.model, histories, test, negatives=3).average_user_auc
        return auc, list(ranked["object_id"]), weights, falls

    cpu = answers()
    trained.model.cuda()
    gpu = answers()
    assert cpu[:2] == gpu[:2]
    np.testing.assert_allclose(cpu[2], gpu[2], atol=1e-5)
    np.testing.assert_allclose(cpu[3], gpu[3], atol=1e-5)
