"""Samples and protocols against slow loops; nothing may leak from the future."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atrank_lib.batches import Samples
from atrank_lib.grouping import GroupedHistories
from atrank_lib.log.events import EventLog
from atrank_lib.log.vocabularies import Vocabularies
from atrank_lib.model import ATRank, ATRankConfig
from atrank_lib.samples import Protocol, build_batch, history_lengths, moments, prepare, seen_objects, split
from tests.random_logs import SCHEMA, all_samples, inputs, lists, plain_history, random_log, shapes

PROTOCOLS: tuple[Protocol, ...] = ("paper", "validated", "global_time")
FRACTIONS = (0.8, 0.9)


def plain_split(log: EventLog, protocol: str, targets: Sequence[str]) -> list[dict[str, set[int]]]:
    """Rows that are training, validation and test targets, by loops."""
    parts: list[dict[str, set[int]]] = [{g: set() for g in targets} for _ in range(3)]
    everything = lists(log)
    times = sorted(t for g in targets for t in log.events[g]["timestamp"])
    cuts = [times[min(int(f * len(times)), len(times) - 1)] for f in FRACTIONS]
    for group in targets:
        for events in everything[group].values():
            n = len(events)
            for place, event in enumerate(events):
                if place == 0:
                    continue
                if protocol == "global_time":
                    number = sum(event.timestamp >= cut for cut in cuts)
                elif place == n - 1:
                    number = 2
                elif protocol == "validated" and place == n - 2:
                    number = 1
                else:
                    number = 0
                parts[number][group].add(event.row)
    return parts


def history_rows(histories: GroupedHistories, samples: Samples, i: int) -> dict[str, list[int]]:
    """The same, as the package cuts it."""
    return {
        name: group.rows[int(group.offsets[samples.users[i]]) : int(samples.ends[i, number])].tolist()
        for number, (name, group) in enumerate(histories.groups.items())
    }


@settings(max_examples=40, deadline=None)
@given(
    shapes(),
    st.sampled_from(PROTOCOLS),
    st.lists(st.sampled_from(list(SCHEMA.groups)), min_size=1, max_size=3, unique=True),
)
def test_protocols_and_histories(shape: tuple[int, ...], protocol: Protocol, targets: list[str]) -> None:
    log = random_log(*shape)
    histories, expected = GroupedHistories.from_log(log), plain_split(log, protocol, targets)
    if not all(expected[number][group] for number in (0, 2) for group in targets):
        with pytest.raises(ValueError, match=r"has no (training|test) sample under protocol"):
            split(histories, protocol, targets)
        return
    parts = split(histories, protocol, targets)
    for tasks, rows in zip((parts.train, parts.validation, parts.test), expected, strict=True):
        assert list(tasks) == targets
        for group, samples in tasks.items():
            found = histories.groups[group].rows[samples.positions].tolist()
            assert len(found) == len(samples)
            assert set(found) == rows[group]
            assert len(found) == len(rows[group])
            frame = log.events[group]
            for i, row in enumerate(found):
                user = histories.user_ids[int(samples.users[i])]
                assert (user, int(samples.times[i])) == (frame["user_id"][row], frame["timestamp"][row])
                target = histories.catalogs[group].object_ids[int(samples.objects[i])]
                assert target == frame["object_id"][row]
                assert history_rows(histories, samples, i) == plain_history(log, user, group, row)


def test_tie_in_own_group_but_not_in_another(tiny_log: EventLog) -> None:
    """anna: items on days 0, 1, 1, 3.5, 9; queries on 0.5, 3.5; coupons on 1, 8."""
    histories = GroupedHistories.from_log(tiny_log)
    samples = all_samples(histories, "item")
    at = {int(histories.groups["item"].rows[p]): i for i, p in enumerate(samples.positions)}
    assert history_rows(histories, samples, at[2]) == {"item": [0, 1], "query": [0], "coupon": []}
    assert history_rows(histories, samples, at[3]) == {"item": [0, 1, 2], "query": [0], "coupon": [0]}
    assert history_rows(histories, samples, at[4]) == {"item": [0, 1, 2, 3], "query": [0, 1], "coupon": [0, 1]}


@settings(max_examples=20, deadline=None)
@given(shapes())
def test_global_time_never_straddles_a_moment(shape: tuple[int, ...]) -> None:
    histories = GroupedHistories.from_log(random_log(*shape))
    try:
        parts = split(histories, "global_time")
    except ValueError:
        return  # a log with too little after the cut: `test_protocols_and_histories` checks when
    times = [torch.cat([s.times for s in tasks.values()]) for tasks in (parts.train, parts.validation, parts.test)]
    for earlier, later in ((0, 1), (0, 2), (1, 2)):
        if len(times[earlier]) and len(times[later]):
            assert times[earlier].max() < times[later].min()


def test_split_errors(tiny_log: EventLog) -> None:
    histories = GroupedHistories.from_log(tiny_log)
    with pytest.raises(ValueError, match=r"targets: \['shop'\]; the log's groups are"):
        split(histories, "paper", ["shop"])
    with pytest.raises(ValueError, match="targets: nothing given"):
        split(histories, "paper", [])
    with pytest.raises(ValueError, match=r"group 'query' has no training sample .* at most 2 behaviors"):
        split(histories, "validated")


def test_repeated_target_is_one_task(tiny_log: EventLog) -> None:
    histories = GroupedHistories.from_log(tiny_log)
    once, twice = (split(histories, "global_time", t) for t in (["item", "item"], ["item"]))
    assert list(once.train) == ["item"]
    assert torch.equal(once.train["item"].positions, twice.train["item"].positions)


@settings(max_examples=20, deadline=None)
@given(shapes(), st.sampled_from(["paper", "validated"]))
def test_seen_objects(shape: tuple[int, ...], protocol: Protocol) -> None:
    log = random_log(*shape)
    histories = GroupedHistories.from_log(log)
    train = split(histories, protocol, ["item", "query"]).train
    seen: dict[str, set[str]] = {name: set() for name in log.schema.groups}
    for group, rows in plain_split(log, protocol, ["item", "query"])[0].items():
        frame = log.events[group]
        for row in rows:
            seen[group].add(frame["object_id"][row])
            for name, before in plain_history(log, frame["user_id"][row], group, row).items():
                seen[name].update(log.events[name]["object_id"][before])
    for name, mask in seen_objects(histories, train).items():
        ids = histories.catalogs[name].object_ids
        assert {ids[i] for i in mask.nonzero().flatten().tolist()} == seen[name]


# nothing from the future


def changed_future(log: EventLog, user: str, group: str, row: int, seed: int) -> tuple[EventLog, int]:
    """The log with everything at or after the target removed, changed or added to; and the target's row in it.

    The target keeps its time and its row; its action and object become others. The user "steady" stays.
    """
    rng = np.random.default_rng(seed)
    time = log.events[group]["timestamp"][row]
    events, kept_row = {}, -1
    for name, frame in log.events.items():
        future = (frame["timestamp"] >= time) & (frame["user_id"] == user)
        if name == group:
            future = (frame["timestamp"] > time) | ((frame["timestamp"] == time) & (frame.index > row))
            future &= frame["user_id"] == user
        drop = future & (rng.random(len(frame)) < 0.4)
        frame = frame.copy()
        later = future & (rng.random(len(frame)) < 0.5)
        frame.loc[later, "timestamp"] += rng.integers(0, 5)
        swapped = future & (rng.random(len(frame)) < 0.5)
        frame.loc[swapped, "object_id"] = rng.choice(log.objects[name]["object_id"], int(swapped.sum()))
        frame = frame.assign(action=frame["action"].astype(str), before=frame.index)[~drop]
        extra = pd.DataFrame(
            {
                "user_id": user,
                "timestamp": time + rng.integers(0, 4, 3),
                "action": rng.choice(log.schema.groups[name].actions, 3),
                "object_id": rng.choice(log.objects[name]["object_id"], 3),
                "before": -1,
            }
        )
        frame = pd.concat([frame, extra], ignore_index=True)
        if name == group:
            target = frame["before"] == row
            frame.loc[target, "action"] = rng.choice(log.schema.groups[name].actions)
            frame.loc[target, "object_id"] = rng.choice(log.objects[name]["object_id"])
            kept_row = int(frame.index[frame["before"] == row][0])
        events[name] = frame.drop(columns="before")
    return EventLog.from_tables(log.schema, events, log.objects), kept_row


@pytest.fixture(scope="module")
def vocabularies() -> Vocabularies:
    return GroupedHistories.from_log(random_log(0, objects=12)).vocabularies


@pytest.fixture(scope="module")
def model(vocabularies: Vocabularies) -> ATRank:
    torch.manual_seed(0)
    return ATRank(SCHEMA, vocabularies, ATRankConfig(embedding_size=4, hidden=8, spaces=2)).eval()


@settings(max_examples=60, deadline=None)
@given(shapes(), st.sampled_from(list(SCHEMA.groups)), st.data())
def test_no_leak_from_the_future(
    model: ATRank, vocabularies: Vocabularies, shape: tuple[int, ...], group: str, data: st.DataObject
) -> None:
    log = random_log(*shape)
    original = GroupedHistories.from_log(log, vocabularies)
    samples = all_samples(original, group)
    pick = data.draw(st.integers(0, len(samples) - 1))
    user = original.user_ids[int(samples.users[pick])]
    if user == "steady":
        return
    row = int(original.groups[group].rows[samples.positions[pick]])
    changed, changed_row = changed_future(log, user, group, row, data.draw(st.integers(0, 2**31)))
    again = GroupedHistories.from_log(changed, vocabularies)
    others = all_samples(again, group)
    same = int((again.groups[group].rows[others.positions] == changed_row).nonzero()[0])
    candidates = torch.arange(len(original.catalogs[group]))[None]
    one = build_batch(original, samples[torch.tensor([pick])], candidates)
    two = build_batch(again, others[torch.tensor([same])], candidates)
    for x, y in zip(inputs(one), inputs(two), strict=True):
        assert torch.equal(x, y)
    with torch.no_grad():
        assert torch.equal(model(one).scores, model(two).scores)


def test_the_past_does_change_a_batch(tiny_log: EventLog) -> None:
    """The leak test can fail: one earlier behavior less is a different batch."""
    rows = tiny_log.events["item"]
    less = replace(tiny_log, events={**tiny_log.events, "item": rows.drop(index=1).reset_index(drop=True)})
    lengths = []
    for log in (tiny_log, less):
        histories = GroupedHistories.from_log(log)
        last = all_samples(histories, "item")[-4:]  # the last behaviors of anna, bert, carl
        lengths.append(history_lengths(last, histories, ["item"]).tolist())
    assert lengths[0] != lengths[1]


@settings(max_examples=30, deadline=None)
@given(shapes(), st.sampled_from(list(SCHEMA.groups)), st.integers(-6, 14))
def test_moments(shape: tuple[int, ...], group: str, time: int) -> None:
    log = random_log(*shape)
    histories = GroupedHistories.from_log(log)
    n = len(histories)
    samples = moments(histories, group, torch.arange(n), torch.full((n,), time))
    assert samples.objects.tolist() == samples.positions.tolist() == [-1] * n
    everything = lists(log)
    for i, user in enumerate(histories.user_ids):
        assert history_rows(histories, samples, i) == {
            name: [e.row for e in everything[name].get(user, []) if e.timestamp < time] for name in log.schema.groups
        }


def test_moments_of_unknown_group(tiny_log: EventLog) -> None:
    histories = GroupedHistories.from_log(tiny_log)
    with pytest.raises(ValueError, match=r"target group: \['shop'\]"):
        moments(histories, "shop", torch.tensor([0]), torch.tensor([0]))


@settings(max_examples=10, deadline=None)
@given(shapes(), st.sampled_from(["paper", "validated"]))
def test_prepared_histories_know_what_training_shows(shape: tuple[int, ...], protocol: Protocol) -> None:
    log = random_log(*shape)
    histories, parts = prepare(log, protocol, ["item", "query"])
    train = parts.train
    assert {g: s.positions.tolist() for g, s in train.items()} == {
        g: s.positions.tolist() for g, s in split(histories, protocol, ["item", "query"]).train.items()
    }
    for group in ("item", "coupon"):
        ids, seen = histories.catalogs[group].object_ids, seen_objects(histories, train)[group]
        known = set(histories.vocabularies.words[f"{group}.object_id"])
        assert known == {object_id for object_id, shown in zip(ids, seen.tolist(), strict=True) if shown}
    shown = {histories.user_ids[u] for samples in train.values() for u in samples.users.tolist()}
    assert set(histories.vocabularies.users) == shown
