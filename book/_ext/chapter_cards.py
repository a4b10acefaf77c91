"""Cards of all chapters, made from the chapters: ``{chapter-cards}`` in the cover page.

A chapter says everything itself: its question in the lines above the note "In this chapter", how long it runs and what
comes before it in the last paragraph of that note. `_toc.yml` gives the order and the parts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

CARD_TITLE = "In this chapter"
SENTENCE = re.compile(r"[^.?!]*[.?!]+[\"”']*")
SHORT = 8  # words: a question of fewer is shown with the sentence before it


@dataclass(frozen=True)
class Facts:
    """What a chapter says about itself."""

    question: str
    runtime: str
    before: tuple[str, ...]  # labels of other chapters


class CardsPlaceholder(nodes.General, nodes.Element):
    """Where the cards go, once all chapters are read."""


class ChapterCards(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        return [CardsPlaceholder()]


def card_note(doctree: nodes.document) -> nodes.Element | None:
    """The note "In this chapter"."""
    for note in doctree.findall(nodes.admonition):
        title = next(iter(note.findall(nodes.title)), None)
        if title is not None and title.astext() == CARD_TITLE:
            return note
    return None


def fields(paragraph: nodes.Element) -> dict[str, nodes.Element]:
    """The parts of ``**Runtime**: ... **Before this**: ...``, by name."""
    found: dict[str, nodes.Element] = {}
    current = nodes.inline()
    for child in paragraph.children:
        if isinstance(child, nodes.strong):
            found[child.astext()] = current = nodes.inline()
        else:
            current += child.deepcopy()
    return found


def last_question(text: str) -> str:
    """The last question of a text, after the sentence that it takes up where it is short."""
    sentences = [" ".join(sentence.split()) for sentence in SENTENCE.findall(text)]
    last = max((number for number, sentence in enumerate(sentences) if "?" in sentence), default=None)
    if last is None:
        return ""
    first = last - 1 if last and len(sentences[last].split()) < SHORT else last
    return " ".join(sentences[first : last + 1])


def read_facts(doctree: nodes.document) -> Facts | None:
    """What a chapter says about itself, or None where a page is no chapter."""
    note = card_note(doctree)
    if note is None:
        return None
    above = [node for node in note.parent.children[: note.parent.index(note)] if isinstance(node, nodes.paragraph)]
    found = fields([node for node in note.children if isinstance(node, nodes.paragraph)][-1])
    empty = nodes.inline()
    runtime = found.get("Runtime", empty).astext().split(":", 1)[-1].strip().rstrip(".").split(";")[0]
    before = [xref["reftarget"] for xref in found.get("Before this", empty).findall(addnodes.pending_xref)]
    return Facts(last_question(" ".join(node.astext() for node in above)), runtime.split(".")[0], tuple(before))


def collect(app: Sphinx, doctree: nodes.document) -> None:
    known = app.env.__dict__.setdefault("chapter_facts", {})
    known[app.env.docname] = read_facts(doctree)


def parts(app: Sphinx) -> list[tuple[str, list[str]]]:
    """Captions of `_toc.yml` with their pages."""
    root = app.env.get_doctree(app.config.root_doc)
    return [(tree["caption"] or "", [name for _, name in tree["entries"]]) for tree in root.findall(addnodes.toctree)]


def number_of(app: Sphinx, docname: str) -> str:
    numbers = app.env.toc_secnumbers.get(docname, {}).get("")
    return ".".join(map(str, numbers)) if numbers else ""


def card(app: Sphinx, here: str, docname: str) -> str:
    env = app.env
    facts: Facts | None = env.__dict__.get("chapter_facts", {}).get(docname)
    title, number = escape(env.titles[docname].astext()), number_of(app, docname)
    label = f'<span class="chapter-number">{number}</span> {title}' if number else title
    lines = [f'<a class="chapter-title" href="{app.builder.get_relative_uri(here, docname)}">{label}</a>']
    if facts:
        lines.append(f'<p class="chapter-question">{escape(facts.question)}</p>')
        labels: dict[str, Any] = env.get_domain("std").labels  # type: ignore[attr-defined]
        needed = [labels[name][0] for name in facts.before if name in labels]
        about = [f"<dt>Runs</dt><dd>{escape(facts.runtime)}</dd>"] if facts.runtime else []
        if needed:
            links = [
                f'<a href="{app.builder.get_relative_uri(here, name)}">{number_of(app, name)} '
                f"{escape(env.titles[name].astext())}</a>".replace("> ", ">")
                for name in needed
            ]
            about.append(f"<dt>After</dt><dd>{', '.join(links)}</dd>")
        lines.append(f'<dl class="chapter-facts">{"".join(about)}</dl>')
    return f'<li class="chapter-card{"" if facts else " chapter-card-page"}">{"".join(lines)}</li>'


def fill(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    for placeholder in list(doctree.findall(CardsPlaceholder)):
        if app.builder.format != "html":
            placeholder.replace_self([])
            continue
        blocks = [
            f'<h3 class="part-title">{escape(caption)}</h3>'
            f'<ul class="chapter-cards">{"".join(card(app, docname, name) for name in names)}</ul>'
            for caption, names in parts(app)
        ]
        placeholder.replace_self(nodes.raw("", "\n".join(blocks), format="html"))


def setup(app: Sphinx) -> dict[str, object]:
    app.add_node(CardsPlaceholder)
    app.add_directive("chapter-cards", ChapterCards)
    app.connect("doctree-read", collect)
    app.connect("doctree-resolved", fill)
    return {"parallel_read_safe": False, "parallel_write_safe": True, "version": "1"}
