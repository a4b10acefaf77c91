"""What runs the Ibis expressions of the preparation: DuckDB in this process, or Spark, started here and stopped again.

The expressions are the same on both, and so is what they give: rows are put in a full order before they are read.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import ibis

from data_scripts._errors import PreparationError
from data_scripts._options import HERE, Engine, Spark

JAVA = 17
JAVA_REMEDY = (
    "install Java 17 (Debian, Ubuntu: apt-get install openjdk-17-jre-headless; conda: openjdk=17) and put it on the "
    "PATH or into JAVA_HOME, or use --engine duckdb"
)


@contextmanager
def connect(engine: Engine = "duckdb", spark: Spark = HERE) -> Iterator[ibis.BaseBackend]:
    """An engine with a folder for what does not fit in its memory; the folder is removed in the end.

    Raises:
        PreparationError: what Spark needs is not installed, or it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="atrank_engine_") as folder:
        if engine == "duckdb":
            con = ibis.duckdb.connect(memory_limit="1GB", temp_directory=folder)
            try:
                yield con
            finally:
                con.disconnect()
        else:
            with _spark(spark, Path(folder)) as con:
                yield con


def failures(con: ibis.BaseBackend) -> tuple[type[Exception], ...]:
    """What the engine raises when it cannot read or cast a value."""
    if con.name == "duckdb":
        return duckdb.Error, ibis.common.exceptions.IbisError
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    return PySparkException, Py4JError, ibis.common.exceptions.IbisError


def java_version() -> int | None:
    """The major version of the Java in JAVA_HOME, else on the PATH; None where there is none."""
    home = os.environ.get("JAVA_HOME")
    java = f"{home}/bin/java" if home else shutil.which("java")
    if java is None or not Path(java).exists():
        return None
    shown = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    found = re.search(r'version "(?:1\.)?(\d+)', shown.stderr + shown.stdout)
    return int(found[1]) if found else None


@contextmanager
def _spark(spark: Spark, folder: Path) -> Iterator[ibis.BaseBackend]:
    """Spark where ``spark`` says; it shows no page, and writes into ``folder``."""
    try:
        from data_scripts._spark import SparkBackend, start
    except ImportError as error:
        raise PreparationError(
            f'--engine spark needs PySpark ({error}): pip install "atrank_lib[data,spark]", or use --engine duckdb'
        ) from error
    version = java_version()
    if version is None:
        raise PreparationError(f"--engine spark needs Java, and there is none: {JAVA_REMEDY}")
    if version < JAVA:
        raise PreparationError(f"--engine spark needs Java {JAVA}, this is Java {version}: {JAVA_REMEDY}")
    session = start(spark, folder)
    try:
        con = SparkBackend()
        con.folder = folder
        con.do_connect(session)
        yield con
    finally:
        session.stop()
