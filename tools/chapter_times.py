"""Measure how long each chapter runs on this machine, one after the other, and say so in the chapters.

The seconds go to `results/speed/chapters.json` with the machine's name, rounded ones into each chapter's **Runtime**.
"""

from __future__ import annotations

import argparse
import logging
import re
import sys
import tempfile
from pathlib import Path

from atrank_lib.log.writing import write_text
from atrank_lib.runs import hardware, versions
from experiments.provenance import commit
from experiments.records import write_record
from tools.execute import Run, execute_book
from tools.project import ROOT, SECONDS, Project, digest, recorded_seconds

RUNTIME = re.compile(r"(?<=\*\*Runtime\*\* \(`fast`\): )[^.;]+")


def in_words(seconds: float) -> str:
    """Seconds as a reader wants to know them."""
    if seconds < 55:
        return f"about {max(10, round(seconds, -1)):.0f} seconds on one core"
    minutes = round(seconds / 60)
    return f"about {'a minute' if minutes == 1 else f'{minutes} minutes'} on one core"


def renewed(project: Project) -> dict[Path, str]:
    """The chapters that do not say what was measured, as they should be."""
    measured = recorded_seconds(project)
    changed: dict[Path, str] = {}
    for chapter in project.chapters():
        text = chapter.read_text(encoding="utf-8")
        if chapter.stem in measured:
            new = RUNTIME.sub(in_words(measured[chapter.stem]), text, count=1)
            changed |= {} if new == text else {chapter: new}
    return changed


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=ROOT, help="the book's checkout")
    parser.add_argument("--recorded", action="store_true", help="measure nothing: only say what was measured before")
    options = parser.parse_args(arguments)
    project = Project.at(options.root)
    if not options.recorded:
        logging.getLogger("papermill").setLevel(logging.ERROR)
        with tempfile.TemporaryDirectory(prefix="times-") as build:
            seconds, failures = execute_book(Run(Project.at(options.root, Path(build)), "fast", None, jobs=1))
        if failures:
            print("\n\n".join(failures) + "\n\nnothing is recorded.", file=sys.stderr)
            return 1
        content = {
            "data_name": "the chapters, profile fast",
            "data_fingerprint": digest(project.chapters(), project.root)[:12],
            "commit": commit(project.root),
            "versions": versions(),
            "hardware": hardware(),
            "seconds": {name: round(took, 1) for name, took in sorted(seconds.items())},
        }
        write_record(project.root / SECONDS, content)
    for chapter, text in renewed(project).items():
        write_text(chapter, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
