"""Amazon reviews of 2014 (McAuley et al.) as an event log: the data behind the paper's Tables 1 and 3.

Two files make one category: ``reviews_NAME_5.json.gz`` (the 5-core reviews, one JSON object a line) and
``meta_NAME.json.gz`` (the products, one Python literal a line). They are read from ``--raw-dir``, and
downloaded into it, with resume, where it lacks them::

    python -m data_scripts.amazon --category Electronics --out logs/electronics

One group, ``item``, with the paper's features: item and category, the latter the last element of the
product's last category path. This module reads single lines and the command line; the joins are in
``_amazon_join``. Nothing is evaluated: the literals go through ``ast.literal_eval``.
"""

from __future__ import annotations

import ast
import json
import os
import warnings
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

REVIEWS_FILE = "reviews_NAME_5.json.gz"
META_FILE = "meta_NAME.json.gz"


def parse_review(line: bytes) -> tuple[str, str, int]:
    """User, item and unix time (s) of one JSON review; ValueError says what is wrong with the line."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON ({error}); is this a {REVIEWS_FILE}, and whole?") from None
    time = _field(record, "unixReviewTime", REVIEWS_FILE)
    if not isinstance(time, int) or isinstance(time, bool) or time.bit_length() > 62:
        raise ValueError(f"unixReviewTime is {time!r}; it must be whole unix seconds")
    return (
        _id(record, "reviewerID", REVIEWS_FILE),
        _id(record, "asin", REVIEWS_FILE),
        time,
    )


def parse_meta(line: bytes) -> tuple[str, str]:
    """Item and leaf category (last element of the last path) of one product, written as a Python literal."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # stray backslashes in descriptions
            record = ast.literal_eval(line.decode("utf-8"))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"not a Python literal ({reason}); is this a {META_FILE}, and whole?") from None
    item = _id(record, "asin", META_FILE)
    paths = _field(record, "categories", META_FILE)
    if not isinstance(paths, list) or not paths or not isinstance(paths[-1], list) or not paths[-1]:
        raise ValueError(f"categories is {paths!r:.80}; it must be a list of paths, the last one not empty")
    return item, _text(paths[-1][-1], "the last category")


def _field(record: Any, name: str, kind: str) -> Any:
    if not isinstance(record, dict):
        raise ValueError(f"a {type(record).__name__}, not one record a line; is this a {kind}?")
    if name not in record:
        raise ValueError(f"no field {name!r}, it has {', '.join(map(repr, record))}; is this a {kind}?")
    return record[name]


def _id(record: Any, name: str, kind: str) -> str:
    value = _text(_field(record, name, kind), name)
    if not value:
        raise ValueError(f"{name} is empty")
    return value


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} is {value!r:.80}; it must be text")
    value.encode()  # half a surrogate pair is a ValueError too
    return value


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
    engine: Annotated[
        Literal["duckdb", "spark"],
        typer.Option(help="What runs the joins; spark needs Java 17 and the extra [spark]."),
    ] = "duckdb",
) -> None:
    """Turn Amazon's 2014 reviews of one category into an event log (see JOINS.md inside it)."""
    # Imported here because every parsing process imports this module again, and would hold them all.
    from data_scripts._amazon_join import prepare
    from data_scripts._tables import or_exit

    or_exit(partial(prepare, category, out, raw_dir, from_table, overwrite, workers, engine))


if __name__ == "__main__":
    typer.run(main)
