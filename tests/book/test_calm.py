"""Calm pages: what a reader stumbled over once does not come back."""

from __future__ import annotations

from pathlib import Path

import jupytext
import pytest

from tools.project import ROOT, Project

CHAPTERS = Project.at(ROOT).chapters()
CODE_WIDTH = 85  # characters: what fits beside the navigation of a laptop


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_code_fits_a_laptop_and_claims_are_hidden(chapter: Path):
    for cell in jupytext.read(chapter).cells:
        if cell.cell_type != "code" or "remove-cell" in cell.metadata.get("tags", []):
            continue
        lines = cell.source.splitlines()
        assert not [line for line in lines if len(line) > CODE_WIDTH]
        assert not [line for line in lines if line.lstrip().startswith(("claim(", "begin("))]
