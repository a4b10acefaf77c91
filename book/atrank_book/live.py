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

from atrank_book.page import examples_of
from atrank_lib.batches import Batch, Candidates, Features, GroupBatch, Packing, Ragged, Samples, TaskSamples
from atrank_lib.fast import plain, speed_up
from atrank_lib.grouping import Catalog, GroupedHistories
from atrank_lib.log import EventLog
from atrank_lib.log.vocabularies import UNKNOWN
from atrank_lib.model import ATRank
from atrank_lib.samples import Split, build_batch, prepare
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
FIRST = 10  # places of a page in a shop
PAIRS = {  # of a cause and the target that it led to, by their groups
    ("coupon", "item"): "a coupon leads to an item",
    ("query", "item"): "a query leads to an item",
    ("item", "item"): "an item leads to an item",
    ("item", "query"): "an item leads to a query",
    ("item", "coupon"): "an item leads to a coupon",
    ("coupon", "coupon"): "a coupon leads to a coupon",
}
NAMES = ("Ana", "Ben", "Cleo", "Dora", "Emil", "Fay")
NORA = "user1000"  # whom "ATRank in a quarter of an hour" follows


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
    """A history for each of PAIRS, then Nora's where the log has her, as in ``examples_of``, with what was planted and what it does.

    Of the users whose target was caused by one of the LATEST behaviors, and is among the model's FIRST, it is the one whose
    target falls furthest when that cause is erased: from ``rank`` to ``erased``. ``causes`` has, for each behavior and
    then for the target, the place of its cause in the list (-1: it has none, None: it is older) and what both share.

    Raises ValueError when no user is left for a pair.
    """
    examples: list[dict[str, Any]] = []
    for name, ((cause, task), label) in zip(NAMES, PAIRS.items(), strict=True):
        groups, _ = planted(causes, histories, tests[task])
        chosen = tests[task][torch.from_numpy(np.flatnonzero(groups == cause))]
        found = [_example(model, histories, chosen[s : s + 1], causes) for s in range(len(chosen))]
        taken = {example["user"] for example in examples} | {NORA}
        shown = [e for e in found if e["user"] not in taken and e["rank"] <= FIRST and e["causes"][-1][0] is not None]
        if not shown:
            raise ValueError(f"no {task} was caused by a {cause}")
        erased = [_erased(model, histories, example) for example in shown]
        examples.append(max(erased, key=lambda example: example["erased"]) | {"label": f"{name}: {label}"})
    items = tests["item"]
    for number in np.flatnonzero(histories.user_ids[items.users.numpy()] == NORA).tolist()[:1]:
        example = _erased(model, histories, _example(model, histories, items[number : number + 1], causes))
        examples.append(example | {"label": "Nora: the quarter of an hour"})
    return examples


def _example(
    model: ATRank, histories: GroupedHistories, one: Samples, causes: Mapping[str, pd.DataFrame]
) -> dict[str, Any]:
    """One sample's history, its planted causes, and its target's rank."""
    (found,) = examples_of(histories, one, model.histories, LATEST)
    behaviors, names = found["behaviors"], list(histories.groups)
    rows: dict[int, tuple[str, int]] = {}  # of the log, by place
    for name, group in build_batch(histories, one, one.objects[:, None], model.histories).histories.items():
        block = histories.groups[name]
        columns = group.positions.tolist(), group.actions.tolist(), group.elapsed.tolist()
        for position, action, elapsed in zip(*columns, strict=True):
            behavior = [names.index(name), action, int(block.objects[position]), elapsed]
            if behavior in behaviors:
                rows[behaviors.index(behavior)] = name, int(block.rows[position])
    place: dict[tuple[str, int], int] = {row: i for i, row in rows.items()} | {("", -1): -1}
    task = one.target_group
    rows[len(behaviors)] = task, int(histories.groups[task].rows[one.positions])
    planted_here = [causes[name].iloc[row] for _, (name, row) in sorted(rows.items())]
    because = [
        [place.get((cause["cause_group"], int(cause["cause_row"]))), cause["feature"].replace("_", " ")]
        for cause in planted_here
    ]
    return found | {"user": found["label"], "causes": because, "rank": rank(model, histories, found, behaviors)}


def _erased(model: ATRank, histories: GroupedHistories, example: dict[str, Any]) -> dict[str, Any]:
    """The example with the rank that its target has without its cause; as it was, where that is not shown."""
    cause, behaviors = example["causes"][-1][0], example["behaviors"]
    left = [behavior for place, behavior in enumerate(behaviors) if place != cause]
    return example | {"erased": rank(model, histories, example, left)}


def rank(
    model: ATRank, histories: GroupedHistories, example: dict[str, Any], behaviors: Sequence[Sequence[Any]]
) -> int:
    """The place of an example's target (as in ``examples_of``) among all objects of its group, given these behaviors."""
    task = list(histories.groups)[example["group"]]
    batch, _ = batch_of(histories, behaviors, task, range(len(histories.catalogs[task])))
    with torch.no_grad():
        scores = model(batch).scores[0]
    return 1 + int((scores > scores[example["object"]]).sum())
