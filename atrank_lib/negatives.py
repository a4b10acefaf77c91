"""Negatives: objects that a user never touched, drawn beside every target, to train and to judge against."""

from typing import Any, Literal

import torch
from jaxtyping import Int
from torch import Tensor

from atrank_lib.batches import Samples
from atrank_lib.grouping import GroupedHistories

NegativeKind = Literal["uniform", "popularity", "impressions"]


class NegativeSampler:
    """Draws objects of a group that a user never touched, in the past or in the future (the paper's way).

    ``uniform`` gives every untouched object the same probability, ``popularity`` one in proportion to how often it
    is a target in the ``training`` samples (or to counts given in their place). A draw is a number on the line of all
    weights, from which the user's touched objects are cut out; so nothing is drawn to be rejected.

    >>> NegativeSampler(histories, "item").draw(torch.tensor([0, 1]), 3, torch.Generator()).shape
    torch.Size([2, 3])
    """

    def __init__(
        self,
        histories: GroupedHistories,
        group: str,
        kind: NegativeKind = "uniform",
        training: Samples | Int[Tensor, " objects"] | None = None,
    ) -> None:
        if kind not in ("uniform", "popularity"):
            raise ValueError(f"negatives {kind!r}; use 'uniform' or 'popularity'")
        self.group, self.histories = group, histories
        own, n = histories.groups[group], len(histories.tables[group])
        weights = torch.ones(n, dtype=torch.long)
        if kind == "popularity":
            if training is None:
                raise ValueError("negatives 'popularity' are weighted by training targets: give `training`")
            weights = training if isinstance(training, Tensor) else torch.bincount(training.objects, minlength=n)
        touched = torch.unique(own.users() * n + own.objects)  # sorted by user, then object
        user, obj = touched // n, touched % n
        self.line = torch.cat([weights.new_zeros(1), weights.cumsum(0)])  # object o owns [line[o], line[o + 1])
        removed = torch.cat([weights.new_zeros(1), weights[obj].cumsum(0)])  # touched weight before each pair
        self.removed, self.starts = removed, torch.searchsorted(user, torch.arange(len(histories) + 1))
        # where each touched object begins once the user's earlier touched objects are cut out
        gaps = self.line[obj] - (removed[:-1] - removed[self.starts[user]])
        self.width = int(self.line[-1]) + 1
        self.keys = user * self.width + gaps
        self.free = self.line[-1] - removed[self.starts].diff()

    def draw(self, users: Int[Tensor, " s"], count: int, generator: torch.Generator) -> Int[Tensor, "s count"]:
        """``count`` object rows for each user, independently; ``ValueError`` where one has touched all there are."""
        free = self.free[users]
        if len(free) and int(free.min()) <= 0:
            worst = self.histories.user_ids[int(users[free.argmin()])]
            raise ValueError(
                f"user {worst!r} has touched every object of group {self.group!r} that could be a negative; "
                "give a larger objects table or leave this target group out"
            )
        uniform = torch.rand((len(users), count), generator=generator, dtype=torch.float64)
        place = (uniform * free[:, None]).long().clamp(max=free[:, None] - 1)
        owner = users[:, None].expand_as(place)
        before = torch.searchsorted(self.keys, owner * self.width + place, right=True)
        place = place + self.removed[before] - self.removed[self.starts[owner]]
        return torch.searchsorted(self.line, place, right=True) - 1

    def beside(self, samples: Samples, count: int | None, generator: torch.Generator) -> Int[Tensor, "s count"]:
        """``count`` object rows for the user of each sample, one by default."""
        return self.draw(samples.users, count or 1, generator)


def sampler_of(
    histories: GroupedHistories, group: str, kind: NegativeKind = "uniform", training: Any = None
) -> NegativeSampler | Any:
    """What draws negatives; ``impressions`` are what was shown beside a target, or ``uniform`` where nobody knows.

    >>> sampler_of(histories, "item").beside(split(histories).test["item"], 3, torch.Generator()).shape
    torch.Size([40, 3])
    """
    shown = histories.lists(group) if kind == "impressions" else None
    return shown or NegativeSampler(histories, group, "uniform" if kind == "impressions" else kind, training)


def draw_candidates(
    samples: Samples, sampler: NegativeSampler | Any, negatives: int | None, generator: torch.Generator
) -> Int[Tensor, "s c"]:
    """The target of every sample in column 0, then ``negatives`` objects that its user never touched.

    >>> samples = split(histories).test["item"]
    >>> drawn = draw_candidates(samples, NegativeSampler(histories, "item"), 4, torch.Generator().manual_seed(0))
    >>> drawn.shape, bool((drawn[:, 0] == samples.objects).all())
    (torch.Size([40, 5]), True)
    """
    if negatives is not None and negatives < 1:
        raise ValueError(f"negatives={negatives}; a positive needs at least one negative beside it")
    return torch.cat([samples.objects[:, None], sampler.beside(samples, negatives, generator)], dim=1)
