"""Write the course from the chapters: student and solution notebooks, and assignments for nbgrader.

- `student/`: every chapter with its exercises and without their solutions.
- `solutions/`: every chapter with both.
- `assignments/source/NN_name/NN_name.ipynb`: the exercises alone, in nbgrader's format. They need the installed package
  and nothing else of the book. `nbgrader generate_assignment NN_name` makes the students' version.

Files of the same names are replaced; what a teacher keeps beside them (submissions, a gradebook) is not touched.
"""

from __future__ import annotations

import argparse
import ast
import builtins
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from tools.chapters import read_chapter
from tools.exercises import MINUTES, Answer, Exercise, numbered, read_exercises
from tools.labels import FORMULA, Labels
from tools.notebooks import install_cells, notebook_of, plain_of, show
from tools.plain_markdown import INLINE, Plain
from tools.project import ROOT, BookError, Project

POINTS = {"Warm-up": 1, "Implement": 2, "Break it and see": 2, "Open-ended": 3}
ALWAYS = ("torch", "numpy", "pandas")  # a solution may need them though ours does not

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"

NBGRADER_CONFIG = """# nbgrader, run in this folder: generate_assignment, autograde, generate_feedback
c = get_config()
c.CourseDirectory.course_id = "atrank"
c.ClearSolutions.code_stub = {"python": "...  # your turn"}
c.ClearSolutions.text_stub = "Your answer here."
c.ExecutePreprocessor.timeout = 120
"""

INTRODUCTION = """# {title}: exercises

The exercises of a chapter of *Attention over Behaviors*. They need the installed package `atrank_lib`
(`pip install .` in the folder of the book's sources); the text that they belong to is in the book. Put your answers
where the dots are, and run the cell below each: it says what is wrong."""


def whole_chapter(project: Project, plain: Plain, solutions: bool) -> NotebookNode:
    """A chapter for students or, with its solutions, for teachers; without outputs."""
    notebook = read_chapter(project.book / f"{plain.page}.py")
    shown = [one.cell for one in show(notebook, plain, solutions)]
    return notebook_of([*install_cells(""), *shown])


def names_in(source: str) -> tuple[set[str], set[str]]:
    """Names that code reads, and names that it defines anywhere."""
    read: set[str] = set()
    defined: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name):
            (read if isinstance(node.ctx, ast.Load) else defined).add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.arg):
            defined.add(node.arg)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            defined.add(node.name)
        elif isinstance(node, ast.alias):
            defined.add((node.asname or node.name).split(".")[0])
    return read, defined


def imports(chapter: Path) -> Iterator[tuple[str, str]]:
    """(name, statement) of everything that a chapter imports."""
    for cell in read_chapter(chapter).cells:
        if cell.cell_type != "code":
            continue
        for node in ast.parse(cell.source).body:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield alias.asname or alias.name.split(".")[0], ast.unparse(ast.Import([alias]))
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    statement = ast.ImportFrom(node.module, [alias], node.level)
                    yield alias.asname or alias.name, ast.unparse(statement)


def setup(chapter: Path, exercises: list[Exercise]) -> str:
    """The first cell of an assignment: what the graded exercises import, and `seed`.

    Raises:
        BookError: an exercise with a checker uses a name of the chapter's experiments.
    """
    available = dict(imports(chapter)) | {"seed": "seed = 0"}
    needed: set[str] = set()
    for exercise in exercises:
        answer = exercise.answer
        if answer is None:
            continue
        code = [cell.source for cell in exercise.task if cell.cell_type == "code" and cell is not exercise.stub]
        read, defined = names_in("\n".join([*code, answer.source, answer.call]))
        free = read - defined - set(dir(builtins))
        unknown = sorted(free - set(available))
        if unknown:
            raise BookError(
                f"book/{chapter.name}: exercise {exercise.title!r} uses {', '.join(unknown)} of its chapter, "
                "but an assignment has no chapter around it: define what it needs inside the exercise"
            )
        needed |= free
    statements = {s for name, s in available.items() if name in needed or s.split()[1] in ALWAYS}
    ordered = sorted(statements, key=lambda s: ("import" not in s, "atrank" in s or "data_scripts" in s, s))
    return "\n".join(ordered)


def graded(cell: NotebookNode, grade_id: str, points: int | None = None, solution: bool = False) -> NotebookNode:
    """The cell with nbgrader's metadata: locked unless it is to be filled in, graded if it is worth points."""
    cell.metadata["nbgrader"] = {
        "schema_version": 3,
        "grade_id": grade_id,
        "grade": points is not None,
        "solution": solution,
        "locked": not solution,
        "task": False,
        **({} if points is None else {"points": points}),
    }
    return cell


def hidden(answer: Answer) -> str:
    """The solution with nbgrader's marks around all that a student has to write."""
    lines = answer.source.splitlines()
    out: list[str] = []
    done = 0
    for node in sorted(answer.definitions(), key=lambda node: node.lineno):
        before = "\n".join(lines[done : node.lineno - 1]).strip("\n")
        if before:  # helpers and imports
            out += [BEGIN, before, END, "", ""]
        if isinstance(node, ast.Assign):
            name = ast.unparse(node.targets[0])
            out += [f"{name} = ...", BEGIN, ast.unparse(node), END]
        else:
            documented = ast.get_docstring(node) is not None
            first = node.body[1] if documented else node.body[0]
            start = first.lineno - 1
            indent = " " * first.col_offset
            while lines[start - 1].strip().startswith("#"):  # a comment above the first statement
                start -= 1
            head, body = lines[node.lineno - 1 : start], lines[start : node.end_lineno]
            out += [*head, indent + BEGIN, *body, indent + END]
        done = node.end_lineno or node.lineno
    after = "\n".join(lines[done:]).strip("\n")
    if after:
        out += ["", "", BEGIN, after, END]
    return "\n".join(out)


def fenced(cell: NotebookNode) -> str:
    """A cell as Markdown."""
    return f"```python\n{cell.source}\n```" if cell.cell_type == "code" else cell.source


def with_equations(text: str, plain: Plain) -> str:
    """A text in plain Markdown, and the equations that it refers to and does not hold."""
    here = {match["label"] for match in FORMULA.finditer(text)}
    labels = [match["text"] for match in INLINE.finditer(text) if match["role"] == "eq"]
    missing = [f"$$\n{plain.target(label).body}\n$$ ({label})" for label in dict.fromkeys(labels) if label not in here]
    return plain.text("\n\n".join([text, *missing]))


def exercise_cells(exercise: Exercise, plain: Plain) -> Iterator[NotebookNode]:
    """An exercise as nbgrader wants it: a locked task, a cell to fill in, and a locked check where there is one."""
    points = POINTS[exercise.kind]
    answer = exercise.answer
    text = (
        f"### {plain.target(exercise.label).words}. {plain.text(exercise.title)}\n\n"
        f"*{points} point{'s' if points > 1 else ''}, about {MINUTES[exercise.kind]} minutes*"
    )
    tasks = [cell for cell in exercise.task if cell is not exercise.stub]
    for number, cell in enumerate(tasks):
        if cell.cell_type == "code":
            yield graded(new_code_cell(cell.source), f"{exercise.label}-given-{number}")
            continue
        source = with_equations(cell.source, plain)
        yield graded(
            new_markdown_cell(f"{text}\n\n{source}" if number == 0 else source), f"{exercise.label}-task-{number}"
        )
    if answer:
        yield graded(new_code_cell(hidden(answer)), exercise.label, solution=True)
        check = f"verdict = {answer.call}\nprint(verdict)\nassert verdict"
        yield graded(new_code_cell(check), f"{exercise.label}-check", points)
    else:
        solution = "\n\n".join(fenced(cell) for cell in exercise.solution)
        source = f"{BEGIN}\n{plain.text(solution)}\n{END}"
        yield graded(new_markdown_cell(source), exercise.label, points, solution=True)


def assignment(project: Project, plain: Plain) -> NotebookNode:
    """A chapter's exercises in nbgrader's source format."""
    chapter = project.book / f"{plain.page}.py"
    exercises = read_exercises(chapter)
    introduction = INTRODUCTION.format(title=plain.labels.titles[plain.page])
    cells = [graded(new_markdown_cell(introduction), "introduction")]
    cells.append(graded(new_code_cell(setup(chapter, exercises)), "setup"))
    for exercise in exercises:
        cells += exercise_cells(exercise, plain)
    return notebook_of(cells, numbered=True)


def course(project: Project, chapters: Iterable[str] = ()) -> dict[Path, str]:
    """Names and contents of all files of the course, or of what it has for some chapters.

    Raises:
        BookError: a chapter was never executed; or one of the names is none of a chapter.
    """
    labels = Labels.of(project)
    names = [chapter.stem for chapter in numbered(project)]
    unknown = sorted(set(chapters) - set(names))
    if unknown:
        raise BookError(f"no chapter {', '.join(unknown)}: there are {', '.join(names)}")
    files = {Path("assignments/nbgrader_config.py"): NBGRADER_CONFIG}
    for stem in chapters or names:
        name = f"{stem}.ipynb"
        plain = plain_of(project, labels, stem, names)
        alone = replace(plain, notebooks=frozenset())  # an assignment lies beside no chapter
        notebooks = {
            Path("student") / name: whole_chapter(project, plain, solutions=False),
            Path("solutions") / name: whole_chapter(project, plain, solutions=True),
            Path("assignments/source") / stem / name: assignment(project, alone),
        }
        for path, notebook in notebooks.items():
            nbformat.validate(notebook)
            files[path] = nbformat.writes(notebook) + "\n"
    return files


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=ROOT, help="the book's checkout")
    parser.add_argument("--out", type=Path, help="where to write (default: ROOT/_build/course)")
    options = parser.parse_args(arguments)
    project = Project.at(options.root)
    out = (options.out or project.build / "course").resolve()
    try:
        files = course(project)  # all of it, before anything is written
    except BookError as error:
        print(f"{error}\nno course is written.", file=sys.stderr)
        return 1
    from atrank_lib.log.writing import write_text  # here: torch comes along, and who grades the course needs none

    for path, text in files.items():
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        write_text(out / path, text)
    print(f"{len(numbered(project))} chapters: student/, solutions/ and assignments/ in {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
