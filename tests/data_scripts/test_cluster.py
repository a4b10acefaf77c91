"""Spark on a cluster: a master and two workers of this machine, from pyspark's own files, write the bytes of DuckDB."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest

from data_scripts.marketplace import MarketplaceConfig
from data_scripts.simulate import simulate
from tests.data_scripts import test_amazon as amazon
from tests.data_scripts.test_engine import MISSING, files

ready = amazon.tables

pytestmark = pytest.mark.skipif(
    bool(MISSING) and "ATRANK_SPARK" not in os.environ, reason=f"Spark is not run here: no {MISSING}"
)
HOST = "127.0.0.1"
SECONDS = 120


def said(log: Path, wanted: str, process: subprocess.Popen[bytes]) -> re.Match[str]:
    """The line of a log that matches, as soon as it is there."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end and process.poll() is None:
        if found := re.search(wanted, log.read_text(errors="replace")):
            return found
        time.sleep(0.2)
    pytest.fail(f"nothing like {wanted!r} in {log.name}:\n{log.read_text(errors='replace')[-2_000:]}")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[Path]]]:
    """The URL of a master with two workers of one core each, and what the workers say."""
    spec = find_spec("pyspark")
    assert spec is not None
    assert spec.origin is not None
    home, folder = Path(spec.origin).parent, tmp_path_factory.mktemp("cluster")
    running: list[subprocess.Popen[bytes]] = []

    def start(name: str, kind: str, *arguments: str) -> tuple[Path, subprocess.Popen[bytes]]:
        log = folder / f"{name}.txt"
        command = [str(home / "bin" / "spark-class"), f"org.apache.spark.deploy.{kind}", "--host", HOST, *arguments]
        variables = {"SPARK_HOME": str(home), "SPARK_LOCAL_IP": HOST, "SPARK_LOCAL_DIRS": str(folder)}
        variables |= {"PYSPARK_PYTHON": sys.executable}
        with log.open("wb") as out:
            process = subprocess.Popen(
                command, env=os.environ | variables, stdout=out, stderr=out, cwd=folder, start_new_session=True
            )
        running.append(process)
        return log, process

    try:
        log, master = start("master", "master.Master", "--port", "0", "--webui-port", "0")
        url = said(log, rf"Starting Spark master at (spark://{HOST}:\d+)", master)[1]
        logs = []
        for number in range(2):
            given = ["--cores", "1", "--memory", "1g", "--webui-port", "0", "--work-dir", str(folder / f"work{number}")]
            log, worker = start(f"worker{number}", "worker.Worker", *given, url)
            said(log, "Successfully registered", worker)
            logs.append(log)
        yield url, logs
    finally:
        for process in reversed(running):
            os.killpg(process.pid, signal.SIGTERM)
        for process in running:
            process.wait(30)


def test_a_cluster_writes_the_bytes_of_duckdb(
    cluster: tuple[str, list[Path]], ready: tuple[pd.DataFrame, pd.DataFrame], tmp_path: Path
) -> None:
    url, logs = cluster
    amazon.write_tables(tmp_path / "ready", *ready)
    simulate(MarketplaceConfig(users=50, behaviors=15, seed=1)).log.write(tmp_path / "log")
    commands = {
        "ready": ["amazon", "--category", "Toys", "--from-table", "ready"],
        "log": ["shard", "--data", "log", "--shards", "5"],
    }
    settings = {"spark.driver.host": HOST, "spark.driver.bindAddress": HOST, "spark.executor.memory": "512m"}
    settings |= {"spark.sql.shuffle.partitions": "4"}
    engines = {
        "duckdb": ["--engine", "duckdb"],
        "spark": ["--engine", "spark", "--spark-master", url]
        + [part for name, value in settings.items() for part in ("--spark-conf", f"{name}={value}")],
    }
    variables = {"TMPDIR": str(tmp_path), "SPARK_LOCAL_IP": HOST}
    for engine, more in engines.items():
        for name, (module, *arguments) in commands.items():
            done = subprocess.run(
                [sys.executable, "-m", f"data_scripts.{module}", *arguments, "--out", f"{engine}/{name}", *more],
                cwd=tmp_path,
                env=os.environ | variables,
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stderr
    for name in commands:
        ours, theirs = files(tmp_path / "duckdb" / name), files(tmp_path / "spark" / name)
        assert len(ours) >= 4
        assert ours == theirs, name
    for log in logs:  # both had work
        assert log.read_text(errors="replace").count("Asked to launch executor") >= len(commands)
