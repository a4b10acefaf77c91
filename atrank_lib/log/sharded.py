"""Sharded logs: users spread over shards by a hash, so that memory holds one shard at a time.

    my_log/schema.yaml
    my_log/item.objects.parquet                (one per group, for all shards)
    my_log/shard-0000/item.events.parquet      (one per group, in every shard: shard-0001, ...)

A shard holds all behaviors of its users, in the order of the log it was made from, so that samples are the same as
there. Schema, objects, vocabularies and the numbers of samples are global. `python -m data_scripts.shard` writes one.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd
import pyarrow as pa

from atrank_lib.log.events import FIRST_SHARD, EventLog, checked_events, checked_objects, columns_of, frames
from atrank_lib.log.extent import Extent, summarize
from atrank_lib.log.files import read_table
from atrank_lib.log.schema import SCHEMA_FILE, EventLogError, Problem, Schema


def shard_of(user_id: str, shards: int) -> int:
    """The shard of a user: the first 16 bits of the MD5 of the id (UTF-8), modulo the number of shards."""
    return int(hashlib.md5(user_id.encode(), usedforsecurity=False).hexdigest()[:4], 16) % shards


@dataclass(frozen=True, eq=False)
class ShardedLog:
    """A sharded event log; make one with `read`. schema, objects: as in `EventLog`, for all shards; shards: how many
    there are. Events are read when they are asked for, and every shard is checked each time it is read."""

    folder: Path
    schema: Schema
    objects: dict[str, pd.DataFrame]
    shards: int
    _known: dict[int, tuple[dict[str | None, Extent], str]] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, folder: str | Path) -> "ShardedLog":
        """Read and check the schema and the objects of a sharded log; the events stay on disk. Raises EventLogError
        with every problem found."""
        folder = Path(folder)
        if not (folder / FIRST_SHARD).is_dir():
            message = f"no sharded log ({FIRST_SHARD} is missing); write one with `python -m data_scripts.shard`"
            raise EventLogError([Problem(str(folder), None, None, None, message)])
        schema = Schema.read(folder / SCHEMA_FILE)
        problems, objects = list[Problem](), {}
        for name, group in schema.groups.items():
            table = read_table(folder, f"{name}.objects", columns_of("objects", group), problems)
            objects[name] = checked_objects(table, group)
            problems += table.problems
        if problems:
            raise EventLogError(problems)
        shards = sum(path.is_dir() for path in folder.glob("shard-????"))
        return cls(folder, schema, frames(objects), shards)

    def shard(self, number: int) -> EventLog:
        """All behaviors of the users of one shard, from 0, as a log; some of its groups may be empty. Raises
        EventLogError with every problem of the shard, a user who belongs to another one included."""
        name = f"shard-{number:04d}"
        if not (self.folder / name).is_dir():
            message = f"{self.shards} shards are numbered from 0, but this one is missing; write the log again"
            raise EventLogError([Problem(name, None, None, None, message)])
        problems, events = list[Problem](), {}
        for group, spec in self.schema.groups.items():
            table = read_table(self.folder / name, f"{group}.events", columns_of("events", spec), problems)
            known = self.objects[group]["object_id"]
            events[group] = checked_events(table, spec, self.schema.timestamp_unit, known)
            users = events[group]["user_id"]
            if users is not None and not table.problems:
                strangers = [user for user in users.unique() if shard_of(user, self.shards) != number]
                table.report("user_id", users.isin(strangers).to_numpy(), pa.array(users), self._whose_user)
            problems += table.problems
        if problems:
            raise EventLogError(replace(problem, table=f"{name}/{problem.table}") for problem in problems)
        log = EventLog(self.schema, frames(events), self.objects)
        if not any(map(len, log.events.values())):
            message = "the shard is empty; write the log again in fewer shards"
            raise EventLogError([Problem(name, None, None, None, message)])
        if number not in self._known:
            self._known[number] = (log.extents(), log.fingerprint())
        return log

    def _whose_user(self, user: object) -> str:
        right = shard_of(str(user), self.shards)
        return f"of {self.shards} shards, this user belongs to number {right}; write the log again"

    def check(self) -> None:
        """Read every shard once. Raises EventLogError with the problems of all of them."""
        problems: list[Problem] = []
        for number in range(self.shards):
            try:
                self.shard(number)
            except EventLogError as error:
                problems.extend(error.problems)
        if problems:
            raise EventLogError(problems)

    def of_user(self, user_id: str) -> EventLog:
        """The shard of one user."""
        return self.shard(shard_of(user_id, self.shards))

    def summary(self) -> pd.DataFrame:
        """As `EventLog.summary`."""
        return summarize(self.schema, self.objects, self.extents())

    def extents(self) -> list[dict[str | None, Extent]]:
        """Of every shard as `EventLog.extents`."""
        return [extents for extents, _ in self._all_known()]

    def fingerprint(self) -> str:
        """SHA-256 (its first 12 hex digits) over the fingerprints of the shards."""
        prints = "".join(fingerprint for _, fingerprint in self._all_known())
        return hashlib.sha256(prints.encode()).hexdigest()[:12]

    def _all_known(self) -> Iterable[tuple[dict[str | None, Extent], str]]:
        for number in range(self.shards):
            if number not in self._known:
                self.shard(number)
            yield self._known[number]


def read_log(folder: str | Path) -> EventLog | ShardedLog:
    """The log in a folder, sharded or not."""
    return ShardedLog.read(folder) if (Path(folder) / FIRST_SHARD).is_dir() else EventLog.read(folder)
