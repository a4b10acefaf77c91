"""What training leaves on disk: per-epoch checkpoints that survive a kill, weights, and texts that are never half."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from atrank_lib.training import FitResult, Training


class Checkpoints:
    """Per-epoch checkpoints of one run folder: safetensors and JSON, each epoch written beside, then renamed.

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

    def save(self, training: Training) -> None:
        """Keep the epoch that has just ended."""
        steps, epoch = training.steps, len(training.result.epochs)
        beside = self.folder / f"unfinished-{epoch:04d}"
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        save_weights(steps.averaged, beside / "weights.safetensors")
        for name, module in steps.kept().items():
            save_weights(module, beside / f"{name}.safetensors")
        save_file(_flatten(steps.optimizer), beside / "optimizer.safetensors")
        (beside / "state.json").write_text(training.result.model_dump_json(indent=1))
        beside.rename(self.path(epoch))
        for name in self.RESUMING:
            (self.path(epoch - 1) / name).unlink(missing_ok=True)

    def restore(self, training: Training) -> None:
        """Go back to the last epoch on disk; a finished run goes on when it is given more epochs."""
        steps, folder = training.steps, self.path(self.latest())
        load_weights(steps.averaged, folder / "weights.safetensors")
        for name, module in steps.kept().items():
            load_weights(module, folder / f"{name}.safetensors")
        per_parameter: dict[int, dict[str, Tensor]] = {}
        for name, value in load_file(folder / "optimizer.safetensors").items():
            number, part = name.split(".", 1)
            per_parameter.setdefault(int(number), {})[part] = value
        groups = steps.optimizer.state_dict()["param_groups"]
        steps.optimizer.load_state_dict({"state": per_parameter, "param_groups": groups})
        training.result = FitResult.model_validate_json((folder / "state.json").read_text())
        training.result.judge(training.recipe)
        training.best = load_file(self.path(training.result.best_epoch) / "weights.safetensors")
        if steps.average is not None:
            steps.average.n_averaged.fill_(training.result.steps)

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
    save_file({name: value.detach().contiguous() for name, value in model.named_parameters()}, path)


def load_weights(model: nn.Module, path: Path) -> None:
    """Read what ``save_weights`` wrote.

    Raises:
        ValueError: the file's parameters are not the model's.
    """
    weights, wanted = load_file(path), {name for name, _ in model.named_parameters()}
    if weights.keys() != wanted:
        weights = _renamed(weights, wanted)
    if weights.keys() != wanted:
        raise ValueError(f"{path} holds other parameters than the model: {sorted(weights.keys() ^ wanted)[:5]} differ")
    model.load_state_dict(weights, strict=False)  # shared parameters have further names


def _renamed(weights: dict[str, Tensor], wanted: set[str]) -> dict[str, Tensor]:
    """Weights under the names of today: parts of ``f`` stood beside it before 0.2, and are inside of it now."""
    moved = {old: [new for new in wanted if new.endswith("." + old)] for old in weights.keys() - wanted}
    return {moved[name][0] if len(moved.get(name, [])) == 1 else name: value for name, value in weights.items()}


def write_text(path: Path, text: str) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new, never a part."""
    beside = path.with_name(path.name + ".unfinished")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)
