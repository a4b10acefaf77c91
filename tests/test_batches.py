"""Batches against slow loops: whose the packed behaviors are, what they hold, how samples are dealt into batches."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atrank_lib.batches import Features, Packing, Ragged, ranges
from atrank_lib.grouping import GroupedHistories
from atrank_lib.log.events import EventLog
from atrank_lib.samples import batches, build_batch, history_lengths
from atrank_lib.serve.ranker import moments
from tests.ragged import LENGTHS, ragged
from tests.random_logs import SCHEMA, all_samples, inputs, lists, plain_history, random_log, shapes


@given(st.lists(st.integers(0, 4), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_a_packing_in_any_order_of_its_rows(lengths: list[int], chance: Random) -> None:
    everyone = [(b, t) for b, n in enumerate(lengths) for t in range(n)]
    rows = chance.sample(everyone, len(everyone))
    owner, place = torch.tensor(rows, dtype=torch.long).view(-1, 2).unbind(dim=1)
    packing = Packing.of(owner, place, len(lengths))
    assert packing.lengths.tolist() == lengths
    assert packing.longest == max(1, *lengths)
    assert packing.mask.tolist() == [[t < n for t in range(packing.longest)] for n in lengths]
    assert packing.offsets.tolist() == [sum(lengths[:b]) for b in range(len(lengths) + 1)]
    assert [rows[i] for i in packing.order.tolist()] == everyone


def test_a_packing_of_nobody() -> None:
    nothing = torch.zeros(0, dtype=torch.long)
    packing = Packing.of(nothing, nothing, 0)
    assert (packing.longest, packing.mask.shape, packing.offsets.tolist(), len(packing.order)) == (1, (0, 1), [0], 0)


def test_padding_and_packing_are_inverse() -> None:
    s, packing, rows = ragged()
    assert packing.mask.sum(dim=1).tolist() == list(LENGTHS)
    padded = packing.pad(s)
    assert torch.equal(packing.pack(padded), s)
    assert not padded[~packing.mask].any()
    for b, numbers in enumerate(rows):
        assert torch.equal(padded[b, : len(numbers)], s[numbers])


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [2, 3, 0, 1]])
def test_rows_of_equally_long_histories(order: list[int]) -> None:
    """In order they are a padded table already; out of order they are not."""
    rows, s = torch.tensor(order), torch.randn(4, 3)
    packing = Packing.of(rows // 2, rows % 2, 2)
    padded = packing.pad(s[rows])
    assert torch.equal(padded, s.view(2, 2, 3))
    assert torch.equal(packing.pack(padded), s[rows])


def test_only_a_sample_without_behaviors_sees_an_empty_place() -> None:
    _, packing, _ = ragged()
    assert (packing.visible != packing.mask).nonzero().tolist() == [[1, 0]]
    _, full, _ = ragged(lengths=(2, 2))
    assert full.visible.all()


@given(
    st.lists(st.lists(st.integers(0, 99), max_size=4), min_size=1, max_size=6),
    st.lists(st.integers(0, 5), max_size=8),
)
def test_ragged_take(values: list[list[int]], rows: list[int]) -> None:
    rows = [row % len(values) for row in rows]
    flat = torch.tensor([v for part in values for v in part], dtype=torch.long)
    offsets = torch.tensor([0, *np.cumsum([len(part) for part in values])])
    taken = Ragged(flat, offsets).take(torch.tensor(rows, dtype=torch.long))
    assert len(taken.offsets) == len(rows) + 1
    assert [taken.values[a:b].tolist() for a, b in zip(taken.offsets, taken.offsets[1:], strict=False)] == [
        values[row] for row in rows
    ]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 5)), max_size=8))
def test_ranges(parts: list[tuple[int, int]]) -> None:
    starts = torch.tensor([s for s, _ in parts], dtype=torch.long)
    lengths = torch.tensor([n for _, n in parts], dtype=torch.long)
    numbers, owner = ranges(starts, lengths)
    assert numbers.tolist() == [s + j for s, n in parts for j in range(n)]
    assert owner.tolist() == [i for i, (_, n) in enumerate(parts) for _ in range(n)]


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
    placed: dict[tuple[int, int], tuple] = {}  # (sample, place) -> behavior, from the package
    start = 0
    assert list(batch.histories) == [g for g in log.schema.groups if groups is None or g in groups]
    for name, part in batch.histories.items():
        n = len(part.positions)
        owners, places = batch.packing.owner[start : start + n], batch.packing.place[start : start + n]
        rows = histories.groups[name].rows[part.positions].tolist()
        values = unpacked(part.features, n)
        for owner, place, *behavior in zip(
            owners.tolist(), places.tolist(), rows, part.actions.tolist(), part.elapsed.tolist(), values, strict=True
        ):
            assert (owner, place) not in placed
            placed[owner, place] = (name, *behavior)
        start += n
    assert start == len(batch.packing.owner) == len(batch.packing.place)
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
                got = placed.pop((i, place))
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
        assert int(batch.packing.lengths[i]) == place
    assert not placed
    assert batch.packing.longest == longest
    assert torch.equal(batch.users, histories.users[samples.users])
    ids = histories.catalogs[target].object_ids
    rows_of_candidates = unpacked(batch.candidates.features, candidates.numel())
    expected_rows = plain_features(log, histories, target, [ids[c] for c in candidates.flatten().tolist()])
    for got_row, expected_row in zip(rows_of_candidates, expected_rows, strict=True):
        assert got_row == [pytest.approx(value, abs=1e-5) for value in expected_row]


def test_empty_histories(tiny_log: EventLog) -> None:
    histories = GroupedHistories.from_log(tiny_log)
    users = torch.tensor([histories.user("dora"), histories.user("emil")])
    samples = moments(histories, "item", users, torch.tensor([0, 0]))
    assert history_lengths(samples, histories, list(histories.groups)).tolist() == [0, 0]
    batch = build_batch(histories, samples, torch.tensor([[0], [1]]))
    assert (batch.size, len(batch.packing.owner), batch.packing.longest) == (2, 0, 1)
    assert batch.packing.lengths.tolist() == [0, 0]
    # no samples at all
    empty = build_batch(histories, samples[:0], torch.zeros((0, 2), dtype=torch.long))
    assert (empty.size, empty.packing.longest, empty.candidates.shape) == (0, 1, (0, 2))


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
        return sum(b.packing.mask.numel() for _, _, b in batches(histories, tasks, candidates, 32, generator=generator))

    order = torch.randperm(len(tasks["query"]), generator=torch.Generator().manual_seed(0))
    shuffled = history_lengths(tasks["query"], histories, ["query"])[order].split(32)
    careless = sum(int(part.max()) * len(part) for part in shuffled)
    assert careless > 2 * real
    assert padded(None) < 1.1 * real
    assert padded(torch.Generator().manual_seed(0)) < 1.3 * real


@settings(max_examples=20, deadline=None)
@given(shapes(), st.integers(1, 9), st.integers(2, 3), st.booleans())
def test_shares_of_batches_are_all_of_them(shape: tuple[int, ...], size: int, shares: int, shuffled: bool) -> None:
    """In training each batch is dealt out, in evaluation whole batches are."""
    histories = GroupedHistories.from_log(random_log(*shape))
    tasks = {g: all_samples(histories, g) for g in histories.groups}
    candidates = {g: s.objects[:, None] for g, s in tasks.items()}

    def dealt(part: tuple[int, int]) -> list[tuple[str, list[int], list[torch.Tensor]]]:
        generator = torch.Generator().manual_seed(0) if shuffled else None
        found = batches(histories, tasks, candidates, size, generator=generator, part=part)
        return [(name, index.tolist(), inputs(batch)) for name, index, batch in found]

    whole = dealt((0, 1))
    for share in range(shares):
        found = dealt((share, shares))
        expected = whole if shuffled else whole[share::shares]
        assert [(name, index) for name, index, _ in found] == [(name, index) for name, index, _ in expected]
        for name, index, mine in found:
            own = (index[share::shares] or index[:1]) if shuffled else index
            batch = build_batch(histories, tasks[name][torch.tensor(own)], candidates[name][torch.tensor(own)])
            assert all(torch.equal(x, y) for x, y in zip(mine, inputs(batch), strict=True))
