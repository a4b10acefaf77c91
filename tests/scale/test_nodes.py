"""Two nodes train on shards; one is killed, another takes its place, and the run goes on from its checkpoint."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.random_logs import random_log
from tests.sharded import write

ROOT = Path(__file__).parents[2]
EPOCHS = 6


def torchrun(folder: Path, run: str, *how: str) -> subprocess.Popen[bytes]:
    """Start a launcher whose processes train ``run`` on the shards; what it says is in ``NAME.txt``."""
    options = ["--resume", "--recipe", "paper", "--batch-size", "16", "--epochs", str(EPOCHS)]
    train = ["-m", "atrank_lib", "train", "--data", folder / "shards", "--out", folder / run, *options]
    command = [sys.executable, "-m", "torch.distributed.run", *how, *map(str, train)]
    # a node that is new to a run cannot read the store that older ones share
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    with (folder / f"{how[-1]}.txt").open("w") as said:
        return subprocess.Popen(
            command, stdout=said, stderr=subprocess.STDOUT, env=environment | {"PYTHONPATH": str(ROOT)}
        )


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


class Node:
    """One node of a run with one process, at an address of the loopback range."""

    def __init__(self, folder: Path, address: str, port: int) -> None:
        nodes = ["--nnodes", "2", "--nproc_per_node", "1", "--max_restarts", "3"]
        meeting = ["--rdzv_backend", "c10d", "--rdzv_endpoint", f"127.0.0.1:{port}", "--rdzv_id", "run"]
        alive = ["--rdzv_conf", "keep_alive_interval=2,keep_alive_max_attempt=4"]
        self.process = torchrun(folder, "run", *nodes, *meeting, *alive, "--local_addr", address)
        self.said = folder / f"{address}.txt"

    def hold(self, until: float, there: Callable[[], bool]) -> None:
        """Wait for something while this node works."""
        while not there():
            assert self.process.poll() is None, self.said.read_text()
            assert time.monotonic() < until, self.said.read_text()
            time.sleep(0.05)

    def kill(self) -> None:
        """As when its machine loses power."""
        agent = self.process.pid
        trains = Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
        for process in (agent, *map(int, trains)):
            os.kill(process, signal.SIGKILL)
        self.process.wait(timeout=60)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has every address from 127.0.0.1 to 127.255.255.255")
def test_a_node_is_killed_and_the_run_goes_on_with_another(tmp_path: Path):
    log = random_log(4, users=40, behaviors=400, objects=30, times=4_000)
    write(log, tmp_path / "shards", shards=3)
    assert torchrun(tmp_path, "undisturbed", "--standalone", "--nproc_per_node=2").wait(timeout=240) == 0

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    nodes, until = [Node(tmp_path, "127.0.0.1", port)], time.monotonic() + 240
    try:
        nodes[0].hold(until, lambda: listens(port))  # whoever is first is where all meet
        nodes.append(Node(tmp_path, "127.0.0.2", port))
        nodes[0].hold(until, lambda: bool(list(tmp_path.glob("run/checkpoints/epoch-*"))))
        nodes[1].kill()
        nodes.append(Node(tmp_path, "127.0.0.3", port))
        # the other launcher may find the first one gone when both are done
        assert nodes[0].process.wait(timeout=240) == 0, nodes[0].said.read_text()
    finally:
        for node in nodes:
            if node.process.poll() is None:
                node.kill()
    assert "go on from there with --resume" in nodes[0].said.read_text()  # it was interrupted after an epoch
    found, expected = (
        json.loads((tmp_path / run / "metrics.json").read_text())["epochs"] for run in ("run", "undisturbed")
    )
    assert [epoch["processes"] for epoch in found] == [2] * EPOCHS
    assert [epoch["loss"] for epoch in found] == pytest.approx([epoch["loss"] for epoch in expected], rel=1e-6)
