"""Samples, protocols and batches against slow loops; nothing may leak from the future."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atrank_lib.batches import Features, Ragged
from atrank_lib.grouping import GroupedHistories
from atrank_lib.log.vocabularies import Vocabularies
from atrank_lib.log.events import EventLog
from atrank_lib.model import ATRank, ATRankConfig
from atrank_lib.batches import Batch
from atrank_lib.samples import Protocol, Samples, batches, build_batch, history_lengths, moments, seen_objects, split
from tests.random_logs import SCHEMA, all_samples, lists, random_log, shapes

PROTOCOLS: tuple[Protocol, ...] = ("paper", "validated", "global_time")
FRACTIONS = (0.8, 0.9)


def plain_history(log: EventLog, user: str, group: str, row: int) -> dict[str, list[int]]:
    """Rows of every group that are strictly before the behavior in ``row`` of ``group``."""
    everything = lists(log)
    time = log.events[group]["timestamp"][row]
    own = [e.row for e in everything[group][user]]
    return {
        name: own[: own.index(row)]
        if name == group
        else [e.row for e in everything[name].get(user, []) if e.timestamp < time]
        for name in log.schema.groups
    }


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


def flat(features: Features) -> list[torch.Tensor]:
    return [t for f in features.values() for t in ([f.values, f.offsets] if isinstance(f, Ragged) else [f])]


def inputs(batch: Batch) -> list[torch.Tensor]:
    """Everything a model can read of a batch."""
    parts = [t for g in batch.histories.values() for t in [*flat(g.features), g.actions, g.elapsed]]
    return [*parts, batch.slots, *flat(batch.candidates.features)]


@pytest.fixture(scope="module")
def model() -> ATRank:
    torch.manual_seed(0)
    vocabularies = GroupedHistories.from_log(random_log(0, objects=12)).vocabularies
    return ATRank(SCHEMA, vocabularies, ATRankConfig(embedding_size=4, hidden=8, spaces=2)).eval()


@settings(max_examples=60, deadline=None)
@given(shapes(), st.sampled_from(list(SCHEMA.groups)), st.data())
def test_no_leak_from_the_future(model: ATRank, shape: tuple[int, ...], group: str, data: st.DataObject) -> None:
    log = random_log(*shape)
    original = GroupedHistories.from_log(log, model_vocabularies())
    samples = all_samples(original, group)
    pick = data.draw(st.integers(0, len(samples) - 1))
    user = original.user_ids[int(samples.users[pick])]
    if user == "steady":
        return
    row = int(original.groups[group].rows[samples.positions[pick]])
    changed, changed_row = changed_future(log, user, group, row, data.draw(st.integers(0, 2**31)))
    again = GroupedHistories.from_log(changed, model_vocabularies())
    others = all_samples(again, group)
    same = int((again.groups[group].rows[others.positions] == changed_row).nonzero()[0])
    candidates = torch.arange(len(original.catalogs[group]))[None]
    one = build_batch(original, samples[torch.tensor([pick])], candidates)
    two = build_batch(again, others[torch.tensor([same])], candidates)
    for x, y in zip(inputs(one), inputs(two), strict=True):
        assert torch.equal(x, y)
    with torch.no_grad():
        assert torch.equal(model(one).scores, model(two).scores)


def model_vocabularies() -> Vocabularies:
    return GroupedHistories.from_log(random_log(0, objects=12)).vocabularies


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


# batches


def plain_features(log: EventLog, histories: GroupedHistories, group: str, object_ids: Sequence[str]) -> list[list]:
    """Feature values of objects, from the log's frame and the vocabularies' words."""
    table = {row["object_id"]: row for row in log.objects[group].to_dict("records")}
    rows = []
    for object_id in object_ids:
        row: list = []
        for name, spec in log.schema.groups[group].features.items():
            value = table[object_id][name]
            if spec.kind == "continuous":
                mean, deviation = histories.vocabularies.scales[f"{group}.{name}"]
                row.append([0.0, 1.0] if np.isnan(value) else [(value - mean) / deviation, 0.0])
                continue
            words = histories.vocabularies.words[log.schema.vocabulary(group, name)]
            if spec.kind == "tokens":
                row.append([words.index(v) + 1 for v in value])
            else:
                row.append(words.index(value) + 1 if isinstance(value, str) else 0)
        rows.append(row)
    return rows


def unpacked(features: Features, n: int) -> list[list]:
    """Feature values of a batch, one list a row."""
    columns = []
    for f in features.values():
        if isinstance(f, Ragged):
            columns.append([f.values[f.offsets[i] : f.offsets[i + 1]].tolist() for i in range(n)])
        else:
            columns.append(f.tolist())
    return [list(row) for row in zip(*columns, strict=True)]


@settings(max_examples=40, deadline=None)
@given(
    shapes(),
    st.sampled_from(list(SCHEMA.groups)),
    st.one_of(st.none(), st.lists(st.sampled_from(list(SCHEMA.groups)), min_size=1, max_size=2, unique=True)),
    st.one_of(st.none(), st.integers(1, 4)),
    st.integers(0, 2**31),
)
def test_build_batch(
    shape: tuple[int, ...], target: str, groups: list[str] | None, max_length: int | None, seed: int
) -> None:
    log = random_log(*shape)
    histories = GroupedHistories.from_log(log)
    samples = all_samples(histories, target)
    rng = np.random.default_rng(seed)
    samples = samples[torch.from_numpy(rng.permutation(len(samples))[:6])]
    candidates = torch.from_numpy(rng.integers(0, len(histories.catalogs[target]), (len(samples), 3)))
    batch = build_batch(histories, samples, candidates, groups, max_length)
    assert (batch.size, batch.candidates.group) == (len(samples), target)
    assert batch.candidates.shape == tuple(candidates.shape)
    everything = lists(log)
    placed: dict[int, tuple] = {}  # slot -> behavior, from the package
    start = 0
    assert list(batch.histories) == [g for g in log.schema.groups if groups is None or g in groups]
    for name, part in batch.histories.items():
        n = len(part.positions)
        slots = batch.slots[start : start + n].tolist()
        rows = histories.groups[name].rows[part.positions].tolist()
        values = unpacked(part.features, n)
        for slot, *behavior in zip(slots, rows, part.actions.tolist(), part.elapsed.tolist(), values, strict=True):
            assert slot not in placed
            placed[slot] = (name, *behavior)
        start += n
    assert start == len(batch.slots)
    longest = 1
    for i in range(len(samples)):
        user = histories.user_ids[int(samples.users[i])]
        row = int(histories.groups[target].rows[samples.positions[i]])
        place = 0
        for name, before in plain_history(log, user, target, row).items():
            if groups is not None and name not in groups:
                continue
            before = before[-max_length:] if max_length else before
            by_row = {e.row: e for e in everything[name].get(user, [])}
            for event in (by_row[r] for r in before):
                got = placed.pop(i * batch.length + place)
                expected = plain_features(log, histories, name, [event.object_id])[0]
                assert got[:4] == (
                    name,
                    event.row,
                    log.schema.groups[name].actions.index(event.action),
                    int(samples.times[i]) - event.timestamp,
                )
                assert got[4] == [pytest.approx(value, abs=1e-5) for value in expected]
                place += 1
        longest = max(longest, place)
    assert not placed
    assert batch.length == longest
    ids = histories.catalogs[target].object_ids
    rows_of_candidates = unpacked(batch.candidates.features, candidates.numel())
    expected_rows = plain_features(log, histories, target, [ids[c] for c in candidates.flatten().tolist()])
    for got_row, expected_row in zip(rows_of_candidates, expected_rows, strict=True):
        assert got_row == [pytest.approx(value, abs=1e-5) for value in expected_row]


def test_empty_histories(tiny_log: EventLog, model: ATRank) -> None:
    histories = GroupedHistories.from_log(tiny_log)
    users = torch.tensor([histories.user("dora"), histories.user("emil")])
    samples = moments(histories, "item", users, torch.tensor([0, 0]))
    assert history_lengths(samples, histories, list(histories.groups)).tolist() == [0, 0]
    batch = build_batch(histories, samples, torch.tensor([[0], [1]]))
    assert (len(batch.slots), batch.length, batch.size) == (0, 1, 2)
    log = random_log(0)
    histories = GroupedHistories.from_log(log, model_vocabularies())
    samples = moments(histories, "item", torch.arange(len(histories)), torch.full((len(histories),), -10))
    nothing = build_batch(histories, samples, torch.zeros((len(histories), 2), dtype=torch.long))
    with torch.no_grad():
        assert model(nothing).scores.isfinite().all()
    # no samples at all
    empty = build_batch(histories, samples[:0], torch.zeros((0, 2), dtype=torch.long))
    assert (empty.size, empty.length, empty.candidates.shape) == (0, 1, (0, 2))


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


@settings(max_examples=30, deadline=None)
@given(shapes(), st.integers(1, 9), st.booleans(), st.integers(1, 3))
def test_batches_cover_every_sample_once(shape: tuple[int, ...], size: int, shuffled: bool, pool: int) -> None:
    histories = GroupedHistories.from_log(random_log(*shape))
    tasks = {g: all_samples(histories, g) for g in histories.groups}
    candidates = {g: torch.stack([s.objects, (s.objects + 1) % 4], dim=1) for g, s in tasks.items()}
    generator = torch.Generator().manual_seed(0) if shuffled else None
    met: dict[str, list[int]] = {g: [] for g in tasks}
    sizes: dict[str, list[int]] = {g: [] for g in tasks}
    for name, index, batch in batches(histories, tasks, candidates, size, generator=generator, pool=pool):
        met[name] += index.tolist()
        sizes[name].append(len(index))
        expected = build_batch(histories, tasks[name][index], candidates[name][index])
        assert batch.candidates.group == name
        for x, y in zip(inputs(batch), inputs(expected), strict=True):
            assert torch.equal(x, y)
    for name, samples in tasks.items():
        assert sorted(met[name]) == list(range(len(samples)))
        full, rest = divmod(len(samples), size)
        assert sorted(sizes[name], reverse=True) == [size] * full + [rest] * (rest > 0)


def test_training_batches_are_shuffled_by_their_generator() -> None:
    histories = GroupedHistories.from_log(random_log(2, behaviors=80, times=100))
    tasks = {g: all_samples(histories, g) for g in histories.groups}
    candidates = {g: s.objects[:, None] for g, s in tasks.items()}

    def order(seed: int) -> list[tuple[str, list[int]]]:
        generator = torch.Generator().manual_seed(seed)
        return [(g, i.tolist()) for g, i, _ in batches(histories, tasks, candidates, 8, generator=generator, pool=2)]

    assert order(0) == order(0)
    assert order(0) != order(1)
    turns = [g for g, _ in order(0)]
    assert turns != sorted(turns, key=list(tasks).index)  # the tasks take turns


def test_batches_pad_little() -> None:
    """With long-tailed histories, batches of similar lengths pad far less than batches in random order."""
    rng = np.random.default_rng(0)
    lengths = np.minimum(rng.zipf(1.5, 300) + 2, 120)
    users = np.repeat([f"u{i:03}" for i in range(300)], lengths)
    frame = pd.DataFrame({"user_id": users, "timestamp": rng.permutation(len(users)), "action": "search"})
    frame["object_id"] = rng.choice(["q1", "q2", "q3"], len(users))
    tiny = random_log(0)
    schema = tiny.schema.model_copy(update={"groups": {"query": tiny.schema.groups["query"]}})
    objects = pd.DataFrame({"object_id": ["q1", "q2", "q3", "q4"], "tokens": [["a"], ["b"], ["c"], []]})
    histories = GroupedHistories.from_log(EventLog.from_tables(schema, {"query": frame}, {"query": objects}))
    tasks = {"query": all_samples(histories, "query")}
    candidates = {"query": tasks["query"].objects[:, None]}
    real = int(history_lengths(tasks["query"], histories, ["query"]).sum())

    def padded(generator: torch.Generator | None) -> float:
        return sum(b.size * b.length for _, _, b in batches(histories, tasks, candidates, 32, generator=generator))

    order = torch.randperm(len(tasks["query"]), generator=torch.Generator().manual_seed(0))
    shuffled = history_lengths(tasks["query"], histories, ["query"])[order].split(32)
    careless = sum(int(part.max()) * len(part) for part in shuffled)
    assert careless > 2 * real
    assert padded(None) < 1.1 * real
    assert padded(torch.Generator().manual_seed(0)) < 1.3 * real


def test_batch_moves_whole(tiny_log: EventLog) -> None:
    """`to` keeps every field; the device is the same here."""
    histories = GroupedHistories.from_log(tiny_log)
    samples = all_samples(histories, "item")
    batch = build_batch(histories, samples, samples.objects[:, None])
    moved = batch.to("cpu")
    for x, y in zip(inputs(batch), inputs(moved), strict=True):
        assert torch.equal(x, y)
    assert (batch.size, batch.length, batch.candidates.shape) == (moved.size, moved.length, moved.candidates.shape)
