"""A run's folder: one process trains in it; a start that fails leaves no trace, and one that was cut goes on."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from atrank_lib.log.events import EventLog
from atrank_lib.model import ATRankConfig
from atrank_lib.runs import RunError, load_run
from atrank_lib.runs.folder import locked
from tests.runs.small import RECIPE, Train, files, same_weights


@contextmanager
def another_process_trains_in(folder: Path) -> Iterator[subprocess.Popen[str]]:
    code = (
        "import sys, filelock; it = filelock.FileLock(sys.argv[1]); it.acquire(); print('locked', flush=True); input()"
    )
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", code, str(folder / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_folder_in_which_another_process_trains(run: Path, train: Train) -> None:
    before = files(run)
    with another_process_trains_in(run):
        for resume in (False, True):
            with pytest.raises(RunError, match=r"another process trains in .*run; wait for it"):
                train(run, resume=resume)
        after = files(run)
        assert after.pop(".lock") == b""
        assert after == before


def test_no_lock_outlives_its_process(trained: Path, train: Train, tmp_path: Path) -> None:
    with another_process_trains_in(tmp_path / "run") as process:
        process.kill()  # no chance to clean up
        process.wait()
        assert (tmp_path / "run" / ".lock").exists()
        train(tmp_path / "run")
    assert same_weights(tmp_path / "run" / "model.safetensors", trained / "model.safetensors")
    assert not (tmp_path / "run" / ".lock").exists()


def test_of_two_that_start_at_once_one_trains(train: Train, tmp_path: Path) -> None:
    """Each with its own seed: the model is the one that config.json describes."""
    barrier = threading.Barrier(2)

    def start(seed: int) -> str:
        barrier.wait()
        try:
            train(tmp_path / "run", seed=seed)
        except RunError as error:
            return str(error)
        return "trained"

    with ThreadPoolExecutor(2) as pool:
        ends = list(pool.map(start, (1, 2)))
    assert ends.count("trained") == 1, ends
    (refused,) = set(ends) - {"trained"}
    assert "another process trains in" in refused or "is not empty" in refused
    seed = load_run(tmp_path / "run").config.seed
    assert seed == 1 + ends.index("trained")
    train(tmp_path / "alone", seed=seed)
    assert same_weights(tmp_path / "run" / "model.safetensors", tmp_path / "alone" / "model.safetensors")


def test_a_lock_leaves_folders_as_they_were(tmp_path: Path) -> None:
    with locked(tmp_path / "a" / "b"):
        assert [p.name for p in (tmp_path / "a" / "b").iterdir()] == [".lock"]
    assert not list(tmp_path.iterdir())
    with locked(tmp_path / "a" / "b"):
        (tmp_path / "a" / "note").write_text("mine")
    assert files(tmp_path) == {"a/note": b"mine"}
    with pytest.raises(FileExistsError), locked(tmp_path / "a" / "note"):
        pass
    assert files(tmp_path) == {"a/note": b"mine"}


def test_refuses_a_folder_that_is_not_empty(run: Path, train: Train) -> None:
    before = files(run)
    with pytest.raises(RunError, match="run is not empty; choose another folder, or resume the run in it"):
        train(run)
    assert files(run) == before


def test_resume_begins_where_there_is_nothing_yet(trained: Path, train: Train, tmp_path: Path) -> None:
    train(tmp_path / "new", resume=True)
    assert same_weights(trained / "model.safetensors", tmp_path / "new" / "model.safetensors")


def test_resume_in_a_folder_of_something_else(train: Train, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match=r"holds no run \(config.json is missing\)"):
        train(tmp_path, resume=True)
    assert set(files(tmp_path)) == {"notes.txt"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "atrnak"}, r"model 'atrnak'; use one of \['atrank', 'bi-lstm'"),
        ({"targets": ["shop"]}, r"targets: \['shop'\]; the log's groups are \['item', 'query', 'coupon'\]"),
        ({"targets": []}, "targets: nothing given"),
        ({"histories": ["shop"]}, r"history groups: \['shop'\]"),
        ({"histories": []}, "history groups: nothing given"),
        ({"options": {"hiden": 16}}, "options.hiden: Extra inputs are not permitted$"),
        ({"options": ATRankConfig(hidden=10, spaces=4)}, "hidden=10 cannot be divided into spaces=4"),
        ({"recipe": RECIPE.model_copy(update={"optimizer": "sgd", "learning_rate": 1e30})}, "loss nan|loss inf|NaN"),
    ],
)
@pytest.mark.parametrize("existed", [False, True])
def test_a_failed_run_leaves_nothing(
    train: Train, tmp_path: Path, changes: dict[str, Any], message: str, existed: bool
) -> None:
    out = tmp_path / "folder" / "run"
    if existed:
        out.mkdir(parents=True)
    recipe = changes.get("recipe", RECIPE).model_copy(update={"gradient_clip": None, "batch_size": 4})
    with pytest.raises((ValueError, FloatingPointError), match=message):
        train(out, **{**changes, "recipe": recipe})
    assert out.exists() == out.parent.exists() == existed
    assert not existed or not any(out.iterdir())


def test_a_failed_run_removes_nothing_that_it_did_not_make(log: EventLog, train: Train, tmp_path: Path) -> None:
    class Note(EventLog):
        """A log that is read while somebody puts a file into the run's folder."""

        def fingerprint(self) -> str:
            (tmp_path / "run" / "notes.txt").write_text("mine")
            return super().fingerprint()

    with pytest.raises(ValueError, match="cannot be divided"):
        train(tmp_path / "run", Note(log.schema, log.events, log.objects), options=ATRankConfig(hidden=10, spaces=4))
    assert files(tmp_path) == {"run/notes.txt": b"mine"}


def test_a_run_that_is_cut_at_any_moment_goes_on(
    trained: Path, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the process were killed before, and after, each file or folder takes its place."""
    cuts: list[Path] = []

    def cutting(move: Any) -> Any:
        def moved(self: Path, target: Path) -> Path:
            if not self.parent.name.startswith("."):  # a folder that is beside its place as a whole
                cut()
            found = move(self, target)
            if target.is_dir():  # before the files of the last epoch go
                cut()
            return found

        def cut() -> None:
            cuts.append(shutil.copytree(tmp_path / "run", tmp_path / f"cut {len(cuts)}"))

        return moved

    with monkeypatch.context() as patch:
        for name in ("replace", "rename"):
            patch.setattr(Path, name, cutting(getattr(Path, name)))
        train(tmp_path / "run")
    assert len({tuple(files(cut)) for cut in cuts}) >= 8
    for cut in cuts:
        train(cut, resume=True)
        assert same_weights(cut / "model.safetensors", trained / "model.safetensors"), cut
        kept = json.loads((cut / "metrics.json").read_text())
        assert (len(kept["epochs"]), kept["finished"]) == (2, True), cut
        assert files(cut).keys() - {"checkpoints/epoch-0001/optimizer.safetensors"} == files(trained).keys(), cut
