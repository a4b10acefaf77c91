"""Folded code says what it does, and none stands alone without need.

A folded cell is named after its figure, its first comment, its table, or what it defines. One without an output is
joined to the folded cell beside it. What an exercise says before it is begun is left out.
"""

from __future__ import annotations

import ast
from itertools import pairwise

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging

LOGGER = logging.getLogger(__name__)
NOT_BEGUN = "✗ nothing yet"  # atrank_book.check.verdict.answered


def part(cell: nodes.Element, name: str) -> nodes.Element | None:
    """The source or the outputs of a cell."""
    found = (child for child in cell.children if isinstance(child, nodes.container))
    return next((child for child in found if child.get("nb_element") == f"cell_code_{name}"), None)


def source_of(cell: nodes.Element) -> nodes.literal_block:
    return next(iter(cell.findall(nodes.literal_block)))


def is_folded(node: nodes.Node) -> bool:
    return isinstance(node, nodes.container) and node.get("hide_mode") == "input" and part(node, "source") is not None


def shows_nothing(cell: nodes.Element) -> bool:
    outputs = part(cell, "output")
    return outputs is None or not outputs.children


def comment(source: str) -> str:
    """What the first line says, where it is a comment."""
    first = source.splitlines()[0]
    return first.lstrip("# ").rstrip(".: ") if first.startswith("#") else ""


def defined(source: str) -> str:
    """What a cell defines, or that it imports or checks, where it does nothing else to speak of."""
    statements = ast.parse("\n".join(line for line in source.splitlines() if not line.startswith("%"))).body
    if isinstance(statements[0], ast.Import | ast.ImportFrom):
        return "imports"
    names = [node.name for node in statements if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    if names:
        return ", ".join(names)
    return "a check" if all(isinstance(node, ast.Assert) for node in statements) else ""


class NameFoldedCode(SphinxPostTransform):
    """Runs before MyST-NB folds."""

    default_priority = 190
    formats = ("html",)

    def run(self, **kwargs: object) -> None:
        cells = [node for node in self.document.findall(nodes.container) if node.get("nb_element") == "cell_code"]
        for cell in cells:
            outputs = part(cell, "output")
            if outputs is not None and outputs.astext().strip().startswith(NOT_BEGUN):
                cell.remove(outputs)
        for parent in dict.fromkeys(cell.parent for cell in cells):
            join(parent)
        for cell in self.document.findall(is_folded):
            name = self.name(cell)
            if not name:
                LOGGER.warning("a folded cell without a name: let it begin with a comment", location=cell)
            cell["prompt_show"] = cell["prompt_hide"] = name

    def name(self, cell: nodes.Element) -> str:
        for figure in cell.findall(nodes.figure):
            numbers = self.env.toc_fignumbers.get(self.env.docname, {}).get("figure", {})
            number = numbers.get(next(iter(figure["ids"]), ""))
            return f"Code of Fig. {'.'.join(map(str, number))}" if number else "Code of this figure"
        source = source_of(cell).astext()
        said = comment(source)
        if not said and any(map(is_table, cell.findall())):
            return "Code of this table"
        what = said or defined(source)
        return f"Code: {what}" if what else ""


def is_table(node: nodes.Node) -> bool:
    return isinstance(node, nodes.table) or (isinstance(node, nodes.raw) and "<table" in node.astext())


def join(parent: nodes.Element) -> None:
    """Give the source of a folded cell that shows nothing to the folded cell after it, or else to the one before."""
    for one, other in [*pairwise(parent.children)]:
        if is_folded(one) and is_folded(other) and shows_nothing(one):
            put_together(one, other, into=other)
    for other, one in [*pairwise(parent.children)][::-1]:
        if is_folded(one) and is_folded(other) and shows_nothing(one):
            put_together(other, one, into=other)


def put_together(first: nodes.Element, second: nodes.Element, into: nodes.Element) -> None:
    text = f"{source_of(first).astext().rstrip()}\n\n{source_of(second).astext()}"
    block = source_of(into)
    block.rawsource = text
    block.children = [nodes.Text(text)]
    gone = first if into is second else second
    gone.parent.remove(gone)


def setup(app: Sphinx) -> dict[str, object]:
    app.add_post_transform(NameFoldedCode)
    return {"parallel_read_safe": True, "parallel_write_safe": True, "version": "1"}
