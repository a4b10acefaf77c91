"""What the book's labels stand for: titles of pages, numbers as the site counts them, works that are cited."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from pybtex.database import Entry, parse_file
from pybtex.plugin import find_plugin

from tools.chapters import read_chapter
from tools.project import Project

LABELED = re.compile(r"^\((?P<label>[\w-]+)\)=\n(?=(?:\([\w-]+\)=\n)*\n*(?:#+ (?P<title>.+))?)", re.M)
TITLE = re.compile(r"^# (.+)$", re.M)
FORMULA = re.compile(r"\$\$(?P<formula>.+?)\$\$(?: \((?P<label>[\w-]+)\))?", re.S)
EXERCISE = re.compile(r"^`{3,}\{exercise(?:-start)?\} *(?P<title>.*)\n:label: *(?P<label>[\w-]+)", re.M)
NAMED_TABLE = re.compile(r"^`{3,}\{list-table\}.*\n(?::.*\n)*?:name: *(?P<label>[\w-]+)", re.M)
COUNTED = {"equation": "({})", "figure": "Fig. {}", "table": "Table {}", "exercise": "Exercise {}"}


@dataclass(frozen=True)
class Target:
    """What a label stands for.

    Attributes:
        page: the chapter or page that it is on.
        words: what a reference says: a title, `(5.1)`, `Fig. 5.1`, `Exercise 5.1`.
        body: the title of an exercise, or the formula of an equation.
    """

    page: str
    words: str
    body: str = ""


@dataclass
class Labels:
    """All labels of a book.

    Attributes:
        numbers: chapters of `_toc.yml` with their number, "" where they have none.
        titles: all pages with their titles.
    """

    numbers: dict[str, str]
    titles: dict[str, str] = field(default_factory=dict)
    targets: dict[str, Target] = field(default_factory=dict)
    works: dict[str, Entry] = field(default_factory=dict)

    @classmethod
    def of(cls, project: Project) -> Labels:
        """Read from all chapters and pages of a book, in the order of `_toc.yml`."""
        numbers = chapter_numbers(project.root / "_toc.yml")
        labels = cls(numbers)
        counts: Counter[tuple[str, str]] = Counter()
        for name, number in numbers.items():
            chapter, page = project.book / f"{name}.py", project.book / f"{name}.md"
            if chapter.exists() or page.exists():
                labels.read_page(name, number, texts(chapter if chapter.exists() else page), counts)
        bibliography = project.book / "references.bib"
        if bibliography.exists():
            labels.works.update(parse_file(str(bibliography)).entries)
        return labels

    def read_page(self, name: str, number: str, texts: Iterator[str], counts: Counter[tuple[str, str]]) -> None:
        """Add what one page defines; `counts` are of kinds, within one chapter or all unnumbered pages."""
        for text in texts:
            title = TITLE.search(text)
            if title:
                self.titles.setdefault(name, title[1])
            for match in LABELED.finditer(text):
                self.targets[match["label"]] = Target(name, match["title"] or self.titles.get(name, name))
            found = [(m.start(), "equation", m["label"], m["formula"].strip()) for m in FORMULA.finditer(text)]
            found += [(m.start(), "exercise", m["label"], m["title"]) for m in EXERCISE.finditer(text)]
            found += [(m.start(), "table", m["label"], "") for m in NAMED_TABLE.finditer(text)]
            found += [(0, "figure", text.removeprefix("figure:"), "")] if text.startswith("figure:") else []
            for _, kind, label, body in sorted(found, key=lambda entry: entry[0]):
                if label:
                    counts[kind, number] += 1
                    count = f"{number}.{counts[kind, number]}" if number else str(counts[kind, number])
                    self.targets[label] = Target(name, COUNTED[kind].format(count), body)

    def work(self, key: str) -> tuple[str, str]:
        """Author and year of a work: `Ba et al.`, `2016`."""
        entry = self.works[key]
        names = ["".join(str(part) for part in person.last_names).strip("{}") for person in entry.persons["author"]]
        authors = names[0] if len(names) == 1 else f"{names[0]} et al." if len(names) > 2 else " and ".join(names)
        return authors, entry.fields["year"]

    def full(self, key: str) -> str:
        """A work as a bibliography lists it, in plain text."""
        style, backend = (
            find_plugin("pybtex.style.formatting", "plain")(),
            find_plugin("pybtex.backends", "plaintext")(),
        )
        (formatted,) = style.format_entries([self.works[key]])
        text = " ".join(str(formatted.text.render(backend)).split())
        return re.sub(r"\\url (\S+?)(,? )", r"<\1>\2", text)


def texts(path: Path) -> Iterator[str]:
    """The Markdown of a page, cell by cell; of a cell with a figure, `figure:` and its label."""
    if path.suffix == ".md":
        yield path.read_text(encoding="utf-8")
        return
    for cell in read_chapter(path).cells:
        if cell.cell_type == "markdown":
            yield cell.source
        elif name := cell.metadata.get("mystnb", {}).get("figure", {}).get("name"):
            yield f"figure:{name}"


def chapter_numbers(toc: Path) -> dict[str, str]:
    """All pages of `_toc.yml` in order, each with its number: chapters of numbered parts are counted through."""
    content = yaml.safe_load(toc.read_text(encoding="utf-8"))
    found = {content["root"]: ""}
    count = 0
    for part in content.get("parts", [content]):
        for entry in part.get("chapters", []):
            count += bool(part.get("numbered"))
            found[entry["file"]] = str(count) if part.get("numbered") else ""
            found |= {section["file"]: "" for section in entry.get("sections", [])}
    return found
