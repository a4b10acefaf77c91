"""A small run: its settings, and what its folder holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file

from atrank_lib.model import ATRankConfig
from atrank_lib.training import FitResult, Recipe

OPTIONS = ATRankConfig(embedding_size=4, hidden=8, spaces=2)
RECIPE = Recipe(epochs=2, batch_size=16, patience=None)
Train = Callable[..., FitResult]


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def same_weights(one: Path, two: Path) -> bool:
    """Whether two files hold the same tensors, bit by bit."""
    a, b = load_file(one), load_file(two)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
