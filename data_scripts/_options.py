"""Options that the preparation scripts share; a module of its own, so that parsing processes load no engine."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import typer

from data_scripts._errors import PreparationError

Engine = Literal["duckdb", "spark"]
EngineOption = Annotated[Engine, typer.Option(help="What runs the joins; spark needs Java 17 and the extra [spark].")]
SparkMasterOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Where Spark runs: local[N], spark://HOST:PORT, yarn, ... Default: $SPARK_MASTER, or all cores here. On a "
        "cluster, the tables, --out and $TMPDIR must lie where all its machines see them.",
    ),
]
SparkConfOption = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="A setting of Spark, such as spark.driver.memory=8g; may be repeated."),
]


@dataclass(frozen=True)
class Spark:
    """Where Spark runs, and what is set beside or instead of `settings`.

    >>> Spark.of("local[2]", ["spark.driver.memory=8g"]).settings(Path("scratch"))["spark.driver.memory"]
    '8g'
    """

    master: str = "local[*]"
    conf: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, master: str | None, conf: list[str] | None) -> Spark:
        """Of the options of a command.

        Raises:
            PreparationError: a setting is no pair of a key and a value.
        """
        pairs = {}
        for text in conf or ():
            key, equals, value = text.partition("=")
            if not key or not equals:
                raise PreparationError(f"--spark-conf {text}: write KEY=VALUE, such as spark.driver.memory=8g")
            pairs[key] = value
        return cls(master or os.environ.get("SPARK_MASTER") or cls.master, pairs)

    @property
    def is_local(self) -> bool:
        return self.master.partition("[")[0] == "local"

    def settings(self, folder: Path) -> dict[str, str]:
        """All settings; here Spark has 2 GB, listens on loopback alone, and writes beside ``folder``."""
        here = {
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.local.dir": str(folder.parent),  # where Java makes folders, and removes them when it ends
            "spark.sql.shuffle.partitions": str(os.cpu_count() or 1),
        }
        everywhere = {
            "spark.driver.memory": "2g",
            "spark.driver.maxResultSize": "0",  # a whole table of the log may be read at once
            "spark.sql.warehouse.dir": str(folder / "warehouse"),
            "spark.sql.session.timeZone": "UTC",
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
        }
        return everywhere | (here if self.is_local else {}) | self.conf


HERE = Spark()
