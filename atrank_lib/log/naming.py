"""Names that any text can have."""

from __future__ import annotations


def key(name: str) -> str:
    """Name of a group's, feature's or vocabulary's module: any text, where ``nn.ModuleDict`` forbids dots and the
    names of its own attributes (``items``, ``type``).

    >>> key("v1.items")
    '[v1/items]'
    """
    return "[" + name.replace("%", "%25").replace("/", "%2F").replace(".", "/") + "]"
