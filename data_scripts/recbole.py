"""An event log as RecBole's atomic files; `atrank init` reads them back.

    python -m data_scripts.recbole --data my_log --out dataset

Every group becomes a data set of its own, since RecBole knows one kind of object: ``dataset/item/item.inter`` with
user_id, item_id, timestamp (in the log's unit) and action, and ``dataset/item/item.item`` with item_id and a column for
every feature. RecBole reads it with ``data_path="dataset"``, ``dataset="item"`` and a ``load_col`` that names columns.

The files hold every row in its order, but not what the schema alone says: the unit and the scale of times, the order
of actions, shared vocabularies. Values that they cannot hold are refused, so what is read back is what was there.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import typer

from atrank_lib.log import EventLog, EventLogError, Problem
from atrank_lib.log.columns import CheckedTable, mask
from atrank_lib.log.events import FIRST_SHARD
from atrank_lib.log.schema import OBJECT_ID
from atrank_lib.log.writing import writing_folder
from data_scripts._errors import PreparationError
from data_scripts._tables import or_exit
from data_scripts.drafting.atomic import FIELDS, INTER, ITEM, MISSING

TYPES = {"categorical": "token", "continuous": "float", "tokens": "token_seq"}
NAMES = {
    "user_id": FIELDS["user"],
    OBJECT_ID: FIELDS["object"],
    "timestamp": FIELDS["time"],
    "action": FIELDS["action"],
}
TAKEN = [name.partition(":")[0] for name in NAMES.values()]
_REMEDY = "replace it in the log, and write it anew"


def atomic_frames(log: EventLog, group: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What the files ``.inter`` and ``.item`` of a group hold.

    Raises:
        EventLogError: with every problem: names and values that the files cannot hold.
    """
    events, objects = log.events[group][list(NAMES)], log.objects[group]
    behaviors, things = (CheckedTable(f"{group}.{kind}", None) for kind in ("events", "objects"))
    _check(behaviors, events.drop(columns="timestamp").astype("str"))
    names, texts = dict(NAMES), objects[[OBJECT_ID]]
    for feature, spec in log.schema.groups[group].features.items():
        if feature == OBJECT_ID:
            continue
        names[feature] = f"{feature}:{TYPES[spec.kind]}"
        if feature in TAKEN or re.search(r'[:"\t\r\n\0]', feature):
            message = f"a name that is taken ({', '.join(TAKEN)}), or holds a colon, quote, tab or break; rename it"
            things.note(feature, message)
        if spec.kind == "tokens":
            odd = objects[feature].map(lambda tokens: any(not token or " " in token for token in tokens))
            message = f"a token is empty or holds a blank, which stands between tokens in RecBole's files; {_REMEDY}"
            things.report(feature, odd.to_numpy(bool), pa.array(objects[feature]), message)
            objects = objects.assign(**{feature: objects[feature].map(" ".join).replace("", None)})
        if spec.kind != "continuous":
            texts = texts.assign(**{feature: objects[feature]})
    _check(things, texts)
    if problems := behaviors.problems + things.problems:
        raise EventLogError(problems)
    return events.rename(columns=names), objects.rename(columns=names)


def _check(table: CheckedTable, texts: pd.DataFrame) -> None:
    """Note the values that would be read back as others."""
    for column in texts:
        array = pa.array(texts[column], pa.large_string(), from_pandas=True)
        marks = mask(pc.fill_null(pc.match_substring_regex(array, r"[\t\r\n\x00]"), False))
        table.report(column, marks, array, f"RecBole's files hold no tab, line break or NUL in a value; {_REMEDY}")
        empty = pc.equal(pc.utf8_trim_whitespace(array), "")
        absent = mask(pc.fill_null(pc.or_(empty, pc.is_in(array, pa.array(MISSING, array.type))), False))
        table.report(column, absent, array, f"RecBole reads this as a value that is missing; {_REMEDY}")


def write(log: EventLog, out: Path, overwrite: bool = False) -> None:
    """Write ``out/GROUP/GROUP.inter`` and ``out/GROUP/GROUP.item`` of every group, all or none.

    Raises:
        EventLogError: as in ``atomic_frames``, for all groups at once.
        PreparationError: ``out`` is there, without ``overwrite``, or with other files than such.
    """
    frames, problems = {}, list[Problem]()
    for group in log.schema.groups:
        try:
            frames[group] = atomic_frames(log, group)
        except EventLogError as error:
            problems += error.problems
    if problems:
        raise EventLogError(problems)
    _refuse_existing(out, overwrite)
    with writing_folder(out, overwrite) as fresh:
        for group, (events, objects) in frames.items():
            (fresh / group).mkdir()
            for frame, suffix in ((events, INTER), (objects, ITEM)):
                frame.to_csv(fresh / group / f"{group}{suffix}", sep="\t", index=False, lineterminator="\n")


def _refuse_existing(out: Path, overwrite: bool) -> None:
    if not os.path.lexists(out):
        return
    if not overwrite:
        raise PreparationError(f"{out}: exists already; choose another --out or pass --overwrite")
    others = [path for path in out.rglob("*") if not path.is_dir() and path.suffix not in (INTER, ITEM)]
    if others or not out.is_dir():
        raise PreparationError(f"{others[0] if others else out}: no file of RecBole's; choose another --out")


def prepare(data: Path, out: Path, overwrite: bool) -> None:
    """Read the log, write the files and say what is there."""
    if (data / FIRST_SHARD).is_dir():
        raise PreparationError(f"{data}: a sharded log, which RecBole cannot read; name the log that it was made of")
    log = EventLog.read(data)
    write(log, out, overwrite)
    for group in log.schema.groups:
        counts = f"{len(log.events[group]):,} interactions, {len(log.objects[group]):,} items"
        typer.echo(f'{out / group}: {counts} (in RecBole: data_path="{out}", dataset="{group}")')


def main(
    data: Annotated[Path, typer.Option(metavar="LOG", help="Folder of an event log.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write; RecBole calls it data_path.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace RecBole's files at --out.")] = False,
) -> None:
    """Write an event log as RecBole's atomic files, one data set a group; `atrank init` reads them back."""
    or_exit(lambda: prepare(data, out, overwrite))


if __name__ == "__main__":
    typer.run(main)
