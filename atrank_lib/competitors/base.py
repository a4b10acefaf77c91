"""What the competitors share: a user vector that no target asks for, and behaviors in the order of time."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from atrank_lib.batches import Batch, Candidates, Packing
from atrank_lib.heads import Context
from atrank_lib.log.schema import Schema
from atrank_lib.log.vocabularies import Vocabularies
from atrank_lib.model import BehaviorModel
from atrank_lib.ranking import Scores
from atrank_lib.variants import BehaviorOptions, parts_of


class Competitor(BehaviorModel[Any]):
    """A model that reads behaviors embedded and projected as ATRank's are (eq. 1), and ranks as it does (eq. 8).

    A competitor brings its layers (``add_layers``), and either ``user`` or both ``encode`` and ``score``; the option
    ``time="none"`` takes its time feature away.
    """

    Config: type[BehaviorOptions] = BehaviorOptions
    config: BehaviorOptions
    ranks_in = 0  # width of the first layer of a network that ranks, which then is told the context too

    def __init__(
        self,
        schema: Schema,
        vocabularies: Vocabularies,
        config: BehaviorOptions | None = None,
        histories: Sequence[str] | None = None,
    ) -> None:
        config = config or self.Config()
        super().__init__(schema, vocabularies, config, histories, parts_of(config))
        self.add_layers()
        if self.ranks_in:
            self.context = Context(self.ranks_in, schema, vocabularies)

    def add_layers(self) -> None:
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
    order = by_time[packing.owner[by_time].argsort(stable=True)]  # rows, sample by sample
    return replace(packing, place=order.argsort() - packing.offsets[packing.owner])
