"""The page of messages shows every problem that the library can find in an event log."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from tools.chapters import read_chapter
from tools.project import ROOT

# a problem is noted, reported or raised by these; its text is among their arguments, or was given a name before
CALLS = {"note", "report", "Problem", "fail", "ValueError", "ConstructorError", "_wrong_kind"}
SHORTEST = 10  # what is shorter is the name of a column, or the ending of a file
# no fault of a log of one's own: a sharded log is chapter 12's, and a unit or a group that a program names is no log's
ELSEWHERE = ("a sharded log", " or a number of seconds", "; the log's groups are ")


def pieces(node: ast.expr) -> list[str]:
    """The longest fixed piece of each message that an expression may give."""
    if isinstance(node, ast.IfExp):
        return pieces(node.body) + pieces(node.orelse)
    if isinstance(node, ast.Lambda):
        return pieces(node.body)
    if isinstance(node, ast.Tuple | ast.Dict):
        parts = node.elts if isinstance(node, ast.Tuple) else node.values
        return [piece for part in parts for piece in pieces(part)]
    if isinstance(node, ast.BinOp):
        return [max(pieces(node.left) + pieces(node.right), key=len, default="")]
    if isinstance(node, ast.JoinedStr):
        fixed = [part.value for part in node.values if isinstance(part, ast.Constant)]
        return [max(map(str, fixed), key=len, default="")]
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []


def messages_of_the_library() -> set[str]:
    found: set[str] = set()
    for module in ("schema", "events", "columns", "files"):  # `sharded` is chapter 12's
        path = ROOT / "atrank_lib" / "log" / f"{module}.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if name in CALLS:
                    found.update(piece for argument in node.args for piece in pieces(argument))
            elif isinstance(node, ast.Assign) and "message" in ast.unparse(node.targets[0]).lower():
                found.update(pieces(node.value))
    return {piece for piece in found if len(piece) >= SHORTEST}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What the page's own cells provoke."""
    chapter = read_chapter(ROOT / "book" / "messages.py")
    cells = [cell.source for cell in chapter.cells if "told" in cell.metadata.get("tags", [])]
    names: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("chapter"))
        for cell in cells:
            exec(compile(cell, "messages.py", "exec"), names)
        assert list(Path.cwd().iterdir()) == []
    return [problem.message for problem in names["told"]]


def test_the_pieces_are_found() -> None:
    """The reading of the sources itself, on messages that must be there."""
    messages = messages_of_the_library()
    assert len(messages) >= 50
    assert {"the object is listed before; keep one row for every object", "unknown key; "} <= messages


def test_every_problem_is_shown(told: list[str]) -> None:
    raised = [piece for piece in messages_of_the_library() if not piece.startswith(ELSEWHERE)]
    missing = [piece for piece in raised if not any(piece in message for message in told)]
    assert missing == []
