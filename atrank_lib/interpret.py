"""What a trained model looked at: attention, erasure and gradients, behavior by behavior. ``attention`` has a row,
``erasure`` and the gradients have a number for each behavior of each sample, in one order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from atrank_lib.batches import Batch, Candidates, Packing, Samples, ranges
from atrank_lib.evaluation import evaluating
from atrank_lib.grouping import GroupedHistories
from atrank_lib.model import ATRank, Encoding
from atrank_lib.samples import build_batch
from atrank_lib.scale.devices import moved

ROWS = 100_000  # behaviors encoded at a time while erasing, so that memory stays bounded
Objects = Int[Tensor, "s c"] | None


@dataclass(frozen=True)
class Explanation:
    """Attention of a batch, laid out by sample. Places without a behavior have ``groups == -1`` and no weight.

    >>> samples = split(histories).test["item"][:2]
    >>> explanation = explain(model, build_batch(histories, samples, samples.objects[:, None]))
    >>> explanation.target_attention.shape[:3], round(explanation.target_attention.sum().item())  # 8 spaces, 2 samples
    (torch.Size([2, 8, 1]), 16)
    """

    self_attention: tuple[Float[Tensor, "b k t t"], ...]  # one entry per layer
    target_attention: Float[Tensor, "b k c t"]
    groups: Int[Tensor, "b t"]  # number of each behavior's group, in the schema's order (-1: no behavior)
    positions: Int[Tensor, "b t"]  # its position in the flat tensors of its group (-1: no behavior)


@torch.no_grad()
def explain(model: ATRank, batch: Batch) -> Explanation:
    """Every attention weight behind the scores of a batch.

    >>> samples = split(histories).test["item"][:2]
    >>> explain(model, build_batch(histories, samples, samples.objects[:, None])).groups.shape
    torch.Size([2, 34])
    """
    c, packing, matrices = model.project(batch), batch.packing, []
    for block in map(model.block, range(len(model.blocks))):
        queries, keys, _ = block.attention.project(c)
        weights = block.attention.weights(packing.pad(queries), keys, packing)
        matrices.append(weights * packing.mask[:, None, :, None])
        c = block(c, packing)
    keys, _ = model.target.read(c)
    queries = model.target.attention.queries(model.targets(batch.candidates).h)
    target = model.target.attention.weights(queries, keys, packing) * packing.mask[:, None, None, :]
    order, parts = list(model.schema.groups), batch.histories
    numbers = torch.cat([torch.full_like(part.positions, order.index(name)) for name, part in parts.items()])
    place = packing.owner.cpu(), packing.place.cpu()  # positions never leave the CPU
    laid = torch.full((2, batch.size, packing.longest), -1)
    laid[0][place], laid[1][place] = numbers, torch.cat([part.positions for part in parts.values()])
    return Explanation(tuple(matrices), target, laid[0], laid[1])


def batches_of(
    model: ATRank, histories: GroupedHistories, samples: Samples, candidates: Objects, size: int
) -> Iterator[tuple[Int[Tensor, " b"], Int[Tensor, "b c"], Batch]]:
    """Batches in the order of the samples, where the model is; without ``candidates`` the target is the only one."""
    objects = samples.objects[:, None] if candidates is None else candidates
    for index in torch.arange(len(samples)).split(size):
        batch = build_batch(histories, samples[index], objects[index], model.histories)
        yield index, objects[index], moved(batch, next(model.parameters()).device)


def attention(model: ATRank, histories: GroupedHistories, samples: Samples, batch_size: int = 256) -> pd.DataFrame:
    """The attention that each sample's target gives to each earlier behavior (eq. 7).

    Columns are ``sample`` (its number), ``group`` (name), ``row`` (in the log's events table of the group),
    ``elapsed`` (in timestamp units), ``attention`` (the mean over spaces), ``space 1``, ``space 2``, ...

    >>> table = attention(model, histories, split(histories).test["item"][:3])
    >>> table.groupby("sample")["attention"].sum().round(4).tolist()
    [1.0, 1.0, 1.0]
    """
    names, frames = list(histories.groups), []
    with evaluating(model):
        for index, _, batch in batches_of(model, histories, samples, None, batch_size):
            seen = explain(model, batch)
            sample, place = (seen.groups >= 0).nonzero(as_tuple=True)
            weights = seen.target_attention.cpu()[sample, :, 0, place]  # [n, k]
            order, parts = batch.packing.order.cpu(), batch.histories  # sample by sample, as above
            rows = torch.cat([histories.groups[name].rows[part.positions] for name, part in parts.items()])
            elapsed = torch.cat([part.elapsed.cpu() for part in parts.values()])
            frame = {
                "sample": index[sample].numpy(),
                "group": pd.Categorical.from_codes(seen.groups[sample, place].numpy(), pd.Index(names)),
                "row": rows[order].long().numpy(),
                "elapsed": elapsed[order].numpy(),
                "attention": weights.mean(dim=1).numpy(),
            }
            spaces = {f"space {k + 1}": weights[:, k].numpy() for k in range(weights.shape[1])}
            frames.append(pd.DataFrame(frame | spaces))
    return pd.concat(frames, ignore_index=True)


def _lead(model: ATRank, encoding: Encoding, candidates: Candidates) -> Float[Tensor, " b"]:
    """Score of column 0, or by how much it exceeds the mean of the other columns."""
    scores = model.score(encoding, candidates).scores
    return scores[:, 0] if scores.shape[1] == 1 else scores[:, 0] - scores[:, 1:].mean(dim=1)


def _left(packing: Packing, erased: Int[Tensor, " e"]) -> tuple[Int[Tensor, " m"], Packing]:
    """Copies of histories whose rows lie sample by sample: those of ``erased[i]``'s sample but that one; and whose."""
    owner = packing.owner[erased]
    rows, copy = ranges(packing.offsets[owner], packing.lengths[owner])
    others = rows != erased[copy]
    rows, copy = rows[others], copy[others]
    place = packing.place[rows] - (rows > erased[copy]).long()
    return rows, Packing.of(copy, place, len(erased))


def erasure(
    model: ATRank, histories: GroupedHistories, samples: Samples, candidates: Objects = None, batch_size: int = 64
) -> Float[np.ndarray, " n"]:
    """By how much the target's score falls when one behavior is taken out of the history, for every behavior.

    The model reads the history again without it. Eq. 1 looks at one behavior at a time, so a behavior is taken out by
    leaving out its row of ``S``. If ``candidates`` are given, objects of the target group with the target in column 0,
    what falls is the target's lead over the mean of the others: a pair-wise loss trains leads alone.

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
                lead = _lead(model, model.read(s[rows], left), moved(again, s.device))
                found.append((whole[owner] - lead).cpu().numpy())
    return np.concatenate(found)


def gradient(
    model: ATRank,
    histories: GroupedHistories,
    samples: Samples,
    candidates: Objects = None,
    batch_size: int = 256,
    at: Sequence[float] = (1.0,),
) -> Float[np.ndarray, " n"]:
    """Gradient times input: ``s_j . d score / d s_j`` for every behavior's projected vector ``s_j``, a row of ``S``.

    The first-order estimate of what the score loses when ``s_j`` shrinks to zero. ``candidates`` as in ``erasure``;
    the gradient is the mean of those at ``a S`` for the factors ``a`` of ``at``.

    >>> samples = split(histories).test["item"][:3]
    >>> gradient(model, histories, samples).shape == erasure(model, histories, samples).shape
    True
    """
    found = [np.empty(0, dtype=np.float32)]
    with evaluating(model), torch.enable_grad():
        for _, _, batch in batches_of(model, histories, samples, candidates, batch_size):
            s = model.project(batch).detach()
            slope = torch.zeros_like(s)
            for a in at:
                point = (a * s).requires_grad_()
                lead = _lead(model, model.read(point, batch.packing), batch.candidates)
                slope += torch.autograd.grad(lead.sum(), point)[0] / len(at)
            found.append((slope * s).sum(dim=1)[batch.packing.order].cpu().numpy())
    return np.concatenate(found)


def integrated_gradients(
    model: ATRank, histories: GroupedHistories, samples: Samples, candidates: Objects = None, steps: int = 32
) -> Float[np.ndarray, " n"]:
    """``gradient``, its mean at midpoints on the straight way from ``0 S`` to ``S`` (Sundararajan et al., 2017).

    All behaviors grow together. A sample's numbers add up to ``score(S) - score(0 S)``, the nearer the more ``steps``.

    >>> samples = split(histories).test["item"][:3]
    >>> integrated_gradients(model, histories, samples, steps=8).shape == gradient(model, histories, samples).shape
    True
    """
    return gradient(model, histories, samples, candidates, at=[(i + 0.5) / steps for i in range(steps)])
