"""The queue keeps the protocol's order, and opens what confirms it last."""

from __future__ import annotations

import subprocess
from functools import partial
from pathlib import Path

import pytest

from atrank_lib.scale.devices import Execution
from data_scripts.marketplace import WORLDS, MarketplaceConfig
from data_scripts.simulate import simulate
from experiments import queue, tables
from experiments.models import CAME_AFTER
from experiments.queue import LOGS, QUEUE, Source, Step, waiting
from experiments.records import ExperimentError, read_record
from experiments.search import search
from experiments.tables import CONVERGED, Row, Table

MARKET = Source("simulate", ("--users", "40", "--seed", "0"))
OTHER = Source("simulate", ("--users", "30", "--seed", "1"))
LOGS_HERE = {"market": MARKET, "other": OTHER}
STEPS = [Step("tiny", "market"), Step("tiny", "other", confirms=True)]


@pytest.fixture
def tiny(monkeypatch):
    rows = {"popularity": Row("popularity", listed=5), "bpr-mf": Row("bpr-mf", seeds=2, listed=5)}
    monkeypatch.setitem(tables.TABLES, "tiny", Table(rows, recipe={"epochs": 1}))


def git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=reader", "-c", "user.email=reader@example.org")
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


def test_what_confirms_is_not_opened_before_the_rest_is_committed(tiny, tmp_path, capsys):
    out, runs = tmp_path / "results", tmp_path / "runs"
    git(tmp_path, "init", "-q")

    def left():
        return dict(waiting(out, runs, None, Execution(), LOGS_HERE, STEPS))

    jobs = left()
    assert list(jobs) == ["tiny market popularity-seed0", "tiny market bpr-mf-seed0", "tiny market bpr-mf-seed1"]
    assert "tiny on other waits: not all of" in capsys.readouterr().err
    assert not (runs / "logs/other").exists()
    for job in jobs.values():
        job()
    assert left() == {}
    assert "committed" in capsys.readouterr().err
    assert not (runs / "logs/other").exists()
    git(tmp_path, "add", "results")
    git(tmp_path, "commit", "-qm", "records")
    assert list(left()) == ["tiny other popularity-seed0", "tiny other bpr-mf-seed0", "tiny other bpr-mf-seed1"]

    rule, model = (
        read_record(out / f"tiny/simulated_marketplace/{name}-seed0.json") for name in ("popularity", "bpr-mf")
    )
    for record in (rule, model):
        assert record["whole_list"]["item"]["users"] == 5
        assert record["popular"]["users"] == record["users"]
    assert model["recipe"]["epochs"] == 1
    assert model["parameters"]["tables"] > 0


def test_what_stands_behind_goes_on_while_what_confirms_waits(tiny, tmp_path, capsys):
    git(tmp_path, "init", "-q")
    for seed, name in enumerate(("market", "third")):
        log = simulate(MarketplaceConfig(users=20, behaviors=12, seed=seed), log_name=name)
        log.write(tmp_path / "runs" / "logs" / name)
    steps, logs = [*STEPS, Step("tiny", "third")], LOGS_HERE | {"third": MARKET}
    jobs = waiting(tmp_path / "results", tmp_path / "runs", None, Execution(), logs, steps)
    labels = ("popularity-seed0", "bpr-mf-seed0", "bpr-mf-seed1")
    assert [name for name, _ in jobs] == [f"tiny {log} {label}" for log in ("market", "third") for label in labels]
    assert "tiny on other waits" in capsys.readouterr().err


def test_a_model_is_searched_before_its_rows_are_trained(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(queue, "search", partial(search, trials=4, users=30, epochs=1))
    step = Step("tiny", "market", rows=("bpr-mf",), searched=("bpr-mf",))

    def left():
        return dict(waiting(tmp_path / "results", tmp_path / "runs", None, Execution(), LOGS_HERE, [step]))

    jobs = left()
    assert list(jobs) == ["search market bpr-mf"]
    assert "tiny on market waits: bpr-mf are not searched" in capsys.readouterr().err
    jobs["search market bpr-mf"]()
    found = left()
    assert list(found) == ["tiny market bpr-mf-seed0", "tiny market bpr-mf-seed1"]
    found["tiny market bpr-mf-seed0"]()
    record = read_record(tmp_path / "results/tiny/simulated_marketplace/bpr-mf-seed0.json")
    assert record["chosen_by"].startswith("search/simulated_marketplace/bpr-mf.json, trial ")


def test_tables_of_the_same_rows_do_not_take_each_others_place(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(tables.TABLES, "twin", tables.TABLES["tiny"])
    git(tmp_path, "init", "-q")
    steps = [Step("tiny", "market", rows=("popularity",)), Step("twin", "market"), Step("tiny", "market")]
    jobs = dict(waiting(tmp_path / "results", tmp_path / "runs", None, Execution(), LOGS_HERE, steps))
    own = [f"{table} market {name}-seed0" for table in ("twin", "tiny") for name in ("popularity", "bpr-mf")]
    assert next(iter(jobs)) == "tiny market popularity-seed0"
    assert set(jobs) == {*own, "twin market bpr-mf-seed1", "tiny market bpr-mf-seed1"}


def test_raw_tables_are_asked_for(tmp_path):
    with pytest.raises(ExperimentError, match="give their folder as --raw"):
        LOGS["sports"].make(None, tmp_path / "sports")
    with pytest.raises(ExperimentError, match="sports could not be made"):
        LOGS["sports"].make(tmp_path / "nothing", tmp_path / "sports")
    assert not (tmp_path / "sports").exists()


def test_the_queue_is_the_protocol():
    """What the page promises of seeds and users is what the table has."""
    confirming = [(step.table, step.log) for step in QUEUE if step.confirms]
    assert confirming == [("table3-converged", "beauty"), ("table3-came-after", "beauty")]
    steps = [(step.table, step.log) for step in QUEUE]
    assert steps.index(("table3-converged", "sports")) < steps.index(("table3-converged", "beauty"))
    assert {table for table, _ in steps} >= {"factorial", "original", "modes", "modes-steps", "table3-global-time"}
    whole = {(step.table, step.log) for step in QUEUE if step.rows is None}
    assert whole == set(steps)  # what a step leaves out, a later one has
    assert [log for table, log in steps if table == "worlds"] == 2 * list(WORLDS)
    assert steps.index(("table3-converged", "beauty")) < steps.index(("worlds", "marketplace"))
    assert {step.table for step in QUEUE if step.searched} == {"table3-came-after", "table3-losses"}
    assert all(step.log == "sports" and set(step.searched) == set(CAME_AFTER) for step in QUEUE if step.searched)
    seeds = {name: row.seeds for name, row in CONVERGED.items()}
    assert {name for name, count in seeds.items() if count == 3} == {"bi-lstm", "cnn"}
    assert {name for name, count in seeds.items() if count == 2} == {"bi-lstm-attention", "bst"}
    assert tables.TO_CONVERGENCE == {"epochs": 40, "patience": 4}
    assert {row.listed for row in CONVERGED.values()} == {2_000, 500}
