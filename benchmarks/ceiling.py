"""What the machine could do: matrix products and memory bandwidth, measured, and the work a sample takes, counted.

A model's *share of the ceiling* is the floating-point operations of its training samples per second, over those of
matrix products alone at the same shapes. The operations are counted for the model as described, so what an
implementation spends on padding, copies and optimizers lowers its share.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from atrank_lib.fast import kernels

HIDDEN, SPACES = 128, 8  # the default sizes of all models; embeddings are 64 for the item and 64 for its category
TRAINING = 3  # backward takes twice the forward's products
SECONDS, BYTES = 0.1, 1 << 28  # of one measurement


def _best(call: Callable[[], object], repeats: int = 5) -> float:
    """Seconds of one call: the median over ``repeats`` runs of about ``SECONDS``."""
    call()
    began = time.perf_counter()
    call()
    times = max(1, int(SECONDS / (time.perf_counter() - began)))
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        for _ in range(times):
            call()
        found.append((time.perf_counter() - began) / times)
    return statistics.median(found)


def products(rows: int, length: int) -> dict[str, float]:
    """GFLOP/s of products at the shapes of a batch with so many behaviors in histories of ``length``.

    ``kernel`` is the layer by `atrank_lib.fast.kernels`, the others are torch's.
    """
    d, size = HIDDEN, HIDDEN // SPACES
    x, w = torch.randn(rows, d), torch.randn(d, d)
    layer, gradient = torch.empty(rows, d), torch.empty(d, d)
    tables = max(1, rows // length) * SPACES
    q, k = torch.randn(tables, length, size), torch.randn(tables, size, length)
    scores = torch.empty(tables, length, length)
    linear = nn.Linear(d, d, bias=False).requires_grad_(False)
    return {
        "kernel": 2 * rows * d * d / _best(lambda: kernels.layers(x, [linear], [False])) / 1e9,
        "layer": 2 * rows * d * d / _best(lambda: torch.mm(x, w, out=layer)) / 1e9,
        "gradient": 2 * rows * d * d / _best(lambda: torch.mm(x.T, layer, out=gradient)) / 1e9,
        "scores": 2 * tables * length * length * size / _best(lambda: torch.bmm(q, k, out=scores)) / 1e9,
    }


def bandwidth() -> dict[str, float]:
    """GB/s of memory, read and written: copying, and adding a multiple of one array to another."""
    a, b, c = (torch.ones(BYTES // 4) for _ in range(3))
    return {
        "copy": 2 * BYTES / _best(lambda: a.copy_(b)) / 1e9,
        "triad": 3 * BYTES / _best(lambda: torch.add(b, c, alpha=3.0, out=a)) / 1e9,
    }


def measure(shapes: Sequence[tuple[int, int]], threads: int) -> list[dict[str, float]]:
    """One row for 1 thread and one for ``threads``, and for every shape (batch, length)."""
    rows = []
    for number in sorted({1, threads}):
        torch.set_num_threads(number)
        memory = bandwidth()
        for batch, length in shapes:
            found = products(batch * length, length)
            rows.append({"threads": number, "batch": batch, "length": length, **found, **memory})
    return rows


# multiply-adds of one sample's forward pass, as 2 operations each; n is the length of its history, c its candidates.
# Only matrix products count; look-ups, softmax and normalization are left out.


def atrank(n: np.ndarray, c: int = 2) -> np.ndarray:
    """Eq. 1 to 8: of every behavior eq. 1, Q, K, V, two layers of F_self, and keys and values for the targets."""
    d = HIDDEN
    return 2 * d * d * (8 * n + 4 * c) + 4 * d * n * n + 4 * d * n * c


def bi_lstm(n: np.ndarray, c: int = 2) -> np.ndarray:
    """Two directions of four gates, each reading the input and its own state."""
    d = HIDDEN
    return 2 * d * d * (n + 16 * n + 2 + c)


def cnn(n: np.ndarray, c: int = 2) -> np.ndarray:
    """Ten widths, 32 maps each."""
    d, maps = HIDDEN, 32
    return 2 * d * d * (n + c) + 2 * d * maps * n * sum(range(1, 11)) + 2 * 10 * maps * d


def din(n: np.ndarray, c: int = 2) -> np.ndarray:
    """The activation unit (d to 36 for each behavior and each candidate, d to 36 to 1 for every pair of them), and the
    top (3d to 80 to 40 to 1)."""
    d = HIDDEN
    return 2 * (d * (d + 36) * (n + c) + c * n * (d * 36 + 36) + c * (3 * d * 80 + 80 * 40 + 40))


def bst(n: np.ndarray, c: int = 2) -> np.ndarray:
    """A transformer layer over history and candidate, for each candidate anew, and the top (3d to d to 1)."""
    d = HIDDEN
    return 2 * d * d * (n + 2 * c) + c * (2 * d * d * 6 * (n + 1) + 4 * d * (n + 1) ** 2 + 2 * (3 * d * d + d))


FLOPS = {"atrank": atrank, "bi-lstm": bi_lstm, "cnn": cnn, "din": din, "bst": bst}
