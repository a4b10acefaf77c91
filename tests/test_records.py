"""Records on disk: packed results, provenance, and where they are found."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atrank_lib.evaluation import AverageUserAUC, Evaluation
from experiments.records import (
    RecordError,
    pack,
    provenance,
    read_record,
    recorded,
    recorded_runs,
    result,
    slug,
    unpack,
    write_record,
)
from tests.random_logs import random_log


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), max_size=300))
def test_unpack_is_the_inverse_of_pack(values):
    assert unpack(pack(np.array(values, dtype=np.float64))).tolist() == values


def test_other_aucs_cannot_be_packed():
    with pytest.raises(ValueError, match="evaluate with one negative"):
        pack(np.array([0.25]))


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("Amazon Sports (2014)", "amazon_sports"),
        ("Amazon Sports_and_Outdoors (2014, 5-core)", "amazon_sports_and_outdoors"),
        ("日志", "log"),
    ],
)
def test_names_of_folders(name, folder):
    assert slug(name) == folder


def test_a_result_tells_who_was_won_only_under_one_negative():
    auc = AverageUserAUC(np.array([1.0, 0.0, 0.5]), 0)
    one = result(Evaluation.of({"item": auc}, negatives=1, seed=0))
    assert one["average_user_auc"] == 0.5
    assert unpack(one["per_user"]).tolist() == [1.0, 0.0, 0.5]
    assert "per_user" not in result(Evaluation.of({"item": auc}, negatives=5, seed=0))


def test_provenance_names_data_code_and_machine():
    log = random_log(1)
    found = provenance(log)
    assert set(found) == {"data_name", "data_fingerprint", "commit", "versions", "hardware"}
    assert found["data_fingerprint"] == log.fingerprint()


def test_records_are_written_whole_or_not_at_all(tmp_path: Path):
    file = tmp_path / "new" / "a.json"
    write_record(file, {"a": 1})
    assert read_record(file) == {"a": 1}
    with pytest.raises(TypeError):
        write_record(file, {"a": object()})
    assert read_record(file) == {"a": 1}
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_damaged_record_is_named(tmp_path: Path, text):
    file = tmp_path / "a.json"
    file.write_text(text)
    with pytest.raises(RecordError, match=r"a\.json .*delete it"):
        read_record(file)


def test_recorded_folders_are_found_from_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "results" / "mine").mkdir(parents=True)
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    assert recorded("mine") == tmp_path / "results" / "mine"
    assert recorded("nothing of this name") is None


def test_recorded_runs_are_found_from_any_folder_below_and_sorted_by_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = tmp_path / "results" / "some_log"
    folder.mkdir(parents=True)
    for seed in (10, 9):
        (folder / f"atrank-seed{seed}.json").write_text(json.dumps({"seed": seed}))
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert [r["seed"] for r in recorded_runs("some_log")] == [9, 10]
    assert recorded_runs("no_such_log") == []
