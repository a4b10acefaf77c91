"""Everything the site needs lies in the site: no page asks another host for anything."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

# Files of _static, and the element that a page must hold to need them.
NEEDED_FOR = {
    "live_model.js": 'id="atrank-live"',
    "live_tour.js": 'id="atrank-live"',
    "play.js": 'class="play"',
    "play.css": 'class="play"',
}


def copy_mathjax(app: Sphinx) -> None:
    """Copy MathJax 3 (Apache-2.0), one file that draws SVG and needs no fonts."""
    if app.builder.format != "html":
        return
    spec = importlib.util.find_spec("sphinx-mathjax-offline")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("sphinx-mathjax-offline is not installed: formulas would need another host")
    target = Path(app.outdir) / "_static" / "mathjax"
    target.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(Path(spec.origin).parent / "static" / "mathjax" / "tex-svg.js", target / "tex-svg.js")


def drop_thebe(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: object) -> None:
    """Take out the live-code client that the theme brings along: it would fetch itself from another host."""
    for kind in ("script_files", "css_files"):
        context[kind][:] = [item for item in context.get(kind, []) if not mentions(item, "thebe")]


def drop_scripts(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: object) -> None:
    """Jupyter Book gives every page every file of `_static`; some have a use only where there is such an element."""
    written = [node.astext() for node in doctree.findall(nodes.raw)] if isinstance(doctree, nodes.document) else []
    for file, element in NEEDED_FOR.items():
        if not any(element in html for html in written):
            for kind in ("script_files", "css_files"):
                assets = context.get(kind, [])
                assets[:] = [item for item in assets if file not in str(getattr(item, "filename", item))]


def drop_mathjax(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: object) -> None:
    """Sphinx gives MathJax, two megabytes, also to a page that only lists pages with formulas, as the cover does."""
    if not isinstance(doctree, nodes.document) or any(doctree.findall(is_formula)):
        return
    scripts = context.get("script_files", [])
    scripts[:] = [item for item in scripts if not mentions(item, "mathjax")]


def is_formula(node: nodes.Node) -> bool:
    return isinstance(node, nodes.math | nodes.math_block)


def mentions(asset: object, word: str) -> bool:
    return word in f"{getattr(asset, 'filename', asset)} {getattr(asset, 'attributes', {}).get('body', '')}".lower()


def setup(app: Sphinx) -> dict[str, object]:
    app.connect("builder-inited", copy_mathjax)
    app.connect("html-page-context", drop_thebe, priority=900)
    app.connect("html-page-context", drop_scripts, priority=900)
    app.connect("html-page-context", drop_mathjax, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True, "version": "1"}
