"""The icons that pages show, a few hundred bytes each, in the place of all of Font Awesome, which is 1.5 MB a page.

The theme loads a script that turns `<i class="fa-solid fa-bars">` into a drawing, and a style sheet with a rule for
each of two thousand icons. Here the drawings that occur are cut out of that script into `_static/icons.css`.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from urllib.parse import quote

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

USED = re.compile(r'class="[^"]*\bfa[srb]?(?:-solid|-brands|-regular)? (?:[\w-]+ )*?fa-(?!lg\b)([\w-]+)')
BY_SCRIPTS = ("xmark",)  # what the theme's own scripts put into a page
SCRIPT_TAG = re.compile(r'\s*<script defer src="_static/scripts/fontawesome\.js[^"]*"></script>')
RULE = re.compile(r"(?<=[}/])(?:\.fa-[\w-]+(?:::?before)?,?)+\{[^{}]*\}")
FONT = re.compile(r"@font-face\{[^{}]*Font Awesome[^{}]*\}")
LOOK = """:is(.fa, .fas, .far, .fab, .fa-solid, .fa-regular, .fa-brands)::before { content: none; }
:is(.fa, .fas, .far, .fab, .fa-solid, .fa-regular, .fa-brands) {
  background: currentColor;
  forced-color-adjust: preserve-parent-color;
  height: 1em;
  mask: var(--icon) center / contain no-repeat;
  vertical-align: -0.125em;
  width: 1.125em;
}
.fa-lg { font-size: 1.25em; vertical-align: -0.075em; }
"""


def drawing(script: str, name: str) -> str:
    """An icon as the address of an SVG."""
    found = re.search(rf'[{{,]"?{re.escape(name)}"?:\[(\d+),(\d+),\[[^\]]*\],"\w+","([^"]+)"\]', script)
    if found is None:
        raise ExtensionError(f"no icon {name!r} in the theme's fontawesome.js: book/_ext/icons.py must follow it")
    width, height, path = found.groups()
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"><path d="{path}"/></svg>'
    return f"url('data:image/svg+xml,{quote(svg, safe=' =:/')}')"


def cut_icons(app: Sphinx, exception: Exception | None) -> None:
    if exception or app.builder.name != "html":
        return
    static = Path(app.outdir) / "_static"
    pages = sorted(Path(app.outdir).glob("*.html"))
    texts = {path: path.read_text() for path in pages}
    names = sorted({*BY_SCRIPTS, *(name for text in texts.values() for name in USED.findall(text))})
    script = (static / "scripts" / "fontawesome.js").read_text()
    rules = [f".fa-{name} {{ --icon: {drawing(script, name)}; }}\n" for name in names]
    (static / "icons.css").write_text("".join(rules) + LOOK)
    for path, text in texts.items():
        path.write_text(SCRIPT_TAG.sub("", text))
    theme = static / "styles" / "pydata-sphinx-theme.css"
    theme.write_text(FONT.sub("", RULE.sub("", theme.read_text())))
    shutil.rmtree(static / "vendor" / "fontawesome")
    for name in ("fontawesome.js", "fontawesome.js.LICENSE.txt"):
        (static / "scripts" / name).unlink(missing_ok=True)
    for path in static.rglob("*.map"):  # for who debugs the theme
        path.unlink()


def add_style(app: Sphinx) -> None:
    if app.builder.name == "html":
        app.add_css_file("icons.css", priority=900)


def setup(app: Sphinx) -> dict[str, object]:
    app.connect("builder-inited", add_style)
    app.connect("build-finished", cut_icons, priority=950)
    return {"parallel_read_safe": True, "parallel_write_safe": True, "version": "1"}
