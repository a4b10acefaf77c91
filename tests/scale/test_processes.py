"""Two processes against one: the same losses, the same weights, runs that go from one to the other, shared failures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from typer.testing import CliRunner

import atrank_lib.scale.processes as distributed
from atrank_lib.cli import app
from atrank_lib.evaluation import fixed_candidates, score_candidates
from atrank_lib.grouping import GroupedHistories
from atrank_lib.log.events import EventLog
from atrank_lib.model import ATRank
from atrank_lib.negatives import NegativeSampler, draw_candidates
from atrank_lib.ranking import pairwise_loss
from atrank_lib.recipes import Recipe
from atrank_lib.runs import train_run
from atrank_lib.runs.checkpoints import Checkpoints
from atrank_lib.samples import batches, split
from atrank_lib.scale.execution import Execution
from atrank_lib.scale.processes import ALONE, Processes, joined
from tests.random_logs import random_log
from tests.together import CONFIG

ROOT = Path(__file__).parents[1]
PLAIN: dict[str, Any] = {"epochs": 2, "batch_size": 16, "patience": None}
# a run of every way of training, without dropout, whose noise differs
WAYS: dict[str, dict[str, Any]] = {
    "plain": PLAIN,
    "adamw": PLAIN | {"optimizer": "adamw", "weight_decay": 0.1, "loss": "pairwise", "negatives": 3, "average": 0.9},
    "l2": PLAIN | {"optimizer": "sgd", "learning_rate": 0.5, "l2": 0.01, "gradient_clip": 0.1},
    "one sample a batch": PLAIN | {"epochs": 1, "batch_size": 1},  # the second process never has any
    "joint": PLAIN | {"task_steps": "joint", "task_weights": "uncertainty", "task_mix": "uniform"},
    "pcgrad": PLAIN | {"task_steps": "pcgrad", "task_weights": "equal"},
}


def launch(*command: str | Path, check: bool = True) -> SimpleNamespace:
    """Start a launcher with this Python; no warning of torch about threads, no compiled files left behind."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", *map(str, command)], env=environment, capture_output=True, text=True, timeout=240
    )
    assert not check or done.returncode == 0, done.stderr
    return SimpleNamespace(code=done.returncode, out=done.stdout, err=done.stderr)


def torchrun(*command: str | Path, check: bool = True) -> SimpleNamespace:
    return launch("torch.distributed.run", "--standalone", "--nproc_per_node", "2", *command, check=check)


@pytest.fixture(scope="module")
def log() -> EventLog:
    return random_log(4, users=7, behaviors=60, objects=30, times=40)


@pytest.fixture(scope="module")
def data(log: EventLog, tmp_path_factory: pytest.TempPathFactory) -> Path:
    log.write(tmp_path_factory.mktemp("data") / "log")
    return tmp_path_factory.getbasetemp() / "data0" / "log"


def train(log: EventLog, out: Path, settings: dict[str, Any], resume: bool = False) -> None:
    train_run(log, out, options=CONFIG, recipe=Recipe(**settings), resume=resume, progress=False)


@pytest.fixture(scope="module")
def runs(log: EventLog, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `one/WAY` and `two/WAY`, and `handed over`: an epoch alone, one by two processes, one alone."""
    folder = tmp_path_factory.mktemp("runs")
    log.write(folder / "log")
    jobs: list[tuple[str, dict[str, Any], bool]] = [(str(folder / "two" / way), WAYS[way], False) for way in WAYS]
    for way, settings in WAYS.items():
        train(log, folder / "one" / way, settings)
    train(log, folder / "handed over", PLAIN | {"epochs": 1})
    jobs.append((str(folder / "handed over"), PLAIN, True))
    (folder / "jobs.json").write_text(json.dumps(jobs))
    torchrun("-m", "tests.together", folder / "log", folder / "jobs.json")
    train(log, folder / "handed over", PLAIN | {"epochs": 3}, resume=True)
    return folder


def curve(run: Path) -> list[float]:
    return [epoch["loss"] for epoch in json.loads((run / "metrics.json").read_text())["epochs"]]


def close(one: dict[str, Tensor], two: dict[str, Tensor], tolerance: float) -> None:
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=tolerance, atol=tolerance, msg=name)


@pytest.mark.parametrize("way", WAYS)
def test_two_processes_train_as_one(runs: Path, way: str) -> None:
    one, two = runs / "one" / way, runs / "two" / way
    assert curve(one) == pytest.approx(curve(two), rel=1e-5)
    close(load_file(one / "model.safetensors"), load_file(two / "model.safetensors"), 2e-3)
    for run, processes in ((one, 1), (two, 2)):
        epochs = json.loads((run / "metrics.json").read_text())["epochs"]
        assert [(e["processes"], e["device"], e["precision"]) for e in epochs] == [(processes, "cpu", "float32")] * len(
            epochs
        )


def test_losses_move(runs: Path) -> None:
    """Or the curves would agree whatever the processes did."""
    for way, settings in WAYS.items():
        assert all(abs(b - a) > 1e-4 for a, b in pairwise(curve(runs / "one" / way))), way
        assert len(curve(runs / "one" / way)) == settings["epochs"]


def test_all_processes_hold_the_same_bits(runs: Path) -> None:
    one, two = load_file(runs / "rank0.safetensors"), load_file(runs / "rank1.safetensors")
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_files_do_not_tell_how_many_processes_wrote_them(runs: Path) -> None:
    for way in WAYS:
        one, two = ({str(p.relative_to(runs / n / way)) for p in (runs / n / way).rglob("*")} for n in ("one", "two"))
        assert one == two
        assert (runs / "one" / way / "config.json").read_text() == (runs / "two" / way / "config.json").read_text()
        for name in (name for name in one if name.endswith("safetensors")):
            a, b = load_file(runs / "one" / way / name), load_file(runs / "two" / way / name)
            assert {k: (v.shape, v.dtype) for k, v in a.items()} == {k: (v.shape, v.dtype) for k, v in b.items()}


def test_a_run_is_handed_over(runs: Path, log: EventLog, tmp_path: Path) -> None:
    train(log, tmp_path / "alone", PLAIN | {"epochs": 3})
    assert curve(runs / "handed over") == pytest.approx(curve(tmp_path / "alone"), rel=1e-5)
    epochs = json.loads((runs / "handed over" / "metrics.json").read_text())["epochs"]
    assert [epoch["processes"] for epoch in epochs] == [1, 2, 1]
    assert Checkpoints(runs / "handed over").latest() == 3


def test_a_failing_process_ends_all(data: Path, tmp_path: Path) -> None:
    (tmp_path / "jobs.json").write_text(json.dumps([(str(tmp_path / "run"), PLAIN, False)]))
    done = torchrun("-m", "tests.together", data, tmp_path / "jobs.json", "1", check=False)
    assert done.code != 0
    assert not (tmp_path / "run").exists()
    assert done.err.splitlines().count("the disk is on fire") == 1
    assert "another process" not in done.err


def test_command_under_accelerate(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="accelerate is not installed: pip install '.[scale]'")
    command = ["train", "--data", str(data), "--recipe", "paper", "--epochs", "1", "--out"]
    alone = CliRunner().invoke(app, [*command, str(tmp_path / "alone")])
    assert alone.exit_code == 0, alone.stderr
    two = ("accelerate.commands.accelerate_cli", "launch", "--multi_gpu", "--num_processes", "2", "-m", "atrank_lib")
    done = launch(*two, *command, tmp_path / "run")
    assert curve(tmp_path / "run") == pytest.approx(curve(tmp_path / "alone"), rel=1e-5)
    assert len(done.out.splitlines()) == len(alone.stdout.splitlines()) == 2  # printed once
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["epochs"][0]["processes"] == 2


def test_accelerate_for_one_cpu_process_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    monkeypatch.setenv("MASTER_PORT", "29500")
    with pytest.raises(ValueError, match="torchrun --nproc_per_node"), joined(Execution()):
        raise AssertionError
    monkeypatch.delenv("MASTER_PORT")  # --num_processes 1
    with joined(Execution()) as processes:
        assert processes is ALONE


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("size", [1, 2, 7])
def test_shares_add_up_to_the_gradient_of_the_batch(log: EventLog, world: int, size: int) -> None:
    """Every process's part computed here, one after the other: losses and gradients sum to those of whole batches."""
    histories = GroupedHistories.from_log(log)
    tasks = split(histories, "validated").train
    samples = {"item": tasks["item"][:9]}
    drawn = draw_candidates(samples["item"], NegativeSampler(histories, "item"), 2, torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    model = ATRank(log.schema, histories.vocabularies, CONFIG).double()

    def gradients(processes: Processes) -> list[tuple[list[int], list[Tensor]]]:
        generator, found = torch.Generator().manual_seed(1), []
        for _, index, batch in batches(
            histories, samples, {"item": drawn}, size, generator=generator, part=processes.part
        ):
            model.zero_grad()
            (processes.share(len(index)) * pairwise_loss(model(batch).scores)).backward()
            found.append(
                (
                    index.tolist(),
                    [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()],
                )
            )
        return found

    whole, parts = gradients(ALONE), [gradients(Processes(rank, world)) for rank in range(world)]
    assert sum(len(index) for index, _ in whole) == 9
    for step, (index, expected) in enumerate(whole):
        assert all(part[step][0] == index for part in parts)
        for number, value in enumerate(expected):
            torch.testing.assert_close(sum(part[step][1][number] for part in parts), value, rtol=1e-9, atol=1e-12)
    assert sum(Processes(rank, world).share(size) for rank in range(world)) == pytest.approx(1)


def test_scoring_in_turns_gives_the_same_bits(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    histories = GroupedHistories.from_log(log)
    tasks = split(histories, "validated").test
    candidates = fixed_candidates(histories, tasks, 3)
    torch.manual_seed(0)
    model = ATRank(log.schema, histories.vocabularies, CONFIG)
    whole = score_candidates(model, histories, tasks, candidates, batch_size=2)
    monkeypatch.setattr(distributed.dist, "all_reduce", lambda value: value)
    parts = [
        score_candidates(model, histories, tasks, candidates, batch_size=2, processes=Processes(rank, 3))
        for rank in range(3)
    ]
    for name, scores in whole.items():
        assert torch.equal(scores, torch.stack([part[name] for part in parts]).sum(0))


def test_processes_with_other_settings_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def gather(found: list[Tensor], own: Tensor) -> None:
        for rank, digest in enumerate(found):
            digest.copy_(own if rank != 1 else own + 1)

    monkeypatch.setattr(distributed.dist, "all_gather", gather)
    with pytest.raises(ValueError, match=r"processes \[1\] were started with another log"):
        Processes(0, 3).agree("settings")


def test_a_lost_process_is_named_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_: Tensor) -> None:
        raise RuntimeError("\n[pair.cc:553] Connection closed by peer\nmore")

    monkeypatch.setattr(distributed.dist, "all_reduce", gone)
    monkeypatch.setattr(distributed, "_undisturbed", lambda: None)
    with pytest.raises(ConnectionError, match=r"out of memory\? \(\[pair.cc:553\] Connection closed by peer\)"):
        Processes(0, 2).sum(torch.ones(1))
