"""A batch of packed behaviors in random order, and where they sit."""

from __future__ import annotations

import torch
from atrank_lib.layout import Layout
from torch import Tensor

HIDDEN = 6
LENGTHS = (3, 0, 1, 5)  # behaviors of each sample


def ragged(seed: int = 0, lengths: tuple[int, ...] = LENGTHS) -> tuple[Tensor, Layout, list[list[int]]]:
    """Packed behaviors in random order, where they sit, and the packed numbers of each sample's places."""
    generator = torch.Generator().manual_seed(seed)
    length = max(*lengths, 1)
    slots = torch.tensor([b * length + t for b, n in enumerate(lengths) for t in range(n)], dtype=torch.long)
    slots = slots[torch.randperm(len(slots), generator=generator)]
    where = {slot: number for number, slot in enumerate(slots.tolist())}
    places = [[where[b * length + t] for t in range(n)] for b, n in enumerate(lengths)]
    s = torch.randn(len(slots), HIDDEN, generator=generator, dtype=torch.float64)
    return s, Layout(slots, len(lengths), length), places
