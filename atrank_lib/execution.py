"""Where and how a model computes: device, precision, compilation. What is learned is the ``Recipe``'s business."""

from __future__ import annotations

import logging
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from atrank_lib.model import Scores
from atrank_lib.samples import Batch

Device = Literal["cpu", "cuda", "auto"]
Precision = Literal["float32", "bfloat16"]

logger = logging.getLogger(__name__)


class Execution(BaseModel):
    """The machine's part of a training run. A run may change it from epoch to epoch: checkpoints do not depend on it.

    ``bfloat16`` is *autocast*: products of matrices are computed with 8 bits of mantissa, weights, their gradients and
    the loss stay float32. Evaluation is always float32.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    device: Device = Field("cpu", description="auto: a GPU where there is one")
    precision: Precision = "float32"
    compiled: bool = Field(False, description="compile the layers between embedding and loss; pays on GPUs")

    def place(self, number: int = 0) -> torch.device:
        """The device of this machine's process ``number``: every process has a GPU of its own.

        Raises:
            ValueError: ``cuda`` is wanted and there is none, or fewer GPUs than processes.
        """
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if self.device == "cpu" or (self.device == "auto" and not count):
            return torch.device("cpu")
        if not count:
            raise ValueError(
                f"device 'cuda': torch {torch.__version__} finds no GPU here; use --device cpu, or install a build of "
                "torch with CUDA on a machine with a GPU"
            )
        if number >= count:
            raise ValueError(
                f"process {number} of this machine finds no GPU of its own, there are {count}; start at most {count} "
                "processes a machine"
            )
        return torch.device("cuda", number)

    def forward(self, model: nn.Module, batch: Batch, device: torch.device) -> Scores:
        """The model's output for a batch, ready for a loss in float32."""
        if self.precision == "float32":
            return model(batch.to(device))
        with torch.autocast(device.type, dtype=torch.bfloat16):
            output = model(batch.to(device))
        return output.float32()

    def record(self, device: torch.device, compiled: bool) -> dict[str, Any]:
        """Where an epoch was computed, for ``metrics.json``."""
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        return {"device": name, "precision": self.precision, "compiled": compiled}


def compile_layers(model: nn.Module, device: torch.device) -> bool:
    """Compile in place the layers that work on packed rows, whose number varies; False where nothing compiles here.

    Looking up, lining up and padding stay as they are: their shapes follow from the data.
    """
    try:
        torch.compile(torch.relu)(torch.zeros(2, device=device))
    except Exception as error:  # no C++ compiler, no Triton, a Python that torch does not know yet: whatever it is
        reason = " ".join(str(error).split())[:200]
        logger.warning("nothing can be compiled here, training goes on uncompiled (%s)", reason)
        return False
    for module in model.modules():
        if isinstance(module, nn.Sequential):  # every perceptron, F_self, F_vanilla
            module.compile(dynamic=True)
    return True
