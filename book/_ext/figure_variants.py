"""Puts each figure into the page four times, wide and narrow, light and dark: a browser loads the one it shows.

A chapter's notebook holds a figure wide and narrow, in the colors on light (atrank_book.narrow). Here the dark ones
are made from these, and the image of the page becomes two pictures, of which book.css shows one.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from atrank_book.colors import in_the_dark
from atrank_book.narrow import NARROW

IMAGE = re.compile(r'<img [^>]*\bsrc="_images/([0-9a-f]+)\.svg"[^>]*>')
PHONE = "(max-width: 600px)"
POINT = 4 / 3  # pixels


def drawings(notebook: Path) -> dict[str, str]:
    """The narrow drawing of each wide one that an executed notebook shows."""
    cells = json.loads(notebook.read_text())["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", []) if NARROW in output.get("metadata", {})]
    return {"".join(o["data"]["image/svg+xml"]).strip(): "".join(o["metadata"][NARROW]) for o in outputs}


def size_of(svg: str) -> str:
    """Width and height of a drawing of matplotlib's, in pixels, as attributes."""
    found = ElementTree.fromstring(svg)
    width, height = (round(float(found.attrib[side].removesuffix("pt")) * POINT) for side in ("width", "height"))
    return f'width="{width}" height="{height}"'


def variants(image: str, name: str, wide: str, narrow: str, folder: Path) -> str:
    """Write the variants of one figure; return what takes the place of its <img>."""
    files = {"": wide, "-narrow": narrow, "-dark": in_the_dark(wide), "-narrow-dark": in_the_dark(narrow)}
    for suffix, svg in files.items():
        (folder / f"{name}{suffix}.svg").write_text(svg)
    alt = re.search(r'\balt="([^"]*)"', image)
    pictures = "".join(
        f'<picture class="figure-{mode}">'
        f'<source media="{PHONE}" srcset="_images/{name}-narrow{suffix}.svg" {size_of(narrow)}>'
        f'<img src="_images/{name}{suffix}.svg" alt="{alt[1] if alt else ""}" {size_of(wide)} loading="lazy"></picture>'
        for mode, suffix in (("light", ""), ("dark", "-dark"))
    )
    return f'<a class="figure-larger" href="_images/{name}.svg" title="Enlarge">{pictures}</a>'


def vary(app: Sphinx, exception: Exception | None) -> None:
    if exception or app.builder.name != "html":
        return
    folder = Path(app.outdir) / "_images"
    narrow = {wide: svg for path in sorted(Path(app.srcdir).glob("*.ipynb")) for wide, svg in drawings(path).items()}
    for page in sorted(Path(app.outdir).glob("*.html")):  # also one that borrows a figure from another

        def varied(match: re.Match[str], place: str = page.stem) -> str:
            wide = (folder / f"{match[1]}.svg").read_text()
            if wide.strip() not in narrow:  # drawn without the book's style: as it is
                return match[0]
            try:
                return variants(match[0], match[1], wide, narrow[wide.strip()], folder)
            except ValueError as error:
                raise ExtensionError(f"{place}: {match[0]}: {error}") from error

        text = page.read_text()
        if "_images/" in text:
            page.write_text(IMAGE.sub(varied, text))


def setup(app: Sphinx) -> dict[str, object]:
    app.connect("build-finished", vary, priority=400)  # before tidy_html
    return {"parallel_read_safe": True, "parallel_write_safe": True, "version": "1"}
