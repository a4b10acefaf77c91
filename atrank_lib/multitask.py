"""Many tasks: the seven training modes, and how one model is trained on several (paper: *Multi-behavior*, Table 5).

A task is a target group. The paper shuffles mini-batches of single tasks. What goes beyond it is here too: batches in
equal numbers, weights of the tasks' losses, steps that see all tasks at once, and gradients without conflicts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from atrank_lib.grouping import key
from atrank_lib.log.schema import Schema
from atrank_lib.samples import Samples, TaskSamples

Mix = Literal["proportional", "uniform"]
Steps = Literal["shuffled", "joint", "pcgrad"]
Kind = Literal["one2one", "all2one", "all2all"]
Weights = dict[str, float] | Literal["equal", "uncertainty"]


@dataclass(frozen=True)
class Mode:
    """What a model reads and what it predicts; ``name`` is the paper's, such as ``all2item``."""

    name: str
    kind: Kind
    histories: tuple[str, ...]
    targets: tuple[str, ...]


def modes(schema: Schema, targets: Sequence[str] | None = None) -> tuple[Mode, ...]:
    """Every training mode of a schema: with ``G`` groups, ``G`` one2one, ``G`` all2one and one all2all.

    Args:
        targets: groups to predict; all by default. With one group in all, there is one mode.

    >>> [mode.name for mode in modes(histories.schema)][:4], len(modes(histories.schema))
    (['item2item', 'query2query', 'coupon2coupon', 'all2item'], 7)
    """
    everything = tuple(schema.groups)
    wanted = everything if targets is None else tuple(targets)
    found = [Mode(f"{g}2{g}", "one2one", (g,), (g,)) for g in wanted]
    if len(everything) > 1:
        found += [Mode(f"all2{g}", "all2one", everything, (g,)) for g in wanted]
    if len(wanted) > 1:
        found.append(Mode("all2all", "all2all", everything, wanted))
    return tuple(found)


def remix(tasks: Mapping[str, Samples], mix: Mix, generator: torch.Generator) -> TaskSamples:
    """The samples of one epoch. ``proportional``: every sample once. ``uniform``: the same number of every task, as
    many in all; a small task's samples come again, of a large task a random part is taken.

    >>> tasks = split(histories).train
    >>> epoch = remix(tasks, "uniform", torch.Generator().manual_seed(0))
    >>> {name: (len(samples), len(epoch[name])) for name, samples in tasks.items()}
    {'item': (750, 422), 'query': (311, 422), 'coupon': (207, 422)}
    """
    if mix == "proportional" or len(tasks) < 2:
        return dict(tasks)
    each = sum(map(len, tasks.values())) // len(tasks)
    mixed = {}
    for name, samples in tasks.items():
        rounds = -(-each // max(len(samples), 1))
        order = torch.cat([torch.randperm(len(samples), generator=generator) for _ in range(rounds)])
        mixed[name] = samples[order[:each]]
    return mixed


def turns(counts: Mapping[str, int]) -> list[list[str]]:
    """Which tasks take part in each joint step, given their numbers of batches: evenly spread over the epoch.

    >>> turns({"a": 4, "b": 2})
    [['a', 'b'], ['a'], ['a', 'b'], ['a']]
    """
    steps = max(counts.values(), default=0)
    plan: list[list[str]] = [[] for _ in range(steps)]
    for name, count in counts.items():
        for number in range(count):
            plan[number * steps // count].append(name)
    return plan


class TaskWeights(nn.Module):
    """Weights of the tasks' losses; ``tasks`` has the number of samples of each.

    - a mapping: fixed weights; 1 for a task that is not named;
    - ``equal``: ``N / (T n_t)`` for a task with ``n_t`` of all ``N`` samples, so that ``T`` tasks count alike;
    - ``uncertainty``: ``exp(-s_t) L_t + s_t / 2`` with a learned ``s_t`` for each task (Kendall et al., 2018).

    Raises:
        ValueError: a weight for a group that is no task, or one that is not positive.
    """

    def __init__(self, tasks: Mapping[str, int], weights: Weights | None = None) -> None:
        super().__init__()
        self.fixed = dict.fromkeys(tasks, 1.0)
        self.learned = nn.ParameterDict()
        if weights == "uncertainty":
            self.learned.update({key(name): nn.Parameter(torch.zeros(())) for name in tasks})
        elif weights == "equal":
            total = sum(tasks.values())
            self.fixed = {name: total / (len(tasks) * max(count, 1)) for name, count in tasks.items()}
        elif weights is not None:
            wrong = {name: w for name, w in weights.items() if name not in tasks or not w > 0}
            if wrong:
                raise ValueError(f"task_weights {wrong}; give positive numbers for some of {list(tasks)}")
            self.fixed |= weights

    def forward(self, name: str, loss: Float[Tensor, ""]) -> Float[Tensor, ""]:
        if key(name) not in self.learned:
            return self.fixed[name] * loss
        s = self.learned[key(name)]
        return torch.exp(-s) * loss + s / 2

    def now(self) -> dict[str, float]:
        """The weight of every task's loss at this moment."""
        return {
            name: math.exp(-self.learned[key(name)].item()) if key(name) in self.learned else weight
            for name, weight in self.fixed.items()
        }


def without_conflicts(
    gradients: Sequence[Float[Tensor, " p"]], generator: torch.Generator
) -> tuple[Float[Tensor, " p"], int]:
    """PCGrad (Yu et al., 2020): the sum of the tasks' gradients, each freed from what opposes another's.

    For every other task ``j``, in random order: if ``g . g_j < 0``, then ``g <- g - (g . g_j) / |g_j|^2 g_j``.

    Returns:
        The sum, and how many of the ``T (T - 1) / 2`` pairs of gradients point against each other.

    >>> gradients = [torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 1.0])]
    >>> total, conflicts = without_conflicts(gradients, torch.Generator().manual_seed(0))
    >>> total.tolist(), conflicts  # the sum of [0.5, 0.5] and [0, 1]
    ([0.5, 1.5], 1)
    """
    inner = torch.stack([torch.stack([a @ b for b in gradients]) for a in gradients])
    conflicts = int((inner.triu(1) < 0).sum())
    if not conflicts:
        return torch.stack(list(gradients)).sum(0), 0
    total = torch.zeros_like(gradients[0])
    for i, gradient in enumerate(gradients):
        free = gradient.clone()
        for j in torch.randperm(len(gradients), generator=generator).tolist():
            against = free @ gradients[j]
            if j != i and against < 0:
                free -= against / inner[j, j] * gradients[j]
        total += free
    return total, conflicts
