"""Runs on disk: what is in their folder, and that what is loaded is what was trained."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from atrank_lib.evaluation import evaluate
from atrank_lib.grouping import GroupedHistories
from atrank_lib.log.events import EventLog
from atrank_lib.runs import RunError, load_run, versions
from atrank_lib.samples import build_batch, prepare, seen_objects, split
from atrank_lib.serve.ranker import Ranker, moments
from experiments.records import record_run
from tests.random_logs import random_log
from tests.runs.small import RECIPE, Train, files, same_weights


def test_files_of_a_run(trained: Path, log: EventLog) -> None:
    assert set(files(trained)) == {
        "config.json",
        "metrics.json",
        "model.safetensors",
        "vocabularies.json",
        "checkpoints/epoch-0001/state.json",
        "checkpoints/epoch-0001/weights.safetensors",
        "checkpoints/epoch-0002/optimizer.safetensors",
        "checkpoints/epoch-0002/state.json",
        "checkpoints/epoch-0002/weights.safetensors",
    }
    config = json.loads((trained / "config.json").read_text())
    assert config["data_fingerprint"] == log.fingerprint()
    assert (config["model"], config["protocol"], config["seed"]) == ("atrank", "validated", 0)
    assert config["targets"] == config["histories"] == ["item", "query", "coupon"]
    assert config["options"]["hidden"] == 8
    assert config["recipe"]["batch_size"] == 16
    assert config["versions"] == versions()
    metrics = json.loads((trained / "metrics.json").read_text())
    assert len(metrics["epochs"]) == 2
    for entry in metrics["epochs"]:
        assert {
            "epoch",
            "steps",
            "samples",
            "loss",
            "validation_auc",
            "seconds",
            "cpu_seconds",
            "samples_per_second",
        } <= set(entry)


def test_loaded_model_is_the_trained_one(trained: Path, log: EventLog) -> None:
    loaded = load_run(trained)
    assert not loaded.model.training
    metrics = json.loads((trained / "metrics.json").read_text())
    best = load_file(trained / "checkpoints" / f"epoch-{metrics['best_epoch']:04d}" / "weights.safetensors")
    for name, value in best.items():
        assert torch.equal(loaded.model.state_dict()[name], value)
    histories = loaded.histories_of(log)
    test = split(histories, loaded.config.protocol).test["item"]
    batch = build_batch(histories, test, test.objects[:, None])
    with torch.no_grad():
        assert torch.equal(loaded.model(batch).scores, load_run(trained).model(batch).scores)


def test_vocabularies_hold_what_training_shows(trained: Path, log: EventLog) -> None:
    histories, parts = prepare(log, "validated")
    seen = seen_objects(histories, parts.train)
    words = load_run(trained).vocabularies.words
    for group in ("item", "coupon"):
        ids = histories.catalogs[group].object_ids
        expected = {ids[i] for i in seen[group].nonzero().flatten().tolist()}
        assert set(words[f"{group}.object_id"]) == expected
        assert len(expected) < len(ids)
    assert histories.vocabularies == load_run(trained).vocabularies


def test_runs_repeat_bit_by_bit(trained: Path, train: Train, tmp_path: Path) -> None:
    train(tmp_path / "again")
    assert files(trained).keys() == files(tmp_path / "again").keys()
    for name, content in files(trained).items():
        if name.endswith(".safetensors"):
            assert same_weights(trained / name, tmp_path / "again" / name), name
        elif "metrics" not in name and "state" not in name:  # these tell seconds
            assert files(tmp_path / "again")[name] == content, name


def test_a_user_who_touched_everything_is_named(train: Train, tiny_log: EventLog, tmp_path: Path) -> None:
    objects = {**tiny_log.objects, "item": tiny_log.objects["item"].iloc[[0, 1, 2, 4]].reset_index(drop=True)}
    events = tiny_log.events["item"]
    events = events[events["object_id"] != "i4"].reset_index(drop=True)
    extra = pd.DataFrame({"user_id": ["anna"] * 2, "timestamp": [9**6] * 2, "action": ["buy"] * 2})
    events = pd.concat([events.astype({"action": "str"}), extra.assign(object_id=["i3", "i5"])], ignore_index=True)
    log = EventLog.from_tables(tiny_log.schema, {**tiny_log.events, "item": events}, objects)
    with pytest.raises(ValueError, match="user 'anna' has touched every object of group 'item'"):
        train(tmp_path / "run", log, targets=["item"])
    assert not (tmp_path / "run").exists()


def test_resume_with_more_epochs(run: Path, train: Train, tmp_path: Path) -> None:
    longer = RECIPE.model_copy(update={"epochs": 4})
    assert len(train(run, resume=True, recipe=longer).epochs) == 4
    assert load_run(run).config.recipe.epochs == 4
    train(tmp_path / "straight", recipe=longer)
    assert same_weights(run / "model.safetensors", tmp_path / "straight" / "model.safetensors")


def test_log_with_another_schema(trained: Path, log: EventLog, tiny_log: EventLog) -> None:
    loaded = load_run(trained)
    with pytest.raises(RunError, match=r"groups \['item', 'query', 'coupon'\] differ"):
        loaded.histories_of(tiny_log)
    milliseconds = log.schema.model_copy(update={"timestamp_unit": "ms"})
    with pytest.raises(RunError, match="timestamp_unit differ"):
        loaded.histories_of(EventLog(milliseconds, log.events, log.objects))
    renamed = log.schema.model_copy(update={"name": "another year"})
    assert len(loaded.histories_of(EventLog(renamed, log.events, log.objects))) == 8


def test_new_users_and_objects_can_be_ranked(trained: Path) -> None:
    other = random_log(11, users=3, behaviors=30, objects=40, times=9)  # ten objects more than training had
    loaded = load_run(trained)
    histories = loaded.histories_of(other)
    best = Ranker(loaded.model, histories, "item").top("007", 99, include_seen=True)
    assert sorted(best["object_id"]) == sorted(other.objects["item"]["object_id"])
    assert best["score"].notna().all()


@pytest.mark.parametrize("include_seen", [False, True])
@pytest.mark.parametrize("at", [None, 20])
def test_top_by_loops(trained: Path, log: EventLog, include_seen: bool, at: int | None) -> None:
    loaded = load_run(trained)
    histories = loaded.histories_of(log)
    user = log.events["item"]["user_id"].iloc[0]
    moment = 1 + max(int(frame["timestamp"].max()) for frame in log.events.values()) if at is None else at
    frame = log.events["item"]
    seen = set(frame.loc[(frame["user_id"] == user) & (frame["timestamp"] < moment), "object_id"])
    samples = moments(histories, "item", torch.tensor([histories.user(user)]), torch.tensor([moment]))
    scores = {}
    for row, object_id in enumerate(histories.catalogs["item"].object_ids):
        if include_seen or object_id not in seen:
            with torch.no_grad():
                scores[object_id] = float(loaded.model(build_batch(histories, samples, torch.tensor([[row]]))).scores)
    best = Ranker(loaded.model, histories, "item", chunk=7).top(user, 5, at=at, include_seen=include_seen)
    assert best["rank"].tolist() == [1, 2, 3, 4, 5]
    assert best["score"].tolist() == pytest.approx(sorted(scores.values(), reverse=True)[:5], abs=1e-5)
    assert best["score"].tolist() == pytest.approx([scores[o] for o in best["object_id"]], abs=1e-5)
    # more than there are: all of them
    everything = Ranker(loaded.model, histories, "item").top(user, 10_000, at=at, include_seen=include_seen)
    assert set(everything["object_id"]) == set(scores)


def test_top_keeps_the_models_mode_and_names_errors(trained: Path, log: EventLog) -> None:
    loaded = load_run(trained)
    histories = loaded.histories_of(log)
    loaded.model.train()
    Ranker(loaded.model, histories, "item").top("007")
    assert loaded.model.training
    with pytest.raises(ValueError, match="top=0; ask for at least one object"):
        Ranker(loaded.model, histories, "item").top("007", 0)
    with pytest.raises(ValueError, match=r"target group: \['shop'\]"):
        Ranker(loaded.model, histories, "shop")
    with pytest.raises(KeyError, match="user 'nobody' has no behavior"):
        Ranker(loaded.model, histories, "item").top("nobody")


def test_top_of_a_user_who_saw_everything(train: Train, tiny_log: EventLog, tmp_path: Path) -> None:
    train(tmp_path / "run", tiny_log, targets=["item"])
    trained = load_run(tmp_path / "run")
    histories: GroupedHistories = trained.histories_of(tiny_log)
    histories.groups["item"].objects[:5] = torch.arange(5, dtype=torch.int32)
    few = Ranker(trained.model, histories, "item").top("anna")
    assert few["object_id"].tolist() == ["i6"]
    histories.groups["query"].objects[:2] = torch.tensor([0, 1], dtype=torch.int32)
    assert len(Ranker(trained.model, histories, "query").top("anna")) == 1


def test_a_record_holds_the_result_and_where_it_comes_from(trained: Path, log: EventLog, tmp_path: Path) -> None:
    loaded = load_run(trained)
    histories = loaded.histories_of(log)
    result = evaluate(loaded.model, histories, split(histories, "validated", loaded.config.targets).test)
    file = tmp_path / "results" / "record.json"
    record_run(trained, loaded.config, log, result, file)
    record = json.loads(file.read_text())
    assert record["average_user_auc"] == result.average_user_auc
    assert record["data_fingerprint"] == log.fingerprint()
    assert record["recipe"] == loaded.config.recipe.model_dump(mode="json")
    assert len(record["epochs"]) == len(json.loads((trained / "metrics.json").read_text())["epochs"])
    assert {"model", "seed", "ci95", "options", "commit", "versions", "hardware", "wall_seconds"} <= record.keys()
