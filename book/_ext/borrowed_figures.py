"""A figure of another page: ``{borrowed-figure} fig-name`` shows what that page's code has drawn, and links there.

It is taken before the builder chooses among the forms of a figure, so it gets whatever the original gets.
"""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

LOGGER = logging.getLogger(__name__)


class Borrowed(nodes.General, nodes.Element):
    """Where the figure goes, once all pages are read."""


class BorrowedFigure(SphinxDirective):
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        node = Borrowed(label=self.arguments[0])
        self.set_source_info(node)
        return [node]


class Borrow(SphinxPostTransform):
    default_priority = 3  # MyST-NB chooses at 4

    def run(self, **settings: object) -> None:
        for node in list(self.document.findall(Borrowed)):
            node.replace_self(self.figure(node))

    def figure(self, node: Borrowed) -> list[nodes.Node]:
        """The figure under an id of this page, which has no number here; its caption ends with where it is from."""
        label = node["label"]
        docname, anchor, _ = self.env.get_domain("std").labels.get(label, ("", "", ""))  # type: ignore[attr-defined]
        doctree = self.env.get_doctree(docname) if docname else nodes.Element()
        for original in doctree.findall(nodes.figure):
            if anchor in original["ids"]:
                figure = original.deepcopy()
                figure["ids"], figure["names"] = [f"borrowed-{anchor}"], []
                address = f"{self.app.builder.get_relative_uri(self.env.docname, docname)}#{anchor}"
                title = self.env.titles[docname].astext()
                link = nodes.reference("", title, internal=True, refuri=address)
                next(iter(figure.findall(nodes.caption))).extend([nodes.Text(" From "), link, nodes.Text(".")])
                return [figure]
        LOGGER.warning("no page has a figure named %s", label, location=node)
        return []


def setup(app: Sphinx) -> dict[str, object]:
    app.add_node(Borrowed)
    app.add_directive("borrowed-figure", BorrowedFigure)
    app.add_post_transform(Borrow)
    return {"parallel_read_safe": True, "parallel_write_safe": True, "version": "1"}
