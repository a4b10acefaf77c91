"""Attribution: what the score loses when a behavior is taken out of the history, or its vector made smaller.

One number for each behavior, in the order of the table of ``attention``.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from atrank_lib.batches import Candidates, Packing, Samples, ranges
from atrank_lib.evaluation import evaluating
from atrank_lib.grouping import GroupedHistories
from atrank_lib.interpret.explanation import batches_of
from atrank_lib.model import ATRank, Encoding
from atrank_lib.scale.devices import moved_candidates

ROWS = 100_000  # behaviors encoded at a time while erasing, so that memory stays bounded


def _lead(model: ATRank, encoding: Encoding, candidates: Candidates) -> Float[Tensor, " b"]:
    """Score of column 0, or by how much it exceeds the mean of the other columns."""
    scores = model.score(encoding, candidates).scores
    return scores[:, 0] if scores.shape[1] == 1 else scores[:, 0] - scores[:, 1:].mean(dim=1)


def _left(packing: Packing, erased: Int[Tensor, " e"]) -> tuple[Int[Tensor, " m"], Packing]:
    """Copies of histories whose rows lie sample by sample: all rows of ``erased[i]``'s sample but that one, end to end;
    and whose they are."""
    owner = packing.owner[erased]
    rows, copy = ranges(packing.offsets[owner], packing.lengths[owner])
    others = rows != erased[copy]
    rows, copy = rows[others], copy[others]
    place = packing.place[rows] - (rows > erased[copy]).long()
    return rows, Packing.of(copy, place, len(erased))


def erasure(
    model: ATRank,
    histories: GroupedHistories,
    samples: Samples,
    candidates: Int[Tensor, "s c"] | None = None,
    batch_size: int = 64,
) -> Float[np.ndarray, " n"]:
    """By how much the target's score falls when one behavior is taken out of the history, for every behavior.

    The model reads the history again without it. Eq. 1 looks at one behavior at a time, so a behavior is taken out by
    leaving out its row of ``S``.

    Args:
        candidates: objects of the target group, the target in column 0. If given, what falls is the target's lead
            over the mean of the others: a pair-wise loss trains leads alone.

    >>> samples = split(histories).test["item"][:3]
    >>> erasure(model, histories, samples).shape  # of all behaviors of three histories
    (87,)
    """
    found = [np.empty(0, dtype=np.float32)]
    catalog = histories.catalogs[samples.target_group]
    with evaluating(model):
        for _, objects, batch in batches_of(model, histories, samples, candidates, batch_size):
            order = batch.packing.order
            s = model.project(batch)[order]  # [n, d], sample by sample
            packing = Packing.of(batch.packing.owner[order], batch.packing.place[order], batch.size)
            whole = _lead(model, model.read(s, packing), batch.candidates)
            for erased in torch.arange(len(s), device=s.device).split(max(1, ROWS // packing.longest)):
                rows, left = _left(packing, erased)
                owner = packing.owner[erased]
                some = objects[owner.cpu()]
                again = Candidates(samples.target_group, catalog.take(some.flatten()), (len(some), some.shape[1]))
                lead = _lead(model, model.read(s[rows], left), moved_candidates(again, s.device))
                found.append((whole[owner] - lead).cpu().numpy())
    return np.concatenate(found)


def gradient(
    model: ATRank,
    histories: GroupedHistories,
    samples: Samples,
    candidates: Int[Tensor, "s c"] | None = None,
    batch_size: int = 256,
) -> Float[np.ndarray, " n"]:
    """Gradient times input: ``s_j . d score / d s_j`` for every behavior's projected vector ``s_j``, a row of ``S``.

    The first-order estimate of what the score loses when ``s_j`` shrinks to zero. ``candidates`` as in ``erasure``.

    >>> samples = split(histories).test["item"][:3]
    >>> gradient(model, histories, samples).shape == erasure(model, histories, samples).shape
    True
    """
    found = [np.empty(0, dtype=np.float32)]
    with evaluating(model):
        for _, _, batch in batches_of(model, histories, samples, candidates, batch_size):
            s = model.project(batch).requires_grad_()
            with torch.enable_grad():
                lead = _lead(model, model.read(s, batch.packing), batch.candidates)
                (slope,) = torch.autograd.grad(lead.sum(), s)
            found.append((slope * s.detach()).sum(dim=1)[batch.packing.order].cpu().numpy())
    return np.concatenate(found)
