"""Writes the table of colors as a style sheet, whose variables the book's pages, map and live model use."""

from __future__ import annotations

from pathlib import Path

from sphinx.application import Sphinx

from atrank_book.colors import stylesheet

NAME = "colors.css"


def write_stylesheet(app: Sphinx) -> None:
    if app.builder.name == "html":
        folder = Path(app.outdir) / "_static"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / NAME).write_text(stylesheet())


def setup(app: Sphinx) -> dict[str, object]:
    app.connect("builder-inited", write_stylesheet)
    app.add_css_file(NAME, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True, "version": "1"}
