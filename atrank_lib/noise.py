"""Noise inside a model: from torch's own generator or, where several threads compute, from one of each part's own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

_here = threading.local()


def noise() -> torch.Generator | None:
    """Where random numbers come from, on this thread; None: from torch's own generator."""
    return getattr(_here, "generator", None)


@contextmanager
def drawn_from(seed: int) -> Iterator[None]:
    """Inside, on this thread, noise follows from ``seed`` alone, whatever other threads draw."""
    _here.generator = torch.Generator().manual_seed(seed)
    try:
        yield
    finally:
        _here.generator = None


class Dropout(nn.Dropout):
    """``nn.Dropout`` that draws from ``noise()``."""

    def forward(self, input: Tensor) -> Tensor:
        generator = noise()
        if generator is None or not self.training or not self.p:
            return super().forward(input)
        return input * torch.empty_like(input).bernoulli_(1 - self.p, generator=generator) / (1 - self.p)
