"""Which files of a folder hold the events of a group, and which the objects they are about."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from atrank_lib.log import EventLogError, Problem
from atrank_lib.log.columns import CheckedTable
from atrank_lib.log.events import SHOWN
from atrank_lib.log.files import table_from_file
from atrank_lib.log.schema import SCHEMA_FILE
from data_scripts.drafting.atomic import INTER, ITEM, read_atomic
from data_scripts.drafting.guesses import candidates, key_of
from data_scripts.drafting.hints import Hints

SUFFIXES = (".csv", ".parquet")  # in small letters or capitals
SEPARATORS = (";", "\t", "|")

Reader = Callable[[Path], CheckedTable]


@dataclass(frozen=True)
class Found:
    """What the files of a folder are for.

    pairs: the files of events and of objects of every group, None where there is no table of objects.
    problems: of tables that could not be read when these were looked for; unused: the names of all other files.
    read: gives the content of a table, read once. shown: tables of impressions, of groups that have one.
    """

    pairs: dict[str, tuple[Path, Path | None]]
    shown: dict[str, Path]
    problems: list[Problem]
    unused: list[str]
    read: Reader


def read_raw(path: Path) -> CheckedTable:
    """All columns of a CSV, Parquet or atomic file; what stands in the way is noted in the table's problems."""
    table = CheckedTable(path.name, None)
    if not path.exists():
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*")], n=1)
        table.note(None, f"the file is missing in {path.parent}; name another" + (f" ({near[0]}?)" if near else ""))
        return table
    is_atomic = path.suffix in (INTER, ITEM)
    if path.suffix.lower() not in SUFFIXES and not is_atomic:
        table.note(None, "only .csv, .parquet, and RecBole's .inter and .item can be read; write it as one of them")
        return table
    if path.is_dir():
        table.note(None, "a folder, not a file; write the tables in it as one file, such as with pandas or DuckDB")
        return table
    table = read_atomic(path) if is_atomic else table_from_file(path, None)
    first = "" if is_atomic else (table.header or [""])[0]
    separator = next((mark for mark in SEPARATORS if mark in first and len(table.header or []) == 1), None)
    if first.lower().startswith("sep="):
        cause = f"the first line is Excel's {first!r}, and no names of columns; delete the line"
    elif separator is not None:
        remedy = f"in pandas pd.read_csv({path.name!r}, sep={separator!r}, dtype=str).to_csv(..., index=False)"
        cause = f"the columns are separated by {separator!r}; write commas, {remedy}"
    else:
        if table.is_empty() and not table.problems:
            table.note(None, "the table has no row; write at least one")
        return table
    table = CheckedTable(path.name, None)  # what its rows hold says nothing
    table.note(None, cause)
    return table


def find_tables(folder: Path, hints: Hints) -> Found:
    """Find the tables of every group: those named `<group>.events`, or one pair of any names.

    Raises:
        EventLogError: no table holds events, or several may, or several hold their objects.
    """
    read, looked_at = cache(read_raw), set[Path]()

    def look(path: Path) -> CheckedTable:
        looked_at.add(path)
        return read(path)

    there = list(_files(folder))
    pairs = _pairs(folder, there, hints, look)
    named = {path.stem: path for path in there if path.suffix.lower() in SUFFIXES}
    shown = {group: named[f"{group}.{SHOWN}"] for group in pairs if f"{group}.{SHOWN}" in named}
    used = {path.resolve() for pair in [*pairs.values(), shown.values()] for path in pair if path is not None}
    others = [path for path in there if path.resolve() not in used]
    remedy = "; or, if the log does not need it, move it out of the folder"
    problems = [
        replace(problem, message=problem.message + remedy)
        for path in others
        if path in looked_at
        for problem in read(path).problems
    ]
    return Found(pairs, shown, problems, [path.name for path in others], read)


def _files(folder: Path) -> Iterator[Path]:
    """The files of a folder, and those of RecBole's own folders in it, NAME/NAME.inter."""
    for path in sorted(folder.iterdir()):
        if (path / f"{path.name}{INTER}").is_file():
            yield from _files(path)
        elif not path.name.startswith(".") and path.name != SCHEMA_FILE:
            yield path


def _pairs(folder: Path, there: Sequence[Path], hints: Hints, look: Reader) -> dict[str, tuple[Path, Path | None]]:
    files = [path for path in there if path.suffix.lower() in SUFFIXES]
    atomic = [path for path in there if path.suffix == INTER]
    named = _named(files, atomic, hints.group) if hints.events is None else {}
    free = [path for path in files if not path.stem.endswith((".events", ".objects", f".{SHOWN}"))]
    if named:
        also = [path.name for path in free if hints.group is None and candidates("time", look(path), ())]
        if also:
            message = f"{', '.join(also)} may hold events as well; name the table to read with --events"
            raise EventLogError([Problem(next(iter(named.values())).name, None, None, None, message)])
        return {group: (path, _objects_beside(files, path, hints)) for group, path in named.items()}
    if hints.events is None:
        events = _with_times(folder, [path for path in free if path.name != hints.objects], look)
    else:
        events = folder / hints.events
    objects = None if hints.objects is None else folder / hints.objects
    if events.suffix == INTER:
        return {hints.group or events.stem: (events, objects or _objects_beside(files, events, hints))}
    if objects is None and not hints.features:
        objects = _with_key(events, [path for path in free if path.resolve() != events.resolve()], hints, look)
    return {hints.group or "item": (events, objects)}


def _named(files: Sequence[Path], atomic: Sequence[Path], group: str | None) -> dict[str, Path]:
    """The files of events whose names say their groups; of all of them, or of the group that is asked for."""
    found = {path.stem.removesuffix(".events"): path for path in files if path.stem.endswith(".events")}
    for path in atomic:
        message = None
        if path.stem in found:
            message = f"{found[path.stem].name} is there as well; name one of the two with --events"
        elif "." in path.stem:  # what RecBole calls benchmark files
            message = "parts of a data set are one group; join them in one file, or name one with --events and --group"
        if message is not None:
            raise EventLogError([Problem(path.name, None, None, None, message)])
        found[path.stem] = path
    if group is None:
        return found
    if len(atomic) == len(found) == 1:
        return {group: atomic[0]}
    if atomic and group not in found:
        message = f"there is no such file; name one with --events (there are: {', '.join(p.name for p in atomic)})"
        raise EventLogError([Problem(f"{group}{INTER}", None, None, None, message)])
    return {name: path for name, path in found.items() if name == group}


def _objects_beside(files: Iterable[Path], events: Path, hints: Hints) -> Path | None:
    if hints.objects is not None:
        return events.parent / hints.objects
    if events.suffix == INTER:
        beside = events.with_suffix(ITEM)
        return beside if beside.exists() else None
    stem = events.stem.removesuffix(".events")
    found = [path for path in files if path.stem == f"{stem}.objects"]
    twice = found if len(found) > 1 else [path for path in files if path.stem == events.stem]
    if len(twice) > 1:
        message = f"{twice[1].name} is there as well; remove one of the two"
        raise EventLogError([Problem(twice[0].name, None, None, None, message)])
    return found[0] if found else None


def _with_times(folder: Path, files: Sequence[Path], look: Reader) -> Path:
    """The only table that has a column of times."""
    found = [path for path in files if candidates("time", look(path), ())]
    if len(found) == 1:
        return found[0]
    if found:
        message = (
            f"more than one table has times: {', '.join(path.name for path in found)}; draft one group after another, "
            "such as --events FILE --group item, then --events FILE --group query --add"
        )
        raise EventLogError([Problem(str(folder), None, None, None, message)])
    if problems := [problem for path in files for problem in look(path).problems]:  # why none was found
        raise EventLogError(problems)
    names = ", ".join(path.name for path in files) or "no .csv, .parquet or .inter"
    message = "no table has a column that is named and filled like times; name the table with --events"
    raise EventLogError([Problem(str(folder), None, None, None, f"{message} (the folder has: {names})")])


def _with_key(events: Path, others: Sequence[Path], hints: Hints, look: Reader) -> Path | None:
    """The table that lists what the events are about, if there is one."""
    table = look(events)
    columns = [hints.object] if hints.object is not None else candidates("object", table, ()) or list(table.columns)
    found = {}
    for path in others:
        other = look(path)
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
