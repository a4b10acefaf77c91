"""What every contender trains on: the same samples, as plain arrays that any library can read.

Needs NumPy alone, so that it also runs in the environment of the other libraries.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

ITEMS, CATEGORIES = 63_001, 801  # Amazon Electronics, the paper's larger log
DAY = 86_400


@dataclass(frozen=True)
class Setting:
    """One row of the comparison: generated histories of a length, or (``file``, ``log``) those of a real log."""

    name: str
    batch: int
    length: int
    ragged: bool = True
    file: str | None = None  # a Work, for the contenders that cannot read the log
    log: str | None = None

    @property
    def real(self) -> bool:
        return self.log is not None

    def work(self) -> Work:
        if self.file is not None:
            return Work.load(Path(self.file))
        return synthetic(self.length, self.ragged, max(2_048, 4 * self.batch))


@dataclass(frozen=True)
class Work:
    """Samples: a history, what followed it (the positive), and an item that its user never touched (the negative).

    Items and categories are numbered from 1; 0 is for padding. The history of sample ``i`` is
    ``items[starts[i]:ends[i]]``, oldest first.
    """

    items: np.ndarray  # [behaviors]
    times: np.ndarray  # [behaviors] seconds
    starts: np.ndarray  # [samples]
    ends: np.ndarray  # [samples]
    moments: np.ndarray  # [samples] seconds: when the positive happened
    positives: np.ndarray  # [samples]
    negatives: np.ndarray  # [samples]
    category: np.ndarray  # [1 + number of items]: the category of each item, 0 for 0

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def lengths(self) -> np.ndarray:
        return self.ends - self.starts

    def save(self, file: Path) -> None:
        np.savez(file, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, file: Path) -> Work:
        with np.load(file, allow_pickle=False) as arrays:
            return cls(**{field.name: arrays[field.name] for field in fields(cls)})


def synthetic(
    length: int, ragged: bool, samples: int, items: int = ITEMS, categories: int = CATEGORIES, seed: int = 0
) -> Work:
    """Items by chance, a behavior a day; histories of ``length``, or (``ragged``) of 1 to ``length``, evenly."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, length + 1, samples) if ragged else np.full(samples, length)
    ends = lengths.cumsum()
    starts = ends - lengths
    days = np.arange(ends[-1]) - np.repeat(starts, lengths)
    return Work(
        items=rng.integers(1, items + 1, ends[-1]),
        times=days * DAY,
        starts=starts,
        ends=ends,
        moments=lengths * DAY,
        positives=rng.integers(1, items + 1, samples),
        negatives=rng.integers(1, items + 1, samples),
        category=np.concatenate([[0], rng.integers(1, categories + 1, items)]),
    )


def padded(work: Work, index: np.ndarray, length: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The histories of the samples ``index`` side by side: positions in ``work.items``, and which of them are real.

    ``[samples, length]``, filled up at the end; without a length, as wide as the longest of them.
    """
    lengths = work.lengths[index]
    places = np.arange(lengths.max() if length is None else length)
    real = places < lengths[:, None]
    return np.where(real, work.starts[index][:, None] + places, 0), real
