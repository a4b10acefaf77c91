"""What a model costs: parameters, and multiply-adds of one score."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from atrank_lib.embedding import Table
from atrank_lib.evaluation import evaluating
from atrank_lib.fast import plain
from atrank_lib.grouping import GroupedHistories
from atrank_lib.log.events import EventLog
from atrank_lib.log.vocabularies import Vocabularies
from atrank_lib.ranking import Model
from atrank_lib.runs import MODELS
from atrank_lib.samples import build_batch, split
from experiments.models import config
from experiments.records import Record


def cost(model: Model, histories: GroupedHistories, samples: int = 512) -> Record:
    """Parameters of tables and of the rest, and the multiply-adds of a score, read history included.

    Counted over products of matrices for the first test samples, one candidate each; padding counts where a model pads.
    The model is left without kernels.

    >>> found = cost(model, histories)
    >>> found["parameters"]["rest"] > 0, found["multiply_adds"] > 0
    (True, True)
    """
    count = 0
    # LSTMs and attention in one piece hide their products from the counter
    lstm, attention = torch.backends.mkldnn.flags(enabled=False), sdpa_kernel(SDPBackend.MATH)
    counter = FlopCounterMode(display=False)
    with evaluating(plain(model)), warnings.catch_warnings(action="ignore"), lstm, attention, counter:
        for some in split(histories).test.values():
            some = some[:samples]
            for index in torch.arange(len(some)).split(64):
                model(build_batch(histories, some[index], some.objects[index][:, None], model.histories))
            count += len(some)
    products = counter.get_total_flops() / 2
    return {"parameters": parameters(model), "multiply_adds": round(products / count)}


def parameters(model: nn.Module) -> dict[str, int]:
    """Parameters of tables, and of the rest."""
    every = sum(p.numel() for p in model.parameters())
    tables = sum(m.weight.numel() for m in model.modules() if isinstance(m, (Table, nn.Embedding)))
    return {"tables": tables, "rest": every - tables}


def matching_width(log: EventLog, model: str, options: Mapping[str, Any], like: Mapping[str, Any]) -> int:
    """The multiple of 8, as ``hidden``, that brings a model's parameters outside of tables nearest to those it has with
    the options ``like``.

    >>> matching_width(log, "atrank", {"told": "raw"}, {})
    144
    """
    vocabularies = Vocabularies.from_objects(log.schema, {name: table.head(0) for name, table in log.objects.items()})

    def rest(of: Mapping[str, Any], **width: int) -> int:
        return parameters(MODELS[model].build(log.schema, vocabularies, config(model, {**of, **width})))["rest"]

    wanted, width = rest(like), 8
    while rest(options, hidden=width) < wanted:
        width += 8
    return min((width - 8, width), key=lambda w: abs(rest(options, hidden=w) - wanted)) if width > 8 else width
