"""The paper's tables: planned, run once, recorded, and equal to what the repository's records say."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from atrank_lib.recipes import RECIPES
from typer.testing import CliRunner

from atrank_lib.cli import app
from atrank_lib.log.events import EventLog
from atrank_lib.runs import MODELS, train_run
from data_scripts.marketplace import MarketplaceConfig
from data_scripts.simulate import simulate
from experiments import reproduce
from experiments.records import pack, read_record, recorded, unpack
from experiments.reproduce import SWITCHES, VARIANTS, Cell, ReproduceError, is_finished, plan, plan_switches, run_cell
from tests.random_logs import random_log


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log of the recorded fast cells: `python -m data_scripts.simulate --users 300 --seed 0`."""
    folder = tmp_path_factory.mktemp("market") / "log"
    simulate(MarketplaceConfig(users=300, seed=0)).log.write(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small") / "log"
    random_log(4, users=7, behaviors=60, objects=30, times=40).write(folder)
    return folder


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["reproduce", *map(str, arguments)])


@pytest.mark.parametrize("name", ["atrank", "bi-lstm", "bpr-mf", "last-category"])
def test_a_small_cell_of_table_3_is_what_the_record_says(name, market, tmp_path):
    log = EventLog.read(market)
    (cell,) = plan(log, [name], 1, "fast", tmp_path, 8)
    run_cell(market, cell, tmp_path / "runs")
    compare(cell, log, "table3")


def test_a_small_cell_of_the_switches_is_what_the_record_says(market, tmp_path):
    log = EventLog.read(market)
    (cell,) = plan_switches(log, ["dot-attention"], 1, "fast", tmp_path, 4)
    run_cell(market, cell, tmp_path / "runs")
    compare(cell, log, "switches")


def compare(cell: Cell, log: EventLog, table: str) -> None:
    folder = recorded(f"{table}/{cell.file.parent.name}")
    assert folder is not None
    ours, theirs = read_record(cell.file), read_record(folder / cell.file.name)
    reproduce.check_same(folder / cell.file.name, {**cell.settings(), "data_fingerprint": log.fingerprint()})
    # another processor may round otherwise, and a user near a tie may fall to the other side
    assert ours["average_user_auc"] == pytest.approx(theirs["average_user_auc"], abs=0.01)
    assert (unpack(ours["per_user"]) == unpack(theirs["per_user"])).mean() > 0.97
    assert [e["samples"] for e in ours.get("epochs", [])] == [e["samples"] for e in theirs.get("epochs", [])]


def test_finished_cells_are_not_run_again(data, tmp_path):
    arguments = ("table3", "--data", data, "--profile", "fast", "--seeds", 1, "--out", tmp_path, "--workers", 1)
    first = run(*arguments, "--models", "popularity")
    assert first.exit_code == 0, first.output
    file = tmp_path / "table3" / "random-fast" / "popularity-seed0.json"
    before = file.stat().st_mtime_ns
    second = run(*arguments, "--models", "popularity,last-category")
    assert second.exit_code == 0, second.output
    assert "2 cells, 1 finished before" in second.output
    none = run(*arguments, "--models", "popularity", "--variant", "no-time")
    assert none.exit_code == 1
    assert "no cells" in none.stderr
    assert file.stat().st_mtime_ns == before
    assert "paper, Electronics" in second.output
    assert {f.name for f in file.parent.iterdir()} == {"popularity-seed0.json", "last-category-seed0.json"}


def test_variants_change_their_options_and_leave_out_models_without_them(data, tmp_path):
    log, models = EventLog.read(data), ["popularity", "bpr-mf", "din", "atrank"]
    plain = {cell.model: cell for cell in plan(log, models, 1, "full", tmp_path, 8)}
    those_of = {"no-time": ["din", "atrank"], "normalized": ["din"], "raw": ["atrank"], "raw-alone": ["atrank"]}
    assert set(those_of) == set(VARIANTS)
    for variant, those in those_of.items():
        cells = plan(log, models, 1, "full", tmp_path, 8, variant)  # type: ignore[arg-type]
        assert [cell.model for cell in cells] == those
        for cell in cells:
            assert cell.file.parent.parent.name == f"table3-{variant}"
            before, after = plain[cell.model].settings(), cell.settings()
            different = {name for name in after["options"] if after["options"][name] != before["options"][name]}
            assert different == set(VARIANTS[variant])
            assert {**after, "options": None} == {**before, "options": None}


def test_a_cell_made_in_another_way_is_neither_kept_nor_lost(data, tmp_path):
    log = EventLog.read(data)
    (cell,) = plan(log, ["bpr-mf"], 1, "fast", tmp_path, 8)
    run_cell(data, cell, tmp_path / "runs")
    assert is_finished(cell, log.fingerprint(), force=False)
    assert not is_finished(cell, log.fingerprint(), force=True)
    record = json.loads(cell.file.read_text())
    cell.file.write_text(json.dumps({**record, "recipe": {**record["recipe"], "epochs": 9}}))
    with pytest.raises(ReproduceError, match=r"bpr-mf-seed0\.json was made with another recipe; give --force"):
        is_finished(cell, log.fingerprint(), force=False)
    assert json.loads(cell.file.read_text())["recipe"]["epochs"] == 9


def test_one_failing_cell_does_not_stop_the_others(data, tmp_path):
    broken = tmp_path / "runs" / "table3" / "random-fast" / "bpr-mf-seed0"
    broken.mkdir(parents=True)
    (broken / "config.json").write_text("{}")
    arguments = ("table3", "--data", data, "--profile", "fast", "--seeds", 1, "--out", tmp_path, "--workers", 2)
    result = run(*arguments, "--runs", tmp_path / "runs", "--models", "bpr-mf,wide-deep")
    assert result.exit_code == 1
    assert "bpr-mf-seed0" in result.stderr
    assert "config.json" in result.stderr
    made = tmp_path / "table3" / "random-fast"
    assert [f.name for f in made.iterdir()] == ["wide-deep-seed0.json"]


def test_an_interrupt_ends_at_once_and_keeps_what_is_finished(data, tmp_path):
    command = [sys.executable, "-m", "experiments", "table3", "--data", str(data), "--profile", "fast"]
    command += ["--models", "wide-deep", "--seeds", "400", "--workers", "1", "--out", str(tmp_path / "out")]
    program = subprocess.Popen(
        command,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # shells start background jobs without it
    )
    folder = tmp_path / "out" / "table3" / "random-fast"
    deadline = time.monotonic() + 120
    while not list(folder.glob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    program.send_signal(signal.SIGINT)
    assert program.wait(timeout=30) != 0
    found = sorted(folder.iterdir())
    assert 0 < len(found) < 400
    for file in found:
        assert file.suffix != ".json" or read_record(file)["model"] == "wide-deep"


def test_an_interrupted_training_goes_on(data, tmp_path):
    log = EventLog.read(data)
    (cell,) = plan(log, ["wide-deep"], 1, "fast", tmp_path / "a", 8)
    run_cell(data, cell, tmp_path / "runs_a")
    (other,) = plan(log, ["wide-deep"], 1, "fast", tmp_path / "b", 8)
    short = cell.recipe.model_copy(update={"epochs": 1})  # as far as an interrupted run came
    place = tmp_path / "runs_b" / "table3" / "random-fast" / "wide-deep-seed0"
    train_run(log, place, model="wide-deep", options=cell.options, recipe=short, progress=False)
    run_cell(data, other, tmp_path / "runs_b")
    assert read_record(cell.file)["per_user"] == read_record(other.file)["per_user"]


@pytest.mark.parametrize("models", [["atrank", "sasrec"], []])
def test_unknown_models_are_named(data, tmp_path, models):
    with pytest.raises(ReproduceError, match="use some of"):
        plan(EventLog.read(data), models, 1, "full", tmp_path, 8)


def test_without_a_search_the_modern_recipe_is_used_and_said(data, tmp_path):
    for cell in plan(EventLog.read(data), list(MODELS), 2, "full", tmp_path, 5):
        assert cell.chosen_by == "modern recipe, no search"
        assert cell.recipe == RECIPES["modern"].model_copy(update={"epochs": 5})


def test_the_paper_s_recipe_has_no_dropout(data, tmp_path):
    (cell,) = plan(EventLog.read(data), ["atrank"], 1, "full", tmp_path, 5, "paper-recipe")
    assert (cell.options, cell.recipe) == ({}, RECIPES["paper"])
    assert cell.file.parent.parent.name == "table3-paper-recipe"


def test_without_time_only_models_with_time_are_run(data, tmp_path):
    cells = plan(EventLog.read(data), ["popularity", "bpr-mf", "bi-lstm"], 1, "full", tmp_path, 5, "no-time")
    assert [(cell.model, cell.options["time"]) for cell in cells] == [("bi-lstm", "none")]
    assert cells[0].file.parent.parent.name == "table3-no-time"


def test_every_switch_switches_something(data, tmp_path):
    cells = plan_switches(EventLog.read(data), list(SWITCHES), 1, "full", tmp_path, 4)
    settings = [json.dumps(cell.settings(), sort_keys=True) for cell in cells]
    assert len(set(settings)) == len(SWITCHES)
    with pytest.raises(ReproduceError, match=r"switches \['no'\]"):
        plan_switches(EventLog.read(data), ["no"], 1, "full", tmp_path, 4)


def test_tables_1_and_2_count(data):
    for table in ("table1", "table2"):
        result = run(table, "--data", data)
        assert result.exit_code == 0, result.output
        assert "The paper's Table" in result.output
        counts = {g: str(len(e)) for g, e in EventLog.read(data).events.items()}
        for group, count in counts.items():
            line = next(line for line in result.output.splitlines() if line.startswith(group + " "))
            assert count in line.split()


def test_the_difference_of_two_models_is_over_the_same_users():
    rng = np.random.default_rng(0)
    ours, theirs = rng.integers(0, 2, (3, 500)) * 1.0, rng.integers(0, 2, (3, 500)) * 1.0

    def records(model: str, wins: np.ndarray) -> list[dict[str, Any]]:
        return [
            {"model": model, "seed": i, "average_user_auc": float(w.mean()), "ci95": [0.4, 0.6], "per_user": pack(w)}
            for i, w in enumerate(wins)
        ]

    table = reproduce.table3({"bpr-mf": records("bpr-mf", theirs), "atrank": records("atrank", ours)})
    assert table.loc["bpr-mf", "atrank better by"] == pytest.approx(ours.mean() - theirs.mean())
    assert table.loc["atrank", "AUC"] == pytest.approx(ours.mean())
    assert table.loc["bpr-mf", "sd"] == pytest.approx(theirs.mean(axis=1).std(ddof=1))
    assert table.loc["bpr-mf", "paper, Electronics"] == 0.7982
    switched = reproduce.switch_table({"base": records("atrank", theirs), "x": records("atrank", ours)})
    assert switched.loc["x", "difference"] == pytest.approx(ours.mean() - theirs.mean())
    assert switched.loc["x", "low"] < switched.loc["x", "difference"] < switched.loc["x", "high"]
    found = reproduce.difference(records("atrank", ours[:2]), records("bpr-mf", theirs))  # a seed more on one side
    assert found["seeds"] == 2
    assert found["difference"] == pytest.approx(ours[:2].mean() - theirs[:2].mean())
    assert found["low"] < found["difference"] < found["high"]


def test_figure_2_adds_up_samples_and_seconds(data, tmp_path):
    empty = run("figure2", "--data", data, "--out", tmp_path, "--profile", "fast")
    assert empty.exit_code == 1
    assert "make them first" in empty.stderr
    log = EventLog.read(data)
    (cell,) = plan(log, ["wide-deep"], 1, "fast", tmp_path, 8)
    run_cell(data, cell, tmp_path / "runs")
    epochs = read_record(cell.file)["epochs"]
    curve = reproduce.curves(reproduce.read_table(cell.file.parent))
    assert curve["samples"].tolist() == np.cumsum([e["samples"] for e in epochs]).tolist()
    assert curve["seconds"].tolist() == pytest.approx(np.cumsum([e["cpu_seconds"] for e in epochs]).tolist())
    done = run("figure2", "--data", data, "--out", tmp_path, "--profile", "fast")
    assert done.exit_code == 0, done.output
    written = pd.read_csv(tmp_path / "figure2" / "random" / "curves.csv")
    assert written["AUC"].tolist() == pytest.approx([e["validation_auc"] for e in epochs])
    assert (tmp_path / "figure2" / "random" / "curves.png").stat().st_size > 1_000


def test_auc_by_length_is_the_mean_of_users_of_that_length(data, tmp_path):
    log = EventLog.read(data)
    (cell,) = plan(log, ["last-category"], 1, "fast", tmp_path, 8)
    run_cell(data, cell, tmp_path)
    won = unpack(read_record(cell.file)["per_user"])
    expected: dict[str, list[float]] = {}
    place = 0
    for group in log.schema.groups:
        events = log.events[group]
        for user in sorted(set(events["user_id"])):
            own = events[events["user_id"] == user].sort_values("timestamp", kind="stable")
            if len(own) < 2:
                continue  # no test sample: nothing of its own group before it
            moment = own["timestamp"].iloc[-1]
            others = [e for g, e in log.events.items() if g != group]
            length = len(own) - 1 + sum(int(((e["user_id"] == user) & (e["timestamp"] < moment)).sum()) for e in others)
            name = "below 4" if length < 4 else "4 to 9" if length < 10 else "from 10"
            expected.setdefault(name, []).append(won[place])
            place += 1
    assert place == len(won)
    table = reproduce.by_length(log, {"last-category": [read_record(cell.file)]}, edges=(4, 10)).set_index("behaviors")
    assert table["users"].to_dict() == {name: len(values) for name, values in expected.items()}
    assert table["AUC"].to_dict() == pytest.approx({name: np.mean(values) for name, values in expected.items()})
    result = run("lengths", "--data", data, "--profile", "fast", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert read_record(tmp_path / "lengths" / "random-fast.json")["rows"]


def test_a_missing_log_is_one_line(tmp_path):
    result = run("table3", "--data", tmp_path / "no")
    assert result.exit_code == 1
    assert len(result.stderr.strip().splitlines()) == 1
