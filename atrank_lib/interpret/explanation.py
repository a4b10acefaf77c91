"""Every attention weight behind a model's scores, for a batch and as a table of behaviors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from atrank_lib.batches import Batch, Samples
from atrank_lib.evaluation import evaluating
from atrank_lib.grouping import GroupedHistories
from atrank_lib.model import ATRank
from atrank_lib.samples import build_batch
from atrank_lib.scale.devices import moved


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


def batches_of(
    model: ATRank, histories: GroupedHistories, samples: Samples, candidates: Int[Tensor, "s c"] | None, size: int
) -> Iterator[tuple[Int[Tensor, " b"], Int[Tensor, "b c"], Batch]]:
    """Batches in the order of the samples, where the model is; without ``candidates`` the target is the only one."""
    device = next(model.parameters()).device
    objects = samples.objects[:, None] if candidates is None else candidates
    for index in torch.arange(len(samples)).split(size):
        batch = build_batch(histories, samples[index], objects[index], model.histories)
        yield index, objects[index], moved(batch, device)


def attention(model: ATRank, histories: GroupedHistories, samples: Samples, batch_size: int = 256) -> pd.DataFrame:
    """The attention that each sample's target gives to each earlier behavior (eq. 7).

    Returns:
        Columns ``sample`` (its number), ``group`` (name), ``row`` (in the log's events table of the group),
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
            frame = pd.DataFrame(
                {
                    "sample": index[sample].numpy(),
                    "group": pd.Categorical.from_codes(seen.groups[sample, place].numpy(), pd.Index(names)),
                    "row": rows[order].long().numpy(),
                    "elapsed": elapsed[order].numpy(),
                    "attention": weights.mean(dim=1).numpy(),
                }
            )
            spaces = {f"space {k + 1}": weights[:, k].numpy() for k in range(weights.shape[1])}
            frames.append(frame.assign(**spaces))
    return pd.concat(frames, ignore_index=True)


def spaces_of(table: pd.DataFrame) -> list[str]:
    """The columns of a table of ``attention`` that hold single spaces.

    >>> spaces_of(pd.DataFrame({"attention": [0.5], "space 1": [0.4], "space 2": [0.6]}))
    ['space 1', 'space 2']
    """
    return [name for name in table.columns if name.startswith("space ")]
