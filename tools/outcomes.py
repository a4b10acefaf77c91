"""The section "Chapter by chapter" of `book/for_teachers.md`, made from the chapters: outcomes, exercises, times.

`--write` renews it; without, differences are reported.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from atrank_lib.log.writing import write_text
from tools.chapters import read_chapter
from tools.course import POINTS
from tools.exercises import MINUTES, numbered, read_exercises
from tools.project import ROOT, BookError, Project

PAGE = "for_teachers.md"
BEGIN, END = "<!-- chapter by chapter: begin -->", "<!-- chapter by chapter: end -->"

TITLE = re.compile(r"^\((ch-[\w-]+)\)=\n# (.+)$", re.M)
OBJECTIVES = re.compile(r"^```\{admonition\} In this chapter\n(?P<body>.*?)^```$", re.M | re.S)
BULLET = re.compile(r"^- (?:.|\n(?!\n|- ))+", re.M)


def objectives(chapter: Path) -> tuple[str, str, list[str]]:
    """A chapter's label and title, and what its box "In this chapter" promises, one sentence each.

    Raises:
        BookError: no label, or no such box.
    """
    text = "\n\n".join(cell.source for cell in read_chapter(chapter).cells if cell.cell_type == "markdown")
    title, box = TITLE.search(text), OBJECTIVES.search(text)
    found = (
        [re.sub(r"\s+", " ", bullet[2:]).strip().rstrip(",;.") for bullet in BULLET.findall(box["body"])] if box else []
    )
    if not title or not found:
        raise BookError(
            f"book/{chapter.name}: no label (ch-name)= above the title, or no box 'In this chapter' with a list: "
            "a teacher's page is made from both"
        )
    return title[1], title[2], found


def section(project: Project) -> str:
    """Outcomes and exercises of all chapters, as Markdown."""
    parts = []
    for chapter in numbered(project):
        label, title, outcomes = objectives(chapter)
        exercises = read_exercises(chapter)
        minutes = sum(MINUTES[exercise.kind] for exercise in exercises)
        checked = [exercise for exercise in exercises if exercise.answer]
        points = sum(POINTS[exercise.kind] for exercise in exercises)
        by_checker = sum(POINTS[exercise.kind] for exercise in checked)
        names = "; ".join(f"{{ref}}`{exercise.title} <{exercise.label}>`" for exercise in exercises)
        parts += [
            f"### {{ref}}`{title} <{label}>`",  # the page's contents show what is written here, a title or a label
            "Students can",
            "\n".join(f"- {outcome}{',' if outcome is not outcomes[-1] else '.'}" for outcome in outcomes),
            f"*Exercises* ({points} points, {by_checker} of them by checker; about {minutes} minutes): {names}.",
        ]
    return "\n\n".join(parts)


def renewed(project: Project) -> tuple[str, str]:
    """The page as it is, and as it should be."""
    page = project.book / PAGE
    text = page.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise BookError(f"book/{PAGE}: the lines {BEGIN!r} and {END!r} should stand there once each")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    return text, f"{before}{BEGIN}\n\n{section(project)}\n\n{END}{after}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=ROOT, help="the book's checkout")
    parser.add_argument("--write", action="store_true", help="renew the section")
    options = parser.parse_args(arguments)
    project = Project.at(options.root)
    try:
        old, new = renewed(project)
    except BookError as error:
        print(error, file=sys.stderr)
        return 1
    if old == new:
        return 0
    if not options.write:
        print(f"book/{PAGE} is not what the chapters say: run `python -m tools.outcomes --write`", file=sys.stderr)
        return 1
    write_text(project.book / PAGE, new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
