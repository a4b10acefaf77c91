"""The whole model against loops, and what must not matter: padding, order, the batch, the number of candidates.

Everything holds with torch's operators alone, and with kernels put in.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from atrank_lib.batches import Packing
from atrank_lib.grouping import GroupedHistories
from atrank_lib.model import ATRank, ATRankConfig
from atrank_lib.ranking import LOSSES
from atrank_lib.samples import build_batch
from atrank_lib.serve.ranker import moments
from tests.cases import EVEN, agrees_with_loops, even_log, make

OPTIONS: dict[str, dict[str, Any]] = {
    "paper": {},
    "unequal spaces": {"spaces": (1, 3, 2)},
    "one space": {"spaces": 1},
    "two layers": {"blocks": 2, "spaces": (4, 2)},
    "no layer": {"blocks": 0},
}
GROUPS = list(EVEN.groups)


@pytest.mark.parametrize("name", list(OPTIONS))
def test_scores_and_gradients_agree_with_loops(name, speed):
    seed = list(OPTIONS).index(name)
    case = make("paper", even_log(seed), GROUPS[seed % 3], OPTIONS[name], seed, speed=speed)
    assert case.behaviors[-1] == []
    assert any(b and {x.group for x in b} == {"items"} for b in case.behaviors)
    agrees_with_loops(case, seed)


@pytest.mark.parametrize("group", ["item", "query", "coupon"])
def test_groups_may_have_any_number_of_features(tiny_log, group, speed):
    case = make("paper", tiny_log, group, speed=speed)
    widths = [case.model.embedding(g).size // case.model.config.embedding_size for g in tiny_log.schema.groups]
    assert widths == [4, 1, 3]
    case.close(case.model(case.batch).scores, [[x.score for x in row] for row in case.scored(case.reference())])


@pytest.mark.parametrize("group", GROUPS)
def test_histories_of_some_groups_rank_objects_of_any(group, speed):
    case = make("paper", even_log(5), group, groups=("query", "coupon"), speed=speed)
    assert list(case.batch.histories) == ["query", "coupon"]
    assert case.behaviors[0] == []  # this user did nothing but look at items
    case.close(case.model(case.batch).scores, [[x.score for x in row] for row in case.scored(case.reference())])


def test_the_encoding_holds_what_its_fields_say(speed):
    case = make("paper", even_log(9), "items", {"spaces": (1, 3, 2)}, speed=speed)
    encoding, a = case.model.encode(case.batch), case.model.target.attention
    case.close(encoding.keys, a.keys(encoding.behaviors))
    case.close(encoding.values, a.values(encoding.behaviors))
    c = [x for behaviors in case.behaviors for x in case.reference().encode(behaviors)[0]]
    found = {}  # rows of the batch by sample and row of the log, which the loops have in the order of time
    groups = torch.cat([torch.full_like(b.positions, i) for i, b in enumerate(case.batch.histories.values())])
    rows = torch.cat([case.histories.groups[g].rows[b.positions] for g, b in case.batch.histories.items()])
    for number, where in enumerate(zip(case.batch.packing.owner.tolist(), groups.tolist(), rows.tolist(), strict=True)):
        found[where] = number
    order = [found[b, GROUPS.index(x.group), x.row] for b, behaviors in enumerate(case.behaviors) for x in behaviors]
    assert sorted(order) == list(range(len(encoding.behaviors)))
    case.close(encoding.behaviors[order], c)


@pytest.mark.parametrize(
    ("speed", "dtype"), [("torch", torch.float64), ("torch", torch.float32), ("kernels", torch.float32)]
)
@pytest.mark.parametrize("name", ["paper", "unequal spaces", "two layers"])
def test_a_history_scores_the_same_alone_and_beside_longer_ones(name, speed, dtype):
    case = make("paper", even_log(10), "items", OPTIONS[name], speed=speed, dtype=dtype)
    together = case.model(case.batch).scores
    lengths = [len(b) for b in case.behaviors]
    assert min(lengths) == 0
    assert max(lengths) > 10
    for b in range(len(lengths)):
        alone = case.some(torch.tensor([b]))
        assert alone.batch.packing.longest == max(lengths[b], 1)
        case.close(case.model(alone.batch).scores[0], together[b])


@pytest.mark.parametrize("name", ["paper", "unequal spaces", "two layers"])
def test_neither_order_nor_places_of_a_history_matter(name, speed):
    case = make("paper", even_log(11), "items", OPTIONS[name], speed=speed)
    generator, packing = torch.Generator().manual_seed(0), case.batch.packing
    # the behaviors of each sample change places, across groups
    place = packing.place.clone()
    for b in range(case.batch.size):
        own = (packing.owner == b).nonzero()[:, 0]
        place[own] = place[own][torch.randperm(len(own), generator=generator)]
    assert not torch.equal(place, packing.place)
    moved = replace(case.batch, packing=Packing.of(packing.owner, place, case.batch.size))
    case.close(case.model(moved).scores, case.model(case.batch).scores)


def test_the_order_of_samples_and_candidates_only_permutes_scores(speed):
    case = make("paper", even_log(12), "coupon", speed=speed)
    generator = torch.Generator().manual_seed(0)
    samples, columns = torch.randperm(len(case.samples), generator=generator), torch.tensor([2, 0, 1])
    batch = build_batch(case.histories, case.samples[samples], case.rows[samples][:, columns])
    case.close(case.model(batch).scores, case.model(case.batch).scores[samples][:, columns])


def test_one_encoding_serves_any_number_of_candidates(speed):
    case = make("paper", even_log(13), "query", speed=speed)
    encoding, catalog = case.model.encode(case.batch), case.histories.catalogs["query"]
    together = case.model(case.batch).scores
    for column in range(case.rows.shape[1]):
        one = replace(case.batch.candidates, features=catalog.take(case.rows[:, column]), shape=(len(case.rows), 1))
        case.close(case.model.score(encoding, one).scores[:, 0], together[:, column])


@pytest.mark.parametrize("name", list(OPTIONS))
@pytest.mark.parametrize(
    ("speed", "dtype"), [("torch", torch.float64), ("torch", torch.float32), ("kernels", torch.float32)]
)
def test_empty_histories_have_finite_scores_and_gradients(name, speed, dtype):
    case = make("paper", even_log(14), "items", OPTIONS[name], speed=speed, dtype=dtype)
    users = case.samples.users
    nothing = moments(case.histories, "items", users, torch.zeros_like(users))
    empty = build_batch(case.histories, nothing, case.rows)
    assert len(empty.packing.owner) == 0
    for batch in (empty, case.batch):
        case.model.zero_grad()
        found = case.model(batch)
        assert found.scores.isfinite().all()
        (LOSSES["pointwise"](found.scores) + found.l2()).backward()
        assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in case.model.parameters())
    # without a history users differ in nothing
    scores = case.model(build_batch(case.histories, nothing, torch.arange(3).expand(len(nothing), 3))).scores
    case.close(scores, scores[:1].expand_as(scores))


def test_no_samples_have_no_scores(speed):
    case = make("paper", even_log(14), "items", speed=speed)
    assert case.model(case.some(torch.arange(0)).batch).scores.shape == (0, 3)


def test_dropout_acts_in_training_alone(speed):
    dropping = {"dropout": 0.5, "embedding_dropout": 0.3}
    case, plain = (make("paper", even_log(15), "items", some, speed=speed) for some in (dropping, {}))
    case.close(case.model(case.batch).scores, plain.model(plain.batch).scores)
    case.model.train()
    torch.manual_seed(0)
    assert not torch.allclose(case.model(case.batch).scores, case.model(case.batch).scores)


def test_both_faces_of_a_target_went_through_the_same_dropout(speed):
    case = make("paper", even_log(15), "items", {"embedding_dropout": 0.5}, speed=speed)
    case.model.train()
    torch.manual_seed(0)
    found = case.model.targets(case.batch.candidates)
    share = float((found.q == 0).double().mean())
    assert 0.2 < share < 0.8
    case.close(found.h, case.model.projection.one("items", found.q.flatten(0, 1)).view_as(found.h))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": 7}, "hidden=7 cannot be divided into spaces=3"),
        ({"spaces": (2, 2)}, r"spaces=\[2, 2\], in all 4, must be positive and sum to hidden=6"),
        ({"heads": 8}, "heads"),
        ({"attention": "dot"}, "attention"),  # a variant's
        ({"dropout": 1.0}, "dropout"),
        ({"blocks": -1}, "blocks"),
    ],
)
def test_wrong_configurations_are_refused(options, message):
    vocabularies = GroupedHistories.from_log(even_log(18)).vocabularies
    with pytest.raises((ValueError, ValidationError), match=message):
        ATRank(EVEN, vocabularies, ATRankConfig(**{"embedding_size": 2, "hidden": 6, "spaces": 3} | options))


def test_wrong_groups_are_refused(tiny_log):
    vocabularies = GroupedHistories.from_log(tiny_log).vocabularies
    with pytest.raises(ValueError, match=r"history groups: .*movie"):
        ATRank(tiny_log.schema, vocabularies, histories=["item", "movie"])


def test_the_defaults_are_the_paper_s_sizes(tiny_log):
    model = ATRank(tiny_log.schema, GroupedHistories.from_log(tiny_log).vocabularies)
    assert model.histories == ("item", "query", "coupon")
    assert model.block(0).attention.sizes == (16,) * 8
    assert all(table.embedding_dim == 64 for table in model.tables.values() if isinstance(table, nn.Embedding))
    assert (model.config.hidden, model.config.embedding_size, len(model.blocks)) == (128, 64, 1)


def test_tables_are_shared_by_the_groups_that_name_their_vocabulary():
    case = make("paper", even_log(17), "items")
    shop = [m.weight for n, m in case.model.named_modules(remove_duplicate=False) if n.endswith("tables.[shop/id]")]
    assert len(shop) == 4  # the model's own name for it, and one for each group
    assert len({id(weight) for weight in shop}) == 1
    assert sum(p is shop[0] for p in case.model.parameters()) == 1
    assert case.model.target.attention is not case.model.block(-1).attention
