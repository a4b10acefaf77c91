"""Single lines of a Stack Exchange dump, as the parsing processes read them: ids, times, tags and names of badges."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from xml.parsers import expat

# the attributes that are read of every table, and what they hold; ! where a row must have it
COLUMNS: dict[str, dict[str, str]] = {
    "Posts": {
        "Id": "!int",
        "PostTypeId": "!int",
        "ParentId": "int",
        "CreationDate": "!time",
        "OwnerUserId": "int",
        "Tags": "tags",
    },
    "Comments": {"Id": "!int", "PostId": "!int", "CreationDate": "!time", "UserId": "int"},
    "PostHistory": {
        "Id": "!int",
        "PostHistoryTypeId": "!int",
        "PostId": "!int",
        "CreationDate": "!time",
        "UserId": "int",
    },
    "Badges": {"Id": "!int", "UserId": "int", "Name": "!text", "Date": "!time", "Class": "!int", "TagBased": "!flag"},
    "Tags": {"Id": "!int", "TagName": "!text"},
}

_INT = re.compile(r"-?[0-9]{1,18}")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,3})?")
_TAG = r"[^<>|\s]+"
_TAGS = re.compile(rf"(<{_TAG}>)*|\|({_TAG}\|)+")
_DECLARATION = re.compile(
    rb"""<\?xml version=["']1\.[01]["']( encoding=["']utf-8["'])?( standalone=["']\w+["'])?\s*\?>""", re.IGNORECASE
)
_BOM = b"\xef\xbb\xbf"
_EPOCH, _MILLISECOND = datetime(1970, 1, 1), timedelta(milliseconds=1)


def parse_row(table: str, line: bytes) -> tuple | None:
    """The attributes of one ``<row .../>`` that ``COLUMNS`` names, None for a line around the rows.

    Every row is parsed as a document of its own. It begins with its element, and so cannot declare an entity.

    Raises:
        ValueError: says what is wrong with the line.

    >>> parse_row("Comments", b'  <row Id="1" PostId="5" CreationDate="1970-01-02T00:00:00.007" Text="&lt;..." />')
    (1, 5, 86400007, None)
    """
    line = line.strip()
    if not line.startswith(b"<row"):
        _check_around(table, line)
        return None
    elements: list[tuple[str, dict[str, str]]] = []
    parser = expat.ParserCreate()
    parser.StartElementHandler = lambda name, attributes: elements.append((name, attributes))
    try:
        parser.Parse(line, True)
    except expat.ExpatError as error:
        raise ValueError(f"not one whole XML element ({error}); is this a {table}.xml, and whole?") from None
    if [name for name, _ in elements] != ["row"]:
        raise ValueError(f"not one <row .../>; is this a {table}.xml, one row a line?")
    return tuple(_value(table, elements[0][1], name, kind) for name, kind in COLUMNS[table].items())


def _check_around(table: str, line: bytes) -> None:
    root = table.lower()
    line = line.removeprefix(_BOM)
    if line in (f"<{root}>".encode(), f"</{root}>".encode()) or _DECLARATION.fullmatch(line):
        return
    if line.startswith(b"<!"):
        raise ValueError("declarations, such as DOCTYPE and ENTITY, are refused; a dump has none, so fetch it again")
    if line.startswith(b"<?xml"):
        raise ValueError("the text must be UTF-8; convert it, or fetch it again")
    raise ValueError(f"neither <row .../> nor <{root}> around the rows; is this a {table}.xml, one row a line?")


def _value(table: str, attributes: dict[str, str], name: str, kind: str) -> Any:
    text = attributes.get(name)
    if text is None:
        if kind.startswith("!"):
            has = ", ".join(attributes) or "none"
            raise ValueError(f"no attribute {name}, it has {has}; is this a {table}.xml, of 2016 or later?")
        return None
    try:
        return _READERS[kind.removeprefix("!")](text)
    except ValueError as error:
        raise ValueError(f"{name} is {text!r:.80}; {error}; correct or remove the row") from None


def _int(text: str) -> int:
    if not _INT.fullmatch(text):
        raise ValueError("it must be a whole number")
    return int(text)


def _time(text: str) -> int:
    """Milliseconds since 1970."""
    if not _TIME.fullmatch(text):
        raise ValueError("it must be a time such as 2014-01-21T20:26:05.383")
    return (datetime.fromisoformat(text) - _EPOCH) // _MILLISECOND


def _tags(text: str) -> list[str]:
    if not _TAGS.fullmatch(text):
        raise ValueError("tags must be written as <a><b> or |a|b|")
    return re.findall(_TAG, text)


def _text(text: str) -> str:
    if not text.strip():
        raise ValueError("it must not be empty")
    return text


def _flag(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("it must be True or False")
    return text.lower() == "true"


_READERS: dict[str, Callable[[str], Any]] = {"int": _int, "time": _time, "tags": _tags, "text": _text, "flag": _flag}
