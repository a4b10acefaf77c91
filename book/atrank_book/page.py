"""A trained model for a web page: one JSON document with everything that computes its scores and attention.

The document holds weights (16 bits each, which is what a page needs), vocabularies, time buckets, the objects of the
log and some histories to start from. ``live_model.js`` reads it; nothing else is needed, no server either.
"""

import base64
import json
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from atrank_lib.batches import Ragged, Samples, TaskSamples
from atrank_lib.grouping import GroupedHistories
from atrank_lib.log.schema import SECONDS, TICKS, key
from atrank_lib.model import ATRank
from atrank_lib.samples import build_batch
from atrank_lib.variants import options_of

FORMAT = "atrank-browser-1"
# what a page does not compute
MISSING = {"time": "one_hot_12", "residual": "twice", "target_residual": "twice", "target": "raw", "action": "beside"}
MISSING |= {"weighting": "sum"}


def browser_document(model: ATRank, histories: GroupedHistories, examples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Everything that a page needs to compute the model, as plain JSON.

    Args:
        model: a trained model; every option of its config is supported, but for ``MISSING``.
        histories: a log as the model sees it; its objects become the page's.
        examples: histories to start from, see ``examples_of``.

    Raises:
        ValueError: an option that pages do not know; a weight is not finite or does not fit 16 bits.

    >>> sorted(browser_document(model, histories, examples=[]))
    ['config', 'examples', 'format', 'groups', 'histories', 'name', 'vocabularies', 'weights']
    """
    options, attention = options_of(model), model.target.attention
    if unknown := [f"{name}={value!r}" for name, value in MISSING.items() if getattr(options, name) == value]:
        raise ValueError(f"a page does not compute {', '.join(unknown)}; train a model without")
    shared = options.target_attention == "shared" and options.blocks > 0
    derived = {"sizes": list(attention.sizes), "scale": attention.scale, "shared": shared}
    return {
        "format": FORMAT,
        "name": model.schema.name,
        "config": options.model_dump(mode="json") | derived,
        "vocabularies": {name: list(words) for name, words in histories.vocabularies.words.items()},
        "histories": list(model.histories),
        "groups": [_group(model, histories, name) for name in model.schema.groups],
        "weights": pack_weights(model),
        "examples": list(examples),
    }


def _group(model: ATRank, histories: GroupedHistories, name: str) -> dict[str, Any]:
    group, time = model.schema.groups[name], model.embedding(name).time
    catalog = histories.catalogs[name]
    features: list[dict[str, Any]] = []
    columns: list[list[Any]] = []
    for feature, spec in group.features.items():
        entry: dict[str, Any] = {"name": feature, "kind": spec.kind, "module": key(feature)}
        values = catalog.features[feature]
        if spec.kind == "continuous":
            entry["mean"], entry["deviation"] = histories.vocabularies.scales[f"{name}.{feature}"]
            raw = histories.tables[name][feature].to_numpy(float)
            columns.append([value if math.isfinite(value) else None for value in raw.tolist()])
        else:
            entry["vocabulary"] = model.schema.vocabulary(name, feature)
            entry["table"] = key(entry["vocabulary"])
            if isinstance(values, Ragged):
                columns.append([part.tolist() for part in values.values.split(values.offsets.diff().tolist())])
            else:
                columns.append(values.tolist())
        features.append(entry)
    return {
        "name": name,
        "module": key(name),
        "actions": list(group.actions),
        "features": features,
        # in the unit of the log's timestamps: the number of edges that an age has reached is its bucket
        "time": {
            "edges": time.edges.tolist(),
            "unit": SECONDS[group.time.unit] * TICKS[model.schema.timestamp_unit],
            "second": TICKS[model.schema.timestamp_unit],
            "name": group.time.unit,
        },
        "objects": {"ids": list(catalog.object_ids), "columns": columns},
    }


def pack_weights(model: nn.Module) -> dict[str, Any]:
    """All parameters, each once: shapes by name, and their numbers end to end as float16 in base64 (little endian)."""
    shapes: dict[str, list[int]] = {}
    numbers: list[np.ndarray] = []
    for name, weight in model.named_parameters():
        half = weight.detach().cpu().half()
        if not bool(half.isfinite().all()):
            raise ValueError(f"weight {name} holds a number that 16 bits cannot hold; train with a lower learning rate")
        shapes[_on_the_page(name)] = list(weight.shape)
        numbers.append(half.flatten().numpy().astype("<f2"))
    return {"shapes": shapes, "data": base64.b64encode(np.concatenate(numbers).tobytes()).decode("ascii")}


def _on_the_page(name: str) -> str:
    """A weight's name on a page, which has the parts of ``f`` side by side, however they are nested in the model.

    >>> [_on_the_page(f"rank.{name}") for name in ("rank.rank.heads.[item].0.bias", "biases.[item].weight")]
    ['heads.[item].0.bias', 'biases.[item].weight']
    >>> [_on_the_page(f"rank.{name}") for name in ("rank.rank.layers.0.bias", "layers.0.bias")]
    ['rank.layers.0.bias', 'rank.layers.0.bias']
    """
    return re.sub(r"^(rank\.)+(?=heads\.|biases\.|rank\.layers\.)", "", name)


def examples_of(
    histories: GroupedHistories, samples: Samples, groups: Sequence[str], longest: int = 12
) -> list[dict[str, Any]]:
    """The histories of samples as a page reads them, oldest behavior first.

    A behavior is ``[group, action, object, elapsed]``: numbers in the schema's order, the row of the object, the age
    at the moment of ranking in the unit of the log's timestamps. Of every history the latest ``longest`` are kept,
    and ``older`` counts the others.
    """
    order = list(histories.groups)
    found = []
    for s in range(len(samples)):
        one = samples[s : s + 1]
        behaviors = []
        for name, group in build_batch(histories, one, one.objects[:, None], groups).histories.items():
            objects = histories.groups[name].objects[group.positions]
            columns = group.actions.tolist(), objects.tolist(), group.elapsed.tolist()
            behaviors += [[order.index(name), *behavior] for behavior in zip(*columns, strict=True)]
        behaviors.sort(key=lambda behavior: -behavior[3])
        found.append(
            {
                "label": str(histories.user_ids[int(one.users)]),
                "group": order.index(samples.target_group),
                "object": int(one.objects),
                "older": max(len(behaviors) - longest, 0),
                "behaviors": behaviors[-longest:],
            }
        )
    return found


def some_samples(tasks: TaskSamples, count: int) -> list[Samples]:
    """About ``count`` samples, spread evenly over the tasks and the users of each."""
    tasks = {name: samples for name, samples in tasks.items() if len(samples)}
    each = [count // len(tasks) + (number < count % len(tasks)) for number in range(len(tasks))]
    return [
        samples[torch.linspace(0, len(samples) - 1, min(n, len(samples))).round().long()]
        for n, samples in zip(each, tasks.values(), strict=True)
    ]


def document_text(document: dict[str, Any]) -> str:
    """The document as compact JSON that may stand inside a ``<script>`` of a page."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
