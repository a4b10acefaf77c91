"""`atrank check`: exit code, summary and the list of problems."""

from __future__ import annotations

from pathlib import Path

import pytest

from atrank_lib.log.events import EventLog
from tests.cli.runner import atrank


def test_valid_log(tiny_log: EventLog, tmp_path: Path) -> None:
    tiny_log.write(tmp_path / "log")
    done = atrank("check", tmp_path / "log")
    assert (done.code, done.err) == (0, "")
    assert "tiny marketplace" in done.out
    assert tiny_log.fingerprint() in done.out
    cells = {
        line.split("│")[1].strip(): line.replace("│", " ").split() for line in done.out.splitlines() if "│" in line
    }
    assert cells["users"][1:] == ["4", "2", "2", "5"]
    assert cells["behaviors"][1:] == ["12", "4", "4", "20"]
    assert cells["distinct shop_id"][2:] == ["3", "-", "3", "3"]
    assert cells["last day"][2:] == ["1970-02-10", "1970-01-21", "1970-03-02", "1970-03-02"]


def test_piped_table_is_whole(tiny_log: EventLog, tmp_path: Path) -> None:
    name = "g" * 120
    schema = tiny_log.schema.model_copy(update={"groups": {name: tiny_log.schema.groups["item"]}})
    wide = EventLog.from_tables(schema, {name: tiny_log.events["item"]}, {name: tiny_log.objects["item"]})
    wide.write(tmp_path / "log")
    assert name in atrank("check", tmp_path / "log").out


def test_every_problem_on_stderr(tiny_log: EventLog, tmp_path: Path) -> None:
    tiny_log.write(tmp_path / "log")
    (tmp_path / "log" / "coupon.objects.parquet").unlink()
    (tmp_path / "log" / "query.events.parquet").write_bytes(b"no Parquet")
    done = atrank("check", tmp_path / "log")
    assert (done.code, done.out) == (1, "")
    lines = done.err.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("coupon.objects.parquet: the table is missing")
    assert lines[1].startswith("query.events.parquet: cannot be read as parquet")
    assert lines[2].endswith("2 problems; rows count from 0")


def test_no_folder(tmp_path: Path) -> None:
    done = atrank("check", tmp_path / "nowhere")
    assert done.code == 1
    assert "nowhere: not a folder" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("arguments", [["--help"], ["check", "--help"]])
def test_help(arguments: list[str]) -> None:
    done = atrank(*arguments)
    assert done.code == 0
    assert "Usage: atrank" in done.out
    assert "check" in done.out
