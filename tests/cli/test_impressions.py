"""`--negatives impressions` and `--shown`: choices from lists, from a log to a ranked list."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from atrank_lib.evaluation import evaluate
from atrank_lib.log import EventLog
from atrank_lib.runs import load_run
from atrank_lib.samples import build_batch, split
from atrank_lib.serve.ranker import moments
from tests.cli.runner import atrank, refused
from tests.shown import shop_window

Arg = str | Path | int


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("window") / "log"
    shop_window().write(folder)
    return folder


@pytest.fixture(scope="module")
def run(window: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("window") / "run"
    choices: list[Arg] = ["--targets", "item", "--negatives", "impressions", "--ranking", "mlp", "--epochs", 1]
    done = atrank("train", "--data", window, "--out", out, *choices, "--batch-size", 16)
    assert done.code == 0, done.err
    return out


def test_a_run_remembers_what_it_was_trained_on(run: Path) -> None:
    config = load_run(run).config
    assert (config.choices, config.recipe.negative_kind, config.recipe.negatives) == (True, "impressions", None)


@pytest.mark.parametrize(("option", "count"), [("impressions", None), ("impressions:2", 2)])
def test_evaluate_against_what_was_shown(run: Path, window: Path, option: str, count: int | None) -> None:
    done = atrank("evaluate", "--run", run, "--data", window, "--negatives", option, "--json")
    loaded = load_run(run)
    histories = loaded.histories_of(EventLog.read(window))
    tests = split(histories, targets=["item"]).test
    expected = evaluate(loaded.model, histories, tests, negatives=count, kind="impressions").as_dict()
    assert json.loads(done.out) == {**expected, "ci95": list(expected["ci95"])}
    table = atrank("evaluate", "--run", run, "--data", window, "--negatives", option).out
    assert ("against all that was shown beside" if count is None else "2 negatives each") in table
    other = atrank("evaluate", "--run", run, "--data", window, "--negatives", 3)
    assert "3 negatives each" in other.out


def test_rank_a_list_as_it_is_to_be_shown(run: Path, window: Path, tmp_path: Path) -> None:
    shown = pd.DataFrame(
        {"object_id": ["i3", "i9", "i4", "i30"], "place": ["0", "1", "2", "3"], "price": [50.0, None, 40.0, 60.0]}
    ).assign(labels=["l1", "", "l2 l3", "l1"])
    shown.to_csv(tmp_path / "shown.csv", index=False)
    shown.assign(labels=shown["labels"].str.split()).to_parquet(tmp_path / "shown.parquet")
    options: list[Arg] = ["rank", "--run", run, "--data", window, "--user", "u3", "--group", "item", "--json"]
    done = atrank(*options, "--shown", tmp_path / "shown.csv")
    assert (done.code, done.err) == (0, "")
    found = json.loads(done.out)
    assert found == json.loads(atrank(*options, "--shown", tmp_path / "shown.parquet").out)
    assert json.loads(atrank(*options, "--shown", tmp_path / "shown.csv", "--top", 2).out) == found[:2]
    assert sorted(one["object_id"] for one in found) == sorted(shown["object_id"])

    loaded = load_run(run)
    histories = loaded.histories_of(EventLog.read(window))
    end = max(int(group.timestamps.max()) for group in histories.groups.values()) + 1
    samples = moments(histories, "item", torch.tensor([histories.user("u3")]), torch.tensor([end]))
    rows = torch.tensor([[histories.catalogs["item"].object_ids.index(item) for item in shown["object_id"]]])
    batch = build_batch(histories, samples, rows)
    words, (mean, deviation) = histories.vocabularies.words, histories.vocabularies.scales["item.price"]
    context = batch.candidates.context
    assert context is not None
    context["place"] = torch.tensor([1 + words["item.place"].index(place) for place in shown["place"]])
    prices = torch.tensor(shown["price"].to_numpy(), dtype=torch.float32)
    context["price"] = torch.stack([((prices - mean) / deviation).nan_to_num(0), prices.isnan().float()], dim=1)
    label = [1 + words["item.labels"].index(name) for name in ("l1", "l2", "l3", "l1")]
    context["labels"] = type(context["labels"])(torch.tensor(label), torch.tensor([0, 1, 1, 3, 4]))
    with torch.no_grad():
        scores = dict(zip(shown["object_id"], loaded.model(batch).scores[0].tolist(), strict=True))
    assert {one["object_id"]: one["score"] for one in found} == pytest.approx(scores, abs=1e-5)
    assert [one["score"] for one in found] == sorted((one["score"] for one in found), reverse=True)


def test_ranking_without_the_list_says_what_is_missing(run: Path, window: Path) -> None:
    done = atrank("rank", "--run", run, "--data", window, "--user", "u3", "--group", "item")
    assert done.code == 0
    assert done.err == "ranked without place, price, labels, which --shown FILE would tell\n"


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"object_id": ["i3", "nothing"]}, ["shown.csv, column object_id, row 1, value 'nothing': no object of group"]),
        ({"price": ["1", "dear"]}, ["column price, row 1, value 'dear': not a number"]),
        ({"place": None}, ["column place: the column is missing"]),
        ({"object_id": ["", "i4"]}, ["column object_id", "is missing; every row needs one"]),
    ],
)
def test_a_faulty_list_is_refused(run: Path, window: Path, tmp_path: Path, change: dict, parts: list[str]) -> None:
    table: dict[str, object] = {"object_id": ["i3", "i4"], "place": ["0", "1"], "price": ["1", "2"], "labels": ["", ""]}
    table = {name: values for name, values in (table | change).items() if values is not None}
    pd.DataFrame(table).to_csv(tmp_path / "shown.csv", index=False)
    options: list[Arg] = ["--user", "u3", "--group", "item", "--shown", tmp_path / "shown.csv"]
    refused(atrank("rank", "--run", run, "--data", window, *options), *parts)


def test_what_cannot_be_is_refused(run: Path, window: Path, data: Path, trained: Path, tmp_path: Path) -> None:
    out: list[Arg] = ["--out", tmp_path / "run"]
    refused(atrank("train", "--data", data, *out, "--negatives", "impressions"), "has no impressions; take negatives")
    for text in ("impressions:0", "impressions:x", "0", "-1", "all", "impressions:", "uniform:3"):
        refused(atrank("train", "--data", window, *out, "--negatives", text), f"--negatives {text}: write a number")
    assert not (tmp_path / "run").exists()
    options = ["--negatives", "impressions"]
    refused(atrank("evaluate", "--run", trained, "--data", data, *options), "has no impressions")
    plain = tmp_path / "plain"
    assert atrank("train", "--data", window, "--out", plain, "--epochs", 1, "--max-steps", 2).code == 0
    refused(atrank("evaluate", "--run", plain, "--data", window, *options), "was not trained to predict choices")
