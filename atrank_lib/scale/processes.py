"""Several processes train one model: each takes its share of every batch, gradients are summed, all take the same step.

``torchrun`` and ``accelerate launch`` start the processes and tell each its rank through the environment. The recipe's
batch is that of all together, so the loss curve is that of one process, up to rounding, and dropout's noise.
"""

import hashlib
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Bool
from torch import Tensor, nn

from atrank_lib.batches import Batch, TaskSamples
from atrank_lib.evaluation import score_candidates
from atrank_lib.fast.kernels import ready
from atrank_lib.fast.layers import sped_up
from atrank_lib.ranking import Model, Scores
from atrank_lib.scale.devices import Execution, Placed, compile_layers, first_line
from atrank_lib.training import Part, Recipe, Steps, Turn


class PeerError(RuntimeError):
    """Another process failed, and says why itself."""


@contextmanager
def _exchanging() -> Iterator[None]:
    """What the backends raise when a peer has gone, as an error that says so."""
    try:
        yield
    except RuntimeError as error:
        _when_asked_to_end(signal.SIG_IGN)
        gone = "a process that trains together with this one has ended or cannot be reached"
        raise ConnectionError(f"{gone}; was it killed, or out of memory? ({first_line(error)})") from error


def _when_asked_to_end(do: Any) -> None:
    """What is done when the launcher asks this process to end: nothing (SIG_IGN) while it cleans up and ends anyway."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, do)


def _stopped(*_: object) -> None:
    _when_asked_to_end(signal.SIG_IGN)
    raise ConnectionError("the launcher ends this process; another one has failed, or the job was stopped")


@dataclass(frozen=True)
class Processes:
    """The processes that train together, as one of them sees it. Alone, nothing is exchanged."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0  # among those of the same machine

    @property
    def first(self) -> bool:
        """Whether this process writes and prints for all."""
        return self.rank == 0

    @property
    def part(self) -> tuple[int, int]:
        """What ``samples.batches`` gives to this process."""
        return self.rank, self.world

    def share(self, samples: int) -> float:
        """Which part of a batch of ``samples`` is this process's: the mean loss of its samples counts this much. Shares
        differ in size where a batch does not divide evenly, so the mean of their means is not the mean of the batch;
        the sum of the means, weighted so, is. A process without a sample has share 0."""
        return len(range(self.rank, samples, self.world)) / samples

    def sum(self, value: Tensor) -> Tensor:
        """The sum over all processes, in place: the same bits in every process."""
        if self.world > 1:
            with _exchanging():
                dist.all_reduce(value)
        return value

    def total(self, value: float) -> float:
        """The sum of a number over all processes."""
        return value if self.world == 1 else float(self.sum(torch.tensor(value, dtype=torch.float64)))

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Sum every ``.grad`` over the processes: a parameter has one afterwards if it has one in any process."""
        if self.world == 1:
            return
        has = torch.tensor([p.grad is not None for p in parameters], dtype=torch.float32, device=parameters[0].device)
        flat = torch.cat([has, *((torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters)])
        used, *sums = self.sum(flat).split([len(has), *(p.numel() for p in parameters)])
        for parameter, some, value in zip(parameters, used.tolist(), sums, strict=True):
            parameter.grad = value.view_as(parameter) if some else None

    def agree(self, settings: str) -> None:
        """Wait for all processes; ValueError where one has other settings than the rest: another log, say."""
        if self.world == 1:
            return
        digest = torch.frombuffer(bytearray(hashlib.sha256(settings.encode()).digest()), dtype=torch.uint8)
        digests = [torch.empty_like(digest) for _ in range(self.world)]
        with _exchanging():
            dist.all_gather(digests, digest)
        if others := [rank for rank, found in enumerate(digests) if not torch.equal(found, digests[0])]:
            said = f"processes {others} were started with another log or other settings than process 0"
            raise ValueError(f"{said}; give all the same arguments and, on several machines, the same files")

    def same_start(self, parameters: Sequence[nn.Parameter]) -> None:
        """Give every process the first one's parameters."""
        if self.world > 1:
            with _exchanging():
                for parameter in parameters:
                    dist.broadcast(parameter.detach(), src=0)


ALONE = Processes()


@contextmanager
def joined(on: Execution) -> Iterator[Processes]:
    """Join the processes that ``torchrun`` or ``accelerate launch`` started with this one; alone without a launcher.

    A failure in one process ends all: it keeps its error, the others raise ``PeerError``. (``record`` of
    ``torch.distributed.elastic`` reports root causes too, but as one traceback beside that of every process.)
    ValueError where this process finds no device, or its launcher started no others.
    """
    if "WORLD_SIZE" not in os.environ and "MASTER_PORT" in os.environ and "ACCELERATE_USE_CPU" in os.environ:
        said = "accelerate launch --cpu starts a single process, whatever --num_processes says"
        remedy = "`torchrun --nproc_per_node N`, or `accelerate launch --multi_gpu --num_processes N` with --device cpu"
        raise ValueError(f"{said}; on CPUs use {remedy}")
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    store, rank, world = next(dist.rendezvous("env://"))
    before = signal.getsignal(signal.SIGTERM)
    _when_asked_to_end(_stopped)  # an error like any other, so that nothing partial is left behind
    try:
        me = Processes(rank, world, int(os.environ.get("LOCAL_RANK", rank)))
        device = on.place(me.local_rank)
        if device.type == "cuda":
            torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        with _exchanging():
            dist.init_process_group(backend, store=store, rank=rank, world_size=world)
        yield me
        dist.barrier()  # nobody leaves while the first one still writes
        dist.destroy_process_group()
        _when_asked_to_end(before)
    except Exception:
        _when_asked_to_end(signal.SIG_IGN)
        if store.add("failures", 1) > 1:  # told before this process ends, which is what the others notice
            raise PeerError("another process failed first; see its error") from None
        raise


class ScaledSteps(Steps):
    """Steps on the device and with the processes that are given, by default on the CPU, alone. Every process has its
    share of each batch, gradients are summed, all make one move. ValueError for a device that is not there."""

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
