"""Figures to play with: the numbers of a cell, handed to `play.js` with what a reader sees where no script runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from atrank_book.page import document_text
from atrank_book.tables import typeset

MOST_BYTES = 5_500  # of numbers; with the script and its styles, which all plays share, a play stays below 40 KB


class Play:
    """The output of a cell that a page turns into a drawing with controls.

    Args:
        name: which of the plays in `play.js`.
        data: what it draws, as JSON may hold it; numbers are kept to six digits.
        table: what is shown without a script, on paper and in a plain notebook.
        figure: the name of the figure, just above, in whose place the play is drawn: then no table is needed.
    """

    def __init__(
        self, name: str, data: Mapping[str, Any], table: pd.DataFrame | None = None, *, figure: str = ""
    ) -> None:
        if (table is None) == (not figure):
            raise ValueError(f"Play({name!r}): without a script, either a table or a figure is there")
        text = document_text(_short(data))
        if len(text.encode()) > MOST_BYTES:
            raise ValueError(f"Play({name!r}): {len(text.encode()):,} bytes of numbers, at most {MOST_BYTES:,}")
        place = f' data-figure="{figure}"' if figure else ""
        numbers = f'<script type="application/json">{text}</script>'
        self._html = f'<div class="play" data-play="{name}"{place}>{_table(table)}{numbers}</div>'
        self._text = "" if table is None else str(table)

    def _repr_html_(self) -> str:
        return self._html

    def __repr__(self) -> str:
        return self._text


def _table(table: pd.DataFrame | None) -> str:
    return "" if table is None else typeset(table.to_html()).replace(">\n<", "><")


def _short(value: Any) -> Any:
    """The same for JSON: floats of six digits, which no drawing can tell from more."""
    if isinstance(value, Mapping):
        return {key: _short(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_short(part) for part in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
