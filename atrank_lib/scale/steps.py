"""Steps that several processes take together, or on another device: the same loss curve, up to rounding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from atrank_lib.batches import Batch, TaskSamples
from atrank_lib.evaluation import score_candidates
from atrank_lib.fast.kernels import ready
from atrank_lib.fast.layers import sped_up
from atrank_lib.ranking import Model, Scores
from atrank_lib.scale.devices import Execution, Placed, compile_layers, plain_layers
from atrank_lib.scale.processes import ALONE, Processes
from atrank_lib.training import Part, Recipe, Steps, Turn


class ScaledSteps(Steps):
    """Steps on the device and with the processes that they are given; by default on the CPU, alone.

    Every process has its share of each batch; gradients are summed, and all make the same move.

    Raises:
        ValueError: a device that is not there.
    """

    def __init__(
        self,
        model: Model,
        recipe: Recipe,
        tasks: Mapping[str, int],
        on: Execution | None = None,
        processes: Processes = ALONE,
    ) -> None:
        self.on, self.processes, self.part = on or Execution(), processes, processes.part
        self.device = self.on.place(processes.local_rank)
        model = model.to(self.device)
        processes.same_start(list(model.parameters()))
        super().__init__(model, recipe, tasks)
        self.compiled = compile_layers(model, self.device) if self.on.compiled else []

    def take(self, turn: Turn, rate: float, generator: torch.Generator) -> float:
        return self.processes.total(super().take(turn, rate, generator))

    def forward(self, batch: Batch) -> Scores:
        return self.on.forward(self.model, batch, self.device)

    def share(self, count: int) -> float:
        return self.processes.share(count)

    # what rows (fast.RowSteps) a step reads, where steps are those too
    def seen(self, mark: Bool[Tensor, " rows"]) -> Bool[Tensor, " rows"]:
        return mark if self.processes.world == 1 else mark | (self.processes.sum(mark.int()) > 0)

    def gradients(self, losses: list[Tensor], generator: torch.Generator) -> None:
        super().gradients(losses, generator)
        self.processes.sum_gradients(self.parameters())

    def scores(self, part: Part, tasks: TaskSamples, candidates: dict[str, Tensor]) -> dict[str, Tensor]:
        model = self.averaged if self.device.type == "cpu" else Placed(self.averaged)
        found = score_candidates(model, part.histories, tasks, candidates, part=self.part)
        return {name: self.processes.sum(scores) for name, scores in found.items()}

    def report(self, entry: dict[str, Any]) -> dict[str, Any]:
        gpu = self.device.type == "cuda"
        own = sped_up(self.model) and not gpu and self.on.precision == "float32" and ready(torch.empty(0))
        return super().report(entry) | {
            "cpu_seconds": self.processes.total(entry["cpu_seconds"]),  # of all, and says more on a busy machine
            "device": torch.cuda.get_device_name(self.device) if gpu else self.device.type,
            "precision": self.on.precision,
            "compiled": bool(self.compiled),
            "kernels": own,
            "processes": self.processes.world,
        }

    def release(self) -> None:
        """Undo the compilation, before the weights of the best epoch are put in."""
        plain_layers(self.compiled)
