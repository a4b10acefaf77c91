"""The search of hyperparameters: equal for all models, resumable, chosen on validation alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from atrank_lib.log.events import EventLog
from atrank_lib.runs import MODELS, prepare
from atrank_lib.training import fit
from experiments import search as searching
from experiments.records import RecordError
from experiments.reproduce import plan
from experiments.search import chosen, search, settings, some_users
from tests.random_logs import random_log

BUDGET = {"users": 100, "epochs": 1, "seed": 0}  # all users: no finals


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("log")
    random_log(4, users=7, behaviors=60, objects=30, times=40).write(folder / "log")
    return folder / "log"


def test_every_point_of_the_space_suits_every_model():
    point = {
        name: spec["choices"][0] if "choices" in spec else (spec["low"] + spec["high"]) / 2
        for name, spec in searching.SPACE.items()
    }
    options, recipe = settings(point, epochs=3)
    assert recipe.epochs == 3
    for kind in MODELS.values():
        kind.Config(**options)


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
    name = EventLog.read(data).schema.name
    assert chosen("bpr-mf", name, tmp_path, 3) is None
    file = search(data, "bpr-mf", tmp_path, trials=2, **BUDGET)
    best = json.loads(file.read_text())["best"]
    found = chosen("bpr-mf", name, tmp_path, 3)
    assert found is not None
    options, recipe, origin = found
    assert recipe.learning_rate == best["parameters"]["learning_rate"]
    assert options["id_dropout"] == best["parameters"]["id_dropout"]
    assert recipe.epochs == 3
    assert origin == f"search/random/bpr-mf.json, trial {best['trial']}"


def test_the_best_trials_are_trained_again_on_all_users_and_the_best_of_those_is_chosen(data: Path, tmp_path: Path):
    budget = {"users": 4, "epochs": 2, "seed": 1}
    file = search(data, "bi-lstm", tmp_path / "a", trials=4, finalists=1, **budget)
    before = json.loads(file.read_text())
    assert before["finals"] == []
    assert before["best"]["value"] == max(trial["value"] for trial in before["trials"])
    found = json.loads(search(data, "bi-lstm", tmp_path / "a", trials=4, finalists=2, **budget).read_text())
    assert found["trials"] == before["trials"]
    assert [final["trial"] for final in found["finals"]] == sorted(
        range(4), key=lambda number: -before["trials"][number]["value"]
    )[:2]
    best = max(found["finals"], key=lambda final: final["value"])
    assert found["best"] == {"parameters": found["trials"][best["trial"]]["parameters"], **best}
    # a final is a run of the model on all users, made as table 3 makes it
    options, recipe = settings(found["best"]["parameters"], epochs=2)
    histories, parts = prepare(EventLog.read(data), "validated")
    torch.manual_seed(1)
    model = MODELS["bi-lstm"](histories.schema, histories.vocabularies, MODELS["bi-lstm"].Config(**options))
    curve = [e["validation_auc"] for e in fit(model, histories, parts, recipe, seed=1, progress=False).epochs]
    assert curve == found["best"]["validation_auc"]
    # the runner-up is the other finalist, and there is no third
    name = EventLog.read(data).schema.name
    second = chosen("bi-lstm", name, tmp_path / "a", 2, place=1)
    (other,) = {final["trial"] for final in found["finals"]} - {best["trial"]}
    assert second is not None
    assert second[2].endswith(f"trial {other}")
    assert second[:2] == settings(found["trials"][other]["parameters"], epochs=2)
    assert chosen("bi-lstm", name, tmp_path / "a", 2, place=2) is None
    cells = plan(EventLog.read(data), ["popularity", "bi-lstm", "cnn"], 1, "full", tmp_path / "a", 2, "runner-up")
    assert [(cell.model, cell.chosen_by) for cell in cells] == [("bi-lstm", second[2])]
    assert cells[0].file.parent.parent.name == "table3-runner-up"
    # an interrupted search goes on where it was, and comes out the same
    search(data, "bi-lstm", tmp_path / "b", trials=3, finalists=1, **budget)
    assert json.loads(search(data, "bi-lstm", tmp_path / "b", trials=4, finalists=2, **budget).read_text()) == found
    file.write_text(json.dumps({name: value for name, value in before.items() if name != "finals"}))
    assert json.loads(search(data, "bi-lstm", tmp_path / "a", trials=4, finalists=2, **budget).read_text()) == found


def test_another_budget_is_refused(data: Path, tmp_path: Path):
    search(data, "bpr-mf", tmp_path, trials=1, **BUDGET)
    with pytest.raises(RecordError, match="searched with another epochs; delete it"):
        search(data, "bpr-mf", tmp_path, trials=1, **{**BUDGET, "epochs": 2})


def test_an_unknown_model_is_named(data: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="model 'sasrec'; use one of"):
        search(data, "sasrec", tmp_path)
