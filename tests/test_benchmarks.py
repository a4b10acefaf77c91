"""The benchmark's own parts: the plain model is ATRank, FLOPs are counted right, and the table is made."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
import typer.testing
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from atrank_lib import ATRank
from atrank_lib.log.schema import key
from atrank_lib.runs import MODELS
from atrank_lib.samples import build_batch
from atrank_lib.variants import ATRankOptions, build
from benchmarks import bench, ceiling, ours, plain
from benchmarks.work import DAY, Setting, Work, padded, synthetic
from tests.random_logs import random_log


def twins(work: Work) -> tuple[plain.PlainATRank, ATRank, torch.Tensor]:
    """The plain model, ATRank with the same parameters, and ATRank's scores of all samples."""
    histories, samples = ours.histories_of(work)
    torch.manual_seed(1)
    model = build(histories.schema, histories.vocabularies, ATRankOptions(attention="dot"))
    copy = plain.PlainATRank(len(work.category), int(work.category.max()) + 1)
    state = model.state_dict()
    # ATRank numbers items and categories in the order of their names
    for feature, table in (("object_id", copy.item), ("category_id", copy.category)):
        vocabulary = histories.schema.vocabulary("item", feature)
        source = state[f"tables.{key(vocabulary)}.weight"]
        with torch.no_grad():
            for number, word in enumerate(histories.vocabularies.words[vocabulary], 1):
                table.weight[int(word)] = source[number]
    embedding = "embeddings.[item]."
    renamed = {
        "action.weight": state[embedding + "actions.weight"],
        "time.weight": state[embedding + "time.table.weight"],
        "norm.weight": state["blocks.0.norm.weight"],
        "norm.bias": state["blocks.0.norm.bias"],
    }
    for part in ("weight", "bias"):
        renamed[f"project.{part}"] = state[f"projection.maps.[item].0.{part}"]
        for own, theirs in (("self_attention", "blocks.0"), ("target_attention", "target")):
            renamed[f"{own}.query.{part}"] = state[f"{theirs}.attention.queries.map.0.{part}"]
            renamed[f"{own}.key.{part}"] = state[f"{theirs}.attention.keys.0.{part}"]
            renamed[f"{own}.value.{part}"] = state[f"{theirs}.attention.values.0.{part}"]
            for layer in (0, 2):
                renamed[f"{own}.feed_forward.{layer}.{part}"] = state[f"{theirs}.feed_forward.{layer}.{part}"]
    missing = copy.load_state_dict(renamed, strict=False).missing_keys
    assert set(missing) == {"item.weight", "category.weight"}
    rows = {word: row for row, word in enumerate(histories.catalogs["item"].object_ids)}
    targets = np.stack([work.positives, work.negatives], axis=1)
    order = [int(user) for user in histories.user_ids]  # users are sorted as text
    candidates = torch.tensor([[rows[str(item)] for item in targets[user]] for user in order])
    scores = model(build_batch(histories, samples, candidates)).scores
    return copy, model, torch.empty_like(scores).index_copy(0, torch.tensor(order), scores)


@pytest.mark.parametrize("ragged", [True, False])
def test_the_plain_model_is_atrank(ragged):
    work = synthetic(9, ragged, 40, items=60, categories=7)
    copy, model, expected = twins(work)
    found = torch.empty_like(expected)
    generator = torch.Generator().manual_seed(3)
    order = torch.randperm(40, generator=generator).split(16)
    generator.manual_seed(3)
    for index, batch in zip(order, plain.batches(work, 16, generator), strict=True):
        found[index] = copy(batch)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert found.std() > 0.01
    assert sum(p.numel() for p in copy.parameters()) == sum(p.numel() for p in model.parameters())


@pytest.mark.filterwarnings("ignore:TF32")  # torch warns whenever oneDNN is switched off
@pytest.mark.parametrize("name", ceiling.FLOPS)
def test_operations_are_counted_as_torch_counts_them(name):
    histories, samples = ours.histories_of(synthetic(10, True, 6, items=50, categories=5))
    model = MODELS[name].build(histories.schema, histories.vocabularies)
    expected = 0
    for sample in range(6):  # one by one, for nothing is padded
        batch = build_batch(histories, samples[sample : sample + 1], torch.zeros(1, 3, dtype=torch.long))
        counter = FlopCounterMode(display=False)
        # fused attention and oneDNN's LSTM are not taken apart, so they would not be counted
        with counter, sdpa_kernel(SDPBackend.MATH), torch.backends.mkldnn.flags(enabled=False):
            model(batch)
        expected += counter.get_total_flops()
    lengths = samples.ends[:, 0] - histories.groups["item"].offsets[samples.users]
    assert ceiling.FLOPS[name](lengths.numpy(), 3).sum() == expected


def test_padded_histories_are_the_latest_behaviors_of_each_sample():
    work = synthetic(5, True, 30, items=50, categories=4)
    at, real = padded(work, np.array([3, 0]), 6)
    for row, sample in enumerate((3, 0)):
        assert work.items[at[row][real[row]]].tolist() == work.items[work.starts[sample] : work.ends[sample]].tolist()
    assert at.shape == real.shape == (2, 6)
    assert (work.moments[3] - work.times[at[0][real[0]]] >= DAY).all()


def test_work_survives_a_file(tmp_path):
    work = synthetic(5, True, 30, items=50, categories=4)
    work.save(tmp_path / "work.npz")
    read = Setting("x", batch=4, length=5, file=str(tmp_path / "work.npz")).work()
    np.testing.assert_array_equal(read.items, work.items)
    assert len(read) == 30


@pytest.fixture
def short(monkeypatch):
    """The command with small generated samples, short measurements, and no wait for the machine's ceiling."""
    monkeypatch.setattr(bench, "SHAPES", [(4, 3, "full"), (4, 3, "ragged")])
    monkeypatch.setattr(bench, "SETTINGS", ["4-3-full", "4-3-ragged"])
    monkeypatch.setattr(ceiling, "SECONDS", 1e-4)
    monkeypatch.setattr(ceiling, "BYTES", 1 << 16)
    app = typer.Typer()
    app.command()(bench.main)
    runner = typer.testing.CliRunner()

    def run(*arguments):
        return runner.invoke(app, [str(a) for a in ("--threads", 1, "--repeats", 2, "--seconds", 0.01, *arguments)])

    return run


def test_contenders_take_turns_and_settings_add_up_in_the_record(short, tmp_path):
    out = tmp_path / "speed.json"
    done = short("--out", out, "--only", "4-3-ragged", "--contenders", "plain,rows")
    assert done.exit_code == 0, done.output
    assert "samples per second" in done.output
    record = json.loads(out.read_text())
    assert [row["contender"] for row in record["rows"]] == ["plain", "rows"]
    for row in record["rows"]:
        assert row["low"] <= row["samples_per_second"] <= row["high"]
        assert row["repeats"] == 2
        assert row["samples"] >= 8
        assert 50 < row["peak_mb"] < 5_000
        # at most three behaviors: the mean of 1, 2 and 3
        assert row["training_mflop"] == pytest.approx(3 * ceiling.atrank(np.arange(1, 4)).mean() / 1e6, rel=0.05)
    assert out.with_suffix(".svg").stat().st_size > 5_000
    other = {**record, "rows": [{**record["rows"][0], "setting": "4-3-full"}]}
    rows = bench.merged(record, other, out)["rows"]
    assert [(r["setting"], r["contender"]) for r in rows] == [
        ("4-3-full", "plain"),
        ("4-3-ragged", "plain"),
        ("4-3-ragged", "rows"),
    ]
    assert bench.merged(record, record, out) == record
    out.write_text(json.dumps({**record, "hardware": "another machine"}))
    with pytest.raises(ValueError, match="recorded with hardware 'another machine'"):
        raise short("--out", out, "--only", "4-3-full", "--contenders", "plain").exception


def test_what_cannot_be_measured_is_said(short, tmp_path):
    out = tmp_path / "speed.json"
    assert "contender 'atrnk'" in short("--out", out, "--contenders", "atrnk").output
    done = short("--out", out, "--contenders", "rechub-din")
    assert "--peers-python" in done.output
    assert "nothing is left to measure" in done.output
    assert not out.exists()


def test_a_contender_that_dies_is_named_and_the_others_go_on(short, tmp_path):
    out = tmp_path / "speed.json"
    # this environment does not have the other libraries
    arguments = ("--only", "4-3-full,epoch", "--contenders", "plain,rechub-din", "--peers-python", sys.executable)
    done = short("--out", out, *arguments)
    assert done.exit_code == 1
    assert "left out, for it needs --data: the real epoch" in done.output
    assert "rechub-din ended with status 1" in done.output
    assert "No module named 'torch_rechub'" in done.output
    assert [row["contender"] for row in json.loads(out.read_text())["rows"]] == ["plain"]


def test_a_log_becomes_the_same_samples_for_everybody(tmp_path):
    work = synthetic(6, True, 50, items=40, categories=5)
    histories, samples = ours.histories_of(work)
    found = ours.work_of(histories, samples, 4)
    assert (
        found.lengths.tolist()
        == (samples.ends[:, 0] - histories.groups["item"].offsets[samples.users]).clamp(max=4).tolist()
    )
    user = [int(u) for u in histories.user_ids]
    names = histories.vocabularies.words[histories.schema.vocabulary("item", "object_id")]
    for row, sample in enumerate(user):
        expected = work.items[work.starts[sample] : work.ends[sample]][-4:]
        assert [int(names[i - 1]) for i in found.items[found.starts[row] : found.ends[row]]] == expected.tolist()
        assert int(names[found.positives[row] - 1]) == work.positives[sample]
        assert found.moments[row] == work.moments[sample]
    assert found.category[0] == 0


def test_the_benchmark_of_a_gpu_runs_on_a_processor(tmp_path):
    """Every part of it, but for the cells that no time is left for."""
    random_log(3, users=30).write(tmp_path / "log")
    given = ["--device", "cpu", "--small", "--minutes", "0.001", "--data", str(tmp_path / "log")]
    command = [sys.executable, "-m", "benchmarks.gpu", "--out", str(tmp_path / "gpu.json"), *given]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    record = json.loads((tmp_path / "gpu.json").read_text())
    assert max(row["difference"] for row in record["agreement"]) < 1e-5  # it is the same device
    assert 0 <= record["epochs"][0]["validation_auc"] <= 1
    assert all(0 < row["forwards"] + row["backwards"] + row["move"] < 1 for row in record["step"])
    assert record["peak"]["tflops_float32"] > 0
    assert record["rows"] == []
    assert {row["why"] for row in record["left_out"]} == {"no time was left"}
