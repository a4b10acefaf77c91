"""`atrank export`: documents and graphs; errors are one message."""

from __future__ import annotations

import json
from pathlib import Path

import onnxruntime
import pytest

from tests.cli.runner import atrank
from tests.models import a_log
from tests.random_logs import SCHEMA


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "log"
    a_log().write(folder)
    return folder


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "run"
    assert atrank("train", "--data", data, "--out", folder, "--epochs", 1, "--batch-size", 16).code == 0
    return folder


def test_the_command_writes_a_document(run: Path, data: Path, tmp_path: Path) -> None:
    done = atrank("export", "--run", run, "--data", data, "--format", "browser", "--out", tmp_path / "m.json")
    assert done.code == 0, done.err
    document = json.loads((tmp_path / "m.json").read_text(encoding="utf-8"))
    assert document["format"] == "atrank-browser-1"
    assert 3 <= len(document["examples"]) <= 6  # two a group, where there are two test samples
    assert f"{(tmp_path / 'm.json').stat().st_size:,} bytes" in done.out
    assert [p.name for p in tmp_path.iterdir()] == ["m.json"]


def test_the_command_writes_a_graph(run: Path, tmp_path: Path) -> None:
    done = atrank("export", "--run", run, "--format", "onnx", "--target", "query", "--out", tmp_path / "m.onnx")
    assert done.code == 0, done.err
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    assert "candidates.tokens" in {entry.name for entry in session.get_inputs()}


def test_what_the_command_refuses(run: Path, data: Path, tmp_path: Path) -> None:
    cnn, out = tmp_path / "cnn", tmp_path / "out" / "m"
    assert atrank("train", "--data", data, "--out", cnn, "--model", "cnn", "--epochs", 1).code == 0
    for arguments, parts in [
        (("--run", run, "--format", "browser"), ["--data"]),
        (("--run", run, "--format", "onnx"), ["--target", ", ".join(SCHEMA.groups)]),
        (("--run", run, "--format", "onnx", "--target", "shoe"), ["shoe", "item"]),
        (("--run", cnn, "--format", "onnx", "--target", "item"), ["'cnn'", "atrank"]),
        (("--run", cnn, "--format", "browser", "--data", data), ["'cnn'", "atrank"]),
        (("--run", tmp_path, "--format", "browser", "--data", data), ["holds no run"]),
        (("--run", run, "--format", "browser", "--data", data), [str(out.parent)]),  # no such folder
    ]:
        done = atrank("export", *arguments, "--out", out)
        assert (done.code, done.out) == (1, ""), arguments
        assert len(done.err.splitlines()) == 1, done.err
        assert all(part in done.err for part in parts), done.err
    assert not out.parent.exists()


def test_a_log_of_another_schema_is_refused(run: Path, tiny_log, tmp_path: Path) -> None:
    tiny_log.write(tmp_path / "tiny")
    done = atrank("export", "--run", run, "--data", tmp_path / "tiny", "--format", "browser", "--out", tmp_path / "m")
    assert done.code == 1
    assert "schema" in done.err
    assert not (tmp_path / "m").exists()
