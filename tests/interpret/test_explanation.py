"""Attention as a table: every number against the log itself and one sample at a time."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from atrank_lib import interpret
from atrank_lib.samples import build_batch, split
from tests.interpret.models import GROUPS, HISTORIES, LOG, a_model, alone


@pytest.mark.parametrize("target", GROUPS)
def test_the_table_is_the_attention_of_one_sample_after_the_other(target: str) -> None:
    samples = split(HISTORIES).test[target]
    model = a_model()
    table = interpret.attention(model, HISTORIES, samples, batch_size=3)
    expected = []
    for i in range(len(samples)):
        one = alone(samples, i)
        user, moment = HISTORIES.user_ids[int(one.users[0])], int(one.times[0])
        seen = interpret.explain(model, build_batch(HISTORIES, one, one.objects[:, None]))
        weights = seen.target_attention[0, :, 0]  # [k, t]
        place = 0
        for number, group in enumerate(GROUPS):
            events = LOG.events[group]
            own = events[(events["user_id"] == user) & (events["timestamp"] <= moment)]
            own = own.sort_values("timestamp", kind="stable")
            if group == target:  # up to the target's own row
                row = int(HISTORIES.groups[group].rows[one.positions[0]])
                own = own.loc[: own.index[own.index.get_loc(row)]].iloc[:-1]
            else:
                own = own[own["timestamp"] < moment]
            for row, timestamp in own["timestamp"].items():
                assert int(seen.groups[0, place]) == number
                expected.append((i, group, row, moment - timestamp, *weights[:, place].tolist()))
                place += 1
    found = table[["sample", "group", "row", "elapsed", "space 1", "space 2"]]
    assert found.iloc[:, :4].astype({"group": str}).to_numpy().tolist() == [list(e[:4]) for e in expected]
    np.testing.assert_allclose(found.iloc[:, 4:].to_numpy(float), [e[4:] for e in expected], atol=1e-6)
    np.testing.assert_allclose(table["attention"], found[["space 1", "space 2"]].mean(axis=1), atol=1e-6)


def test_a_model_comes_back_as_it_was() -> None:
    samples = split(HISTORIES).test["item"]
    model = a_model(dropout=0.5, embedding_dropout=0.5, id_dropout=0.5).train()
    tables = [interpret.attention(model, HISTORIES, samples) for _ in range(2)]
    pd.testing.assert_frame_equal(*tables)
    for method in (interpret.erasure, interpret.gradient):
        assert (method(model, HISTORIES, samples) == method(model, HISTORIES, samples)).all()
    assert model.training
    assert torch.is_grad_enabled()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_model_of_some_groups_attends_to_those_alone() -> None:
    samples = split(HISTORIES).test["item"]
    some = a_model(histories=HISTORIES)
    some.histories = ("query", "coupon")
    table = interpret.attention(some, HISTORIES, samples)
    assert set(table["group"].astype(str)) == {"query", "coupon"}
    assert len(table) == len(interpret.erasure(some, HISTORIES, samples)) > 0
