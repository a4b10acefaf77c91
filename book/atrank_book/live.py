"""The live model: how it is trained, whose histories it starts from, and what it computes, for PyTorch."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from atrank_lib.batches import Batch, Candidates, Features, GroupBatch, Packing, Ragged, Samples, TaskSamples
from atrank_lib.fast import plain, speed_up
from atrank_lib.grouping import Catalog, GroupedHistories
from atrank_lib.log import EventLog
from atrank_lib.log.vocabularies import UNKNOWN
from atrank_lib.model import ATRank
from atrank_lib.samples import Split, prepare
from atrank_lib.serve.browser import examples_of
from atrank_lib.training import Recipe, fit
from atrank_lib.variants import ATRankOptions, build

# The marketplace of chapter 1 with fewer objects: all of them travel with the page.
SIZES = {
    "users": 1700,
    "behaviors": 24,
    "items": 240,
    "queries": 80,
    "coupons": 40,
    "categories": 12,
    "brands": 16,
    "shops": 12,
}
LATEST = 12  # behaviors of a history that a page shows
PAIRS = (  # of a cause and the target that it led to, by their groups
    ("coupon", "item"),
    ("query", "item"),
    ("item", "item"),
    ("item", "query"),
    ("item", "coupon"),
    ("coupon", "coupon"),
)


def train(log: EventLog, profile: str, seed: int) -> tuple[GroupedHistories, Split, ATRank]:
    """The small model of a page, with the weights that the page gets."""
    histories, parts = prepare(log, "validated")
    options = ATRankOptions(embedding_size=16, hidden=32, spaces=4, embedding_dropout=0.1, linear_projection=True)
    model = speed_up(build(histories.schema, histories.vocabularies, options))
    recipe = Recipe(
        loss="pairwise",
        negatives=4,
        batch_size=64,
        learning_rate=3e-3,
        epochs=5 if profile == "fast" else 20,
        average=0.98,
        patience=None,
    )
    fit(model, histories, parts, recipe, seed=seed, progress=False)
    return histories, parts, rounded(plain(model))


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


def planted(
    causes: Mapping[str, pd.DataFrame], histories: GroupedHistories, samples: Samples
) -> tuple[np.ndarray, Int[Tensor, " s"]]:
    """Of each sample the group of its target's true cause ("": none), and the cause's place in that group's block.

    ``causes`` is the truth of a simulated log, one table a group, whose rows are those of the log.
    """
    task = samples.target_group
    rows = causes[task].iloc[histories.groups[task].rows[samples.positions].numpy()]
    groups = np.asarray(rows["cause_group"].astype(str))
    place = np.full(len(samples), -1)
    for name, group in histories.groups.items():
        back = np.argsort(group.rows.numpy())  # from a row of the log to a place
        mine = groups == name
        place[mine] = back[rows["cause_row"].to_numpy()[mine]]
    return groups, torch.from_numpy(place)


def caused_examples(
    model: ATRank, histories: GroupedHistories, tests: TaskSamples, causes: Mapping[str, pd.DataFrame]
) -> list[dict[str, Any]]:
    """A history for each of PAIRS as in ``examples_of``: of the first test user, each only once, for whom a behavior
    of the first group led to a target of the second, and is among the LATEST. ``cause`` is its number there.

    Raises ValueError when no user is left for a pair.
    """
    taken: set[object] = set()
    return [_caused_example(model, histories, tests[task], causes, cause, taken) for cause, task in PAIRS]


def _caused_example(
    model: ATRank,
    histories: GroupedHistories,
    samples: Samples,
    causes: Mapping[str, pd.DataFrame],
    cause: str,
    taken: set[object],
) -> dict[str, Any]:
    groups, place = planted(causes, histories, samples)
    group = histories.groups[cause]
    for number in np.flatnonzero(groups == cause).tolist():
        one = samples[torch.tensor([number])]
        user, at = histories.user_ids[int(one.users)], int(place[number])
        (found,) = examples_of(histories, one, model.histories, LATEST)
        age = int(one.times) - int(group.timestamps[at])
        row = [list(histories.groups).index(cause), int(group.actions[at]), int(group.objects[at]), age]
        if user not in taken and row in found["behaviors"]:
            taken.add(user)
            label = f"{user}: {cause} leads to {samples.target_group}"
            return {**found, "label": label, "cause": found["behaviors"].index(row)}
    raise ValueError(f"no {samples.target_group} was caused by a {cause}")
