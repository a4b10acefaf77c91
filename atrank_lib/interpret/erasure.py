"""What the score loses: one behavior taken out of the history, or its vector made smaller.

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
from atrank_lib.interpret.attention import batches_of
from atrank_lib.model import ATRank, Encoding

ROWS = 100_000  # behaviors encoded at a time while erasing, so that memory stays bounded


def _margin(model: ATRank, encoding: Encoding, candidates: Candidates) -> Float[Tensor, " b"]:
    """Score of column 0, or by how much it exceeds the mean of the other columns."""
    scores = model.score(encoding, candidates).scores
    return scores[:, 0] if scores.shape[1] == 1 else scores[:, 0] - scores[:, 1:].mean(dim=1)


@torch.no_grad()
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
    >>> falls = erasure(model, histories, samples)
    >>> len(falls) == len(attention(model, histories, samples))  # behaviors in the same order
    True
    """
    found = []
    with evaluating(model):
        for _, objects, batch in batches_of(model, histories, samples, candidates, batch_size):
            order, lengths, starts = batch.packing.order, batch.packing.lengths, batch.packing.offsets[:-1]
            s = model.project(batch)[order]  # [n, d], sample by sample
            sample, place = batch.packing.owner[order], batch.packing.place[order]
            whole = _margin(
                model, model.read(s, Packing(sample, place, lengths, batch.packing.longest)), batch.candidates
            )
            budget = lengths[sample].cumsum(0) // ROWS
            for erased in torch.arange(len(sample), device=s.device).split(
                torch.bincount(budget).tolist() if len(sample) else 1
            ):
                # copy i is the history of behavior erased[i]'s sample without it
                owner = sample[erased]
                kept, copy = ranges(starts[owner], lengths[owner])
                other = kept != erased[copy]
                kept, copy = kept[other], copy[other]
                place = kept - starts[owner[copy]] - (kept > erased[copy]).long()
                left = model.read(s[kept], Packing.of(copy, place, len(erased)))
                again = _margin(
                    model, left, _candidates(histories, samples.target_group, objects[owner.cpu()], s.device)
                )
                found.append((whole[owner] - again).cpu().numpy())
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
    found = []
    with evaluating(model):
        for _, _, batch in batches_of(model, histories, samples, candidates, batch_size):
            with torch.no_grad():
                s = model.project(batch)
            s.requires_grad_()
            (slope,) = torch.autograd.grad(_margin(model, model.read(s, batch.packing), batch.candidates).sum(), s)
            found.append((slope * s.detach()).sum(dim=1)[batch.packing.order].cpu().numpy())
    return np.concatenate(found)
