"""What every checker's test asks of a wrong answer."""

from __future__ import annotations

from atrank_book.check import Verdict


def assert_hint(verdict: Verdict, hint: str) -> None:
    """The answer is refused, and the reader is told why."""
    assert not verdict
    assert hint in verdict.message
