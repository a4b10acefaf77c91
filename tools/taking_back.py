"""From an edited notebook that shows a chapter back to the chapter's text: what was not touched stays as it is.

A cell is known by its id; `names` says which shown cell a browser's id stands for.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from textwrap import shorten

import jupytext
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from tools.notebooks import Shown, show
from tools.plain_markdown import Plain
from tools.project import BookError

New = dict[str, list[NotebookNode]]  # cells that were put in, by the id of the shown cell that stands before them
HEADER_ENDS = "# ---\n"


def read(text: str) -> NotebookNode:
    """A chapter's text as a notebook, whose cells are named by their order."""
    notebook = jupytext.reads(text, fmt="py:percent")
    for number, cell in enumerate(notebook.cells, start=1):
        cell["id"] = f"cell-{number:03d}"
    return notebook


def body(text: str) -> str:
    return text.split(HEADER_ENDS, 2)[-1].lstrip("\n")


def written(notebook: NotebookNode, text: str) -> str:
    """An edited chapter under the header of its old text.

    Raises:
        BookError: jupytext would change cells that nobody edited.
    """
    written, again = (body(jupytext.writes(one, fmt="py:percent")) for one in (notebook, read(text)))
    if again != body(text):
        raise BookError("jupytext would write cells that nobody edited in another way: use an editor")
    return text[: len(text) - len(again)] + written


def own(shown: list[Shown]) -> list[Shown]:
    """The cells that stand for the chapter's own."""
    return [one for one in shown if one.origin is not None]


def typed(edited: NotebookNode, added: set[str], names: Mapping[str, str]) -> list[NotebookNode]:
    """The cells of an edited notebook that stand for the chapter's own, or are new and not empty."""
    return [
        cell
        for cell in edited.cells
        if cell.id not in added and (cell.source.strip() or (cell.cell_type == "code" and cell.id in names))
    ]


def take_back(
    text: str, edited: NotebookNode, saved: NotebookNode, names: Mapping[str, str], plain: Plain
) -> tuple[str, dict[str, str]]:
    """The chapter's new text, and names for the next time (none where the notebook has to be opened again).

    Args:
        saved: the notebook as it was opened, or saved the last time.

    Raises:
        BookError: an edit that is none of the chapter.
    """
    chapter, old = read(text), {cell.id: cell.source for cell in saved.cells}
    shown = show(chapter, plain)
    added = {one.cell.id for one in shown if one.origin is None} | {"lab"}
    for cell in edited.cells:
        if cell.id in added and cell.source != old.get(cell.id, cell.source):
            raise BookError(
                f"the book itself writes {shorten(old[cell.id], 60, placeholder=' ...')!r}: it cannot be edited here"
            )
    cells = typed(edited, added, names)
    found = {names[cell.id]: cell for cell in cells if cell.id in names}
    if list(found) != [one.cell.id for one in own(shown) if one.cell.id in found]:
        raise BookError("cells changed places: that cannot be taken back, move them in an editor")
    touched = {identity: cell.source for identity, cell in found.items() if cell.source != old.get(cell.id)}
    for one in own(shown):
        if one.cell.id in touched and one.rewriting is not None:
            before = old.get(found[one.cell.id].id, "")
            if before != one.cell.source and one.rewriting.back(before) != one.rewriting.source:
                raise BookError(f"what the book writes in {first_line(one.cell)!r} has changed: open it again")
    new: New = {}
    last = ""
    for cell in cells:
        if cell.id in names:
            last = names[cell.id]
        else:
            new.setdefault(last, []).append(new_cell(cell))
    result = new.get("", [])
    for cell in chapter.cells:
        mine = [one for one in own(shown) if one.origin is cell]
        renew = renewed_code if cell.cell_type == "code" else renewed_text
        result = result + renew(cell, mine, found.keys(), touched, new)
    chapter.cells = result
    renewed = written(chapter, text)
    after = own(show(read(renewed), plain))
    if [one.cell.cell_type for one in after] != [cell.cell_type for cell in cells]:
        return renewed, {}  # a directive was typed
    before_it = {one.cell.id: one.cell.source for one in shown}
    for one, cell in zip(after, cells, strict=True):
        identity = names.get(cell.id, "")
        if identity and identity not in touched and before_it[identity] != one.cell.source:
            raise BookError(f"with these edits {first_line(cell)!r} would change, too: make them in an editor")
    return renewed, {cell.id: one.cell.id for one, cell in zip(after, cells, strict=True)}


def renewed_code(
    cell: NotebookNode, shown: list[Shown], found: Collection[str], touched: Mapping[str, str], new: New
) -> list[NotebookNode]:
    """A cell of code, its caption in its metadata, and what was put in after either; a hidden cell as it is."""
    gone = [one for one in shown if one.cell.id not in found]
    if gone and len(gone) < len(shown):
        raise BookError(f"{first_line(shown[-1].cell)!r} and its figure belong together: delete both, or none")
    result = [] if gone else [cell]
    for one in shown:
        if one.cell.id in touched and one.rewriting is not None:
            source = one.rewriting.back(touched[one.cell.id])
            if one.caption:
                cell.metadata["mystnb"]["figure"]["caption"] = source
            else:
                cell["source"] = source
        result += new.get(one.cell.id, [])
    return result


def renewed_text(
    cell: NotebookNode, shown: list[Shown], found: Collection[str], touched: Mapping[str, str], new: New
) -> list[NotebookNode]:
    """A cell of text, cut in two where others were put in between two stretches of it."""
    source, at = str(cell.source), 0
    texts, result = [""], [cell]
    for one in sorted(shown, key=lambda one: one.part.start if one.part else 0):
        part, rewriting, identity = one.part, one.rewriting, one.cell.id
        assert part is not None
        assert rewriting is not None
        if identity not in found and part.role != "text":
            raise BookError(f"{first_line(one.cell)!r} is part of an exercise: take it out in an editor")
        texts[-1] += source[at : part.start]
        if identity in found:
            texts[-1] += rewriting.back(touched[identity]) if identity in touched else rewriting.source
        at = part.end
        if others := new.get(identity):
            result += [*others, new_markdown_cell("")]
            texts += [*(other.source for other in others), ""]
    texts[-1] += source[at:]
    if texts == [source]:
        return [cell]
    for one_cell, text in zip(result, texts, strict=True):
        one_cell["source"] = text.strip("\n") if one_cell.cell_type == "markdown" else text
    return [one_cell for one_cell in result if one_cell.source or one_cell.cell_type == "code"]


def new_cell(cell: NotebookNode) -> NotebookNode:
    """A cell that was put in, without what the browser notes in it."""
    return (new_code_cell if cell.cell_type == "code" else new_markdown_cell)(cell.source)


def first_line(cell: NotebookNode) -> str:
    return shorten(next(iter(cell.source.splitlines()), "an empty cell"), 60, placeholder=" ...")
