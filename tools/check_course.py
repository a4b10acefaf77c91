"""Let nbgrader grade the course: the solutions get all the points that a checker gives, the stubs none.

The written answers of the solutions wait for a person; those of the stubs, left empty, do not.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbgrader.api import Gradebook
from nbgrader.apps import NbGraderAPI
from sqlalchemy.exc import SAWarning
from traitlets.config import Config, PyFileConfigLoader

from tools.course import course
from tools.execute import kernel_environment
from tools.project import ROOT, BookError, Project

STUDENTS = ("solutions", "stubs")


@dataclass(frozen=True)
class Result:
    """What one submission got.

    Attributes:
        score: points that the checkers gave.
        best: points that they could give.
        by_hand: points of written answers that wait for a person.
    """

    score: float
    best: float
    by_hand: float


def round_trip(folder: Path, name: str) -> dict[str, Result]:
    """Hand out one assignment, hand in the solutions and the empty stubs, and grade both.

    Raises:
        BookError: nbgrader refuses, with its log.
    """
    config = Config()
    config.CourseDirectory.root = str(folder)
    config.merge(PyFileConfigLoader("nbgrader_config.py", path=str(folder)).load_config())
    nbgrader = NbGraderAPI(config=config)

    def succeeded(done: dict[str, Any]) -> None:
        if not done["success"]:
            raise BookError(f"nbgrader refuses {name}:\n{done.get('log') or done.get('error')}")

    succeeded(nbgrader.generate_assignment(name))
    for student, stage in zip(STUDENTS, ("source", "release"), strict=True):
        target = folder / "submitted" / student / name
        target.mkdir(parents=True)
        shutil.copy(folder / stage / name / f"{name}.ipynb", target)
        succeeded(nbgrader.autograde(name, student))
    found = {}
    with Gradebook(f"sqlite:///{folder / 'gradebook.db'}") as gradebook:
        for student in STUDENTS:
            grades = gradebook.find_submission_notebook(name, name, student).grades
            checked = [grade for grade in grades if grade.name.endswith("-check")]
            written = [grade for grade in grades if not grade.name.endswith("-check")]
            found[student] = Result(
                score=sum(grade.score for grade in checked),
                best=sum(grade.max_score for grade in checked),
                by_hand=sum(grade.max_score for grade in written if grade.needs_manual_grade),
            )
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT, help="the book's checkout")
    parser.add_argument("chapters", nargs="*", help="names such as 05_attention (default: all)")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore", SAWarning)  # nbgrader's own, about its queries
    failures = 0
    try:
        files = course(Project.at(options.root), options.chapters)
        names = [path.stem for path in files if path.parts[0] == "solutions"]
        with tempfile.TemporaryDirectory(prefix="course-") as scratch:
            kernel_environment(Path(scratch) / "jupyter")
            os.environ["JUPYTER_CONFIG_DIR"] = scratch  # nobody's own settings of nbgrader
            # nbgrader calls `alembic` by name, though this environment need not be an activated one
            os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
            for path, text in files.items():
                (Path(scratch) / path).parent.mkdir(parents=True, exist_ok=True)
                (Path(scratch) / path).write_text(text, encoding="utf-8")
            for name in names:
                found = round_trip(Path(scratch) / "assignments", name)
                solved, empty = (found[student] for student in STUDENTS)
                right = 0 < solved.best == solved.score and empty.score == empty.by_hand == 0
                failures += not right
                print(
                    f"{name}: {'' if right else 'WRONG, '}solutions {solved.score:g} of {solved.best:g}, "
                    f"stubs {empty.score:g}; {solved.by_hand:g} points by hand",
                    flush=True,
                )
    except BookError as error:
        print(error, file=sys.stderr)
        return 1
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
