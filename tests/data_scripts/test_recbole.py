"""A log as RecBole's atomic files: any log comes back, by `atrank init` and by RecBole's calls, or is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from typer import Typer
from typer.testing import CliRunner

from atrank_lib.cli import app
from atrank_lib.log import EventLog, EventLogError, Schema
from data_scripts import recbole
from data_scripts._errors import PreparationError
from data_scripts.drafting import Hints, draft
from tests import sharded
from tests.atomic_files import MISSING, as_recbole_reads
from tests.random_logs import random_log, shapes


def assert_same(log: EventLog, again: EventLog) -> None:
    """Users, times, actions, objects and features, row by row; the rest of the schema stays behind."""
    assert set(again.schema.groups) == set(log.schema.groups)
    for name, group in log.schema.groups.items():
        events, objects = again.events[name], again.objects[name]
        pd.testing.assert_frame_equal(
            events.astype({"action": "str"}), log.events[name].astype({"action": "str"}), check_exact=True
        )
        pd.testing.assert_frame_equal(objects, log.objects[name], check_exact=True)
        kinds = {feature: spec.kind for feature, spec in again.schema.groups[name].features.items()}
        assert kinds == {"object_id": "categorical"} | {f: spec.kind for f, spec in group.features.items()}


def values(column: pd.Series) -> list[Any]:
    """The values of a column, None for all that are missing."""
    return [None if not isinstance(value, list) and pd.isna(value) else value for value in column]


def assert_recbole_reads(log: EventLog, out: Path) -> None:
    for name in log.schema.groups:
        inter, item = (as_recbole_reads(out / name / f"{name}.{suffix}") for suffix in ("inter", "item"))
        events, objects = log.events[name], log.objects[name]
        inter, item = (frame.rename(columns={"item_id": "object_id"}) for frame in (inter, item))
        for found, there in ((inter, events), (item, objects)):
            assert [values(found[column]) for column in there] == [values(there[column]) for column in there]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(shape=shapes(), unit=st.sampled_from(["s", "ms", "us", "ns"]))
def test_any_log_comes_back(
    shape: tuple[int, int, int, int, int], unit: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    log = random_log(*shape)
    log = EventLog(log.schema.model_copy(update={"timestamp_unit": unit}), log.events, log.objects)
    folder = tmp_path_factory.mktemp("recbole")
    recbole.write(log, folder / "out")
    assert_recbole_reads(log, folder / "out")
    made = draft(folder / "out", Hints(time_format=unit))  # its times are too near to 1970 to tell
    made.write(folder / "log")
    assert_same(log, EventLog.read(folder / "log"))
    shutil.rmtree(folder)


TEXT = st.text(st.one_of(st.sampled_from("\t\n\r\0\"' ,a0|#-.\ufeff\u3000\x85\u2028é"), st.characters(codec="utf-8")))
WORDS = st.one_of(TEXT, st.sampled_from([*MISSING, "nan ", '"', '""', '"a', "'", " ", "\\N", "a b"]))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    user=WORDS.filter(bool), thing=WORDS.filter(bool), brand=st.none() | WORDS, tags=st.lists(WORDS, max_size=3),
    price=st.none() | st.floats(-1e30, 1e30), name=st.sampled_from(["brand", "a b", "x:y", "item_id", 'q"', "é", "\t"]),
)  # fmt: skip
@example(user="u", thing="x", brand="nan", tags=["a"], price=0.1, name="brand")
@example(user="u", thing="x", brand=None, tags=["None"], price=None, name="brand")
@example(user="u", thing='"x', brand='5" b', tags=['"a', '"'], price=1e-300, name="a b")
def test_odd_values_come_back_or_are_refused(
    user: str, thing: str, brand: str | None, tags: list[str], price: float | None, name: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    features = {name: "categorical", "tags": "tokens", "price": "continuous"}
    content = {"actions": ["buy"], "features": {feature: {"kind": kind} for feature, kind in features.items()}}
    schema = Schema.checked({"name": "odd", "groups": {"item": content}})
    events = pd.DataFrame({"user_id": [user], "timestamp": [978300760], "action": "buy", "object_id": [thing]})
    other = "b" if thing == "a" else "a"
    objects = pd.DataFrame({"object_id": [thing, other], name: pd.Series([brand, "z"], dtype="str"),
                            "tags": [tags, ["t"]], "price": [price, 1.0]})  # fmt: skip
    log = EventLog.from_tables(schema, {"item": events}, {"item": objects})
    folder = tmp_path_factory.mktemp("recbole")
    texts = [user, thing, *([] if brand is None else [brand]), *([" ".join(tags)] if tags else [])]
    can_be_held = (
        name in ("brand", "a b", "é")
        and not any(mark in text for text in texts for mark in "\t\n\r\0")
        and not any(text.strip() in ("", *MISSING) and (text in MISSING or not text.strip()) for text in texts)
        and not any(token == "" or " " in token for token in tags)
    )
    try:
        recbole.write(log, folder / "out")
    except EventLogError:
        assert not can_be_held
        assert not list(folder.iterdir())
    else:
        assert can_be_held
        assert_recbole_reads(log, folder / "out")
        assert_same(log, draft(folder / "out").log)
    shutil.rmtree(folder)


def one_row(**changed: Any) -> EventLog:
    row = {"user_id": "u", "object_id": "x", "feature": "brand", "value": "b", "tags": ["t"]} | changed
    features = {row["feature"]: {"kind": "categorical"}, "tags": {"kind": "tokens"}}
    schema = Schema.checked({"name": "n", "groups": {"item": {"actions": ["buy"], "features": features}}})
    events = pd.DataFrame({"user_id": ["u", row["user_id"]], "timestamp": [5, 6], "action": "buy",
                           "object_id": ["first", row["object_id"]]})  # fmt: skip
    objects = pd.DataFrame({"object_id": ["first", row["object_id"]], row["feature"]: ["b", row["value"]],
                            "tags": [["t"], row["tags"]]})  # fmt: skip
    return EventLog.from_tables(schema, {"item": events}, {"item": objects})


@pytest.mark.parametrize(
    ("changed", "place", "words"),
    [
        ({"user_id": "a\tb"}, ("item.events", "user_id", 1, "a\tb"), "no tab"),
        ({"value": "a\r"}, ("item.objects", "brand", 1, "a\r"), "no tab, line break"),
        ({"value": "a\0"}, ("item.objects", "brand", 1, "a\0"), "NUL"),
        ({"user_id": "None"}, ("item.events", "user_id", 1, "None"), "missing; replace it"),
        ({"value": ""}, ("item.objects", "brand", 1, ""), "missing; replace it"),
        ({"tags": ["null"]}, ("item.objects", "tags", 1, "null"), "missing; replace it"),
        ({"tags": ["a b", "c"]}, ("item.objects", "tags", 1, ["a b", "c"]), "holds a blank"),
        ({"tags": ["a", ""]}, ("item.objects", "tags", 1, ["a", ""]), "a token is empty"),
        ({"feature": "timestamp"}, ("item.objects", "timestamp", None, None), "taken (user_id, item_id, timestamp"),
        ({"feature": "a:b"}, ("item.objects", "a:b", None, None), "holds a colon"),
    ],
)
def test_what_the_files_cannot_hold_is_refused(
    tmp_path: Path, changed: dict[str, Any], place: tuple[str, str, int | None, object], words: str
) -> None:
    with pytest.raises(EventLogError) as caught:
        recbole.write(one_row(**changed), tmp_path / "out")
    (problem,) = caught.value.problems
    assert (problem.table, problem.column, problem.row, problem.value) == place
    assert words in problem.message
    assert not list(tmp_path.iterdir())


def test_all_values_that_cannot_be_held_are_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(EventLogError) as caught:
        recbole.write(one_row(user_id="a\tb", object_id="nan", value="\n", tags=[""]), tmp_path / "out")
    found = [(problem.table, problem.column) for problem in caught.value.problems]
    assert sorted(set(found)) == [
        *(("item.events", "object_id"), ("item.events", "user_id"), ("item.objects", "brand")),
        *(("item.objects", "object_id"), ("item.objects", "tags")),
    ]


def run(program: Typer, *arguments: str | Path) -> SimpleNamespace:
    done = CliRunner().invoke(program, [str(a) for a in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return SimpleNamespace(code=done.exit_code, out=done.stdout, err=done.stderr)


EXPORT = Typer()
EXPORT.command()(recbole.main)


def test_command(tiny_log: EventLog, tmp_path: Path) -> None:
    tiny_log.write(tmp_path / "log")
    out = tmp_path / "out"
    done = run(EXPORT, "--data", tmp_path / "log", "--out", out)
    assert (done.code, done.err) == (0, "")
    assert len(done.out.splitlines()) == len(tiny_log.schema.groups)
    assert f'data_path="{out}", dataset="item"' in done.out
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.*")) == sorted(
        f"{name}/{name}.{suffix}" for name in tiny_log.schema.groups for suffix in ("inter", "item")
    )
    done = run(app, "init", out, "--out", tmp_path / "again", "--time-format", tiny_log.schema.timestamp_unit)
    assert done.code == 0
    assert_same(tiny_log, EventLog.read(tmp_path / "again"))
    before = (out / "item" / "item.inter").read_bytes()
    refused = run(EXPORT, "--data", tmp_path / "log", "--out", out)
    assert (refused.code, refused.err.count("\n")) == (1, 1)
    assert "exists already; choose another --out or pass --overwrite" in refused.err
    (out / "item" / "item.inter").write_text("old")
    assert run(EXPORT, "--data", tmp_path / "log", "--out", out, "--overwrite").code == 0
    assert (out / "item" / "item.inter").read_bytes() == before


@pytest.mark.parametrize("kind", ["other file", "file", "sharded", "failing"])
def test_command_refuses(tiny_log: EventLog, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data, out = tmp_path / "log", tmp_path / "out"
    words = {"other file": "mine.txt: no file of RecBole's", "file": "out: no file of RecBole's",
             "sharded": "a sharded log", "failing": "the disk is full"}[kind]  # fmt: skip
    if kind == "sharded":
        sharded.write(tiny_log, data, 2)
    else:
        tiny_log.write(data)
    if kind == "other file":
        out.mkdir()
        (out / "mine.txt").write_text("mine")
    elif kind == "file":
        out.write_text("mine")
    elif kind == "failing":

        def fail(frame: pd.DataFrame, path: Path, **more: Any) -> None:
            path.write_text("half")
            raise OSError(28, "No space left on device", str(path))

        monkeypatch.setattr(pd.DataFrame, "to_csv", fail)
    before = sorted(path for path in tmp_path.rglob("*"))
    done = run(EXPORT, "--data", data, "--out", out, "--overwrite")
    assert done.code == 1
    assert words in done.err
    assert sorted(path for path in tmp_path.rglob("*")) == before


def test_prepare_reads_no_log_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(EventLogError, match="not a folder"):
        recbole.prepare(tmp_path / "no", tmp_path / "out", False)
    (tmp_path / "out").mkdir()
    with pytest.raises(PreparationError, match="exists already"):
        recbole.write(one_row(), tmp_path / "out")
