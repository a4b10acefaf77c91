"""A batch moves to a device with all that a model reads."""

from __future__ import annotations

import torch

from atrank_lib.grouping import Ragged
from atrank_lib.scale.execution import moved
from tests.cases import even_log, make
from tests.random_logs import inputs


def test_a_batch_moves_whole():
    case = make("atrank", even_log(16), "coupon")
    found = moved(case.batch, torch.device("cpu"))
    assert all(torch.equal(x, y) for x, y in zip(inputs(case.batch), inputs(found), strict=True))
    assert torch.equal(found.users, case.batch.users)
    assert (found.size, found.packing.longest, found.candidates.shape) == (
        case.batch.size, case.batch.packing.longest, case.batch.candidates.shape,
    )  # fmt: skip
    assert torch.equal(case.model(found).scores, case.model(case.batch).scores)


def test_all_that_a_model_reads_is_on_the_device():
    case = make("atrank", even_log(16), "coupon")
    far = moved(case.batch, torch.device("meta"))
    read = [far.users, far.packing.owner, far.packing.place, far.packing.lengths]
    read += [x for g in far.histories.values() for x in (g.actions, g.elapsed)]
    for features in (far.candidates.features, *(g.features for g in far.histories.values())):
        for value in features.values():
            read.extend([value.values, value.offsets] if isinstance(value, Ragged) else [value])
    assert {x.device.type for x in read} == {"meta"}
