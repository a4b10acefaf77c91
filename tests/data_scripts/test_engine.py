"""DuckDB and Spark give the same logs, byte by byte; what Spark lacks is named with its remedy."""

from __future__ import annotations

import builtins
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ibis
import pandas as pd
import pyarrow as pa
import pytest

from atrank_lib.log.sharded import shard_of
from data_scripts import _engine
from data_scripts._engine import JAVA, connect, java_version
from data_scripts._errors import PreparationError
from data_scripts._options import Spark
from data_scripts.marketplace import MarketplaceConfig
from data_scripts.shard import SHARDS_AT_MOST, shard_number
from data_scripts.simulate import simulate
from tests.data_scripts import test_amazon as amazon
from tests.data_scripts import test_completejourney as completejourney

ready = amazon.tables
journey = completejourney.tables

pytestmark = pytest.mark.filterwarnings(r"ignore:fetch_arrow_table\(\) is deprecated:DeprecationWarning")
MISSING = "pyspark" if find_spec("pyspark") is None else f"Java {JAVA}" if (java_version() or 0) < JAVA else ""
# one process for all commands, so that Java starts once
SCRIPT = """
import json, runpy, sys
for module, *arguments in json.loads(sys.argv[1]):
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise
"""


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ATRANK_SPARK=1, as .ci/run sets it, says that Spark must be here
@pytest.mark.skipif(bool(MISSING) and "ATRANK_SPARK" not in os.environ, reason=f"Spark is not run here: no {MISSING}")
def test_spark_writes_the_bytes_of_duckdb(
    ready: tuple[pd.DataFrame, pd.DataFrame], journey: dict[str, pd.DataFrame], tmp_path: Path
) -> None:
    amazon.write_pair(tmp_path / "pair", amazon.REVIEWS, amazon.PRODUCTS)
    events, attributes = ready
    # an item without any category, and one that the attributes do not list
    attributes = pd.concat([attributes, pd.DataFrame({"item_id": [4], "attribute_ids": [[]]})], ignore_index=True)
    events = pd.concat(
        [
            events,
            pd.DataFrame({"user_id": [9, 8], "item_id": [4, 5], "timestamp": [7, 7], "category_id": [None, 3]}),
        ],
        ignore_index=True,
    ).astype({"category_id": "Int64"})
    amazon.write_tables(tmp_path / "ready", events, attributes)
    completejourney.write_parquet(journey, tmp_path / "parquet")
    completejourney.write_rda(journey, tmp_path / "rda")
    simulate(MarketplaceConfig(users=50, behaviors=15, seed=1)).log.write(tmp_path / "log")
    commands = {
        "pair": ["amazon", "--category", "Electronics", "--raw-dir", "pair", "--workers", "1"],
        "ready": ["amazon", "--category", "Toys", "--from-table", "ready"],
        "parquet": ["completejourney", "--raw-dir", "parquet"],
        "rda": ["completejourney", "--raw-dir", "rda"],
        "log": ["shard", "--data", "log", "--shards", "5"],
    }
    root = str(Path(__file__).parents[2])
    done = {}
    for engine, more in (
        ("duckdb", []),
        ("spark", ["--spark-master", "local[2]", "--spark-conf", "spark.driver.memory=1g"]),
    ):
        calls = [
            [f"data_scripts.{module}", *arguments, "--out", f"{engine}/{name}", "--engine", engine, *more]
            for name, (module, *arguments) in commands.items()
        ]
        done[engine] = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", SCRIPT, json.dumps(calls)],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": root, "TMPDIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done[engine].returncode == 0, done[engine].stderr
    assert done["spark"].stdout == done["duckdb"].stdout.replace("duckdb/", "spark/")
    assert done["spark"].stderr == done["duckdb"].stderr  # and says nothing of its own
    for name in commands:
        ours, theirs = files(tmp_path / "duckdb" / name), files(tmp_path / "spark" / name)
        assert len(ours) >= 4
        assert ours == theirs, name
    assert not list(tmp_path.glob("atrank_*")), "temporary folders are removed"


def test_a_cluster_gets_what_it_is_told_and_nothing_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SPARK_MASTER", raising=False)
    here = Spark.of(None, None)
    assert here.master == "local[*]"
    assert here.settings(tmp_path)["spark.driver.host"] == here.settings(tmp_path)["spark.driver.bindAddress"]
    assert here.settings(tmp_path)["spark.driver.memory"] == "2g"
    far = Spark.of("spark://head:7077", ["spark.driver.memory=16g", "spark.executor.extraJavaOptions=-Da=b"])
    settings = far.settings(tmp_path)
    assert (settings["spark.driver.memory"], settings["spark.executor.extraJavaOptions"]) == ("16g", "-Da=b")
    assert settings["spark.sql.session.timeZone"] == "UTC"
    assert not {"spark.driver.host", "spark.driver.bindAddress", "spark.local.dir"} & set(settings)
    monkeypatch.setenv("SPARK_MASTER", "yarn")
    assert Spark.of(None, None).master == "yarn"
    assert Spark.of("local[2]", None).settings(tmp_path)["spark.driver.host"] == "127.0.0.1"


@pytest.mark.parametrize("text", ["spark.driver.memory", "=8g", ""])
def test_settings_of_spark_that_are_none(text: str) -> None:
    with pytest.raises(PreparationError, match=f"^--spark-conf {text}: write KEY=VALUE"):
        Spark.of(None, [text])


USERS = [*(f"user{i}" for i in range(500)), "", "007", "Zoë", "用户", "a\tb", "x" * 300]


@pytest.mark.parametrize("shards", [1, 7, 16, SHARDS_AT_MOST])
def test_shard_number(shards: int) -> None:
    table = ibis.memtable(pa.table({"user_id": USERS}))
    found = table.mutate(shard=shard_number(table.user_id, shards)).to_pyarrow()
    assert found["shard"].to_pylist() == [shard_of(user, shards) for user in USERS]


def fake_java(folder: Path, version: str) -> str:
    (folder / "bin").mkdir()
    java = folder / "bin" / "java"
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2020-01-01' >&2\n")
    java.chmod(0o755)
    return str(folder)


def test_java_that_is_missing_or_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "data_scripts._spark", type("fake", (), {"SparkBackend": None, "start": None}))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "nowhere"))
    with pytest.raises(PreparationError, match=r"needs Java, and there is none: install Java 17 .*openjdk-17"):
        connect("spark").__enter__()
    monkeypatch.setenv("JAVA_HOME", fake_java(tmp_path, "1.8.0_292"))
    with pytest.raises(PreparationError, match="needs Java 17, this is Java 8: install Java 17"):
        connect("spark").__enter__()
    for version, number in (("11.0.2", 11), ("17", 17), ("21-ea", 21)):
        (tmp_path / version).mkdir()
        monkeypatch.setenv("JAVA_HOME", fake_java(tmp_path / version, version))
        assert _engine.java_version() == number


def test_pyspark_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without(name: str, *arguments: Any) -> Any:
        if name.startswith(("pyspark", "data_scripts._spark")):
            raise ImportError("No module named 'pyspark'")
        return original(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(PreparationError, match=r'needs PySpark .*: pip install "atrank_lib\[data,spark\]"'):
        connect("spark").__enter__()


def test_duckdb_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_engine.tempfile, "tempdir", str(tmp_path))
    with connect() as con:
        assert len(list(tmp_path.iterdir())) == 1
        table = con.create_table("t", ibis.memtable(pa.table({"x": [1, 2]})), temp=True)
        assert table.count().to_pyarrow().as_py() == 2
    assert not list(tmp_path.iterdir())
