"""A batch in parts, each on a thread of its own.

Threads *inside* an operator scale badly when operators are small: every one of some hundred operators of a step is
cut up, waited for, and joined. Here the batch is cut instead: each worker takes some samples through the whole model,
forwards and backwards, with one thread an operator, and gradients are added at the end, in the order of the parts. A
large batch is cut into more parts than there are workers, small enough for their tensors to stay in a core's cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from atrank_lib.grouping import Features, Ragged
from atrank_lib.noise import Dropout, drawn_from
from atrank_lib.samples import Batch

_BEHAVIORS = 4_096  # of one part, at most about: 2 MB for each of its tensors at the paper's sizes


class Workers:
    """Threads that compute gradients of a model's loss on parts of a batch; one worker is no thread at all.

    Raises:
        ValueError: fewer than one, or a model with noise of its own, which threads would draw in any order.
    """

    def __init__(self, count: int, model: nn.Module) -> None:
        if count < 1:
            raise ValueError(f"workers={count}; at least 1 is needed")
        foreign = [
            name
            for name, m in model.named_modules()
            if (isinstance(m, nn.Dropout) and not isinstance(m, Dropout) and m.p)
            or (isinstance(m, nn.MultiheadAttention) and m.dropout)
        ]
        if count > 1 and foreign:
            raise ValueError(f"workers={count}: the noise of {foreign[0]!r} would not be repeatable; use workers=1")
        self.count = count
        self._pool: ThreadPoolExecutor | None = None

    @contextmanager
    def hired(self) -> Iterator[Workers]:
        """Inside, every worker has one thread an operator."""
        if self.count == 1:
            yield self
            return
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # threads that start later have as many
        try:
            with ThreadPoolExecutor(self.count) as self._pool:
                yield self
        finally:
            torch.set_num_threads(threads)

    def cut(self, batch: Batch) -> list[Batch]:
        """Parts of a batch, as many for each worker, with about as many behaviors each; one worker takes it whole."""
        if self.count == 1:
            return [batch]
        rounds = max(1, -(-len(batch.slots) // (_BEHAVIORS * self.count)))
        wanted = min(self.count * rounds, batch.size)
        # samples come sorted by length: cut where the behaviors (and one place for the target) are shared out evenly
        weights = torch.bincount(batch.slots // batch.length, minlength=batch.size) + 1
        share = weights.cumsum(0) * wanted // (int(weights.sum()) + 1)
        ends = torch.searchsorted(share, torch.arange(wanted), right=True).tolist()
        return [part(batch, a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True) if b > a]

    def gradients(
        self,
        losses: Sequence[Callable[[], tuple[Tensor, float]]],
        parameters: Sequence[nn.Parameter],
        seed: int,
    ) -> float:
        """Fill ``.grad`` of the parameters with the gradient of the sum of all losses; returns the sum of their values.

        Args:
            losses: one for each part of a batch; each gives a loss, and a value to be added up.
            seed: the noise of part ``i`` follows from it and ``i``.
        """
        assert self._pool is not None

        def run(number: int) -> tuple[tuple[Tensor | None, ...], float]:
            with drawn_from((seed * 4_099 + number) % 2**63):
                loss, value = losses[number]()
            return torch.autograd.grad(loss, parameters, allow_unused=True), value

        total: dict[int, Tensor] = {}
        values = 0.0
        for found, value in self._pool.map(run, range(len(losses))):
            values += value
            new = {i: gradient for i, gradient in enumerate(found) if gradient is not None}
            for i, gradient in new.items():
                total[i] = total[i].add_(gradient) if i in total else gradient
        for i, parameter in enumerate(parameters):
            parameter.grad = total.get(i)
        return values


def part(batch: Batch, first: int, end: int) -> Batch:
    """Samples ``first`` to ``end`` (excluded) of a batch, as a batch; nothing is copied but slots."""

    def of(features: Features, a: int, b: int) -> Features:
        return {name: _slice(value, a, b) for name, value in features.items()}

    owners, behind, histories, slots = batch.slots // batch.length, 0, {}, []
    edges = torch.tensor([first, end])
    for name, group in batch.histories.items():
        own = owners[behind : behind + len(group.actions)]
        a, b = torch.searchsorted(own, edges).tolist()
        changed: dict[str, Any] = {k: getattr(group, k)[a:b] for k in ("actions", "elapsed", "positions")}
        histories[name] = replace(group, features=of(group.features, a, b), **changed)
        slots.append(batch.slots[behind + a : behind + b])
        behind += len(own)
    c = batch.candidates
    width = c.shape[1]
    mine = torch.cat(slots)
    sample, place = mine // batch.length - first, mine % batch.length
    length = int(place.max()) + 1 if len(place) else 1
    return Batch(
        histories,
        sample * length + place,
        end - first,
        length,
        batch.users[first:end],
        replace(c, features=of(c.features, first * width, end * width), shape=(end - first, width)),
    )


def _slice(value: Tensor | Ragged, a: int, b: int) -> Tensor | Ragged:
    if not isinstance(value, Ragged):
        return value[a:b]
    offsets = value.offsets[a : b + 1]
    return Ragged(value.values[int(offsets[0]) : int(offsets[-1])], offsets - offsets[0])
