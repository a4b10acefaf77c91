"""What training leaves on disk: per-epoch checkpoints that survive a kill, and weights."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from atrank_lib.log.writing import write_text, writing_file, writing_folder
from atrank_lib.multitask import TaskWeights
from atrank_lib.runs.folder import RunError


class FitResult(BaseModel):
    """What training did: one entry per epoch, as written to ``metrics.json``.

    >>> FitResult(epochs=[{"epoch": 1, "loss": 0.6}], best_epoch=1, steps=40).model_dump_json()
    '{"epochs":[{"epoch":1,"loss":0.6}],"best_epoch":1,"steps":40,"finished":false}'
    """

    epochs: list[dict[str, Any]] = []
    best_epoch: int = 0  # counted from 1; the last epoch when there is no validation set
    steps: int = 0
    finished: bool = False  # all epochs done, or patience used up; not when max_steps cut training short


class Checkpoints:
    """Per-epoch checkpoints of one run folder: safetensors and JSON, each epoch complete or absent.

    Weights of every epoch are kept; what resuming needs besides (the optimizer's state, learned weights of tasks and,
    where the kept weights are averages, the ones in training) only for the latest.
    """

    RESUMING = ("optimizer.safetensors", "training.safetensors", "tasks.safetensors")

    def __init__(self, run: Path) -> None:
        self.folder, self.metrics = run / "checkpoints", run / "metrics.json"

    def path(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch:04d}"

    def latest(self) -> int:
        """The last complete epoch on disk; 0 when there is none."""
        numbers = [path.name.removeprefix("epoch-") for path in self.folder.glob("epoch-*")]
        return max((int(number) for number in numbers if number.isdecimal()), default=0)

    def save(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        result: FitResult,
        weights: TaskWeights,
        average: AveragedModel | None = None,
    ) -> None:
        epoch = len(result.epochs)
        for left in self.folder.glob(f".{self.path(epoch).name}.*"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        with writing_folder(self.path(epoch)) as beside:
            save_weights(model if average is None else average.module, beside / "weights.safetensors")
            if average is not None:
                save_weights(model, beside / "training.safetensors")
            if len(weights.learned):
                save_weights(weights, beside / "tasks.safetensors")
            save_tensors(_flatten(optimizer), beside / "optimizer.safetensors")
            (beside / "state.json").write_text(result.model_dump_json(indent=1))
            _flush(beside)
        for name in self.RESUMING:
            (self.path(epoch - 1) / name).unlink(missing_ok=True)

    def load(
        self,
        epoch: int,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        weights: TaskWeights,
        average: AveragedModel | None = None,
    ) -> FitResult:
        """Go back to where an epoch ended.

        Raises:
            RunError: a file of the epoch is missing or damaged; it is named, with the way out.
            OSError: a file may not be read.
        """
        folder = self.path(epoch)
        with self._complete():
            load_weights(model if average is None else average.module, folder / "weights.safetensors")
            if average is not None:
                load_weights(model, folder / "training.safetensors")
            if len(weights.learned):
                load_weights(weights, folder / "tasks.safetensors")
            _load_optimizer(optimizer, folder / "optimizer.safetensors")
            result = read_result(folder / "state.json")
        if average is not None:
            average.n_averaged.fill_(result.steps)
        return result

    def weights(self, epoch: int) -> dict[str, Tensor]:
        """The weights at the end of an epoch, by name.

        Raises:
            RunError, OSError: as ``load``.
        """
        with self._complete():
            return read_tensors(self.path(epoch) / "weights.safetensors")

    @contextmanager
    def _complete(self) -> Iterator[None]:
        """The epochs before cannot be resumed from, so what is missing in one means to begin again."""
        try:
            yield
        except FileNotFoundError as error:
            said = f"{error.filename} is missing"
        except RunError as error:
            said = str(error)
        else:
            return
        raise RunError(f"{said}; bring it back, or remove {self.folder}: then resuming begins with the first epoch")

    def write_metrics(self, result: FitResult) -> None:
        self.metrics.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.metrics, result.model_dump_json(indent=1) + "\n")


def _flatten(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Optimizer state as named tensors: ``<parameter number>.<name>``."""
    return {
        f"{number}.{name}": value.contiguous()
        for number, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
        if isinstance(value, Tensor)
    }


def _load_optimizer(optimizer: torch.optim.Optimizer, path: Path) -> None:
    content, per_parameter = read_tensors(path), dict[int, dict[str, Tensor]]()
    try:
        for name, value in content.items():
            number, part = name.split(".", 1)
            per_parameter.setdefault(int(number), {})[part] = value
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": per_parameter, "param_groups": groups})
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
    """Read what ``save_weights`` wrote.

    Raises:
        RunError: the file is damaged, or its parameters are not the model's.
        OSError: it is not there, or may not be read.
    """
    found = read_tensors(path)
    wanted = {name: value.shape for name, value in model.named_parameters()}
    different = [name for name in {**found, **wanted} if name not in found or found[name].shape != wanted.get(name)]
    if different:
        raise RunError(f"{path} holds other parameters than the model of config.json: {sorted(different)[:5]} differ")
    model.load_state_dict(found, strict=False)  # shared parameters have further names


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, by name.

    Raises:
        RunError: the file is damaged.
        OSError: it is not there, or may not be read.
    """
    path.open("rb").close()  # safetensors says of a file that may not be read that it is not there
    try:
        return load_file(path)
    except SafetensorError as error:
        raise RunError(f"{path} is damaged ({error})") from None


def read_result(path: Path) -> FitResult:
    """Read ``state.json`` or ``metrics.json``.

    Raises:
        RunError: the file is damaged.
        OSError: it is not there, or may not be read.
    """
    try:
        return FitResult.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise RunError(f"{path} is damaged ({error.errors(include_url=False)[0]['msg']})") from None


def _flush(folder: Path) -> None:
    """Wait until the files are on the disk itself: what is removed for them could not be brought back."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
