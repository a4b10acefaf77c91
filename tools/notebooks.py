"""Notebooks as they leave the book: plain Markdown, numbers in place, captions under figures, solutions at the end.

The site's download button, the launch branch, the ZIP, the course and `make lab` all show chapters as `show` does.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from experiments.provenance import commit
from tools.exercises import KINDS, MINUTES, Part, kind_of, parts
from tools.labels import Labels
from tools.ledger import claims_of
from tools.plain_markdown import Plain
from tools.project import BookError, Project
from tools.rewriting import Replacement, Rewriting

HIDDEN = {"hide-input", "hide-cell", "remove-input"}
OPENS_CHAPTER = re.compile(r"^begin\(", re.M)
CLAIM_IMPORTED = re.compile(r"^(from atrank_book\.claims import begin), claim$", re.M)
ABOUT_BEGIN = "# One thread, the seed and the book's style of figures and tables.\n"


@dataclass(frozen=True)
class Shown:
    """A cell as a reader sees it.

    Attributes:
        cell: what is shown.
        origin: the chapter's cell that it stands for; None where the book adds it.
        part: which stretch of that cell, where it is one of text.
        rewriting: how its text came about; None where it is added.
        caption: it shows the caption of `origin`, not its source.
    """

    cell: NotebookNode
    origin: NotebookNode | None = None
    part: Part | None = None
    rewriting: Rewriting | None = None
    caption: bool = False

    @property
    def solves(self) -> bool:
        return self.part is not None and self.part.role == "solution"


def added(identity: str, source: str) -> Shown:
    return Shown(new_markdown_cell(source, id=identity))


def show(notebook: NotebookNode, plain: Plain, solutions: bool = True) -> list[Shown]:
    """A chapter, executed or not, as a reader sees it: the cells of the solutions come last, under a heading.

    Raises:
        BookError: what no notebook can show, with its chapter.
    """
    cells: list[Shown] = []
    count: dict[str, int] = {}
    for part in parts(notebook, f"{plain.page}.py"):
        count[part.cell.id] = count.get(part.cell.id, 0) + 1
        if part.cell.cell_type == "code":
            cells += code(part, plain)
        elif part.text or part.opens:
            identity = f"{part.cell.id}-{count[part.cell.id]}"
            rewriting = passage(part, plain)
            cells.append(Shown(new_markdown_cell(rewriting.text, id=identity), part.cell, part, rewriting))
    solving = [shown for shown in cells if shown.solves] if solutions else []
    shown = [shown for shown in cells if not shown.solves]
    if solving:
        shown += [added("solutions", "## Solutions\n\nTry before you read on."), *solving]
    cited = dict.fromkeys(
        key for one in shown if one.origin and not one.caption for key in plain.cited(one.origin.source)
    )
    if cited:
        works = "\n".join(f"- {entry}" for entry in sorted(plain.labels.full(key) for key in cited))
        shown.append(added("references", f"## References\n\n{works}"))
    return shown


def passage(part: Part, plain: Plain) -> Rewriting:
    """How a stretch of text is shown: under the heading of its exercise where it begins one, a solution's folded."""
    source = part.cell.source
    start, end = part.body
    while end > start and source[end - 1] == "\n":
        end -= 1
    while start < end and source[start] == "\n":
        start += 1
    before, after = "", ""
    if part.role != "text" and part.opens:
        before = headline(part, plain) + ("\n\n" if end > start else "")
    if part.role == "solution" and end > start:
        before += "<details>\n<summary>Show the answer</summary>\n\n"
        after = "\n\n</details>"
    inner, shift = plain.rewriting(source[start:end]), start - part.start
    moved = [Replacement(one.start + shift, one.end + shift, one.text) for one in inner.replacements]
    last = Replacement(end - part.start, part.end - part.start, after)
    return Rewriting(
        source[part.start : part.end],
        [Replacement(0, shift, before), *moved, last],
        [(low + shift, high + shift) for low, high in inner.quoted],
    )


def headline(part: Part, plain: Plain) -> str:
    """The heading of an exercise with its kind and its minutes, or that of its solution."""
    exercise = plain.target(part.label if part.role == "exercise" else part.title)
    kind = kind_of(exercise.body)
    title = exercise.body.removeprefix(f"{kind}: ") if kind in KINDS else exercise.body
    title = plain.text(title[:1].upper() + title[1:])
    if part.role == "solution":
        return f"### Solution of {exercise.words}. {title}"
    return f"### {exercise.words}. {title}\n\n*{kind}, about {MINUTES[kind]} minutes*"


def code(part: Part, plain: Plain) -> Iterator[Shown]:
    """A cell of code and the caption of its figure; of hidden ones, that which opens the chapter alone."""
    cell = part.cell
    tags = set(cell.metadata.get("tags", []))
    injected = "injected-parameters" in tags
    opens = "remove-cell" in tags and OPENS_CHAPTER.search(cell.source)
    if "remove-cell" in tags and not injected and not opens:
        return
    found = []
    if opens:
        found = [Replacement(0, 0, ABOUT_BEGIN)]
        found += [Replacement(m.end(1), m.end(), "") for m in CLAIM_IMPORTED.finditer(cell.source)]
    rewriting = Rewriting(cell.source, found)
    metadata: dict[str, object] = {}
    if kept := sorted(tags & {"parameters"} | ({"injected-parameters"} if injected else set())):
        metadata["tags"] = kept
    if part.role == "solution":
        metadata["jupyter"] = {"source_hidden": True, "outputs_hidden": True}
    elif tags & HIDDEN or opens:
        metadata["jupyter"] = {"source_hidden": True}
    seen = [one for one in cell.get("outputs", []) if "atrank_claim" not in one.get("metadata", {})]
    shown = new_code_cell(
        rewriting.text,
        id=cell.id,
        metadata=metadata,
        outputs=[output(one, cell, plain) for one in seen],
        execution_count=cell.get("execution_count"),
    )
    yield Shown(shown, cell, part, rewriting)
    figure = cell.metadata.get("mystnb", {}).get("figure", {})
    if figure.get("caption"):
        inner = plain.rewriting(figure["caption"])
        number = f"**{plain.target(figure['name']).words}.** " if figure.get("name") else ""
        rewriting = Rewriting(inner.source, [Replacement(0, 0, number), *inner.replacements], inner.quoted)
        caption = new_markdown_cell(rewriting.text, id=f"{cell.id}-caption")
        yield Shown(caption, cell, part, rewriting, caption=True)


def output(output: NotebookNode, cell: NotebookNode, plain: Plain) -> NotebookNode:
    """An output; Markdown as plain Markdown, and a drawing as an image: Jupyter trusts no SVG that it did not draw."""
    data = output.get("data", {})
    if "text/markdown" in data:
        data = data | {"text/markdown": plain.text(data["text/markdown"])}
    elif "image/svg+xml" in data:
        code = base64.b64encode(data["image/svg+xml"].encode()).decode()
        alt = html.escape(cell.metadata.get("mystnb", {}).get("image", {}).get("alt", ""))
        image = f'<img src="data:image/svg+xml;base64,{code}" alt="{alt}">'
        data = {"text/html": image, "text/plain": data.get("text/plain", "")}
    else:
        return output
    shown = output.copy()
    shown["data"], shown["metadata"] = NotebookNode(data), NotebookNode()
    return shown


def notebook_of(cells: Iterable[NotebookNode], numbered: bool = False) -> NotebookNode:
    """A notebook of these cells, whose ids depend on nothing but the order where they are `numbered` anew."""
    notebook = new_notebook(cells=[cell.copy() for cell in cells])
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata["language_info"] = {"name": "python"}
    for number, cell in enumerate(notebook.cells, start=1):
        if numbered:
            cell["id"] = f"cell-{number:03d}"
    return notebook


def requirement(project: Project, repository: str) -> str:
    """What pip installs from a repository, at the commit of this checkout where it has one; "" without repository."""
    at = commit(project.root)
    return f"atrank_lib[book] @ git+{repository}{f'@{at}' if at.isalnum() else ''}" if repository else ""


def install_cells(wanted: str) -> list[NotebookNode]:
    """How to install the library: in words and, where it comes from a repository, by a cell that does it."""
    how = f'`pip install "{wanted}"`' if wanted else '`pip install ".[book]"` in the folder of the book\'s sources'
    text = f"> A chapter of *Attention over Behaviors*. To run it, install the book's library once: {how}."
    cells = [new_markdown_cell(text, id="install")]
    if wanted:
        source = (
            "# On Colab this installs the book's library; elsewhere it is there already.\n"
            "import importlib.util\n\n"
            'if importlib.util.find_spec("atrank_lib") is None:\n'
            f'    %pip install -q "{wanted}"'
        )
        cells.append(new_code_cell(source, id="install-here", metadata={"jupyter": {"source_hidden": True}}))
    return cells


def executed(project: Project, name: str) -> NotebookNode:
    path = project.notebooks / f"{name}.ipynb"
    if not path.exists():
        raise BookError(f"{name} is not executed, and the numbers in its text come from there: run `make book`")
    return nbformat.read(path, as_version=4)


def plain_of(project: Project, labels: Labels, name: str, beside: Iterable[str], unknown: str | None = None) -> Plain:
    """How the texts of a chapter are written, with the numbers of its executed notebook.

    Raises:
        BookError: the chapter was never executed, and nothing stands for a number that is not known.
    """
    lenient = unknown is not None and not (project.notebooks / f"{name}.ipynb").exists()
    claims = [] if lenient else claims_of(executed(project, name))
    values = {claim["name"]: claim["value"] for claim in claims}
    return Plain(labels, name, values, frozenset(beside), unknown)


def chapters_to_take(project: Project, repository: str = "") -> dict[str, NotebookNode]:
    """All chapters with their outputs, by name: what the site, the ZIP and the launch branch offer."""
    labels = Labels.of(project)
    names = [chapter.stem for chapter in project.chapters()]
    first = install_cells(requirement(project, repository))
    found = {}
    for name in names:
        shown = show(executed(project, name), plain_of(project, labels, name, names))
        found[name] = notebook_of([*first, *(one.cell for one in shown)])
        nbformat.validate(found[name])
    return found


def write_notebook(notebook: NotebookNode, path: Path) -> None:
    path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
