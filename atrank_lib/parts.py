"""What an epoch goes through: a log in one part, or one part after the other, each in memory while its turn lasts.

A log that fits in memory is one part (``Whole``); a sharded log has as many as shards (``shards.Shards``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from functools import cached_property

import torch
from jaxtyping import Int
from torch import Tensor

from atrank_lib.evaluation import fixed_candidates
from atrank_lib.grouping import GroupedHistories
from atrank_lib.negatives import NegativeSampler, Popularity
from atrank_lib.samples import Split, TaskSamples


class Part:
    """Some users with all their behaviors: histories, samples, and who draws negatives for them.

    Args:
        number: of the part, from 0; the negatives of its validation samples follow from it alone.
        popularity: how often each object of a group is a training target in *all* parts; of these samples if None.
    """

    def __init__(
        self,
        histories: GroupedHistories,
        split: Split,
        number: int = 0,
        popularity: Mapping[str, Int[Tensor, " objects"]] | None = None,
    ) -> None:
        self.histories, self.split, self.number = histories, split, number
        self._popularity = popularity
        self._samplers: dict[Popularity, dict[str, NegativeSampler]] = {}

    def samplers(self, kind: Popularity) -> dict[str, NegativeSampler]:
        """One sampler for each target group; made once."""
        if kind not in self._samplers:
            weights = self.split.train if self._popularity is None else self._popularity
            self._samplers[kind] = {n: NegativeSampler(self.histories, n, kind, weights[n]) for n in self.split.train}
        return self._samplers[kind]

    @cached_property
    def validation(self) -> TaskSamples:
        """The validation samples of the target groups that have any."""
        return {name: samples for name, samples in self.split.validation.items() if len(samples)}

    @cached_property
    def fixed(self) -> dict[str, Int[Tensor, "s c"]]:
        """Candidates of the validation samples, the same in every epoch."""
        return fixed_candidates(self.histories, self.validation, seed=self.number)


class Parts(ABC):
    """All parts of a log; ``sizes`` has for each the number of training samples of every target group."""

    sizes: tuple[dict[str, int], ...]

    @abstractmethod
    def load(self, number: int) -> Part:
        """One part, from 0; the caller lets go of it before it asks for the next one."""

    def totals(self) -> dict[str, range]:
        """The training samples of every target group, numbered over all parts."""
        return {name: range(sum(sizes[name] for sizes in self.sizes)) for name in self.sizes[0]}

    def shuffled(self, seed: int) -> Iterator[Part]:
        """Every part once, in an order that follows from ``seed``."""
        for number in torch.randperm(len(self.sizes), generator=torch.Generator().manual_seed(seed)).tolist():
            yield self.load(number)

    def in_order(self) -> Iterator[Part]:
        """Every part once, the first one first."""
        for number in range(len(self.sizes)):
            yield self.load(number)


class Whole(Parts):
    """A log in memory: one part."""

    def __init__(self, histories: GroupedHistories, split: Split) -> None:
        self.part = Part(histories, split)
        self.sizes = ({name: len(samples) for name, samples in split.train.items()},)

    def load(self, number: int) -> Part:
        return self.part
