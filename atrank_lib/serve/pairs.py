"""Pairs of users and objects in a file, and their scores written beside them: `atrank score`."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

from atrank_lib.grouping import GroupedHistories
from atrank_lib.log.columns import CheckedTable, mask
from atrank_lib.log.events import EventLogError, checked_features
from atrank_lib.log.extent import Extent, far_off, near
from atrank_lib.log.files import table_from_file
from atrank_lib.log.schema import OBJECT_ID
from atrank_lib.log.writing import writing_file

SCORE = "score"


@dataclass(frozen=True)
class Pairs:
    """A table of pairs, and what they are in a log: users, rows of the objects table, moments of ranking."""

    table: pa.Table  # all columns of the file
    users: Int[Tensor, " p"]
    objects: Int[Tensor, " p"]
    times: Int[Tensor, " p"] | None  # in the schema's timestamp_unit; None: the file names no moments

    def __len__(self) -> int:
        return len(self.users)

    def write(self, file: Path, scores: Float[Tensor, " p"]) -> None:
        """Write the rows of the file as they came, with the column ``score``; all or nothing."""
        check_suffix(file)
        table = self.table.append_column(SCORE, pa.array(scores.numpy()))
        with writing_file(file) as beside:
            if file.suffix == ".csv":
                pyarrow.csv.write_csv(table, beside)
            else:
                pyarrow.parquet.write_table(table, beside)


def check_suffix(file: Path) -> None:
    """Raise ValueError if the name does not say which kind of table it is.

    >>> check_suffix(Path("pairs.csv"))  # says nothing
    """
    if file.suffix not in (".parquet", ".csv"):
        raise ValueError(f"{file}: the name of a table ends in .parquet or .csv")


def read_pairs(file: Path, histories: GroupedHistories, group: str) -> Pairs:
    """Read user_id, object_id and, where there is one, timestamp (the moment of ranking) of every row.

    Raises:
        ValueError: unknown group, or a file that is neither .parquet nor .csv.
        EventLogError: every problem of the file, with its rows: a missing column or value, a user without behavior
            in the log, an object that is not in the group's objects table, a moment far from the log, no row at all.

    >>> table = pd.DataFrame({"user_id": ["user1", "user0"], "object_id": ["item7", "item9"]})
    >>> table.to_csv(folder / "pairs.csv", index=False)
    >>> pairs = read_pairs(folder / "pairs.csv", histories, "item")
    >>> len(pairs), pairs.times is None, histories.user_ids[pairs.users.numpy()].tolist()
    (2, True, ['user1', 'user0'])
    """
    histories.schema.check_groups([group], "group")
    check_suffix(file)
    table = table_from_file(file, None)
    header = table.header or []
    if SCORE in header:
        table.note(SCORE, "the column is there already; rename it, or leave it out")
    users = _find(table, "user_id", histories.user_ids, "the log has no behavior of this user; leave the row out")
    objects = _objects(table, histories, group)
    times = _moments(table, histories) if "timestamp" in header else None
    if table.is_empty():
        table.note(None, "there is no pair; write one row for each")
    if table.problems:
        raise EventLogError(table.problems)
    return Pairs(pa.table(table.columns), users, objects, None if times is None else torch.from_numpy(times))


def read_shown(file: Path, histories: GroupedHistories, group: str) -> pd.DataFrame:
    """Read a list of objects as it is to be shown: ``object_id`` and the group's context. Raises as ``read_pairs``.

    >>> pd.DataFrame({"object_id": ["item7", "item9"]}).to_csv(folder / "shown.csv", index=False)
    >>> read_shown(folder / "shown.csv", histories, "item")["object_id"].tolist()
    ['item7', 'item9']
    """
    check_suffix(file)
    context = histories.schema.groups[group].context
    table = table_from_file(file, [OBJECT_ID, *context])
    objects, features = _objects(table, histories, group), checked_features(table, context)
    if table.is_empty():
        table.note(None, "there is no object; write one row for each")
    if table.problems:
        raise EventLogError(table.problems)
    return pd.DataFrame({OBJECT_ID: histories.tables[group][OBJECT_ID].to_numpy()[objects.numpy()]} | features)


def _objects(table: CheckedTable, histories: GroupedHistories, group: str) -> Int[Tensor, " p"]:
    known = pd.Index(histories.catalogs[group].object_ids, dtype="str")
    return _find(table, OBJECT_ID, known, f"no object of group {group!r}; correct the id")


def _moments(table: CheckedTable, histories: GroupedHistories) -> Int64[np.ndarray, " p"] | None:
    """The moments of ranking; those that are none, or far from the log, are noted."""
    unit, before = histories.schema.timestamp_unit, len(table.problems)
    times = table.times("timestamp", unit)
    if times is None or len(table.problems) > before:
        return times
    known = [group.timestamps for group in histories.groups.values() if len(group.timestamps)]
    first, last = min(int(part.min()) for part in known), max(int(part.max()) for part in known)
    extent = Extent(len(histories), sum(map(len, known)), first, last)
    low, high = near(extent, unit)
    strange = (times < low) | (times > high)
    table.report("timestamp", strange, pa.array(times), lambda time: far_off(int(str(time)), unit, extent))
    return times


def _find(table: CheckedTable, column: str, known: pd.Index, message: str) -> Int[Tensor, " p"]:
    """The place of every value among the known ones; those that are not are noted."""
    values = table.text(column, required=True)
    if values is None:
        return torch.empty(0, dtype=torch.long)
    found = known.get_indexer(pd.Index(values.to_pandas(), dtype="str")).astype(np.int64)
    table.report(column, (found < 0) & mask(values.is_valid()), values, message)
    return torch.from_numpy(found)
