"""A run's folder, locked while it is trained in, and what that leaves: checkpoints that survive a kill, and weights."""

import errno
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from atrank_lib.log.writing import explain, write_text, writing_file, writing_folder
from atrank_lib.training import FitResult, Training

LOCK = ".lock"
MADE = ("config.json", "vocabularies.json", "metrics.json", "model.safetensors", "checkpoints")
# as log.writing names them
_UNFINISHED = re.compile(r"\.(" + "|".join([*map(re.escape, MADE), r"epoch-\d+"]) + r")\.[0-9a-f]{12}")


class RunError(ValueError):
    """A run folder cannot be used as asked."""


@contextmanager
def opened(out: Path, resume: bool) -> Iterator[bool]:
    """A run's folder for one process alone; yields whether there is nothing in it yet, and leaves it so on failure. An
    epoch that is complete stays, whatever happens after it."""
    with locked(out):
        there = [*out.iterdir(), *out.glob("checkpoints/*")]
        _remove(path for path in there if _UNFINISHED.fullmatch(path.name))  # of a process that was killed
        fresh = all(path.name == LOCK for path in out.iterdir())
        if not fresh and not resume:
            raise RunError(f"{out} is not empty; choose another folder, or resume the run in it")
        try:
            yield fresh
        except Exception as error:
            complete = Checkpoints(out).latest()
            if fresh and not complete:
                _remove(out / name for name in MADE)
            if complete and isinstance(error, OSError):
                way_out = f"epoch {complete} is complete: go on from there with --resume"
                raise RunError(f"{explain(error)}; {way_out}") from error
            raise


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make a folder, and keep all others from training in it, until the block ends or this process does.

    The lock is the operating system's: no lock outlives its process. Folders that were made here and are empty at the
    end are removed, so a start that fails leaves no trace. RunError where another process trains in the folder, OSError
    where the folder cannot be made or written to.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    lock = FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(blocking=False)
        except (Timeout, FileNotFoundError):  # not found: the other one has just failed, and removed the folder
            remedy = "wait for it, and then resume the run, or choose another folder"
            raise RunError(f"another process trains in {folder}; {remedy}") from None
        try:
            yield
        finally:
            with suppress(OSError):  # Windows removes no file that is open
                (folder / LOCK).unlink()
            lock.release()
    finally:
        with suppress(OSError):
            for path in made:
                path.rmdir()  # as long as they are empty


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


class Checkpoints:
    """Per-epoch checkpoints of one run folder: safetensors and JSON, each epoch complete or absent. Weights of every
    epoch are kept; what resuming needs besides (the optimizer's state, what the steps learn and, where the kept weights
    are averages, the ones in training) only for the latest."""

    def __init__(self, run: Path) -> None:
        self.folder, self.metrics = run / "checkpoints", run / "metrics.json"

    def path(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch:04d}"

    def latest(self) -> int:
        """The last complete epoch on disk; 0 when there is none."""
        numbers = [path.name.removeprefix("epoch-") for path in self.folder.glob("epoch-*")]
        return max((int(number) for number in numbers if number.isdecimal()), default=0)

    def save(self, training: Training) -> None:
        """Keep the epoch that has just ended."""
        steps, epoch = training.steps, len(training.result.epochs)
        with writing_folder(self.path(epoch)) as beside:
            for name, module in {"weights": steps.averaged, **steps.kept()}.items():
                save_weights(module, beside / f"{name}.safetensors")
            save_tensors(_flatten(steps.optimizer), beside / "optimizer.safetensors")
            (beside / "state.json").write_text(training.result.model_dump_json(indent=1))
            for path in beside.iterdir():  # on the disk itself: what is removed for them could not be brought back
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        for path in self.path(epoch - 1).glob("*.safetensors"):
            if path.name != "weights.safetensors":
                path.unlink()

    def restore(self, training: Training) -> None:
        """Go back to the last epoch on disk; a finished run goes on when it is given more epochs. ``RunError`` names a
        file of the epoch that is missing or damaged, and the way out."""
        steps, folder = training.steps, self.path(self.latest())
        state = folder / "state.json"
        try:
            for name, module in {"weights": steps.averaged, **steps.kept()}.items():
                load_weights(module, folder / f"{name}.safetensors")
            _load_optimizer(steps.optimizer, folder / "optimizer.safetensors")
            training.result = FitResult.model_validate_json(state.read_bytes())
            training.result.judge(training.recipe)
            training.best = read_tensors(self.path(training.result.best_epoch) / "weights.safetensors")
            if steps.average is not None:
                steps.average.n_averaged.fill_(training.result.steps)
            return
        except FileNotFoundError as error:
            said = f"{error.filename} is missing"
        except ValidationError as error:
            said = f"{state} is damaged ({error.errors(include_url=False)[0]['msg']})"
        except RunError as error:
            said = str(error)
        # no epoch before this one can be resumed from
        raise RunError(f"{said}; bring it back, or remove {self.folder}: then resuming begins with the first epoch")

    def write_metrics(self, result: FitResult) -> None:
        write_text(self.metrics, result.model_dump_json(indent=1) + "\n")


def _flatten(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Optimizer state as named tensors: ``<parameter number>.<name>``."""
    states = optimizer.state_dict()["state"].items()
    parts = ((f"{number}.{name}", value) for number, state in states for name, value in state.items())
    return {name: value.contiguous() for name, value in parts if isinstance(value, Tensor)}


def _load_optimizer(optimizer: torch.optim.Optimizer, path: Path) -> None:
    content, per_parameter = read_tensors(path), dict[int, dict[str, Tensor]]()
    try:
        for name, value in content.items():
            number, part = name.split(".", 1)
            per_parameter.setdefault(int(number), {})[part] = value
        optimizer.load_state_dict(optimizer.state_dict() | {"state": per_parameter})
    except (ValueError, KeyError) as error:
        raise RunError(f"{path} is not this optimizer's ({error})") from None


def save_weights(model: nn.Module, path: Path) -> None:
    """Write every parameter once, under its first name: equal weights are equal bytes."""
    save_tensors({name: value.detach().contiguous() for name, value in model.named_parameters()}, path)


def save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Write a file of safetensors, complete or not at all. Raises OSError as ``writing_file``."""
    with writing_file(path) as beside:
        try:
            save_file(tensors, beside)
        except SafetensorError as error:  # how safetensors says that the disk is full
            code = re.search(r"os error (\d+)", str(error))
            raise OSError(int(code[1]) if code else errno.EIO, str(error)) from error


def load_weights(model: nn.Module, path: Path) -> None:
    """Read what ``save_weights`` wrote; ``RunError`` if that is damaged, or not this model's."""
    wanted = {name: value.shape for name, value in model.named_parameters()}
    found = _renamed(read_tensors(path), set(wanted))
    different = [name for name in {**found, **wanted} if name not in found or found[name].shape != wanted.get(name)]
    if different:
        raise RunError(f"{path} holds other parameters than the model of config.json: {sorted(different)[:5]} differ")
    model.load_state_dict(found, strict=False)  # shared parameters have further names


def _renamed(weights: dict[str, Tensor], wanted: set[str]) -> dict[str, Tensor]:
    """Weights under the names of today: parts of ``f`` stood beside it before 0.2, and are inside of it now."""
    moved = {old: [new for new in wanted if new.endswith("." + old)] for old in weights.keys() - wanted}
    return {moved[name][0] if len(moved.get(name, [])) == 1 else name: value for name, value in weights.items()}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, by name; ``RunError`` if it is damaged, ``OSError`` if it cannot be read."""
    path.open("rb").close()  # safetensors says of a file that may not be read that it is not there
    try:
        return load_file(path)
    except SafetensorError as error:
        raise RunError(f"{path} is damaged ({error})") from None
