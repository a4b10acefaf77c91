"""Training: the loop, with validation and early stopping."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from atrank_lib.evaluation import AverageUserAUC, score_candidates, user_auc
from atrank_lib.fast.row_updates import RowUpdates, large
from atrank_lib.grouping import GroupedHistories
from atrank_lib.multitask import TaskWeights, remix, turns, without_conflicts
from atrank_lib.negatives import draw_candidates
from atrank_lib.parts import Parts, Whole
from atrank_lib.ranking import LOSSES
from atrank_lib.recipes import RECIPES, Recipe, learning_rate
from atrank_lib.runs.checkpoints import Checkpoints, FitResult
from atrank_lib.samples import Batch, Samples, Split, batches
from atrank_lib.scale.execution import Execution, compile_layers, plain_layers
from atrank_lib.scale.processes import ALONE, Processes
from atrank_lib.workers import Workers


def _optimizer(model: nn.Module, weights: TaskWeights, recipe: Recipe) -> torch.optim.Optimizer:
    groups: list[dict[str, Any]] = [{"params": list(model.parameters()), "weight_decay": recipe.weight_decay}]
    if len(weights.learned):
        groups.append({"params": list(weights.parameters()), "weight_decay": 0.0})
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, recipe.learning_rate, fused=True)
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, recipe.learning_rate, fused=True)


def fit(
    model: nn.Module,
    histories: GroupedHistories | Parts,
    split: Split | None = None,
    recipe: Recipe | str = "modern",
    *,
    seed: int = 0,
    max_steps: int | None = None,
    run: Path | str | None = None,
    resume: bool = False,
    progress: bool = True,
    on: Execution | None = None,
    processes: Processes = ALONE,
) -> FitResult:
    """Train ``model`` in place and leave it with the weights of its best epoch.

    One epoch sees every training sample of every target group once, with negatives drawn anew. After each epoch
    the validation AUC is measured on fixed negatives; without a validation set the last epoch is the best. All
    randomness of an epoch follows from ``seed`` and the epoch's number, so a run that was killed and resumed ends
    with the same bits as one that was not.

    Args:
        histories: a log in memory; or the parts of one that is not (``shards.Shards``), which bring their own split and
            are gone through one after the other, in an order that follows from ``seed`` and the epoch's number.
        recipe: a ``Recipe``, or the name of one in ``RECIPES``.
        max_steps: stop after this many steps, also in the middle of an epoch.
        run: folder for checkpoints and ``metrics.json``; nothing is written without it.
        resume: go on from the last complete epoch in ``run``.
        on: device, precision and compilation; by default the model is trained as it is, where it is.
        processes: those that train together (``distributed.joined``), each with the same arguments; the first writes.

    Raises:
        ValueError: unknown recipe, no split for a log in memory, no training samples, or a device that is not there.
        FileExistsError: ``run`` holds checkpoints and ``resume`` is False.
        FloatingPointError: the loss is no longer finite.

    >>> from atrank_lib import ATRank, ATRankConfig, split
    >>> from data_scripts.simulate import MarketplaceConfig, simulate
    >>> histories = GroupedHistories.from_log(simulate(MarketplaceConfig(users=40)).log)
    >>> model = ATRank(histories.schema, histories.vocabularies, ATRankConfig(embedding_size=8, hidden=16))
    >>> result = fit(model, histories, split(histories), Recipe(batch_size=64, epochs=2), max_steps=3, progress=False)
    >>> result.steps, result.epochs[0]["loss"] > 0
    (3, True)
    """
    if isinstance(recipe, str):
        if recipe not in RECIPES:
            raise ValueError(f"recipe {recipe!r}; use one of {list(RECIPES)} or a Recipe")
        recipe = RECIPES[recipe]
    if not isinstance(histories, Parts) and split is None:
        raise ValueError("histories without a split; cut them into samples with `split`")
    parts = histories if isinstance(histories, Parts) else Whole(histories, cast(Split, split))
    if not any(len(samples) for samples in parts.totals().values()):
        raise ValueError("no training samples; choose other targets or another protocol")
    if on is not None:
        model.to(on.place(processes.local_rank))
    device = next(model.parameters()).device
    weights = TaskWeights(parts.totals(), recipe.task_weights).to(device)
    optimizer = _optimizer(model, weights, recipe)
    average = AveragedModel(model) if recipe.average else None
    evaluated = model if average is None else average.module
    checkpoints = Checkpoints(Path(run)) if run is not None else None
    result, best = FitResult(), {}
    if checkpoints is not None and checkpoints.latest():
        if not resume:
            raise FileExistsError(f"{run} already holds a trained run; resume it, or choose another folder")
        result = checkpoints.load(checkpoints.latest(), model, optimizer, weights, average)
        _judge(result, recipe)  # a finished run goes on when it is given more epochs
        best = load_file(checkpoints.path(result.best_epoch) / "weights.safetensors")
    processes.same_start([*model.parameters(), *weights.parameters()])
    following = None if average is None else (average, recipe.average)
    updates = RowUpdates(model, optimizer, following, large(recipe.batch_size))
    on = on or Execution()
    workers = Workers(on.workers, model)
    if on.workers > 1 and (device.type != "cpu" or recipe.task_steps == "pcgrad"):
        raise ValueError(
            f"workers={on.workers}: threads share a batch on a CPU alone, and not with task_steps='pcgrad', which asks "
            "for the gradient of every task; use workers=1"
        )
    compiled = compile_layers(model, device) if on.compiled else []
    while not result.finished and (max_steps is None or result.steps < max_steps):
        entry, done = _epoch(
            model,
            weights,
            updates,
            parts,
            recipe,
            seed,
            result,
            max_steps,
            progress and processes.first,
            on,
            workers,
            processes,
        )
        entry |= on.record(device, bool(compiled)) | {"processes": processes.world}
        aucs = _validate(evaluated, parts, processes)
        if aucs:
            entry["validation_auc"] = sum(aucs.values()) / len(aucs)
            entry["validation_auc_by_target"] = aucs
        result.epochs.append(entry)
        result.steps += entry["steps"]
        _judge(result, recipe)
        result.finished = result.finished and not done
        if result.best_epoch == len(result.epochs):
            best = {name: value.detach().clone() for name, value in evaluated.named_parameters()}
        if checkpoints is not None and processes.first:
            if not done:
                checkpoints.save(model, optimizer, result, weights, average)
            checkpoints.write_metrics(result)
    plain_layers(compiled)
    model.load_state_dict(best, strict=False)
    return result


def _validate(model: nn.Module, parts: Parts, processes: Processes) -> dict[str, float]:
    """Average user AUC of every target group on the validation samples of all parts; empty where there are none."""
    found: dict[str, list[AverageUserAUC]] = {}
    for part in parts.in_order():
        scores = score_candidates(model, part.histories, part.validation, part.fixed, processes=processes)
        for name, samples in part.validation.items():
            found.setdefault(name, []).append(user_auc(samples, scores[name]))
        del part, scores  # before the next part comes
    return {name: float(AverageUserAUC.over(aucs)) for name, aucs in found.items()}


def _judge(result: FitResult, recipe: Recipe) -> None:
    """Update the best epoch, and finish when the epochs or the patience are used up."""
    aucs = [e["validation_auc"] for e in result.epochs]
    if aucs[-1] is None or aucs[-1] > max((a for a in aucs[:-1] if a is not None), default=-math.inf):
        result.best_epoch = len(result.epochs)
    waited = len(result.epochs) - result.best_epoch
    result.finished = len(result.epochs) >= recipe.epochs or (recipe.patience is not None and waited >= recipe.patience)


def _steps(
    histories: GroupedHistories,
    tasks: Mapping[str, Samples],
    candidates: Mapping[str, Tensor],
    recipe: Recipe,
    generator: torch.Generator,
    groups: Any,
    processes: Processes,
) -> Iterator[list[tuple[str, Tensor, Batch]]]:
    """The batches of every step of an epoch: one of one task, or at most one of every task (``joint``, ``pcgrad``)."""

    def some(names: list[str]) -> Iterator[tuple[str, Tensor, Batch]]:
        chosen = {name: tasks[name] for name in names}
        return batches(
            histories,
            chosen,
            candidates,
            recipe.batch_size,
            generator=generator,
            groups=groups,
            max_length=recipe.max_length,
            part=processes.part,
        )

    if recipe.task_steps == "shuffled":
        yield from ([part] for part in some(list(tasks)))
        return
    own = {name: some([name]) for name in tasks}
    for names in turns({name: math.ceil(len(samples) / recipe.batch_size) for name, samples in tasks.items()}):
        yield [next(own[name]) for name in names]


def _plan(
    parts: Parts,
    recipe: Recipe,
    seed: int,
    number: int,
    generator: torch.Generator,
    groups: Any,
    processes: Processes,
) -> Iterator[list[tuple[str, Tensor, Batch]]]:
    """The batches of every step of the epoch ``number``, part by part."""
    for part in parts.shuffled((seed + 1) * 1_000_003 + number):
        tasks = remix(part.split.train, recipe.task_mix, generator)
        drawing = generator if recipe.redraw_negatives else torch.Generator().manual_seed(seed + part.number)
        samplers = part.samplers(recipe.negative_kind)
        candidates = {
            name: draw_candidates(samples, samplers[name], recipe.negatives, drawing) for name, samples in tasks.items()
        }
        yield from _steps(part.histories, tasks, candidates, recipe, generator, groups, processes)
        del part, tasks, samplers, candidates  # before the next part comes


def _step_count(sizes: Mapping[str, int], recipe: Recipe) -> int:
    """Steps of an epoch of one part."""
    if recipe.task_mix == "uniform":
        sizes = dict.fromkeys(sizes, sum(sizes.values()) // len(sizes))
    counts = [math.ceil(size / recipe.batch_size) for size in sizes.values()]
    return sum(counts) if recipe.task_steps == "shuffled" else max(counts)


def _objective(
    model: nn.Module,
    weights: TaskWeights,
    recipe: Recipe,
    on: Execution,
    name: str,
    batch: Batch,
    samples: int,
    share: float,
) -> tuple[Tensor, float]:
    """What is minimized, for a part of a batch of ``samples`` that counts ``share``; and its share of their loss."""
    output = on.forward(model, batch, next(model.parameters()).device)
    loss = LOSSES[recipe.loss](output.scores)
    objective = share * weights(name, loss)
    if recipe.l2:
        objective = objective + (share > 0) * recipe.l2 * output.l2()
    return objective, share * loss.item() * samples


def _set_gradients(
    parameters: list[nn.Parameter],
    objectives: list[Tensor],
    recipe: Recipe,
    generator: torch.Generator,
    processes: Processes,
) -> int:
    """Fill ``.grad`` of the parameters from the tasks' objectives; returns the number of conflicts (PCGrad alone)."""
    if recipe.task_steps != "pcgrad":
        torch.stack(objectives).sum().backward()
        processes.sum_gradients(parameters)
        return 0
    flat = []
    for objective in objectives:
        found = torch.autograd.grad(objective, parameters, allow_unused=True, materialize_grads=True)
        flat.append(processes.sum(torch.cat([gradient.flatten() for gradient in found])))
    total, conflicts = without_conflicts(flat, generator)
    for parameter, gradient in zip(parameters, total.split([p.numel() for p in parameters]), strict=True):
        parameter.grad = gradient.view_as(parameter)
    return conflicts


def _epoch(
    model: nn.Module,
    weights: TaskWeights,
    updates: RowUpdates,
    parts: Parts,
    recipe: Recipe,
    seed: int,
    result: FitResult,
    max_steps: int | None,
    progress: bool,
    on: Execution,
    workers: Workers,
    processes: Processes,
) -> tuple[dict[str, Any], bool]:
    """One pass over all samples. Returns its metrics, and whether ``max_steps`` cut it short."""
    number, step = len(result.epochs) + 1, result.steps
    generator = torch.Generator().manual_seed((seed + 1) * 1_000_003 + number)
    groups = getattr(model, "histories", None)
    total = sum(_step_count(sizes, recipe) for sizes in parts.sizes)
    began, began_cpu, losses, seen, conflicts, cut = time.perf_counter(), time.process_time(), 0.0, 0, 0, False
    model.train()
    hidden = None if progress else True  # None: shown in a terminal alone
    with (
        torch.random.fork_rng(),
        tqdm(total=total, desc=f"epoch {number}", disable=hidden, leave=False) as bar,
        workers.hired(),
    ):
        noise = (seed + 1) * 1_000_003 + number + (processes.rank << 40)  # dropout: every process has its own
        torch.manual_seed(noise)
        for turn in _plan(parts, recipe, seed, number, generator, groups, processes):
            if max_steps is not None and step >= max_steps:
                cut = True
                break
            with updates.small([batch for _, _, batch in turn], processes) as small:
                parameters = [*updates.parameters(), *weights.parameters()]
                for parameter in parameters:
                    parameter.grad = None
                losses_of = [
                    partial(
                        _objective,
                        model,
                        weights,
                        recipe,
                        on,
                        name,
                        piece,
                        len(index),
                        processes.share(len(index)) * piece.size / batch.size,  # 1 when alone
                    )
                    for (name, index, _), batch in zip(turn, small, strict=True)
                    for piece in workers.cut(batch)
                ]
                if workers.count > 1:
                    value = workers.gradients(losses_of, parameters, noise * 1_000_003 + step)
                    processes.sum_gradients(parameters)
                else:
                    objectives, values = zip(*(objective() for objective in losses_of), strict=True)
                    value = sum(values)
                    conflicts += _set_gradients(parameters, list(objectives), recipe, generator, processes)
                value = processes.total(value)
                if recipe.gradient_clip is not None:
                    nn.utils.clip_grad_norm_(parameters, recipe.gradient_clip)
                updates.step(learning_rate(recipe, step))
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"loss {value} at step {step} of epoch {number} (learning rate {learning_rate(recipe, step):g}); "
                    "lower the learning rate or the gradient clip"
                )
            losses, seen, step = losses + value, seen + sum(len(index) for _, index, _ in turn), step + 1
            bar.update()
            if step % 20 == 0:
                bar.set_postfix(loss=f"{losses / seen:.4f}")
        updates.pay_all()
    seconds = time.perf_counter() - began
    entry: dict[str, Any] = {
        "epoch": number,
        "steps": step - result.steps,
        "samples": seen,
        "loss": losses / max(seen, 1),
        "validation_auc": None,
        "seconds": seconds,
        # of all threads and processes; says more on a busy machine
        "cpu_seconds": processes.total(time.process_time() - began_cpu),
        "samples_per_second": seen / seconds,
    }
    if len(weights.learned):
        entry["task_weights"] = weights.now()
    if recipe.task_steps == "pcgrad":
        entry["conflicts"] = conflicts
    return entry, cut
