"""What a model costs: parameters, and multiply-adds of one score."""

from __future__ import annotations

import warnings

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from atrank_lib.embedding import Table
from atrank_lib.evaluation import evaluating
from atrank_lib.fast import plain
from atrank_lib.grouping import GroupedHistories
from atrank_lib.ranking import Model
from atrank_lib.samples import build_batch, split
from experiments.records import Record


def cost(model: Model, histories: GroupedHistories, samples: int = 512) -> Record:
    """Parameters of tables and of the rest, and the multiply-adds of a score, read history included.

    Counted over products of matrices for the first test samples, one candidate each; padding counts where a model pads.
    The model is left without kernels.

    >>> found = cost(model, histories)
    >>> found["parameters"]["rest"] > 0, found["multiply_adds"] > 0
    (True, True)
    """
    every = sum(p.numel() for p in model.parameters())
    tables = sum(m.weight.numel() for m in model.modules() if isinstance(m, (Table, nn.Embedding)))
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
    return {"parameters": {"tables": tables, "rest": every - tables}, "multiply_adds": round(products / count)}
