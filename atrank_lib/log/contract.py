"""What whoever reads a log may count on, wherever the log comes from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol, runtime_checkable

import pandas as pd

from atrank_lib.log.schema import Schema


@runtime_checkable
class Log(Protocol):
    """Tables of a valid log, by group: events (user_id, timestamp, action, object_id), and objects with features."""

    @property
    def schema(self) -> Schema: ...

    @property
    def events(self) -> Mapping[str, pd.DataFrame]: ...

    @property
    def objects(self) -> Mapping[str, pd.DataFrame]: ...


def check_groups(schema: Schema, names: Iterable[str], what: str) -> tuple[str, ...]:
    """``names`` as a tuple, each once, or ``ValueError`` when one is not a group of the schema.

    >>> check_groups(histories.schema, ["item", "query", "item"], "targets")
    ('item', 'query')
    """
    names = tuple(dict.fromkeys(names))
    unknown = [name for name in names if name not in schema.groups]
    if unknown or not names:
        raise ValueError(f"{what}: {unknown or 'nothing given'}; the log's groups are {list(schema.groups)}")
    return names
