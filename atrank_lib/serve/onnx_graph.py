"""A trained model as an ONNX graph, that of ``OneUser``: the scores of candidates for one user, and every attention
weight behind them. It is the model itself, with layers put in that know one user and need no padding."""

import copy
import importlib.util
import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import jaxtyping
import torch
from torch import Tensor, nn

from atrank_lib.attention import SpaceAttention, split_spaces
from atrank_lib.batches import Batch, Candidates, Features, GroupBatch, Packing, Ragged
from atrank_lib.embedding import ObjectEmbedding
from atrank_lib.fast.layers import plain, replaced
from atrank_lib.log.writing import writing_file
from atrank_lib.model import ATRank
from atrank_lib.time_encoding import TimeEncoding


class DenseAttention(SpaceAttention):
    """Attention of one user, without padding; the weights of every call, ``[k, q, n]``, are added to ``kept``."""

    kept: list[Tensor]

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, packing: Packing) -> Tensor:
        q, k, v = (split_spaces(x if x.dim() == 3 else x[None], self.sizes) for x in (queries, keys, values))
        weights = self.shares(self.scale * q @ k.transpose(-1, -2))
        self.kept.append(weights[0])
        spaces = zip((weights @ v).unbind(dim=1), self.sizes, strict=True)
        c = torch.cat([space[..., :size] for space, size in spaces], dim=-1)  # a graph cannot flatten what is empty
        return c if queries.dim() == 3 else c[0]


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


LAYERS = (DenseAttention, PlainFeatures, PlainTime)


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
        model.schema.check_groups([target], "target group")
        self.model, self.target_group = replaced(plain(copy.deepcopy(model)), LAYERS), target
        self.weights: list[Tensor] = []  # of all layers, in the order in which they attend
        for module in self.model.modules():
            if isinstance(module, DenseAttention):
                module.kept = self.weights
        self.groups = [g for g in model.schema.groups if g in model.histories]
        self.inputs: dict[str, tuple[str, str]] = {}  # what its rows are, and of which kind of feature
        for g in self.groups:
            rows, features = f"behaviors of {g}", model.schema.groups[g].features
            self.inputs |= {f"features.{g}.{name}": (rows, spec.kind) for name, spec in features.items()}
            self.inputs |= {f"{name}.{g}": (rows, "categorical") for name in ("actions", "elapsed")}
        features = model.schema.groups[target].features
        self.inputs |= {f"candidates.{name}": ("candidates", spec.kind) for name, spec in features.items()}
        self.names = list(self.inputs)
        self.outputs = ["scores", "target_attention", *(f"self_attention.{i}" for i in range(len(model.blocks)))]
        nothing = torch.zeros(0, dtype=torch.long)
        self.packing, self.user = Packing.of(nothing, nothing, size=1), torch.zeros(1, dtype=torch.long)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        inputs, histories = dict(zip(self.names, tensors, strict=True)), {}
        for g in self.groups:
            actions, elapsed = inputs[f"actions.{g}"], inputs[f"elapsed.{g}"]
            histories[g] = GroupBatch(_of(inputs, f"features.{g}."), actions, elapsed, actions)
        count = tensors[-1].shape[0]  # the last inputs are the candidates'
        candidates = Candidates(self.target_group, _of(inputs, "candidates."), (1, count))
        self.weights.clear()
        found = self.model(Batch(histories, self.packing, self.user, candidates))
        *layers, target = self.weights
        return found.scores[0], target, *layers


def _of(inputs: Mapping[str, Tensor], prefix: str) -> Features:
    return {name.removeprefix(prefix): value for name, value in inputs.items() if name.startswith(prefix)}


def export_onnx(model: ATRank, target: str, file: Path) -> None:
    """Write the graph that scores candidates of group ``target``; see ``OneUser`` for its inputs and outputs.

    ValueError for an unknown group, or where the package ``onnx`` is missing.

    >>> export_onnx(model, "item", folder / "model.onnx")
    >>> (folder / "model.onnx").stat().st_size > 0
    True
    """
    if importlib.util.find_spec("onnx") is None:
        raise ValueError("a graph needs the package onnx: pip install 'atrank_lib[onnx]'")
    user = OneUser(model, target).eval()
    axes = {name: {1: "behaviors", 2: "behaviors"} for name in user.outputs[2:]}
    axes |= {"scores": {0: "candidates"}, "target_attention": {1: "candidates", 2: "behaviors"}}
    example = []  # to trace the graph with: three candidates, two behaviors of each group, all unknown
    for name, (rows, kind) in user.inputs.items():
        count = 3 if rows == "candidates" else 2
        shape = (count,) if kind == "categorical" else (count, 2)
        example.append(torch.zeros(shape, dtype=torch.float32 if kind == "continuous" else torch.long))
        axes[name] = {0: rows, 1: f"tokens of {name}"} if kind == "tokens" else {0: rows}
    with writing_file(file) as beside, torch.no_grad(), ExitStack() as undo, warnings.catch_warnings():
        # while a graph is traced, sizes are no numbers; whoever checks all annotations would stumble over them
        undo.callback(jaxtyping.config.update, "jaxtyping_disable", jaxtyping.config.jaxtyping_disable)
        jaxtyping.config.update("jaxtyping_disable", True)
        warnings.simplefilter("ignore", DeprecationWarning)  # the exporter that needs no further package
        warnings.filterwarnings("ignore", "Constant folding")  # of what is not constant
        names: dict[str, Any] = {"input_names": user.names, "output_names": user.outputs, "dynamic_axes": axes}
        torch.onnx.export(user, tuple(example), beside, **names, opset_version=18, dynamo=False)
