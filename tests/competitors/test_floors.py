"""The floors against counts by hand."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from atrank_lib import EventLog
from atrank_lib.samples import prepare
from experiments.floors import FLOORS
from tests.random_logs import lists, random_log


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("group", ["item", "coupon"])
def test_scores_agree_with_counts(seed, group):
    log = random_log(seed, users=6, behaviors=40)
    histories, parts = prepare(log, "validated", [group])
    samples, training = parts.test[group], parts.train[group]
    ids = histories.catalogs[group].object_ids
    rows = torch.randint(len(ids), (len(samples), 5), generator=torch.Generator().manual_seed(seed))
    counts = Counter(ids[o] for o in training.objects.tolist())
    popular = FLOORS["popularity"](histories, samples, rows, training)
    shared = FLOORS["last-category"](histories, samples, rows, training)
    shops = dict(zip(log.objects[group]["object_id"], log.objects[group]["shop_id"], strict=True))
    known = set(histories.vocabularies.words["shop"])
    behaviors = lists(log)[group]
    for s in range(len(samples)):
        before = behaviors[histories.user_ids[int(samples.users[s])]][:-1]  # the last one is the target
        for c in range(5):
            candidate = ids[int(rows[s, c])]
            assert popular[s, c] == counts[candidate]
            same = False
            if before:
                theirs, its = (shops[o] if shops[o] in known else None for o in (before[-1].object_id, candidate))
                same = theirs == its
            assert float(shared[s, c]) == pytest.approx(same + counts[candidate] / (max(counts.values()) + 1))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("group", ["item", "coupon"])
def test_what_was_popular_of_late_and_what_starts_now_agree_with_counts(seed, group):
    log = random_log(seed, users=6, behaviors=40, times=30 * 86_400)
    events, day = log.events[group], 86_400
    events["timestamp"] = events["timestamp"] // day * day  # many at one moment
    log = EventLog.from_tables(log.schema, {**log.events, group: events}, log.objects)
    histories, parts = prepare(log, "validated", [group])
    samples, training = parts.test[group], parts.train[group]
    ids = histories.catalogs[group].object_ids
    rows = torch.arange(len(ids)).expand(len(samples), -1)
    recent = FLOORS["recent-popularity"](histories, samples, rows, training)
    now = FLOORS["starts-now"](histories, samples, rows, training)
    for s, time in enumerate(samples.times.tolist()):
        for c, candidate in enumerate(ids):
            acted = events.loc[events["object_id"] == candidate, "timestamp"]
            assert recent[s, c] == ((acted >= time - 14 * day) & (acted < time)).sum()
            assert now[s, c] == (len(acted) > 0 and acted.min() == time)
    assert recent.max() > 0
    assert 0 < now.sum() < now.numel()
