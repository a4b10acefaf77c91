"""Ways of ranking without training that the tables show: the library's, and two that look at when objects were used."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from atrank_lib.batches import Samples
from atrank_lib.competitors import floors
from atrank_lib.grouping import GroupedHistories
from atrank_lib.log.schema import SECONDS, TICKS

DAYS = 14  # of what has been popular of late


def recent_popularity(
    histories: GroupedHistories, samples: Samples, candidates: Int[Tensor, "s c"], training: Samples
) -> Float[Tensor, "s c"]:
    """How often anybody acted on an object in the 14 days before the moment of asking, which is not counted.

    >>> test = split(histories).test["item"][:1]
    >>> bool(recent_popularity(histories, test, torch.arange(1_000)[None], test).sum() > 0)
    True
    """
    own = histories.groups[samples.target_group]
    span = DAYS * SECONDS["day"] * TICKS[histories.schema.timestamp_unit]
    return acted(own.objects, own.timestamps, candidates, samples.times - span, samples.times)


def starts_now(
    histories: GroupedHistories, samples: Samples, candidates: Int[Tensor, "s c"], training: Samples
) -> Float[Tensor, "s c"]:
    """Whether anybody acted on an object at the moment of asking, and nobody before.

    No model may be told this. Where it ranks well, the moment itself gives the target away, as with campaigns that
    all users receive on one day, and a score on such targets says little about reading histories.

    >>> test = split(histories).test["item"][:3]
    >>> latest = histories.groups["item"].objects[test.positions - 1].long()
    >>> starts_now(histories, test, latest[:, None], test).flatten().tolist()  # all three were known before
    [0.0, 0.0, 0.0]
    """
    own, ever = histories.groups[samples.target_group], torch.full_like(samples.times, torch.iinfo(torch.long).min)
    before = acted(own.objects, own.timestamps, candidates, ever, samples.times)
    now = acted(own.objects, own.timestamps, candidates, samples.times, samples.times + 1)
    return ((before == 0) & (now > 0)).float()


def acted(
    objects: Int[Tensor, " n"],
    times: Int[Tensor, " n"],
    candidates: Int[Tensor, "s c"],
    since: Int[Tensor, " s"],
    until: Int[Tensor, " s"],
) -> Float[Tensor, "s c"]:
    """How often ``objects`` were acted on at ``times``, for each candidate from ``since`` on and before ``until``.

    >>> one = torch.tensor([7, 7, 8]), torch.tensor([10, 20, 20])
    >>> acted(*one, torch.tensor([[7, 8, 9]]), torch.tensor([10]), torch.tensor([20])).tolist()
    [[1.0, 0.0, 0.0]]
    """
    moments, moment = times.unique(return_inverse=True)
    width = len(moments) + 1  # one key for an object and the place of a moment among all
    keys = (objects.long() * width + moment).sort().values

    def earlier(than: Int[Tensor, " s"]) -> Int[Tensor, "s c"]:
        return torch.searchsorted(keys, candidates * width + torch.searchsorted(moments, than)[:, None])

    return (earlier(until) - earlier(since)).float()


FLOORS = {**floors.FLOORS, "recent-popularity": recent_popularity, "starts-now": starts_now}
