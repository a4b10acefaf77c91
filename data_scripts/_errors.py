"""The error of the preparation scripts; a module of its own, so that parsing processes load nothing else."""

from __future__ import annotations


class PreparationError(ValueError):
    """A source table cannot become an event log; the message names the place, the value and the remedy."""
