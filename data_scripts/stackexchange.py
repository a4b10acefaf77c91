"""The public data dump of any Stack Exchange site (CC BY-SA) as an event log of five groups.

The dump is a folder with Posts, Comments, PostHistory, Badges and Tags as ``.xml`` or ``.xml.gz``, the site's ``.7z``
archive, or a folder with one archive a table (archives are unpacked into ``$TMPDIR``, and need the extra [sevenzip])::

    python -m data_scripts.stackexchange --dump beer.stackexchange.com.7z --out logs/beer

Groups: ``ask``, ``answer``, ``comment`` and ``edit``, whose objects are questions, and ``badge``. What is done to an
answer counts for its question. Only ids, times, tags and names of badges are read, no text and no name of a person.

Features are what is known when the behavior takes place, as far as a dump can tell:

- ``tags`` (all but ``badge``, one vocabulary): those of the day of the dump; an earlier state is only in texts.
- ``object_id`` of questions (``answer``, ``comment`` and ``edit``, one vocabulary): a user comes back to a question.
  ``ask`` does without: who asks makes a new question, so an id that others' behaviors have taught is not the one. Ids
  also tell when a question was asked; take the feature out of ``schema.yaml`` where that must not matter.
- The owner of a question is left out: in ``ask`` it is the user, and elsewhere it is missing where the account was
  deleted later. So are scores, views, counts of answers and accepted answers, which come later, too.
- ``name``, ``class`` (1 gold, 2 silver, 3 bronze) and ``tag_based`` of badges, which together are the badge.

This module is the command line; ``_stackexchange_files`` finds the tables, ``_stackexchange_rows`` reads single lines
and ``_stackexchange_join`` has the joins. Rows are parsed as XML without declarations, so no entity is expanded.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer


def main(
    dump: Annotated[Path, typer.Option(help="Folder of the dump's tables, or its .7z archive.")],
    out: Annotated[Path, typer.Option(help="Folder of the event log to write.")],
    site: Annotated[
        str | None, typer.Option(help="The site, for the attribution. Default: the name of the dump.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an event log at --out.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="Parsing processes.")] = min(4, os.cpu_count() or 1),
) -> None:
    """Turn the dump of a Stack Exchange site into an event log (see JOINS.md and ATTRIBUTION.md inside it)."""
    # Imported here because every parsing process imports this module again, and would hold them all.
    from data_scripts._stackexchange_join import prepare
    from data_scripts._tables import or_exit

    or_exit(lambda: prepare(dump, out, site, overwrite, workers))


if __name__ == "__main__":
    typer.run(main)
