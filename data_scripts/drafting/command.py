"""`atrank init`: an event log out of raw tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from atrank_lib.log import EventLogError
from data_scripts.drafting import Hints, draft


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of raw tables: CSV, Parquet or RecBole's.")],
    events: Annotated[str | None, typer.Option(metavar="FILE", help="Table of events, in DIR.")] = None,
    objects: Annotated[str | None, typer.Option(metavar="FILE", help="Table of what they are about, in DIR.")] = None,
    group: Annotated[str | None, typer.Option(help="Name of the group of behaviors; item by default.")] = None,
    user: Annotated[str | None, typer.Option(metavar="COLUMN", help="Who it was.")] = None,
    time: Annotated[str | None, typer.Option(metavar="COLUMN", help="When it was.")] = None,
    object_: Annotated[str | None, typer.Option("--object", metavar="COLUMN", help="What it was about.")] = None,
    action: Annotated[str | None, typer.Option(metavar="COLUMN", help="What was done.")] = None,
    one_action: Annotated[str | None, typer.Option(metavar="NAME", help="What was done, in all rows.")] = None,
    key: Annotated[str | None, typer.Option(metavar="COLUMN", help="The object's id in the table of objects.")] = None,
    feature: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Column of the events that describes the object; may be repeated."),
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=KIND", help="categorical, continuous, tokens or none; may be repeated."),
    ] = None,
    time_format: Annotated[
        str | None, typer.Option(help="s, ms, us or ns since 1970, or a form such as '%d/%m/%Y %H:%M'.")
    ] = None,
    time_zone: Annotated[str | None, typer.Option(help="Zone of times that name none; UTC by default.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the log; the folder's by default.")] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="LOG", help="Folder of the log; DIR by default.")] = None,
    add: Annotated[bool, typer.Option("--add", help="Add the group to the log that is there.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a log that is there.")] = False,
) -> None:
    """Draft an event log from raw tables: map the columns, convert the times, guess what each feature is.

    What is not given is guessed and explained. Every problem goes to stderr, and nothing is written then.
    """
    target = folder if out is None else out
    hints = Hints(
        events, objects, group, user, time, object_, action, key, one_action, tuple(feature or ()),
        _kinds(kind or []), time_format, time_zone, name,
    )  # fmt: skip
    try:
        made = draft(folder, hints, add_to=target if add else None, say=typer.echo)
    except EventLogError as error:
        count = len(error.problems)
        lines = [
            *map(str, error.problems),
            f"{count:,} problem{'s' if count > 1 else ''}; rows count from 0; nothing was written",
        ]
        raise ValueError("\n".join(lines)) from None
    made.write(target, overwrite=overwrite)
    typer.echo(f"{target}: {'added' if add else 'wrote'} {', '.join(made.sources)}")


def _kinds(pairs: list[str]) -> dict[str, str]:
    """`tags=tokens` as a mapping; the column's name may hold an equals sign itself."""
    kinds = {}
    for pair in pairs:
        column, equals, kind = pair.rpartition("=")
        if not equals or not column:
            raise ValueError(f"--kind {pair}: write the column, =, and the kind, such as --kind tags=tokens")
        kinds[column] = kind
    return kinds
