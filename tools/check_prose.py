"""Check chapters and pages: no metric typed by hand, every figure described, American spelling."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jupytext

from tools.project import ROOT, Project

ALT_MINIMUM = 20

# Where a number or a word is not prose; blanked out, so that lines keep their numbers.
NOT_PROSE = (
    re.compile(r"\$\$.*?\$\$", re.S),
    re.compile(r"(?<!\$)\$[^$\n]+\$"),
    re.compile(r"\{[\w:-]+\}`[^`]*`"),  # roles: glue, cite, math, eq, ref
    re.compile(r"`+[^`]*`+"),
    re.compile(r"\bhttps?://\S+"),
    re.compile(r"\]\([^)]*\)"),
    re.compile(r"<!--.*?-->", re.S),
    re.compile(r"\bPython \d\.\d+(?:(?:,| or| to|, or) \d\.\d+)*"),
)
FENCE = re.compile(r"\s*(`{3,}|:{3,}|~{3,})\s*(.*)")
PROSE_DIRECTIVE = re.compile(
    r"\{(admonition|note|tip|warning|important|seealso|hint|caution|attention|dropdown|exercise|solution|margin"
    r"|sidebar|figure|table|list-table|card|grid|grid-item|grid-item-card|tab-set|tab-item|prf:\w+)\}"
)
DECIMAL = re.compile(r"\d+\.\d{2,}")
PERCENTAGE = re.compile(r"\d+(\.\d+)?\s?%")
METRIC_WORD = re.compile(
    r"\b(AUC|accura|loss|precision|recall|NDCG|error|faster|slower|speed|better|worse|gain|improve|win)", re.I
)
FROM_THE_PAPER = re.compile(r"\{cite|\bpaper\b|\btables?\s*\d", re.I)

BRITISH = {
    "behaviour": "behavior",
    "colour": "color",
    "favour": "favor",
    "neighbour": "neighbor",
    "labelled": "labeled",
    "modelling": "modeling",
    "modelled": "modeled",
    "normalis": "normaliz",
    "optimis": "optimiz",
    "initialis": "initializ",
    "regularis": "regulariz",
    "generalis": "generaliz",
    "visualis": "visualiz",
    "vectoris": "vectoriz",
    "summaris": "summariz",
    "analyse": "analyze",
    "centre": "center",
    "catalogue": "catalog",
    "licence": "license",
}


# One spelling for each term of the field; what is in code, roles and links is not looked at.
TERMS = {
    r"mini ?batch": "mini-batch",
    r"self attention": "self-attention",
    r"pairwise": "pair-wise",
    r"pointwise": "point-wise",
    r"multitask": "multi-task",
    r"datasets?": "data set",
    r"time[ -]stamps?": "timestamp",
    r"look-up": "lookup",
    r"feed-forward": "feedforward",
    r"hyper-parameters?": "hyperparameter",
    r"one hot": "one-hot",
    r"heatmaps?": "heat map",
    r"soft-max": "softmax",
    r"layer-norm": "layer norm",
    r"drop-out": "dropout",
    r"cold-start": "cold start",
    r"non-linear": "nonlinear",
    r"Pytorch|pytorch": "PyTorch",
    r"ATrank|AtRank|Atrank": "ATRank",
}


@dataclass(frozen=True)
class Finding:
    """One thing to mend, and where."""

    place: Path
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.place}:{self.line}: {self.message}"


COLOR_NAME = re.compile(
    r"\b(red|green|blue|orange|violet|purple|pink|brown|yellow|gr[ae]y|black|white|dark(?:er)?|light(?:er)?|pale|bright|colored)\b",
    re.I,
)
# How a caption tells the eye what to do, at the beginning of a sentence or of a part of one.
LOOKING = re.compile(r"(?:^|[.:;?)] )(Compare|Count|Find|Follow|Look|Notice|Read|See|Watch)\b|[:;] (follow|look|see)\b")
ABOUT_COLORS = {"fig-colors"}  # their colors are the same in both modes


def blank(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", match.group())


def without_fences(markdown: str) -> str:
    """The text with code blocks and math directives blanked out, but not what notes and exercises say."""
    fences: list[tuple[str, bool]] = []  # of each open block: its fence, and whether it holds prose
    lines = []
    for line in markdown.split("\n"):
        match = FENCE.match(line)
        if match and fences and not match[2] and match[1].startswith(fences[-1][0]):
            fences.pop()
            line = ""
        elif match and all(prose for _, prose in fences):
            fences.append((match[1], bool(PROSE_DIRECTIVE.match(match[2]))))
            line = ""
        lines.append(line if all(prose for _, prose in fences) else "")
    return "\n".join(lines)


def prose_only(markdown: str) -> str:
    """The text with code, math, roles and links blanked out, line for line."""
    text = without_fences(markdown)
    for pattern in NOT_PROSE:
        text = pattern.sub(blank, text)
    return text


def check_metrics(markdown: str) -> Iterator[tuple[int, str]]:
    """Decimals, and percentages beside the name of a metric, on lines that do not speak of the paper."""
    original = markdown.split("\n")
    for number, line in enumerate(prose_only(markdown).split("\n"), start=1):
        found = DECIMAL.search(line) or (PERCENTAGE.search(line) if METRIC_WORD.search(line) else None)
        if found and not FROM_THE_PAPER.search(original[number - 1]):
            yield (
                number,
                f"{found[0]!r} is typed by hand: record it with claim() and quote it with {{glue:text}}",
            )


def check_spelling(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(prose_only(text).split("\n"), start=1):
        for british, american in BRITISH.items():
            if re.search(rf"\b\w*{british}", line, re.I):
                yield number, f"{british!r} is British: write {american!r}"


def check_terms(markdown: str) -> Iterator[tuple[int, str]]:
    """Terms in another spelling than the one that the book uses."""
    for number, line in enumerate(prose_only(markdown).split("\n"), start=1):
        for variant, term in TERMS.items():
            if found := re.search(rf"(?<![\w./-])({variant})(?!\w|[./-]\w)", line):
                yield number, f"{found[0]!r} is another spelling of a term: write {term!r}"


def check_alt(alt: str | None, name: str) -> str | None:
    """What is wrong with a figure's alternative text, if anything."""
    if not alt or not alt.strip():
        return f"{name} has no alt text: say what it shows"
    if re.fullmatch(r"\S+\.(png|svg|jpe?g|gif)", alt.strip(), re.I):
        return f"{name} has a file name for alt text: say what it shows"
    if len(alt.strip()) < ALT_MINIMUM:
        return f"{name} has an alt text of {len(alt.strip())} characters, {alt!r}: say what it shows"
    return None


def check_markdown_images(text: str) -> Iterator[tuple[int, str]]:
    """`![alt](file)`, and the directives figure and image with their :alt: option."""
    lines = text.splitlines()
    for number, line in enumerate(lines, start=1):
        for alt, target in re.findall(r"!\[([^\]]*)\]\(([^)\s]+)", line):
            if complaint := check_alt(alt, f"image {target}"):
                yield number, complaint
        if directive := re.match(r"\s*(?:`{3,}|:{3,})\{(figure|image)\}\s*(\S*)", line):
            body = "\n".join(lines[number : number + 8])
            option = re.search(r"^\s*:?alt:\s*(.+)$", body, re.M)
            if complaint := check_alt(option and option.group(1), f"{directive.group(1)} {directive.group(2)}"):
                yield number, complaint


def check_page(path: Path) -> Iterator[tuple[int, str]]:
    text = path.read_text()
    yield from check_metrics(text)
    yield from check_spelling(text)
    yield from check_terms(text)
    yield from check_markdown_images(text)


def check_chapter(path: Path) -> Iterator[tuple[int, str]]:
    """As for a page, over the Markdown cells; a cell that draws has a caption, a name and an alt text."""
    source = path.read_text()
    yield from check_spelling(source)
    start = 0
    for cell in jupytext.reads(source, fmt="py:percent").cells:
        if cell.cell_type == "markdown":
            lines = [f"# {line}".rstrip() for line in cell.source.splitlines()]
            start = max(source.find("\n".join(lines), start), start)
            above = source.count("\n", 0, start)
            for check in (check_metrics, check_terms, check_markdown_images):
                for number, message in check(cell.source):
                    yield above + number, message
            continue
        start = max(source.find(cell.source, start), start)
        line = source.count("\n", 0, start) + 1
        start += len(cell.source)
        if "remove-cell" in cell.metadata.get("tags", []) or "remove-output" in cell.metadata.get("tags", []):
            continue
        settings = cell.metadata.get("mystnb", {})
        draws = re.search(r"\b(plt\.(subplots|figure|show)|subplot_mosaic)\(", cell.source)
        if draws or "figure" in settings:
            for key in ("caption", "name"):
                if not settings.get("figure", {}).get(key):
                    yield (
                        line,
                        f"a figure without a {key}: give the cell mystnb={{'figure': {{'{key}': ...}}}}",
                    )
            caption = str(settings.get("figure", {}).get("caption", ""))
            if caption and not LOOKING.search(caption):
                yield line, "a caption that does not say what to see: Look at ..., Compare ..., Follow ..."
            alt = settings.get("image", {}).get("alt")
            if complaint := check_alt(alt, "figure"):
                yield line, complaint
            figure = settings.get("figure", {})
            if figure.get("name") not in ABOUT_COLORS:
                for found in COLOR_NAME.findall(f"{figure.get('caption')} {alt}"):
                    yield line, f"{found!r} is another color in the dark, and none to some readers: name shape or place"


def check_book(project: Project) -> list[Finding]:
    """All findings over chapters and pages, in order."""
    findings = []
    for path in [*project.chapters(), *sorted(project.book.glob("*.md"))]:
        check = check_chapter if path.suffix == ".py" else check_page
        place = path.relative_to(project.root)
        findings += [Finding(place, line, message) for line, message in sorted(check(path))]
    return findings


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT, help="the book's checkout")
    findings = check_book(Project.at(parser.parse_args().root))
    for finding in findings:
        print(finding, file=sys.stderr)
    print(f"{len(findings)} to mend" if findings else "nothing to mend")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
