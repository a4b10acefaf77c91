"""Time encoding: elapsed time in buckets that double, looked up like a word (paper: *Temporal Encoding*)."""

from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from atrank_lib.log.schema import SECONDS, TICKS, TimeScale


def _edges(unit: str | float, buckets: int, edges: Sequence[float] | None, ticks: int) -> Tensor:
    """Lower edges of buckets 1, 2, ... in ticks; whole numbers stay exact integers."""
    if isinstance(unit, str) and unit not in SECONDS:
        raise ValueError(f"unit {unit!r}; use one of {list(SECONDS)} or a number of seconds")
    width = (SECONDS[unit] if isinstance(unit, str) else unit) * ticks
    if width <= 0:
        raise ValueError(f"unit {unit!r}; a unit of time is longer than zero seconds")
    if buckets < 2:
        raise ValueError(f"buckets={buckets}; at least 2 are needed")
    steps = [2**k for k in range(buckets - 1)] if edges is None else list(edges)
    if any(after <= before for before, after in pairwise(steps)):
        raise ValueError(f"edges={steps}; edges must ascend, each larger than the one before")
    # decimal: 1.1 days are 95,040 seconds, but 1.1 * 86,400 is a little more in binary
    scaled = [Decimal(str(step)) * Decimal(str(width)) for step in steps]
    if all(s == s.to_integral_value() for s in scaled):
        return torch.tensor([min(int(s), 2**63 - 1) for s in scaled], dtype=torch.long)
    return torch.tensor([float(s) for s in scaled], dtype=torch.float64)


def bucketize_elapsed(
    elapsed: Tensor | np.ndarray | Sequence[float] | float,
    unit: str | float = "day",
    *,
    buckets: int = 16,
    edges: Sequence[float] | None = None,
) -> Int[Tensor, "*shape"]:
    """Bucket of each elapsed time: ``[0, 1) -> 0, [1, 2) -> 1, [2, 4) -> 2, ..., [2^k, 2^(k+1)) -> k + 1``.

    ``elapsed`` are seconds, any shape, not negative; ``unit`` is "second", "minute", "hour", "day", "week", or a number
    of seconds. The last of the ``buckets`` is open; ``edges`` replaces the powers of two, in units. ValueError for a
    negative or missing elapsed time, an unknown unit, or edges that do not ascend.

    >>> bucketize_elapsed([0, 86_399, 86_400, 3 * 86_400, 4 * 86_400], unit="day")
    tensor([0, 0, 1, 2, 3])
    """
    # through NumPy, where a Python float keeps its 64 bits
    values = elapsed if isinstance(elapsed, Tensor) else torch.as_tensor(np.array(elapsed))
    if bool((values < 0).any()) or bool(values.isnan().any()):
        worst = values[(values < 0) | values.isnan()].flatten()[0].item()
        raise ValueError(f"elapsed time {worst}: a behavior cannot come after the moment of ranking; cut the history")
    lower = _edges(unit, buckets, edges, ticks=1)
    if lower.is_floating_point() or values.is_floating_point():
        lower, values = lower.double(), values.double()
    return torch.bucketize(values, lower, right=True)


class TimeEncoding(nn.Module):
    """``lookup_i^t(bucketize_i(t))``: one group's own table of time buckets (never shared between groups).

    >>> encoding = TimeEncoding(TimeScale(unit="day"), size=4)
    >>> encoding(torch.tensor([0, 3 * 86_400])).shape  # seconds ago
    torch.Size([2, 4])
    """

    edges: Tensor

    def __init__(self, scale: TimeScale, size: int, timestamp_unit: str = "s") -> None:
        super().__init__()
        # elapsed times are whole, so edges may be: exact, and no cast of the model touches them
        edges = _edges(scale.unit, scale.buckets, scale.edges, TICKS[timestamp_unit]).ceil().long()
        self.register_buffer("edges", edges, persistent=False)
        self.buckets = len(self.edges) + 1
        self.table = nn.Embedding(self.buckets, size)
        nn.init.normal_(self.table.weight, std=size**-0.5)

    def bucketize(self, elapsed: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
        """Buckets of elapsed times that are given in timestamp units."""
        return torch.bucketize(elapsed, self.edges, right=True)

    def forward(self, elapsed: Int[Tensor, " n"]) -> Float[Tensor, "n size"]:
        """What is added to the embedding of each behavior."""
        return self.table(self.bucketize(elapsed))
