"""Behavior grouping against dictionaries of lists built by loops."""

from __future__ import annotations

import math
import statistics
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings

from atrank_lib.batches import Features, Ragged
from atrank_lib.grouping import GroupedHistories
from atrank_lib.log.events import EventLog
from atrank_lib.log.schema import Schema
from atrank_lib.log.vocabularies import UNKNOWN, Vocabularies
from atrank_lib.samples import split
from tests.random_logs import lists, random_log, shapes


def tensors(features: Features) -> list[torch.Tensor]:
    return [t for f in features.values() for t in ([f.values, f.offsets] if isinstance(f, Ragged) else [f])]


@pytest.mark.parametrize("seed", range(5))
def test_random_logs_are_what_checking_makes_of_them(seed: int) -> None:
    """The tests make them without: they must not differ from what a user's log becomes."""
    log = random_log(seed, users=seed + 1, objects=seed + 2)
    checked = EventLog.from_tables(log.schema, log.events, log.objects)
    for found, expected in ((log.events, checked.events), (log.objects, checked.objects)):
        for name, frame in expected.items():
            pd.testing.assert_frame_equal(found[name], frame, check_column_type=True)


@settings(max_examples=40, deadline=None)
@given(shapes())
def test_blocks_hold_each_users_list(shape: tuple[int, ...]) -> None:
    log = random_log(*shape)
    histories, expected = GroupedHistories.from_log(log), lists(log)
    users = sorted({user for group in expected.values() for user in group})
    assert histories.user_ids.tolist() == users
    assert len(histories) == len(users)
    for name, group in histories.groups.items():
        actions, ids = log.schema.groups[name].actions, histories.catalogs[name].object_ids
        assert ids == tuple(log.objects[name]["object_id"])
        assert group.offsets[0] == 0
        assert group.offsets[-1] == len(log.events[name]) == len(group.timestamps)
        for number, user in enumerate(users):
            block = slice(int(group.offsets[number]), int(group.offsets[number + 1]))
            found = list(
                zip(
                    group.rows[block].tolist(),
                    group.timestamps[block].tolist(),
                    [actions[a] for a in group.actions[block].tolist()],
                    [ids[o] for o in group.objects[block].tolist()],
                    strict=True,
                )
            )
            assert found == [(e.row, e.timestamp, e.action, e.object_id) for e in expected[name].get(user, [])]
            assert (group.users()[block] == number).all()


def test_ids_stay_text() -> None:
    histories = GroupedHistories.from_log(random_log(3, users=7, behaviors=200))
    assert histories.user_ids.tolist() == ["007", "10", "7", "9", "Zoë", "ann b", "steady", "用户"]
    assert [histories.user(name) for name in ("007", "7", "用户")] == [0, 2, 7]


def test_unknown_user_is_named(tiny_log: EventLog) -> None:
    histories = GroupedHistories.from_log(tiny_log)
    with pytest.raises(KeyError, match=r"user 'zoe' has no behavior in this log; its first users are \['anna'"):
        histories.user("zoe")


def test_repr_gives_sizes(tiny_log: EventLog) -> None:
    histories = GroupedHistories.from_log(tiny_log)
    assert repr(histories) == "GroupedHistories(5 users; item: 12, query: 4, coupon: 4 behaviors)"


def plain_words(log: EventLog) -> dict[str, set[str]]:
    """Values of every vocabulary, by loops over the objects tables."""
    words: dict[str, set[str]] = {}
    for name, group in log.schema.groups.items():
        for feature, spec in group.features.items():
            if spec.kind == "continuous":
                continue
            pool = words.setdefault(spec.vocabulary or f"{name}.{feature}", set())
            for value in log.objects[name][feature]:
                if spec.kind == "tokens":
                    pool.update(value)
                elif isinstance(value, str):
                    pool.add(value)
    return words


@settings(max_examples=30, deadline=None)
@given(shapes())
def test_vocabularies_and_catalogs(shape: tuple[int, ...]) -> None:
    log = random_log(*shape)
    histories, words = GroupedHistories.from_log(log), plain_words(log)
    vocabularies = histories.vocabularies
    assert {name: set(values) for name, values in vocabularies.words.items()} == words
    index = {name: {v: i for i, v in enumerate(sorted(values), start=1)} for name, values in words.items()}
    for name, values in words.items():
        assert vocabularies.size(name) == len(values) + 1
    for name, group in log.schema.groups.items():
        for feature, spec in group.features.items():
            column, got = log.objects[name][feature].tolist(), histories.catalogs[name].features[feature]
            known = index.get(spec.vocabulary or f"{name}.{feature}", {})
            if isinstance(got, Ragged):
                for row, tokens in enumerate(column):
                    part = got.values[got.offsets[row] : got.offsets[row + 1]]
                    assert part.tolist() == [known[t] for t in tokens]
            elif spec.kind == "continuous":
                finite = [v for v in column if not math.isnan(v)]
                mean = statistics.fmean(finite) if finite else 0.0
                deviation = (statistics.pstdev(finite) if finite else 0.0) or 1.0
                expected = [[0.0, 1.0] if math.isnan(v) else [(v - mean) / deviation, 0.0] for v in column]
                torch.testing.assert_close(got, torch.tensor(expected), rtol=1e-4, atol=1e-5)
            else:
                assert got.tolist() == [known[v] if isinstance(v, str) else UNKNOWN for v in column]


def test_shared_vocabulary_pools_groups(tiny_log: EventLog) -> None:
    vocabularies = GroupedHistories.from_log(tiny_log).vocabularies
    assert vocabularies.words["shop"] == ("s1", "s2", "s3")
    assert vocabularies.words["item.object_id"] == ("i1", "i2", "i3", "i4", "i5", "i6")
    assert vocabularies.words["token"] == ("cup", "green", "red", "shoes", "tea")
    assert set(vocabularies.words) == {
        *("shop", "category", "token", "item.object_id", "coupon.object_id", "coupon.coupon_type")
    }
    prices = [10.0, 25.5, 3.0, 99.0, 0.5]
    assert vocabularies.scales == {"item.price": pytest.approx((statistics.fmean(prices), statistics.pstdev(prices)))}


def test_encode_with_smaller_vocabularies(tiny_log: EventLog) -> None:
    full = GroupedHistories.from_log(tiny_log)
    seen = {name: table.iloc[:0] for name, table in tiny_log.objects.items()}
    seen["item"] = tiny_log.objects["item"].iloc[[0, 3]]  # i1: s1, shoes, 10.0 and i4: s2, tea, 3.0
    seen["query"] = tiny_log.objects["query"].iloc[[1]]  # q2: tea
    small = full.encode(Vocabularies.from_objects(tiny_log.schema, seen))
    assert small.vocabularies.words == {
        "item.object_id": ("i1", "i4"),
        "shop": ("s1", "s2"),
        "category": ("shoes", "tea"),
        "token": ("tea",),
        "coupon.object_id": (),
        "coupon.coupon_type": (),
    }
    items, queries, coupons = (small.catalogs[g].features for g in ("item", "query", "coupon"))
    assert isinstance(items["object_id"], torch.Tensor)
    assert items["object_id"].tolist() == [1, 0, 0, 2, 0, 0]
    assert items["shop_id"].tolist() == [1, 1, 2, 2, 0, 0]  # type: ignore[union-attr]
    assert items["category_id"].tolist() == [1, 1, 2, 2, 2, 0]  # type: ignore[union-attr]
    # mean 6.5, deviation 3.5; i3 has no price
    torch.testing.assert_close(
        items["price"], torch.tensor([[1, 0], [19 / 3.5, 0], [0, 1], [-1, 0], [92.5 / 3.5, 0], [-6 / 3.5, 0]])
    )
    assert isinstance(queries["tokens"], Ragged)
    assert queries["tokens"].values.tolist() == [0, 0, 1, 0, 1, 0]
    assert queries["tokens"].offsets.tolist() == [0, 2, 3, 6]
    assert coupons["object_id"].tolist() == [0, 0, 0]  # type: ignore[union-attr]
    assert coupons["shop_id"].tolist() == [1, 0, 2]  # type: ignore[union-attr]
    # the behaviors themselves are shared, not copied
    assert small.groups is full.groups
    assert full.vocabularies.size("shop") == 4


def test_constant_and_absent_prices(tiny_schema: Schema, tiny_tables: tuple[dict, dict]) -> None:
    events, objects = tiny_tables
    for prices, expected in (([7.0] * 6, [0.0, 0.0]), ([math.nan] * 6, [0.0, 1.0])):
        objects["item"]["price"] = prices
        histories = GroupedHistories.from_log(EventLog.from_tables(tiny_schema, events, objects))
        assert histories.catalogs["item"].features["price"].tolist() == [expected] * 6  # type: ignore[union-attr]


def test_objects_without_tokens(tiny_schema: Schema, tiny_tables: tuple[dict, dict]) -> None:
    events, objects = tiny_tables
    objects["query"]["tokens"] = [[], [], []]
    histories = GroupedHistories.from_log(EventLog.from_tables(tiny_schema, events, objects))
    tokens = histories.catalogs["query"].features["tokens"]
    assert isinstance(tokens, Ragged)
    assert tokens.values.tolist() == []
    assert tokens.offsets.tolist() == [0, 0, 0, 0]


def test_catalog_take(tiny_log: EventLog) -> None:
    catalog = GroupedHistories.from_log(tiny_log).catalogs["query"]
    taken = catalog.take(torch.tensor([2, 0, 2]))["tokens"]
    assert isinstance(taken, Ragged)
    assert taken.values.tolist() == [2, 5, 1, 3, 4, 2, 5, 1]
    assert taken.offsets.tolist() == [0, 3, 5, 8]


def test_users_are_numbered_by_the_vocabularies(tiny_log: EventLog) -> None:
    histories = GroupedHistories.from_log(tiny_log)
    assert histories.vocabularies.users == tuple(histories.user_ids)
    assert histories.users.tolist() == list(range(1, len(histories) + 1))
    users = histories.user_ids[[0, 2]]
    some = histories.encode(Vocabularies.from_objects(tiny_log.schema, tiny_log.objects, users))
    assert some.vocabularies.users == (histories.user_ids[0], histories.user_ids[2])
    assert some.users.tolist() == [1, 0, 2] + [0] * (len(histories) - 3)
    assert len(some.vocabularies.users) == 2


def test_vocabularies_survive_the_disk(tmp_path: Path) -> None:
    vocabularies = Vocabularies(
        {"shop": ("0", "Zoë", "用户", '"'), "empty": ()}, {"item.price": (0.1, 1 / 3)}, ("Ann", "用户")
    )
    vocabularies.write(tmp_path / "v.json")
    assert Vocabularies.read(tmp_path / "v.json") == vocabularies
    indices = vocabularies.index("shop", pd.Series(["用户", None, "00", "0"], dtype="str"))
    assert indices.tolist() == [3, UNKNOWN, UNKNOWN, 1]


def test_check_groups(tiny_schema: Schema) -> None:
    assert tiny_schema.check_groups(["query", "item"], "targets") == ("query", "item")
    with pytest.raises(ValueError, match=r"targets: \['itme'\]; the log's groups are \['item', 'query', 'coupon'\]"):
        tiny_schema.check_groups(["item", "itme"], "targets")
    with pytest.raises(ValueError, match="targets: nothing given"):
        tiny_schema.check_groups([], "targets")


def test_memory_grows_with_behaviors_alone() -> None:
    """1.7 million behaviors must fit in 300 MB with all their samples: 176 bytes each; here a tenth of that log."""
    n, users, objects = 170_000, 4_000, 5_000
    rng = np.random.default_rng(0)
    schema = random_log(0).schema
    events, tables = {}, {}
    for name, share in (("item", 0.6), ("query", 0.3), ("coupon", 0.1)):
        m = int(n * share)
        events[name] = pd.DataFrame(
            {
                "user_id": pd.Series(rng.integers(0, users, m)).astype("str"),
                "timestamp": rng.integers(0, 10**9, m),
                "action": pd.Series(rng.choice(schema.groups[name].actions, m)),
                "object_id": pd.Series(rng.integers(0, objects, m)).astype("str"),
            }
        )
        ids = pd.Series(range(objects)).astype("str")
        tables[name] = pd.DataFrame({"object_id": ids, "shop_id": ids, "price": rng.random(objects)})
    tables["query"] = pd.DataFrame({"object_id": tables["item"]["object_id"]})
    tables["query"]["tokens"] = [[f"w{i % 97}", f"w{i % 89}"] for i in range(objects)]
    histories = GroupedHistories.from_log(EventLog.from_tables(schema, events, tables))
    parts = split(histories, "validated")
    held = sum(t.nbytes for g in histories.groups.values() for t in vars(g).values())
    held += sum(t.nbytes for c in histories.catalogs.values() for t in tensors(c.features))
    held += sum(int(t.memory_usage(deep=True).sum()) for t in histories.tables.values())
    held += sum(
        t.nbytes
        for tasks in (parts.train, parts.validation, parts.test)
        for samples in tasks.values()
        for t in vars(samples).values()
        if isinstance(t, torch.Tensor)
    )
    assert held / n < 300e6 / 1.7e6
