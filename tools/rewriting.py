"""A text, what a reader is shown in its place, and the way back: an edit of what is shown becomes one of the text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher

TOKEN = re.compile(r"\w+|\s|[^\w\s]")


@dataclass(frozen=True)
class Replacement:
    """`source[start:end]` is shown as `text`; with `start == end` the text is put in."""

    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Piece:
    """A stretch of the shown text and where it comes from; `literal` where both are equal."""

    shown: tuple[int, int]
    source: tuple[int, int]
    literal: bool


class Rewriting:
    """A source text with replacements.

    Args:
        quoted: stretches of the source whose lines are shown with `> ` before them.
    """

    def __init__(
        self, source: str, replacements: Iterable[Replacement] = (), quoted: Iterable[tuple[int, int]] = ()
    ) -> None:
        self.source = source
        self.replacements = sorted(replacements, key=lambda one: (one.start, one.end))
        self.quoted = tuple(quoted)
        self.pieces: list[Piece] = []
        parts: list[str] = []
        at = shown = 0
        for one in self.replacements:
            if one.start < at:
                raise ValueError(f"two replacements overlap in {source[one.start : at]!r}")
            for text, span, literal in (
                (source[at : one.start], (at, one.start), True),
                (one.text, (one.start, one.end), False),
            ):
                if text or not literal:
                    self.pieces.append(Piece((shown, shown + len(text)), span, literal))
                    parts.append(text)
                    shown += len(text)
            at = one.end
        self.pieces.append(Piece((shown, shown + len(source) - at), (at, len(source)), True))
        self.text = "".join([*parts, source[at:]])

    def back(self, edited: str) -> str:
        """The source that `edited`, typed over `text`, stands for.

        What was not touched keeps its source. Of what was replaced and is touched, the shown words are kept as typed.
        """
        out: list[str] = []
        at = 0
        for (first, last), typed in self._touched(edited):
            start, end = self._source(first, last)
            if any(low <= start <= high for low, high in self.quoted):
                typed = re.sub(r"\n> ?", "\n", typed)
            out += [self.source[at:start], typed]
            at = end
        return "".join([*out, self.source[at:]])

    def _touched(self, edited: str) -> Iterator[tuple[tuple[int, int], str]]:
        """Stretches of the shown text that differ, widened to whole replacements, each with what was typed."""
        old, new = TOKEN.findall(self.text), TOKEN.findall(edited)
        old_at, new_at = _offsets(old), _offsets(new)
        spans: list[list[int]] = []
        same: list[tuple[int, int, int]] = []  # (from, to, how far it has moved)
        for kind, i1, i2, j1, _ in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
            if kind == "equal":
                same.append((old_at[i1], old_at[i2], new_at[j1] - old_at[i1]))
                continue
            first, last = old_at[i1], old_at[i2]
            for piece in self.pieces:
                low, high = piece.shown
                if not piece.literal and (low < first < high or low < last < high):
                    first, last = min(first, low), max(last, high)
            if spans and first <= spans[-1][1]:
                spans[-1][1] = max(last, spans[-1][1])
            else:
                spans.append([first, last])

        def moved(place: int, right: bool) -> int:
            """Where a border of a touched stretch lies in the edited text: untouched text stands outside of it."""
            for low, high, shift in same:
                if (low <= place < high) if right else (low < place <= high):
                    return place + shift
            return len(edited) if right else 0

        for first, last in spans:
            yield (first, last), edited[moved(first, right=False) : moved(last, right=True)]

    def _source(self, first: int, last: int) -> tuple[int, int]:
        """The source of a stretch of the shown text; lines that are not shown stay, at either end of it."""
        starts = [_inside(piece, first) for piece in self.pieces if piece.shown[0] <= first <= piece.shown[1]]
        ends = [_inside(piece, last) for piece in self.pieces if piece.shown[0] <= last <= piece.shown[1]]
        if first == last:
            return min(starts), min(starts)
        return max(starts), min(ends)


def _inside(piece: Piece, place: int) -> int:
    """The place in the source of a place in, or at a border of, a piece."""
    if piece.literal:
        return piece.source[0] + place - piece.shown[0]
    return piece.source[0] if place == piece.shown[0] else piece.source[1]


def _offsets(tokens: list[str]) -> list[int]:
    found = [0]
    for token in tokens:
        found.append(found[-1] + len(token))
    return found
