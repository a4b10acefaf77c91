"""Records on disk: packed results, provenance, and where they lie."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atrank_lib.evaluation import AverageUserAUC, Evaluation
from atrank_lib.log.events import EventLog
from experiments.records import (
    ExperimentError,
    pack,
    place,
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
from tools.project import ROOT

RESULTS = ROOT / "results"


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), max_size=300))
def test_unpack_is_the_inverse_of_pack(values):
    assert unpack(pack(np.array(values, dtype=np.float64))).tolist() == values


@given(st.lists(st.floats(0, 1), max_size=300))
def test_aucs_of_users_with_several_targets_are_kept_in_32_bits(values):
    np.testing.assert_allclose(unpack(pack(np.array(values))), values, rtol=1e-6, atol=1e-30)


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
    with pytest.raises(ExperimentError, match=r"a\.json .*delete it"):
        read_record(file)


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


def named(name: str, seed: int = 1) -> EventLog:
    log = random_log(seed)
    return EventLog.from_tables(log.schema.model_copy(update={"name": name}), log.events, log.objects)


@pytest.mark.parametrize(
    ("one", "other"),
    [("Shop (2023)", "Shop (2024)"), ("日志", "журнал"), ("C", "C++"), ("A/B", "a b"), ("Müller", "M ller")],
)
def test_logs_with_one_slug_do_not_share_a_folder(tmp_path: Path, one, other):
    first, second = named(one), named(other)
    there = place(tmp_path, "table3", first)
    assert there == tmp_path / "table3" / slug(one) == place(tmp_path, "table3", second)  # whoever comes first
    write_record(there / "cnn-seed0.json", {"data_fingerprint": first.fingerprint()})
    apart = place(tmp_path, "table3", second)
    assert apart == there.with_name(f"{there.name}-{second.fingerprint()}")
    write_record(apart / "cnn-seed0.json", {"data_fingerprint": second.fingerprint()})
    assert (place(tmp_path, "table3", first), place(tmp_path, "table3", second)) == (there, apart)
    for file in there.iterdir():
        file.unlink()
    assert place(tmp_path, "table3", second) == apart  # where its records are
    assert place(tmp_path, "table3", first, "fast") == there.with_name(f"{there.name}-fast")


def test_a_log_that_changed_under_its_name_begins_anew(tmp_path: Path):
    before, after = random_log(1), random_log(2)
    assert before.schema.name == after.schema.name
    write_record(place(tmp_path, "table5", before) / "cnn-item-seed0.json", {"data_fingerprint": before.fingerprint()})
    assert place(tmp_path, "table5", after) != place(tmp_path, "table5", before)


def test_what_is_no_record_of_a_log_claims_no_folder(tmp_path: Path):
    folder = tmp_path / "search" / "random"
    folder.mkdir(parents=True)
    (folder / "cnn.json").write_text("{")
    (folder / "notes.json").write_text('{"by": "hand"}')
    assert place(tmp_path, "search", random_log(1)) == folder


def recorded_folders() -> list[tuple[str, str, str, str]]:
    """The folders of records of this repository: table, folder, name and fingerprint of the log."""
    found = set()
    for file in RESULTS.glob("*/*/*.json"):
        record = read_record(file)
        found.add((file.parts[-3], file.parts[-2], record["data_name"], record["data_fingerprint"]))
    return sorted(found)


@pytest.mark.parametrize(("table", "folder", "name", "fingerprint"), recorded_folders())
def test_the_recorded_folders_are_found(monkeypatch: pytest.MonkeyPatch, table, folder, name, fingerprint):
    log = named(name)
    monkeypatch.setattr(EventLog, "fingerprint", lambda self: fingerprint)
    assert place(RESULTS, table, log, "fast" if folder.endswith("-fast") else "full") == RESULTS / table / folder


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
