"""Two ways of ranking without training: what a model must beat to have learned anything."""

from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from atrank_lib.batches import Samples
from atrank_lib.grouping import GroupedHistories


def popularity(
    histories: GroupedHistories, samples: Samples, candidates: Int[Tensor, "s c"], training: Samples
) -> Float[Tensor, "s c"]:
    """How often an object was a training target, whoever asks.

    >>> parts = split(histories)
    >>> test, everything = parts.test["item"][:1], torch.arange(1_000)[None]
    >>> int(popularity(histories, test, everything, parts.train["item"]).sum()) == len(parts.train["item"])
    True
    """
    counts = torch.bincount(training.objects, minlength=len(histories.catalogs[samples.target_group]))
    return counts[candidates].float()


def last_category(
    histories: GroupedHistories, samples: Samples, candidates: Int[Tensor, "s c"], training: Samples
) -> Float[Tensor, "s c"]:
    """How many features (other than the id) a candidate shares with the user's latest behavior of its group.

    Ties, and users without such a behavior, are decided by popularity.

    >>> parts = split(histories)
    >>> test, everything = parts.test["item"][:1], torch.arange(1_000)[None]
    >>> best = last_category(histories, test, everything, parts.train["item"]).argmax()
    >>> latest = histories.groups["item"].objects[test.positions - 1]
    >>> bool(best == latest)  # nothing shares more features with an object than itself
    True
    """
    group = samples.target_group
    number = list(histories.groups).index(group)
    own, catalog = histories.groups[group], histories.catalogs[group]
    last = samples.ends[:, number].long() - 1
    some = last >= own.offsets[samples.users]
    latest = own.objects[last.clamp(min=0)].long()  # [s]
    shared = torch.zeros(candidates.shape)
    for name, spec in histories.schema.groups[group].features.items():
        if spec.kind == "categorical" and name != "object_id":
            value = cast(Tensor, catalog.features[name])
            shared += value[candidates] == value[latest][:, None]
    popular = popularity(histories, samples, candidates, training)
    return shared * some[:, None] + popular / (popular.max() + 1)


FLOORS = {"popularity": popularity, "last-category": last_category}
