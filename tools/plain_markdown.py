"""MyST as plain Markdown, which every notebook shows: boxes as quotes, references as words, numbers in place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tools.labels import Labels, Target
from tools.project import BookError
from tools.rewriting import Replacement, Rewriting

DIRECTIVE = re.compile(r"(?P<fence>`{3,}|:{3,})\{(?P<name>[\w:-]+)\} *(?P<title>.*)")
FENCE = re.compile(r"\s*(?P<fence>`{3,})[\w-]*")
OPTION = re.compile(r":[\w-]+:.*")
LABEL = re.compile(r"\([\w-]+\)=")
BOXES = {"admonition", "attention", "caution", "hint", "important", "note", "seealso", "tip", "warning"}
INLINE = re.compile(
    r"\{(?P<role>[a-z:]+)\}`(?P<text>[^`]+)`"
    r"|(?P<ticks>`+)(?!`)(?:.(?!(?P=ticks)))*.(?P=ticks)"
    r"|\$\$(?P<display>.+?)\$\$(?P<tail> \((?P<label>[\w-]+)\))?"
    r"|(?<!\\)\$(?P<math>[^$\n]+(?:\n[^$\n]+)*)\$"
    r"|\[\^(?P<note>[\w-]+)\](?P<definition>:)?",
    re.S,
)
WITH_TARGET = re.compile(r"(?P<words>.+?)\s*<(?P<target>[^>]+)>", re.S)
SPACE = re.compile(r"\s+")


@dataclass(frozen=True)
class Plain:
    """How texts of one chapter are written for a notebook outside the book.

    Attributes:
        page: the chapter.
        values: its recorded numbers, by name.
        notebooks: chapters that lie beside it, to which links can lead.
        unknown: what stands for a number that nobody has recorded; None where that is an error.
    """

    labels: Labels
    page: str
    values: Mapping[str, int | float | str] = field(default_factory=dict)
    notebooks: frozenset[str] = frozenset()
    unknown: str | None = None

    def text(self, markdown: str) -> str:
        return self.rewriting(markdown).text

    def rewriting(self, markdown: str) -> Rewriting:
        """The text with what stands in place of MyST.

        Raises:
            BookError: a directive, a role, a label or a number that is not known.
        """
        blocks = _Blocks(markdown, self)
        matches = [m for start, end in blocks.prose() for m in INLINE.finditer(markdown, start, end)]
        inline = {match: list(self._inline(match, blocks.quoted)) for match in matches}
        replaced = [match.span() for match, found in inline.items() if found]
        kept = [one for one in blocks.found if not any(low < one.start < high for low, high in replaced)]
        return Rewriting(markdown, [*kept, *(one for found in inline.values() for one in found)], blocks.quoted)

    def _inline(self, match: re.Match[str], quoted: list[tuple[int, int]]) -> Iterator[Replacement]:
        start, end = match.span()
        if match["role"]:
            yield Replacement(start, end, self.words(match["role"], match["text"]))
        elif match["note"]:
            yield Replacement(
                start, end, f"Note {match['note']}." if match["definition"] else f" (note {match['note']})"
            )
        elif match["display"] or match["math"]:
            if any(low <= start < high for low, high in quoted):  # a `>` inside a formula would be part of it
                for line in re.finditer(r"\n", match[0]):
                    yield Replacement(start + line.start(), start + line.end(), " ")
            if match["tail"]:
                number = self.target(match["label"]).words.strip("()")
                last = match["display"][-1]
                before, after = "" if last.isspace() else " ", "\n" if last == "\n" else " "
                yield Replacement(end - len(match["tail"]) - 2, end, f"{before}\\tag{{{number}}}{after}$$")

    def target(self, label: str) -> Target:
        if label not in self.labels.targets:
            raise BookError(f"{self.page}: nothing in the book has the label {label!r}")
        return self.labels.targets[label]

    def words(self, role: str, text: str) -> str:
        """What a role says."""
        text = SPACE.sub(" ", text)
        named = WITH_TARGET.fullmatch(text)
        words, label = (named["words"], named["target"]) if named else ("", text)
        if role in ("ref", "numref", "eq"):
            target = self.target(label)
            title = f" ({target.body})" if role == "ref" and target.words.startswith("Exercise") else ""
            return self.link(words or target.words + title, target.page)
        if role == "doc":
            title = self.labels.titles.get(label, label.replace("_", " ").capitalize())
            return self.link(words or title, label)
        if role == "glue:text":
            return self.number(text)
        if role in ("cite:t", "cite:p"):
            return self.cite([key.strip() for key in text.split(",")], role == "cite:p")
        if role == "term":
            return words or text
        raise BookError(f"{self.page}: no notebook can show the role {{{role}}}: say how in tools/plain_markdown.py")

    def link(self, words: str, page: str) -> str:
        """Words that lead to another chapter; to what is no notebook here they only point."""
        if page == self.page:
            return words
        return f"[{words}]({page}.ipynb)" if page in self.notebooks else f"*{words}*"

    def number(self, text: str) -> str:
        """A recorded number in its format, as the site writes it."""
        name, _, spec = text.partition(":")
        if name not in self.values:
            if self.unknown is not None:
                return self.unknown
            raise BookError(f"{self.page}: the text quotes {name!r}, which the executed chapter does not record")
        value = self.values[name]
        return re.sub(r"^-(?=[\d.])", "−", format(value, spec) if spec else str(value))

    def cite(self, keys: list[str], in_brackets: bool) -> str:
        for key in keys:
            if key not in self.labels.works:
                raise BookError(f"{self.page}: references.bib has no {key!r}")
        works = [self.labels.work(key) for key in keys]
        if in_brackets:
            return f"[{'; '.join(f'{authors}, {year}' for authors, year in works)}]"
        return ", ".join(f"{authors} [{year}]" for authors, year in works)

    def cited(self, markdown: str) -> list[str]:
        """Keys of the works that a text cites, in order."""
        found = [m["text"] for m in INLINE.finditer(markdown) if (m["role"] or "").startswith("cite")]
        return [key.strip() for text in found for key in text.split(",")]


class _Blocks:
    """The lines of a text: what stands for labels, boxes, tables and definitions.

    Attributes:
        found: replacements.
        quoted: stretches inside boxes.
        skipped: stretches in which nothing inside a line is replaced: code, and what is replaced as a whole.
    """

    def __init__(self, source: str, plain: Plain) -> None:
        self.source, self.plain = source, plain
        self.found: list[Replacement] = []
        self.quoted: list[tuple[int, int]] = []
        self.skipped: list[tuple[int, int]] = []
        self.lines = [(m.start(), m[0]) for m in re.finditer(r"[^\n]*(?:\n|$)", source) if m[0]]
        self.boxes: list[tuple[str, int]] = []  # fences of those that are open, and where their texts begin
        code = ""  # the fence of a block of code that we are in
        number = 0
        while number < len(self.lines):
            start, line = self.lines[number]
            text = line.rstrip("\n")
            end = start + len(text)
            number += 1
            directive, fence = DIRECTIVE.fullmatch(text), FENCE.fullmatch(text)
            if code:
                code = "" if text.strip() == code else code
                self._skip(start, end)
            elif self.boxes and text.strip() == self.boxes[-1][0]:
                self.quoted.append((self.boxes.pop()[1], start - 1))
                self._replace(start - 1, end, "")
            elif directive:
                number = self._directive(directive, start, number)
            elif fence:
                code = fence["fence"]
                self._skip(start, end)
            elif LABEL.fullmatch(text):
                self._replace(start, start + len(line), "")
            else:
                self._line(start, text, number)
        if self.boxes:
            raise BookError(f"{plain.page}: {self.boxes[-1][0]} is opened and never closed")

    def prose(self) -> Iterator[tuple[int, int]]:
        """Stretches in which roles and formulas are."""
        at = 0
        for start, end in [*self.skipped, (len(self.source), len(self.source))]:
            if at < start:
                yield at, start
            at = end

    def _replace(self, start: int, end: int, text: str) -> None:
        if start < end:
            self.skipped.append((start, end))
        self.found.append(Replacement(start, end, text))

    @property
    def mark(self) -> str:
        return "> " * len(self.boxes)

    def _skip(self, start: int, end: int) -> None:
        self.skipped.append((start, end + 1))
        if self.boxes:
            self.found.append(Replacement(start, start, self.mark))

    def _line(self, start: int, text: str, number: int) -> None:
        """A line of prose, with the number of the next."""
        following = self.lines[number][1] if number < len(self.lines) else ""
        heading = re.match(r"# ", text)
        mark = self.mark if text else self.mark.rstrip()
        if heading and self.plain.labels.numbers.get(self.plain.page):
            self.found.append(Replacement(start + 2, start + 2, f"{self.plain.labels.numbers[self.plain.page]}. "))
        elif text.startswith(": ") and number > 1 and self.lines[number - 2][1].strip():
            self.found.append(Replacement(start - 1, start + 2, "**: "))
            return
        elif following.startswith(": ") and text:
            mark += "- **"
        if mark:
            self.found.append(Replacement(start, start, mark))

    def _directive(self, directive: re.Match[str], start: int, number: int) -> int:
        """What stands for a directive that begins here; the number of the line after its head, or after all of it."""
        name, fence = directive["name"], directive["fence"]
        first = number
        while number < len(self.lines) and OPTION.fullmatch(self.lines[number][1].rstrip("\n")):
            number += 1
        if name in BOXES:
            title = self.plain.text(directive["title"]) or name.capitalize()
            after = self.lines[number][0] if number < len(self.lines) else len(self.source)
            outer = self.mark
            self._replace(start, after, f"{outer}> **{title}**\n{outer}>\n")
            self.boxes.append((fence, after))
            return number
        if name == "list-table":
            options = [line for _, line in self.lines[first:number]]
            while number < len(self.lines) and self.lines[number][1].rstrip("\n") != fence:
                number += 1
            body = "".join(line for _, line in self.lines[first + len(options) : number])
            end = self.lines[number][0] + len(fence) if number < len(self.lines) else len(self.source)
            self._replace(start, end, self._table(directive["title"], options, body))
            return number + 1
        raise BookError(
            f"{self.plain.page}: no notebook can show the directive {{{name}}}: say how in tools/plain_markdown.py"
        )

    def _table(self, title: str, options: list[str], body: str) -> str:
        """A `list-table` as a table of Markdown, with its caption above it."""
        rows = [
            [SPACE.sub(" ", cell).strip() for cell in re.split(r"^(?:\* | {2})-(?: |$)", row, flags=re.M)[1:]]
            for row in re.split(r"^(?=\* -)", body.strip("\n") + "\n", flags=re.M)
            if row.strip()
        ]
        label = next((line.split(":", 2)[2].strip() for line in options if line.startswith(":name:")), "")
        caption = f"**{self.plain.target(label).words}.** {title}" if label else f"**{title}**"
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        lines.insert(1, "|" + "---|" * len(rows[0]))
        return self.plain.text("\n".join([caption, "", *lines]))
