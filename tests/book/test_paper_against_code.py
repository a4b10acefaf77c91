"""The page "paper against code" names functions, tests and switches that exist."""

from __future__ import annotations

import ast
import importlib
from typing import Any

import pytest

from experiments.tables import SWITCHES
from tools.project import ROOT


def rows() -> list[dict[str, Any]]:
    tree = ast.parse((ROOT / "book" / "paper_against_code.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "ROWS":
            return ast.literal_eval(node.value)
    raise AssertionError("the page has no ROWS")


@pytest.mark.parametrize("row", rows(), ids=lambda row: row["function"])
def test_a_row_names_what_exists(row):
    module, _, name = row["function"].partition(".")
    assert hasattr(importlib.import_module(f"atrank_lib.{module}"), name)
    file, _, test = row["test"].partition(".")
    assert f"def {test}(" in (ROOT / "tests" / f"{file}.py").read_text(encoding="utf-8")
    assert set(row["switches"]) <= set(SWITCHES)


def test_every_switch_belongs_to_a_row():
    assert {name for row in rows() for name in row["switches"]} == set(SWITCHES) - {"base"}
