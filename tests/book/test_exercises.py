"""Every chapter's exercises: enough of them, of all kinds, with solutions that pass and derived stubs that do not."""

from __future__ import annotations

import ast
import functools
import shutil
from pathlib import Path

import pytest

from atrank_book.check import Verdict
from tools import exercises, outcomes
from tools.course import setup
from tools.exercises import KINDS, YOUR_TURN, Exercise, find_answer, numbered, read_exercises
from tools.project import ROOT, BookError, Project

CHAPTERS = numbered(Project.at(ROOT))
exercises_of = functools.cache(read_exercises)


def ids(chapter: Path) -> str:
    return chapter.stem


@pytest.mark.parametrize("chapter", CHAPTERS, ids=ids)
def test_a_chapter_leads_from_a_warm_up_to_an_open_question(chapter: Path):
    found = exercises_of(chapter)
    kinds = [exercise.kind for exercise in found]
    assert len(found) >= 4
    assert kinds[0] == "Warm-up"
    assert set(KINDS) <= set(kinds)
    for exercise in found:
        assert exercise.task, exercise.title
        assert exercise.solution, exercise.title
    assert sum(exercise.answer is not None for exercise in found) >= 2


def test_no_two_exercises_share_a_label():
    labels = [exercise.label for chapter in CHAPTERS for exercise in exercises_of(chapter)]
    assert len(labels) == len(set(labels))
    assert all(label.startswith("ex-") for label in labels)


def run(chapter: Path, exercise: Exercise, code: str, call: str) -> Verdict:
    """The verdict about an answer, given nothing of the chapter but its imports and what the exercise itself gives."""
    given = [cell.source for cell in exercise.task if cell.cell_type == "code" and cell is not exercise.stub]
    names: dict[str, object] = {}
    exec("\n".join([setup(chapter, [exercise]), *given, code]), names)
    verdict = eval(call, names)
    assert isinstance(verdict, Verdict)
    return verdict


@pytest.mark.parametrize("chapter", CHAPTERS, ids=ids)
def test_stubs_are_derived_and_fail_and_solutions_pass(chapter: Path):
    assert [exercise.title for exercise, _, _ in exercises.stale_stubs(chapter)] == []
    for exercise in exercises_of(chapter):
        answer, stub = exercise.answer, exercise.stub
        if answer is None:
            continue
        assert stub is not None
        empty = run(chapter, exercise, stub.source, answer.call)
        assert not empty, exercise.title
        assert "nothing yet" in empty.message
        solved = run(chapter, exercise, answer.source, answer.call)
        assert solved, (exercise.title, solved)


def test_every_checker_belongs_to_an_exercise():
    called = {
        exercise.answer.call.split("(")[0]
        for chapter in CHAPTERS
        for exercise in exercises_of(chapter)
        if exercise.answer
    }
    checkers = {
        f"check.{path.stem}.{node.name}"
        for path in (ROOT / "book" / "atrank_book" / "check").glob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and "checker" in map(ast.unparse, node.decorator_list)
    }
    assert checkers == called


def test_the_teachers_page_says_what_the_chapters_say():
    old, new = outcomes.renewed(Project.at(ROOT))
    assert old == new, "run `python -m tools.outcomes --write`"
    found = [outcomes.objectives(chapter) for chapter in CHAPTERS]
    assert all(f"### {{ref}}`{title} <{label}>`" in new for label, title, _ in found)


SOLUTION = '''
from math import sqrt

BIG = 3


def helper(x):
    return sqrt(x)


# why
def one(
    x, y: int = 2, *, z=None
) -> float:
    """What it does.

    In two parts.
    """
    # a comment
    return helper(x)


two = [1, 2]

verdict = check.module.name(one, two)
assert verdict
print(verdict)
'''

STUB = '''def one(
    x, y: int = 2, *, z=None
) -> float:
    """What it does.

    In two parts.
    """
    ...  # your turn


two = ...  # your turn

check.module.name(one, two)'''


def test_a_stub_keeps_signatures_docstrings_and_names_and_nothing_else():
    answer = find_answer(SOLUTION)
    assert answer is not None
    assert answer.stub() == STUB
    assert answer.names == ("one", "two")
    assert find_answer("def f():\n    return 1") is None
    assert find_answer("verdict = 'a word'") is None
    undefined = find_answer("verdict = check.module.name(f)")
    assert undefined is not None
    with pytest.raises(BookError, match="defines no 'f': define it before"):
        undefined.stub()


def book_of(folder: Path, old: str, new: str) -> Project:
    """A book with chapter 5 alone, changed in one place."""
    (folder / "book").mkdir()
    text = (ROOT / "book" / "05_attention.py").read_text(encoding="utf-8")
    assert text.count(old) == 1
    (folder / "book" / "05_attention.py").write_text(text.replace(old, new), encoding="utf-8")
    shutil.copy(ROOT / "book" / outcomes.PAGE, folder / "book")
    return Project.at(folder)


def test_stubs_are_renewed_from_the_solutions(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    original = (ROOT / "book" / "05_attention.py").read_text(encoding="utf-8")
    stub = f"def weights(queries, keys, mask): ...  {YOUR_TURN}\n\n\ncheck.attention.weights(weights)\n"
    project = book_of(tmp_path, stub, f"{YOUR_TURN}\n")
    arguments = ["--root", str(tmp_path)]
    assert exercises.main(arguments) == 1
    assert "the stub of 'Attention weights with a mask' differs" in capsys.readouterr().out
    assert exercises.main([*arguments, "--write"]) == 0
    assert (project.book / "05_attention.py").read_text(encoding="utf-8") == original
    assert exercises.main(arguments) == 0
    # the page for teachers still speaks of all chapters
    assert outcomes.main(arguments) == 1
    assert outcomes.main([*arguments, "--write"]) == 0
    assert outcomes.main(arguments) == 0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{solution-start} ex-bilinear", "{solution-start} ex-bilinaer", "both ways' has no solution"),
        ("{solution-start} ex-shares", "{solution-end} ex-shares", "inside or without its opposite"),
        (f"def with_positions(S): ...  {YOUR_TURN}", "def with_positions(S): ...", "no cell to fill in"),
    ],
)  # fmt: skip
def test_broken_exercises_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], old, new, message):
    book_of(tmp_path, old, new)
    assert exercises.main(["--root", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "book/05_attention.py" in error


def test_a_chapter_without_objectives_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    book_of(tmp_path, "{admonition} In this chapter", "{admonition} Here")
    assert outcomes.main(["--root", str(tmp_path)]) == 1
    assert "book/05_attention.py: no label" in capsys.readouterr().err
