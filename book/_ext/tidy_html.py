"""Mends what Sphinx, MyST-NB, pandas and their extensions write into pages, where a checker objects with reason."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from xml.etree import ElementTree

from sphinx.application import Sphinx

MENDED = (
    # A summary may hold phrases only, and its label must say what is seen.
    (re.compile(r'<summary aria-label="Toggle hidden content">'), "<summary>"),
    (re.compile(r'<summary>(?=<span class="toctree-toggle")'), '<summary aria-label="Pages inside">'),
    (re.compile(r'<p class="((?:collapsed|expanded) admonition-title)">(.*?)</p>'), r'<span class="\1">\2</span>'),
    # A number from the run of a chapter has a minus, no hyphen.
    (re.compile(r'(<span class="pasted-text">)-(?=[\d.])'), r"\1−"),
    # The corner of a table heads no column.
    (re.compile(r"<th(?: class=\"head\")?>(?:<p></p>)?</th>"), "<td></td>"),
    # Parameters of a long signature: a list of definitions that define nothing, inside a term.
    (re.compile(r'<dd>(<em class="sig-param">.*?)</dd>', re.S), r'<span class="sig-line">\1</span>'),
    (re.compile(r'<dl>\n(?=<span class="sig-line">)'), '<span class="sig-lines">'),
    (re.compile(r'(?<=</span>)\n</dl>(?=\s*<span class="sig-paren">)'), "</span>"),
    # sphinx-exercise: the same id in every exercise; nothing points to it.
    (re.compile(r' id="(?:exercise|solution)-content"'), ""),
    # A bibliography is a list of entries; the role that docutils gives them is deprecated.
    (re.compile(r'role="doc-biblioentry"'), 'role="listitem"'),
)


IMAGE = re.compile(r'<img (?![^>]*\bwidth=)([^>]*\bsrc="(_images/[^":]+\.(?:png|svg))"[^>]*)>')
POINT = 4 / 3  # pixels


def size_of(path: Path) -> tuple[int, int]:
    """Width and height of a figure as matplotlib writes it, in pixels."""
    if path.suffix == ".png":
        return struct.unpack(">II", path.read_bytes()[16:24])
    found = ElementTree.parse(path).getroot()
    width, height = (round(float(found.attrib[side].removesuffix("pt")) * POINT) for side in ("width", "height"))
    return width, height


def with_sizes(page: str, folder: Path) -> str:
    """Give each figure its width and height, so that the page does not jump when it comes."""

    def sized(match: re.Match[str]) -> str:
        width, height = size_of(folder / match[2])
        return f'<img width="{width}" height="{height}" {match[1]}>'

    return IMAGE.sub(sized, page)


STYLE = re.compile(r'<style type="text/css">.*?</style>', re.S)


def tidy(page: str) -> str:
    for pattern, replacement in MENDED:
        page = pattern.sub(replacement, page)
    # A styled table of pandas brings its style sheet along: to the head with it.
    head, mark, body = page.partition("</head>")
    return head + "".join(STYLE.findall(body)) + mark + STYLE.sub("", body)


def tidy_pages(app: Sphinx, exception: Exception | None) -> None:
    if exception or app.builder.name not in ("html", "epub"):
        return
    for path in sorted(Path(app.outdir).glob(f"*{app.builder.out_suffix}")):  # type: ignore[attr-defined]
        path.write_text(with_sizes(tidy(path.read_text()), path.parent))


def setup(app: Sphinx) -> dict[str, object]:
    app.connect("build-finished", tidy_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True, "version": "1"}
