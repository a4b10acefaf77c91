"""The API reference: pydantic models list their fields, with what may be in them, instead of a signature of types,
and a class as a default goes by its name."""

from __future__ import annotations

import inspect
import re
from typing import Any

from docutils import nodes
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


def is_model(found: object) -> bool:
    return isinstance(found, type) and issubclass(found, BaseModel)


def readable(
    app: Sphinx, what: str, name: str, found: Any, options: object, signature: str | None, returned: str | None
) -> tuple[str, str | None] | None:
    """A model's arguments are its fields, which follow. ``<class 'a.B'>`` is no Python, so Sphinx would leave the
    whole signature as it is, with full names that do not break."""
    if is_model(found):
        return "(**fields)", None
    return (re.sub(r"<class '[\w.]*?(\w+)'>", r"\1", signature), returned) if signature else None


def with_fields(app: Sphinx, what: str, name: str, found: Any, options: object, lines: list[str]) -> None:
    """One entry a field: its description, default and limits."""
    if not is_model(found):
        return
    own = {field: info for field, info in found.model_fields.items() if field in found.__annotations__}
    entries = []
    for field, info in own.items():
        choices = getattr(info.annotation, "__args__", ()) if "Literal" in str(info.annotation) else ()
        told = [info.description] if info.description else []
        if choices and all(isinstance(choice, str) for choice in choices):
            told.append("one of " + ", ".join(f"``{choice!r}``" for choice in choices))
        told.append("required" if info.default is PydanticUndefined else f"by default ``{info.default!r}``")
        entries.append(f":param {field}: {'; '.join(told)}")
    if entries:
        lines += ["", *entries, ""]


class Names(SphinxDirective):
    """What ``from atrank_lib import ...`` gives: each name, linked, with the first sentence of its docstring."""

    def run(self) -> list[nodes.Node]:
        import atrank_lib  # here: it takes seconds to load, and a book may have no such page

        lines = []
        for name in sorted(atrank_lib.__all__, key=str.lower):
            found = getattr(atrank_lib, name)
            if isinstance(found, dict):
                lines.append(f"- ``{name}``: by name, {', '.join(f'``{choice!r}``' for choice in found)}")
                continue
            first = " ".join((inspect.getdoc(found) or "").split("\n\n")[0].split())
            lines.append(f"- :py:obj:`{name} <{found.__module__}.{name}>`: {first}")
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app: Sphinx) -> dict[str, object]:
    app.add_directive("api-names", Names)
    app.connect("autodoc-process-signature", readable)
    app.connect("autodoc-process-docstring", with_fields)
    return {"parallel_read_safe": True, "parallel_write_safe": True, "version": "1"}
