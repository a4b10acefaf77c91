"""Runs on disk: complete or absent, resumed with their own settings, refused with a reason when damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from atrank_lib.recipes import Recipe
from safetensors.torch import load_file

from atrank_lib.evaluation import evaluate
from atrank_lib.grouping import GroupedHistories
from atrank_lib.log.events import EventLog
from atrank_lib.model import ATRankConfig
from atrank_lib.ranking import top_objects
from atrank_lib.runs import RunError, load_run, prepare, train_run, versions
from atrank_lib.runs.checkpoints import FitResult
from atrank_lib.samples import build_batch, moments, seen_objects, split
from experiments.records import record_run
from tests.random_logs import random_log

OPTIONS = ATRankConfig(embedding_size=4, hidden=8, spaces=2)
RECIPE = Recipe(epochs=2, batch_size=16, patience=None)


@pytest.fixture(scope="module")
def log() -> EventLog:
    return random_log(4, users=7, behaviors=60, objects=30, times=40)


def train(log: EventLog, out: Path, **changes: Any) -> FitResult:
    return train_run(log, out, **{"options": OPTIONS, "recipe": RECIPE, "progress": False, **changes})


@pytest.fixture
def run(log: EventLog, tmp_path: Path) -> Path:
    train(log, tmp_path / "run")
    return tmp_path / "run"


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def same_weights(one: Path, two: Path) -> bool:
    a, b = load_file(one), load_file(two)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_files_of_a_run(run: Path, log: EventLog) -> None:
    assert set(files(run)) == {
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
    config = json.loads((run / "config.json").read_text())
    assert config["data_fingerprint"] == log.fingerprint()
    assert (config["model"], config["protocol"], config["seed"]) == ("atrank", "validated", 0)
    assert config["targets"] == config["histories"] == ["item", "query", "coupon"]
    assert config["options"]["hidden"] == 8
    assert config["recipe"]["batch_size"] == 16
    assert config["versions"] == versions()
    metrics = json.loads((run / "metrics.json").read_text())
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


def test_loaded_model_is_the_trained_one(run: Path, log: EventLog) -> None:
    trained = load_run(run)
    assert not trained.model.training
    metrics = json.loads((run / "metrics.json").read_text())
    best = load_file(run / "checkpoints" / f"epoch-{metrics['best_epoch']:04d}" / "weights.safetensors")
    for name, value in best.items():
        assert torch.equal(trained.model.state_dict()[name], value)
    histories = trained.histories_of(log)
    test = split(histories, trained.config.protocol).test["item"]
    batch = build_batch(histories, test, test.objects[:, None])
    with torch.no_grad():
        assert torch.equal(trained.model(batch).scores, load_run(run).model(batch).scores)


def test_vocabularies_hold_what_training_shows(run: Path, log: EventLog) -> None:
    histories, parts = prepare(log, "validated")
    seen = seen_objects(histories, parts.train)
    words = load_run(run).vocabularies.words
    for group in ("item", "coupon"):
        ids = histories.catalogs[group].object_ids
        expected = {ids[i] for i in seen[group].nonzero().flatten().tolist()}
        assert set(words[f"{group}.object_id"]) == expected
        assert len(expected) < len(ids)
    assert histories.vocabularies == load_run(run).vocabularies


def test_runs_repeat_bit_by_bit(run: Path, log: EventLog, tmp_path: Path) -> None:
    train(log, tmp_path / "again")
    assert files(run).keys() == files(tmp_path / "again").keys()
    for name, content in files(run).items():
        if name.endswith(".safetensors"):
            assert same_weights(run / name, tmp_path / "again" / name), name
        elif "metrics" not in name and "state" not in name:  # these tell seconds
            assert files(tmp_path / "again")[name] == content, name


def test_refuses_a_folder_that_is_not_empty(run: Path, log: EventLog) -> None:
    before = files(run)
    with pytest.raises(RunError, match="run is not empty; choose another folder, or resume the run in it"):
        train(log, run)
    assert files(run) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "atrnak"}, r"model 'atrnak'; use one of \['atrank', 'bi-lstm'"),
        ({"targets": ["shop"]}, r"targets: \['shop'\]; the log's groups are \['item', 'query', 'coupon'\]"),
        ({"targets": []}, "targets: nothing given"),
        ({"histories": ["shop"]}, r"history groups: \['shop'\]"),
        ({"histories": []}, "history groups: nothing given"),
        ({"options": ATRankConfig(hidden=10, spaces=4)}, "hidden=10 cannot be divided into spaces=4"),
        ({"recipe": RECIPE.model_copy(update={"optimizer": "sgd", "learning_rate": 1e30})}, "loss nan|loss inf|NaN"),
    ],
)
@pytest.mark.parametrize("existed", [False, True])
def test_a_failed_run_leaves_nothing(
    log: EventLog, tmp_path: Path, changes: dict[str, Any], message: str, existed: bool
) -> None:
    out = tmp_path / "run"
    if existed:
        out.mkdir()
    recipe = changes.get("recipe", RECIPE).model_copy(update={"gradient_clip": None, "batch_size": 4})
    with pytest.raises((ValueError, FloatingPointError), match=message):
        train(log, out, **{**changes, "recipe": recipe})
    assert out.exists() == existed
    assert not existed or not any(out.iterdir())


def test_a_user_who_touched_everything_is_named(tiny_log: EventLog, tmp_path: Path) -> None:
    objects = {**tiny_log.objects, "item": tiny_log.objects["item"].iloc[[0, 1, 2, 4]].reset_index(drop=True)}
    events = tiny_log.events["item"]
    events = events[events["object_id"] != "i4"].reset_index(drop=True)
    extra = pd.DataFrame({"user_id": ["anna"] * 2, "timestamp": [9**6] * 2, "action": ["buy"] * 2})
    events = pd.concat([events.astype({"action": "str"}), extra.assign(object_id=["i3", "i5"])], ignore_index=True)
    log = EventLog.from_tables(tiny_log.schema, {**tiny_log.events, "item": events}, objects)
    with pytest.raises(ValueError, match="user 'anna' has touched every object of group 'item'"):
        train(log, tmp_path / "run", targets=["item"])
    assert not (tmp_path / "run").exists()


def test_resume_of_another_setting(run: Path, log: EventLog) -> None:
    before = files(run)
    other = random_log(5, users=7, behaviors=60, objects=30, times=40)
    slower = RECIPE.model_copy(update={"learning_rate": 0.5})
    for changes, message in (
        ({"recipe": slower}, r"recipe.learning_rate was 0.001, is now 0.5"),
        ({"seed": 1}, "seed was 0, is now 1"),
        ({"targets": ["item"]}, r"targets was \['item', 'query', 'coupon'\], is now \['item'\]"),
        ({"histories": ["item"]}, "histories was"),
        ({"protocol": "paper"}, "protocol was 'validated', is now 'paper'"),
        ({"options": OPTIONS.model_copy(update={"hidden": 16})}, "options.hidden was 8, is now 16"),
        ({"recipe": RECIPE.model_copy(update={"epochs": 1})}, "recipe.epochs was 2, is now 1"),
    ):
        with pytest.raises(RunError, match=message):
            train(log, run, resume=True, **changes)
    with pytest.raises(RunError, match="data_fingerprint was"):
        train(other, run, resume=True)
    assert files(run) == before


def test_resume_with_more_epochs(run: Path, log: EventLog, tmp_path: Path) -> None:
    longer = RECIPE.model_copy(update={"epochs": 4})
    assert len(train(log, run, resume=True, recipe=longer).epochs) == 4
    assert load_run(run).config.recipe.epochs == 4
    train(log, tmp_path / "straight", recipe=longer)
    assert same_weights(run / "model.safetensors", tmp_path / "straight" / "model.safetensors")


def test_resume_begins_where_there_is_nothing_yet(run: Path, log: EventLog, tmp_path: Path) -> None:
    train(log, tmp_path / "new", resume=True)
    assert same_weights(run / "model.safetensors", tmp_path / "new" / "model.safetensors")


def test_resume_in_a_folder_of_something_else(log: EventLog, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match=r"holds no run \(config.json is missing\)"):
        train(log, tmp_path, resume=True)
    assert set(files(tmp_path)) == {"notes.txt"}


def damaged_config(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **changes}))


def test_damaged_runs(run: Path, log: EventLog, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"nowhere holds no run \(config.json is missing\)"):
        load_run(tmp_path / "nowhere")
    with pytest.raises(RunError, match=r"config\.json holds no run"):
        load_run(run / "config.json")
    good = files(run)
    for name, content, message in (
        ("config.json", b"{", r"config.json: : Invalid JSON.*; the file was changed"),
        ("config.json", b"\xff\xfe", r"config.json is damaged"),
        ("config.json", b"{}", r"config.json: log_schema: Field required"),
        ("vocabularies.json", b'{"words": {', "vocabularies.json is damaged"),
        ("vocabularies.json", b"\xff", "vocabularies.json is damaged"),
        (
            "vocabularies.json",
            b'{"words": {}, "scales": {"item.price": [1]}, "users": []}',
            "vocabularies.json is damaged",
        ),
        ("vocabularies.json", b'{"words": {}, "scales": {}, "users": []}', "no model can be built"),
        ("model.safetensors", b"", "model.safetensors does not fit"),
        ("model.safetensors", good["model.safetensors"][:-9], "model.safetensors does not fit"),
        ("model.safetensors", None, "model.safetensors is missing; training did not finish"),
        ("vocabularies.json", None, "vocabularies.json is missing"),
    ):
        if content is None:
            (run / name).unlink()
        else:
            (run / name).write_bytes(content)
        with pytest.raises(RunError, match=message):
            load_run(run)
        (run / name).write_bytes(good[name])
    for changes, message in (
        ({"model": "other"}, "model .other.; use one of"),
        ({"histories": ["shop"]}, "no model can be built"),
        ({"options": {"hidden": 16, "spaces": 2, "embedding_size": 4}}, "model.safetensors does not fit"),
        ({"surprise": 1}, "surprise: Extra inputs are not permitted"),
    ):
        damaged_config(run / "config.json", **changes)
        with pytest.raises(RunError, match=message):
            load_run(run)
        (run / "config.json").write_bytes(good["config.json"])
    load_run(run)


def test_log_with_another_schema(run: Path, log: EventLog, tiny_log: EventLog) -> None:
    trained = load_run(run)
    with pytest.raises(RunError, match=r"groups \['item', 'query', 'coupon'\] differ"):
        trained.histories_of(tiny_log)
    milliseconds = log.schema.model_copy(update={"timestamp_unit": "ms"})
    with pytest.raises(RunError, match="timestamp_unit differ"):
        trained.histories_of(EventLog(milliseconds, log.events, log.objects))
    renamed = log.schema.model_copy(update={"name": "another year"})
    assert len(trained.histories_of(EventLog(renamed, log.events, log.objects))) == 8


def test_new_users_and_objects_can_be_ranked(run: Path) -> None:
    other = random_log(11, users=3, behaviors=30, objects=40, times=9)  # ten objects more than training had
    trained = load_run(run)
    histories = trained.histories_of(other)
    best = top_objects(trained.model, histories, "007", "item", 99, include_seen=True)
    assert sorted(best["object_id"]) == sorted(other.objects["item"]["object_id"])
    assert best["score"].notna().all()


@pytest.mark.parametrize("include_seen", [False, True])
@pytest.mark.parametrize("at", [None, 20])
def test_top_objects_by_loops(run: Path, log: EventLog, include_seen: bool, at: int | None) -> None:
    trained = load_run(run)
    histories = trained.histories_of(log)
    user = log.events["item"]["user_id"].iloc[0]
    moment = 1 + max(int(frame["timestamp"].max()) for frame in log.events.values()) if at is None else at
    frame = log.events["item"]
    seen = set(frame.loc[(frame["user_id"] == user) & (frame["timestamp"] < moment), "object_id"])
    samples = moments(histories, "item", torch.tensor([histories.user(user)]), torch.tensor([moment]))
    scores = {}
    for row, object_id in enumerate(histories.catalogs["item"].object_ids):
        if include_seen or object_id not in seen:
            with torch.no_grad():
                scores[object_id] = float(trained.model(build_batch(histories, samples, torch.tensor([[row]]))).scores)
    best = top_objects(trained.model, histories, user, "item", 5, at=at, include_seen=include_seen, chunk=7)
    assert best["rank"].tolist() == [1, 2, 3, 4, 5]
    assert best["score"].tolist() == pytest.approx(sorted(scores.values(), reverse=True)[:5], abs=1e-5)
    assert best["score"].tolist() == pytest.approx([scores[o] for o in best["object_id"]], abs=1e-5)
    # more than there are: all of them
    everything = top_objects(trained.model, histories, user, "item", 10_000, at=at, include_seen=include_seen)
    assert set(everything["object_id"]) == set(scores)


def test_top_objects_keeps_the_models_mode_and_names_errors(run: Path, log: EventLog) -> None:
    trained = load_run(run)
    histories = trained.histories_of(log)
    trained.model.train()
    top_objects(trained.model, histories, "007", "item")
    assert trained.model.training
    with pytest.raises(ValueError, match="top=0; ask for at least one object"):
        top_objects(trained.model, histories, "007", "item", 0)
    with pytest.raises(ValueError, match=r"target group: \['shop'\]"):
        top_objects(trained.model, histories, "007", "shop")
    with pytest.raises(KeyError, match="user 'nobody' has no behavior"):
        top_objects(trained.model, histories, "nobody", "item")


def test_top_objects_of_a_user_who_saw_everything(tiny_log: EventLog, tmp_path: Path) -> None:
    train(tiny_log, tmp_path / "run", targets=["item"])
    trained = load_run(tmp_path / "run")
    histories: GroupedHistories = trained.histories_of(tiny_log)
    histories.groups["item"].objects[:5] = torch.arange(5, dtype=torch.int32)
    few = top_objects(trained.model, histories, "anna", "item")
    assert few["object_id"].tolist() == ["i6"]
    histories.groups["query"].objects[:2] = torch.tensor([0, 1], dtype=torch.int32)
    assert len(top_objects(trained.model, histories, "anna", "query")) == 1


def test_a_record_holds_the_result_and_where_it_comes_from(run: Path, log: EventLog, tmp_path: Path) -> None:
    trained = load_run(run)
    histories = trained.histories_of(log)
    result = evaluate(trained.model, histories, split(histories, "validated", trained.config.targets).test)
    file = tmp_path / "results" / "record.json"
    record_run(run, trained.config, log, result, file)
    record = json.loads(file.read_text())
    assert record["average_user_auc"] == result.average_user_auc
    assert record["data_fingerprint"] == log.fingerprint()
    assert record["recipe"] == trained.config.recipe.model_dump(mode="json")
    assert len(record["epochs"]) == len(json.loads((run / "metrics.json").read_text())["epochs"])
    assert {"model", "seed", "ci95", "options", "commit", "versions", "hardware", "wall_seconds"} <= record.keys()
