"""The metric: average user AUC, and the evaluation of a model with fixed negatives (paper: *Evaluation Metrics*)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from torch import Tensor, nn

from atrank_lib.batches import Samples
from atrank_lib.grouping import GroupedHistories
from atrank_lib.negatives import NegativeKind, draw_candidates, sampler_of
from atrank_lib.ranking import Model
from atrank_lib.samples import batches

PAIRS = 2**17  # scored at a time: some 100 MB of float32 at the paper's sizes


class AverageUserAUC(float):
    """The mean of the users' AUCs: a float that remembers what it is the mean of. ``per_user`` has the AUC of every
    user with both a positive and a negative, in the order of their ids; ``users`` counts them, ``skipped_users`` those
    who have only one class and therefore no AUC."""

    per_user: np.ndarray
    users: int
    skipped_users: int

    def __new__(cls, per_user: np.ndarray, skipped_users: int) -> "AverageUserAUC":
        self = super().__new__(cls, per_user.mean() if len(per_user) else float("nan"))
        self.per_user, self.users, self.skipped_users = per_user, len(per_user), skipped_users
        return self

    @classmethod
    def over(cls, parts: Sequence["AverageUserAUC"]) -> "AverageUserAUC":
        """The mean over the users of several parts, no user in two of them."""
        return cls(np.concatenate([part.per_user for part in parts]), sum(part.skipped_users for part in parts))

    def interval(self, level: float = 0.95, resamples: int = 1_000, seed: int = 0) -> tuple[float, float]:
        """Percentile bootstrap interval of the mean, resampling users with replacement."""
        if not self.users:
            return float("nan"), float("nan")
        rng = np.random.default_rng(seed)
        # a resample is a multinomial draw of how often each value occurs; all at once can be larger than the log
        values, counts = np.unique(self.per_user, return_counts=True)
        means = [rng.multinomial(self.users, counts / self.users) @ values / self.users for _ in range(resamples)]
        low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)


def average_user_auc(user_ids: ArrayLike, scores: ArrayLike, labels: ArrayLike) -> AverageUserAUC:
    """``1/|U| sum_u 1/(|I_u+||I_u-|) sum_ij delta(p_ui > p_uj)``; a tie counts half.

    Of each scored object its user (``user_ids``, numbers or text, in any order), its score, and its label: 1 for what
    the user acted on, 0 for the rest; all ``[n]``. NaN when no user has both classes. ValueError where lengths differ,
    a score is NaN, or a label is neither 0 nor 1.

    >>> auc = average_user_auc(["a", "a", "b", "b", "c"], [0.9, 0.1, 0.5, 0.5, 0.3], [1, 0, 1, 0, 1])
    >>> float(auc), auc.per_user.tolist(), auc.skipped_users, auc.interval()
    (0.75, [1.0, 0.5], 1, (0.5, 1.0))
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
    # AUC is Mann and Whitney's U over all pairs: ranks within a user, from 1, tied scores sharing their mean rank
    rank = pd.Series(p).groupby(user).rank().to_numpy()
    positives, negatives = (np.bincount(user, label, len(names)) for label in (y, 1 - y.astype(int)))
    wins = np.bincount(user, rank * y, len(names)) - positives * (positives + 1) / 2
    pairs = positives * negatives
    return AverageUserAUC(wins[pairs > 0] / pairs[pairs > 0], int((pairs == 0).sum()))


@dataclass(frozen=True)
class Evaluation:
    """Quality of a model on some samples: what ``atrank evaluate --json`` prints.

    >>> auc = average_user_auc(["a", "a", "b", "b"], [0.9, 0.1, 0.5, 0.5], [1, 0, 1, 0])
    >>> Evaluation.of({"item": auc}, negatives=1, seed=0).targets
    {'item': 0.75}
    """

    average_user_auc: float
    ci95: tuple[float, float]
    users: int
    skipped_users: int
    negatives: int | None  # of each positive; None: all impressions
    targets: dict[str, float]  # average user AUC of each target group
    per_user: np.ndarray = field(repr=False, compare=False)  # AUC of every user, one target group after the other

    @classmethod
    def of(cls, parts: Mapping[str, AverageUserAUC], negatives: int | None, seed: int) -> "Evaluation":
        """The AUCs of all target groups as one result; with several groups, a user counts once in each."""
        total, targets = AverageUserAUC.over(list(parts.values())), {name: float(auc) for name, auc in parts.items()}
        interval = total.interval(seed=seed)
        return cls(float(total), interval, total.users, total.skipped_users, negatives, targets, total.per_user)

    def as_dict(self) -> dict[str, Any]:
        """Everything but the users one by one."""
        return {name: value for name, value in asdict(self).items() if name != "per_user"}


def fixed_candidates(
    histories: GroupedHistories,
    tasks: Mapping[str, Samples],
    negatives: int | None = 1,
    seed: int = 0,
    kind: NegativeKind = "uniform",
    training: Mapping[str, Samples] | None = None,
) -> dict[str, Int[Tensor, "s c"]]:
    """Positives and the evaluation negatives, which depend on the seed alone: every model sees the same.

    >>> fixed_candidates(histories, split(histories).test, negatives=4, seed=1)["item"].shape
    torch.Size([40, 5])
    """
    drawn = {}
    for name, samples in tasks.items():
        sampler = sampler_of(histories, name, kind, None if training is None else training[name])
        drawn[name] = draw_candidates(samples, sampler, negatives, torch.Generator().manual_seed(seed))
    return drawn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode and without gradients, and back.

    >>> with evaluating(model):
    ...     model.training, torch.is_grad_enabled()
    (False, False)
    """
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def score_candidates(
    model: Model,
    histories: GroupedHistories,
    tasks: Mapping[str, Samples],
    candidates: Mapping[str, Int[Tensor, "s c"]],
    batch_size: int = 1024,
    part: tuple[int, int] = (0, 1),
) -> dict[str, Float[Tensor, "s c"]]:
    """Scores of ``candidates`` in the order of the samples, the model in evaluation mode.

    At most some ``PAIRS`` are scored at a time, so memory does not grow with the number of candidates. Only batches of
    ``part`` (see ``batches``) are scored; the others' scores stay zero.

    >>> test = split(histories).test
    >>> score_candidates(model, histories, test, fixed_candidates(histories, test, negatives=4))["item"].shape
    torch.Size([40, 5])
    """
    scores = {name: torch.zeros(rows.shape) for name, rows in candidates.items()}
    with evaluating(model):
        for task, rows in candidates.items():
            for columns in torch.arange(rows.shape[1]).split(PAIRS):
                some = {task: rows[:, columns]}
                size = max(1, min(batch_size, PAIRS // len(columns)))
                plan = batches(histories, {task: tasks[task]}, some, size, groups=model.histories, part=part)
                for _, index, batch in plan:
                    scores[task][index[:, None], columns] = model(batch).scores.float()
    return scores


def user_auc(samples: Samples, scores: Float[Tensor, "s c"]) -> AverageUserAUC:
    """Average user AUC of scored samples, the positives in column 0.

    >>> samples = split(histories).test["item"]
    >>> float(user_auc(samples[:2], torch.tensor([[2.0, 1.0, 3.0], [2.0, 1.0, 0.0]])))  # 1/2 and 1
    0.75
    """
    labels = (torch.arange(scores.shape[1]) == 0).expand_as(scores)
    real = scores != -math.inf  # the rest are empty places
    return average_user_auc(*(x[real] for x in (samples.users[:, None].expand_as(scores), scores, labels)))


def evaluate(
    model: Model,
    histories: GroupedHistories,
    tasks: Mapping[str, Samples],
    *,
    negatives: int | None = 1,
    seed: int = 0,
    kind: NegativeKind = "uniform",
    training: Mapping[str, Samples] | None = None,
    batch_size: int = 1024,
) -> Evaluation:
    """Average user AUC with a 95 % bootstrap interval over users.

    Of ``tasks``, samples by target group, a user counts once in each: scores of different groups are never compared.
    The ``negatives`` of each positive follow from ``seed`` alone; ``kind`` and ``training`` as for ``NegativeSampler``.
    ValueError where there is nothing to evaluate.

    >>> result = evaluate(model, histories, split(histories).test, negatives=3)
    >>> result.users, list(result.targets), 0 <= result.average_user_auc <= 1
    (120, ['item', 'query', 'coupon'], True)
    """
    tasks = {name: samples for name, samples in tasks.items() if len(samples)}
    if not tasks:
        raise ValueError("no samples to evaluate; this protocol has none for the chosen targets")
    candidates = fixed_candidates(histories, tasks, negatives, seed, kind, training)
    scores = score_candidates(model, histories, tasks, candidates, batch_size)
    return Evaluation.of({name: user_auc(samples, scores[name]) for name, samples in tasks.items()}, negatives, seed)
