"""Search that shows sections with a line of their text, also where a page is opened from the disk.

Sphinx's search gives titles of pages; the line below each would be fetched, which a browser refuses for file://. So
the titles and texts of all sections lie in a script, `_static/sections.js`, which the search page alone loads.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bs4 import BeautifulSoup, NavigableString, Tag
from sphinx.application import Sphinx

SCRIPT = "section_search.js"
SPHINX = re.compile(r'\s*<script src="(?:_static/(?:searchtools|language_data)|searchindex)\.js[^"]*"></script>')
LEFT_OUT = "pre, .solution, script, style, summary, svg, table, div.math, .headerlink, .toctree-wrapper"
TEX = re.compile(r"\\[()\[\]]|\\(?:mathcal|operatorname|mathrm|text|vec|bigl?|bigr?|left|right)\b|[\\{}]")


def own_text(section: Tag) -> str:
    """The text of a section without that of the sections inside."""
    parts = []
    for child in section.children:
        if isinstance(child, Tag) and child.name not in ("section", "h1", "h2", "h3", "h4", "dl"):
            parts.append(child.get_text())
    return " ".join(TEX.sub("", " ".join(parts)).split())


def entries(page: BeautifulSoup) -> Iterator[tuple[str, str, str]]:
    """Anchor, title and text of each section, and of each name in a reference of the library."""
    article = page.select_one("article")
    if article is None:
        return
    for element in article.select(LEFT_OUT):
        element.decompose()
    for section in article.select("section[id]"):
        heading = section.find(["h1", "h2", "h3", "h4"], recursive=False)
        if heading is not None:
            yield str(section["id"]), " ".join(heading.get_text().split()), own_text(section)
    for term in article.select("dt[id]"):
        meaning = term.find_next_sibling("dd")
        described = (
            [part for part in meaning.children if not isinstance(part, Tag) or part.name != "dl"] if meaning else []
        )
        text = " ".join(part.get_text() if isinstance(part, Tag | NavigableString) else "" for part in described)
        title = str(term["id"]) if "sig" in str(term.get("class")) else " ".join(term.get_text().split())
        yield str(term["id"]), title, " ".join(TEX.sub("", text).split())


def write_sections(app: Sphinx, exception: Exception | None) -> None:
    if exception or app.builder.name != "html":
        return
    out = Path(app.outdir)
    pages = []
    for docname in sorted(app.env.found_docs):
        page = BeautifulSoup((out / f"{docname}.html").read_text(), "html.parser")
        pages.append([f"{docname}.html", *entries(page)])
    text = f"window.bookSections = {json.dumps(pages, ensure_ascii=False, indent=0)};\n"
    (out / "_static" / "sections.js").write_text(text)
    shutil.copyfile(Path(__file__).with_name(SCRIPT), out / "_static" / SCRIPT)
    for path in out.glob("*.html"):
        path.write_text(SPHINX.sub("", path.read_text()))
    for name in ("searchindex.js", "_static/searchtools.js", "_static/language_data.js"):
        (out / name).unlink(missing_ok=True)


def add_scripts(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: object) -> None:
    if pagename == "search":
        app.add_js_file("sections.js", loading_method="defer")
        app.add_js_file(SCRIPT, loading_method="defer")


def setup(app: Sphinx) -> dict[str, object]:
    app.connect("html-page-context", add_scripts)
    app.connect("build-finished", write_sections, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True, "version": "1"}
