"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

DataOption = Annotated[Path, typer.Option("--data", metavar="DIR", help="Folder of an event log.")]
RunOption = Annotated[Path, typer.Option("--run", metavar="RUN", help="Folder that `atrank train` wrote.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
AtOption = Annotated[int | None, typer.Option(help="Moment of ranking (timestamp); after the log by default.")]


def names(text: str | None) -> list[str] | None:
    """`item,query` as a list; None stays None (all groups)."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def one_target(targets: Sequence[str], group: str | None, option: str) -> str:
    """The group that the option names, or the run's one target."""
    targets = targets if group is None else (group,)
    if len(targets) > 1:
        raise ValueError(f"the run has several target groups: choose one with {option}: {', '.join(targets)}")
    return targets[0]
