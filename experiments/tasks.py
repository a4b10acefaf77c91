"""Learning several tasks in other ways than the paper, which shuffles batches of single tasks.

Batches in equal numbers, weights of the losses, steps that see all tasks at once, gradients without conflicts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from atrank_lib.batches import Samples, TaskSamples
from atrank_lib.grouping import GroupedHistories
from atrank_lib.log.schema import key
from atrank_lib.ranking import Model
from atrank_lib.runs.run import RunSteps
from atrank_lib.training import Part, Recipe, Steps, Turn

Mix = Literal["proportional", "uniform"]
Weights = dict[str, float] | Literal["equal", "uncertainty"]


class TaskRecipe(Recipe):
    """A recipe that also says how the tasks share the training; by default as the paper does."""

    task_mix: Mix = Field("proportional", description="every sample once, or equal numbers of every task")
    task_weights: Weights | None = Field(None, description="of the tasks' losses; see TaskWeights")
    task_steps: Literal["shuffled", "joint", "pcgrad"] = Field(
        "shuffled", description="a step is a batch of one task; or one of every task, summed; or without conflicts"
    )
    task_rates: dict[str, float] | None = Field(
        None, description="factors of the learning rate in shuffled steps of some tasks, 1 for the others"
    )
    apart: bool = Field(
        False, description="leave out samples whose history holds a user's last behavior of another group: its test"
    )
    all_objects: bool = Field(
        False, description="candidates are all objects of the group, touched ones too, and no negatives are drawn"
    )


class TaskSteps(Steps):
    """Steps as a ``TaskRecipe`` says; with any other ``Recipe``, the paper's.

    >>> recipe = TaskRecipe(task_steps="pcgrad", batch_size=64)
    >>> result = fit(model, histories, split(histories), recipe, max_steps=2, progress=False, steps=TaskSteps)
    >>> 0 <= result.epochs[0]["conflicts"] <= 6  # three pairs of tasks in each step
    True
    """

    recipe: TaskRecipe

    def __init__(self, model: Model, recipe: Recipe, tasks: Mapping[str, int]) -> None:
        super().__init__(model, TaskRecipe.model_validate(recipe.model_dump()), tasks)
        self.weights = TaskWeights(tasks, self.recipe.task_weights).to(next(model.parameters()).device)
        self.rates, self.conflicts = self.recipe.task_rates or {}, 0  # conflicts between gradients, since last reported
        if wrong := {name: rate for name, rate in self.rates.items() if name not in tasks or not rate > 0}:
            raise ValueError(f"task_rates {wrong}; give positive numbers for some of {list(tasks)}")
        if self.rates and self.recipe.task_steps != "shuffled":
            raise ValueError(f"task_rates need steps of one task, and task_steps is {self.recipe.task_steps!r}")
        if self.weights.learned:
            self.optimizer.add_param_group({"params": list(self.weights.parameters()), "weight_decay": 0.0})

    def parameters(self) -> list[nn.Parameter]:
        return [*super().parameters(), *self.weights.parameters()]

    def kept(self) -> dict[str, nn.Module]:
        return super().kept() | ({"tasks": self.weights} if self.weights.learned else {})

    def turns(self, part: Part, generator: torch.Generator, drawing: torch.Generator) -> Iterator[Turn]:
        tasks = apart(part.histories, part.split.train) if self.recipe.apart else part.split.train
        mixed = remix(tasks, self.recipe.task_mix, generator)
        whole = self.recipe.all_objects
        drawn = every_object(part.histories, mixed) if whole else part.draw(mixed, self.recipe, drawing)
        if self.recipe.task_steps == "shuffled":
            yield from self.batches(part, mixed, drawn, generator)
            return
        own = {name: self.batches(part, {name: samples}, drawn, generator) for name, samples in mixed.items()}
        for names in turns({name: math.ceil(len(samples) / self.recipe.batch_size) for name, samples in mixed.items()}):
            yield [one for name in names for one in next(own[name])]

    def count(self, sizes: Mapping[str, int]) -> int:
        if self.recipe.task_mix == "uniform":
            sizes = dict.fromkeys(sizes, sum(sizes.values()) // len(sizes))
        counts = [math.ceil(size / self.recipe.batch_size) for size in sizes.values()]
        return sum(counts) if self.recipe.task_steps == "shuffled" else max(counts)

    def take(self, turn: Turn, rate: float, generator: torch.Generator) -> float:
        factor = self.rates.get(turn[0][0], 1.0)  # where there are rates, a step is of one task
        return super().take(turn, rate * factor, generator)

    def weigh(self, name: str, loss: Float[Tensor, ""]) -> Float[Tensor, ""]:
        return self.weights(name, loss)

    def gradients(self, losses: list[Tensor], generator: torch.Generator) -> None:
        if self.recipe.task_steps != "pcgrad":
            super().gradients(losses, generator)
            return
        parameters = self.parameters()
        total, conflicts = without_conflicts([self.flat_gradient(loss) for loss in losses], generator)
        for parameter, gradient in zip(parameters, total.split([p.numel() for p in parameters]), strict=True):
            parameter.grad = gradient.view_as(parameter)
        self.conflicts += conflicts

    def flat_gradient(self, loss: Tensor) -> Float[Tensor, " p"]:
        """The gradient of one task's loss, end to end."""
        found = torch.autograd.grad(loss, self.parameters(), allow_unused=True, materialize_grads=True)
        return torch.cat([gradient.flatten() for gradient in found])

    def report(self, entry: dict[str, Any]) -> dict[str, Any]:
        if self.weights.learned:
            entry["task_weights"] = self.weights.now()
        if self.recipe.task_steps == "pcgrad":
            entry["conflicts"], self.conflicts = self.conflicts, 0
        return super().report(entry)


class TaskRunSteps(RunSteps, TaskSteps):
    """The same in a run: ``train_run(..., recipe=TaskRecipe(...), steps=TaskRunSteps)``."""

    settings = TaskRecipe

    def gradients(self, losses: list[Tensor], generator: torch.Generator) -> None:
        if self.recipe.task_steps == "pcgrad":  # sums every task's gradient over the processes before they are compared
            TaskSteps.gradients(self, losses, generator)
        else:
            super().gradients(losses, generator)

    def flat_gradient(self, loss: Tensor) -> Float[Tensor, " p"]:
        return self.processes.sum(super().flat_gradient(loss))


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
            if wrong := {name: w for name, w in weights.items() if name not in tasks or not w > 0}:
                raise ValueError(f"task_weights {wrong}; give positive numbers for some of {list(tasks)}")
            self.fixed |= weights

    def forward(self, name: str, loss: Float[Tensor, ""]) -> Float[Tensor, ""]:
        if not self.learned:
            return self.fixed[name] * loss
        s = self.learned[key(name)]
        return torch.exp(-s) * loss + s / 2

    def now(self) -> dict[str, float]:
        """The weight of every task's loss at this moment."""
        if not self.learned:
            return self.fixed
        return {name: math.exp(-self.learned[key(name)].item()) for name in self.fixed}


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
        rounds = math.ceil(each / max(len(samples), 1))
        order = torch.cat([torch.randperm(len(samples), generator=generator) for _ in range(rounds)])
        mixed[name] = samples[order[:each]]
    return mixed


def apart(histories: GroupedHistories, tasks: Mapping[str, Samples]) -> TaskSamples:
    """The samples that know no user's last behavior of another group, which is what is tested there.

    >>> {name: len(samples) for name, samples in apart(histories, split(histories).train).items()}
    {'item': 682, 'query': 302, 'coupon': 196}
    """
    left = {}
    for name, samples in tasks.items():
        clean = torch.ones(len(samples), dtype=torch.bool)
        for number, (group, history) in enumerate(histories.groups.items()):
            if group != name:  # a user without behaviors of a group has nothing to keep apart
                start, end = history.offsets[samples.users], history.offsets[samples.users + 1]
                clean &= (samples.ends[:, number] < end) | (start == end)
        left[name] = samples[clean]
    return left


def every_object(histories: GroupedHistories, tasks: Mapping[str, Samples]) -> dict[str, Int[Tensor, "s c"]]:
    """All objects of a target's group, itself in column 0 and the others in the order of their table.

    >>> some = split(histories).test["coupon"][:2]
    >>> every_object(histories, {"coupon": some})["coupon"][0, 0] == some.objects[0]
    tensor(True)
    """
    found = {}
    for name, samples in tasks.items():
        others = torch.arange(len(histories.tables[name]) - 1).expand(len(samples), -1)
        target = samples.objects[:, None]
        found[name] = torch.cat([target, others + (others >= target)], dim=1)
    return found


def turns(counts: Mapping[str, int]) -> list[list[str]]:
    """Which tasks take part in each joint step, given their numbers of batches: evenly spread over the epoch.

    >>> turns({"a": 4, "b": 2})
    [['a', 'b'], ['a'], ['a', 'b'], ['a']]
    """
    plan: list[list[str]] = [[] for _ in range(max(counts.values(), default=0))]
    for name, count in counts.items():
        for number in range(count):
            plan[number * len(plan) // count].append(name)
    return plan


def without_conflicts(
    gradients: Sequence[Float[Tensor, " p"]], generator: torch.Generator
) -> tuple[Float[Tensor, " p"], int]:
    """PCGrad (Yu et al., 2020): the sum of the tasks' gradients, each freed from what opposes another's.

    For every other task ``j``, in random order: if ``g . g_j < 0``, then ``g <- g - (g . g_j) / |g_j|^2 g_j``. Also
    says how many of the ``T (T - 1) / 2`` pairs of gradients point against each other.

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
