"""Training on a sharded log: shard after shard, each in memory while its turn lasts."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from atrank_lib.evaluation import AverageUserAUC, Evaluation, fixed_candidates, score_candidates, user_auc
from atrank_lib.grouping import GroupedHistories
from atrank_lib.log.sharded import ShardedLog
from atrank_lib.log.vocabularies import Vocabularies
from atrank_lib.ranking import Model
from atrank_lib.samples import Protocol, require_samples, seen_objects, split, time_cuts
from atrank_lib.training import Part


@dataclass(frozen=True)
class Shards(Sequence[Part]):
    """The shards of a log as `fit` goes through them; make one with `survey`. vocabularies: of what all shards together
    show in training; cuts: the moments of the protocol ``global_time``; sizes: training samples of each target group in
    each shard; popularity: how often each object is their target."""

    log: ShardedLog
    protocol: Protocol
    targets: tuple[str, ...]
    cuts: tuple[int, int]
    vocabularies: Vocabularies
    sizes: tuple[dict[str, int], ...]
    popularity: dict[str, Int[Tensor, " objects"]]

    @classmethod
    def survey(cls, log: ShardedLog, protocol: Protocol, targets: Sequence[str] | None = None) -> "Shards":
        """Go through all shards once (twice for ``global_time``), noting what must be known of all of them. ValueError
        for an unknown protocol or target group, or a target group without a training or test sample."""
        names, cuts = log.schema.check_groups(targets, "targets"), (0, 0)
        if protocol == "global_time":
            read = (log.shard(number).events for number in range(log.shards))
            cuts = time_cuts([torch.tensor(events[g]["timestamp"].to_numpy()) for events in read for g in names])
        everything = Vocabularies.from_objects(log.schema, log.objects)
        seen = {name: torch.zeros(len(table), dtype=torch.bool) for name, table in log.objects.items()}
        popularity = {name: torch.zeros(len(log.objects[name]), dtype=torch.long) for name in names}
        users: set[str] = set()
        sizes, tests, longest = [], dict.fromkeys(names, 0), dict.fromkeys(names, 0)
        for number in range(log.shards):
            histories = GroupedHistories.from_log(log.shard(number), everything)
            parts = split(histories, protocol, names, cuts=cuts)
            sizes.append({name: len(samples) for name, samples in parts.train.items()})
            for name, found in seen_objects(histories, parts.train).items():
                seen[name] |= found
            for name, samples in parts.train.items():
                popularity[name] += torch.bincount(samples.objects, minlength=len(popularity[name]))
                users.update(histories.user_ids[samples.users.unique().numpy()])
                tests[name] += len(parts.test[name])
                longest[name] = max(longest[name], int(histories.groups[name].offsets.diff().max()))
        totals = {name: (sum(size[name] for size in sizes), tests[name]) for name in names}
        require_samples(totals, protocol, longest, cuts)
        tables = {name: table[seen[name].numpy()] for name, table in log.objects.items()}
        vocabularies = Vocabularies.from_objects(log.schema, tables, sorted(users))
        return cls(log, protocol, names, cuts, vocabularies, tuple(sizes), popularity)

    def __len__(self) -> int:
        return self.log.shards

    def __getitem__(self, number: int) -> Part:  # type: ignore[override]  # no slices: a shard is loaded when asked for
        if not 0 <= number < len(self):
            raise IndexError(number)
        histories = GroupedHistories.from_log(self.log.shard(number), self.vocabularies)
        return Part(histories, split(histories, self.protocol, self.targets, cuts=self.cuts), number, self.popularity)

    def evaluate(self, model: Model, *, negatives: int = 1, seed: int = 0) -> Evaluation:
        """`evaluation.evaluate` on the test samples of all shards; negatives follow from `seed` and the shard."""
        found: dict[str, list[AverageUserAUC]] = {}
        for part in self:
            tasks = {name: samples for name, samples in part.split.test.items() if len(samples)}
            candidates = fixed_candidates(part.histories, tasks, negatives, seed + part.number)
            scores = score_candidates(model, part.histories, tasks, candidates)
            for name, samples in tasks.items():
                found.setdefault(name, []).append(user_auc(samples, scores[name]))
        return Evaluation.of({name: AverageUserAUC.over(aucs) for name, aucs in found.items()}, negatives, seed)
