"""Chapters as notebooks: jupytext's py:percent text, read the same way by every tool."""

from __future__ import annotations

import ast
from pathlib import Path

import jupytext
from nbformat import NotebookNode


def read_chapter(path: Path) -> NotebookNode:
    """A chapter as a notebook, with cell ids that depend on nothing but the order."""
    notebook = jupytext.read(path)
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    for number, cell in enumerate(notebook.cells, start=1):
        cell["id"] = f"cell-{number:03d}"
    return notebook


def parameter_names(notebook: NotebookNode) -> set[str]:
    """Names assigned in the cell tagged `parameters`."""
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            statements = [node for node in ast.parse(cell.source).body if isinstance(node, ast.Assign)]
            return {target.id for node in statements for target in node.targets if isinstance(target, ast.Name)}
    return set()
