"""What the live model in a page computes, for PyTorch: its weights, and a history that somebody has put together."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch

from atrank_lib.batches import Batch, Candidates, Features, GroupBatch, Packing, Ragged
from atrank_lib.grouping import Catalog, GroupedHistories
from atrank_lib.log.vocabularies import UNKNOWN
from atrank_lib.model import ATRank


def rounded(model: ATRank) -> ATRank:
    """A copy of the model whose weights have the 16 bits that a page gets."""
    model = copy.deepcopy(model).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(weight.half().to(weight.dtype))
    return model


def batch_of(
    histories: GroupedHistories, behaviors: Sequence[Sequence[Any]], group: str, objects: Sequence[int | None]
) -> tuple[Batch, list[int]]:
    """What a page computes, for PyTorch: behaviors as in ``examples_of`` and candidates of ``group``, in one sample.

    An object of None is one of which nothing is known. The model reads group by group: place ``i`` of its attention is
    behavior ``order[i]``, the second value returned.
    """
    order, parts = [], {}
    for number, name in enumerate(histories.groups):
        mine = [i for i, behavior in enumerate(behaviors) if behavior[0] == number]
        order += mine
        parts[name] = GroupBatch(
            features=_features(histories.catalogs[name], [behaviors[i][2] for i in mine]),
            actions=torch.tensor([behaviors[i][1] for i in mine], dtype=torch.long),
            elapsed=torch.tensor([behaviors[i][3] for i in mine], dtype=torch.long),
            positions=torch.full((len(mine),), -1),
        )
    candidates = Candidates(group, _features(histories.catalogs[group], objects), (1, len(objects)))
    packing = Packing.of(torch.zeros(len(order), dtype=torch.long), torch.arange(len(order)), size=1)
    return Batch(parts, packing, torch.zeros(1, dtype=torch.long), candidates), order


def _features(catalog: Catalog, objects: Sequence[int | None]) -> Features:
    """Features of objects, where None is one more, after all others: index 0, no tokens, a missing value."""
    features: Features = {}
    for name, value in catalog.features.items():
        if isinstance(value, Ragged):
            features[name] = Ragged(value.values, torch.cat([value.offsets, value.offsets[-1:]]))
        else:
            nothing = UNKNOWN if value.dim() == 1 else [0.0, 1.0]
            features[name] = torch.cat([value, value.new_tensor([nothing])])
    rows = [len(catalog) if o is None else o for o in objects]
    return Catalog(catalog.object_ids, features).take(torch.tensor(rows, dtype=torch.long))
