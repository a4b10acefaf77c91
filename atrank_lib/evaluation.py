"""The metric: average user AUC, and the evaluation of a model with fixed negatives (paper: *Evaluation Metrics*)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from numpy.typing import ArrayLike
from torch import Tensor, nn

from atrank_lib.grouping import GroupedHistories
from atrank_lib.negatives import NegativeSampler, Popularity, draw_candidates
from atrank_lib.samples import Samples, batches
from atrank_lib.scale.processes import ALONE, Processes
from atrank_lib.serve.ranker import Ranker, evaluating


class AverageUserAUC(float):
    """The mean of the users' AUCs: a float that remembers what it is the mean of.

    Attributes:
        per_user: AUC of every user that has both a positive and a negative, in the order of their ids.
        users: how many these are.
        skipped_users: how many have only one class and therefore no AUC.

    >>> auc = average_user_auc(["a", "a", "b", "b"], [0.9, 0.1, 0.5, 0.5], [1, 0, 1, 0])
    >>> auc.per_user.tolist(), auc.interval()
    ([1.0, 0.5], (0.5, 1.0))
    """

    per_user: np.ndarray
    users: int
    skipped_users: int

    def __new__(cls, per_user: np.ndarray, skipped_users: int) -> AverageUserAUC:
        self = super().__new__(cls, per_user.mean() if len(per_user) else float("nan"))
        self.per_user, self.users, self.skipped_users = per_user, len(per_user), skipped_users
        return self

    @classmethod
    def over(cls, parts: Sequence[AverageUserAUC]) -> AverageUserAUC:
        """The mean over the users of several parts, no user in two of them."""
        return cls(np.concatenate([part.per_user for part in parts]), sum(part.skipped_users for part in parts))

    def interval(self, level: float = 0.95, resamples: int = 1_000, seed: int = 0) -> tuple[float, float]:
        """Percentile bootstrap interval of the mean, resampling users with replacement."""
        if not self.users:
            return float("nan"), float("nan")
        rng = np.random.default_rng(seed)
        # equal values need not be told apart: a resample is a multinomial draw of how often each occurs
        values, counts = np.unique(self.per_user, return_counts=True)
        # one at a time, for the counts of all resamples at once can be larger than the log
        means = [rng.multinomial(self.users, counts / self.users) @ values / self.users for _ in range(resamples)]
        low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)


def average_user_auc(user_ids: ArrayLike, scores: ArrayLike, labels: ArrayLike) -> AverageUserAUC:
    """``1/|U| sum_u 1/(|I_u+||I_u-|) sum_ij delta(p_ui > p_uj)``; a tie counts half.

    Args:
        user_ids: the user of each scored object, ``[n]`` (numbers or text, in any order).
        scores: higher means more likely, ``[n]``.
        labels: 1 or True for what the user acted on, 0 or False for the rest, ``[n]``.

    Returns:
        A float (NaN when no user has both classes) that also carries ``per_user``, ``users``, ``skipped_users`` and
        ``interval()``.

    Raises:
        ValueError: lengths differ, a score is NaN, or a label is neither 0 nor 1.

    >>> auc = average_user_auc(["a", "a", "b", "b", "c"], [0.9, 0.1, 0.5, 0.5, 0.3], [1, 0, 1, 0, 1])
    >>> float(auc), auc.users, auc.skipped_users
    (0.75, 2, 1)
    """
    users, p, y = (np.asarray(x).ravel() for x in (user_ids, scores, labels))
    if not len(users) == len(p) == len(y):
        raise ValueError(f"user_ids, scores and labels differ in length: {len(users)}, {len(p)}, {len(y)}")
    p = p.astype(np.float64)
    if np.isnan(p).any():
        raise ValueError(f"score {int(np.isnan(p).argmax())} is NaN; a model must rank every candidate")
    if not np.isin(y, (0, 1)).all():
        raise ValueError(f"label {y[~np.isin(y, (0, 1))].tolist()[0]!r}; labels are 1 (acted on) or 0")
    names, user = np.unique(users, return_inverse=True)
    order = np.lexsort((p, user))
    user, p, y = user[order], p[order], y[order].astype(bool)
    # ranks within a user, tied scores sharing their mean rank: AUC is Mann and Whitney's U over all pairs
    new = np.ones(len(p), dtype=bool)
    new[1:] = (user[1:] != user[:-1]) | (p[1:] != p[:-1])
    run = new.cumsum() - 1
    first = np.flatnonzero(new)
    last = np.append(first[1:], len(p))
    rank = ((first + last - 1) / 2)[run] if len(p) else p
    positives = np.bincount(user, y, len(names))
    negatives = np.bincount(user, ~y, len(names))
    start = np.searchsorted(user, np.arange(len(names)))
    wins = np.bincount(user, y * (rank - start[user]), len(names)) - positives * (positives - 1) / 2
    both = (positives > 0) & (negatives > 0)
    return AverageUserAUC(wins[both] / (positives * negatives)[both], int((~both).sum()))


@dataclass(frozen=True)
class Evaluation:
    """Quality of a model on some samples: what ``atrank evaluate --json`` prints.

    >>> auc = average_user_auc(["a", "a", "b", "b"], [0.9, 0.1, 0.5, 0.5], [1, 0, 1, 0])
    >>> result = Evaluation.of({"item": auc}, negatives=1, seed=0)
    >>> result.average_user_auc, result.users, result.targets
    (0.75, 2, {'item': 0.75})
    """

    average_user_auc: float
    ci95: tuple[float, float]
    users: int
    skipped_users: int
    negatives: int
    targets: dict[str, float]  # average user AUC of each target group
    per_user: np.ndarray = field(repr=False, compare=False)  # AUC of every user, one target group after the other

    @classmethod
    def of(cls, parts: Mapping[str, AverageUserAUC], negatives: int, seed: int) -> Evaluation:
        """The AUCs of all target groups as one result; with several groups, a user counts once in each."""
        total = AverageUserAUC.over(list(parts.values()))
        return cls(
            average_user_auc=float(total),
            ci95=total.interval(seed=seed),
            users=total.users,
            skipped_users=total.skipped_users,
            negatives=negatives,
            targets={name: float(part) for name, part in parts.items()},
            per_user=total.per_user,
        )

    def as_dict(self) -> dict[str, Any]:
        """Everything but the users one by one."""
        return {name: value for name, value in asdict(self).items() if name != "per_user"}


def paired_difference(
    a: Float64[np.ndarray, "_ _"],
    b: Float64[np.ndarray, "_ _"],
    level: float = 0.95,
    resamples: int = 1_000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """By how much model ``a`` is better than ``b``: the mean over seeds and users, and its bootstrap interval.

    Both were tested on the same users with the same negatives, so users are resampled in pairs. The interval speaks
    of users; the seeds at hand are averaged. Both are ``[seeds, users]``, with as many seeds as there are.

    Raises:
        ValueError: the two do not hold the same users.

    >>> a, b = np.array([[1.0, 0.5, 1.0, 1.0]]), np.array([[0.5, 0.5, 0.0, 1.0]])  # one seed, four users
    >>> difference, low, high = paired_difference(a, b)
    >>> difference, low <= difference <= high
    (0.375, True)
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"per-user AUCs of shapes {a.shape} and {b.shape}; give [seeds, users] for the same users")
    values, counts = np.unique(a.mean(axis=0) - b.mean(axis=0), return_counts=True)
    total, rng = int(counts.sum()), np.random.default_rng(seed)
    means = [rng.multinomial(total, counts / total) @ values / total for _ in range(resamples)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(counts @ values / total), float(low), float(high)


def fixed_candidates(
    histories: GroupedHistories,
    tasks: Mapping[str, Samples],
    negatives: int = 1,
    seed: int = 0,
    kind: Popularity = "uniform",
    training: Mapping[str, Samples] | None = None,
) -> dict[str, Int[Tensor, "s c"]]:
    """Positives and the evaluation negatives, which depend on the seed alone: every model sees the same.

    >>> from atrank_lib.samples import split
    >>> from data_scripts.simulate import MarketplaceConfig, simulate
    >>> histories = GroupedHistories.from_log(simulate(MarketplaceConfig(users=40)).log)
    >>> test = split(histories).test
    >>> again = [fixed_candidates(histories, test, negatives=4, seed=1)["item"] for _ in range(2)]
    >>> again[0].shape, bool((again[0] == again[1]).all())
    (torch.Size([40, 5]), True)
    """
    drawn = {}
    for name, samples in tasks.items():
        sampler = NegativeSampler(histories, name, kind, None if training is None else training[name])
        drawn[name] = draw_candidates(samples, sampler, negatives, torch.Generator().manual_seed(seed))
    return drawn


def score_candidates(
    model: nn.Module,
    histories: GroupedHistories,
    tasks: Mapping[str, Samples],
    candidates: Mapping[str, Int[Tensor, "s c"]],
    batch_size: int = 1024,
    groups: Sequence[str] | None = None,
    processes: Processes = ALONE,
) -> dict[str, Float[Tensor, "s c"]]:
    """Scores of ``candidates`` in the order of the samples; the model is put in evaluation mode and back.

    Several ``processes`` take the batches in turns, and each gets all scores.

    >>> from atrank_lib import ATRank, split
    >>> from data_scripts.simulate import MarketplaceConfig, simulate
    >>> histories = GroupedHistories.from_log(simulate(MarketplaceConfig(users=40)).log)
    >>> model = ATRank(histories.schema, histories.vocabularies)
    >>> test = split(histories).test
    >>> score_candidates(model, histories, test, fixed_candidates(histories, test, negatives=4))["item"].shape
    torch.Size([40, 5])
    """
    device = next(model.parameters()).device
    scores = {name: torch.zeros(part.shape) for name, part in candidates.items()}
    used = groups or getattr(model, "histories", None)
    with evaluating(model):
        for name, index, batch in batches(histories, tasks, candidates, batch_size, groups=used, part=processes.part):
            scores[name][index] = model(batch.to(device)).scores.cpu()
    return {name: processes.sum(part) for name, part in scores.items()}


def user_auc(samples: Samples, scores: Float[Tensor, "s c"]) -> AverageUserAUC:
    """Average user AUC of scored samples, the positives in column 0.

    >>> from atrank_lib.samples import split
    >>> from data_scripts.simulate import MarketplaceConfig, simulate
    >>> samples = split(GroupedHistories.from_log(simulate(MarketplaceConfig(users=40)).log)).test["item"]
    >>> float(user_auc(samples[:2], torch.tensor([[2.0, 1.0, 3.0], [2.0, 1.0, 0.0]])))  # 1/2 and 1
    0.75
    """
    labels = torch.zeros_like(scores, dtype=torch.bool)
    labels[:, 0] = True
    return average_user_auc(samples.users[:, None].expand_as(scores).numpy(), scores.numpy(), labels.numpy())


def score_all(
    model: Any,
    histories: GroupedHistories,
    samples: Samples,
    batch_size: int = 64,
    chunk: int = 2_048,
) -> Float[Tensor, "s c"]:
    """Scores of a sample's target (column 0) and of every object of its group that its user never touched.

    The target and the touched objects stand among the others as minus infinity, so that ``c`` is one more than the
    number of objects. Histories are encoded once, objects scored ``chunk`` at a time.

    >>> from atrank_lib import ATRank, split
    >>> from data_scripts.simulate import MarketplaceConfig, simulate
    >>> histories = GroupedHistories.from_log(simulate(MarketplaceConfig(users=40)).log)
    >>> model = ATRank(histories.schema, histories.vocabularies)
    >>> score_all(model, histories, split(histories).test["item"][:2]).shape  # the target, and 1,000 items
    torch.Size([2, 1001])
    """
    ranker = Ranker(model, histories, samples.target_group, chunk=batch_size * chunk)
    own = histories.groups[samples.target_group]
    scores = torch.empty(len(samples), len(ranker.objects) + 1)
    for index in torch.arange(len(samples)).split(batch_size):
        some = samples[index]
        found = ranker.all_scores(some)
        scores[index, 0] = found.gather(1, some.objects[:, None])[:, 0]
        for row, user in enumerate(some.users.tolist()):
            found[row, own.objects[int(own.offsets[user]) : int(own.offsets[user + 1])].long()] = float("-inf")
        scores[index, 1:] = found
    return scores


def _rivals(scores: Float[Tensor, "s c"]) -> tuple[Float[Tensor, " s"], Float[Tensor, " s"]]:
    """How many candidates are above the positive in column 0, and how many are level with it."""
    positive, others = scores[:, :1], scores[:, 1:]
    if bool(torch.isnan(scores).any()):
        raise ValueError("a score is NaN; a model must rank every candidate")
    return (others > positive).sum(dim=1).double(), (others == positive).sum(dim=1).double()


def recall_at(scores: Float[Tensor, "s c"], k: int) -> Float[Tensor, " s"]:
    """Whether the positive (column 0) is among the best ``k``: 1, 0, or with ties the chance that it is.

    >>> recall_at(torch.tensor([[2.0, 3.0, 1.0], [2.0, 2.0, 1.0], [0.0, 1.0, 2.0]]), k=1).tolist()
    [0.0, 0.5, 0.0]
    """
    above, level = _rivals(scores)
    return ((k - above) / (level + 1)).clamp(0, 1)


def ndcg_at(scores: Float[Tensor, "s c"], k: int) -> Float[Tensor, " s"]:
    """``1 / log2(1 + rank)`` of the positive (column 0) if it is among the best ``k``, else 0; a mean over ties.

    With one positive the best possible is 1, so nothing is left to normalize.

    >>> ndcg_at(torch.tensor([[3.0, 2.0, 1.0], [2.0, 3.0, 4.0]]), k=3).round(decimals=4).tolist()
    [1.0, 0.5]
    """
    above, level = _rivals(scores)
    gains = torch.zeros(k + 1, dtype=torch.float64)  # summed over the first 0, 1, ..., k ranks
    gains[1:] = (1 / torch.log2(torch.arange(2, k + 2, dtype=torch.float64))).cumsum(0)
    first, last = above.clamp(max=k).long(), (above + level + 1).clamp(max=k).long()
    return (gains[last] - gains[first]) / (level + 1)


def evaluate(
    model: nn.Module,
    histories: GroupedHistories,
    tasks: Mapping[str, Samples],
    *,
    negatives: int = 1,
    seed: int = 0,
    kind: Popularity = "uniform",
    training: Mapping[str, Samples] | None = None,
    batch_size: int = 1024,
) -> Evaluation:
    """Average user AUC with a 95 % bootstrap interval over users.

    Args:
        tasks: samples by target group, such as ``split(...).test``. With several groups, a user counts once in
            each: scores of different groups are never compared.
        negatives: objects drawn for each positive, by ``seed`` alone.
        kind: how they are drawn (see ``NegativeSampler``).

    Raises:
        ValueError: there is nothing to evaluate.

    >>> from atrank_lib import ATRank, split
    >>> from data_scripts.simulate import MarketplaceConfig, simulate
    >>> histories = GroupedHistories.from_log(simulate(MarketplaceConfig(users=40)).log)
    >>> model = ATRank(histories.schema, histories.vocabularies)
    >>> result = evaluate(model, histories, split(histories).test, negatives=3)
    >>> result.users, list(result.targets), 0 <= result.average_user_auc <= 1
    (120, ['item', 'query', 'coupon'], True)
    """
    aucs = user_aucs(
        model,
        histories,
        tasks,
        negatives=negatives,
        seed=seed,
        kind=kind,
        training=training,
        batch_size=batch_size,
    )
    if not aucs:
        raise ValueError("no samples to evaluate; this protocol has none for the chosen targets")
    return Evaluation.of(aucs, negatives, seed)


def user_aucs(
    model: nn.Module,
    histories: GroupedHistories,
    tasks: Mapping[str, Samples],
    *,
    negatives: int = 1,
    seed: int = 0,
    kind: Popularity = "uniform",
    training: Mapping[str, Samples] | None = None,
    batch_size: int = 1024,
) -> dict[str, AverageUserAUC]:
    """Average user AUC of every target group that has samples; arguments as in ``evaluate``.

    >>> from atrank_lib import ATRank, split
    >>> from data_scripts.simulate import MarketplaceConfig, simulate
    >>> histories = GroupedHistories.from_log(simulate(MarketplaceConfig(users=40)).log)
    >>> model = ATRank(histories.schema, histories.vocabularies)
    >>> {name: auc.users for name, auc in user_aucs(model, histories, split(histories).test).items()}
    {'item': 40, 'query': 40, 'coupon': 40}
    """
    tasks = {name: samples for name, samples in tasks.items() if len(samples)}
    candidates = fixed_candidates(histories, tasks, negatives, seed, kind, training)
    scores = score_candidates(model, histories, tasks, candidates, batch_size)
    return {name: user_auc(part, scores[name]) for name, part in tasks.items()}
