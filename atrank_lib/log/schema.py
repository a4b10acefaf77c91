"""The schema of an event log, `schema.yaml`: groups of behaviors, their actions, features and time scale."""

import difflib
import math
import re
from collections.abc import Callable, Hashable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_serializer, model_validator

SCHEMA_FILE = "schema.yaml"
OBJECT_ID = "object_id"
EVENT = "event"  # of an impression: the row of the behavior
SECONDS = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400, "week": 604_800}  # in a unit of elapsed time
TICKS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}  # of a timestamp_unit in a second


@dataclass(frozen=True)
class Problem:
    """One thing wrong with an event log.

    table: file name (or table name, for tables in memory); column: column of the table, or the dotted place
    in the schema; row: data row counted from 0, without the header; value: the offending value;
    message: what is wrong and what to do about it.

    >>> print(Problem("item.events.csv", "action", 3, "bye", "use one of browse, buy"))
    item.events.csv, column action, row 3, value 'bye': use one of browse, buy
    """

    table: str
    column: str | None
    row: int | None
    value: object
    message: str

    def __str__(self) -> str:
        place = [self.table]
        if self.column is not None:
            place.append(f"at {self.column}" if self.table == SCHEMA_FILE else f"column {self.column}")
        if self.row is not None:
            place.append(f"row {self.row}")
        if self.value is not None:
            place.append(f"value {_shorten(repr(self.value))}")
        return f"{', '.join(place)}: {self.message}"


class EventLogError(ValueError):
    """An event log cannot be used; `problems` holds everything found wrong, `str()` lists it one a line.

    >>> try:
    ...     EventLog.read("nowhere")
    ... except EventLogError as error:
    ...     print(error.problems[0])
    nowhere: not a folder; name a log's folder
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class Settings(BaseModel):
    """Fields that are checked when they are given, stay as they are, and have no others beside them."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Feature(Settings):
    """A column of a group's objects table.

    kind: `categorical` (one text value), `tokens` (a list of text values) or `continuous` (one number).
    vocabulary: features that name the same vocabulary share one embedding table; None means one of its own.

    >>> Feature(kind="categorical", vocabulary="shop").vocabulary
    'shop'
    """

    kind: Literal["categorical", "tokens", "continuous"]
    vocabulary: Annotated[str, Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _continuous_has_no_vocabulary(self) -> "Feature":
        if self.kind == "continuous" and self.vocabulary is not None:
            raise ValueError(
                f"a continuous feature has no vocabulary, but this one names {self.vocabulary!r}; "
                "remove the vocabulary, or make the feature categorical"
            )
        return self


class TimeScale(Settings):
    """How the time elapsed since a behavior falls into buckets.

    Elapsed time counts in ``unit``. The exponential scale has the buckets [0,1), [1,2), [2,4), ..., [2^k, 2^(k+1)), the
    last one open. Explicit ``edges``, ascending, replace them: then there are ``len(edges) + 1`` buckets.

    >>> TimeScale(unit="hour", buckets=10).edges is None, TimeScale(edges=(1, 7, 30)).edges
    (True, (1.0, 7.0, 30.0))
    """

    unit: Literal["second", "minute", "hour", "day", "week"] = "day"
    scale: Literal["exponential"] = "exponential"
    # 64 buckets reach 2^62 units, more than any elapsed time that fits 64 bits
    buckets: Annotated[int, Field(strict=True, ge=2, le=64)] = 16
    edges: tuple[Annotated[float, Field(strict=True)], ...] | None = None

    @model_validator(mode="before")
    @classmethod
    def _edges_make_buckets(cls, data: Any) -> Any:
        edges = data.get("edges") if isinstance(data, dict) else None
        if not isinstance(edges, list | tuple) or not edges:
            return data
        made = len(edges) + 1
        if (asked := data.get("buckets", made)) != made:
            raise ValueError(f"{made - 1} edges make {made} buckets, not {asked}; leave `buckets` out or correct it")
        return data | {"buckets": made}

    @field_validator("edges")
    @classmethod
    def _edges_ascend(cls, edges: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if edges is None:
            return None
        if not edges:
            raise ValueError("there is no edge; give at least one, or leave `edges` out")
        if not all(math.isfinite(edge) and edge > 0 for edge in edges):
            raise ValueError("edges must be positive and finite; the first bucket begins at 0 without an edge")
        if any(after <= before for before, after in pairwise(edges)):
            raise ValueError("edges must ascend, each larger than the one before; sort them, drop repeats")
        return edges


class Group(Settings):
    """A group of behaviors that share actions, features and time scale (the paper's behavior group).

    context: what is known of an object as it was shown, such as its place and its price: columns of impressions.

    >>> group = Group(actions=("browse", "buy"), features={"object_id": Feature(kind="categorical")})
    >>> group.actions, list(group.features), group.time.unit
    (('browse', 'buy'), ['object_id'], 'day')
    """

    actions: tuple[Annotated[str, Field(min_length=1)], ...] = Field(min_length=1)
    features: dict[Annotated[str, Field(min_length=1)], Feature] = Field(min_length=1)
    time: TimeScale = TimeScale()
    context: dict[Annotated[str, Field(min_length=1)], Feature] = {}

    @model_serializer(mode="wrap")
    def _without_empty_context(self, write: Callable[["Group"], dict[str, Any]]) -> dict[str, Any]:
        return {name: value for name, value in write(self).items() if value or name != "context"}

    @field_validator("actions")
    @classmethod
    def _actions_differ(cls, actions: tuple[str, ...]) -> tuple[str, ...]:
        twice = sorted({action for action in actions if actions.count(action) > 1})
        if twice:
            raise ValueError(f"listed more than once: {', '.join(twice)}; list each action once")
        return actions

    @field_validator("features")
    @classmethod
    def _object_id_is_categorical(cls, features: dict[str, Feature]) -> dict[str, Feature]:
        if OBJECT_ID in features and features[OBJECT_ID].kind != "categorical":
            raise ValueError(f"{OBJECT_ID} is an id; its kind must be categorical")
        return features

    @model_validator(mode="after")
    def _context_stands_apart(self) -> "Group":
        for name, spec in self.context.items():
            if name in (EVENT, OBJECT_ID, *self.features):
                raise ValueError(f"the context {name!r} is a column or a feature already; give it a name of its own")
            if spec.vocabulary is not None:
                raise ValueError(f"the context {name!r} has a vocabulary of its own; leave {spec.vocabulary!r} out")
        return self


class Schema(Settings):
    """What `schema.yaml` says: the log's name, the unit of its timestamps, and its groups of behaviors.

    >>> features = {"object_id": {"kind": "categorical"}, "shop_id": {"kind": "categorical", "vocabulary": "shop"}}
    >>> schema = Schema.model_validate({"name": "mine", "groups": {"item": {"actions": ["buy"], "features": features}}})
    >>> schema.vocabulary("item", "object_id"), schema.vocabulary("item", "shop_id")
    ('item.object_id', 'shop')
    """

    name: Annotated[str, Field(min_length=1)]
    timestamp_unit: Literal["s", "ms", "us", "ns"] = "s"
    groups: dict[str, Group] = Field(min_length=1)

    @field_validator("groups")
    @classmethod
    def _groups_name_files(cls, groups: dict[str, Group]) -> dict[str, Group]:
        for name in groups:
            if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
                raise ValueError(
                    f"{name!r} cannot name a group, because it names files; use only letters, digits, _ and -"
                )
        if len({name.lower() for name in groups}) < len(groups):
            raise ValueError("two groups differ only in upper and lower case; rename one, for they name files")
        return groups

    @classmethod
    def read(cls, path: str | Path) -> "Schema":
        """Read a `schema.yaml`. Raises EventLogError that lists every problem of the file."""
        return cls.checked(_load_yaml(Path(path)))

    @classmethod
    def checked(cls, content: Any) -> "Schema":
        """Make a schema of what a `schema.yaml` holds. Raises EventLogError that lists every problem."""
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise EventLogError(_readable(error)) from None

    def text(self) -> str:
        """What `schema.yaml` holds."""
        content = self.model_dump(mode="json", exclude_none=True)
        # PyYAML would write U+0085 as it is, and read it as a line break
        allow_unicode = "\x85" not in self.model_dump_json()
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=allow_unicode, default_flow_style=None)

    def vocabulary(self, group: str, feature: str) -> str:
        """Vocabulary of a feature: the declared one, or `<group>.<feature>` when none is declared."""
        return self.groups[group].features[feature].vocabulary or f"{group}.{feature}"

    def check_groups(self, names: Iterable[str] | None, what: str) -> tuple[str, ...]:
        """``names`` as a tuple, each once, all groups for None; ``ValueError`` when one is not a group.

        >>> histories.schema.check_groups(["item", "query", "item"], "targets")
        ('item', 'query')
        """
        names = tuple(self.groups if names is None else dict.fromkeys(names))
        unknown = [name for name in names if name not in self.groups]
        if unknown or not names:
            raise ValueError(f"{what}: {unknown or 'nothing given'}; the log's groups are {list(self.groups)}")
        return names


def key(name: str) -> str:
    """Name of a group's, feature's or vocabulary's module: any text, where ``nn.ModuleDict`` forbids dots and the
    names of its own attributes (``items``, ``type``)."""
    return "[" + name.replace("%", "%25").replace("/", "%2F").replace(".", "/") + "]"


def suggest(value: object, allowed: Iterable[str]) -> str:
    """`use one of a, b, c`, with the nearest of them pointed out when one is near."""
    allowed = list(allowed)
    near = difflib.get_close_matches(str(value), allowed, n=1)
    return f"use one of {', '.join(allowed)}" + (f" (did you mean {near[0]}?)" if near else "")


def sound_part(path: Path) -> tuple[Schema, list[Problem]]:
    """A schema without its faulty groups, whose tables can be checked all the same, and what is wrong with it.

    Raises EventLogError if no group is left.
    """
    content = _load_yaml(path)
    try:
        return Schema.checked(content), []
    except EventLogError as error:
        groups = content.get("groups") if isinstance(content, dict) else None
        if not isinstance(groups, dict):
            raise
        unit, sound = content.get("timestamp_unit"), None
        part = {"name": "sound part", "timestamp_unit": unit if unit in list(TICKS) else "s"}
        for name, group in groups.items():
            others: dict[str, Group] = sound.groups if sound else {}
            with suppress(ValidationError):
                sound = Schema.model_validate({**part, "groups": {**others, name: group}})
        if sound is None:
            raise
        return sound, list(error.problems)


class _Loader(yaml.SafeLoader):
    """The safe YAML loader, which also refuses a key given twice instead of keeping the last silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = set()
        for key_node, _ in node.value:
            key = (key_node.tag, str(key_node.value))
            if key in keys:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key_node.value!r} is given twice; keep one", key_node.start_mark
                )
            keys.add(key)
        return super().construct_mapping(node, deep)


def _load_yaml(path: Path) -> Any:
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        message = f"the file is missing in {path.parent}; write one that describes the tables"
    except UnicodeDecodeError as error:
        message = f"not UTF-8 text (byte {error.start}); save the file as UTF-8"
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, character {mark.column + 1}: " if mark else ""
        message = f"not valid YAML: {place}{_shorten(str(error.problem), 300)}; correct that line"
    except (yaml.YAMLError, ValueError) as error:
        message = f"not valid YAML: {_shorten(str(error), 300)}; correct it"
    except OSError as error:
        message = f"cannot be read ({error.strerror}); make it a readable file"
    raise EventLogError([Problem(path.name, None, None, None, message)])


# what pydantic's kinds of errors are to whoever writes the file
_MESSAGES = {
    "missing": "is missing; add it",
    "too_short": "is empty; give at least one",
    "string_too_short": "is empty; write some text",
    "string_type": "must be text; put it in quotes",
    "dict_type": "must be a mapping; write it as `key: value` lines",
    "model_type": "must be a mapping; write it as `key: value` lines",
    "tuple_type": "must be a list; write it as [first, second]",
}


def _readable(error: ValidationError) -> list[Problem]:
    """Pydantic's errors as problems that name the place in the file, the value and the remedy."""
    problems = []
    for item in error.errors(include_url=False):
        *parents, last = item["loc"] or ("the whole file",)
        kind, value = item["type"], item["input"]
        if kind == "value_error":
            message = str(item["ctx"]["error"])
        elif kind == "extra_forbidden":
            message = f"unknown key; {suggest(last, _MODELS[len(parents)].model_fields)}"
        elif kind == "literal_error":
            message = "not allowed; " + suggest(value, re.findall(r"'(\w+)'", item["ctx"]["expected"]))
        else:
            message = _MESSAGES.get(kind, f"{item['msg'][0].lower()}{item['msg'][1:]}; correct it")
        place = ".".join(str(part) for part in (*parents, last) if part != "[key]")
        value = None if kind in ("missing", "extra_forbidden") else value  # the place says it
        problems.append(Problem(SCHEMA_FILE, place, None, value, message))
    return problems


# the model at a place such as ("groups", "item", "time"), by the length of that place
_MODELS: dict[int, type[Settings]] = {0: Schema, 2: Group, 3: TimeScale, 4: Feature}


def _shorten(text: str, length: int = 100) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 3] + "..."
