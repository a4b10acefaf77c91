"""Devices: where and how a model computes. What is learned is the ``Recipe``'s business."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass, replace
from typing import Literal, TypeVar, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from atrank_lib.batches import Batch, Candidates
from atrank_lib.log.schema import Settings
from atrank_lib.ranking import Model, Read, Scores

Device = Literal["cpu", "cuda", "auto"]
Precision = Literal["float32", "bfloat16"]
Moved = TypeVar("Moved")
logger = logging.getLogger(__name__)


class Execution(Settings):
    """The machine's part of a training run. A run may change it from epoch to epoch: checkpoints do not depend on it.
    ``bfloat16`` is *autocast*: products of matrices are computed with 8 bits of mantissa, weights, their gradients and
    the loss stay float32. Evaluation is always float32."""

    device: Device = Field("cpu", description="auto: a GPU where there is one")
    precision: Precision = "float32"
    compiled: bool = Field(False, description="compile the perceptrons; meant for GPUs")

    def place(self, number: int = 0) -> torch.device:
        """The device of this machine's process ``number``: every process has a GPU of its own. ValueError where one is
        wanted and there is none, or fewer than processes."""
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if self.device == "cpu" or (self.device == "auto" and not count):
            return torch.device("cpu")
        if not count:
            remedy = "use --device cpu, or install a build of torch with CUDA on a machine with a GPU"
            raise ValueError(f"device 'cuda': torch {torch.__version__} finds no GPU here; {remedy}")
        if number >= count:
            remedy = f"start at most {count} processes a machine"
            raise ValueError(f"process {number} of this machine finds no GPU of its own, there are {count}; {remedy}")
        return torch.device("cuda", number)

    def forward(self, model: Model, batch: Batch, device: torch.device) -> Scores:
        """The model's output for a batch, ready for a loss in float32: what follows autocast sums in it."""
        if device.type != "cpu":
            batch = moved(batch, device)
        if self.precision == "float32":
            return model(batch)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            output = model(batch)
        return Scores(output.scores.float(), output.targets.float(), output.users.float())


def moved(what: Moved, device: torch.device) -> Moved:
    """The same batch, or part of one, on another device; positions in the log stay where they are."""
    if isinstance(what, Tensor):
        return cast(Moved, what.to(device))
    if isinstance(what, dict):
        return cast(Moved, {name: moved(value, device) for name, value in what.items()})
    if is_dataclass(what) and not isinstance(what, type):
        parts = {field.name: getattr(what, field.name) for field in fields(what) if field.name != "positions"}
        return replace(what, **moved(parts, device))
    return what


class Placed(Model[Read]):
    """A model on a device, as if it were on the CPU: batches go there, scores come back."""

    def __init__(self, model: Model[Read]) -> None:
        super().__init__()
        self.model, self.schema, self.histories = model, model.schema, model.histories
        self.device = next(model.parameters()).device

    def encode(self, batch: Batch) -> Read:
        return self.model.encode(moved(batch, self.device))

    def score(self, encoding: Read, candidates: Candidates) -> Scores:
        found = self.model.score(encoding, moved(candidates, self.device))
        return Scores(found.scores.cpu(), found.targets.cpu(), found.users.cpu())


def compile_layers(model: nn.Module, device: torch.device) -> list[nn.Module]:
    """Compile in place the perceptrons, which work on packed rows of any number; none where nothing compiles here.
    Looking up, lining up and padding stay as they are: their shapes follow from the data, and so each new batch would
    be compiled again."""
    try:
        torch.compile(torch.relu)(torch.zeros(2, device=device))
    except Exception as error:  # no C++ compiler, no Triton, a Python that torch does not know yet: whatever it is
        logger.warning("nothing can be compiled here, so training goes on without (%s)", first_line(error))
        return []
    layers: list[nn.Module] = [module for module in model.modules() if isinstance(module, nn.Sequential)]
    limit = 4 * len(layers)  # versions: with and without gradient, in training and evaluation
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, limit)
    for layer in layers:
        layer.forward = torch.compile(_own_frame(layer.forward), dynamic=True)
    return layers


def plain_layers(layers: Iterable[nn.Module]) -> None:
    """Undo ``compile_layers``: a copy of a compiled layer would compute with the weights of the original."""
    for layer in layers:
        del layer.forward


def _own_frame(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The same in a frame of this file: torch does not compile frames of its own files."""
    return lambda x: forward(x)


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]
