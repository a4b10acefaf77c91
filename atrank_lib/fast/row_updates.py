"""Updates that touch only the rows of a batch, and still are Adam.

A step reads a few hundred rows of a table, yet a plain step writes a gradient as large as the table and moves every
row: Adam's momentum goes on moving rows whose gradient is zero, and averaged weights follow. Here a step works on a
small table of the batch's rows alone. The others catch up in closed form when a batch reads them, or an epoch ends.

With gradient zero after step ``s``, Adam does at step ``j`` to a number ``p`` with moments ``m`` and ``v``, where
``lr`` is the learning rate and ``c_j = 1 - beta^j`` corrects the bias::

    m_j = beta_1^(j-s) m_s,   v_j = beta_2^(j-s) v_s,   p_j = p_(j-1) - lr_j / c1_j * m_j / (sqrt(v_j / c2_j) + eps)

so with ``w_j = lr_j sqrt(c2_j) / c1_j * r^(j-s)``, ``r = beta_1 / sqrt(beta_2)``, and ``x_j = sqrt(c2_j)
beta_2^(-(j-s)/2)`` a row that last caught up after step ``s`` has missed a sum over the steps since::

    p_t = p_s - m_s sum_j w_j / (sqrt(v_s) + eps x_j)

Without ``eps`` the sum of ``w_j`` is one number for each ``s``, exact for whatever the row holds. With
``eps`` it is replaced by a rule of Gauss, ``sum_i q_i / (sqrt(v_s) + eps x_i)``, whose two points ``x_i`` and weights
``q_i`` are again the same for all rows of one ``s``. It is right where ``eps`` is small beside ``sqrt(v_s)`` and where
it is large, and in between within a hundredth of a full step (the tests compare). Averages with decays ``d_j``,
``u_j = d_j u_(j-1) + (1 - d_j) p_j``, become ``A u_s + (1 - A) p_s``, where ``A`` is the product of the decays, less
the same kind of sum with weights of their own.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.optim.adam import adam

from atrank_lib.batches import Batch, Features, Ragged
from atrank_lib.embedding import Table
from atrank_lib.fast import kernels
from atrank_lib.heads import contexts
from atrank_lib.log.schema import Schema
from atrank_lib.log.vocabularies import UNKNOWN
from atrank_lib.ranking import Model
from atrank_lib.training import Recipe, Steps, Turn

_MOMENTS = ("exp_avg", "exp_avg_sq")  # Adam's state, as torch names it
_LEAST = 8_192  # rows: a smaller table is cheaper to update as a whole, whatever the batch
_WINDOW = 4_096  # after this many steps every row catches up, so that what is kept for each past step stays small


def large(batch_size: int) -> int:
    """From how many rows on a table is better updated by rows: measured, where both ways take the same time."""
    return max(_LEAST, 100 * batch_size)


class _Missed:
    """What rows missed that last caught up after 0, 1, ... ``now`` steps: ``sums[k]`` is ``sum_j w_j x_j^(k-1)`` of
    weights, then of averages where there are any; ``a`` is their ``A``. ``adam`` are the two betas, and how many steps
    Adam has taken before; None for SGD, by which nothing is missed."""

    def __init__(self, adam: tuple[float, float, float] | None, averaged: bool) -> None:
        self.adam, self.now = adam, 0
        self.sums = torch.zeros(4, 1 + averaged, _WINDOW + 1, dtype=torch.float64)
        self.a = torch.ones(_WINDOW + 1, dtype=torch.float64)
        self.taken = torch.zeros(_WINDOW + 1, dtype=torch.long)  # steps of Adam until then, here
        if adam is not None:
            age = torch.arange(_WINDOW + 1, dtype=torch.float64)
            self.fade = torch.stack([(adam[0] / adam[1] ** (k / 2)) ** age for k in range(4)])

    def step(self, rate: float | None, decay: float | None) -> None:
        """One more step: of Adam at this learning rate (None: it took none), then averaged with this decay."""
        past, self.now = slice(0, self.now + 1), self.now + 1
        self.taken[self.now] = self.taken[self.now - 1] + (rate is not None)
        if rate is not None and self.adam is not None:
            t = self.adam[2] + int(self.taken[self.now])
            c1, c2 = 1 - self.adam[0] ** t, (1 - self.adam[1] ** t) ** 0.5
            scale = torch.tensor([[rate * c2 / c1 * c2 ** (k - 1)] for k in range(4)], dtype=torch.float64)
            self.sums[:, 0, past] += scale * self.fade[:, self.taken[self.now] - self.taken[past]]
        if decay is not None:
            self.a[past] *= decay
            self.sums[:, 1, past] = decay * self.sums[:, 1, past] + (1 - decay) * self.sums[:, 0, past]

    def rule(self, last: Int[Tensor, " r"]) -> Float[Tensor, "kinds 4 r"]:
        """``x_1, q_1, x_2, q_2`` of weights, and of averages, for rows that last caught up after these steps. Gauss's
        rule for the weights ``w_j / x_j``: its points are the roots of ``x^2 - 2 b x + c``, which is orthogonal to 1
        and x."""
        zeroth, first, second, third = self.sums[:, :, last]
        spread = zeroth * second - first**2
        single = spread <= 1e-6 * first**2  # one step, none, or as good as one: one point says it
        b = (zeroth * third - first * second) / spread / 2
        half = (b**2 - (first * third - second**2) / spread).sqrt()
        mean = torch.where(zeroth > 0, first / zeroth, 1.0)
        x1, x2 = torch.where(single, mean, b - half), torch.where(single, mean, b + half)
        q2 = torch.where(single, 0.0, (first - x1 * zeroth) / (2 * half) * x2)
        return torch.stack([x1, first - q2, x2, q2], dim=1)


class _LargeTable:
    """A table, its optimizer's state and its average, and up to which step every row has caught up."""

    def __init__(self, module: nn.Embedding, optimizer: torch.optim.Optimizer, averaged: Tensor | None) -> None:
        self.module, self.weight, self.optimizer, self.averaged = module, module.weight, optimizer, averaged
        self.last = torch.zeros(len(self.weight), dtype=torch.long)
        self._begin()

    def _begin(self) -> None:
        """Count anew, from the optimizer's state as it is now: a checkpoint may have put another in its place."""
        self.group, self.state = self.optimizer.param_groups[0], dict[str, Tensor]()
        if "betas" in self.group:
            self.state = self.optimizer.state[self.weight]
            if not self.state:
                self.state["step"] = torch.tensor(0.0)
                self.state.update({name: torch.zeros_like(self.weight) for name in _MOMENTS})
        adam = (*self.group["betas"], float(self.state["step"])) if self.state else None
        self.missed = _Missed(adam, self.averaged is not None)
        self.last.zero_()

    def _tables(self) -> list[Float[Tensor, "rows _"]]:
        """The weights, Adam's moments and the average, as far as there are any."""
        moments = [self.state[name] for name in _MOMENTS if self.state]
        return [self.weight.detach(), *moments, *([] if self.averaged is None else [self.averaged])]

    def shrink(self, rows: Int[Tensor, " r"]) -> None:
        """Put the rows alone in the module's place of the table."""
        if not self.missed.now:
            self._begin()
        self.rows = rows
        self.held = self._up_to_date(rows)
        self.module.weight = nn.Parameter(self.held[0])

    def step(self, decay: float | None) -> None:
        """Move the rows by the gradient of the small table, then their average with this decay."""
        small, rate = self.module.weight, self.group["lr"]
        weight, gradient = small.detach(), small.grad
        if gradient is not None and not self.state:
            weight.sub_(gradient, alpha=rate)
        elif gradient is not None:
            (m, v), step = self.held[1:3], self.state["step"]
            beta1, beta2 = self.group["betas"]
            numbers = {"lr": rate, "beta1": beta1, "beta2": beta2, "eps": self.group["eps"], "weight_decay": 0.0}
            adam([weight], [gradient], [m], [v], [], [step], fused=True, amsgrad=False, maximize=False, **numbers)
        self.missed.step(None if gradient is None else rate, decay)
        if decay is not None:
            self.held[-1].lerp_(weight, 1 - decay)
        self._write(self.rows, self.held)

    def catch_up(self) -> None:
        """Bring every row up to date and begin to count anew."""
        for rows in torch.arange(len(self.weight)).split(65_536):  # so that memory stays small
            self._write(rows, self._up_to_date(rows))
        self._begin()

    def _up_to_date(self, rows: Int[Tensor, " r"]) -> list[Float[Tensor, "r _"]]:
        """Weights, Adam's moments and the average of ``rows``, as if every step so far had moved all rows."""
        missed, last, eps = self.missed, self.last[rows], self.group.get("eps", 0.0)
        if self.state:
            age = (missed.taken[missed.now] - missed.taken[last]).double()
            fades = [beta**age for beta in self.group["betas"]]
            rule = missed.rule(last)
            if kernels.ready(self.weight, self.weight.shape[1]):
                parts = [torch.stack(fades), rule[0], *([missed.a[last][None], rule[1]] if len(rule) > 1 else [])]
                return kernels.catch_up(rows, torch.cat(parts).T.float().contiguous(), eps, self._tables())
        weight, *others = (table.index_select(0, rows) for table in self._tables())  # faster than an index in brackets
        lost, faded = list[Tensor](), list[Tensor]()
        if self.state:
            m, v = others[:2]
            root = v.sqrt()
            for kind in rule:
                x1, q1, x2, q2 = (_column(x, weight) for x in kind)
                lost.append(m * (q1 / (root + eps * x1) + q2 / (root + eps * x2)))
            faded = [moment * _column(fade, weight) for moment, fade in zip((m, v), fades, strict=True)]
        now = weight - lost[0] if lost else weight
        if self.averaged is None:
            return [now, *faded]
        average = torch.lerp(weight, others[-1], _column(missed.a[last], weight))
        return [now, *faded, average - lost[1] if lost else average]

    def _write(self, rows: Int[Tensor, " r"], values: list[Float[Tensor, "r _"]]) -> None:
        if kernels.ready(self.weight, self.weight.shape[1]):
            kernels.write_rows(rows, self._tables(), values)
        else:
            for table, value in zip(self._tables(), values, strict=True):
                table.index_copy_(0, rows, value)
        self.last[rows] = self.missed.now


def _column(values: Float[Tensor, " r"], like: Tensor) -> Float[Tensor, "r 1"]:
    return values.to(like.dtype)[:, None]


class RowSteps(Steps):
    """Steps that touch only the rows their batches hold of tables with at least ``least`` rows; see ``large``. With
    weight decay, or on another device, all rows move in every step, as in ``Steps``."""

    def __init__(self, model: Model, recipe: Recipe, tasks: Mapping[str, int], least: int | None = None) -> None:
        super().__init__(model, recipe, tasks)
        least = large(recipe.batch_size) if least is None else least
        pairs = {id(p): (p, a) for p, a in zip(self.leading, self.following, strict=True)}
        self.tables: dict[str, list[_LargeTable]] = {}
        if not recipe.weight_decay and self.leading[0].device.type == "cpu":
            for module in model.modules():
                if isinstance(module, Table) and len(module.weight) >= least:
                    averaged = None if self.average is None else pairs[id(module.weight)][1].detach()
                    table = _LargeTable(module, self.optimizer, averaged)
                    self.tables.setdefault(module.vocabulary, []).append(table)
        for table in self._all():
            del pairs[id(table.weight)]
        self.leading, self.following = [p for p, _ in pairs.values()], [a for _, a in pairs.values()]
        self.marks = {v: torch.zeros(len(t[0].weight), dtype=torch.bool) for v, t in self.tables.items()}
        self.places = {v: torch.zeros(len(t[0].weight), dtype=torch.long) for v, t in self.tables.items()}

    def _all(self) -> list[_LargeTable]:
        return [table for tables in self.tables.values() for table in tables]

    def parameters(self) -> list[nn.Parameter]:
        """The model's parameters; while a step is taken, large tables' rows at hand."""
        return [*super().parameters(), *(cast(nn.Parameter, t.module.weight) for t in self._all())]

    def take(self, turn: Turn, rate: float, generator: torch.Generator) -> float:
        if not self.tables:
            return super().take(turn, rate, generator)
        for _, _, batch in turn:
            _replaced(batch, self.model.schema, self.mark)
        for vocabulary, tables in self.tables.items():
            mark, place = self.marks[vocabulary], self.places[vocabulary]
            mark[UNKNOWN] = True  # and it stays index 0, for those who replace an id by unknown
            rows = self.seen(mark).nonzero().squeeze(1)
            mark[rows] = False
            place[rows] = torch.arange(len(rows))
            for table in tables:
                table.shrink(rows)
        try:
            small = [(name, count, _replaced(batch, self.model.schema, self.place)) for name, count, batch in turn]
            return super().take(small, rate, generator)
        finally:
            for table in self._all():
                table.module.weight = table.weight

    def mark(self, vocabulary: str, index: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
        """Note that the rows ``index`` are read."""
        if vocabulary in self.marks:
            self.marks[vocabulary][index] = True
        return index

    def place(self, vocabulary: str, index: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
        """Where the rows ``index`` stand among those at hand."""
        return self.places[vocabulary][index] if vocabulary in self.places else index

    def seen(self, mark: Bool[Tensor, " rows"]) -> Bool[Tensor, " rows"]:
        """Which rows of a table this step reads."""
        return mark

    def move(self, rate: float) -> float | None:
        decay = super().move(rate)
        for table in self._all():
            table.step(decay)
            if table.missed.now == _WINDOW:
                table.catch_up()
        return decay

    def settle(self) -> None:
        """Bring every row up to date."""
        for table in self._all():
            table.catch_up()


def _replaced(batch: Batch, schema: Schema, change: Callable[[str, Tensor], Tensor]) -> Batch:
    """A batch that has ``change(vocabulary, indices)`` in the place of all its indices."""

    def of(group: str, features: Features, schema: Schema = schema) -> Features:
        found = dict(features)
        for name, value in features.items():
            if schema.groups[group].features[name].kind != "continuous":
                new = partial(change, schema.vocabulary(group, name))
                found[name] = replace(value, values=new(value.values)) if isinstance(value, Ragged) else new(value)
        return found

    c, known = batch.candidates, contexts(schema)
    context = c.context if c.context is None or known is None else of(c.group, c.context, known)
    return replace(
        batch,
        histories={g: replace(b, features=of(g, b.features)) for g, b in batch.histories.items()},
        candidates=replace(c, features=of(c.group, c.features), context=context),
    )
