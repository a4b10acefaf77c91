"""`python -m experiments`: every command on a small log; tables are resumed, kept apart, and say what is wrong."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch

from atrank_lib import ATRank, EventLog, Recipe, build_batch, evaluate, split
from atrank_lib.interpret import explain
from atrank_lib.runs import load_run, train_run
from atrank_lib.variants import build, options_of
from data_scripts.marketplace import WORLDS, MarketplaceConfig
from data_scripts.simulate import simulate
from experiments import causes
from experiments.cli import COMMANDS, main
from experiments.records import read_record, unpack, write_record
from experiments.summary import read_table
from experiments.tables import MODES, TABLES

FAST = ("--profile", "fast", "--seeds", 1, "--workers", 1)
SMALL = {"embedding_size": 4, "hidden": 8, "spaces": 2}


def test_every_command_explains_itself(capsys):
    for command in COMMANDS:
        with pytest.raises(SystemExit, match="0"):
            main([command, "--help"])
        assert ("--raw" if command == "queue" else "--data") in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [["--seeds", "0"], ["--variant", "best"], ["--profile", "quick"], ["--seeds", "a"]]
)
def test_an_option_that_cannot_be_is_refused(capsys, arguments):
    with pytest.raises(SystemExit, match="2"):
        main(["table3", "--data", "log", *arguments])
    assert arguments[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    "table", ["table3", "switches", "original", "table5", "worlds", "figure2", "lengths", "table1"]
)
def test_a_missing_log_is_one_line(run, tmp_path, table):
    done = run(table, "--data", tmp_path / "no")
    assert done.code == 1
    assert len(done.err.strip().splitlines()) == 1


def test_finished_cells_are_not_run_again(data, run, tmp_path):
    table3 = ("table3", "--data", data, *FAST, "--out", tmp_path)
    first = run(*table3, "--models", "popularity")
    assert first.code == 0, first.err
    file = tmp_path / "table3" / "random-fast" / "popularity-seed0.json"
    before = file.stat().st_mtime_ns
    second = run(*table3, "--models", "popularity,last-category")
    assert second.code == 0, second.err
    assert "2 cells, 1 finished before" in second.err
    assert file.stat().st_mtime_ns == before
    assert [line.split()[0] for line in second.out.splitlines()[2:]] == ["popularity", "last-category"]
    assert "paper, Electronics" in second.out
    assert {f.name for f in file.parent.iterdir()} == {"popularity-seed0.json", "last-category-seed0.json"}
    assert run(*table3, "--models", "popularity", "--force").code == 0
    assert file.stat().st_mtime_ns > before
    none = run(*table3, "--models", "popularity", "--variant", "no-time")
    assert none.code == 1
    assert "no cells of table3-no-time" in none.err


def renamed(log: EventLog, name: str) -> EventLog:
    return EventLog.from_tables(log.schema.model_copy(update={"name": name}), log.events, log.objects)


@pytest.mark.parametrize("change", ["the name in brackets", "rows came in"])
def test_a_table_shows_the_log_it_was_asked_for(data, log, run, tmp_path, change):
    if change == "rows came in":
        events = {**log.events, "item": pd.concat([log.events["item"], log.events["item"].head(1)])}
        other = EventLog.from_tables(log.schema, events, log.objects)
    else:
        other = renamed(log, f"{log.schema.name} (2024)")
    other.write(tmp_path / "other")
    options = (*FAST, "--out", tmp_path)
    assert run("table3", "--data", data, "--models", "popularity", *options).code == 0
    done = run("table3", "--data", tmp_path / "other", "--models", "last-category", *options)
    assert done.code == 0
    assert "popularity" not in done.out
    assert f"random-{other.fingerprint()}-fast: of this log alone" in done.err
    lengths = [
        run("lengths", "--data", which, "--profile", "fast", "--out", tmp_path) for which in (data, tmp_path / "other")
    ]
    assert [("popularity" in one.out, "last-category" in one.out) for one in lengths] == [(True, False), (False, True)]
    assert len(list((tmp_path / "lengths").iterdir())) == 2


def test_what_is_left_out_of_a_table_is_a_problem_beside_it(data, run, tmp_path):
    table3 = ("table3", "--data", data, *FAST, "--out", tmp_path, "--models")
    assert run(*table3, "popularity").code == 0
    folder = tmp_path / "table3" / "random-fast"
    (folder / "cnn-seed0.json").write_text("{")
    theirs = read_record(folder / "popularity-seed0.json") | {"model": "bst", "data_fingerprint": "another"}
    write_record(folder / "bst-seed0.json", theirs)
    done = run(*table3, "last-category")
    assert done.code == 1
    assert [line.split()[0] for line in done.out.splitlines()[2:]] == ["popularity", "last-category"]
    assert "cnn-seed0.json cannot be read" in done.err
    assert "bst-seed0.json is not used" in done.err
    for command in ("lengths", "figure2"):
        assert (
            "cnn-seed0.json cannot be read" in run(command, "--data", data, "--profile", "fast", "--out", tmp_path).err
        )


def test_one_failing_cell_does_not_stop_the_others(data, run, tmp_path):
    broken = tmp_path / "runs" / "table3" / "random-fast" / "bpr-mf-seed0"
    broken.mkdir(parents=True)
    (broken / "config.json").write_text("{}")
    options = ("--out", tmp_path, "--runs", tmp_path / "runs", "--models", "bpr-mf,wide-deep")
    done = run("table3", "--data", data, *FAST, *options)
    assert done.code == 1
    assert "bpr-mf-seed0" in done.err
    assert "config.json" in done.err
    assert "wide-deep" in done.out
    assert [f.name for f in (tmp_path / "table3" / "random-fast").iterdir()] == ["wide-deep-seed0.json"]
    again = run(
        "table3", "--data", data, *FAST, "--out", tmp_path / "empty", "--runs", tmp_path / "runs", "--models", "bpr-mf"
    )
    assert again.code == 1
    assert "config.json" in again.err  # where no cell is there to show, too


def test_an_interrupt_ends_at_once_and_keeps_what_is_finished(data, tmp_path):
    command = [sys.executable, "-m", "experiments", "table3", "--data", str(data), "--profile", "fast"]
    command += ["--models", "wide-deep", "--seeds", "400", "--workers", "2", "--out", str(tmp_path / "out")]
    program = subprocess.Popen(
        command,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # shells start background jobs without it
    )
    folder = tmp_path / "out" / "table3" / "random-fast"
    deadline = time.monotonic() + 300
    while not list(folder.glob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    program.send_signal(signal.SIGINT)
    assert program.wait(timeout=60) != 0
    found = sorted(folder.iterdir())
    assert 0 < len(found) < 400
    for file in found:
        assert file.suffix != ".json" or read_record(file)["model"] == "wide-deep"


def test_every_row_of_table_5_runs_and_says_what_it_did(data, log, run, tmp_path):
    options = ("--data", data, *FAST, "--out", tmp_path, "--targets", "item,coupon")
    done = run("table5", *options)
    assert done.code == 0, done.err
    folder, targets = tmp_path / "table5" / "random-fast", ("item", "coupon")
    assert {f.name for f in folder.iterdir()} == {f"{row}-{t}-seed0.json" for row in MODES for t in targets}
    for (row, target), (record,) in read_table(folder).items():
        names = {"one2one": f"{target}2{target}", "all2one": f"all2{target}", "all2all": "all2all"}
        assert record["mode"] == names[MODES[row].kind or ""]
        assert record["data_fingerprint"] == log.fingerprint()
        assert "best_auc" not in record  # only simulated logs know the best
        for name, value in MODES[row].recipe.items():
            assert record["recipe"][name] == value
        for name, value in MODES[row].options.items():
            assert record["options"][name] == value
    again = run("table5", *options)
    cells = sum(1 if row.kind == "all2all" else len(targets) for row in MODES.values())  # all2all: all targets at once
    assert f"{cells} cells, {cells} finished before" in again.err
    assert "The paper's Table 5" in again.out
    assert "rows of table5: none given" in run("table5", "--modes", "", *options).err


def test_switches_are_compared_with_the_base(data, run, tmp_path):
    options = ("--data", data, *FAST, "--out", tmp_path)
    alone = run("switches", *options, "--names", "no-self-attention")
    assert alone.code == 0, alone.err
    done = run("switches", *options, "--names", "base")
    base, other = (line.split() for line in done.out.splitlines()[2:])
    assert (base[0], base[-3:]) == ("base", ["-", "-", "-"])
    assert other[0] == "no-self-attention"
    assert float(other[4]) == pytest.approx(float(other[2]) - float(base[2]), abs=2e-4)


def test_tables_1_and_2_count(data, log, run, tmp_path):
    for table, options in (("table1", ["--out", tmp_path]), ("table2", [])):
        done = run(table, "--data", data, *options)
        assert done.code == 0, done.err
        assert "The paper's Table" in done.out
        for group, events in log.events.items():
            line = next(line for line in done.out.splitlines() if line.startswith(group + " "))
            assert str(len(events)) in line.split()
    (file,) = (tmp_path / "logs").iterdir()
    record = read_record(file)
    assert record["data_fingerprint"] == log.fingerprint()
    for group, events in log.events.items():
        assert record["summary"][group]["behaviors"] == len(events)


def test_figure_2_shows_the_runs_of_table_3(data, run, tmp_path):
    options = ("--data", data, "--out", tmp_path, "--profile", "fast")
    empty = run("figure2", *options)
    assert empty.code == 1
    assert "make them first" in empty.err
    assert run("table3", *options, "--seeds", 1, "--workers", 1, "--models", "wide-deep").code == 0
    epochs = read_record(tmp_path / "table3" / "random-fast" / "wide-deep-seed0.json")["epochs"]
    done = run("figure2", *options)
    assert done.code == 0, done.err
    written = pd.read_csv(tmp_path / "figure2" / "random-fast" / "curves.csv")
    assert written["AUC"].tolist() == pytest.approx([e["validation_auc"] for e in epochs])
    assert written["samples"].tolist() == np.cumsum([e["samples"] for e in epochs]).tolist()
    assert (tmp_path / "figure2" / "random-fast" / "curves.png").stat().st_size > 1_000


def test_figure_2_needs_a_model_that_was_trained(data, run, tmp_path):
    options = ("--data", data, "--out", tmp_path, "--profile", "fast")
    assert run("table3", *options, "--models", "popularity").code == 0
    assert "popularity are not trained" in run("figure2", *options).err


def test_a_search_is_recorded_and_its_settings_are_table_3_s(data, run, tmp_path):
    options = ("--data", data, "--out", tmp_path, "--models", "bpr-mf", "--workers", 1)
    done = run("search", *options, "--trials", 2, "--epochs", 1)
    assert done.code == 0, done.err
    best = read_record(tmp_path / "search" / "random" / "bpr-mf.json")["best"]
    assert f"{best['value']:.4f}" in done.out
    assert run("table3", *options, "--seeds", 1, "--epochs", 1).code == 0
    record = read_record(tmp_path / "table3" / "random" / "bpr-mf-seed0.json")
    assert record["recipe"]["learning_rate"] == best["parameters"]["learning_rate"]
    assert record["chosen_by"] == f"search/random/bpr-mf.json, trial {best['trial']}"
    unknown = run("search", *options[:4], "--models", "gru4rec,bpr-mf", "--workers", 1, "--trials", 2, "--epochs", 1)
    assert unknown.code == 1
    assert "gru4rec: model 'gru4rec'; use one of" in unknown.err
    assert f"{best['value']:.4f}" in unknown.out
    assert "no model given" in run("search", "--data", data, "--models", "").err


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """A run of ATRank, for what is read from attention."""
    folder = tmp_path_factory.mktemp("run") / "run"
    recipe = Recipe(epochs=1, batch_size=16)
    train_run(EventLog.read(data), folder, options=SMALL, recipe=recipe, progress=False)
    return folder


def test_a_run_is_recorded(data, log, trained, run, tmp_path):
    file = tmp_path / "results" / "record.json"
    assert run("record", "--run", trained, "--data", data, "--out", file).code == 0
    record, model = read_record(file), load_run(trained)
    assert record["data_fingerprint"] == log.fingerprint()
    assert record["recipe"] == model.config.recipe.model_dump(mode="json")
    assert record["epochs"] == json.loads((trained / "metrics.json").read_text())["epochs"]
    assert {"model", "seed", "ci95", "options", "commit", "versions", "hardware", "wall_seconds"} <= record.keys()
    histories = model.histories_of(log)
    found = evaluate(model.model, histories, split(histories).test)
    assert unpack(record["per_user"]).tolist() == found.per_user.tolist()


def test_a_world_is_shown_beside_its_best_and_what_was_said(run, tmp_path):
    world = WORLDS["drift"].model_copy(update={"users": 40, "items": 60, "queries": 30, "coupons": 30})
    simulate(world, log_name="simulated drift").write(tmp_path / "log")
    options = ("--data", tmp_path / "log", *FAST, "--out", tmp_path, "--names")
    done = run("worlds", *options, "popularity,recent-popularity,bpr-mf")
    assert done.code == 0, done.err
    best = json.loads((tmp_path / "log/truth/truth.json").read_text())["best_auc"]
    lines = [line.split() for line in done.out.splitlines()]
    assert ["best", f"{np.mean(list(best.values())):.4f}"] in lines
    assert lines[-1][:4] == ["drift", "recent-popularity", "popularity", "better"]
    for name in ("popularity", "recent-popularity", "bpr-mf"):
        record = read_record(tmp_path / f"worlds/simulated_drift-fast/{name}-seed0.json")
        assert record["best_auc"] == best
        assert list(record["targets"]) == ["item", "query", "coupon"]
    other = run("worlds", "--data", tmp_path / "log", *FAST, "--out", tmp_path / "b", "--names", "popularity")
    assert "Said beforehand" not in other.out


def test_table_4_is_the_mean_attention_of_each_bucket(data, log, trained, run, tmp_path):
    done = run("table4", "--data", data, "--run", trained, "--out", tmp_path)
    assert done.code == 0, done.err
    rows = read_record(tmp_path / "table4" / "random" / "item.json")["rows"]
    model = load_run(trained)
    assert isinstance(model.model, ATRank)
    histories = model.histories_of(log)
    samples = split(histories, "validated").test["item"]
    unit = 1  # items count time in seconds
    found: dict[int, list[float]] = {}
    even: dict[int, list[float]] = {}
    for i in range(len(samples)):
        one = samples[torch.tensor([i])]
        batch = build_batch(histories, one, one.objects[:, None], model.model.histories)
        seen = explain(model.model, batch)
        for place in range(seen.groups.shape[1]):
            if int(seen.groups[0, place]) == 0:
                moment = int(histories.groups["item"].timestamps[int(seen.positions[0, place])])
                elapsed = (int(one.times[0]) - moment) / unit
                bucket = sum(elapsed >= edge for edge in (1, 2, 4, 8))
                found.setdefault(bucket, []).append(float(seen.target_attention[0, :, 0, place].mean()))
                even.setdefault(bucket, []).append(1 / seen.groups.shape[1])
    assert {row["bucket"]: row["behaviors"] for row in rows} == {b: len(w) for b, w in found.items()}
    for row in rows:
        assert row["attention"] == pytest.approx(np.mean(found[row["bucket"]]), rel=1e-5)
        assert row["even"] == pytest.approx(np.mean(even[row["bucket"]]))
        assert row["low"] <= row["attention"] <= row["high"]


def test_detectors_are_judged_and_recorded(run, tmp_path):
    market = simulate(MarketplaceConfig(users=60, behaviors=14, items=40, queries=20, coupons=20, seed=3))
    market.write(tmp_path / "log")
    train_run(market.log, tmp_path / "run", options=SMALL, targets=["item"], recipe=Recipe(epochs=1), progress=False)
    done = run("detectors", "--data", tmp_path / "log", "--run", tmp_path / "run", "--out", tmp_path)
    assert done.code == 0, done.err
    record = read_record(tmp_path / "interpret" / "simulated_marketplace" / "run.json")
    rows = {row["detector"]: row for row in record["targets"]["item"]["rows"]}
    assert record["best_auc"] == market.truth.best_auc
    assert record["data_fingerprint"] == market.log.fingerprint()

    trained = load_run(tmp_path / "run")
    histories, model = trained.histories_of(market.log), trained.model
    assert isinstance(model, ATRank)
    torch.manual_seed(trained.config.seed)
    control = build(market.log.schema, trained.vocabularies, options_of(model))
    parts = split(histories, "validated", ["item"])
    found, more = causes.judge(model, control, histories, parts, "item", market.truth, market.log)
    assert record["targets"]["item"]["best_space"] == more["best_space"]
    for name, row in rows.items():
        assert row["AUC"] == pytest.approx(found.loc[name, "AUC"])


def test_a_log_without_truth_says_so(data, trained, run, tmp_path):
    done = run("detectors", "--data", data, "--run", trained, "--out", tmp_path)
    assert done.code == 1
    assert "only simulated logs have a truth" in done.err
    assert not (tmp_path / "interpret").exists()


@pytest.mark.parametrize("command", ["table4", "detectors"])
def test_only_atrank_has_attention_to_read(command, data, log, run, tmp_path):
    train_run(log, tmp_path / "run", model="bpr-mf", recipe=Recipe(epochs=1), progress=False)
    done = run(command, "--data", data, "--run", tmp_path / "run", "--out", tmp_path)
    assert done.code == 1
    assert "attention is read from 'atrank'" in done.err


def test_the_tables_have_commands():
    assert {table.split("-")[0] for table in TABLES} <= set(COMMANDS)
