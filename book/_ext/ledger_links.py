"""From a chapter to its numbers in the ledger; there, a field finds a number by any part of its line."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

SCRIPT = "ledger_filter.js"


def link_numbers(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """End a chapter with where its numbers are."""
    labels: dict[str, tuple[str, str, str]] = app.env.get_domain("std").labels  # type: ignore[attr-defined]
    if f"ledger-{docname}" not in labels:
        return
    page, anchor, _ = labels[f"ledger-{docname}"]
    uri = f"{app.builder.get_relative_uri(docname, page)}#{anchor}"
    link = nodes.reference("", "results ledger", refuri=uri, internal=True)
    paragraph = nodes.paragraph("", "", nodes.Text("Each number of this chapter stands with its range in the "), link)
    paragraph += nodes.Text(".")
    title, *sections = doctree.findall(nodes.section)
    within = [section for section in sections if section.parent is title]
    (within or [title])[-1].append(paragraph)


def add_script(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: object) -> None:
    if pagename == "ledger":
        app.add_js_file(SCRIPT, loading_method="defer")


def copy_script(app: Sphinx, exception: Exception | None) -> None:
    if exception is None and app.builder.name == "html":
        shutil.copyfile(Path(__file__).with_name(SCRIPT), Path(app.outdir) / "_static" / SCRIPT)


def setup(app: Sphinx) -> dict[str, object]:
    app.connect("doctree-resolved", link_numbers)
    app.connect("html-page-context", add_script)
    app.connect("build-finished", copy_script)
    return {"parallel_read_safe": True, "parallel_write_safe": True, "version": "1"}
