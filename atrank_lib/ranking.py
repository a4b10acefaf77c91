"""Ranking a target: ``f`` of eq. 8, the losses, what a model is asked (paper: *Downstream Application Network*)."""

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, Literal, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from atrank_lib.batches import Batch, Candidates, Features
from atrank_lib.log.schema import Schema


@dataclass(frozen=True)
class Targets:
    """Candidates of one group as a model sees them; no user has a part in it, so they serve any number of users."""

    group: str
    h: Float[Tensor, "*c d"]  # h_t
    q: Float[Tensor, "*c _"]  # q_t
    ids: Int[Tensor, "*c"] | None  # index of each object_id, where it is a feature
    queries: Float[Tensor, "*c d"] | None = None  # relu(P_k h_t), for models that attend
    context: Features | None = None


@dataclass(frozen=True)
class Scores:
    """Scores of candidates, and the two vectors each came from."""

    scores: Float[Tensor, "b c"]
    targets: Float[Tensor, "b c _"]  # h_t
    users: Float[Tensor, "b c _"]  # e_u^t

    def l2(self) -> Float[Tensor, ""]:
        """Half the squared norm of both vectors, summed over the batch: the original code's l2 loss."""
        return 0.5 * (self.targets.square().sum() + self.users.square().sum())


Read = TypeVar("Read")  # what a model makes of histories


class Model(nn.Module, Generic[Read]):
    """What training, evaluation and ranking ask of a model. ``histories`` are the groups it reads."""

    schema: Schema
    histories: tuple[str, ...]

    @abstractmethod
    def encode(self, batch: Batch) -> Read:
        """Read the histories of a batch; candidates play no part."""

    @abstractmethod
    def score(self, encoding: Read, candidates: Candidates) -> Scores:
        """Score candidates against encoded histories, row by row; one encoding serves any number of calls."""

    def forward(self, batch: Batch) -> Scores:
        found, real = self.score(self.encode(batch), batch.candidates), batch.candidates.real
        return found if real is None else replace(found, scores=found.scores.masked_fill(~real, -math.inf))


class DotProduct(nn.Module):
    """``f(h_t, e_u) = h_t . e_u``, the paper's choice."""

    def forward(self, targets: Targets, user: Float[Tensor, "b c d"]) -> Float[Tensor, "b c"]:
        return (targets.h * user).sum(dim=-1)


def pointwise_loss(scores: Float[Tensor, "b c"]) -> Float[Tensor, ""]:
    """Eq. 8: sigmoid cross entropy, mean over all candidates; column 0 holds the positives.

    >>> round(pointwise_loss(torch.tensor([[2.0, -2.0]])).item(), 4)
    0.1269
    """
    labels = torch.zeros_like(scores)
    labels[:, 0] = 1.0
    real = scores != -math.inf  # the rest are empty places
    return nn.functional.binary_cross_entropy_with_logits(scores[real], labels[real])


def pairwise_loss(scores: Float[Tensor, "b c"]) -> Float[Tensor, ""]:
    """``-log sigmoid(positive - negative)``, mean over all pairs (Rendle et al., 2009).

    >>> round(pairwise_loss(torch.tensor([[2.0, -2.0]])).item(), 4)
    0.0181
    """
    pairs = scores[:, :1] - scores[:, 1:]
    return -nn.functional.logsigmoid(pairs[pairs != math.inf]).mean()


def softmax_loss(scores: Float[Tensor, "b c"]) -> Float[Tensor, ""]:
    """``-log softmax(scores)`` of the positive among all candidates, mean over samples.

    >>> round(softmax_loss(torch.tensor([[0.0, 0.0]])).item(), 4)
    0.6931
    """
    return (scores.logsumexp(dim=1) - scores[:, 0]).mean()


def calibrated_loss(scores: Float[Tensor, "b c"], t: float = 0.75) -> Float[Tensor, ""]:
    """``pointwise_loss`` whose positive counts ``1 - t``: gBCE (Petrov and Macdonald, 2023) of few among many objects.

    >>> round(calibrated_loss(torch.tensor([[0.0, 0.0]])).item() / math.log(2), 4)  # (.25 + 1) / 2
    0.625
    """
    positive, real = -nn.functional.logsigmoid(scores[:, :1]), (scores != -math.inf).sum()
    return pointwise_loss(scores) - t * positive.sum() / real


Loss = Literal["pointwise", "pairwise", "softmax", "calibrated"]
LOSSES: dict[Loss, Callable[[Tensor], Tensor]] = {"pointwise": pointwise_loss, "pairwise": pairwise_loss}
LOSSES |= {"softmax": softmax_loss, "calibrated": calibrated_loss}
