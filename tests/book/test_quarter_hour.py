"""ATRank in a quarter of an hour: short, drawn for a phone, and first."""

from __future__ import annotations

import re

import jupytext
import nbformat

from tools.project import ROOT, Project

PAGE = ROOT / "book" / "quarter_hour.py"
MOST_WORDS = 1200
WIDEST = 3.75  # inches: a column of a phone


def test_it_is_read_in_a_quarter_of_an_hour():
    cells = jupytext.read(PAGE).cells
    texts = [cell.source for cell in cells if cell.cell_type == "markdown"]
    texts += [cell.metadata["mystnb"]["figure"]["caption"] for cell in cells if "mystnb" in cell.metadata]
    assert 600 < len(" ".join(texts).split()) < MOST_WORDS


def test_every_step_has_a_picture_that_a_phone_shows_in_full_size(project: Project):
    notebook = nbformat.read(project.notebooks / "quarter_hour.ipynb", as_version=4)
    cells = [cell for cell in notebook.cells if "mystnb" in cell.metadata]
    assert len(cells) >= 6
    for cell in cells:
        (drawing,) = [
            output["data"]["image/svg+xml"] for output in cell.outputs if "image/svg+xml" in output.get("data", {})
        ]
        width = re.search(r'<svg [^>]*width="([\d.]+)pt"', drawing)
        assert width is not None
        assert float(width[1]) / 72 <= WIDEST, cell.metadata["mystnb"]["figure"]["name"]


def test_it_stands_between_the_cover_and_the_first_chapter(project: Project):
    assert project.toc()[:3] == ["index", "quarter_hour", "01_behaviors"]
    cover = (project.html / "index.html").read_text()
    assert re.search(r'class="[^"]*cover-actions[^>]*>\s*<p><a class="[^"]*" href="quarter_hour.html"', cover)
