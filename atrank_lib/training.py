"""Training: the recipe, one step, one epoch, and the loop with validation and early stopping."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, Field
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from atrank_lib.batches import Batch, TaskSamples
from atrank_lib.evaluation import AverageUserAUC, fixed_candidates, score_candidates, user_auc
from atrank_lib.grouping import GroupedHistories
from atrank_lib.log.schema import Settings
from atrank_lib.negatives import NegativeKind, draw_candidates, sampler_of
from atrank_lib.ranking import LOSSES, Loss, Model, Scores
from atrank_lib.samples import Split, batches


class Recipe(Settings):
    """How to train: optimizer, learning rate and its decay, batch size, regularization.

    >>> RECIPES["modern"].model_copy(update={"epochs": 3}).epochs
    3
    """

    optimizer: Literal["sgd", "adam", "adamw"] = "adam"
    learning_rate: float = Field(1e-3, gt=0)
    decay_rate: float = Field(1.0, gt=0, le=1, description="learning rate x decay_rate^(step / decay_steps)")
    decay_steps: int = Field(336_000, ge=1)
    weight_decay: float = Field(0.0, ge=0)
    l2: float = Field(0.0, ge=0, description="weight of half the squared norms of e_u and h_t, summed over the batch")
    average: float = Field(0.0, ge=0, lt=1, description="evaluate weights averaged over steps with this decay; 0: off")
    gradient_clip: float | None = Field(5.0, gt=0, description="largest global norm of the gradient")
    batch_size: int = Field(512, ge=1)
    negatives: int | None = Field(1, ge=1, description="of each target; None: all impressions")
    negative_kind: NegativeKind = "uniform"
    redraw_negatives: bool = Field(True, description="draw negatives anew in every epoch")
    loss: Loss = "pointwise"
    epochs: int = Field(8, ge=1)
    patience: int | None = Field(3, ge=1, description="epochs without a better validation AUC before stopping")
    max_length: int | None = Field(None, ge=1, description="latest behaviors of each group to train on; all by default")


RecipeName = Literal["paper", "modern", "small"]
RECIPES: dict[RecipeName, Recipe] = {
    # the paper's hyperparameters; decay_steps and clipping are the original code's
    "paper": Recipe(
        optimizer="sgd", learning_rate=1.0, decay_rate=0.1, l2=5e-5, batch_size=32, epochs=20, patience=None
    ),
    "modern": Recipe(learning_rate=1.5e-3, batch_size=256, average=0.999, loss="pairwise", negatives=8),
    # for logs of some 100,000 behaviors, with sizes to match
    "small": Recipe(learning_rate=3e-3, batch_size=128, average=0.995, loss="pairwise", negatives=4),
}


def learning_rate(recipe: Recipe, step: int) -> float:
    """Learning rate of the step numbered ``step`` from 0.

    >>> learning_rate(Recipe(learning_rate=1.0, decay_rate=0.1, decay_steps=100), 100)
    0.1
    """
    return recipe.learning_rate * recipe.decay_rate ** (step / recipe.decay_steps)


@dataclass(frozen=True)
class Part:
    """A log in memory, and what is predicted; or a part of a larger one: then ``number`` is the part's, and
    ``popularity`` says how often each object of a group is a training target in *all* parts."""

    histories: GroupedHistories
    split: Split
    number: int = 0
    popularity: Mapping[str, Int[Tensor, " objects"]] | None = None

    def draw(self, tasks: TaskSamples, recipe: Recipe, generator: torch.Generator) -> dict[str, Tensor]:
        """``draw_candidates`` for every task, ``[s, 1 + negatives]``."""
        weights, drawn = self.popularity or self.split.train, {}
        for name, samples in tasks.items():
            sampler = sampler_of(self.histories, name, recipe.negative_kind, weights[name])
            drawn[name] = draw_candidates(samples, sampler, recipe.negatives, generator)
        return drawn


class FitResult(BaseModel):
    """What training did: one entry per epoch, as written to ``metrics.json``.

    >>> FitResult(epochs=[{"epoch": 1, "loss": 0.6}], best_epoch=1, steps=40).finished
    False
    """

    epochs: list[dict[str, Any]] = []
    best_epoch: int = 0  # counted from 1; the last epoch when there is no validation set
    steps: int = 0
    finished: bool = False  # all epochs done, or patience used up; not when max_steps cut training short

    def judge(self, recipe: Recipe) -> None:
        """Update the best epoch, and finish when the epochs or the patience are used up."""
        aucs = [e["validation_auc"] for e in self.epochs]
        if aucs[-1] is None or aucs[-1] > max((a for a in aucs[:-1] if a is not None), default=-math.inf):
            self.best_epoch = len(aucs)
        waited = len(aucs) - self.best_epoch
        self.finished = len(aucs) >= recipe.epochs or (recipe.patience is not None and waited >= recipe.patience)


Turn = list[tuple[str, int, Batch]]  # what one step learns from: for each task, its name, samples, and their batch


class Steps:
    """How a step is taken: losses, gradients, a move. ``fit`` may be handed another way (``fast``, ...).

    ``averaged`` is what is evaluated: the model, or a copy whose weights follow it (``Recipe.average``). ``part`` says
    what share of every batch it is given, ``tasks`` how many training samples every target group has.
    """

    part: tuple[int, int] = (0, 1)

    def __init__(self, model: Model, recipe: Recipe, tasks: Mapping[str, int]) -> None:
        self.model, self.recipe = model, recipe
        kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer]
        group = {"params": list(model.parameters()), "weight_decay": recipe.weight_decay}
        self.optimizer: torch.optim.Optimizer = kind([group], recipe.learning_rate, fused=True)
        self.average = AveragedModel(model) if recipe.average else None
        self.averaged = model if self.average is None else cast(Model, self.average.module)
        self.leading, self.following = list(model.parameters()), list(self.averaged.parameters())

    def turns(self, part: Part, generator: torch.Generator, drawing: torch.Generator) -> Iterator[Turn]:
        """What each step learns from: a batch of one task, in random order, with negatives from ``drawing``."""
        drawn = part.draw(part.split.train, self.recipe, drawing)
        return self.batches(part, part.split.train, drawn, generator)

    def batches(
        self, part: Part, tasks: TaskSamples, candidates: Mapping[str, Tensor], generator: torch.Generator
    ) -> Iterator[Turn]:
        """All samples of some tasks once."""
        groups, longest, size = self.model.histories, self.recipe.max_length, self.recipe.batch_size
        plan = batches(part.histories, tasks, candidates, size, generator, groups, longest, part=self.part)
        yield from ([(name, len(index), batch)] for name, index, batch in plan)

    def count(self, sizes: Mapping[str, int]) -> int:
        """Steps of an epoch over so many samples of each task."""
        return sum(math.ceil(size / self.recipe.batch_size) for size in sizes.values())

    def parameters(self) -> list[nn.Parameter]:
        """What a step has gradients for."""
        return self.leading

    def kept(self) -> dict[str, nn.Module]:
        """What is needed to go on later, besides the weights that are evaluated."""
        return {} if self.average is None else {"training": self.model}

    def take(self, turn: Turn, rate: float, generator: torch.Generator) -> float:
        """One step at a learning rate; returns the sum of the samples' losses."""
        parameters, losses, total = self.parameters(), [], 0.0
        for parameter in parameters:
            parameter.grad = None
        for name, count, batch in turn:
            output, share = self.forward(batch), self.share(count)
            loss = LOSSES[self.recipe.loss](output.scores)
            objective = share * self.weigh(name, loss)
            if self.recipe.l2:
                objective = objective + (share > 0) * self.recipe.l2 * output.l2()
            losses.append(objective)
            total += share * loss.item() * count
        self.gradients(losses, generator)
        if self.recipe.gradient_clip is not None:
            nn.utils.clip_grad_norm_(parameters, self.recipe.gradient_clip)
        self.move(rate)
        return total

    def forward(self, batch: Batch) -> Scores:
        return self.model(batch)

    def share(self, count: int) -> float:
        """How much the mean loss of this part of a batch of ``count`` samples counts."""
        return 1.0

    def weigh(self, name: str, loss: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """The loss of a task as it counts."""
        return loss

    def gradients(self, losses: list[Tensor], generator: torch.Generator) -> None:
        """Fill ``.grad`` of the parameters."""
        torch.stack(losses).sum().backward()

    def move(self, rate: float) -> float | None:
        """Move the weights by their gradients, and after them the average, which keeps a share of itself: returned.

        It is small in the first steps, so that the start is forgotten.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        if self.average is None:
            return None
        count = int(self.average.n_averaged)
        self.average.n_averaged += 1
        decay = min(self.recipe.average, count / (count + 10))
        with torch.no_grad():
            torch._foreach_lerp_(self.following, self.leading, 1 - decay)  # type: ignore[arg-type]
        return decay

    def settle(self) -> None:
        """Before weights are read: what was put off is done."""

    def scores(self, part: Part, tasks: TaskSamples, candidates: dict[str, Tensor]) -> dict[str, Tensor]:
        """Scores ``[s, c]`` of every task by what is evaluated."""
        return score_candidates(self.averaged, part.histories, tasks, candidates)

    def report(self, entry: dict[str, Any]) -> dict[str, Any]:
        """The entry of an epoch, with what is to be said of its steps."""
        return entry


class Training:
    """What ``fit`` goes through, epoch by epoch. All randomness of one follows from ``seed`` and its number.

    A log in memory is one part; of a larger one ``parts`` are loaded as they are asked for, and ``sizes`` has the
    training samples of every task in each.
    """

    def __init__(
        self,
        model: Model,
        parts: Sequence[Part],
        recipe: Recipe,
        *,
        seed: int = 0,
        steps: Callable[[Model, Recipe, Mapping[str, int]], Steps] = Steps,
        sizes: Sequence[Mapping[str, int]] | None = None,
    ) -> None:
        self.model, self.parts, self.recipe, self.seed = model, parts, recipe, seed
        self.sizes = sizes or [{name: len(s) for name, s in part.split.train.items()} for part in parts]
        totals = {name: sum(size[name] for size in self.sizes) for name in self.sizes[0]}
        if not any(totals.values()):
            raise ValueError("no training samples; choose other targets or another protocol")
        self.steps = steps(model, recipe, totals)
        self.result, self.best = FitResult(), dict[str, Tensor]()

    def turns(self, start: int, generator: torch.Generator) -> Iterator[Turn]:
        """What the steps of an epoch learn from, part by part."""
        for number in torch.randperm(len(self.parts), generator=torch.Generator().manual_seed(start)).tolist():
            part = self.parts[number]
            drawing = generator if self.recipe.redraw_negatives else torch.Generator().manual_seed(self.seed + number)
            yield from self.steps.turns(part, generator, drawing)
            del part  # before the next one comes

    def epoch(self, max_steps: int | None = None, progress: bool = False) -> bool:
        """One pass over all samples, then validation; says whether ``max_steps`` left it whole."""
        number, first, step, loss, seen, whole = len(self.result.epochs) + 1, self.result.steps, 0, 0.0, 0, True
        start = (self.seed + 1) * 1_000_003 + number
        generator = torch.Generator().manual_seed(start)
        began, began_cpu = time.perf_counter(), time.process_time()
        total = sum(map(self.steps.count, self.sizes))
        bar = tqdm(desc=f"epoch {number}", total=total, leave=False, disable=None if progress else True)
        self.model.train()
        with torch.random.fork_rng(), bar:
            torch.manual_seed(start + (self.steps.part[0] << 40))  # dropout
            for turn in self.turns(start, generator):
                if max_steps is not None and first + step >= max_steps:
                    whole = False
                    break
                rate = learning_rate(self.recipe, first + step)
                value = self.steps.take(turn, rate, generator)
                if not math.isfinite(value):
                    raise FloatingPointError(
                        f"loss {value} at step {first + step} of epoch {number} (learning rate {rate:g}); "
                        "lower the learning rate or the gradient clip"
                    )
                loss, seen, step = loss + value, seen + sum(count for _, count, _ in turn), step + 1
                bar.update()
        self.steps.settle()
        seconds, cpu = time.perf_counter() - began, time.process_time() - began_cpu
        entry = {"epoch": number, "steps": step, "samples": seen, "loss": loss / max(seen, 1), "seconds": seconds}
        self.note(self.steps.report(entry | {"cpu_seconds": cpu, "samples_per_second": seen / seconds}), whole)
        return whole

    def validate(self) -> dict[str, float]:
        """Average user AUC of every target group that has validation samples, on negatives that never change."""
        found: dict[str, list[AverageUserAUC]] = {}
        kind: NegativeKind = "impressions" if self.recipe.negative_kind == "impressions" else "uniform"
        for part in self.parts:
            tasks = {name: samples for name, samples in part.split.validation.items() if len(samples)}
            candidates = fixed_candidates(part.histories, tasks, None, part.number, kind)
            scores = self.steps.scores(part, tasks, candidates)
            for name, samples in tasks.items():
                found.setdefault(name, []).append(user_auc(samples, scores[name]))
        return {name: float(AverageUserAUC.over(aucs)) for name, aucs in found.items()}

    def note(self, entry: dict[str, Any], whole: bool) -> None:
        """Validate, and note the epoch and whether it is the best one yet."""
        aucs, result = self.validate(), self.result
        entry["validation_auc"] = sum(aucs.values()) / len(aucs) if aucs else None
        if aucs:
            entry["validation_auc_by_target"] = aucs
        result.epochs.append(entry)
        result.steps += entry["steps"]
        result.judge(self.recipe)
        result.finished = result.finished and whole
        if result.best_epoch == len(result.epochs):
            self.best = {name: value.detach().clone() for name, value in self.steps.averaged.named_parameters()}

    def goes_on(self, max_steps: int | None = None) -> bool:
        return not self.result.finished and (max_steps is None or self.result.steps < max_steps)

    def finish(self) -> FitResult:
        """Leave the model with the weights of its best epoch."""
        self.model.load_state_dict(self.best, strict=False)
        return self.result


def fit(
    model: Model,
    histories: GroupedHistories,
    split: Split,
    recipe: Recipe | str = "modern",
    *,
    seed: int = 0,
    max_steps: int | None = None,
    progress: bool = True,
    steps: Callable[[Model, Recipe, Mapping[str, int]], Steps] = Steps,
) -> FitResult:
    """Train ``model`` in place and leave it with the weights of its best epoch.

    One epoch sees every training sample of every target group once, with negatives drawn anew. After each epoch
    the validation AUC is measured on fixed negatives; without a validation set the last epoch is the best. Nothing is
    written to disk (``runs.train_run`` does that). ``max_steps`` stops in the middle of an epoch too, ``recipe`` may be
    the name of one of ``RECIPES``, ``steps`` says how a step is taken.

    Raises:
        ValueError: unknown recipe, or no training samples.
        FloatingPointError: the loss is no longer finite.

    >>> fit(model, histories, split(histories), Recipe(batch_size=64), max_steps=3, progress=False).steps
    3
    """
    if isinstance(recipe, str):
        if recipe not in RECIPES:
            raise ValueError(f"recipe {recipe!r}; use one of {list(RECIPES)} or a Recipe")
        recipe = RECIPES[recipe]
    training = Training(model, [Part(histories, split)], recipe, seed=seed, steps=steps)
    while training.goes_on(max_steps):
        training.epoch(max_steps, progress)
    return training.finish()
