"""A schema as YAML with a comment on every line, for people who will change it."""

from __future__ import annotations

from collections.abc import Mapping

import yaml

from atrank_lib.log import Feature, Schema, TimeScale
from atrank_lib.log.schema import OBJECT_ID

Whys = Mapping[tuple[str, str], str]


def schema_text(schema: Schema, whys: Whys, sources: str) -> str:
    """The file `schema.yaml`; `whys` has comments by group and feature, and by group and `time`."""
    lines = [
        (f"# Drafted by `atrank init` from {_printable(sources)}.", ""),
        ("# Change here what it guessed wrong, then run `atrank check`.", ""),
        (f"name: {_scalar(schema.name)}", "what messages and records call this log"),
        (f"timestamp_unit: {schema.timestamp_unit}", "of the column timestamp: s, ms, us or ns since 1970, in UTC"),
        ("groups:", "objects with the same features form a group"),
    ]
    for name, group in schema.groups.items():
        lines += [
            (f"  {_scalar(name)}:", f"its tables are {name}.events and {name}.objects"),
            (
                f"    actions: [{', '.join(map(_scalar, group.actions))}]",
                "what can be done: every value of the column action",
            ),
            ("    features:", f"the columns of {name}.objects that the model reads"),
        ]
        for feature, spec in group.features.items():
            lines.append(
                (f"      {_scalar(feature)}: {_feature(spec)}", _why(feature, spec, whys.get((name, feature))))
            )
        lines.append(
            (f"    time: {_time(group.time)}", whys.get((name, "time"), "how elapsed time falls into buckets"))
        )
        if group.context:
            lines.append(("    context:", f"the columns of {name}.impressions that a ranking network reads"))
        for column, spec in group.context.items():
            lines.append((f"      {_scalar(column)}: {_feature(spec)}", _why(column, spec, whys.get((name, column)))))
    width = min(60, max(len(line) for line, why in lines if why))
    return "".join(f"{line:<{width}}  # {_printable(why)}\n" if why else f"{line}\n" for line, why in lines)


def _printable(comment: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in comment).split())


def _why(feature: str, spec: Feature, why: str | None) -> str:
    if feature == OBJECT_ID:
        return "the id itself; without this line only the features below describe an object"
    meaning = {"categorical": "one value", "continuous": "one number", "tokens": "a list of values"}[spec.kind]
    shared = "; the same vocabulary elsewhere means the same values" if spec.vocabulary else ""
    return meaning + (f" ({why})" if why else "") + shared


def _feature(spec: Feature) -> str:
    vocabulary = f", vocabulary: {_scalar(spec.vocabulary)}" if spec.vocabulary is not None else ""
    return f"{{kind: {spec.kind}{vocabulary}}}"


def _time(time: TimeScale) -> str:
    if time.edges is not None:
        edges = yaml.safe_dump(list(time.edges), default_flow_style=True, width=10**9).strip()
        return f"{{unit: {time.unit}, edges: {edges}}}"
    return f"{{unit: {time.unit}, buckets: {time.buckets}}}"


def _scalar(text: str) -> str:
    """Text as YAML that reads back as the same text."""
    plain = text.isascii() and text.replace("_", "a").replace("-", "a").isalnum() and text[0].isalpha()
    if plain and yaml.safe_load(text) == text:  # not yes, no, null and the like
        return text
    # what cannot be printed must be escaped: YAML would read some of it as the end of a line
    return str(yaml.safe_dump(text, default_style='"', allow_unicode=text.isprintable(), width=10**9)).strip()
