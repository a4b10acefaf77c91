"""A trained model as an ONNX graph: the scores of candidates for one user, and every attention weight behind them.

The graph is that of ``OneUser``, a dense forward pass that reads like the paper's equations: one user, no padding of
histories, one loop over the spaces.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import jaxtyping
import torch
from jaxtyping import Float
from torch import Tensor, nn

from atrank_lib.attention import SpaceAttention
from atrank_lib.embedding import key
from atrank_lib.grouping import Features, Ragged, check_groups
from atrank_lib.log.writing import writing_file
from atrank_lib.model import ATRank
from atrank_lib.samples import Batch

OPSET = 18


class OneUser(nn.Module):
    """ATRank for one user with ``n`` behaviors and ``c`` candidates of one group, as functions of plain tensors.

    Inputs, in the order of ``names``; ``n_g`` behaviors of group ``g``, which may be none. An index is 1 + the place of
    a value in the run's ``vocabularies.json``, 0 is unknown; there are the scales of continuous features too:

    - ``features.g.f``: categorical ``[n_g]`` indices; tokens ``[n_g, t]`` indices, short lists filled with -1;
      continuous ``[n_g, 2]``, the standardized value (0 when missing) and whether it is missing;
    - ``actions.g`` ``[n_g]``, ``elapsed.g`` ``[n_g]`` in the unit of the log's timestamps;
    - ``candidates.f``: the same for the candidates.

    Outputs, behaviors in the schema's order of groups: ``scores`` ``[c]``, ``target_attention`` ``[k, c, n]``, and
    ``self_attention.l`` ``[k, n, n]`` for each layer from 0.
    """

    def __init__(self, model: ATRank, target: str) -> None:
        super().__init__()
        check_groups(model.schema, [target], "target group")
        self.model, self.target_group = model, target
        self.groups = [g for g in model.schema.groups if g in model.histories]
        self.names: list[str] = []
        for g in self.groups:
            self.names += [f"features.{g}.{f}" for f in model.schema.groups[g].features]
            self.names += [f"actions.{g}", f"elapsed.{g}"]
        self.names += [f"candidates.{f}" for f in model.schema.groups[target].features]
        self.outputs = ["scores", "target_attention", *(f"self_attention.{i}" for i in range(len(model.blocks)))]

    def objects(self, group: str, features: Mapping[str, Tensor]) -> Float[Tensor, "n b"]:
        """``emb_g(o)``."""
        embedding = self.model.embedding(group).objects
        parts = []
        for name, spec in embedding.features.items():
            value = features[name]
            if spec.kind == "continuous":
                parts.append(embedding.lines[key(name)](value))
                continue
            table = cast(nn.Embedding, embedding.tables[embedding.vocabularies[name]])
            if spec.kind == "tokens":
                real = (value >= 0).to(table.weight.dtype)  # [n, t]
                rows = table(value.clamp(min=0)) * real[:, :, None]  # [n, t, size]
                parts.append(rows.sum(dim=1) / real.sum(dim=1, keepdim=True).clamp(min=1.0))
            else:
                parts.append(table(value))
        return torch.cat(parts, dim=1)

    def behaviors(self, group: str, inputs: Mapping[str, Tensor]) -> Float[Tensor, "n b"]:
        """``u_ij``: object, action and time of the behaviors of one group."""
        embedding = self.model.embedding(group)
        time, elapsed = embedding.time, inputs[f"elapsed.{group}"]
        u = self.objects(group, _of(inputs, f"features.{group}.")) + embedding.actions(inputs[f"actions.{group}"])
        bucket = (elapsed[:, None] >= time.edges[None, :]).sum(dim=1)
        if time.form == "lookup":
            return u + time.table(bucket)
        if time.form == "one_hot":
            numbers = torch.arange(time.buckets, device=bucket.device)
            return torch.cat([u, (bucket[:, None] == numbers[None, :]).to(u.dtype)], dim=1)
        if time.form == "continuous":
            return u + time.line(elapsed[:, None].to(u.dtype) / time.unit)
        return u

    def attend(
        self, attention: SpaceAttention, asking: Float[Tensor, "q d"], told: Float[Tensor, "n d"], raw: bool = False
    ) -> tuple[Float[Tensor, "q d"], Float[Tensor, "k q n"]]:
        """What every row of ``asking`` takes from ``told`` in all spaces (eq. 3-5, 7), and the weights."""
        queries, keys = attention.queries(asking), attention.keys(told)
        values = told if raw else attention.values(told)
        taken, weights, first = [], [], 0
        for size in attention.sizes:
            k = slice(first, first + size)
            a = (attention.scale * queries[:, k] @ keys[:, k].T).softmax(dim=1)  # [q, n]
            taken.append(a @ values[:, k])
            weights.append(a)
            first += size
        return torch.cat(taken, dim=1), torch.stack(weights)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        inputs = dict(zip(self.names, tensors, strict=True))
        model, config, group = self.model, self.model.config, self.target_group
        c = torch.cat([model.projection.one(g, self.behaviors(g, inputs)) for g in self.groups])  # S, [n, d]
        matrices = []
        for number in range(len(model.blocks)):
            block = model.block(number)
            attended, weights = self.attend(block.attention, c, c)
            matrices.append(weights)
            residual = c if block.residual == "input" else attended
            c = block.norm(residual + block.feed_forward(attended))
        q = self.objects(group, _of(inputs, "candidates."))
        q = nn.functional.pad(q, (0, model.embedding(group).size - q.shape[1]))
        h = model.projection.one(group, q)  # [c, d]
        told, target = self.attend(model.target.attention, h, c, raw=config.told == "raw")
        e = model.target.feed_forward(told)
        if model.target.norm is not None:
            e = model.target.norm(h + e)
        if key(group) in model.heads:
            e = e + model.heads[key(group)](e)
        ranked = q if config.ranked == "raw" else h
        scores = model.rank(ranked[None], e[None])[0]
        if key(group) in model.biases:
            scores = scores + model.biases[key(group)](inputs["candidates.object_id"])[:, 0]
        return scores, target, *matrices


def _of(inputs: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in inputs.items() if name.startswith(prefix)}


def inputs_of(batch: Batch) -> dict[str, Tensor]:
    """The inputs of ``OneUser``, by name, from a batch of one sample.

    Raises:
        ValueError: the batch holds more samples than one.
    """
    if batch.size != 1:
        raise ValueError(f"a batch of {batch.size} samples; the graph reads one user at a time")
    inputs: dict[str, Tensor] = {}
    for name, group in batch.histories.items():
        inputs |= {f"features.{name}.{f}": value for f, value in _dense(group.features).items()}
        inputs |= {f"actions.{name}": group.actions, f"elapsed.{name}": group.elapsed}
    return inputs | {f"candidates.{f}": value for f, value in _dense(batch.candidates.features).items()}


def _dense(features: Features) -> dict[str, Tensor]:
    return {name: _filled(value) if isinstance(value, Ragged) else value for name, value in features.items()}


def _filled(lists: Ragged) -> Tensor:
    """Lists of tokens as a table, filled with -1; at least one column."""
    lengths = lists.offsets.diff()
    width = max(int(lengths.max()), 1) if len(lengths) else 1
    table = torch.full((len(lengths), width), -1, dtype=lists.values.dtype)
    table[torch.arange(width)[None, :] < lengths[:, None]] = lists.values
    return table


def _example(user: OneUser) -> tuple[Tensor, ...]:
    """Two behaviors in each group and three candidates, all unknown: shapes to trace the graph with."""
    kinds = {f"features.{g}.{f}": s.kind for g in user.groups for f, s in user.model.schema.groups[g].features.items()}
    kinds |= {f"candidates.{f}": s.kind for f, s in user.model.schema.groups[user.target_group].features.items()}
    tensors = []
    for name in user.names:
        rows = 3 if name.startswith("candidates.") else 2
        kind = kinds.get(name, "categorical")
        shape = (rows,) if kind == "categorical" else (rows, 2)
        tensors.append(torch.zeros(shape, dtype=torch.float32 if kind == "continuous" else torch.long))
    return tuple(tensors)


@contextmanager
def _unchecked_shapes() -> Iterator[None]:
    """While a graph is traced, sizes are no numbers; whoever checks all annotations would stumble over them."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


def export_onnx(model: ATRank, target: str, file: Path) -> None:
    """Write the graph that scores candidates of group ``target``; see ``OneUser`` for its inputs and outputs.

    Raises:
        ValueError: an unknown group, or the package ``onnx`` is missing.

    >>> from tempfile import TemporaryDirectory
    >>> from atrank_lib import GroupedHistories
    >>> from data_scripts.simulate import MarketplaceConfig, simulate
    >>> histories = GroupedHistories.from_log(simulate(MarketplaceConfig(users=40)).log)
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder) / "model.onnx"
    ...     export_onnx(ATRank(histories.schema, histories.vocabularies), "item", file)
    ...     print(file.stat().st_size > 0)
    True
    """
    try:
        import onnx  # noqa: F401
    except ModuleNotFoundError:
        raise ValueError("a graph needs the package onnx: pip install 'atrank_lib[onnx]'") from None
    user = OneUser(model, target).eval()
    axes: dict[str, dict[int, str]] = {}
    for name, tensor in zip(user.names, example := _example(user), strict=True):
        part, _, rest = name.partition(".")
        rows = "candidates" if part == "candidates" else f"behaviors of {rest.partition('.')[0]}"
        axes[name] = {0: rows}
        if tensor.dim() == 2 and tensor.dtype == torch.long:
            axes[name][1] = f"tokens of {name}"
    axes["scores"] = {0: "candidates"}
    axes["target_attention"] = {1: "candidates", 2: "behaviors"}
    axes |= {name: {1: "behaviors", 2: "behaviors"} for name in user.outputs[2:]}
    with writing_file(file) as beside, torch.no_grad(), _unchecked_shapes(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the exporter that needs no further package
        torch.onnx.export(
            user,
            example,
            beside,
            input_names=user.names,
            output_names=user.outputs,
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )
