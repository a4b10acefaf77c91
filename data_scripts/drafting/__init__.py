"""From raw tables to an event log: `atrank init` drafts the schema, maps the columns and converts the times.

Nothing is dropped or repaired on the way. What is wrong in the raw tables is reported in *their* words, all at once,
and nothing is written then.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from atrank_lib.log import EventLog, EventLogError, Problem, Schema, TimeScale
from atrank_lib.log.events import SHOWN, TABLES
from atrank_lib.log.schema import OBJECT_ID, SCHEMA_FILE, SECONDS, TICKS
from data_scripts.drafting.folder import find_tables
from data_scripts.drafting.guesses import words
from data_scripts.drafting.hints import Hints
from data_scripts.drafting.raw import RawGroup
from data_scripts.drafting.shown import RawShown
from data_scripts.drafting.text import Whys, schema_text
from data_scripts.drafting.writing import writing_files

__all__ = ["Draft", "Hints", "draft"]

UNUSED = 10  # so many files that are not used are named
OVERLAP = 0.5  # two columns of one name share a vocabulary if this part of the smaller one's values is in the other


@dataclass(frozen=True)
class Draft:
    """A valid event log made of raw tables.

    text: the schema as YAML, with comments; sources: the groups that come from raw tables, each with its files of
    events and of objects (None where objects were made from events); kept: the files that are fit for a log already.
    """

    log: EventLog
    text: str
    sources: Mapping[str, tuple[Path | None, ...]]
    kept: frozenset[Path]

    def write(self, folder: str | Path, overwrite: bool = False) -> None:
        """Write schema and tables into a folder, which may hold other files, such as the raw tables.

        The files appear together or not at all. Raw tables that lie in the folder and are fit for a log already stay as
        they are.

        Raises:
            FileExistsError: a file is in the way and `overwrite` is False, or it is a raw table: those are never
                overwritten.
        """
        folder = Path(folder)
        names = [SCHEMA_FILE]
        for group, sources in self.sources.items():
            for kind, source in zip((*TABLES, SHOWN), sources, strict=True):
                if kind == SHOWN and source is None:
                    continue
                if source is None or source.resolve() not in self.kept or source.resolve().parent != folder.resolve():
                    names.append(f"{group}.{kind}.parquet")
        self._refuse(folder, names, overwrite)
        with writing_files(folder, names) as beside:
            self.log.write_tables(beside, self.sources)
            (beside / SCHEMA_FILE).write_text(self.text, encoding="utf-8")

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
            number of groups; or one pair of any names, given by `hints` or found by what is in them. RecBole's atomic
            files, `<group>.inter` and `<group>.item`, are such tables too.
        add_to: an event log to which the groups are added.
        say: is given, line by line, what was guessed, and why.

    Raises:
        EventLogError: with every problem: what could not be guessed, and what is wrong in the tables.
    """
    folder, hints = Path(folder), hints or Hints()
    if not folder.is_dir():
        raise EventLogError([Problem(str(folder), None, None, None, "not a folder; name the folder of the raw tables")])
    before = EventLog.read(add_to) if add_to is not None else None
    found = find_tables(folder, hints)
    groups = [RawGroup(name, paths, hints, found.read) for name, paths in found.pairs.items()]
    lists = {raw.name: RawShown(raw, found.shown[raw.name], found.read) for raw in groups if raw.name in found.shown}
    misfits = found.problems + _misfits(groups, lists, hints, before)
    ready = all(raw.ready for raw in groups) and all(len(seen.columns) == 2 for seen in lists.values())

    def noted() -> list[Problem]:
        """What is wrong in the raw tables; several groups may share a table of objects."""
        of_lists = [problem for seen in lists.values() for problem in seen.table.problems]
        return _once([problem for raw in groups for problem in raw.problems] + of_lists)

    if misfits or not ready:
        raise EventLogError(noted() + misfits)
    units = [raw.times.unit for raw in groups if raw.times is not None]
    unit = before.schema.timestamp_unit if before is not None else max(units, key=lambda name: TICKS[name])
    events = {raw.name: frame for raw in groups if (frame := raw.event_frame(unit)) is not None}
    objects = {raw.name: frame for raw in groups if (frame := raw.object_frame()) is not None}
    shown = {name: frame for name, seen in lists.items() if (frame := seen.frame()) is not None}
    for raw in groups:
        raw.tell(say)
        if raw.name in lists:
            lists[raw.name].tell(say)
    others = {} if before is None else before.schema.groups  # whose tables may lie here
    unused = [
        name for name in found.unused if Path(name).stem not in {f"{g}.{kind}" for g in others for kind in TABLES}
    ]
    if users := [name for name in unused if name.endswith(".user")]:
        say(f"not used: {', '.join(users)}: an event log describes objects, and users by what they do")
        unused = [name for name in unused if name not in users]
    if unused:
        more = f" and {len(unused) - UNUSED:,} more" if len(unused) > UNUSED else ""
        say(f"not used: {', '.join(unused[:UNUSED])}{more}")
    problems = noted()
    if len(events) + len(objects) + len(shown) < 2 * len(groups) + len(lists):  # a column is of no use, which was noted
        raise EventLogError(problems)
    if before is not None:
        events, objects = {**before.events, **events}, {**before.objects, **objects}
        shown = {**before.impressions, **shown}
    name = hints.name or (before.schema.name if before else folder.resolve().name) or "my log"
    schema, whys = _schema(groups, lists, before, unit, name, events, objects)
    try:
        log = EventLog.from_tables(schema, events, objects, shown)
    except EventLogError as error:
        by_name: dict[str, RawGroup | RawShown] = {f"{raw.name}.{kind}": raw for raw in groups for kind in TABLES}
        by_name |= {f"{name}.{SHOWN}": seen for name, seen in lists.items()}
        problems += [by_name[p.table].in_raw_words(p) if p.table in by_name else p for p in error.problems]
    if problems:
        raise EventLogError(problems)
    files = ", ".join(path.name for raw in groups for path in raw.paths if path is not None)
    kept = frozenset(path.resolve() for raw in groups for path in raw.kept(unit))
    kept |= {seen.path.resolve() for seen in lists.values() if seen.is_fit()}
    sources = {raw.name: (*raw.paths, found.shown.get(raw.name)) for raw in groups}
    return Draft(log, schema_text(schema, whys, files), sources, kept)


def _once(problems: Iterable[Problem]) -> list[Problem]:
    """Each problem once: several groups may share a table of objects."""
    return list({str(problem): problem for problem in problems}.values())


def _misfits(
    groups: Sequence[RawGroup], lists: Mapping[str, RawShown], hints: Hints, before: EventLog | None
) -> list[Problem]:
    """Hints about columns that no table has, and groups that are there already."""
    problems = []
    if all(raw.ready for raw in groups):
        kinds = [*(raw.kinds for raw in groups), *(seen.kinds for seen in lists.values())]
        columns = list(dict.fromkeys(column for some in kinds for column in some))
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
    lists: Mapping[str, RawShown],
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
    scale, why = _time_scale(events, TICKS[unit])
    for raw in groups:
        whys |= {(raw.name, feature): kind.why for feature, kind in raw.kinds.items()}
        whys[raw.name, "time"] = why
        features = {feature: {"kind": kind} for feature, kind in raw.features().items()}
        content["groups"][raw.name] = {"actions": raw.actions, "features": features, "time": scale.model_dump()}
        if raw.name in lists:
            content["groups"][raw.name]["context"] = lists[raw.name].context()
            whys |= {(raw.name, column): kind.why for column, kind in lists[raw.name].kinds.items()}
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
