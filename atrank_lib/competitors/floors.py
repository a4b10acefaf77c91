"""Ways of ranking without training: what a model must beat to have learned anything."""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from atrank_lib.batches import Samples
from atrank_lib.grouping import GroupedHistories
from atrank_lib.log.schema import SECONDS, TICKS

DAYS = 14  # of what has been popular of late


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


def recent_popularity(
    histories: GroupedHistories, samples: Samples, candidates: Int[Tensor, "s c"], training: Samples
) -> Float[Tensor, "s c"]:
    """How often anybody acted on an object in the 14 days before the moment of asking, which is not counted.

    >>> test = split(histories).test["item"][:1]
    >>> bool(recent_popularity(histories, test, torch.arange(1_000)[None], test).sum() > 0)
    True
    """
    span = DAYS * SECONDS["day"] * TICKS[histories.schema.timestamp_unit]
    return _acted(histories, samples, candidates, samples.times - span, samples.times)


def starts_now(
    histories: GroupedHistories, samples: Samples, candidates: Int[Tensor, "s c"], training: Samples
) -> Float[Tensor, "s c"]:
    """Whether anybody acted on an object at the moment of asking, and nobody before.

    No model may be told this. Where it ranks well, the moment itself gives the target away, as with campaigns that
    all users receive on one day, and a score on such targets says little about reading histories.

    >>> test = split(histories).test["item"][:3]
    >>> starts_now(histories, test, test.objects[:, None], test).flatten().tolist()  # all three were known before
    [0.0, 0.0, 0.0]
    """
    ever = torch.full_like(samples.times, torch.iinfo(torch.long).min)
    before = _acted(histories, samples, candidates, ever, samples.times)
    return ((before == 0) & (_acted(histories, samples, candidates, samples.times, samples.times + 1) > 0)).float()


def _acted(
    histories: GroupedHistories,
    samples: Samples,
    candidates: Int[Tensor, "s c"],
    since: Int[Tensor, " s"],
    until: Int[Tensor, " s"],
) -> Float[Tensor, "s c"]:
    """How often anybody acted on each candidate from ``since`` on and before ``until``."""
    own = histories.groups[samples.target_group]
    times, moment = own.timestamps.unique(return_inverse=True)
    width = len(times) + 1  # one key for an object and the place of a moment among all
    keys = (own.objects.long() * width + moment).sort().values

    def earlier(than: Int[Tensor, " s"]) -> Int[Tensor, "s c"]:
        return torch.searchsorted(keys, candidates * width + torch.searchsorted(times, than)[:, None])

    return (earlier(until) - earlier(since)).float()


FLOORS = {
    "popularity": popularity,
    "last-category": last_category,
    "recent-popularity": recent_popularity,
    "starts-now": starts_now,
}
