"""What the competitors share: a user vector that no target asks for, and behaviors in the order of time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from atrank_lib.batches import Batch, Candidates, Packing
from atrank_lib.log.schema import Schema
from atrank_lib.log.vocabularies import Vocabularies
from atrank_lib.model import BehaviorModel
from atrank_lib.ranking import Scores
from atrank_lib.variants import BehaviorOptions, parts_of


class CompetitorConfig(BehaviorOptions):
    """Sizes and choices of a competitor; ``time="none"`` takes the time feature away."""


class Competitor(BehaviorModel[Any]):
    """A model that reads behaviors embedded and projected as ATRank's are (eq. 1), and ranks as it does (eq. 8).

    ``encode`` reads histories, ``score`` compares them with any number of candidates. A competitor brings its layers
    (``add_layers``), and either ``user`` or both of these.

    >>> from atrank_lib.competitors.din import DIN
    >>> samples = split(histories).test["item"][:2]
    >>> model = DIN(histories.schema, histories.vocabularies)
    >>> model(build_batch(histories, samples, samples.objects[:, None])).scores.shape
    torch.Size([2, 1])
    """

    Config: type[CompetitorConfig] = CompetitorConfig

    def __init__(
        self,
        schema: Schema,
        vocabularies: Vocabularies,
        config: CompetitorConfig | None = None,
        histories: Sequence[str] | None = None,
    ) -> None:
        chosen = config or self.Config()
        super().__init__(schema, vocabularies, chosen, histories, parts_of(chosen))
        self.config = chosen
        self.add_layers(vocabularies)

    def add_layers(self, vocabularies: Vocabularies) -> None:
        """Make the layers that this model has of its own."""
        raise NotImplementedError

    def encode(self, batch: Batch) -> Any:
        """Read the histories of a batch; by default into one vector a sample."""
        return self.user(batch)

    def user(self, batch: Batch) -> Float[Tensor, "b d"]:
        """The vector of each sample's user."""
        raise NotImplementedError(f"{type(self).__name__} needs user() or encode() and score()")

    def score(self, encoding: Any, candidates: Candidates) -> Scores:
        targets = self.targets(candidates)
        e = encoding[:, None].expand_as(targets.h)
        return Scores(self.rank(targets, e), targets.h, e)

    def sequence(self, batch: Batch) -> tuple[Float[Tensor, "n d"], Packing]:
        """The behaviors of all groups, and their places in one sequence a sample, oldest first."""
        return self.project(batch), in_time(batch)


def in_time(batch: Batch) -> Packing:
    """Whose the packed behaviors of a batch are, with their places in the order of time.

    Behaviors of one moment keep their order: groups as in the schema, then rows of the log.

    >>> samples = split(histories).test["item"][:1]
    >>> batch = build_batch(histories, samples, samples.objects[:, None])
    >>> elapsed = torch.cat([group.elapsed for group in batch.histories.values()])[in_time(batch).order]
    >>> bool((elapsed.diff() <= 0).all())  # oldest first, whatever the group
    True
    """
    packing = batch.packing
    if len(batch.histories) == 1:
        return packing
    elapsed = torch.cat([group.elapsed for group in batch.histories.values()])
    by_time = elapsed.argsort(descending=True, stable=True)
    order = by_time[packing.owner[by_time].argsort(stable=True)]
    numbers = torch.arange(len(order), device=order.device)
    place = torch.empty_like(order).index_copy_(0, order, numbers - packing.offsets[packing.owner[order]])
    return replace(packing, place=place)


def mean_of_samples(x: Float[Tensor, "n *c"], owner: Int[Tensor, " n"], size: int) -> Float[Tensor, "b *c"]:
    """The mean over each sample's behaviors; zero without any.

    >>> mean_of_samples(torch.tensor([[1.0], [3.0], [5.0]]), torch.tensor([0, 0, 2]), size=3).tolist()
    [[2.0], [0.0], [5.0]]
    """
    total = x.new_zeros(size, *x.shape[1:]).index_add_(0, owner, x)
    count = torch.bincount(owner, minlength=size).clamp(min=1).to(x.dtype)
    return total / count.view(-1, *[1] * (x.dim() - 1))


def softmax_of_samples(x: Float[Tensor, "n *c"], owner: Int[Tensor, " n"], size: int) -> Float[Tensor, "n *c"]:
    """The softmax over each sample's behaviors.

    >>> softmax_of_samples(torch.tensor([[0.0], [0.0], [9.0]]), torch.tensor([0, 0, 1]), size=2).tolist()
    [[0.5], [0.5], [1.0]]
    """
    index = owner.view(-1, *[1] * (x.dim() - 1)).expand_as(x)
    highest = x.new_zeros(size, *x.shape[1:]).scatter_reduce(0, index, x.detach(), "amax", include_self=False)
    weight = (x - highest.index_select(0, owner)).exp()
    total = torch.zeros_like(highest).index_add(0, owner, weight)
    return weight / total.index_select(0, owner)
