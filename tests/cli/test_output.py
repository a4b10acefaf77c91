"""Ids that the output's encoding lacks are escaped; the work is done, and the exit code says so."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pandas as pd
import pytest

from atrank_lib.cli import main
from atrank_lib.log.events import EventLog
from atrank_lib.log.schema import Schema
from tests.cli.runner import Done, refused

TEA = "чай"
ESCAPED = r"\u0447\u0430\u0439"


@pytest.fixture
def log(
    tiny_schema: Schema, tiny_tables: tuple[dict[str, pd.DataFrame], dict[str, pd.DataFrame]], tmp_path: Path
) -> Path:
    events, objects = ({name: frame.replace("i2", TEA) for name, frame in tables.items()} for tables in tiny_tables)
    schema = tiny_schema.model_copy(update={"name": TEA})
    EventLog.from_tables(schema, events, objects).write(tmp_path / "log")
    return tmp_path / "log"


def ended(monkeypatch: pytest.MonkeyPatch, encoding: str, *arguments: str | Path | int) -> Done:
    """What the program does where stdout and stderr have this encoding."""
    out, err = io.BytesIO(), io.BytesIO()
    streams = [io.TextIOWrapper(stream, encoding, write_through=True) for stream in (out, err)]
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", ["atrank", *map(str, arguments)])
        patch.setattr(sys, "stdout", streams[0])
        patch.setattr(sys, "stderr", streams[1])
        with pytest.raises(SystemExit) as end:
            main()
    return Done(int(end.value.code or 0), *(stream.getvalue().decode(encoding) for stream in (out, err)))


def printed(monkeypatch: pytest.MonkeyPatch, encoding: str, *arguments: str | Path | int) -> str:
    done = ended(monkeypatch, encoding, *arguments)
    assert done.code == 0, done.err
    return done.out


@pytest.mark.parametrize("encoding", ["cp1252", "utf-8"])
def test_ids_in_another_script(monkeypatch: pytest.MonkeyPatch, encoding: str, log: Path, tmp_path: Path) -> None:
    tea = TEA if encoding == "utf-8" else ESCAPED
    run = tmp_path / TEA
    assert printed(monkeypatch, encoding, "check", log).startswith(f"{tea}: a valid event log")
    said = printed(monkeypatch, encoding, "train", "--data", log, "--out", run, "--targets", "item", "--max-steps", 1)
    assert said.splitlines()[-1].endswith(tea)
    rank = ("rank", "--run", run, "--data", log, "--user", "bert", "--group", "item", "--include-seen")
    *_, last = table = printed(monkeypatch, encoding, *rank).splitlines()
    assert sum(tea in line for line in table) == 1
    assert len({len(line) for line in table}) == 1, last  # an escaped id is as wide as its column
    assert TEA in [row["object_id"] for row in json.loads(printed(monkeypatch, encoding, *rank, "--json"))]


def test_help(monkeypatch: pytest.MonkeyPatch) -> None:
    for encoding in ("cp1252", "ascii"):
        assert "Usage: atrank" in printed(monkeypatch, encoding, "--help")


def test_refusals_name_places_in_another_script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done = ended(monkeypatch, "cp1252", "evaluate", "--run", tmp_path / TEA, "--data", tmp_path)
    refused(done, f"{ESCAPED} holds no run")
