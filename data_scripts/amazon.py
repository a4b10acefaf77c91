"""Amazon reviews of 2014 (McAuley et al.) as an event log: the data behind the paper's Tables 1 and 3.

Two files make one category: ``reviews_NAME_5.json.gz`` (the 5-core reviews, one JSON object a line) and
``meta_NAME.json.gz`` (the products, one Python literal a line). They are read from ``--raw-dir``, and
downloaded into it, with resume, where it lacks them::

    python -m data_scripts.amazon --category Electronics --out logs/electronics

One group, ``item``, with the paper's features: item and category, the latter the last element of the
product's last category path. This module is the command line; ``_amazon_lines`` reads single lines and
``_amazon_join`` has the joins. Nothing is evaluated: the literals go through ``ast.literal_eval``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from data_scripts._options import EngineOption, Spark, SparkConfOption, SparkMasterOption


def main(
    category: Annotated[str, typer.Option(help="Electronics, Clothing (short for Clothing_Shoes_and_Jewelry), ...")],
    out: Annotated[Path, typer.Option(help="Folder of the event log to write.")],
    raw_dir: Annotated[
        Path | None,
        typer.Option(help="Folder of the .json.gz pair; what it lacks is downloaded. Default: a cache."),
    ] = None,
    from_table: Annotated[
        Path | None,
        typer.Option(help="Folder with events.parquet and item_attributes.parquet, instead of the pair."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an event log at --out.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="Parsing processes.")] = min(4, os.cpu_count() or 1),
    engine: EngineOption = "duckdb",
    spark_master: SparkMasterOption = None,
    spark_conf: SparkConfOption = None,
) -> None:
    """Turn Amazon's 2014 reviews of one category into an event log (see JOINS.md inside it)."""
    # Imported here because every parsing process imports this module again, and would hold them all.
    from data_scripts._amazon_join import prepare
    from data_scripts._tables import or_exit

    or_exit(
        lambda: prepare(
            category, out, raw_dir, from_table, overwrite, workers, engine, Spark.of(spark_master, spark_conf)
        )
    )


if __name__ == "__main__":
    typer.run(main)
