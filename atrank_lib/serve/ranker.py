"""Serving a trained model: the best objects for a user, and the scores of (user, object) pairs.

A score has two sides. The objects' side (``h_t`` and the queries of eq. 7) is the same for every user and is computed
once, in a ``Ranker``; the user's side (eq. 1-6) is the same for every object and is encoded once per history. What is
left for each pair is eq. 7 and 8. Work is done ``chunk`` pairs at a time, so memory does not grow with their number.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, cast

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from atrank_lib.batches import Candidates, Samples
from atrank_lib.evaluation import evaluating
from atrank_lib.grouping import Catalog, GroupedHistories
from atrank_lib.heads import contexts
from atrank_lib.model import ATRank
from atrank_lib.ranking import Model, Targets
from atrank_lib.samples import build_batch, ends_before, history_lengths
from atrank_lib.scale.devices import moved

# behaviors encoded at a time, as a multiple of the pairs scored at a time
LONGEST = 8


class Ranker:
    """Ranks and scores the objects of one group with one model, whose weights must not change meanwhile.

    Making one costs a pass over the objects, and two to three vectors for each in memory; then every user is cheap.
    Models without an objects' side of their own, which ATRank has, do that work again for each user.

    Args:
        model: any of ``runs.MODELS``, on any device.
        histories: the log, grouped as the model sees it (``Run.histories_of``).
        group: the group whose objects are ranked.
        objects: rows of the group's objects table to rank; all by default.
        chunk: how many (history, object) pairs are scored at a time.

    Raises:
        ValueError: unknown group.

    >>> ranker = Ranker(model, histories, "item")
    >>> best = ranker.top("user3", top=5)
    >>> row = histories.catalogs["item"].object_ids.index(best["object_id"][0])
    >>> score = ranker.score(torch.tensor([histories.user("user3")]), torch.tensor([row]))
    >>> round(float(score) - float(best["score"][0]), 4) == 0
    True
    """

    def __init__(
        self,
        model: Model,
        histories: GroupedHistories,
        group: str,
        objects: Int[Tensor, " n"] | None = None,
        *,
        chunk: int = 4_096,
    ) -> None:
        histories.schema.check_groups([group], "target group")
        self.model, self.histories, self.group, self.chunk = model, histories, group, chunk
        self.catalog = histories.catalogs[group]
        self.objects = torch.arange(len(self.catalog)) if objects is None else objects.unique()
        self.now = max(int(g.timestamps.max()) for g in histories.groups.values() if len(g.timestamps)) + 1
        self.device = next(model.parameters()).device
        self.targets: Targets | None = None  # of all objects that are ranked
        if isinstance(model, ATRank):
            with evaluating(model):
                parts = [model.prepare(self._candidates(part[None])) for part in self.objects.split(chunk)]
            self.targets = _each(lambda *rows: torch.cat([x[0] for x in rows]), *parts)

    def top(self, user_id: str, top: int = 10, *, at: int | None = None, include_seen: bool = False) -> pd.DataFrame:
        """The ``top`` objects for one user, best first: columns rank, object_id, score; ties in the table's order.

        Args:
            at: moment of ranking, in the schema's timestamp_unit; by default just after the log's last behavior.
                Only earlier behaviors are read.
            include_seen: also rank objects of the group that the user touched before.

        Raises:
            KeyError: the log has no such user.
            ValueError: ``top`` below 1, or a score that is NaN.
        """
        if top < 1:
            raise ValueError(f"top={top}; ask for at least one object")
        samples = self._moment(user_id, at)
        scores, left = self.all_scores(samples)[0], len(self.objects)
        if not include_seen:
            own = self.histories.groups[self.group]
            end = int(samples.ends[0, list(self.histories.groups).index(self.group)])
            seen = torch.isin(self.objects, own.objects[int(own.offsets[samples.users[0]]) : end].long())
            scores, left = scores.masked_fill(seen, float("-inf")), left - int(seen.sum())
        return self._best(self.objects, scores, min(top, left))

    def shown(self, user_id: str, table: pd.DataFrame, *, at: int | None = None) -> pd.DataFrame:
        """A list as it is to be shown, best first; columns as of ``top``.

        Args:
            table: ``object_id`` and the context of the group, as in a log's impressions (``serve.read_shown``).
            at: as for ``top``.
        """
        known, schema = pd.Index(self.catalog.object_ids), contexts(self.histories.schema)
        rows, context = torch.from_numpy(known.get_indexer(pd.Index(table["object_id"]))), None
        if schema and self.group in schema.groups:
            context = Catalog.of(schema, self.group, table, self.histories.vocabularies).features
        with evaluating(self.model):
            candidates = replace(self._candidates(rows[None]), context=moved(context, self.device))
            scores = self.model.score(self._encode(self._moment(user_id, at)), candidates).scores[0].cpu()
        return self._best(rows, scores, len(rows))

    def _moment(self, user_id: str, at: int | None) -> Samples:
        user, moment = torch.tensor([self.histories.user(user_id)]), torch.tensor([self.now if at is None else at])
        return moments(self.histories, self.group, user, moment)

    def _best(self, objects: Int[Tensor, " n"], scores: Float[Tensor, " n"], count: int) -> pd.DataFrame:
        best = best_first(scores, count)
        ids = [self.catalog.object_ids[row] for row in objects[best].tolist()]
        return pd.DataFrame({"rank": range(1, len(best) + 1), "object_id": ids, "score": scores[best].tolist()})

    def all_scores(self, samples: Samples) -> Float[Tensor, "s n"]:
        """Scores of all objects for each sample, the histories encoded once."""
        chunk = max(1, self.chunk // max(1, len(samples)))
        with evaluating(self.model):
            encoding, firsts = self._encode(samples), range(0, len(self.objects), chunk)
            parts = [self._scores(encoding, slice(first, first + chunk), len(samples)) for first in firsts]
        return torch.cat(parts, dim=1)

    def score(
        self, users: Int[Tensor, " p"], objects: Int[Tensor, " p"], times: Int[Tensor, " p"] | None = None
    ) -> Float[Tensor, " p"]:
        """Scores of pairs: a user's number, a row of the objects table, and the moment of ranking.

        The history of each user at each moment is encoded once for all its objects, in whatever order they come.

        Args:
            times: in the schema's timestamp_unit; by default just after the log's last behavior.

        Raises:
            ValueError: an object that is not among those that are ranked.
        """
        others = objects[~torch.isin(objects, self.objects)]
        if len(others):
            raise ValueError(
                f"objects {others.unique().tolist()[:5]} are not among those that this Ranker was made for"
            )
        scores = torch.empty(len(users))
        if not len(users):
            return scores
        times = torch.full_like(users, self.now) if times is None else times
        moment = torch.unique(times, return_inverse=True)[1]
        _, sample, counts = torch.unique(
            users * (int(moment.max()) + 1) + moment, return_inverse=True, return_counts=True
        )
        order = sample.argsort(stable=True)  # pairs, one history after the other
        starts = counts.cumsum(0) - counts
        samples = moments(self.histories, self.group, users[order[starts]], times[order[starts]])
        with evaluating(self.model):
            for some in self._batches(samples, counts):
                encoding = self._encode(samples[some])
                # a history with more objects than a chunk stands alone, and is scored piece by piece
                start, count = starts[some][:, None], counts[some][:, None]
                for place in torch.arange(int(count.max())).split(self.chunk):
                    real = place < count  # [b, c]
                    pairs = order[torch.where(real, start + place, start)]
                    among = torch.searchsorted(self.objects, objects[pairs])
                    scores[pairs[real]] = self._scores(encoding, among, len(some))[real]
        return scores

    def _batches(self, samples: Samples, counts: Int[Tensor, " s"]) -> Iterator[Int[Tensor, " b"]]:
        """Samples with like numbers of objects, so that few places of their table are empty."""
        lengths = history_lengths(samples, self.histories, self.model.histories)
        by_length = lengths.argsort(stable=True)
        order = by_length[counts[by_length].argsort(stable=True)]
        first, behaviors = 0, 0
        for last, (width, length) in enumerate(zip(counts[order].tolist(), lengths[order].tolist(), strict=True)):
            behaviors += length
            if last > first and ((last + 1 - first) * width > self.chunk or behaviors > LONGEST * self.chunk):
                yield order[first:last]
                first, behaviors = last, length
        yield order[first:]

    def _scores(self, encoding: Any, place: slice | Int[Tensor, "b c"], size: int) -> Float[Tensor, "b c"]:
        """Scores of objects at some places in ``objects``: the same for all ``size`` samples, or each sample's own."""
        if self.targets is None:
            rows = self.objects[place].expand(size, -1)
            return self.model.score(encoding, self._candidates(rows)).scores.cpu()

        def take(x: Tensor) -> Tensor:
            rows = x[place]
            return rows.expand(size, *rows.shape[-x.dim() :])

        return cast(ATRank, self.model).match(encoding, _each(take, self.targets)).scores.cpu()

    def _encode(self, samples: Samples) -> Any:
        nothing = self.objects[:1].expand(len(samples), 1)
        batch = build_batch(self.histories, samples, nothing, self.model.histories)
        return self.model.encode(moved(batch, self.device))

    def _candidates(self, rows: Int[Tensor, "b c"]) -> Candidates:
        candidates = Candidates(self.group, self.catalog.take(rows.flatten()), (rows.shape[0], rows.shape[1]))
        return moved(candidates, self.device)


def _each(change: Callable[..., Tensor], *parts: Targets) -> Targets:
    """``change`` done to every tensor of some targets of one group."""
    changed: dict[str, Any] = {}
    for name in ("h", "q", "ids", "queries"):
        tensors = [getattr(part, name) for part in parts]
        changed[name] = None if tensors[0] is None else change(*tensors)
    return Targets(parts[0].group, **changed)


def moments(histories: GroupedHistories, group: str, users: Int[Tensor, " s"], times: Int[Tensor, " s"]) -> Samples:
    """Samples without a known target: rank objects of ``group`` for ``users``, from all that is before ``times``.

    >>> end = histories.groups["item"].timestamps.max() + 1
    >>> samples = moments(histories, "item", torch.tensor([0, 1]), end.repeat(2))
    >>> samples.ends.shape, samples.objects.tolist()
    (torch.Size([2, 3]), [-1, -1])
    """
    histories.schema.check_groups([group], "target group")
    ends = torch.stack([ends_before(histories, name, users, times) for name in histories.groups], dim=1)
    nothing = torch.full_like(users, -1)
    return Samples(group, users, times, ends, nothing, nothing)


def best_first(scores: Float[Tensor, " n"], count: int) -> Int[Tensor, " k"]:
    """Places of the ``count`` highest scores, best first; equal scores in their own order.

    As the first ``count`` of a stable sort of all, without sorting all.

    Raises:
        ValueError: a score is NaN.

    >>> best_first(torch.tensor([1.0, 3.0, 2.0, 3.0, 2.0]), 3).tolist()
    [1, 3, 2]
    """
    if bool(scores.isnan().any()):
        raise ValueError("a score is NaN; a model must rank every candidate")
    if not count:
        return torch.empty(0, dtype=torch.long)
    last = scores.topk(count).values[-1]
    found = (scores >= last).nonzero()[:, 0]
    return found[scores[found].argsort(descending=True, stable=True)[:count]]
