"""Behavior embeddings against loops, and what groups share: the rows of a vocabulary, but no time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from atrank_lib.batches import Ragged
from atrank_lib.embedding import BehaviorEmbedding, shared_tables
from atrank_lib.fast import speed_up
from atrank_lib.grouping import GroupedHistories
from atrank_lib.log.events import EventLog
from atrank_lib.log.schema import Schema, key
from atrank_lib.log.vocabularies import Vocabularies
from atrank_lib.samples import build_batch
from atrank_lib.serve.ranker import moments
from atrank_lib.variants import ATRankOptions, ContinuousTime, NoTime, OneHot12Time, OneHotTime, TimeForm
from tests.reference import Behavior, Reference

SIZE = 3
TIMES: dict[TimeForm, type[BehaviorEmbedding]] = {
    "lookup": BehaviorEmbedding,
    "one_hot": OneHotTime,
    "one_hot_12": OneHot12Time,
    "continuous": ContinuousTime,
    "none": NoTime,
}
FAR = 10**9  # seconds after every behavior


def known(log: EventLog) -> Vocabularies:
    """A model that never saw shop s3, category ink, the token cup, or objects i6 and c3."""
    objects = {name: table.iloc[:-1] for name, table in log.objects.items()}
    return Vocabularies.from_objects(log.schema, objects)


class Parts(nn.Module):
    """Tables and embeddings of all groups under the names that the model gives them."""

    def __init__(self, schema: Schema, vocabularies: Vocabularies, time: TimeForm = "lookup", size: int = SIZE) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.tables, self.size = shared_tables(schema, vocabularies, size), size
        self.embeddings = nn.ModuleDict({key(g): TIMES[time](schema, g, self.tables, size) for g in schema.groups})
        self.double()

    def of(self, group: str) -> BehaviorEmbedding:
        module = self.embeddings[key(group)]
        assert isinstance(module, BehaviorEmbedding)
        return module

    def table(self, vocabulary: str) -> Tensor:
        module = self.tables[key(vocabulary)]
        assert isinstance(module, nn.Embedding)
        return module.weight

    def reference(self, log: EventLog, vocabularies: Vocabularies, time: TimeForm) -> Reference:
        parameters = {name: p.detach().double().numpy() for name, p in self.named_parameters()}
        config = ATRankOptions(embedding_size=self.size, time=time)
        return Reference(log.schema, vocabularies, log.objects, config, parameters)


@pytest.mark.parametrize("time", list(TIMES))
def test_behaviors_and_targets_agree_with_loops(tiny_log, time, speed):
    vocabularies = known(tiny_log)
    histories = GroupedHistories.from_log(tiny_log, vocabularies)
    parts = Parts(tiny_log.schema, vocabularies, time, SIZE if speed == "torch" else 16)
    if speed == "kernels":
        speed_up(parts.float())
    tolerance = 1e-12 if speed == "torch" else 1e-5
    reference = parts.reference(tiny_log, vocabularies, time)
    users = torch.arange(len(histories))
    batch = build_batch(histories, moments(histories, "item", users, torch.full_like(users, FAR)), users[:, None])
    for group, behaviors in batch.histories.items():
        found = parts.of(group)(behaviors).detach().double().numpy()
        events = tiny_log.events[group]
        rows = histories.groups[group].rows[behaviors.positions].tolist()
        assert sorted(rows) == list(range(len(events)))
        for row, u in zip(rows, found, strict=True):
            event = events.iloc[row]
            behavior = Behavior(group, event.object_id, event.action, FAR - event.timestamp, row)
            expected = reference.behavior(behavior)
            np.testing.assert_allclose(u, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())

        catalog = histories.catalogs[group]
        targets = parts.of(group).target(catalog.take(torch.arange(len(catalog)))).detach().double().numpy()
        width = parts.size * len(tiny_log.schema.groups[group].features)
        assert targets.shape == (len(catalog), parts.of(group).size)
        beside = {"one_hot": parts.of(group).time.buckets, "one_hot_12": 12}
        assert parts.of(group).size == width + beside.get(time, 0)
        for object_id, q in zip(catalog.object_ids, targets, strict=True):
            np.testing.assert_allclose(q[:width], reference.object(group, object_id), rtol=tolerance, atol=tolerance)
            assert not q[width:].any()


def test_twelve_times_by_hand(tiny_log):
    """Days + 1 against 2, 4, 8, ..., 4096, in every group."""
    vocabularies = GroupedHistories.from_log(tiny_log).vocabularies
    for group in tiny_log.schema.groups:
        embedding = Parts(tiny_log.schema, vocabularies, "one_hot_12").of(group)
        days = torch.tensor([0, 0.99, 1, 2.99, 3, 6.99, 7, 2047, 4094.99, 4095, 9000])
        found = embedding.timed(torch.zeros(len(days), 0), (days.double() * 86_400).long())
        numbers = [row.nonzero().flatten().tolist() for row in found]
        assert numbers == [[0], [0], [1], [1], [2], [2], [3], [11], [11], [], []]
        assert found.shape[1] == 12


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_elapsed_times_by_hand(tiny_log, dtype):
    """The forms of time that are not looked up; days, but for queries."""
    vocabularies = GroupedHistories.from_log(tiny_log).vocabularies
    elapsed = torch.tensor([0, 43_200, 3 * 86_400])

    def of(time: TimeForm) -> tuple[BehaviorEmbedding, Tensor, Tensor]:
        item = Parts(tiny_log.schema, vocabularies, time).to(dtype).of("item")
        u = torch.randn(3, item.objects.size, generator=torch.Generator().manual_seed(1)).to(dtype)
        return item, u, item.timed(u, elapsed)

    item, u, found = of("continuous")
    days = torch.tensor([0, 0.5, 3], dtype=dtype)
    line = item.time.line
    assert isinstance(line, nn.Linear)
    torch.testing.assert_close(found, u + days[:, None] * line.weight[:, 0] + line.bias)
    item, u, found = of("one_hot")
    assert torch.equal(found[:, : u.shape[1]], u)
    assert [row.nonzero()[:, 0].tolist() for row in found[:, u.shape[1] :]] == [[0], [0], [2]]
    assert found[:, u.shape[1] :].sum() == 3
    assert not list(item.time.parameters())
    item, u, found = of("none")
    assert torch.equal(found, u)
    assert not list(item.time.parameters())


def test_features_are_concatenated_in_the_schema_s_order(tiny_log):
    histories = GroupedHistories.from_log(tiny_log)
    parts = Parts(tiny_log.schema, histories.vocabularies)
    found = parts.of("item").objects(histories.catalogs["item"].take(torch.tensor([3])))[0]
    words = histories.vocabularies.words
    assert words["shop"] == ("s1", "s2", "s3")
    for place, (table, row) in enumerate(
        [("item.object_id", 4), ("shop", 2), ("category", words["category"].index("tea") + 1)]
    ):
        assert torch.equal(found[place * SIZE : (place + 1) * SIZE], parts.table(table)[row])


def test_tokens_are_averaged_and_none_make_zeros(tiny_log):
    histories = GroupedHistories.from_log(tiny_log)
    parts = Parts(tiny_log.schema, histories.vocabularies)
    objects, weight = parts.of("query").objects, parts.table("token")
    features = {"tokens": Ragged(torch.tensor([2, 2, 5, 1]), torch.tensor([0, 0, 3, 3, 4, 4]))}
    found = objects(features)
    zeros = torch.zeros(SIZE, dtype=torch.float64)
    torch.testing.assert_close(found, torch.stack([zeros, (2 * weight[2] + weight[5]) / 3, zeros, weight[1], zeros]))
    found.sum().backward()
    assert weight.grad is not None
    torch.testing.assert_close(
        weight.grad[:, 0], torch.tensor([0, 1, 2 / 3, 0, 0, 1 / 3, 0, 0]).double()[: len(weight)]
    )
    nothing = {"tokens": Ragged(torch.empty(0, dtype=torch.long), torch.zeros(1, dtype=torch.long))}
    assert objects(nothing).shape == (0, SIZE)


def test_a_missing_number_is_a_value_of_its_own(tiny_log):
    histories = GroupedHistories.from_log(tiny_log)
    item = Parts(tiny_log.schema, histories.vocabularies).of("item").objects
    found = item(histories.catalogs["item"].take(torch.arange(6)))[:, 3 * SIZE :]
    line = item.lines[key("price")]
    assert isinstance(line, nn.Linear)
    prices = np.array([10.0, 25.5, np.nan, 3.0, 99.0, 0.5])
    scaled = (prices - np.nanmean(prices)) / np.nanstd(prices)
    for row, value in enumerate(scaled):
        x = torch.tensor([0.0, 1.0] if np.isnan(value) else [value, 0.0], dtype=torch.float64)
        torch.testing.assert_close(found[row], line.weight @ x + line.bias, rtol=1e-6, atol=1e-6)


def test_values_that_are_unknown_share_row_zero(tiny_log):
    vocabularies = known(tiny_log)
    histories = GroupedHistories.from_log(tiny_log, vocabularies)
    parts = Parts(tiny_log.schema, vocabularies)
    found = parts.of("item").objects(histories.catalogs["item"].take(torch.tensor([4, 5])))
    assert torch.equal(found[0, SIZE : 2 * SIZE], parts.table("shop")[0])  # i5 has no shop
    assert torch.equal(found[1, :SIZE], parts.table("item.object_id")[0])  # i6 was never seen


def test_id_dropout_makes_a_share_of_the_ids_unknown_in_training_alone(tiny_log):
    histories = GroupedHistories.from_log(tiny_log)
    parts = Parts(tiny_log.schema, histories.vocabularies)
    item = BehaviorEmbedding(tiny_log.schema, "item", parts.tables, SIZE, id_dropout=0.3).double().objects
    rows = torch.arange(6).repeat(1_000)
    features = histories.catalogs["item"].take(rows)
    torch.manual_seed(0)
    found, ids = item(features), parts.table("item.object_id")
    unknown = (found[:, :SIZE] == ids[0]).all(dim=1)
    assert abs(float(unknown.double().mean()) - 0.3) < 4 * (0.3 * 0.7 / 6_000) ** 0.5
    plain = item.eval()(features)
    assert torch.equal(plain[:, :SIZE], ids[rows + 1])
    assert torch.equal(found[~unknown], plain[~unknown])
    assert torch.equal(found[:, SIZE:], plain[:, SIZE:])  # the other features keep their values


def test_groups_with_one_vocabulary_read_and_train_the_same_rows(tiny_log):
    histories = GroupedHistories.from_log(tiny_log)
    parts = Parts(tiny_log.schema, histories.vocabularies)
    table = parts.table("shop")
    item = parts.of("item").objects(histories.catalogs["item"].take(torch.tensor([0])))  # i1 is of shop s1
    coupon = parts.of("coupon").objects(histories.catalogs["coupon"].take(torch.tensor([0])))  # so is c1
    shop = slice(SIZE, 2 * SIZE)
    assert torch.equal(item[:, shop], coupon[:, shop])
    item.sum().backward()
    assert table.grad is not None
    assert table.grad[:, 0].tolist() == [0, 1, 0, 0]
    coupon.sum().backward()
    assert table.grad[:, 0].tolist() == [0, 2, 0, 0]
    # object_id names no vocabulary: items and coupons have tables of their own
    for own in ("item.object_id", "coupon.object_id"):
        gradient = parts.table(own).grad
        assert gradient is not None
        assert torch.count_nonzero(gradient) == SIZE
    # a shared table is one parameter, however many groups read it
    assert sum(p is table for p in parts.parameters()) == 1


def test_time_and_actions_are_not_shared(tiny_log):
    parts = Parts(tiny_log.schema, GroupedHistories.from_log(tiny_log).vocabularies)
    tables = [parts.of(g).time.table.weight for g in tiny_log.schema.groups]
    assert len({id(t) for t in tables}) == 3
    assert [len(t) for t in tables] == [16, 16, 4]
    assert [parts.of(g).actions.num_embeddings for g in tiny_log.schema.groups] == [3, 1, 1]
    elapsed = torch.tensor([7200])
    assert parts.of("item").time.bucketize(elapsed).item() == 0  # 2 hours in days
    assert parts.of("query").time.bucketize(elapsed).item() == 2  # and in hours


def test_module_names_hold_any_text_and_stay_apart():
    names = ["items", "type", "a.b", "a/b", "a%2Fb", "a..b", "a//b", "", "[a]", "forward", "ü x"]
    modules = nn.ModuleDict({key(name): nn.Linear(1, 1) for name in names})
    assert len(modules) == len(names)


def test_a_group_without_features_is_refused():
    with pytest.raises(ValueError, match="at least 1 item"):
        Schema.model_validate({"name": "x", "groups": {"query": {"actions": ["search"], "features": {}}}})
