"""What the adapters share: samples as the rows that point-wise libraries read, and the measuring of their loops.

The sizes are those of `atrank_lib`: embeddings of 64 for an item and its category, 8 heads on 128 dimensions, DIN's
activation unit of 36 and top of 80 and 40, no dropout; anything else is each library's default, Adam included.
"""

from __future__ import annotations

import importlib.metadata
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from itertools import cycle, islice
from typing import Any

import numpy as np

from benchmarks.work import Setting, padded

EMBEDDING, HEADS, ACTIVATION, TOP, RATE = 64, 8, [36], [80, 40], 1e-3


def versions(*libraries: str) -> dict[str, str]:
    """Versions of a library and of what decides its speed."""
    return {name: importlib.metadata.version(name) for name in (*libraries, "torch", "numpy")}


class Peer(ABC):
    """A contender of another library. A subclass makes its model and names its loader and its loop.

    These libraries score one target a row. On a real log a sample is therefore two rows, its positive and its
    negative, and every batch comes from the library's own loader while the clock runs. On generated samples a row is
    a sample, positives and negatives in turn, and the batches are ready before the clock starts.
    """

    def __init__(self, name: str, setting: Setting) -> None:
        work = setting.work()
        self.setting, self.length = setting, setting.length
        sample = np.repeat(np.arange(len(work)), 2) if setting.real else np.arange(len(work))
        positive = np.arange(len(sample)) % 2 == 0
        at, real = padded(work, sample, self.length)
        item = np.where(positive, work.positives[sample], work.negatives[sample])
        history = np.where(real, work.items[at], 0)
        self.items, self.categories = len(work.category), int(work.category.max()) + 1
        self.category = work.category
        self.columns = {
            "item": item,
            "category": work.category[item],
            "hist_item": history,
            "hist_category": work.category[history],
            "length": real.sum(axis=1),
            "label": positive.astype(np.float32),
        }
        self.available = len(work)
        self.build(name)
        self.ready: list[Any] = []
        if not setting.real:
            self.ready = list(self.loader(self.columns))

    @abstractmethod
    def build(self, name: str) -> None:
        """Make the library's model of this name, at the sizes of all contenders."""

    @abstractmethod
    def loader(self, columns: dict[str, np.ndarray]) -> Iterable[Any]:
        """The library's own loader of these rows, shuffled."""

    @abstractmethod
    def run(self, batches: Iterable[Any]) -> None:
        """The library's own loop over these batches."""

    def train(self, samples: int) -> tuple[int, float]:
        """Train on so many samples; returns how many there were, and the seconds."""
        if not self.setting.real:
            batches = -(-samples // self.setting.batch)
            began = time.perf_counter()
            self.run(list(islice(cycle(self.ready), batches)))
            return batches * self.setting.batch, time.perf_counter() - began
        chosen = np.arange(self.available)
        if samples < self.available:
            chosen = np.random.default_rng(0).permutation(self.available)[:samples]
        rows = np.stack([2 * chosen, 2 * chosen + 1], axis=1).ravel()
        batches = self.loader({name: column[rows] for name, column in self.columns.items()})
        began = time.perf_counter()
        self.run(batches)
        return len(chosen), time.perf_counter() - began
