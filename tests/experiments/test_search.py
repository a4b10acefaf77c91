"""The search of hyperparameters: equal for all models, resumable, chosen on validation alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from atrank_lib import EventLog, fit
from atrank_lib.runs import MODELS
from atrank_lib.samples import prepare
from experiments import search as searching
from experiments.models import COMPARED, build, config
from experiments.plans import plan
from experiments.records import ExperimentError, place, read_record
from experiments.search import as_settings, chosen, search
from experiments.variations import some_users
from tests.random_logs import random_log
from tools.project import ROOT

RESULTS = ROOT / "results"

BUDGET = {"users": 100, "epochs": 1, "seed": 0}  # all users: no finals


def best_of(model: str, log: EventLog, out: Path, epochs: int, finalist: int | None = 0) -> searching.Setting | None:
    return chosen(model, place(out, "search", log), log.fingerprint(), epochs, finalist)


def test_every_point_of_the_space_suits_every_model():
    point = {
        name: spec["choices"][0] if "choices" in spec else (spec["low"] + spec["high"]) / 2
        for name, spec in searching.SPACE.items()
    }
    options, recipe = as_settings(point, epochs=3)
    assert recipe.epochs == 3
    for model in MODELS:
        assert config(model, options).model_dump().items() >= options.items()


def test_some_users_keep_all_their_behaviors_and_all_objects():
    log = random_log(2, users=7, behaviors=60)
    part = some_users(log, 3, seed=0)
    names = set().union(*(events["user_id"] for events in part.events.values()))
    assert len(names) == 3
    for group, events in log.events.items():
        assert events[events["user_id"].isin(names)].reset_index(drop=True).equals(part.events[group])
        assert part.objects[group].equals(log.objects[group])
    again = some_users(log, 3, seed=0)
    assert again.fingerprint() == part.fingerprint() != some_users(log, 3, seed=1).fingerprint()
    assert some_users(log, 1_000, seed=0) is log


def test_an_interrupted_search_proposes_what_an_uninterrupted_one_would(data: Path, tmp_path: Path):
    whole = json.loads(search(data, "bpr-mf", tmp_path / "a", trials=6, **BUDGET).read_text())
    search(data, "bpr-mf", tmp_path / "b", trials=5, **BUDGET)
    resumed = json.loads(search(data, "bpr-mf", tmp_path / "b", trials=6, **BUDGET).read_text())
    assert whole == resumed
    assert len(whole["trials"]) == 6
    assert whole["best"]["value"] == max(trial["value"] for trial in whole["trials"])
    other = json.loads(search(data, "wide-deep", tmp_path / "a", trials=4, **BUDGET).read_text())
    # before anything is known about a model, all models are tried with the same settings
    assert [t["parameters"] for t in other["trials"]] == [t["parameters"] for t in whole["trials"][:4]]


def test_the_best_trial_becomes_the_setting(data: Path, tmp_path: Path):
    log = EventLog.read(data)
    assert best_of("bpr-mf", log, tmp_path, 3) is None
    file = search(data, "bpr-mf", tmp_path, trials=2, **BUDGET)
    best = json.loads(file.read_text())["best"]
    found = best_of("bpr-mf", log, tmp_path, 3)
    assert found is not None
    options, recipe, origin = found
    assert recipe.learning_rate == best["parameters"]["learning_rate"]
    assert options["id_dropout"] == best["parameters"]["id_dropout"]
    assert recipe.epochs == 3
    assert origin == f"search/random/bpr-mf.json, trial {best['trial']}"


def test_the_best_trials_are_trained_again_on_all_users_and_the_best_of_those_is_chosen(data: Path, tmp_path: Path):
    budget = {"users": 4, "epochs": 2, "seed": 1}
    file = search(data, "wide-deep", tmp_path / "a", trials=4, finalists=1, **budget)
    before = json.loads(file.read_text())
    assert before["finals"] == []
    assert before["best"]["value"] == max(trial["value"] for trial in before["trials"])
    found = json.loads(search(data, "wide-deep", tmp_path / "a", trials=4, finalists=2, **budget).read_text())
    assert found["trials"] == before["trials"]
    assert [final["trial"] for final in found["finals"]] == sorted(
        range(4), key=lambda number: -before["trials"][number]["value"]
    )[:2]
    best = max(found["finals"], key=lambda final: final["value"])
    assert found["best"] == {"parameters": found["trials"][best["trial"]]["parameters"], **best}
    # a final is a run of the model on all users, made as table 3 makes it
    log, (options, recipe) = EventLog.read(data), as_settings(found["best"]["parameters"], epochs=2)
    histories, parts = prepare(log, "validated")
    torch.manual_seed(1)
    model = build("wide-deep", histories, options)
    curve = [e["validation_auc"] for e in fit(model, histories, parts, recipe, seed=1, progress=False).epochs]
    assert curve == found["best"]["validation_auc"]
    # the runner-up is the other finalist, and there is no third
    second = best_of("wide-deep", log, tmp_path / "a", 2, finalist=1)
    (other,) = {final["trial"] for final in found["finals"]} - {best["trial"]}
    assert second is not None
    assert second[2].endswith(f"trial {other}")
    assert second[:2] == as_settings(found["trials"][other]["parameters"], epochs=2)
    assert best_of("wide-deep", log, tmp_path / "a", 2, finalist=2) is None
    # before the finals, the best on the sample was chosen
    values = [trial["value"] for trial in found["trials"]]
    sampled = best_of("wide-deep", log, tmp_path / "a", 2, finalist=None)
    assert sampled is not None
    assert sampled[2].endswith(f"trial {values.index(max(values))}")
    cells = plan("table3-runner-up", log, tmp_path / "a", ["popularity", "wide-deep", "cnn"], seeds=1, epochs=2)
    assert [(cell.name, cell.chosen_by) for cell in cells] == [("wide-deep", second[2])]
    # an interrupted search goes on where it was, and comes out the same
    search(data, "wide-deep", tmp_path / "b", trials=3, finalists=1, **budget)
    assert json.loads(search(data, "wide-deep", tmp_path / "b", trials=4, finalists=2, **budget).read_text()) == found
    file.write_text(json.dumps({name: value for name, value in before.items() if name != "finals"}))
    assert json.loads(search(data, "wide-deep", tmp_path / "a", trials=4, finalists=2, **budget).read_text()) == found


def test_another_budget_is_refused(data: Path, tmp_path: Path):
    search(data, "bpr-mf", tmp_path, trials=1, **BUDGET)
    with pytest.raises(ExperimentError, match="searched with another epochs; delete it"):
        search(data, "bpr-mf", tmp_path, trials=1, **{**BUDGET, "epochs": 2})


def test_an_unknown_model_is_named(data: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="model 'gru4rec'; use one of"):
        search(data, "gru4rec", tmp_path)


def test_another_log_s_search_is_not_used(data: Path, tmp_path: Path):
    log = EventLog.read(data)
    file = search(data, "bpr-mf", tmp_path, trials=1, **BUDGET)
    other = random_log(5)
    assert best_of("bpr-mf", other, tmp_path, 2) is None  # it has a folder of its own
    with pytest.raises(ExperimentError, match="searched with another data_fingerprint"):
        chosen("bpr-mf", file.parent, other.fingerprint(), 2)
    file.write_text("{}")
    with pytest.raises(ExperimentError, match="holds no search; delete it"):
        best_of("bpr-mf", log, tmp_path, 2)


def test_the_recorded_searches_are_read():
    folder = RESULTS / "search/amazon_sports_and_outdoors"
    for model in COMPARED[2:]:
        record = read_record(folder / f"{model}.json")
        found = chosen(model, folder, record["data_fingerprint"], 8)
        assert found is not None
        options, recipe, origin = found
        assert record["best"]["parameters"].items() <= {**recipe.model_dump(), **options}.items()
        assert origin == f"search/{folder.name}/{model}.json, trial {record['best']['trial']}"
