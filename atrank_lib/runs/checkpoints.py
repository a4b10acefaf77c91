"""What training leaves on disk: per-epoch checkpoints that survive a kill, and weights."""

from __future__ import annotations

import errno
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from atrank_lib.log.writing import write_text, writing_file, writing_folder
from atrank_lib.multitask import TaskWeights


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
        return max((int(p.name.removeprefix("epoch-")) for p in self.folder.glob("epoch-????")), default=0)

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
        load_weights(model if average is None else average.module, self.path(epoch) / "weights.safetensors")
        if average is not None:
            load_weights(model, self.path(epoch) / "training.safetensors")
        if len(weights.learned):
            load_weights(weights, self.path(epoch) / "tasks.safetensors")
        state = load_file(self.path(epoch) / "optimizer.safetensors")
        per_parameter: dict[int, dict[str, Tensor]] = {}
        for name, value in state.items():
            number, part = name.split(".", 1)
            per_parameter.setdefault(int(number), {})[part] = value
        optimizer.load_state_dict({"state": per_parameter, "param_groups": optimizer.state_dict()["param_groups"]})
        result = FitResult.model_validate_json((self.path(epoch) / "state.json").read_text())
        if average is not None:
            average.n_averaged.fill_(result.steps)
        return result

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
        ValueError: the file's parameters are not the model's.
    """
    weights, wanted = load_file(path), {name for name, _ in model.named_parameters()}
    if weights.keys() != wanted:
        raise ValueError(f"{path} holds other parameters than the model: {sorted(weights.keys() ^ wanted)[:5]} differ")
    model.load_state_dict(weights, strict=False)  # shared parameters have further names
