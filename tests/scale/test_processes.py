"""Two processes against one: the same losses, the same weights, runs that go from one to the other, shared failures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from typer.testing import CliRunner

import atrank_lib.scale.processes as distributed
from atrank_lib.cli import app
from atrank_lib.evaluation import fixed_candidates, score_candidates
from atrank_lib.fast import row_updates
from atrank_lib.grouping import GroupedHistories
from atrank_lib.log.events import EventLog
from atrank_lib.model import ATRank
from atrank_lib.negatives import NegativeSampler, draw_candidates
from atrank_lib.ranking import pairwise_loss
from atrank_lib.runs.folder import Checkpoints
from atrank_lib.samples import batches, split
from atrank_lib.scale import ALONE, Execution, Processes, joined
from tests.models import a_log
from tests.scale.together import CONFIG, Job

ROOT = Path(__file__).parents[2]
PLAIN: dict[str, Any] = {"epochs": 2, "batch_size": 16, "patience": None}
# a run of every way of training, without dropout, whose noise differs
WAYS: dict[str, dict[str, Any]] = {
    "plain": PLAIN,
    "adamw": PLAIN | {"optimizer": "adamw", "weight_decay": 0.1, "loss": "pairwise", "negatives": 3, "average": 0.9},
    "l2": PLAIN | {"optimizer": "sgd", "learning_rate": 0.5, "l2": 0.01, "gradient_clip": 0.1},
    "one sample a batch": PLAIN | {"epochs": 1, "batch_size": 1},  # the second process never has any
    "joint": PLAIN | {"task_steps": "joint", "task_weights": "uncertainty", "task_mix": "uniform"},
    "pcgrad": PLAIN | {"task_steps": "pcgrad", "task_weights": "equal"},
    "rows": PLAIN | {"average": 0.9},
}


class Done(NamedTuple):
    code: int
    out: str
    err: str


def launch(*command: str | Path) -> Done:
    """Start a launcher with this Python; no warning of torch about threads."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-m", *map(str, command)], env=environment, capture_output=True, text=True, timeout=240
    )
    return Done(done.returncode, done.stdout, done.stderr)


class Both(NamedTuple):
    """A folder with `one/WAY`, `two/WAY` and `handed over`: an epoch alone, one by two processes, one alone."""

    folder: Path
    launched: Done

    def run(self, processes: str, way: str) -> Path:
        return self.folder / processes / way


@pytest.fixture(scope="module")
def log() -> EventLog:
    return a_log()


@pytest.fixture(autouse=True, scope="module")
def large_tables_as_ever() -> Iterator[None]:
    before = row_updates.large
    yield
    row_updates.large = before


@pytest.fixture(scope="module")
def runs(log: EventLog, tmp_path_factory: pytest.TempPathFactory) -> Both:
    """Everything that two processes do here, in one start of a launcher, for that takes longest."""
    folder = tmp_path_factory.mktemp("runs")
    log.write(folder / "log")
    jobs = {
        n: [Job(f"{folder / n / w}", s, least=2 if w == "rows" else 10**9) for w, s in WAYS.items()]
        for n in ("one", "two")
    }
    shared = f"{folder / 'handed over'}"
    for job in (*jobs["one"], Job(shared, PLAIN | {"epochs": 1})):
        job.do(log)
    (folder / "jobs.json").write_text(json.dumps([*jobs["two"], Job(shared, PLAIN, True)]))
    torchrun = ("torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    done = launch(*torchrun, "-m", "tests.scale.together", folder / "log", folder / "jobs.json")
    assert (folder / "rank0.safetensors").exists(), done.err
    Job(shared, PLAIN | {"epochs": 3}, True).do(log)
    return Both(folder, done)


def epochs(run: Path) -> list[dict[str, Any]]:
    return json.loads((run / "metrics.json").read_text())["epochs"]


def curve(run: Path) -> list[float]:
    return [epoch["loss"] for epoch in epochs(run)]


@pytest.mark.parametrize("way", WAYS)
def test_two_processes_train_as_one(runs: Both, way: str) -> None:
    one, two = runs.run("one", way), runs.run("two", way)
    assert curve(one) == pytest.approx(curve(two), rel=1e-5)
    assert len(curve(one)) == WAYS[way]["epochs"]
    assert all(abs(b - a) > 1e-4 for a, b in pairwise(curve(one)))  # or the curves would agree whatever was done
    a, b = load_file(one / "model.safetensors"), load_file(two / "model.safetensors")
    assert a.keys() == b.keys()
    for name, value in a.items():
        torch.testing.assert_close(value, b[name], rtol=2e-3, atol=2e-3, msg=name)
    for run, processes in ((one, 1), (two, 2)):
        found = [(e["processes"], e["device"], e["precision"]) for e in epochs(run)]
        assert set(found) == {(processes, "cpu", "float32")}


@pytest.mark.parametrize("way", WAYS)
def test_files_do_not_tell_how_many_processes_wrote_them(runs: Both, way: str) -> None:
    one, two = ({str(p.relative_to(runs.run(n, way))) for p in runs.run(n, way).rglob("*")} for n in ("one", "two"))
    assert one == two
    configs = [(runs.run(n, way) / "config.json").read_text() for n in ("one", "two")]
    assert configs[0] == configs[1]
    for name in (name for name in one if name.endswith("safetensors")):
        a, b = (load_file(runs.run(n, way) / name) for n in ("one", "two"))
        assert {k: (v.shape, v.dtype) for k, v in a.items()} == {k: (v.shape, v.dtype) for k, v in b.items()}


def test_all_processes_hold_the_same_bits(runs: Both) -> None:
    one, two = (load_file(runs.folder / f"rank{rank}.safetensors") for rank in range(2))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_run_is_handed_over(runs: Both, log: EventLog, tmp_path: Path) -> None:
    Job(f"{tmp_path / 'alone'}", PLAIN | {"epochs": 3}).do(log)
    shared = runs.folder / "handed over"
    assert curve(shared) == pytest.approx(curve(tmp_path / "alone"), rel=1e-5)
    assert [epoch["processes"] for epoch in epochs(shared)] == [1, 2, 1]
    assert Checkpoints(shared).latest() == 3


def test_a_failing_process_ends_all(runs: Both) -> None:
    """One of them says why, in a line; the first one, which writes, leaves no trace of the run."""
    assert runs.launched.code != 0
    lines = runs.launched.err.splitlines()
    assert lines.count("the disk is on fire") == 1
    assert "another process" not in runs.launched.err
    assert not any(line.startswith(("[rank", "Traceback")) for line in lines[: lines.index("the disk is on fire")])
    assert not (runs.folder / "failed").exists()


def test_command_under_accelerate(log: EventLog, tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="accelerate is not installed: pip install '.[scale]'")
    log.write(tmp_path / "log")
    command = ["train", "--data", f"{tmp_path / 'log'}", "--recipe", "paper", "--epochs", "1", "--out"]
    alone = CliRunner().invoke(app, [*command, f"{tmp_path / 'alone'}"])
    assert alone.exit_code == 0, alone.stderr
    two = ("accelerate.commands.accelerate_cli", "launch", "--multi_gpu", "--num_processes", "2", "-m", "atrank_lib")
    done = launch(*two, *command, tmp_path / "run")
    assert done.code == 0, done.err
    assert curve(tmp_path / "run") == pytest.approx(curve(tmp_path / "alone"), rel=1e-5)
    assert len(done.out.splitlines()) == len(alone.stdout.splitlines()) == 2  # printed once
    assert epochs(tmp_path / "run")[0]["processes"] == 2


def test_accelerate_for_one_cpu_process_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    monkeypatch.setenv("MASTER_PORT", "29500")
    with pytest.raises(ValueError, match="torchrun --nproc_per_node"), joined(Execution()):
        raise AssertionError
    monkeypatch.delenv("MASTER_PORT")  # --num_processes 1
    with joined(Execution()) as processes:
        assert processes is ALONE


@pytest.mark.parametrize("size", [1, 2, 7])
def test_shares_add_up_to_the_gradient_of_the_batch(log: EventLog, size: int) -> None:
    """Every process's part computed here, one after the other: losses and gradients sum to those of whole batches."""
    histories = GroupedHistories.from_log(log)
    samples = {"item": split(histories, "validated").train["item"][:9]}
    drawn = draw_candidates(samples["item"], NegativeSampler(histories, "item"), 2, torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    model = ATRank(log.schema, histories.vocabularies, CONFIG).double()

    def gradients(processes: Processes) -> list[tuple[list[int], Tensor]]:
        generator, found = torch.Generator().manual_seed(1), []
        everything = batches(histories, samples, {"item": drawn}, size, generator=generator, part=processes.part)
        for _, index, batch in everything:
            loss = processes.share(len(index)) * pairwise_loss(model(batch).scores)
            slopes = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, materialize_grads=True)
            found.append((index.tolist(), torch.cat([slope.flatten() for slope in slopes])))
        return found

    whole = gradients(ALONE)
    assert sum(len(index) for index, _ in whole) == 9
    for world in (2, 3, 5):
        parts = [gradients(Processes(rank, world)) for rank in range(world)]
        for step, (index, expected) in enumerate(whole):
            assert all(part[step][0] == index for part in parts)
            torch.testing.assert_close(sum(part[step][1] for part in parts), expected, rtol=1e-9, atol=1e-12)
        assert sum(Processes(rank, world).share(size) for rank in range(world)) == pytest.approx(1)


def test_scoring_in_turns_gives_the_same_bits(log: EventLog) -> None:
    histories = GroupedHistories.from_log(log)
    tasks = split(histories, "validated").test
    candidates = fixed_candidates(histories, tasks, 3)
    torch.manual_seed(0)
    model = ATRank(log.schema, histories.vocabularies, CONFIG)
    whole = score_candidates(model, histories, tasks, candidates, batch_size=2)
    parts = [
        score_candidates(model, histories, tasks, candidates, batch_size=2, part=Processes(rank, 3).part)
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


@pytest.fixture
def ends_as_ever() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_a_lost_process_is_named_as_such(monkeypatch: pytest.MonkeyPatch, ends_as_ever: None) -> None:
    def gone(_: Tensor) -> None:
        raise RuntimeError("\n[pair.cc:553] Connection closed by peer\nmore")

    monkeypatch.setattr(distributed.dist, "all_reduce", gone)
    with pytest.raises(ConnectionError, match=r"out of memory\? \(\[pair.cc:553\] Connection closed by peer\)"):
        Processes(0, 2).sum(torch.ones(1))
