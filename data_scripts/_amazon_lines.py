"""Single lines of Amazon's two files, as the parsing processes read them; nothing is evaluated."""

from __future__ import annotations

import ast
import json
import warnings
from typing import Any

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
