"""What a checker is: it returns a ``Verdict``, or raises a ``Mistake`` whose text is the hint for the reader."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Verdict:
    """Outcome of a check: true when it passed; printed with its hint."""

    passed: bool
    message: str

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        return f"{'✓' if self.passed else '✗'} {self.message}"


class Mistake(Exception):
    """Raised inside a checker; its text is the hint for the reader."""


def checker(check: Callable[[Any], str]) -> Callable[[Any], Verdict]:
    """Make a function into a checker.

    The function receives the reader's answer, raises ``Mistake(hint)`` for a mistake it recognizes, and returns its
    praise. An exception in the reader's own code becomes a verdict too, so a page is never broken by an answer.
    """

    @functools.wraps(check)
    def verdict(answer: Any) -> Verdict:
        try:
            return Verdict(True, check(answer))
        except Mistake as mistake:
            return Verdict(False, str(mistake))
        except Exception as error:  # whatever the reader's code raised
            return Verdict(False, f"your code raised {type(error).__name__}: {error}")

    return verdict


def answered(value: Any) -> Any:
    """``value``, or ``Mistake`` when the stub was not filled in and returned nothing."""
    if value is ...:
        raise Mistake("nothing yet: replace the dots by your answer")
    if value is None:
        raise Mistake("nothing yet: the function returned None; replace the dots by your answer")
    return value


def fitting(answer: Callable[..., Any], hint: str, **inputs: Tensor) -> Any:
    """What ``answer`` makes of the inputs; a ``Mistake`` with their shapes and a hint where PyTorch cannot fit them."""
    try:
        return answer(*inputs.values())
    except (RuntimeError, IndexError) as error:
        if not re.search("shape|size of|size mismatch", str(error)):
            raise
        given = ", ".join(f"{name} {list(value.shape)}" for name, value in inputs.items())
        raise Mistake(f"the shapes do not fit ({error}): {given}; {hint}") from error
