"""Plain rules and models of neighbors: what a network must beat to have learned more than they count.

Each is fitted to the training targets (and every user's first behavior) and reads all of a history at test time, as the
networks do. What is to be set is chosen on validation, from a grid that PROTOCOL.md fixes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from scipy import sparse
from torch import Tensor

from atrank_lib.batches import Ragged, Samples, ranges
from atrank_lib.evaluation import fixed_candidates, user_auc
from atrank_lib.grouping import GroupedHistories
from atrank_lib.log.schema import SECONDS, TICKS
from atrank_lib.log.vocabularies import UNKNOWN
from atrank_lib.samples import Split
from experiments.choices import LISTS
from experiments.floors import FLOORS, acted

Scorer = Callable[[Samples, Int[Tensor, "s c"]], Float[Tensor, "s c"]]
CHUNK = 1_024  # samples at a time


@dataclass(frozen=True)
class Rule:
    """How a scorer is made from histories and training samples, and the settings that validation chooses from."""

    make: Callable[..., Scorer]
    grid: Sequence[dict[str, Any]] = ({},)


def _day(histories: GroupedHistories) -> int:
    return SECONDS["day"] * TICKS[histories.schema.timestamp_unit]


def floor(histories: GroupedHistories, training: Samples, *, name: str) -> Scorer:
    """One of the floors, or of the rules for lists."""
    return lambda samples, candidates: (FLOORS | LISTS)[name](histories, samples, candidates, training)


def lately(histories: GroupedHistories, training: Samples, *, days: int = 90) -> Scorer:
    """How often an object was a training target in the days before the moment of ranking."""
    span = days * _day(histories)

    def score(samples: Samples, candidates: Int[Tensor, "s c"]) -> Float[Tensor, "s c"]:
        return acted(training.objects, training.times, candidates, samples.times - span, samples.times)

    return score


def _values(feature: Tensor | Ragged, objects: Int[Tensor, " n"]) -> tuple[Int[Tensor, " m"], Int[Tensor, " m"]]:
    """The values of a feature of some objects, and which of the objects has each."""
    if isinstance(feature, Ragged):
        taken = feature.take(objects)
        return taken.values, torch.repeat_interleave(torch.arange(len(objects)), taken.offsets.diff())
    return feature[objects], torch.arange(len(objects))


def shared(
    histories: GroupedHistories, training: Samples, *, half_life: float | None = None, latest: bool = False
) -> Scorer:
    """How much of a history shares values with a candidate; the counting rules of chapter 1.

    The sum over behaviors of all groups, each counted once for every value (of other features than the id) that it has
    in common with the candidate: by one, or with a ``half_life`` by ``2^(-days / half_life)``. With ``latest``,
    the most recent behavior of the target's own group that shares a value decides. Popularity breaks ties.
    """
    schema, group, day = histories.schema, training.target_group, _day(histories)
    counts = torch.bincount(training.objects, minlength=len(histories.catalogs[group])).double()
    popular = 1e-9 * counts / (counts.max() + 1)

    def vocabularies(name: str) -> dict[str, str]:
        """Feature by vocabulary, for features whose values can be shared."""
        kinds = schema.groups[name].features.items()
        return {schema.vocabulary(name, f): f for f, spec in kinds if spec.kind != "continuous" and f != "object_id"}

    def some(samples: Samples, candidates: Int[Tensor, "s c"]) -> Float64[Tensor, "s c"]:
        total, (s, c) = popular[candidates], candidates.shape
        for vocabulary, wanted in vocabularies(group).items():
            rows = histories.vocabularies.size(vocabulary)
            profile = torch.zeros(s * rows, dtype=torch.float64)
            for number, (name, g) in enumerate(histories.groups.items()):
                if vocabulary not in vocabularies(name) or (latest and name != group):
                    continue
                start, end = g.offsets[samples.users].long(), samples.ends[:, number].long()
                place, owner = ranges(start, end - start)
                if latest:
                    weight = 1 / (end[owner] - place).double()
                else:
                    age = (samples.times[owner] - g.timestamps[place]).double() / day
                    weight = torch.ones_like(age) if half_life is None else torch.exp2(-age / half_life)
                value, of = _values(
                    cast(Tensor, histories.catalogs[name].features[vocabularies(name)[vocabulary]]),
                    g.objects[place].long(),
                )
                index, added = owner[of] * rows + value, weight[of] * (value != UNKNOWN)
                how = "amax" if latest else "sum"
                profile = profile.scatter_reduce(0, index, added, how, include_self=True)
            value, of = _values(cast(Tensor, histories.catalogs[group].features[wanted]), candidates.flatten())
            found = torch.zeros(s * c, dtype=torch.float64).index_add(0, of, profile[of // c * rows + value])
            total = total + found.view(s, c)
        return total

    return _in_chunks(some)


def _in_chunks(some: Scorer) -> Scorer:
    def score(samples: Samples, candidates: Int[Tensor, "s c"]) -> Float[Tensor, "s c"]:
        parts = torch.arange(len(samples)).split(CHUNK)
        return torch.cat([some(samples[part], candidates[part]).float() for part in parts])

    return score


def _read(histories: GroupedHistories, samples: Samples) -> sparse.csr_matrix:
    """Which objects of the target's group a history holds, ``[samples, objects]``."""
    own, number = histories.groups[samples.target_group], list(histories.groups).index(samples.target_group)
    start = own.offsets[samples.users].long()
    place, owner = ranges(start, samples.ends[:, number].long() - start)
    shape = len(samples), len(histories.catalogs[samples.target_group])
    ones = np.ones(len(place), dtype=np.float32)
    found = sparse.csr_matrix((ones, (owner.numpy(), own.objects[place].numpy())), shape)
    found.data[:] = 1  # several times is once
    return found


def interactions(histories: GroupedHistories, training: Samples) -> sparse.csr_matrix:
    """Who touched what before the last two behaviors: training targets, and what is before a user's first."""
    number = list(histories.groups).index(training.target_group)
    last = training.ends[:, number] == torch.zeros(len(histories), dtype=torch.long).scatter_reduce(
        0, training.users, training.ends[:, number].long(), "amax"
    ).index_select(0, training.users)
    latest = training[last]
    touched = _read(histories, latest)
    ones, ends = np.ones(len(latest), dtype=np.float32), np.arange(len(latest) + 1)
    targets = sparse.csr_matrix((ones, latest.objects.numpy(), ends), touched.shape)
    found = (touched + targets).tocsr()
    found.data[:] = 1
    return found


def _by_weights(histories: GroupedHistories, weights: sparse.csr_matrix | np.ndarray) -> Scorer:
    """Every object of a history votes for every object, by ``weights[read, candidate]``."""

    def some(samples: Samples, candidates: Int[Tensor, "s c"]) -> Float[Tensor, "s c"]:
        votes = _read(histories, samples) @ weights
        votes = votes.toarray() if sparse.issparse(votes) else votes
        return torch.from_numpy(votes).gather(1, candidates)

    return _in_chunks(some)


def item_knn(
    histories: GroupedHistories, training: Samples, *, neighbors: int | None = None, shrink: float = 0.0
) -> Scorer:
    """Neighbors by cosine: objects touched by the same users, ``n_ij / (sqrt(n_i n_j) + shrink)``."""
    x = interactions(histories, training)
    together = (x.T @ x).tocoo()
    counts = np.asarray(x.sum(axis=0)).ravel()
    i, j, n = together.row, together.col, together.data
    value = (n / (np.sqrt(counts[i] * counts[j]) + shrink)).astype(np.float32) * (i != j)
    if neighbors is not None:  # of each candidate j, the objects that are nearest to it
        order = np.lexsort((i, -value, j))
        first = np.searchsorted(j[order], j[order])
        kept = order[np.arange(len(order)) - first < neighbors]
        i, j, value = i[kept], j[kept], value[kept]
    return _by_weights(histories, sparse.csr_matrix((value, (i, j)), together.shape))


def ease(histories: GroupedHistories, training: Samples, *, l2: float = 300.0) -> Scorer:
    """EASE (Steck, 2019): the linear model of objects by objects with a zero diagonal, in closed form."""
    x = interactions(histories, training)
    gram = torch.from_numpy((x.T @ x).toarray())
    gram.diagonal().add_(l2)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram))
    weights = inverse.div_(-inverse.diagonal())
    weights.fill_diagonal_(0)
    return _by_weights(histories, weights.numpy())


def ials(
    histories: GroupedHistories,
    training: Samples,
    *,
    alpha: float = 10.0,
    l2: float = 10.0,
    factors: int = 64,
    sweeps: int = 10,
) -> Scorer:
    """Implicit matrix factorization by alternating least squares (Hu et al., 2008): ``c = 1 + alpha`` for what was
    touched. A user at test time is the solution for the history, given the objects."""
    x = interactions(histories, training)
    generator = torch.Generator().manual_seed(0)
    objects = 0.1 * torch.randn(x.shape[1], factors, generator=generator)

    def solve(rows: sparse.csr_matrix, other: Float[Tensor, "m f"]) -> Float[Tensor, "n f"]:
        gram, found = other.T @ other + l2 * torch.eye(factors), []
        for start in range(0, rows.shape[0], CHUNK):
            part = rows[start : start + CHUNK]
            owner = torch.repeat_interleave(torch.arange(part.shape[0]), torch.from_numpy(np.diff(part.indptr)).long())
            y = other[torch.from_numpy(part.indices).long()]
            outer = torch.zeros(part.shape[0], factors, factors).index_add(0, owner, y[:, :, None] * y[:, None, :])
            right = torch.zeros(part.shape[0], factors).index_add(0, owner, (1 + alpha) * y)
            found.append(torch.linalg.solve(gram + alpha * outer, right))
        return torch.cat(found)

    for _ in range(sweeps):
        objects = solve(x.T.tocsr(), solve(x, objects))

    def some(samples: Samples, candidates: Int[Tensor, "s c"]) -> Float[Tensor, "s c"]:
        return (solve(_read(histories, samples), objects) @ objects.T).gather(1, candidates)

    return _in_chunks(some)


RULES: dict[str, Rule] = {
    **{name: Rule(partial(floor, name=name)) for name in FLOORS | LISTS},
    "popular-lately": Rule(lately),
    "category-recency": Rule(partial(shared, latest=True)),
    "counted": Rule(shared),
    "counted-recent": Rule(shared, [{"half_life": days} for days in (30.0, 90.0, 365.0)]),
    "item-knn": Rule(item_knn, [{"neighbors": k} for k in (50, 200, None)]),
    "item-knn-shrunk": Rule(
        item_knn, [{"neighbors": k, "shrink": h} for k in (50, 200, None) for h in (3.0, 10.0, 30.0)]
    ),
    "ease": Rule(ease, [{"l2": l2} for l2 in (30.0, 100.0, 300.0, 1_000.0)]),
    "ials": Rule(ials, [{"alpha": a, "l2": l2} for a in (3.0, 10.0, 30.0) for l2 in (1.0, 10.0)]),
}


@dataclass(frozen=True)
class Chosen:
    """A rule with the setting that validation likes best."""

    scorer: Scorer
    setting: dict[str, Any]
    validation_auc: float


def choose(rule: str, histories: GroupedHistories, parts: Split, target: str) -> Chosen:
    """Try a rule's settings on the validation targets, with one fixed negative each; the first of the best ones."""
    samples, found = parts.validation[target], []
    candidates = fixed_candidates(histories, {target: samples})[target]
    for setting in RULES[rule].grid:
        scorer = RULES[rule].make(histories, parts.train[target], **setting)
        found.append(Chosen(scorer, setting, float(user_auc(samples, scorer(samples, candidates)))))
    return max(found, key=lambda one: one.validation_auc)
