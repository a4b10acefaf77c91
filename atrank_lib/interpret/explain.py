"""Every attention weight behind a model's scores."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from atrank_lib.batches import Batch
from atrank_lib.model import ATRank


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
    groups: Int[Tensor, "b t"]  # number of each behavior's group, in the schema's order
    positions: Int[Tensor, "b t"]  # its position in the flat tensors of its group (-1: no behavior)


@torch.no_grad()
def explain(model: ATRank, batch: Batch) -> Explanation:
    """Every attention weight behind the scores of a batch.

    >>> samples = split(histories).test["item"][:2]
    >>> explain(model, build_batch(histories, samples, samples.objects[:, None])).groups.shape
    torch.Size([2, 28])
    """
    c, packing, matrices = model.project(batch), batch.packing, []
    for number in range(len(model.blocks)):
        block = model.block(number)
        queries, keys, _ = block.attention.project(c)
        weights = block.attention.weights(packing.pad(queries), keys, packing)
        matrices.append(weights * packing.mask[:, None, :, None])
        c = block(c, packing)
    keys, _ = model.target.read(c)
    queries = model.target.attention.queries(model.targets(batch.candidates).h)
    target = model.target.attention.weights(queries, keys, packing) * packing.mask[:, None, None, :]
    order = list(model.schema.groups)
    numbers = torch.cat([torch.full_like(b.positions, order.index(g)) for g, b in batch.histories.items()])
    positions = torch.cat([b.positions for b in batch.histories.values()])
    place = packing.owner.cpu(), packing.place.cpu()  # positions never leave the CPU
    laid = torch.full((2, batch.size, packing.longest), -1)
    laid[0][place], laid[1][place] = numbers, positions
    return Explanation(tuple(matrices), target, laid[0], laid[1])
