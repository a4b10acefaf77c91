"""From raw tables to an event log: `atrank init` drafts the schema, maps the columns and converts the times.

Nothing is dropped or repaired on the way. What is wrong in the raw tables is reported in *their* words, all at once,
and nothing is written then.
"""

from __future__ import annotations

import difflib
import shutil
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from atrank_lib.log import EventLog, EventLogError, Problem, Schema, TimeScale
from atrank_lib.log.checks import TABLES
from atrank_lib.log.schema import OBJECT_ID, SCHEMA_FILE
from data_scripts.drafting.guesses import candidates, key_of, words
from data_scripts.drafting.raw import Hints, RawGroup, read_raw
from data_scripts.drafting.text import Whys, schema_text
from data_scripts.drafting.times import PER_SECOND

__all__ = ["Draft", "Hints", "draft"]

SECONDS = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400, "week": 604_800}
OVERLAP = 0.5  # two columns of one name share a vocabulary if this part of the smaller one's values is in the other


@dataclass(frozen=True)
class Draft:
    """A valid event log made of raw tables.

    text: the schema as YAML, with comments; sources: the groups that come from raw tables, each with its files of
    events and of objects (None where objects were made from events); kept: the files that are fit for a log already.
    """

    log: EventLog
    text: str
    sources: Mapping[str, tuple[Path, Path | None]]
    kept: frozenset[Path]

    def write(self, folder: str | Path, overwrite: bool = False) -> None:
        """Write schema and tables into a folder, which may hold other files, such as the raw tables.

        Files are written beside their places and renamed when all are complete. Raw tables that lie in the folder
        and are fit for a log already stay as they are.

        Raises:
            FileExistsError: a file is in the way and `overwrite` is False, or it is a raw table: those are never
                overwritten.
        """
        folder = Path(folder)
        names = [SCHEMA_FILE]
        for group, sources in self.sources.items():
            for kind, source in zip(TABLES, sources, strict=True):
                if source is None or source.resolve() not in self.kept or source.resolve().parent != folder.resolve():
                    names.append(f"{group}.{kind}.parquet")
        self._refuse(folder, names, overwrite)
        folder.mkdir(parents=True, exist_ok=True)
        beside = folder / f".{uuid.uuid4().hex}"
        new, old = beside / "new", beside / "old"
        begun: list[str] = []
        try:
            old.mkdir(parents=True)
            self.log.write(new)
            (new / SCHEMA_FILE).write_text(self.text, encoding="utf-8")
            for name in names:
                begun.append(name)
                if (folder / name).exists():
                    (folder / name).rename(old / name)
                (new / name).rename(folder / name)
        except BaseException:
            for name in begun:
                if not (new / name).exists():
                    (folder / name).unlink(missing_ok=True)
                if (old / name).exists():
                    (old / name).rename(folder / name)
            raise
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def _refuse(self, folder: Path, names: Sequence[str], overwrite: bool) -> None:
        if folder.exists() and not folder.is_dir():
            raise FileExistsError(f"{folder} is a file; choose a folder with --out")
        raw = {source.resolve() for sources in self.sources.values() for source in sources if source is not None}
        extends = len(self.log.schema.groups) > len(self.sources)  # then the schema is there, and grows
        for name in names:
            path, csv = folder / name, (folder / name).with_suffix(".csv")
            there = path if path.resolve() in raw else csv if name != SCHEMA_FILE and csv.exists() else None
            if there is not None:
                raise FileExistsError(f"{there} is where the log's table belongs; choose another folder with --out")
            if path.exists() and not overwrite and not (extends and name == SCHEMA_FILE):
                raise FileExistsError(
                    f"{path} exists; choose another folder with --out, or replace it with --overwrite"
                )


def draft(
    folder: str | Path,
    hints: Hints | None = None,
    add_to: str | Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Draft:
    """Make an event log of raw tables.

    Args:
        folder: holds the raw tables, CSV or Parquet: tables called `<group>.events` and `<group>.objects`, for any
            number of groups; or one pair of any names, given by `hints` or found by what is in them.
        add_to: an event log to which the groups are added.
        say: is given, line by line, what was guessed, and why.

    Raises:
        EventLogError: with every problem: what could not be guessed, and what is wrong in the tables.
    """
    folder, hints = Path(folder), hints or Hints()
    if not folder.is_dir():
        raise EventLogError([Problem(str(folder), None, None, None, "not a folder; name the folder of the raw tables")])
    before = EventLog.read(add_to) if add_to is not None else None
    groups = [RawGroup(name, events, objects, hints) for name, (events, objects) in _find(folder, hints).items()]
    misfits = _misfits(groups, hints, before)
    if misfits or not all(raw.ready for raw in groups):
        raise EventLogError([problem for raw in groups for problem in raw.problems] + misfits)
    units = [raw.times.unit for raw in groups if raw.times is not None]
    unit = before.schema.timestamp_unit if before is not None else max(units, key=lambda name: PER_SECOND[name])
    events = {raw.name: frame for raw in groups if (frame := raw.event_frame(unit)) is not None}
    objects = {raw.name: frame for raw in groups if (frame := raw.object_frame()) is not None}
    for raw in groups:
        raw.tell(say)
    problems = [problem for raw in groups for problem in raw.problems]
    if len(events) + len(objects) < 2 * len(groups):  # a column that cannot be used at all, which was noted
        raise EventLogError(problems)
    if before is not None:
        events, objects = {**before.events, **events}, {**before.objects, **objects}
    name = hints.name or (before.schema.name if before else folder.resolve().name) or "my log"
    schema, whys = _schema(groups, before, unit, name, events, objects)
    try:
        log = EventLog.from_tables(schema, events, objects)
    except EventLogError as error:
        by_name = {f"{raw.name}.{kind}": raw for raw in groups for kind in TABLES}
        problems += [by_name[p.table].in_raw_words(p) if p.table in by_name else p for p in error.problems]
    if problems:
        raise EventLogError(problems)
    files = ", ".join(path.name for raw in groups for path in raw.paths if path is not None)
    kept = frozenset(path.resolve() for raw in groups for path in raw.kept(unit))
    return Draft(log, schema_text(schema, whys, files), {raw.name: raw.paths for raw in groups}, kept)


def _find(folder: Path, hints: Hints) -> dict[str, tuple[Path, Path | None]]:
    """The files of events and objects of every group."""
    files = sorted(path for suffix in ("csv", "parquet") for path in folder.glob(f"*.{suffix}"))
    named = {path.stem.removesuffix(".events"): path for path in files if path.stem.endswith(".events")}
    if hints.group is not None:
        named = {group: path for group, path in named.items() if group == hints.group}
    free = [path for path in files if not path.stem.endswith((".events", ".objects"))]
    if hints.events is None and named:
        also = [path.name for path in free if hints.group is None and candidates("time", read_raw(path), ())]
        if also:
            message = f"{', '.join(also)} may hold events as well; name the table to read with --events"
            raise EventLogError([Problem(next(iter(named.values())).name, None, None, None, message)])
        return {group: (path, _objects_beside(files, path, hints)) for group, path in named.items()}
    group = hints.group or "item"
    if hints.events is None:
        events = _with_times(folder, [path for path in free if path.name != hints.objects])
    else:
        events = folder / hints.events
    if hints.objects is not None:
        return {group: (events, folder / hints.objects)}
    others = [path for path in free if path.resolve() != events.resolve()]
    return {group: (events, None if hints.features else _with_key(events, others, hints))}


def _objects_beside(files: Iterable[Path], events: Path, hints: Hints) -> Path | None:
    if hints.objects is not None:
        return events.parent / hints.objects
    stem = events.stem.removesuffix(".events")
    found = [path for path in files if path.stem == f"{stem}.objects"]
    twice = found if len(found) > 1 else [path for path in files if path.stem == events.stem]
    if len(twice) > 1:
        message = f"{twice[1].name} is there as well; remove one of the two"
        raise EventLogError([Problem(twice[0].name, None, None, None, message)])
    return found[0] if found else None


def _with_times(folder: Path, files: Sequence[Path]) -> Path:
    """The only table that has a column of times."""
    found = [path for path in files if candidates("time", read_raw(path), ())]
    if len(found) == 1:
        return found[0]
    has = f" (the folder has: {', '.join(path.name for path in files) or 'no .csv and no .parquet'})"
    if found:
        message = (
            f"more than one table has times: {', '.join(path.name for path in found)}; draft one group after another, "
            "such as --events FILE --group item, then --events FILE --group query --add"
        )
    else:
        message = f"no table has a column that is named and filled like times; name the table with --events{has}"
    raise EventLogError([Problem(str(folder), None, None, None, message)])


def _with_key(events: Path, others: Sequence[Path], hints: Hints) -> Path | None:
    """The table that lists what the events are about, if there is one."""
    table = read_raw(events)
    columns = [hints.object] if hints.object is not None else candidates("object", table, ()) or list(table.columns)
    found = {}
    for path in others:
        other = read_raw(path)
        if candidates("time", other, ()):  # other events
            continue
        if any(column in table.columns and key_of(table.columns[column], other) for column in columns):
            found[path] = other
    if len(found) > 1:
        message = (
            f"more than one table may hold its objects: {', '.join(p.name for p in found)}; name it with --objects"
        )
        raise EventLogError([Problem(events.name, None, None, None, message)])
    return next(iter(found), None)


def _misfits(groups: Sequence[RawGroup], hints: Hints, before: EventLog | None) -> list[Problem]:
    """Hints about columns that no table has, and groups that are there already."""
    problems = []
    if all(raw.ready for raw in groups):
        columns = list(dict.fromkeys(column for raw in groups for column in raw.kinds))
        for column in hints.kinds:
            if column not in columns:
                near = difflib.get_close_matches(column, columns, n=1)
                hint = f", but {near[0]!r}" if near else ""
                message = f"no such column describes an object{hint}; correct --kind (there are: {', '.join(columns)})"
                problems.append(Problem(groups[0].events.name, column, None, hints.kinds[column], message))
    for raw in groups:
        if before is not None and raw.name in before.schema.groups:
            message = f"the log has a group {raw.name!r} already; name another with --group"
            problems.append(Problem(raw.events.name, None, None, None, message))
    return problems


def _schema(
    groups: Sequence[RawGroup],
    before: EventLog | None,
    unit: str,
    name: str,
    events: Mapping[str, pd.DataFrame],
    objects: Mapping[str, pd.DataFrame],
) -> tuple[Schema, Whys]:
    """The schema of all groups, and the reasons for what is new in it."""
    whys: dict[tuple[str, str], str] = {}
    content = before.schema.model_dump() if before is not None else {"groups": {}}
    content |= {"name": name, "timestamp_unit": unit}
    scale, why = _time_scale(events, PER_SECOND[unit])
    for raw in groups:
        whys |= {(raw.name, feature): kind.why for feature, kind in raw.kinds.items()}
        whys[raw.name, "time"] = why
        features = {feature: {"kind": kind} for feature, kind in raw.features().items()}
        content["groups"][raw.name] = {"actions": raw.actions, "features": features, "time": scale.model_dump()}
    for (group, feature), vocabulary in _shared(content["groups"], objects).items():
        content["groups"][group]["features"][feature]["vocabulary"] = vocabulary
    return Schema.checked(content), whys


def _shared(groups: Mapping[str, dict], objects: Mapping[str, pd.DataFrame]) -> dict[tuple[str, str], str]:
    """A vocabulary for columns of one name in several groups, if many of their values are the same."""
    found: dict[tuple[str, str], str] = {}
    columns = dict.fromkeys(feature for group in groups.values() for feature in group["features"])
    for column in columns:
        places = [(name, group["features"][column]) for name, group in groups.items() if column in group["features"]]
        places = [(name, spec) for name, spec in places if spec["kind"] != "continuous" and column != OBJECT_ID]
        values = {name: set(objects[name][column].explode().dropna()) for name, _ in places}
        for name, spec in places:
            for other, theirs in places:
                common = len(values[name] & values[other])
                if name != other and common and common >= OVERLAP * min(len(values[name]), len(values[other])):
                    own = spec.get("vocabulary") or theirs.get("vocabulary")
                    found[name, column] = own or "_".join(w for w in words(column) if w != "id") or column
    return found


def _time_scale(events: Mapping[str, pd.DataFrame], per_second: int) -> tuple[TimeScale, str]:
    """The finest unit whose buckets reach over the whole log, but none finer than the times are."""
    times = pd.concat([frame["timestamp"] for frame in events.values()])
    span = (int(times.max()) - int(times.min())) / per_second
    as_fine = [unit for unit in ("day", "hour", "minute") if not (times % (SECONDS[unit] * per_second)).any()]
    units = list(SECONDS)[list(SECONDS).index(as_fine[0]) if as_fine else 0 :]
    reach = 2 ** (TimeScale().buckets - 2)  # the last bucket, [2^14, 2^15), has no end
    unit = next((unit for unit in units if span <= SECONDS[unit] * reach), units[-1])
    why = f"elapsed time in buckets [0,1), [1,2), [2,4), ... {unit}s; the log spans {span / 86_400:,.0f} days"
    return TimeScale.model_validate({"unit": unit}), why
