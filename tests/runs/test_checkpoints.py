"""Checkpoints and weights: what is damaged is named with a way out, a full disk loses no epoch that was complete."""

from __future__ import annotations

import json
import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from atrank_lib.runs import RunError, load_run
from atrank_lib.runs.folder import Checkpoints, load_weights, save_weights
from tests.runs.small import RECIPE, Train, files, same_weights


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file may be larger, as on a disk that is nearly full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def nobody(folder: Path) -> Iterator[None]:
    """In a folder, as a user to whom permissions apply."""
    before = Path.cwd(), os.geteuid()
    os.chdir(folder)
    try:
        if os.geteuid() == 0:
            os.seteuid(65534)
        yield
    finally:
        os.seteuid(before[1])
        os.chdir(before[0])


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(
            {"empty": b"", "half": content[: len(content) // 2], "a pickle": b"\x80\x04cos\nsystem\n"}[how]
        )


@pytest.mark.parametrize("how", ["empty", "half", "a pickle", "missing"])
@pytest.mark.parametrize("name", ["optimizer.safetensors", "weights.safetensors", "state.json"])
def test_a_damaged_checkpoint(trained: Path, run: Path, train: Train, name: str, how: str) -> None:
    (run / "model.safetensors").unlink()
    file = run / "checkpoints" / "epoch-0002" / name
    damage(file, how)
    before = files(run)
    with pytest.raises(RunError) as caught:
        train(run, resume=True)
    said = str(caught.value)
    assert said.startswith(f"{file} is {'missing' if how == 'missing' else 'damaged'}")
    assert said.endswith(f"; bring it back, or remove {run}/checkpoints: then resuming begins with the first epoch")
    assert len(said.splitlines()) == 1
    assert files(run) == before
    if name == "state.json":  # the way out is the same for all
        shutil.rmtree(run / "checkpoints")
        train(run, resume=True)
        assert same_weights(run / "model.safetensors", trained / "model.safetensors")


def test_a_checkpoint_of_another_model_or_optimizer(run: Path, train: Train) -> None:
    epoch = run / "checkpoints" / "epoch-0002"
    good = (epoch / "weights.safetensors").read_bytes()
    save_file({**load_file(epoch / "weights.safetensors"), "other": torch.zeros(1)}, epoch / "weights.safetensors")
    with pytest.raises(RunError, match=r"weights\.safetensors holds other parameters .*\['other'\] differ"):
        train(run, resume=True)
    (epoch / "weights.safetensors").write_bytes(good)
    save_file({"nonsense": torch.zeros(1)}, epoch / "optimizer.safetensors")
    with pytest.raises(RunError, match=r"optimizer\.safetensors is not this optimizer's"):
        train(run, resume=True)


def test_folders_of_others_are_no_epochs(run: Path, train: Train) -> None:
    (run / "checkpoints" / "epoch-last").mkdir()
    assert Checkpoints(run).latest() == 2
    assert len(train(run, resume=True).epochs) == 2


def test_a_damaged_best_epoch(run: Path, train: Train) -> None:
    best = run / "checkpoints" / f"epoch-{json.loads((run / 'metrics.json').read_text())['best_epoch']:04d}"
    damage(best / "weights.safetensors", "half")
    with pytest.raises(RunError, match=rf"{best.name}/weights\.safetensors is damaged"):
        train(run, resume=True)


@pytest.mark.parametrize(
    ("name", "how", "message"),
    [
        ("model.safetensors", "empty", "model.safetensors is damaged .*; `atrank train --resume` writes it again"),
        ("model.safetensors", "half", "model.safetensors is damaged .*; `atrank train --resume` writes it again"),
        ("model.safetensors", "a pickle", "model.safetensors is damaged"),
        ("model.safetensors", "missing", "model.safetensors is missing; training did not finish: resume it"),
        ("vocabularies.json", "empty", "vocabularies.json is damaged"),
        ("vocabularies.json", "half", "vocabularies.json is damaged"),
        ("vocabularies.json", "a pickle", "vocabularies.json is damaged"),
        ("vocabularies.json", "missing", "vocabularies.json is missing; training did not finish: resume it"),
    ],
)
def test_a_damaged_run(trained: Path, run: Path, train: Train, name: str, how: str, message: str) -> None:
    damage(run / name, how)
    with pytest.raises(RunError, match=message) as caught:
        load_run(run)
    assert len(str(caught.value).splitlines()) == 1
    train(run, resume=True)  # which the message tells to do
    assert files(run)[name] == files(trained)[name]


def test_files_that_do_not_fit_each_other(run: Path) -> None:
    for text in (
        '{"words": {}, "scales": {"item.price": [1]}, "users": []}',
        '{"words": [], "scales": {}, "users": []}',
        "[]",
    ):
        (run / "vocabularies.json").write_text(text)
        with pytest.raises(RunError, match=r"vocabularies\.json is damaged"):
            load_run(run)
    (run / "vocabularies.json").write_text('{"words": {}, "scales": {}, "users": []}')
    with pytest.raises(RunError, match="no model can be built"):
        load_run(run)


def test_weights_of_another_shape(tmp_path: Path) -> None:
    save_weights(nn.Linear(3, 4), tmp_path / "w.safetensors")
    load_weights(nn.Linear(3, 4), tmp_path / "w.safetensors")
    with pytest.raises(RunError, match=r"holds other parameters than the model .*\['weight'\] differ"):
        load_weights(nn.Linear(5, 4), tmp_path / "w.safetensors")


def test_a_file_that_may_not_be_read_is_not_called_missing(tmp_path: Path) -> None:
    save_weights(nn.Linear(3, 4), tmp_path / "w.safetensors")
    (tmp_path / "w.safetensors").chmod(0)
    tmp_path.chmod(0o755)
    with nobody(tmp_path), pytest.raises(PermissionError):
        load_weights(nn.Linear(3, 4), Path("w.safetensors"))


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_files_have_the_permissions_that_the_umask_gives(train: Train, tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        train(tmp_path / "run", recipe=RECIPE.model_copy(update={"epochs": 1}))
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert modes == {0o666 & ~mask}


def test_a_full_disk_loses_no_complete_epoch(trained: Path, train: Train, tmp_path: Path) -> None:
    run, one = tmp_path / "run", RECIPE.model_copy(update={"epochs": 1})
    epoch = trained / "checkpoints" / "epoch-0002"
    size = (epoch / "weights.safetensors").stat().st_size + 100  # the optimizer's state has twice as much
    said = r"checkpoints/epoch-000%d/optimizer\.safetensors: the file is larger than is allowed here; .*"
    with largest_file(size), pytest.raises(OSError, match=said % 1):
        train(run)
    assert not run.exists()
    train(run, recipe=one)
    before = files(run)
    with largest_file(size), pytest.raises(RunError, match=said % 2 + "; epoch 1 is complete: .* with --resume"):
        train(run, resume=True)
    after = files(run)
    assert after.pop("config.json") != before.pop("config.json")  # it now asks for two epochs,
    metrics = [json.loads(found.pop("metrics.json")) for found in (before, after)]
    assert [found.pop("finished") for found in metrics] == [True, False]  # and is not done
    assert metrics[0] == metrics[1]
    assert after == before
    train(run, resume=True)
    assert same_weights(run / "model.safetensors", trained / "model.safetensors")


def test_a_disk_that_was_full_from_the_start(trained: Path, train: Train, tmp_path: Path) -> None:
    for size in (0, 100):
        with largest_file(size), pytest.raises(OSError, match=r"config\.json: the file is larger than is allowed here"):
            train(tmp_path / "run")
        assert not (tmp_path / "run").exists()
    train(tmp_path / "run")
    assert same_weights(tmp_path / "run" / "model.safetensors", trained / "model.safetensors")
