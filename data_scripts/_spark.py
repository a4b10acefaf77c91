"""Spark for ``_engine``: how a session is started, and results as Arrow tables, in a type-true and quiet way."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
from ibis.backends.pyspark import Backend
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.logger import PySparkLogger
from pyspark.sql import SparkSession

from data_scripts._errors import PreparationError
from data_scripts._options import Spark

LOGGING = """
rootLogger.level = off
"""


def start(spark: Spark, folder: Path) -> SparkSession:
    """A Spark, its driver in a Java process of its own; what that has to say about itself goes to a file in ``folder``.

    Raises:
        PreparationError: it does not start.
    """
    log, said = folder / "log4j2.properties", folder / "spark.txt"
    log.write_text(LOGGING)
    PySparkLogger.getLogger("SQLQueryContextLogger").disabled = True  # prints what is raised as well
    quiet = {"spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile={log.as_uri()}"}
    builder = SparkSession.builder.master(spark.master).appName("atrank")
    for name, value in (quiet | spark.settings(folder)).items():
        builder = builder.config(name, value)
    before = os.environ.get("SPARK_LOCAL_IP")
    if spark.is_local:
        os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    errors = os.dup(2)  # Java inherits it, and writes of its modules before any logging is set up
    try:
        with said.open("w") as file:
            os.dup2(file.fileno(), 2)
            return builder.getOrCreate()
    except (PySparkException, Py4JError, OSError, RuntimeError) as error:
        lines = [line for line in said.read_text(errors="replace").splitlines() if line.strip() and line[0] != "\t"]
        raise PreparationError(f"Spark does not start: {error}; it says: {' | '.join(lines[-3:])}") from error
    finally:
        os.dup2(errors, 2)
        os.close(errors)
        if before is None:
            os.environ.pop("SPARK_LOCAL_IP", None)
        else:
            os.environ["SPARK_LOCAL_IP"] = before


class SparkBackend(Backend):
    """Ibis' Spark, with what DuckDB's has: row numbers of files, temporary tables, and results that stay Arrow.

    Ibis itself brings every result through pandas, which loses types (a missing whole number makes floats), and has
    neither of the other two.
    """

    folder: Path

    def read_parquet(self, path: str, /, *, file_row_number: bool = False) -> ir.Table:
        """A parquet file as a table; with ``file_row_number``, a column of this name, from 0."""
        columns = ["_metadata.row_index AS file_row_number", "*"] if file_row_number else ["*"]
        name = ibis.util.gen_name("file")
        self._session.read.parquet(Path(path).absolute().as_uri()).selectExpr(*columns).createOrReplaceTempView(name)
        return self.table(name)

    def create_table(self, name: str, obj: ir.Table, /, *, temp: bool) -> ir.Table:
        """Run an expression and keep its rows on disk until the engine is closed."""
        path = (self.folder / name).as_uri()
        self._run_pre_execute_hooks(obj)
        self.raw_sql(self.compile(obj)).write.parquet(path)
        self._session.read.parquet(path).createOrReplaceTempView(name)
        return self.table(name)

    def to_pyarrow(self, expr: ir.Expr, /, **_: Any) -> Any:
        self._run_pre_execute_hooks(expr)
        return expr.__pyarrow_result__(self.raw_sql(self.compile(expr.as_table())).toArrow())

    def _register_in_memory_table(self, op: Any) -> None:
        self._session.createDataFrame(op.data.to_pyarrow(op.schema)).createOrReplaceTempView(op.name)
