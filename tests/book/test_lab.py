"""`make lab`: an edit of what is shown becomes the same edit of the chapter, and nothing else of it changes."""

from __future__ import annotations

import difflib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jupyter_server.services.contents.largefilemanager import LargeFileManager
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell
from tornado.web import HTTPError

from tools.lab import ChapterManager
from tools.labels import Labels
from tools.notebooks import plain_of, show
from tools.project import Project
from tools.rewriting import Replacement, Rewriting
from tools.taking_back import read, written

CHAPTER = """# ---
# jupyter:
#   jupytext: {}
# ---

# %% [markdown]
# (ch-small)=
# # Small
#
# ```{note}
# See {eq}`eq-sum`, which is {glue:text}`total:.1f`.
# ```
#
# $$
# a = b
# $$ (eq-sum)

# %% tags=["remove-cell"]
from atrank_book.claims import begin, claim

begin("01_small")

# %%
total = 1 + 1


def twice(x):
    return 2 * x


# %% tags=["remove-cell"]
claim(total=total)

# %% mystnb={"figure": {"caption": "What {eq}`eq-sum` says.", "name": "fig-sum"}} tags=["hide-input"]
draw(total)

# %% [markdown]
# Before the exercise, {numref}`fig-sum`.
#
# ```{exercise-start} Warm-up: add
# :label: ex-add
# ```
# How much is {glue:text}`total:.1f`?

# %%
answer = ...  # your turn

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-add
# :class: dropdown
# ```
# As {eq}`eq-sum` says.

# %%
answer = 2

# %% [markdown]
# ```{solution-end}
# ```
#
# The end.
"""


class Lab:
    """One chapter in JupyterLab: what the browser holds, and what saving makes of it."""

    def __init__(self, folder: Path) -> None:
        (folder / "book").mkdir(parents=True)
        (folder / "_toc.yml").write_text("root: index\nchapters: [{file: 01_small}]")
        (folder / "_build" / "lab").mkdir(parents=True)
        self.source = folder / "book" / "01_small.py"
        self.source.write_text(CHAPTER)
        self.manager = ChapterManager(root_dir=str(folder / "_build" / "lab"))
        self.manager.project = Project.at(folder)
        self.manager.refresh("01_small")
        self.open()

    def open(self) -> None:
        self.model: dict[str, Any] = self.manager.get("01_small.ipynb")

    @property
    def cells(self) -> list[NotebookNode]:
        return self.model["content"]["cells"]

    def cell(self, text: str) -> NotebookNode:
        (found,) = [cell for cell in self.cells if text in cell.source]
        return found

    def save(self) -> str:
        """The lines of the chapter that saving takes away and adds."""
        before = self.source.read_text().splitlines()
        self.manager.save(self.model, "01_small.ipynb")
        after = self.source.read_text().splitlines()
        return "\n".join(line for line in difflib.ndiff(before, after) if line[0] in "+-")


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_saving_without_an_edit_leaves_every_byte(lab: Lab):
    shown = "\n".join(cell.source for cell in lab.cells)
    assert "`make book` has yet to find" in shown
    assert "claim" not in shown.replace("atrank_book.claims", "")
    for _ in range(2):
        assert lab.save() == ""
        lab.open()
    assert lab.source.read_text() == CHAPTER


def test_edits_of_code_text_and_captions_reach_their_lines_alone(lab: Lab):
    lab.cell("total = 1 + 1").source += "\n\n\nprint(twice(total))"
    assert lab.save().strip("+ \n") == "print(twice(total))"
    lab.cell("> See").source = lab.cell("> See").source.replace("> See", "> Do see")
    assert lab.save() == (
        "- # See {eq}`eq-sum`, which is {glue:text}`total:.1f`.\n"
        "+ # Do see {eq}`eq-sum`, which is {glue:text}`total:.1f`."
    )
    lab.cell("**Fig. 1.**").source += " Look."
    assert '"caption": "What {eq}`eq-sum` says. Look."' in lab.save()
    lab.cell("### Exercise 1.").source += " Think."
    assert lab.save().splitlines()[1] == "+ # How much is {glue:text}`total:.1f`? Think."
    lab.cell("<details>").source = lab.cell("<details>").source.replace("says.", "says, two.")
    assert lab.save() == "- # As {eq}`eq-sum` says.\n+ # As {eq}`eq-sum` says, two."
    lab.open()
    assert lab.save() == ""


def test_cells_that_are_put_in_or_taken_out(lab: Lab):
    at = lab.cells.index(lab.cell("def twice")) + 1
    lab.cells[at:at] = [new_code_cell("twice(3)"), new_markdown_cell("It is {eq}`eq-sum`."), new_code_cell("")]
    assert lab.save() == "+ \n+ # %%\n+ twice(3)\n+ \n+ # %% [markdown]\n+ # It is {eq}`eq-sum`."
    lab.cell("twice(3)").source = "twice(4)"
    assert lab.save() == "- twice(3)\n+ twice(4)"
    lab.cell("It is {eq}").source += " So."
    assert lab.save() == "- # It is {eq}`eq-sum`.\n+ # It is {eq}`eq-sum`. So."
    lab.cells.remove(lab.cell("twice(4)"))
    assert "- twice(4)" in lab.save()
    lab.cell("def twice").source += "\n# end"
    assert lab.save() == "+ # end"
    lab.open()
    assert lab.cell("It is (1). So.")
    at = lab.cells.index(lab.cell("Before the exercise")) + 1
    lab.cells.insert(at, new_code_cell("between = 1"))  # two stretches of one cell of text
    assert lab.save() == "- #\n+ \n+ # %%\n+ between = 1\n+ \n+ # %% [markdown]"
    lab.cell("### Exercise 1.").source += " Think."
    assert lab.save().splitlines()[1] == "+ # How much is {glue:text}`total:.1f`? Think."


def typed(text: str, new: str) -> Callable[[Lab], None]:
    def edit(lab: Lab) -> None:
        lab.cell(text).source = new

    return edit


def taken_out(*texts: str) -> Callable[[Lab], None]:
    def edit(lab: Lab) -> None:
        for text in texts:
            lab.cells.remove(lab.cell(text))

    return edit


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (typed("## Solutions", "## Answers"), "the book itself writes '## Solutions"),
        (lambda lab: lab.cells.reverse(), "cells changed places"),
        (taken_out("**Fig. 1.**"), "belong together"),
        (taken_out("### Exercise 1."), "part of an exercise"),
        (typed("The end.", "{ref}`ch-gone`"), "'ch-gone'"),
        (typed("The end.", "```{exercise-start} Again\n:label: ex-add\n```\nNever ends."), "never closed"),
        (lambda lab: lab.source.write_text(CHAPTER + "# More.\n"), "changed elsewhere"),
        (lambda lab: lab.model["content"]["metadata"]["atrank_book"].update(made="another time"), "made anew"),
    ],
)
def test_what_cannot_be_taken_back_is_refused_and_nothing_is_written(lab: Lab, edit: Callable[[Lab], None], said: str):
    edit(lab)
    before, shown = lab.source.read_text(), lab.manager.notebook("01_small").read_text()
    with pytest.raises(HTTPError) as error:
        lab.manager.save(lab.model, "01_small.ipynb")
    assert error.value.status_code == 409
    assert said in (error.value.log_message or "")
    assert lab.source.read_text() == before
    assert lab.manager.notebook("01_small").read_text() == shown


def test_a_figure_goes_with_its_caption_and_outputs_stay_with_their_code(lab: Lab):
    lab.cell("def twice").outputs = [{"output_type": "stream", "name": "stdout", "text": "kept\n"}]
    taken_out("draw(total)", "**Fig. 1.**")(lab)
    typed("Before the exercise", "Before the exercise.")(lab)  # which names the figure
    assert "- draw(total)" in lab.save()
    lab.source.write_text(lab.source.read_text() + "#\n# Written in an editor.\n")
    lab.open()
    assert lab.cell("Written in an editor.")
    assert lab.cell("def twice").outputs[0]["text"] == "kept\n"


def test_other_files_are_saved_as_they_are(lab: Lab):
    lab.manager.save({"type": "file", "format": "text", "content": "x"}, "notes.txt")
    lab.manager.save({"type": "notebook", "content": lab.model["content"]}, "copy.ipynb")
    assert LargeFileManager.get(lab.manager, "notes.txt")["content"] == "x"
    assert lab.source.read_text() == CHAPTER


def test_words_put_in_anywhere_reach_every_text_of_the_book_alone(project: Project):
    labels = Labels.of(project)
    chance = random.Random(0)
    for chapter in project.chapters():
        text = chapter.read_text(encoding="utf-8")
        notebook = read(text)
        assert written(notebook, text) == text
        for one in show(notebook, plain_of(project, labels, chapter.stem, [])):
            rewriting = one.rewriting
            if rewriting is None:
                continue
            assert rewriting.text == one.cell.source
            assert rewriting.back(rewriting.text) == rewriting.source
            literal = [piece for piece in rewriting.pieces if piece.literal and piece.shown[1] - piece.shown[0] > 1]
            if one.cell.cell_type == "markdown" and literal:
                piece = chance.choice(literal)
                at = chance.randrange(piece.shown[0] + 1, piece.shown[1])
                edited = rewriting.back(f"{rewriting.text[:at]}NEW{rewriting.text[at:]}")
                assert edited.count("NEW") == 1
                assert edited.replace("NEW", "") == rewriting.source


def rewriting() -> Rewriting:
    source = "(ch-x)=\n# Title\nSee {ref}`a` and {glue}`b` ok.\n"
    places = [
        (source.index("{ref"), source.index(" and"), "Fig. 5.1"),
        (source.index("{glue"), source.index(" ok"), "7"),
    ]
    return Rewriting(source, [Replacement(0, 8, ""), *(Replacement(*place) for place in places)])


@pytest.mark.parametrize(
    ("old", "new", "source"),
    [
        ("Title", "Name", "(ch-x)=\n# Name\nSee {ref}`a` and {glue}`b` ok.\n"),
        ("# Title", "First\n# Title", "First\n(ch-x)=\n# Title\nSee {ref}`a` and {glue}`b` ok.\n"),
        ("5.1", "6.2", "(ch-x)=\n# Title\nSee Fig. 6.2 and {glue}`b` ok.\n"),
        ("Fig. 5.1 and ", "", "(ch-x)=\n# Title\nSee {glue}`b` ok.\n"),
        ("Fig. 5.1 ", "Fig. 5.1, then ", "(ch-x)=\n# Title\nSee {ref}`a`, then and {glue}`b` ok.\n"),
        ("7", "8", "(ch-x)=\n# Title\nSee {ref}`a` and 8 ok.\n"),
        ("ok.\n", "ok.\nMore.\n", "(ch-x)=\n# Title\nSee {ref}`a` and {glue}`b` ok.\nMore.\n"),
        ("# Title\nSee Fig. 5.1 and 7 ok.\n", "Other", "(ch-x)=\nOther"),
    ],
)
def test_what_is_typed_over_a_role_is_kept_as_typed_and_other_roles_stay(old: str, new: str, source: str):
    shown = rewriting().text
    assert shown == "# Title\nSee Fig. 5.1 and 7 ok.\n"
    assert rewriting().back(shown.replace(old, new, 1)) == source
