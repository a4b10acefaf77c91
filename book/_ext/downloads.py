"""What a page offers to take away: its notebook, its text as Python, and a print; the whole book; the code."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

BOOK = Path(__file__).resolve().parents[1]
WHOLE_BOOK = {  # what `make book-all` makes, in the folder `downloads` of the site
    "attention-over-behaviors.pdf": "PDF, to print or to annotate",
    "attention-over-behaviors-solutions.pdf": "PDF of the solutions to its exercises",
    "attention-over-behaviors.epub": "EPUB, for an e-book reader",
    "attention-over-behaviors.zip": "ZIP, these pages, the notebooks and their sources",
}

# Where the code is: in a repository that is configured, in the ZIP of a site that has one, or where it was built.
REPOSITORY = (
    "Library, chapters and recorded results are at [{name}]({url}).",
    "git clone {url}\ncd {folder}\n",
)
ARCHIVE = (
    'Library, chapters and recorded results are in <a href="downloads/attention-over-behaviors.zip" download>this '
    "site's ZIP</a>. Unpack it; in its folder:",
    "",
)
CHECKOUT = ("Library, chapters and recorded results are in the folder from which this site was built. There:", "")
CODE_BOX = """{place}

```bash
{commands}# the library
pip install .
# and the chapters
pip install ".[book]"
# which JupyterLab opens
make lab
```

Python 3.11 to 3.14 will do, and no GPU. `make lab` makes an environment of its own."""


class CodeBox(SphinxDirective):
    """Where the code is and how to get it, in the same words on every page that says so."""

    def run(self) -> list[nodes.Node]:
        url = self.config.html_theme_options.get("repository_url", "")
        place, commands = REPOSITORY if url else ARCHIVE if self.config.whole_book else CHECKOUT
        owner, _, folder = "/".join(url.split("/")[-2:]).partition("/")
        names = {"url": url, "name": f"{owner}/{folder}", "folder": folder}
        text = CODE_BOX.format(place=place.format(**names), commands=commands.format(**names))
        box = nodes.admonition("", nodes.title("", "The code"), classes=["code-box"])
        box += self.parse_text_to_nodes(text)
        return [box]


class WholeBook(SphinxDirective):
    """The files of the whole book, in a site that has them."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        if not self.config.whole_book:
            return self.parse_content_to_nodes()
        entries = [f'<li><a href="downloads/{name}" download>{what}</a></li>' for name, what in WHOLE_BOOK.items()]
        return [nodes.raw("", f'<ul class="whole-book">{"".join(entries)}</ul>', format="html")]


def add_python(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: object) -> None:
    """Offer the chapter as Python too, and say in words what each entry of the menu is."""
    source = BOOK / f"{pagename}.py"
    for group in context.get("header_buttons", []):
        if group.get("label") != "download-buttons":
            continue
        for button in group["buttons"]:
            button["text"] = {".ipynb": "Notebook (.ipynb)", ".pdf": "Print or PDF", ".md": "Text (.md)"}.get(
                button["text"], button["text"]
            )
        if source.exists():
            python = {
                "type": "link",
                "url": f"{context['pathto']('_sources', 1)}/{pagename}.py",
                "text": "Python (.py)",
                "tooltip": "Download as Python",
                "icon": "fas fa-file",
                "label": "download-python-button",
            }
            group["buttons"].insert(1, python)


def copy_python(app: Sphinx, exception: Exception | None) -> None:
    if exception or app.builder.name != "html":
        return
    for docname in sorted(app.env.found_docs):
        if (BOOK / f"{docname}.py").exists():
            shutil.copyfile(BOOK / f"{docname}.py", Path(app.outdir) / "_sources" / f"{docname}.py")


def setup(app: Sphinx) -> dict[str, object]:
    app.add_config_value("whole_book", False, "html")
    app.add_directive("code-box", CodeBox)
    app.add_directive("whole-book", WholeBook)
    app.connect("html-page-context", add_python, priority=900)
    app.connect("build-finished", copy_python)
    return {"parallel_read_safe": True, "parallel_write_safe": True, "version": "1"}
