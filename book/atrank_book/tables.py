"""Tables of pandas as a printer would set them, in every notebook and page; chapters just name the table.

One row of headings where pandas writes two, text to the left, numbers to the right with their points below each other,
a real minus sign, none before zero, and a dash where there is no number.
"""

from __future__ import annotations

import re

import pandas as pd
from bs4 import BeautifulSoup, Tag
from IPython.core.getipython import get_ipython

MINUS, DASH = "−", "–"
FIGURE_SPACE, POINT_SPACE = "\u2007", "\u2008"  # as wide as a digit, and as a point
MISSING = ("NaN", "nan", "None", "NaT", "<NA>")
NUMBER = re.compile(r"[+−±]?[\d,]*\.?\d+(e[+−-]\d+)?( ?%)?")
NUMBERS = re.compile(rf"{NUMBER.pattern}( to {NUMBER.pattern})?")
SIGN = re.compile(r"(?<![\w.)\]-])-(?=\.?\d)")
NO_MINUS = re.compile(rf"{MINUS}(0(?:\.0+)?)(?![\d.])")


def text_of(cell: Tag) -> str:
    return cell.get_text().strip()


def one_heading(table: Tag) -> None:
    """Put the names of the index, which pandas writes into a row of their own, into the row above."""
    rows = table.select("thead tr")
    if len(rows) < 2:
        return
    names, above = rows[-1].find_all("th"), rows[-2].find_all("th")
    inside = [number for number, cell in enumerate(names) if text_of(cell)]
    if len(names) != len(above) or not inside or len(inside) > len(table.select("tbody tr:first-child th")):
        return
    for number in inside:
        of_columns = text_of(above[number])
        above[number].string = f"{text_of(names[number])} \\ {of_columns}" if of_columns else text_of(names[number])
    rows[-1].decompose()


def columns(table: Tag) -> list[list[Tag]]:
    """The cells of the body by column; one that spans rows, in its first row."""
    rows = [row.find_all(["th", "td"]) for row in table.select("tbody tr")]
    width = max(map(len, rows), default=0)
    return [[row[len(row) - 1 - back] for row in rows if len(row) > back] for back in reversed(range(width))]


def set_numbers(cells: list[Tag]) -> bool:
    """Align a column of numbers at the point; false where it holds something else."""
    for cell in cells:
        if cell.string is not None:
            text = text_of(cell)
            cell.string = DASH if text in MISSING else NO_MINUS.sub(r"\1", SIGN.sub(MINUS, text))
    texts = [text_of(cell) for cell in cells]
    numbers = [text for text in texts if text not in ("", DASH)]
    if not numbers or not all(map(NUMBERS.fullmatch, numbers)):
        return False
    decimals = [len(text.partition(".")[2]) for text in texts]
    if all(map(NUMBER.fullmatch, numbers)) and not any("e" in text or "%" in text for text in numbers):
        for cell, text, places in zip(cells, texts, decimals, strict=True):
            if text not in ("", DASH):
                missing = max(decimals) - places
                cell.string = text + (POINT_SPACE if missing and not places else "") + FIGURE_SPACE * missing
    return True


def typeset(html: str) -> str:
    page = BeautifulSoup(html, "html.parser")
    for style in page.select("style[scoped]"):
        style.decompose()
    for table in page.select("table.dataframe"):
        del table["border"]
        for element in table.select("[style], [valign]"):
            element.attrs = {name: value for name, value in element.attrs.items() if name not in ("style", "valign")}
        one_heading(table)
        for corner in table.select("thead th"):
            if not text_of(corner):
                corner.name = "td"  # it heads no column
        if table.select_one("tbody tr") is None:
            continue
        headings = [row.find_all(["th", "td"]) for row in table.select("thead tr")]
        cells = columns(table)
        for back, column in enumerate(reversed(cells), start=1):
            side = "right" if set_numbers(column) else "left"
            for cell in (*column, *(row[-back] for row in headings if len(row) >= back)):
                cell["style"] = f"text-align: {side}"
    return str(page)


def shown(frame: pd.DataFrame) -> str:
    """A table as a notebook shows it, with texts of any length."""
    with pd.option_context("display.max_colwidth", None):
        return typeset(frame._repr_html_())


def use_typesetting() -> None:
    """Show tables so in this notebook, and a series as a table of one column; outside of one nothing changes."""
    shell = get_ipython()
    if shell is not None and shell.display_formatter is not None:
        formatter = shell.display_formatter.formatters["text/html"]
        formatter.for_type(pd.DataFrame, shown)
        formatter.for_type(pd.Series, lambda series: shown(series.to_frame(series.name or "")))
