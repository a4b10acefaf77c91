"""The chapters' exercises: what they ask, what solves them, and stubs that are derived from the solutions.

The solution is the source. Its cell defines what a checker is given, and ends in ``verdict = check.module.name(...)``;
the stub keeps the signature, leaves out the body and calls the checker. `--write` renews the stubs in the chapters.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

from tools.chapters import read_chapter
from tools.project import ROOT, BookError, Project

YOUR_TURN = "# your turn"
IMPLEMENT = "Implement"
KINDS = ("Warm-up", "Break it and see", "Open-ended")  # how a title may begin; all others are to be implemented

# how long a student may sit over an exercise, in minutes: an estimate
MINUTES = {"Warm-up": 10, IMPLEMENT: 20, "Break it and see": 30, "Open-ended": 45}

DIRECTIVE = re.compile(r"(?P<fence>`{3,})\{(?P<role>exercise|solution)(?P<edge>-start|-end)?\}\s*(?P<title>.*)")
OPTION = re.compile(r":(\w+):\s*(.*)")


def kind_of(title: str) -> str:
    """One of ``KINDS``, said by the beginning of an exercise's title, or ``IMPLEMENT``."""
    return next((kind for kind in KINDS if title.startswith(f"{kind}:")), IMPLEMENT)


@dataclass(frozen=True)
class Part:
    """A stretch of a cell that is plain text or code, or belongs to one exercise or solution.

    Attributes:
        start: where it begins in the cell's source, with the lines of directives.
        end: where it ends, with them; all parts of a cell follow one another.
        body: where it begins and ends without them.
        opens: the first part of its exercise or solution.
        label: of the exercise, also for its solution.
    """

    cell: NotebookNode
    start: int
    end: int
    body: tuple[int, int]
    role: str = "text"  # or "exercise" or "solution"
    opens: bool = False
    title: str = ""
    label: str = ""

    @property
    def text(self) -> str:
        return str(self.cell.source[slice(*self.body)]).strip("\n")


@dataclass
class Block:
    """A stretch of a chapter: plain text and code, or what an exercise or a solution directive encloses."""

    role: str  # "text", "exercise" or "solution"
    title: str = ""  # of an exercise; of a solution, the label of its exercise
    label: str = ""
    cells: list[NotebookNode] = field(default_factory=list)


@dataclass(frozen=True)
class Exercise:
    """An exercise with its solution.

    Attributes:
        task: cells that ask, the stub among them.
        solution: cells that answer.
    """

    chapter: str
    title: str
    label: str
    task: list[NotebookNode]
    solution: list[NotebookNode]

    @property
    def kind(self) -> str:
        return kind_of(self.title)

    @property
    def answer(self) -> Answer | None:
        """What the solution gives to a checker; None where there is no checker."""
        return next((a for cell in self.solution if cell.cell_type == "code" and (a := find_answer(cell.source))), None)

    @property
    def stub(self) -> NotebookNode | None:
        """The cell to fill in."""
        return next((cell for cell in self.task if cell.cell_type == "code" and YOUR_TURN in cell.source), None)


@dataclass(frozen=True)
class Answer:
    """The part of a solution's cell that a checker is given.

    Attributes:
        source: all statements before the verdict.
        names: functions or values that the checker is called with.
        call: the call, such as ``check.attention.weights(weights)``.
    """

    source: str
    names: tuple[str, ...]
    call: str

    def definitions(self) -> list[ast.FunctionDef | ast.Assign]:
        """What defines the names; BookError where a name is neither a function nor a value of this cell."""
        found: dict[str, ast.FunctionDef | ast.Assign] = {}
        for node in ast.parse(self.source).body:
            if isinstance(node, ast.FunctionDef):
                found[node.name] = node
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                found[node.targets[0].id] = node
        for name in self.names:
            if name not in found:
                raise BookError(f"{self.call}: the solution's cell defines no {name!r}: define it before the verdict")
        return [found[name] for name in self.names]

    def stub(self) -> str:
        """The cell that a reader fills in: signatures (and docstrings) without bodies, and the checker's call."""
        lines = self.source.splitlines()
        parts = []
        for node in self.definitions():
            if isinstance(node, ast.Assign):
                parts.append(f"{ast.unparse(node.targets[0])} = ...  {YOUR_TURN}\n")
                continue
            start = node.body[0].lineno - 1
            while lines[start - 1].strip().startswith("#"):  # a comment above the first statement
                start -= 1
            head = "\n".join(lines[node.lineno - 1 : start]).rstrip()
            if ast.get_docstring(node) is None:
                parts.append(f"{head} ...  {YOUR_TURN}\n\n")
            else:
                docstring = "\n".join(lines[node.body[0].lineno - 1 : node.body[0].end_lineno])
                parts.append(f"{head}\n{docstring}\n    ...  {YOUR_TURN}\n\n")
        return "\n".join([*parts, self.call])


def find_answer(source: str) -> Answer | None:
    """What comes before ``verdict = check...`` in a cell; None where there is no such line."""
    for node in ast.parse(source).body:
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Call)
            and ast.unparse(node.targets[0]) == "verdict"
            and ast.unparse(node.value.func).startswith("check.")
        ):
            names = tuple(argument.id for argument in node.value.args if isinstance(argument, ast.Name))
            before = "\n".join(source.splitlines()[: node.lineno - 1]).rstrip()
            return Answer(before, names, ast.unparse(node.value))
    return None


def parts(notebook: NotebookNode, name: str) -> Iterator[Part]:
    """A chapter's cells, those of text cut where exercises and solutions begin and end.

    Raises:
        BookError: a directive is not closed, or closes what was not opened.
    """
    role, title, label = "text", "", ""
    whole = ""  # the fence of ```{exercise} ... ```, which ends with it
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            yield Part(cell, 0, len(cell.source), (0, len(cell.source)), role, False, title, label)
            continue
        lines = list(re.finditer(r"[^\n]*(?:\n|$)", cell.source))
        start = body = number = 0
        opens = False

        def part(body_end: int, end: int) -> Part:
            return Part(cell, start, end, (body, max(body, body_end)), role, opens, title, label)  # noqa: B023

        while number < len(lines):
            line = lines[number]
            text = line[0].rstrip("\n")
            number += 1
            found = DIRECTIVE.fullmatch(text)
            closes = (whole and text == whole) or (found and found["edge"] == "-end")
            if not found and not closes:
                continue
            if bool(closes) == (role == "text"):
                raise BookError(f"book/{name}: {text!r} inside or without its opposite: close each once")
            if closes:
                number += bool(found)  # the fence of its own
                while number < len(lines) and not lines[number][0].strip():
                    number += 1
                end = lines[number].start() if number < len(lines) else len(cell.source)
                yield part(line.start(), end)
                role, title, label, whole = "text", "", "", ""
                start, body, opens = end, end, False
            elif found:
                if line.start() > start:
                    yield part(line.start(), line.start())
                role, title, label = found["role"], found["title"], found["title"]
                whole = "" if found["edge"] else found["fence"]
                while number < len(lines) and (option := OPTION.fullmatch(lines[number][0].rstrip("\n"))):
                    label = option[2] if option[1] == "label" else label
                    number += 1
                number += bool(found["edge"])
                start, opens = line.start(), True
                body = lines[number].start() if number < len(lines) else len(cell.source)
        if start < len(cell.source):
            yield part(len(cell.source), len(cell.source))
    if role != "text":
        raise BookError(f"book/{name}: {role} {title!r} is never closed")


def read_blocks(chapter: Path) -> list[Block]:
    """A chapter as a list of blocks, without the lines of the directives and without cells that no reader sees.

    Raises:
        BookError: a directive is not closed, or closes what was not opened.
    """
    blocks = [Block("text")]
    for part in parts(read_chapter(chapter), chapter.name):
        if part.opens or part.role != blocks[-1].role:
            label = part.label if part.role == "exercise" else ""
            blocks.append(Block(part.role, part.title, label))
        if part.cell.cell_type == "code" and "remove-cell" not in part.cell.metadata.get("tags", []):
            blocks[-1].cells.append(part.cell)
        elif part.cell.cell_type == "markdown" and part.text:
            identity = f"text-{len(blocks):03d}-{len(blocks[-1].cells):02d}"
            blocks[-1].cells.append(new_markdown_cell(part.text, id=identity))
    return [block for block in blocks if block.cells or block.role != "text"]


def read_exercises(chapter: Path) -> list[Exercise]:
    """All exercises of a chapter, in order.

    Raises:
        BookError: an exercise without a label or a solution, or a solution without an exercise.
    """
    blocks = read_blocks(chapter)
    solutions = {block.title: block for block in blocks if block.role == "solution"}
    found = []
    for block in blocks:
        if block.role != "exercise":
            continue
        if block.label not in solutions:
            raise BookError(f"book/{chapter.name}: exercise {block.title!r} has no solution: write one for its label")
        solution = solutions.pop(block.label)
        found.append(Exercise(chapter.stem, block.title, block.label, block.cells, solution.cells))
    if solutions:
        raise BookError(f"book/{chapter.name}: solutions without an exercise: {', '.join(solutions)}")
    return found


def numbered(project: Project) -> list[Path]:
    """The chapters proper: `book/NN_name.py`."""
    return [path for path in project.chapters() if re.match(r"\d\d_", path.name)]


def stale_stubs(chapter: Path) -> Iterator[tuple[Exercise, str, str]]:
    """Exercises whose stub is not what their solution says, with the stub as it is and as it should be."""
    for exercise in read_exercises(chapter):
        answer, stub = exercise.answer, exercise.stub
        if answer is None:
            continue
        if stub is None:
            raise BookError(
                f"book/{chapter.name}: exercise {exercise.title!r} has a checker, but no cell to fill in: "
                f"add a cell with the line `{YOUR_TURN}`, and run `python -m tools.exercises --write`"
            )
        if stub.source != answer.stub():
            yield exercise, stub.source, answer.stub()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=ROOT, help="the book's checkout")
    parser.add_argument("--write", action="store_true", help="renew the stubs in the chapters")
    options = parser.parse_args(arguments)
    stale = 0
    try:
        for chapter in numbered(Project.at(options.root)):
            text = chapter.read_text(encoding="utf-8")
            for exercise, old, new in stale_stubs(chapter):
                done = "is renewed" if options.write else "differs from its solution"
                print(f"book/{chapter.name}: the stub of {exercise.title!r} {done}")
                stale += not options.write
                at = text.index(f"# :label: {exercise.label}\n")
                text = text[:at] + text[at:].replace(old, new, 1)
            if options.write:
                from atrank_lib.log.writing import write_text  # here, as in tools.course

                write_text(chapter, text)
    except BookError as error:
        print(error, file=sys.stderr)
        return 1
    if stale:
        print("the solution is the source: run `python -m tools.exercises --write`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
