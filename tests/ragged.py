"""A batch of packed behaviors in random order, and whose they are."""

from __future__ import annotations

import torch
from torch import Tensor

from atrank_lib.batches import Packing

HIDDEN = 6
LENGTHS = (3, 0, 1, 5)  # behaviors of each sample


def ragged(
    seed: int = 0, lengths: tuple[int, ...] = LENGTHS, hidden: int = HIDDEN
) -> tuple[Tensor, Packing, list[list[int]]]:
    """Packed behaviors in random order, whose they are, and the rows of each sample's behaviors, in their places."""
    generator = torch.Generator().manual_seed(seed)
    everyone = [(b, t) for b, n in enumerate(lengths) for t in range(n)]
    mixed = [everyone[i] for i in torch.randperm(len(everyone), generator=generator).tolist()]
    owner, place = torch.tensor(mixed, dtype=torch.long).view(-1, 2).unbind(dim=1)
    rows = [[mixed.index((b, t)) for t in range(n)] for b, n in enumerate(lengths)]
    s = torch.randn(len(mixed), hidden, generator=generator, dtype=torch.float64)
    return s, Packing.of(owner, place, len(lengths)), rows
