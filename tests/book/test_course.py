"""The course that is made from the chapters: what students get, what they do not, and who gets which points."""

from __future__ import annotations

import functools
import importlib.metadata
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from packaging.requirements import Requirement

from tools import course as course_tool
from tools.course import BEGIN, END, POINTS, course, setup
from tools.exercises import numbered, read_blocks, read_exercises
from tools.project import ROOT, Project

PROJECT = Project.at(ROOT)
exercises_of = functools.cache(read_exercises)
NAMES = [chapter.stem for chapter in numbered(PROJECT)]


@pytest.fixture(scope="module")
def files(project: Project) -> dict[Path, str]:
    return course(project)


def notebook(files: dict[Path, str], *parts: str) -> NotebookNode:
    return nbformat.reads(files[Path(*parts)], as_version=4)


def assignment(files: dict[Path, str], name: str) -> NotebookNode:
    return notebook(files, "assignments", "source", name, f"{name}.ipynb")


def cleared(source: str) -> str:
    """What nbgrader makes of a cell to fill in: its own stub for what stands between the marks."""
    return re.sub(rf"^( *){BEGIN}\n.*?\n *{END}", r"\1...", source, flags=re.M | re.S)


def score(notebook: NotebookNode, empty: bool) -> float:
    """Points by the cells' metadata, as nbgrader counts them: a graded cell that raises gives none."""
    names: dict[str, object] = {}
    total = 0.0
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        mark = cell.metadata["nbgrader"]
        try:
            exec(cleared(cell.source) if empty and mark["solution"] else cell.source, names)
            total += mark.get("points", 0) if mark["grade"] else 0
        except AssertionError:
            assert mark["grade"], cell.source
            assert mark["locked"]
    return total


@pytest.mark.parametrize("name", NAMES)
def test_solutions_score_full_marks_and_stubs_zero(files, name, capsys):
    source = assignment(files, name)
    graded = [cell for cell in source.cells if cell.cell_type == "code" and cell.metadata["nbgrader"]["grade"]]
    best = sum(cell.metadata["nbgrader"]["points"] for cell in graded)
    assert best == sum(POINTS[e.kind] for e in exercises_of(PROJECT.book / f"{name}.py") if e.answer) > 0
    assert score(source, empty=False) == best
    assert score(source, empty=True) == 0
    assert capsys.readouterr().out.count("✓") == len(graded)


def test_nbgrader_itself_grades_an_assignment(project: Project):
    """The real round trip, of one chapter; `make check-course` makes it for all."""
    result = subprocess.run(
        [sys.executable, "-m", "tools.check_course", "04_projection"], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    exercises = exercises_of(ROOT / "book" / "04_projection.py")
    best = sum(POINTS[exercise.kind] for exercise in exercises if exercise.answer)
    written = sum(POINTS[exercise.kind] for exercise in exercises if not exercise.answer)
    assert result.stdout == f"04_projection: solutions {best} of {best}, stubs 0; {written} points by hand\n"


@pytest.mark.parametrize("name", NAMES)
def test_students_get_no_solutions_and_teachers_all(files, name):
    student, teacher = files[Path("student", f"{name}.ipynb")], files[Path("solutions", f"{name}.ipynb")]
    for block in read_blocks(PROJECT.book / f"{name}.py"):
        for cell in block.cells:
            if block.role == "solution" and cell.cell_type == "code":
                assert cell.source in sources(teacher)
                assert cell.source not in sources(student)
    assert "assert verdict\n" not in student


def sources(text: str) -> list[str]:
    return [cell.source for cell in nbformat.reads(text, as_version=4).cells]


def test_assignments_need_the_installed_package_and_no_extra():
    core = {
        Requirement(text).name for text in importlib.metadata.requires("atrank_lib") or [] if "extra ==" not in text
    }
    allowed = core | {"atrank_book", "atrank_lib", "data_scripts"} | set(sys.stdlib_module_names)
    for chapter in numbered(PROJECT):
        for line in setup(chapter, exercises_of(chapter)).splitlines():
            assert line == "seed = 0" or line.split()[1].split(".")[0] in allowed, (chapter, line)


def test_cells_are_marked_for_nbgrader_and_ids_are_unique(files):
    for name in NAMES:
        marks = [cell.metadata["nbgrader"] for cell in assignment(files, name).cells]
        names = [mark["grade_id"] for mark in marks]
        assert len(names) == len(set(names))
        for mark in marks:
            assert mark["locked"] != mark["solution"]
            assert ("points" in mark) == mark["grade"]


def test_the_same_bytes_every_time_and_a_teachers_files_stay(files, tmp_path: Path, capsys):
    kept = tmp_path / "assignments" / "gradebook.db"
    kept.parent.mkdir()
    kept.write_text("grades")
    (tmp_path / "student").mkdir()
    (tmp_path / "student" / "01_behaviors.ipynb").write_text("from last year")
    assert course_tool.main(["--out", str(tmp_path)]) == 0
    written = {path.relative_to(tmp_path): path for path in tmp_path.rglob("*") if path.is_file() and path != kept}
    assert {name: path.read_text(encoding="utf-8") for name, path in written.items()} == files
    assert kept.read_text() == "grades"


def test_an_exercise_that_needs_its_chapter_is_named_and_nothing_is_written(project: Project, tmp_path: Path, capsys):
    shutil.copytree(ROOT / "book", tmp_path / "book")
    shutil.copy(ROOT / "_toc.yml", tmp_path)
    (tmp_path / "_build").mkdir()
    (tmp_path / "_build" / "notebooks").symlink_to(project.notebooks)
    text = (ROOT / "book" / "05_attention.py").read_text(encoding="utf-8")
    old = "    keys = S @ W.T  # [n, s]\n    return left"
    assert text.count(old) == 1
    broken = text.replace(old, "    keys = S @ W.T  # [n, s]\n    print(market)\n    return left")
    (tmp_path / "book" / "05_attention.py").write_text(broken, encoding="utf-8")
    assert course_tool.main(["--root", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "'The bilinear score, both ways' uses market of its chapter" in error
    assert "no course is written" in error
    assert not (tmp_path / "_build" / "course").exists()
