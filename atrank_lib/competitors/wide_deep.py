"""Wide & Deep (Cheng et al., 2016): a linear model that remembers, and a network that generalizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from atrank_lib.batches import Batch, Candidates
from atrank_lib.competitors.base import Competitor
from atrank_lib.log.schema import key
from atrank_lib.ranking import Scores
from atrank_lib.variants import zeros


@dataclass(frozen=True)
class History:
    """What both halves read: the mean of the projected behaviors, and every categorical value with its sample."""

    mean: Float[Tensor, "b d"]
    values: dict[str, tuple[Int[Tensor, " n"], Int[Tensor, " n"]]]  # vocabulary: (index, sample) of each occurrence


class WideDeep(Competitor):
    """``score = wide + deep``.

    Wide: a weight for every categorical value of the candidate, and one for its cross with the history, times
    ``log(1 + how often the history holds that value)``. Deep: ``MLP([mean_i s_i; h_t])``.
    """

    def add_layers(self) -> None:
        d = self.config.hidden
        self.alone, self.crossed = nn.ModuleDict(), nn.ModuleDict()
        for name in dict.fromkeys(name for group in self.schema.groups for name in self.categorical(group).values()):
            self.alone[key(name)] = zeros(self.tables, name)
            self.crossed[key(name)] = zeros(self.tables, name)
        self.deep = nn.Sequential(
            nn.Linear(2 * d, d), nn.ReLU(), nn.Dropout(self.config.dropout), nn.Linear(d, d // 2), nn.ReLU()
        )
        self.top = nn.Linear(d // 2, 1)

    def categorical(self, group: str) -> dict[str, str]:
        """The categorical features of a group and their vocabularies."""
        features = self.schema.groups[group].features
        return {f: self.schema.vocabulary(group, f) for f, spec in features.items() if spec.kind == "categorical"}

    def encode(self, batch: Batch) -> History:
        s, owner, lengths = self.project(batch), batch.packing.owner, batch.packing.lengths
        owners = owner.split([len(behaviors.actions) for behaviors in batch.histories.values()])
        held: dict[str, list[tuple[Tensor, Tensor]]] = {}
        for (group, behaviors), samples in zip(batch.histories.items(), owners, strict=True):
            for feature, name in self.categorical(group).items():
                held.setdefault(name, []).append((cast(Tensor, behaviors.features[feature]), samples))
        values = {name: (torch.cat([v for v, _ in p]), torch.cat([s for _, s in p])) for name, p in held.items()}
        total = s.new_zeros(batch.size, s.shape[1]).index_add(0, owner, s)
        return History(total / lengths.clamp(min=1)[:, None], values)

    def wide(self, encoding: History, candidates: Candidates) -> Float[Tensor, "b c"]:
        """The linear half."""
        total = torch.zeros(candidates.shape, device=encoding.mean.device, dtype=encoding.mean.dtype)
        for feature, name in self.categorical(candidates.group).items():
            index = cast(Tensor, candidates.features[feature]).view(candidates.shape)
            total = total + self.alone[key(name)](index).squeeze(-1)
            if name in encoding.values:
                value, owner = encoding.values[name]
                same = (index[owner] == value[:, None]).to(total.dtype)  # [n, c]
                times = torch.zeros_like(total).index_add(0, owner, same)
                total = total + self.crossed[key(name)](index).squeeze(-1) * times.log1p()
        return total

    def score(self, encoding: History, candidates: Candidates) -> Scores:
        h = self.targets(candidates).h
        e = encoding.mean[:, None].expand_as(h)
        deep = self.top(self.deep(torch.cat([e, h], dim=-1))).squeeze(-1)
        return Scores(self.wide(encoding, candidates) + deep, h, e)
