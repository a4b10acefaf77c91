"""Checkers for the exercises: they say *why* an answer is wrong.

``check.attention.weights(my_weights)`` runs the reader's function on inputs whose answers are known and returns a
``Verdict``, which prints as a line with ✓ or ✗ and a hint. There is one module for each chapter.
"""

from atrank_book.check import (
    attention,
    behaviors,
    competitors,
    fast,
    grouping,
    honest,
    interpret,
    multitask,
    projection,
    ranking,
    scaling,
    time_encoding,
    your_data,
)
from atrank_book.check.verdict import Mistake, Verdict, checker

__all__ = [
    "Mistake",
    "Verdict",
    "attention",
    "behaviors",
    "checker",
    "competitors",
    "fast",
    "grouping",
    "honest",
    "interpret",
    "multitask",
    "projection",
    "ranking",
    "scaling",
    "time_encoding",
    "your_data",
]
