"""`config.json`: runs of earlier versions load, damage is named, and a run is resumed with its own settings alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from atrank_lib.log.events import EventLog
from atrank_lib.runs import MODELS, RunConfig, RunError, load_run, options_of
from atrank_lib.runs import OPTIONS as OPTIONS_OF
from atrank_lib.runs.config import read_config
from atrank_lib.samples import build_batch, split
from atrank_lib.training import RECIPES, RecipeName
from tests.random_logs import random_log
from tests.runs.small import OPTIONS, RECIPE, Train, files

# trained with version 0.1; scores.json holds what that version's models gave to the first five objects
OLD = Path(__file__).with_name("version_0_1")


@pytest.mark.parametrize("name", sorted(path.name for path in OLD.iterdir()))
def test_a_run_of_an_earlier_version_scores_as_it_did(name: str) -> None:
    old = load_run(OLD / name)
    content = json.loads((OLD / name / "config.json").read_text())
    # a setting that came later has its default
    content["options"] = MODELS[old.config.model].Config().model_dump(mode="json") | content["options"]
    assert old.config.model_dump(mode="json") == {"choices": False} | content
    schema, log = old.config.log_schema, random_log(4, users=4, behaviors=24, objects=12, times=40)
    log = EventLog(schema, {g: log.events[g] for g in schema.groups}, {g: log.objects[g] for g in schema.groups})
    histories = old.histories_of(log)
    expected = json.loads((OLD / name / "scores.json").read_text())
    for group, samples in split(histories, "validated").test.items():
        batch = build_batch(histories, samples, torch.arange(5).expand(len(samples), -1))
        with torch.no_grad():
            torch.testing.assert_close(old.model(batch).scores, torch.tensor(expected[group]), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipe": RECIPE.model_copy(update={"learning_rate": 0.5})}, "recipe.learning_rate was 0.001, is now 0.5"),
        ({"seed": 1}, "seed was 0, is now 1"),
        ({"targets": ["item"]}, r"targets was \['item', 'query', 'coupon'\], is now \['item'\]"),
        ({"histories": ["item"]}, "histories was"),
        ({"protocol": "paper"}, "protocol was 'validated', is now 'paper'"),
        ({"options": OPTIONS.model_copy(update={"hidden": 16})}, "options.hidden was 8, is now 16"),
        ({"recipe": RECIPE.model_copy(update={"epochs": 1})}, "recipe.epochs was 2, is now 1"),
        ({"model": "bpr-mf", "options": {}}, "settings: model was 'atrank', is now 'bpr-mf'; resume with"),
        ({"log": random_log(5, users=7, behaviors=60, objects=30, times=40)}, "data_fingerprint was"),
    ],
)
def test_resume_with_another_setting(trained: Path, train: Train, changes: dict[str, Any], message: str) -> None:
    before = files(trained)
    with pytest.raises(RunError, match=message):
        train(trained, resume=True, **changes)
    assert files(trained) == before


@pytest.mark.parametrize("way", ["shuffled", "pcgrad"])
def test_settings_that_other_steps_know(run: Path, train: Train, log: EventLog, tmp_path: Path, way: str) -> None:
    """They stay with a run, which is used as any other; it is resumed where the library's steps do the same."""
    file = run / "config.json"
    content, tasks = json.loads(file.read_text()), {"task_mix": "proportional", "task_weights": None, "task_steps": way}
    file.write_text(json.dumps(content | {"recipe": content["recipe"] | tasks}))
    kept = load_run(run)
    assert kept.config.recipe.model_dump(mode="json") == content["recipe"] | tasks
    assert kept.evaluate(log).users > 0
    if way == "shuffled":
        assert train(run, resume=True).finished
        assert train(tmp_path / "again", recipe=kept.config.recipe).finished
        return
    with pytest.raises(RunError, match=r"other settings: recipe\.task_steps was 'pcgrad', is now None; resume with"):
        train(run, resume=True)
    for out, resume in ((run, True), (tmp_path / "again", False)):
        with pytest.raises(RunError, match="RunSteps know no task_steps; hand in steps that do, or another recipe"):
            train(out, recipe=kept.config.recipe, resume=resume)
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", r"config.json: Invalid JSON: EOF while parsing .*; the file was changed, or written by another version"),
        (b"", "config.json: Invalid JSON"),
        (b"\xff\xfe", "config.json: Invalid JSON"),
        (b"{}", "config.json: log_schema: Field required"),
        ({"model": "other"}, "config.json: model 'other'; use one of"),
        ({"surprise": 1}, "config.json: surprise: Extra inputs are not permitted"),
        ({"options": {"hidden": "many"}}, "config.json: options.hidden: Input should be a valid integer"),
        ({"options": {"heads": 2}}, "config.json: options.heads: Extra inputs are not permitted"),
        ({"recipe": {"epochs": 0}}, "config.json: recipe.epochs: Input should be greater than"),
        ({"recipe": {"learnin_rate": 1}}, "config.json: recipe.learnin_rate is no setting; known .*, learning_rate, "),
        ({"recipe": {"task_weight": 1}}, "config.json: recipe.task_weight is no setting; known .*, task_weights, "),
        (None, r"run holds no run \(config.json is missing\); name a folder that `atrank train` wrote"),
    ],
)
def test_a_damaged_configuration(run: Path, train: Train, content: bytes | dict[str, Any] | None, message: str) -> None:
    """Told the same way, in one line, by whatever reads it; and nothing is written over it."""
    file = run / "config.json"
    if isinstance(content, dict):
        content = json.dumps(json.loads(file.read_text()) | content).encode()
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    before = files(run)
    for use in (lambda: read_config(run), lambda: load_run(run), lambda: train(run, resume=True)):
        with pytest.raises(RunError, match=message) as caught:
            use()
        assert len(str(caught.value).splitlines()) == 1
    assert files(run) == before


@pytest.mark.parametrize("recipe", OPTIONS_OF)
@pytest.mark.parametrize("model", MODELS)
def test_every_model_goes_with_every_recipe(log: EventLog, model: str, recipe: RecipeName) -> None:
    config = RunConfig.of(log, model, RECIPES[recipe], options_of(model, recipe))
    given, wanted = config.options.model_dump(), OPTIONS_OF[recipe]
    assert {name: given[name] for name in wanted if name in given} == {n: wanted[n] for n in wanted if n in given}
    assert given.keys() >= wanted.keys() - {"hidden"}


def test_what_is_no_run(trained: Path, tmp_path: Path) -> None:
    for place in (tmp_path / "nowhere", tmp_path, trained / "config.json"):
        with pytest.raises(RunError, match=rf"{place.name} holds no run \(config.json is missing\)"):
            load_run(place)
