"""MyST as plain Markdown, for notebooks that leave the book: references become words, formulas come along."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

EQUATION = re.compile(r"\$\$(?P<formula>(?:[^$]|\$(?!\$))+)\$\$ \((?P<label>eq-[\w-]+)\)")
ANCHORED_TITLE = re.compile(r"^\((?P<label>[\w-]+)\)=\n#+ (?P<title>.+)$", re.M)
ROLE = re.compile(r"\{(?P<role>[\w:]+)\}`(?P<text>[^`]+)`")
WITH_TARGET = re.compile(r"(?P<words>.+?)\s*<(?P<target>[^>]+)>", re.S)
NOTE = re.compile(
    r"^```\{(?P<kind>admonition|important|note|tip|warning)\} ?(?P<title>.*)\n(?P<body>(?:.*\n)*?)```$", re.M
)


@dataclass(frozen=True)
class Labels:
    """What the book's labels stand for: titles of chapters and pages, and formulas of equations."""

    titles: dict[str, str]
    equations: dict[str, str]

    @classmethod
    def of(cls, book: Path) -> Labels:
        """Read from all chapters and pages of a folder."""
        titles, equations = {}, {}
        for path in sorted([*book.glob("*.py"), *book.glob("*.md")]):
            text = path.read_text(encoding="utf-8")
            if path.suffix == ".py":
                text = re.sub(r"^# ?", "", text, flags=re.M)
            for match in ANCHORED_TITLE.finditer(text):
                titles[match["label"]] = match["title"]
            for match in EQUATION.finditer(text):
                equations[match["label"]] = match["formula"].strip()
            first = re.search(r"^# (.+)$", text, re.M)
            titles.setdefault(path.stem, first[1] if first else path.stem)
        return cls(titles, equations)

    def words(self, match: re.Match[str]) -> str:
        """What a role says without the book around it."""
        role, text = match["role"], match["text"]
        named = WITH_TARGET.fullmatch(text)
        if named:
            return named["words"]
        if role == "eq":
            return f"equation ({text})"
        if role in ("ref", "doc"):
            return f"*{self.titles.get(text, text)}*"
        if role == "numref":
            return f"figure `{text}`"
        if role == "glue:text":
            return f"`{text.split(':')[0]}`"  # the name under which the chapter records the number
        return f"[{text}]" if role.startswith("cite") else text

    def plain(self, markdown: str, with_equations: bool = False) -> str:
        """Markdown that any notebook shows.

        Args:
            with_equations: add the formulas that the text refers to and does not hold.
        """
        labels = [match["text"] for match in ROLE.finditer(markdown) if match["role"] == "eq"]
        here = {match["label"] for match in EQUATION.finditer(markdown)}
        text = re.sub(r"^\([\w-]+\)=\n", "", markdown, flags=re.M)
        text = NOTE.sub(_quoted, text)
        text = EQUATION.sub(lambda m: _tagged(m["formula"].strip(), m["label"]), text)
        text = ROLE.sub(self.words, text)
        if with_equations:
            missing = [label for label in dict.fromkeys(labels) if label in self.equations and label not in here]
            text = "\n\n".join([text, *(_tagged(self.equations[label], label) for label in missing)])
        return text


def _tagged(formula: str, label: str) -> str:
    return f"$$\n{formula} \\tag{{{label}}}\n$$"


def _quoted(match: re.Match[str]) -> str:
    title = match["title"] or match["kind"].capitalize()
    lines = [f"**{title}**", "", *match["body"].rstrip("\n").splitlines()]
    return "\n".join(f"> {line}".rstrip() for line in lines)
