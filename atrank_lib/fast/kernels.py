"""Linear layers and attention in compiled code of our own, for training and scoring on a CPU in 32-bit floats.

``kernels.c`` is compiled once, for the machine's own processor (``compiled``). Where there is no compiler, and for
anything but float32 on a CPU, torch's operators do the same work: ``ready`` decides, and results agree to rounding.
``ATRANK_KERNELS=0`` turns it off for a whole process, ``off()`` for a while. Chapter 11 says what is gained, and why.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ctypes import c_int32, c_int64, c_void_p
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from atrank_lib.fast.compiled import library

_SHARED = 2**22  # operations from which on all threads take part: some 20 microseconds of one
_on = os.environ.get("ATRANK_KERNELS", "1") != "0"


@contextmanager
def off() -> Iterator[None]:
    """Inside, torch's operators do all the work, on every thread.

    >>> with off():
    ...     ready(torch.zeros(2, 16))
    False
    """
    global _on
    before, _on = _on, False
    try:
        yield
    finally:
        _on = before


def ready(x: Tensor, *widths: int) -> bool:
    """Whether compiled code can take over: it is here and on, ``x`` is float32 on a CPU, outside of autocast,
    compilation and export, and ``widths``, the lengths of rows, are multiples of a vector register's (16 at most).

    >>> ready(torch.zeros(2, 16, dtype=torch.float64), 16), ready(torch.zeros(2, 10), 10)
    (False, False)
    """
    if not _on or x.dtype is not torch.float32 or x.device.type != "cpu":
        return False
    if torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    return (found := library()) is not None and not any(width % found.width() for width in widths)


def _threads(operations: int) -> int:
    """All or one: a team of another size would have to be made anew each time."""
    return torch.get_num_threads() if operations >= _SHARED else 1


def _at(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _all_at(tensors: Sequence[Tensor | None]) -> Any:
    return (c_void_p * len(tensors))(*map(_at, tensors))


class _Layers(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, relu: tuple[bool, ...], *parameters: Tensor | None) -> Any:
        weights, biases = parameters[::2], parameters[1::2]
        (n, inputs), out = x.shape, [w.shape[0] for w in weights if w is not None]
        ys, turned = [x.new_empty(n, o) for o in out], x.new_empty(sum(out) * inputs)
        ctx.call, ctx.relus = (n, inputs, len(out), (c_int64 * len(out))(*out)), (c_int32 * len(out))(*relu)
        given = _at(x), _all_at(weights), _all_at(biases), ctx.relus
        library().linear(*ctx.call, *given, _all_at(ys), _at(turned), _threads(2 * n * inputs * sum(out)))
        ctx.save_for_backward(x, *weights, *ys)
        ctx.biases = [bias is not None for bias in biases]
        return tuple(ys)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        x, *rest = ctx.saved_tensors
        n, inputs, count, sizes = ctx.call
        out, weights, ys = list(sizes), rest[:count], rest[count:]
        gradients = tuple(g.contiguous() for g in gradients)
        gx = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        threads, size = _threads(4 * n * inputs * sum(out)), sum(out) * (inputs + 1)
        sums = x.new_empty(threads, size)
        given = _at(x), _all_at(weights), _all_at(ys), ctx.relus, _all_at(gradients)
        library().linear_back(*ctx.call, *given, _at(gx), _at(sums), size, max(out), threads)
        found: list[Tensor | None] = []
        parts = sums[0].split([o * (inputs + 1) for o in out])
        for part, o, has_bias in zip(parts, out, ctx.biases, strict=True):
            found += [part[: o * inputs].view(o, inputs), part[o * inputs :] if has_bias else None]
        return gx, None, *found


def layers(
    x: Float[Tensor, "*n i"], linears: Sequence[nn.Linear], relu: Sequence[bool]
) -> tuple[Float[Tensor, "*n _"], ...]:
    """``x W^T + b`` of several linear layers that read the same rows, with a relu where it is asked for; by torch's
    operators where kernels cannot.

    >>> linear = nn.Linear(16, 32)
    >>> x = torch.randn(3, 16)
    >>> torch.allclose(layers(x, [linear], [True])[0], linear(x).relu(), atol=1e-6)
    True
    """
    weights, width = [linear.weight for linear in linears], x.shape[-1]
    fit = all(w.shape[1] == width and w.dtype is x.dtype and w.is_contiguous() for w in weights)
    if not fit or not ready(x, width, *map(len, weights)):  # torch also finds the words for what does not fit
        ys = [nn.functional.linear(x, linear.weight, linear.bias) for linear in linears]
        return tuple(y.relu() if positive else y for y, positive in zip(ys, relu, strict=True))
    parameters = [p for linear in linears for p in (linear.weight, linear.bias)]
    found = _Layers.apply(x.reshape(-1, width).contiguous(), tuple(relu), *parameters)
    return tuple(y.view(*x.shape[:-1], y.shape[-1]) for y in found) if x.dim() != 2 else found


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, keys: Tensor, values: Tensor, rows: "Rows", spaces: int, scale: float
    ) -> Tensor:
        out = torch.empty_like(queries)
        logs = queries.new_empty(len(queries), spaces)
        where = map(_at, (rows.queries, rows.keys, rows.query_order, rows.key_order))
        ctx.call = (len(rows.keys) - 1, *where, spaces, queries.shape[1], scale)
        ctx.threads = _threads(len(queries) * queries.shape[1] * (8 * len(keys) // max(1, len(rows.keys) - 1)))
        library().attend(*ctx.call, *map(_at, (queries, keys, values, out, logs)), ctx.threads)
        ctx.save_for_backward(queries, keys, values, out, logs)
        ctx.rows = rows  # which holds what the addresses of the call point to
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        given = ctx.saved_tensors
        found = [torch.empty_like(x) for x in given[:3]]
        gradient = gradient.contiguous()
        library().attend_back(*ctx.call, *map(_at, (*given, gradient, *found)), ctx.threads)
        return *found, None, None, None


@dataclass(frozen=True)
class Rows:
    """Which rows of two tables belong to sample ``i``: rows ``queries[i]`` to ``queries[i + 1]`` of the queries, and
    rows ``keys[i]`` to ``keys[i + 1]`` of keys and values.

    Where a table is kept in another order, ``query_order`` or ``key_order`` say where each of these rows stands.

    >>> Rows(queries=torch.tensor([0, 2, 4]), keys=torch.tensor([0, 3, 3])).keys.diff().tolist()  # of two samples
    [3, 0]
    """

    queries: Int[Tensor, " offsets"]
    keys: Int[Tensor, " offsets"]
    query_order: Int[Tensor, " q"] | None = None
    key_order: Int[Tensor, " n"] | None = None


def attend(
    queries: Float[Tensor, "q d"],
    keys: Float[Tensor, "n d"],
    values: Float[Tensor, "n d"],
    rows: Rows,
    spaces: int,
    scale: float,
) -> Float[Tensor, "q d"]:
    """``softmax(scale * Q K^T) V`` in every space, of each sample by itself, nothing padded; where ``ready``.

    Spaces stand side by side in the columns. A query of a sample without keys gets zeros. Weights are computed anew on
    the way back, so memory grows with the number of behaviors, not with its square.

    >>> keys = torch.zeros(3, 16)
    >>> values = torch.tensor([[1.0], [3.0], [7.0]]).repeat(1, 16)
    >>> rows = Rows(queries=torch.tensor([0, 1, 2]), keys=torch.tensor([0, 2, 3]))  # two behaviors, and one
    >>> if ready(keys, 16):
    ...     assert attend(torch.ones(2, 16), keys, values, rows, spaces=1, scale=1.0)[:, 0].tolist() == [2.0, 7.0]
    """
    shapes = [tuple(x.shape) for x in (queries, keys, values)]
    wanted = int(rows.queries[-1]), int(rows.keys[-1]), int(rows.keys[-1])
    if shapes != [(count, queries.shape[1]) for count in wanted]:
        raise ValueError(f"queries, keys and values {shapes} do not have the rows {wanted} of one width")
    return cast(Tensor, _Attention.apply(*(x.contiguous() for x in (queries, keys, values)), rows, spaces, scale))


class _LookUp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, indices: tuple[Tensor, ...], first: tuple[int, ...], added: tuple[bool, ...], *tables: Tensor
    ) -> Tensor:
        n, count = len(indices[0]), len(tables)
        rows, dims = ((c_int64 * count)(*(table.shape[i] for table in tables)) for i in (0, 1))
        width = max(start + dim for start, dim in zip(first, dims, strict=True))
        out = tables[0].new_empty(n, width)
        ctx.call = (_all_at(indices), (c_int64 * count)(*first), dims)
        ctx.indices, ctx.shapes, ctx.threads = indices, [table.shape for table in tables], _threads(64 * n * width)
        flags = (c_int32 * count)(*added)
        lost = library().look_up(n, width, count, _all_at(tables), rows, *ctx.call, flags, _at(out), ctx.threads)
        if lost:
            worst = [(int(i.min()), int(i.max()), len(table)) for i, table in zip(indices, tables, strict=True)]
            message = f"{lost} indices point outside of their tables; (least, largest, rows of the table): {worst}"
            raise IndexError(message)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        gradient = gradient.contiguous()
        found = [gradient.new_zeros(shape) for shape in ctx.shapes]
        library().look_up_back(*gradient.shape, len(found), *ctx.call, _at(gradient), _all_at(found), ctx.threads)
        return None, None, None, *found


def look_up(
    tables: Sequence[Float[Tensor, "_ _"]], indices: Sequence[Int[Tensor, " n"]], added: Sequence[bool]
) -> Float[Tensor, "n b"]:
    """Rows of tables side by side, those of ``added`` tables (as wide as all others together) on top; where ``ready``.

    >>> tables = [torch.eye(16), torch.ones(1, 16), torch.ones(2, 32)]
    >>> indices = [torch.tensor([0, 5]), torch.tensor([0, 0]), torch.tensor([1, 1])]
    >>> if ready(tables[0], 16, 32):
    ...     assert look_up(tables, indices, [False, False, True]).sum(dim=1).tolist() == [49.0, 49.0]
    """
    first, width = [], 0
    for table, on_top in zip(tables, added, strict=True):
        first.append(0 if on_top else width)
        width += 0 if on_top else table.shape[1]
    return cast(Tensor, _LookUp.apply(tuple(i.contiguous() for i in indices), tuple(first), tuple(added), *tables))


def catch_up(
    rows: Int[Tensor, " n"], missed: Float[Tensor, "n columns"], eps: float, tables: Sequence[Float[Tensor, "r d"]]
) -> list[Float[Tensor, "n d"]]:
    """What ``row_updates`` computes for ``rows`` of ``tables``: weights, both moments of Adam, and the average if there
    is one, brought up to date; where ``ready``.

    ``missed`` has for each row the fades of both moments and the rule of what the weight has missed; with an average,
    also the share of itself that it keeps and its own rule: 6 or 11 columns.
    """
    found = [table.new_empty(len(rows), table.shape[1]) for table in tables]
    n, dim = found[0].shape
    given, taken = ([*map(_at, some), None][:4] for some in (tables, found))
    library().catch_up(n, dim, _at(rows), _at(missed), eps, *given, *taken, _threads(32 * n * dim))
    return found


def write_rows(
    rows: Int[Tensor, " n"], tables: Sequence[Float[Tensor, "r d"]], values: Sequence[Float[Tensor, "n d"]]
) -> None:
    """Write ``values`` into ``rows`` of as many tables, in place; where ``ready``."""
    n, dim = values[0].shape
    library().write_rows(n, dim, _at(rows), len(tables), _all_at(tables), _all_at(values), _threads(32 * n * dim))
