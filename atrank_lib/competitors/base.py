"""What the competitors share: a user vector that no target asks for, and behaviors in the order of time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from atrank_lib.grouping import Vocabularies
from atrank_lib.layout import Layout
from atrank_lib.log.schema import Schema
from atrank_lib.model import BehaviorConfig, BehaviorModel, Scores
from atrank_lib.ranking import MLP, DotProduct
from atrank_lib.samples import Batch, Candidates


class CompetitorConfig(BehaviorConfig):
    """Sizes and choices of a competitor; ``time="none"`` takes the time feature away."""

    ranking: Literal["dot", "mlp"] = "dot"


class Competitor(BehaviorModel):
    """A model that reads behaviors embedded and projected as ATRank's are (eq. 1), and ranks as it does (eq. 8).

    ``encode`` reads histories, ``score`` compares them with any number of candidates.

    >>> from atrank_lib import GroupedHistories, build_batch, split
    >>> from atrank_lib.competitors import DIN
    >>> from data_scripts.simulate import MarketplaceConfig, simulate
    >>> histories = GroupedHistories.from_log(simulate(MarketplaceConfig(users=40)).log)
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
        config = config or self.Config()
        super().__init__(schema, vocabularies, config, histories)
        self.config = config
        self.rank = DotProduct() if config.ranking == "dot" else MLP(config.hidden, config.dropout)

    def encode(self, batch: Batch) -> Any:
        """Read the histories of a batch; by default into one vector a sample."""
        return self.user(batch)

    def user(self, batch: Batch) -> Float[Tensor, "b d"]:
        """The vector of each sample's user."""
        raise NotImplementedError(f"{type(self).__name__} needs user() or encode() and score()")

    def score(self, encoding: Any, candidates: Candidates) -> Scores:
        """Score candidates against encoded histories, row by row."""
        h, _ = self.targets(candidates)
        e = encoding[:, None].expand_as(h)
        return Scores(self.rank(h, e), h, e)

    def forward(self, batch: Batch) -> Scores:
        return self.score(self.encode(batch), batch.candidates)

    def sequence(self, batch: Batch) -> tuple[Float[Tensor, "n d"], Layout]:
        """The behaviors of all groups as one sequence a sample, oldest first, and where they sit."""
        s = self.project(batch)
        order, layout = in_time(batch)
        return (s if order is None else s.index_select(0, order)), layout


def in_time(batch: Batch) -> tuple[Int[Tensor, " n"] | None, Layout]:
    """How to bring the packed behaviors of a batch in the order of samples and time (None: they are), and where to.

    Behaviors of one moment keep their order: groups as in the schema, then rows of the log.

    >>> from atrank_lib import GroupedHistories, build_batch, split
    >>> from data_scripts.simulate import MarketplaceConfig, simulate
    >>> histories = GroupedHistories.from_log(simulate(MarketplaceConfig(users=40)).log)
    >>> samples = split(histories).test["item"][:1]
    >>> batch = build_batch(histories, samples, samples.objects[:, None])
    >>> order, layout = in_time(batch)
    >>> elapsed = torch.cat([group.elapsed for group in batch.histories.values()])[order]
    >>> bool((elapsed.diff() <= 0).all())  # oldest first, whatever the group
    True
    """
    if len(batch.histories) == 1:
        return None, Layout(batch.slots, batch.size, batch.length)
    elapsed = torch.cat([group.elapsed for group in batch.histories.values()])
    sample = batch.slots // batch.length
    by_time = elapsed.argsort(descending=True, stable=True)
    order = by_time[sample[by_time].argsort(stable=True)]
    owner = sample[order]
    lengths = torch.bincount(owner, minlength=batch.size)
    place = torch.arange(len(owner), device=owner.device) - (lengths.cumsum(0) - lengths)[owner]
    return order, Layout(owner * batch.length + place, batch.size, batch.length)


def owners(layout: Layout) -> Int[Tensor, " n"]:
    """The sample of every packed behavior.

    >>> owners(Layout(torch.tensor([0, 3, 4, 5]), size=2, length=3)).tolist()
    [0, 1, 1, 1]
    """
    return layout.slots // layout.mask.shape[1]


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
