"""Cards of all chapters, made from the chapters: ``{chapter-cards}`` in the cover page.

A chapter says everything itself, in its note "In this chapter": its question, how long it runs, and what comes before
it. How long it takes to read is counted. `_toc.yml` gives the order and the parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx_exercise.nodes import exercise_enumerable_node, exercise_node, solution_node

CARD_TITLE = "In this chapter"
PACE = 200  # words a minute
NOT_READ = (
    exercise_node,
    exercise_enumerable_node,
    solution_node,
    nodes.literal_block,
    nodes.math_block,
    nodes.raw,
    nodes.comment,
)


@dataclass(frozen=True)
class Facts:
    """What a chapter says about itself."""

    question: str  # "" where a page is no chapter, as all that follows
    runtime: str
    before: tuple[str, ...]  # labels of other chapters
    minutes: int  # to read it


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


def words(node: nodes.Node) -> int:
    """How many words there are to read, without code, formulas, exercises and their solutions."""
    if isinstance(node, nodes.Text):
        return len(node.split())
    return 0 if isinstance(node, NOT_READ) else sum(map(words, node.children))


def read_facts(doctree: nodes.document) -> Facts:
    """What a chapter says about itself."""
    note = card_note(doctree)
    found: dict[str, nodes.Element] = {}
    for paragraph in note.children if note is not None else []:
        if isinstance(paragraph, nodes.paragraph):
            found |= fields(paragraph)
    empty = nodes.inline()
    question, runtime = (" ".join(found.get(name, empty).astext().split()) for name in ("Question", "Runtime"))
    before = [xref["reftarget"] for xref in found.get("Before this", empty).findall(addnodes.pending_xref)]
    return Facts(
        question.removeprefix(":").strip(),
        runtime.split(":", 1)[-1].strip().split(";")[0].split(".")[0],
        tuple(before),
        max(1, round(words(doctree) / PACE)),
    )


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
    facts: Facts = env.__dict__["chapter_facts"][docname]
    title, number = escape(env.titles[docname].astext()), number_of(app, docname)
    label = f'<span class="chapter-number">{number}</span> {title}' if number else title
    lines = [f'<a class="chapter-title" href="{app.builder.get_relative_uri(here, docname)}">{label}</a>']
    if facts.question:
        lines.append(f'<p class="chapter-question">{escape(facts.question)}</p>')
    about = {}
    if env.doc2path(docname).endswith(".ipynb"):
        about["Read"] = "a minute" if facts.minutes == 1 else f"{facts.minutes} minutes"
    if facts.runtime:
        about["Runs"] = escape(facts.runtime)
    labels: dict[str, Any] = env.get_domain("std").labels  # type: ignore[attr-defined]
    needed = [labels[name][0] for name in facts.before if name in labels]
    if needed:
        about["After"] = ", ".join(
            f'<a href="{app.builder.get_relative_uri(here, name)}">{number_of(app, name)} '
            f"{escape(env.titles[name].astext())}</a>".replace("> ", ">")
            for name in needed
        )
    if about:
        entries = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in about.items())
        lines.append(f'<dl class="chapter-facts">{entries}</dl>')
    return f'<li class="chapter-card{"" if facts.question else " chapter-card-page"}">{"".join(lines)}</li>'


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
