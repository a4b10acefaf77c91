"""`atrank train | evaluate | rank`: files, JSON and tables; every user error is one message and exit code 1."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from atrank_lib.evaluation import evaluate
from atrank_lib.log.events import EventLog
from atrank_lib.runs import load_run
from atrank_lib.samples import split
from atrank_lib.serve.ranker import Ranker
from tests.cli.runner import atrank, refused


def test_train_writes_a_run(trained: Path, data: Path) -> None:
    assert sorted(p.name for p in trained.iterdir()) == [
        "checkpoints",
        "config.json",
        "metrics.json",
        "model.safetensors",
        "vocabularies.json",
    ]
    assert sorted(p.name for p in (trained / "checkpoints").iterdir()) == ["epoch-0001", "epoch-0002"]
    metrics = json.loads((trained / "metrics.json").read_text())
    assert [entry["epoch"] for entry in metrics["epochs"]] == [1, 2]
    for entry in metrics["epochs"]:
        for name in ("loss", "validation_auc", "samples_per_second", "seconds"):
            assert isinstance(entry[name], float)
    config = json.loads((trained / "config.json").read_text())
    assert (config["recipe"]["epochs"], config["recipe"]["batch_size"]) == (2, 16)


def test_train_reports_each_epoch(data: Path, tmp_path: Path) -> None:
    done = atrank("train", "--data", data, "--out", tmp_path / "run", "--epochs", 2)
    lines = done.out.splitlines()
    assert [line.split()[:3] for line in lines[:2]] == [["epoch", "1", "loss"], ["epoch", "2", "loss"]]
    assert all("validation AUC" in line and line.endswith("samples/s") for line in lines[:2])
    assert lines[2].startswith("best epoch ")
    done = atrank("train", "--data", data, "--out", tmp_path / "paper", "--epochs", 1, "--protocol", "paper")
    assert "validation AUC" not in done.out


def test_evaluate_json(trained: Path, data: Path) -> None:
    done = atrank("evaluate", "--run", trained, "--data", data, "--negatives", 3, "--seed", 2, "--json")
    result = json.loads(done.out)
    assert list(result) == ["average_user_auc", "ci95", "users", "skipped_users", "negatives", "targets"]
    loaded = load_run(trained)
    histories = loaded.histories_of(EventLog.read(data))
    expected = evaluate(loaded.model, histories, split(histories).test, negatives=3, seed=2).as_dict()
    assert result == {**expected, "ci95": list(expected["ci95"])}


def test_evaluate_table(trained: Path, data: Path) -> None:
    result = json.loads(atrank("evaluate", "--run", trained, "--data", data, "--json").out)
    done = atrank("evaluate", "--run", trained, "--data", data)
    first, second, *targets = done.out.splitlines()
    low, high = result["ci95"]
    assert first == f"average user AUC {result['average_user_auc']:.4f} (95 % interval {low:.4f} to {high:.4f})"
    assert second == f"{result['users']} users, 0 skipped, 1 negatives each"
    assert targets == [f"  {name}: {auc:.4f}" for name, auc in result["targets"].items()]


def test_rank_json_and_table(trained: Path, data: Path) -> None:
    log = EventLog.read(data)
    loaded = load_run(trained)
    expected = Ranker(loaded.model, loaded.histories_of(log), "item").top("007", 3)
    arguments = ("rank", "--run", trained, "--data", data, "--user", "007", "--group", "item", "--top", 3)
    rows = json.loads(atrank(*arguments, "--json").out)
    assert [list(row) for row in rows] == [["rank", "object_id", "score"]] * 3
    assert [(row["rank"], row["object_id"]) for row in rows] == list(
        zip(expected["rank"], expected["object_id"], strict=True)
    )
    assert [row["score"] for row in rows] == pytest.approx(expected["score"].tolist(), abs=1e-9)
    lines = [line for line in atrank(*arguments).out.splitlines() if "│" in line or "┃" in line]
    header, *body = [[cell.strip() for cell in line.replace("┃", "│").split("│")[1:-1]] for line in lines]
    assert header == ["rank", "object_id", "score", "shop_id", "price"]
    shops = log.objects["item"].set_index("object_id")["shop_id"]
    for cells, row in zip(body, rows, strict=True):
        shop = shops[row["object_id"]]
        assert cells[:3] == [str(row["rank"]), row["object_id"], f"{row['score']:.4f}"]
        assert pd.isna(shop) or cells[3] == shop
    assert " ms" not in atrank(*arguments).out  # the same again, the next time
    timed = " ".join(atrank(*arguments, "--timing").out.split())  # a caption is broken where the table ends
    assert re.search(r"objects: the objects' side [\d,]+ ms, then [\d,]+ ms a user", timed)


def test_rank_seen_and_moment(trained: Path, data: Path) -> None:
    arguments = ("rank", "--run", trained, "--data", data, "--user", "7", "--group", "item", "--top", 500, "--json")
    events = EventLog.read(data).events["item"]
    events = events[events["user_id"] == "7"]
    ranked = {row["object_id"] for row in json.loads(atrank(*arguments).out)}
    everything = {row["object_id"] for row in json.loads(atrank(*arguments, "--include-seen").out)}
    # asking for more than there are gives all there are
    assert everything - ranked == set(events["object_id"])
    middle = int(events["timestamp"].median())
    then = {row["object_id"] for row in json.loads(atrank(*arguments, "--at", middle).out)}
    assert everything - then == set(events.loc[events["timestamp"] < middle, "object_id"])


def test_score_a_file_of_pairs(trained: Path, data: Path, tmp_path: Path) -> None:
    log = EventLog.read(data)
    loaded = load_run(trained)
    ranked = Ranker(loaded.model, loaded.histories_of(log), "item").top("007", 99, include_seen=True)
    pairs = ranked[["object_id"]].assign(user_id="007", note="kept").sample(frac=1, random_state=0)
    pairs.to_csv(tmp_path / "pairs.csv", index=False)
    arguments = ("score", "--run", trained, "--data", data, "--pairs", tmp_path / "pairs.csv", "--group", "item")
    done = atrank(*arguments, "--out", tmp_path / "scores.parquet")
    assert (done.code, done.err) == (0, "")
    assert f"{len(pairs)} pairs, scored in" in done.out
    scores = pd.read_parquet(tmp_path / "scores.parquet")
    assert list(scores) == ["object_id", "user_id", "note", "score"]
    assert scores["object_id"].tolist() == pairs["object_id"].tolist()
    expected = ranked.set_index("object_id")["score"]
    assert scores["score"].tolist() == pytest.approx(expected[scores["object_id"]].tolist(), abs=1e-5)
    # another moment, for all or for each
    assert atrank(*arguments, "--out", tmp_path / "at.parquet", "--at", 20).code == 0
    pairs.assign(timestamp=20).to_csv(tmp_path / "pairs.csv", index=False)
    assert atrank(*arguments, "--out", tmp_path / "each.parquet").code == 0
    at, each = (pd.read_parquet(tmp_path / f"{name}.parquet")["score"] for name in ("at", "each"))
    assert at.equals(each)
    assert not at.equals(scores["score"])
    refused(atrank(*arguments, "--out", tmp_path / "no.csv", "--at", 20), "leave --at out, or the column")
    assert not (tmp_path / "no.csv").exists()


@pytest.mark.parametrize("factor", [1_000, -1])
def test_a_moment_in_another_unit_is_refused(trained: Path, data: Path, tmp_path: Path, factor: int) -> None:
    """This log's timestamps are seconds; milliseconds would lie 50,000 years ahead, after which nothing comes."""
    year_2020 = 1_577_836_800
    log = EventLog.read(data)
    for frame in log.events.values():
        frame["timestamp"] += year_2020
    log.write(tmp_path / "log")
    pd.DataFrame({"user_id": ["007"], "object_id": ["i1"]}).to_csv(tmp_path / "pairs.csv", index=False)
    common = ("--run", trained, "--data", tmp_path / "log", "--group", "item")
    score = ("score", *common, "--pairs", tmp_path / "pairs.csv", "--out", tmp_path / "scores.csv")
    for command in (("rank", *common, "--user", "007"), score):
        assert atrank(*command, "--at", year_2020 + 20).code == 0
        (tmp_path / "scores.csv").unlink(missing_ok=True)
        refused(
            atrank(*command, f"--at={factor * year_2020}"), str(factor * year_2020), "far from the log", "2020-01-01"
        )
        assert not (tmp_path / "scores.csv").exists()


def test_score_refuses(trained: Path, data: Path, tmp_path: Path) -> None:
    pd.DataFrame({"user_id": ["zoe"], "object_id": ["i999"]}).to_csv(tmp_path / "pairs.csv", index=False)
    arguments = ("score", "--run", trained, "--data", data, "--pairs", tmp_path / "pairs.csv")
    out = tmp_path / "scores.csv"
    refused(atrank(*arguments, "--out", out), "several target groups: choose one with --group: item, query, coupon")
    refused(atrank(*arguments, "--out", tmp_path / "scores.txt"), "scores.txt", ".parquet or .csv")
    done = atrank(*arguments, "--out", out, "--group", "item")
    assert done.code == 1
    assert ["zoe" in line or "i999" in line for line in done.err.splitlines()] == [True, True]
    assert [p.name for p in tmp_path.iterdir()] == ["pairs.csv"]


def test_nothing_left_to_rank(tiny_log: EventLog, tmp_path: Path) -> None:
    events = tiny_log.events["query"].astype({"action": "str"})
    more = pd.DataFrame(
        {"user_id": ["bert"] * 3, "timestamp": [10, 20, 30], "action": "search", "object_id": ["q1", "q2", "q3"]}
    )
    events = pd.concat([events, more], ignore_index=True)
    log = EventLog.from_tables(tiny_log.schema, {**tiny_log.events, "query": events}, tiny_log.objects)
    log.write(tmp_path / "log")
    assert atrank("train", "--data", tmp_path / "log", "--out", tmp_path / "run", "--targets", "item").code == 0
    arguments = ("rank", "--run", tmp_path / "run", "--data", tmp_path / "log", "--user", "bert", "--group", "query")
    assert json.loads(atrank(*arguments, "--json").out) == []
    assert "object_id" in atrank(*arguments).out
    assert len(json.loads(atrank(*arguments, "--json", "--include-seen").out)) == 3


def test_targets_and_histories(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = atrank(
        *("train", "--data", data, "--out", run, "--targets", "item", "--histories", "item, query", "--epochs", 1)
    )
    assert done.code == 0
    config = json.loads((run / "config.json").read_text())
    assert (config["targets"], config["histories"]) == (["item"], ["item", "query"])
    assert load_run(run).model.histories == ("item", "query")
    result = json.loads(atrank("evaluate", "--run", run, "--data", data, "--json").out)
    assert list(result["targets"]) == ["item"]
    # candidates of any group can be ranked
    rank = atrank("rank", "--run", run, "--data", data, "--user", "7", "--group", "coupon", "--top", 1, "--json")
    assert len(json.loads(rank.out)) == 1


def test_max_steps_and_resume(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = ("train", "--data", data, "--out", run, "--epochs", 2, "--batch-size", 16)
    assert atrank(*arguments, "--max-steps", 1).code == 0
    assert json.loads((run / "metrics.json").read_text())["steps"] == 1
    refused(atrank(*arguments), str(run), "is not empty")
    refused(atrank(*arguments, "--resume", "--seed", 3), "seed was 0, is now 3", "resume with the settings")
    assert atrank(*arguments, "--resume").code == 0
    assert len(json.loads((run / "metrics.json").read_text())["epochs"]) == 2


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--targets", "shop"], ["targets: ['shop']", "the log's groups are ['item', 'query', 'coupon']"]),
        (["--targets", "item,,shop"], ["['shop']"]),
        (["--targets", ","], ["targets: nothing given"]),
        (["--histories", "shop"], ["history groups: ['shop']"]),
        (["--histories", ""], ["history groups: nothing given"]),
        (["--model", "atrnak"], ["model 'atrnak'; use one of ['atrank', 'bi-lstm'"]),
    ],
)
def test_train_refuses(data: Path, tmp_path: Path, options: list[str], parts: list[str]) -> None:
    refused(atrank("train", "--data", data, "--out", tmp_path / "run", *options), *parts)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "options",
    [["--protocol", "papper"], ["--recipe", "papper"], ["--epochs", "0"], ["--max-steps", "0"], ["--seed", "-1"]],
)
def test_usage_errors_name_the_option(data: Path, tmp_path: Path, options: list[str]) -> None:
    done = atrank("train", "--data", data, "--out", tmp_path / "run", *options)
    assert done.code == 2
    assert options[0] in done.err
    assert not (tmp_path / "run").exists()


def test_train_refuses_places(data: Path, tmp_path: Path, trained: Path) -> None:
    refused(atrank("train", "--data", tmp_path / "nowhere", "--out", tmp_path / "run"), "nowhere: not a folder")
    (tmp_path / "file").write_text("mine")
    refused(atrank("train", "--data", data, "--out", tmp_path / "file"), str(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "mine"
    refused(atrank("train", "--data", data, "--out", trained), "is not empty; choose another folder, or resume")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]


@pytest.mark.parametrize("option", ["--threads", "--workers"])
def test_threads_are_for_this_training_alone(data: Path, tmp_path: Path, option: str) -> None:
    before = torch.get_num_threads()
    done = atrank("train", "--data", data, "--out", tmp_path / "run", "--max-steps", 1, option, before + 1)
    assert done.code == 0
    assert torch.get_num_threads() == before


def test_a_model_without_the_recipes_options(data: Path, tmp_path: Path) -> None:
    """`small` names a hidden size, which matrix factorization does not have."""
    arguments = ("train", "--data", data, "--model", "bpr-mf", "--recipe", "small", "--max-steps", 1)
    assert atrank(*arguments, "--out", tmp_path / "run").code == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["options"] == {
        "embedding_size": 32,
        "embedding_dropout": 0.1,
        "id_dropout": 0.5,
    }


def test_short_histories_are_refused(tiny_log: EventLog, tmp_path: Path) -> None:
    tiny_log.write(tmp_path / "log")
    done = atrank("train", "--data", tmp_path / "log", "--out", tmp_path / "run")
    refused(done, "group 'query' has no training sample", "'validated'")
    assert not (tmp_path / "run").exists()


def test_user_without_negatives_is_refused(tiny_log: EventLog, tmp_path: Path) -> None:
    """Found only when negatives are drawn; even so no run is left."""
    anna = tiny_log.events["item"].astype({"action": "str"}).iloc[[0]]
    more = [anna.assign(object_id=f"i{i}", timestamp=10**6 + i) for i in range(1, 7)]
    events = pd.concat([tiny_log.events["item"].astype({"action": "str"}), *more], ignore_index=True)
    log = EventLog.from_tables(tiny_log.schema, {**tiny_log.events, "item": events}, tiny_log.objects)
    log.write(tmp_path / "log")
    done = atrank("train", "--data", tmp_path / "log", "--out", tmp_path / "run", "--targets", "item")
    refused(done, "user 'anna' has touched every object of group 'item'")
    assert not (tmp_path / "run").exists()


def test_missing_and_damaged_runs(run: Path, data: Path, tmp_path: Path) -> None:
    commands = (("evaluate",), ("rank", "--user", "007", "--group", "item"))
    good = {p.name: p.read_bytes() for p in run.iterdir() if p.is_file()}
    for name, *options in commands:
        refused(atrank(name, "--run", tmp_path / "no", "--data", data, *options), str(tmp_path / "no"), "holds no run")
        for file, content in (
            ("model.safetensors", good["model.safetensors"][:100]),
            ("model.safetensors", b"\x80\x04cos\nsystem\n"),  # a pickle is not even looked at
            ("vocabularies.json", good["vocabularies.json"][:-20]),
            ("config.json", good["config.json"][:50]),
            ("config.json", good["config.json"].replace(b'"hidden": 128', b'"hidden": "many"')),
        ):
            (run / file).write_bytes(content)
            refused(atrank(name, "--run", run, "--data", data, *options), file)
            (run / file).write_bytes(good[file])
        (run / "model.safetensors").unlink()
        refused(atrank(name, "--run", run, "--data", data, *options), "model.safetensors is missing", "--resume")
        (run / "model.safetensors").write_bytes(good["model.safetensors"])


def test_log_of_another_schema(trained: Path, tiny_log: EventLog, tmp_path: Path) -> None:
    tiny_log.write(tmp_path / "log")
    done = atrank("evaluate", "--run", trained, "--data", tmp_path / "log")
    refused(done, "the log 'tiny marketplace' does not have the schema this run was trained on", "'item'")


def test_rank_refuses(trained: Path, data: Path) -> None:
    refused(
        atrank("rank", "--run", trained, "--data", data, "--user", "zoe", "--group", "item"),
        "user 'zoe' has no behavior in this log",
    )
    refused(
        atrank("rank", "--run", trained, "--data", data, "--user", "007", "--group", "shop"), "target group: ['shop']"
    )
    # "7" and "007" are two users
    assert atrank("rank", "--run", trained, "--data", data, "--user", "07", "--group", "item").code == 1


def test_every_problem_of_a_log_is_told(data: Path, tmp_path: Path) -> None:
    bad = shutil.copytree(data, tmp_path / "log")
    (bad / "item.events.parquet").unlink()
    (bad / "query.objects.parquet").unlink()
    done = atrank("train", "--data", bad, "--out", tmp_path / "run")
    assert done.code == 1
    assert len(done.err.splitlines()) == 2
    assert not (tmp_path / "run").exists()


def test_module_is_the_same_program(trained: Path, data: Path) -> None:
    command = [sys.executable, "-m", "atrank_lib", "evaluate", "--run", str(trained), "--data", str(data), "--json"]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=alone)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == json.loads(atrank("evaluate", "--run", trained, "--data", data, "--json").out)
