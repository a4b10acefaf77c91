"""A trained model as an ONNX graph: the scores of candidates for one user, and every attention weight behind them.

The graph is that of ``OneUser``: the model itself, with layers put in that know one user and need no padding.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import jaxtyping
import torch
from torch import Tensor, nn

from atrank_lib.attention import SpaceAttention, join_spaces, split_spaces
from atrank_lib.batches import Batch, Candidates, Features, GroupBatch, Packing, Ragged
from atrank_lib.embedding import ObjectEmbedding
from atrank_lib.fast.layers import plain, replaced
from atrank_lib.log.contract import check_groups
from atrank_lib.log.writing import writing_file
from atrank_lib.model import ATRank, Encoding
from atrank_lib.time_encoding import TimeEncoding

OPSET = 18


class DenseAttention(SpaceAttention):
    """Attention of one user, without padding; it keeps its weights, ``[k, q, n]``."""

    kept: Tensor

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, packing: Packing) -> Tensor:
        q, k, v = (split_spaces(x if x.dim() == 3 else x[None], self.sizes) for x in (queries, keys, values))
        weights = (self.scale * q @ k.transpose(-1, -2)).softmax(dim=-1)
        self.kept = weights[0]
        told = join_spaces(weights @ v, self.sizes)
        return told if queries.dim() == 3 else told[0]


class PlainFeatures(ObjectEmbedding):
    """Tokens in a table, ``[n, t]``, short lists filled with -1."""

    def feature(self, name: str, value: Tensor | Ragged) -> Tensor:
        if self.features[name].kind != "tokens":
            return super().feature(name, value)
        index, table = cast(Tensor, value), self.table(name)
        real = (index >= 0).to(table.weight.dtype)  # [n, t]
        rows = table(index.clamp(min=0)) * real[:, :, None]  # [n, t, size]
        return rows.sum(dim=1) / real.sum(dim=1, keepdim=True).clamp(min=1.0)


class PlainTime(TimeEncoding):
    """Buckets by comparison with every edge: an operator that graphs have."""

    def bucketize(self, elapsed: Tensor) -> Tensor:
        return (elapsed[:, None] >= self.edges[None, :]).sum(dim=1)


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
        self.model, self.target_group = replaced(plain(copy.deepcopy(model)), LAYERS), target
        self.groups = [g for g in model.schema.groups if g in model.histories]
        self.names: list[str] = []
        for g in self.groups:
            self.names += [f"features.{g}.{f}" for f in model.schema.groups[g].features]
            self.names += [f"actions.{g}", f"elapsed.{g}"]
        self.names += [f"candidates.{f}" for f in model.schema.groups[target].features]
        self.outputs = ["scores", "target_attention", *(f"self_attention.{i}" for i in range(len(model.blocks)))]
        self.packing = Packing.of(torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long), size=1)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        inputs, model = dict(zip(self.names, tensors, strict=True)), self.model
        behaviors = {}
        for g in self.groups:
            actions, elapsed = inputs[f"actions.{g}"], inputs[f"elapsed.{g}"]
            behaviors[g] = GroupBatch(_of(inputs, f"features.{g}."), actions, elapsed, actions)
        s = model.projection({g: model.embedding(g)(b) for g, b in behaviors.items()})
        encoding, matrices = self.read(s)
        features = _of(inputs, "candidates.")
        count = cast(Tensor, next(iter(features.values()))).shape[0]
        found = model.score(encoding, Candidates(self.target_group, features, (1, count)))
        return found.scores[0], cast(DenseAttention, model.target.attention).kept, *matrices

    def read(self, s: Tensor) -> tuple[Encoding, list[Tensor]]:
        """Eq. 2-6 layer by layer, and the weights of each: the target may share an attention with the last layer."""
        c, matrices = s, []
        for number in range(len(self.model.blocks)):
            block = self.model.block(number)
            c = block(c, self.packing)
            matrices.append(cast(DenseAttention, block.attention).kept)
        keys, values = self.model.target.read(c)
        return Encoding(c, self.packing, keys, values), matrices


LAYERS: dict[type[nn.Module], type[nn.Module]] = {
    SpaceAttention: DenseAttention,
    ObjectEmbedding: PlainFeatures,
    TimeEncoding: PlainTime,
}


def _of(inputs: Mapping[str, Tensor], prefix: str) -> Features:
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
