"""Schema: what is accepted, what is refused, and how a refusal reads."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from atrank_lib.log.schema import EventLogError, Schema, TimeScale

DESIGN = """
name: simulated marketplace
timestamp_unit: s
groups:
  item:
    actions: [browse, mark, buy]
    features:
      object_id:   {kind: categorical}
      shop_id:     {kind: categorical, vocabulary: shop}
      price:       {kind: continuous}
    time: {unit: day, scale: exponential}
  query:
    actions: [search]
    features: {tokens: {kind: tokens, vocabulary: token}, shop_name: {kind: categorical, vocabulary: token}}
    time: {unit: hour, edges: [1, 2.5, 24]}
"""


def problems(tmp_path: Path, text: str | bytes) -> list[str]:
    path = tmp_path / "schema.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(EventLogError) as caught:
        Schema.read(path)
    return [str(problem) for problem in caught.value.problems]


def changed(path: str, value: object) -> str:
    """The schema above as YAML, with the value at a dotted place replaced (or removed, for Ellipsis)."""
    content = yaml.safe_load(DESIGN)
    *parents, last = path.split(".")
    inner = content
    for part in parents:
        inner = inner[part]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return yaml.safe_dump(content)


def test_read_and_write(tmp_path: Path) -> None:
    (tmp_path / "schema.yaml").write_text(DESIGN)
    schema = Schema.read(tmp_path / "schema.yaml")
    assert list(schema.groups) == ["item", "query"]
    assert schema.groups["item"].actions == ("browse", "mark", "buy")
    assert schema.groups["item"].time == TimeScale(unit="day", buckets=16)
    assert schema.groups["query"].time.edges == (1.0, 2.5, 24.0)
    assert schema.groups["query"].time.buckets == 4
    (tmp_path / "again.yaml").write_text(schema.text(), encoding="utf-8")
    assert Schema.read(tmp_path / "again.yaml") == schema
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.yaml", "schema.yaml"]


@pytest.mark.parametrize("name", ["購買", "é ", "yes", "1", "a\x85b", "\u2028", "\ufeff", "#x: y", "'\"", "\x01\x7f\n"])
def test_any_name_is_read_back(tmp_path: Path, name: str) -> None:
    content = yaml.safe_load(DESIGN)
    content["name"] = name
    content["groups"]["item"]["actions"] = [name, "buy"]
    content["groups"]["item"]["features"][name] = {"kind": "categorical", "vocabulary": name}
    schema = Schema.model_validate(content)
    (tmp_path / "schema.yaml").write_text(schema.text(), encoding="utf-8")
    assert Schema.read(tmp_path / "schema.yaml") == schema


def test_vocabulary() -> None:
    schema = Schema.model_validate(yaml.safe_load(DESIGN))
    assert schema.vocabulary("item", "shop_id") == "shop"
    assert schema.vocabulary("item", "object_id") == "item.object_id"
    # tokens and single values may share a vocabulary
    assert schema.vocabulary("query", "tokens") == schema.vocabulary("query", "shop_name") == "token"


def test_frozen() -> None:
    schema = Schema.model_validate(yaml.safe_load(DESIGN))
    with pytest.raises(ValidationError, match="frozen"):
        schema.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("path", "value", "place", "words"),
    [
        ("name", ..., "at name", ["missing", "add it"]),
        ("name", 7, "at name, value 7", ["quotes"]),
        ("timestamp_unit", "sec", "at timestamp_unit, value 'sec'", ["s, ms, us, ns"]),
        ("groups", {}, "at groups", ["empty"]),
        ("groups", ["item"], "at groups", ["mapping"]),
        ("group", {}, "at group", ["unknown key", "did you mean groups?"]),
        (
            "groups.a/b",
            {"actions": ["x"], "features": {"f": {"kind": "tokens"}}},
            "at groups",
            ["'a/b'", "files"],
        ),
        (
            "groups.ITEM",
            {"actions": ["x"], "features": {"f": {"kind": "tokens"}}},
            "at groups",
            ["case", "rename"],
        ),
        ("groups.item.actions", ..., "at groups.item.actions", ["missing"]),
        ("groups.item.actions", [], "at groups.item.actions", ["empty"]),
        ("groups.item.actions", "buy", "at groups.item.actions, value 'buy'", ["list", "[first, second]"]),
        ("groups.item.actions", ["on", True], "at groups.item.actions.1, value True", ["quotes"]),
        ("groups.item.actions", ["buy", "buy"], "at groups.item.actions", ["more than once: buy"]),
        ("groups.item.features", {}, "at groups.item.features", ["empty"]),
        ("groups.item.feature", {}, "at groups.item.feature", ["did you mean features?"]),
        (
            "groups.item.features.price.kind",
            "number",
            "at groups.item.features.price.kind",
            ["'number'", "continuous"],
        ),
        (
            "groups.item.features.price.vocab",
            "x",
            "at groups.item.features.price.vocab",
            ["did you mean vocabulary?"],
        ),
        (
            "groups.item.features.price.vocabulary",
            "shop",
            "at groups.item.features.price",
            ["'shop'", "remove"],
        ),
        (
            "groups.item.features.object_id.kind",
            "tokens",
            "at groups.item.features",
            ["object_id", "categorical"],
        ),
        ("groups.item.time.unit", "days", "at groups.item.time.unit, value 'days'", ["did you mean day?"]),
        ("groups.item.time.bucket", 8, "at groups.item.time.bucket", ["did you mean buckets?"]),
        (
            "groups.item.time.buckets",
            1,
            "at groups.item.time.buckets, value 1",
            ["greater than or equal to 2"],
        ),
        ("groups.item.time.buckets", True, "at groups.item.time.buckets, value True", ["integer"]),
        ("groups.query.time.edges", [], "at groups.query.time.edges", ["at least one"]),
        ("groups.query.time.edges", [1, 7, 7], "at groups.query.time.edges, value [1, 7, 7]", ["ascend"]),
        ("groups.query.time.edges", [0, 7], "at groups.query.time.edges, value [0, 7]", ["positive"]),
        ("groups.query.time.edges", [1, float("inf")], "at groups.query.time.edges", ["finite"]),
        ("groups.query.time.edges", [1, "7"], "at groups.query.time.edges.1, value '7'", ["number"]),
        ("groups.query.time.buckets", 9, "at groups.query.time", ["3 edges make 4 buckets, not 9"]),
    ],
)
def test_refused(tmp_path: Path, path: str, value: object, place: str, words: list[str]) -> None:
    (message,) = problems(tmp_path, changed(path, value))
    assert message.startswith(f"schema.yaml, {place}")
    for word in words:
        assert word in message


def test_all_at_once(tmp_path: Path) -> None:
    content = yaml.safe_load(DESIGN)
    content["timestamp_unit"] = "h"
    content["groups"]["item"]["actions"] = []
    content["groups"]["query"]["features"]["tokens"]["kind"] = "words"
    found = problems(tmp_path, yaml.safe_dump(content))
    assert len(found) == 3
    assert [any(word in line for line in found) for word in ("timestamp_unit", "item.actions", "tokens.kind")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: [a\ngroups: {}\n", ["line 2", "YAML"]),
        ("name: a\nname: b\n", ["line 2", "'name' is given twice"]),
        ("name: !!python/object/apply:os.getcwd []\n", ["line 1", "python/object/apply"]),
        (b"name: \xff\n", ["UTF-8"]),
        ("", ["mapping"]),
        ("- a\n", ["mapping"]),
    ],
)
def test_bad_yaml(tmp_path: Path, text: str | bytes, words: list[str]) -> None:
    (message,) = problems(tmp_path, text)
    assert message.startswith("schema.yaml")
    for word in words:
        assert word in message


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(EventLogError, match=r"schema\.yaml: the file is missing"):
        Schema.read(tmp_path / "schema.yaml")
