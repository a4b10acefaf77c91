"""Definitions where they are needed: terms of the glossary and symbols of the notation page explain themselves.

On every page the first use of a term becomes a link to the glossary, and every formula names its symbols. What they
stand for is written once, to `_static/definitions.js`, and shown by `definitions_popover.js`.
"""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.builders.html import StandaloneHTMLBuilder
from tex_symbols import Notation, Row, Symbol, read_rows, symbols_in

GLOSSARY, NOTATION = "glossary", "notation"
FORMULA = re.compile(r'<(span|div) class="math notranslate nohighlight"([^>]*)>(.*?)</\1>', re.S)
TEX = re.compile(r"\\\((.*)\\\)|\\\[(.*)\\\]", re.S)
# Words inside these are names, headings, data or links already.
NO_LINK = (
    nodes.literal,
    nodes.reference,
    nodes.title,
    nodes.caption,
    nodes.math,
    nodes.table,
    nodes.term,
    addnodes.pending_xref,
)


def glossary_items(app: Sphinx) -> list[nodes.definition_list_item]:
    if GLOSSARY not in app.env.found_docs:
        return []
    glossaries = app.env.get_doctree(GLOSSARY).findall(addnodes.glossary)
    return [item for glossary in glossaries for item in glossary.findall(nodes.definition_list_item)]


def term_ids(app: Sphinx) -> dict[str, str]:
    """Where each term of the glossary stands, longest first, so that `average user AUC` goes before `AUC`."""
    terms = {term.astext(): term["ids"][0] for item in glossary_items(app) for term in item.findall(nodes.term)}
    return dict(sorted(terms.items(), key=lambda pair: -len(pair[0])))


def term_pattern(terms: dict[str, str]) -> re.Pattern[str] | None:
    if not terms:
        return None
    words = "|".join(re.escape(term).replace(r"\ ", r"\s+") for term in terms)
    return re.compile(rf"(?<![\w/.-])({words})(?:e?s)?(?![\w-])", re.I)


def link_terms(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Make the first use of each term in running text a link to the glossary."""
    terms = term_ids(app)
    pattern = term_pattern(terms)
    if pattern is None or docname == GLOSSARY:
        return
    ids = {term.lower(): anchor for term, anchor in terms.items()}
    seen: set[str] = set()
    for text in list(doctree.findall(nodes.Text)):
        parent = text.parent
        if not within(text, nodes.paragraph) or any(within(text, kind) for kind in NO_LINK) or within(text, nodes.raw):
            continue
        pieces: list[nodes.Node] = []
        end = 0
        for match in pattern.finditer(text):
            term = re.sub(r"\s+", " ", match[1].lower())
            if term in seen:
                continue
            seen.add(term)
            uri = f"{app.builder.get_relative_uri(docname, GLOSSARY)}#{ids[term]}"
            link = nodes.reference("", match[0], internal=True, refuri=uri, classes=["defined-term"])
            pieces += [nodes.Text(text[end : match.start()]), link]
            end = match.end()
        if pieces:
            parent.replace(text, [piece for piece in [*pieces, nodes.Text(text[end:])] if piece.astext()])


def within(node: nodes.Node, kind: type[nodes.Element]) -> bool:
    while node.parent is not None:
        node = node.parent
        if isinstance(node, kind):
            return True
    return False


def inline_html(markdown: str) -> str:
    """A cell of the notation page: formulas, code and plain text."""
    parts = re.split(r"\$([^$]+)\$|`([^`]+)`", markdown)
    texts = [html.escape(text, quote=False) for text in parts[0::3]]
    found = zip(parts[1::3], parts[2::3], strict=True)
    marks = [rf"\({html.escape(tex)}\)" if tex else f"<code>{html.escape(code)}</code>" for tex, code in found]
    return "".join(text + mark for text, mark in zip(texts, [*marks, ""], strict=True))


def row_html(row: Row) -> str:
    shape = f", {inline_html(row.shape)}" if row.shape else ""
    return f"{inline_html(row.meaning)}{shape}"


def mark_formulas(page: str, docname: str, notation: Notation, used: dict[str, str]) -> str:
    """Name in every formula of a page the symbols that the notation page explains, as ``data-symbols``."""

    def mark(match: re.Match[str]) -> str:
        tex = TEX.search(match[3])
        if not tex:
            return match[0]
        keys = []
        for symbol in symbols_in(html.unescape(tex[1] or tex[2])):
            row = notation.explain(symbol, docname)
            if row:
                key = f"{symbol.base}_{symbol.sub}: {row.meaning}"
                name = (
                    str(symbol)
                    if symbol.sup and f"^{{{symbol.sup}}}" in row.symbols.replace(" ", "")
                    else tex_of(symbol)
                )
                used.setdefault(key, rf"<dt>\({html.escape(name)}\)</dt><dd>{row_html(row)}</dd>")
                number = str(list(used).index(key))
                if number not in keys:
                    keys.append(number)
        marked = f' data-symbols="{" ".join(keys)}"' if keys else ""
        return f'<{match[1]} class="math notranslate nohighlight"{match[2]}{marked}>{match[3]}</{match[1]}>'

    return FORMULA.sub(mark, page)


def tex_of(symbol: Symbol) -> str:
    return symbol.base + (f"_{{{symbol.sub}}}" if symbol.sub else "")


def write_definitions(app: Sphinx, exception: Exception | None) -> None:
    """Name the symbols in all pages, and write what terms and symbols stand for."""
    if exception or app.builder.name != "html" or not isinstance(app.builder, StandaloneHTMLBuilder):
        return
    out = Path(app.outdir)
    source = Path(app.srcdir) / f"{NOTATION}.md"
    notation = Notation(read_rows(source.read_text()) if source.exists() else [])
    symbols: dict[str, str] = {}
    for docname in sorted(app.env.found_docs):
        path = out / f"{docname}.html"
        path.write_text(mark_formulas(path.read_text(), docname, notation, symbols))
    terms: dict[str, str] = {}
    for item in glossary_items(app):
        meaning = next(item.findall(nodes.definition))
        body = "".join(app.builder.render_partial(child)["fragment"] for child in meaning.children)
        terms |= {
            term["ids"][0]: f"<dt>{html.escape(term.astext())}</dt><dd>{body}</dd>" for term in item.findall(nodes.term)
        }
    content = {
        "glossary": f"{GLOSSARY}.html",
        "notation": f"{NOTATION}.html",
        "mathjax": f"_static/{app.config.mathjax_path}",
        "terms": terms,
        "symbols": [*symbols.values()],
    }
    text = f"window.bookDefinitions = {json.dumps(content, ensure_ascii=False, indent=0)};\n"
    (out / "_static" / "definitions.js").write_text(text)


def add_script(app: Sphinx) -> None:
    app.add_js_file("definitions.js", loading_method="defer")


def setup(app: Sphinx) -> dict[str, object]:
    app.connect("builder-inited", add_script)
    app.connect("doctree-resolved", link_terms, priority=900)
    app.connect("build-finished", write_definitions)
    return {"parallel_read_safe": True, "parallel_write_safe": True, "version": "1"}
