"""Attribution: erasure and gradients against the model itself, asked about other histories and other vectors."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from atrank_lib import interpret
from atrank_lib.batches import Batch, Features, GroupBatch, Packing, Ragged, Samples
from atrank_lib.evaluation import fixed_candidates
from atrank_lib.grouping import GroupedHistories
from atrank_lib.interpret import attribution
from atrank_lib.log.events import EventLog
from atrank_lib.model import ATRank
from atrank_lib.samples import build_batch, split
from tests.interpret.models import GROUPS, HISTORIES, LOG, a_model, alone, lead


def asked(target: str, blocks: int, negatives: int) -> tuple[ATRank, Samples, Tensor, Tensor | None]:
    """A model, samples, and the objects whose scores are compared; as an argument None stands for the target alone."""
    samples = split(HISTORIES).test[target]
    if not negatives:
        return a_model(blocks=blocks), samples, samples.objects[:, None], None
    candidates = fixed_candidates(HISTORIES, {target: samples}, negatives)[target]
    return a_model(blocks=blocks), samples, candidates, candidates


def without(batch: Batch, number: int) -> Batch:
    """A batch of one sample without its behavior ``number``."""
    histories: dict[str, GroupBatch] = {}
    for name, part in batch.histories.items():
        kept = torch.tensor([i for i in range(len(part.actions)) if i != number], dtype=torch.long)
        number -= len(part.actions)
        features: Features = {f: v.take(kept) if isinstance(v, Ragged) else v[kept] for f, v in part.features.items()}
        histories[name] = GroupBatch(features, part.actions[kept], part.elapsed[kept], part.positions[kept])
    left = sum(len(part.actions) for part in histories.values())
    packing = Packing.of(torch.zeros(left, dtype=torch.long), torch.arange(left), 1)
    return replace(batch, histories=histories, packing=packing)


@pytest.mark.parametrize(("target", "blocks", "negatives"), [("item", 1, 0), ("query", 2, 3), ("coupon", 0, 1)])
def test_erasure_is_the_score_without_the_behavior(
    target: str, blocks: int, negatives: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, samples, objects, candidates = asked(target, blocks, negatives)
    monkeypatch.setattr(attribution, "ROWS", 30)  # several pieces
    found = interpret.erasure(model, HISTORIES, samples, candidates, batch_size=3)
    table = interpret.attention(model, HISTORIES, samples)
    assert len(found) == len(table)
    falls = []
    for i in range(len(samples)):
        batch = build_batch(HISTORIES, alone(samples, i), objects[[i]])
        with torch.no_grad():
            batches = [batch, *(without(batch, number) for number in range(len(batch.packing.owner)))]
            scores = torch.stack([model(some).scores[0] for some in batches])
        leads = scores[:, 0] - (scores[:, 1:].mean(dim=1) if negatives else 0)
        falls += (leads[0] - leads[1:]).tolist()
    np.testing.assert_allclose(found, falls, atol=2e-5)
    assert np.abs(found).max() > 1e-2

    # and of some, on a log that does not hold the behavior
    for number in np.random.default_rng(0).choice(len(table), 8, replace=False):
        i, group, row = table.loc[number, ["sample", "group", "row"]]
        events = {**LOG.events, group: LOG.events[group].drop(index=row).reset_index(drop=True)}
        shorter = GroupedHistories.from_log(EventLog(LOG.schema, events, LOG.objects))
        one = alone(samples, i)
        ends = one.ends.clone()
        before = int(LOG.events[group]["user_id"].iloc[row] <= HISTORIES.user_ids[int(one.users[0])])
        ends[0, GROUPS.index(group)] -= before  # cut where the same behaviors end in the shorter log
        fall = lead(model, HISTORIES, one, objects[[i]]) - lead(model, shorter, replace(one, ends=ends), objects[[i]])
        assert found[number] == pytest.approx(fall, abs=2e-5)


@pytest.mark.parametrize(("target", "blocks", "negatives"), [("query", 1, 0), ("coupon", 2, 3), ("coupon", 0, 0)])
def test_gradient_times_input_is_a_finite_difference(target: str, blocks: int, negatives: int) -> None:
    model, samples, objects, candidates = asked(target, blocks, negatives)
    found = interpret.gradient(model, HISTORIES, samples, candidates, batch_size=3)
    exact, step, slopes = copy.deepcopy(model).double(), 1e-6, []
    for i in range(len(samples)):
        batch = build_batch(HISTORIES, alone(samples, i), objects[[i]])
        with torch.no_grad():
            s = exact.project(batch)
            for j in batch.packing.order:
                ends = []
                for factor in (1 + step, 1 - step):
                    moved = s.clone()
                    moved[j] *= factor
                    scores = exact.score(exact.read(moved, batch.packing), batch.candidates).scores[0]
                    ends.append(float(scores[0] - (scores[1:].mean() if negatives else 0)))
                slopes.append((ends[0] - ends[1]) / (2 * step))
    np.testing.assert_allclose(found, slopes, atol=2e-4)
    assert np.abs(found).max() > 1e-2
