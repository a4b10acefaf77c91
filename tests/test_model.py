"""The whole model against loops, and what must not matter: padding, order, the batch, the number of candidates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from atrank_lib.batches import Batch, Ragged, Samples
from atrank_lib.grouping import GroupedHistories
from atrank_lib.log.events import EventLog
from atrank_lib.log.schema import Schema
from atrank_lib.model import ATRank, ATRankConfig
from atrank_lib.ranking import LOSSES
from atrank_lib.runs.checkpoints import load_weights, save_weights
from atrank_lib.samples import build_batch, moments
from tests import reference
from tests.reference import Reference

USERS, OBJECTS, DAYS = 6, 7, 100
DAY_MS = 86_400_000

# every group has three features, so that q_t can be as wide as h_t; "items" and "type" are also names of PyTorch
EVEN = Schema.model_validate(
    {
        "name": "random marketplace",
        "timestamp_unit": "ms",
        "groups": {
            "items": {
                "actions": ["browse", "buy"],
                "features": {
                    "object_id": {"kind": "categorical"},
                    "shop": {"kind": "categorical", "vocabulary": "shop.id"},
                    "type": {"kind": "continuous"},
                },
            },
            "query": {
                "actions": ["search"],
                "features": {
                    "object_id": {"kind": "categorical"},
                    "words": {"kind": "tokens", "vocabulary": "words"},
                    "length": {"kind": "continuous"},
                },
                "time": {"unit": "hour", "buckets": 8},
            },
            "coupon": {
                "actions": ["receive", "use", "lose"],
                "features": {
                    "object_id": {"kind": "categorical"},
                    "shop": {"kind": "categorical", "vocabulary": "shop.id"},
                    "title": {"kind": "tokens", "vocabulary": "words"},
                },
                "time": {"edges": [0.3, 7, 30]},
            },
        },
    }
)

SMALL: dict[str, Any] = {"embedding_size": 2, "hidden": 6, "spaces": 3}
OPTIONS: dict[str, dict[str, Any]] = {
    "paper": {},
    "unequal spaces": {"spaces": (1, 3, 2)},
    "one space": {"spaces": 1},
    "two layers": {"blocks": 2, "spaces": (4, 2)},
    "no layer": {"blocks": 0, "target_attention": "shared"},
    "dot": {"attention": "dot"},
    "attended residual": {"residual": "attended"},
    "shared target attention": {"target_attention": "shared"},
    "two layers, shared": {"target_attention": "shared", "blocks": 2},
    "target residual": {"target_residual": True},
    "raw target": {"ranked": "raw"},
    "told raw": {"told": "raw", "spaces": (1, 3, 2)},
    "told raw, shared": {"told": "raw", "target_attention": "shared", "target_residual": True},
    "told raw alone": {"told": "raw", "blocks": 0},
    "object bias": {"object_bias": True},
    "linear projection": {"linear_projection": True},
    "one-hot time": {"time": "one_hot"},
    "continuous time": {"time": "continuous"},
    "no time": {"time": "none"},
    "mlp": {"ranking": "mlp"},
    "the original code": {
        "attention": "dot",
        "time": "one_hot",
        "target_residual": True,
        "object_bias": True,
        "linear_projection": True,
    },
}


def random_log(seed: int) -> EventLog:
    """Six users; user u0 has many items only, the others what chance gives them; numbers and words may be missing."""
    rng = np.random.default_rng(seed)

    def words() -> list[str]:
        return [f"w{n}" for n in rng.integers(5, size=rng.integers(4))]

    events, objects = {}, {}
    for group, spec in EVEN.groups.items():
        rows = []
        for user in range(USERS):
            n = {0: 12 if group == "items" else 0}.get(user, int(rng.integers(1 if group == "items" else 0, 6)))
            for _ in range(n):
                time, action = (
                    int(rng.integers(1, DAYS * DAY_MS)),
                    spec.actions[rng.integers(len(spec.actions))],
                )
                rows.append((f"u{user}", time, action, f"{group}{rng.integers(OBJECTS)}"))
        events[group] = pd.DataFrame(rows, columns=["user_id", "timestamp", "action", "object_id"])
        table: dict[str, list[Any]] = {"object_id": [f"{group}{n}" for n in range(OBJECTS)]}
        for name, feature in spec.features.items():
            if feature.kind == "tokens":
                table[name] = [words() for _ in range(OBJECTS)]
            elif feature.kind == "continuous":
                table[name] = [float("nan") if n == 2 else float(rng.normal(5, 3)) for n in range(OBJECTS)]
            elif name != "object_id":
                table[name] = [None if n == 4 else f"s{rng.integers(3)}" for n in range(OBJECTS)]
        objects[group] = pd.DataFrame(table)
    return EventLog.from_tables(EVEN, events, objects)


@dataclass(frozen=True)
class Case:
    """A model, a batch of ragged histories, and the same histories as lists for the reference."""

    log: EventLog
    histories: GroupedHistories
    model: ATRank
    samples: Samples
    rows: Tensor  # candidates
    batch: Batch
    behaviors: list[list[reference.Behavior]]

    @property
    def group(self) -> str:
        return self.samples.target_group

    def reference(self) -> Reference:
        parameters = {name: p.detach().numpy() for name, p in self.model.named_parameters()}
        vocabularies, config = self.histories.vocabularies, self.model.config
        return Reference(self.log.schema, vocabularies, self.log.objects, config, parameters)

    def object_id(self, b: int, column: int) -> str:
        return self.histories.catalogs[self.group].object_ids[int(self.rows[b, column])]

    def expected(self, model: Reference) -> list[list[reference.Scored]]:
        rows = []
        for b, behaviors in enumerate(self.behaviors):
            c, _ = model.encode(behaviors)
            rows.append([model.score(c, self.group, self.object_id(b, i)) for i in range(self.rows.shape[1])])
        return rows


def make(
    log: EventLog,
    options: dict[str, Any],
    group: str,
    seed: int = 0,
    *,
    groups: tuple[str, ...] | None = None,
    dtype: torch.dtype = torch.float64,
) -> Case:
    """Every user at a random moment, one of them before anything happened; the model does not know the last objects."""
    generator = torch.Generator().manual_seed(seed)
    everything = GroupedHistories.from_log(log)
    seen = {g: torch.arange(len(c)) < len(c) - 1 for g, c in everything.catalogs.items()}
    histories = everything.encode(everything.vocabularies_of(seen))
    last = max(int(g.timestamps.max()) for g in histories.groups.values())
    users = torch.arange(len(histories))
    times = torch.randint(last // 2, last + 2, (len(users),), generator=generator)
    times[0], times[-1] = last + 1, 0
    samples = moments(histories, group, users, times)
    rows = torch.randint(len(histories.catalogs[group]), (len(users), 3), generator=generator)
    rows[0, 0] = len(histories.catalogs[group]) - 1
    model = ATRank(log.schema, histories.vocabularies, ATRankConfig(**SMALL | options), groups).to(dtype)
    for p in model.parameters():
        nn.init.normal_(p, std=0.6, generator=generator)
    behaviors = [
        reference.history(log, histories.user_ids[u], t, groups)
        for u, t in zip(users.tolist(), times.tolist(), strict=True)
    ]
    batch = build_batch(histories, samples, rows, model.histories)
    return Case(log, histories, model, samples, rows, batch, behaviors)


def close(found: Tensor, expected: Any, tolerance: float = 1e-10) -> None:
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", list(OPTIONS))
def test_scores_and_gradients_agree_with_loops(name):
    seed = list(OPTIONS).index(name)
    case = make(random_log(seed), OPTIONS[name], ["items", "query", "coupon"][seed % 3], seed)
    assert case.behaviors[-1] == []
    assert any(b and {x.group for x in b} == {"items"} for b in case.behaviors)
    found, expected = case.model(case.batch), case.expected(case.reference())
    close(found.scores, [[x.score for x in row] for row in expected])
    close(found.targets, [[x.target for x in row] for row in expected])
    close(found.users, [[x.user for x in row] for row in expected])
    squares = sum(float(x.target @ x.target + x.user @ x.user) for row in expected for x in row)
    assert found.l2().item() == pytest.approx(squares / 2)

    # a few samples are enough for the gradients, which the reference takes by central differences
    loss = ["pointwise", "pairwise"][seed % 2]
    some = torch.tensor([2, 3, len(case.samples) - 1])
    case = replace(
        case,
        samples=case.samples[some],
        rows=case.rows[some],
        batch=build_batch(case.histories, case.samples[some], case.rows[some]),
        behaviors=[case.behaviors[i] for i in some.tolist()],
    )
    LOSSES[loss](case.model(case.batch).scores).backward()
    model = case.reference()
    slow_loss = {"pointwise": reference.pointwise_loss, "pairwise": reference.pairwise_loss}[loss]

    def shifted(value: np.ndarray, place: tuple[int, ...], step: float) -> float:
        before = value[place]
        value[place] = before + step
        result = slow_loss([[x.score for x in row] for row in case.expected(model)])
        value[place] = before
        return result

    rng = np.random.default_rng(seed)
    touched = 0
    for parameter_name, parameter in case.model.named_parameters():
        if parameter.grad is None:
            # groups that are not ranked have no candidates, hence no bias to train
            assert parameter_name.startswith("biases.")
            continue
        gradient, value = parameter.grad.numpy(), parameter.detach().numpy().copy()
        model.p = dict(model.p) | {parameter_name: value}
        flat = gradient.ravel()
        number = rng.choice(np.flatnonzero(flat)) if flat.any() else rng.integers(flat.size)
        touched += bool(flat[number])
        place = tuple(int(i) for i in np.unravel_index(number, gradient.shape))
        slope = (shifted(value, place, 1e-6) - shifted(value, place, -1e-6)) / 2e-6
        assert gradient[place] == pytest.approx(slope, rel=1e-5, abs=1e-8), parameter_name
    assert touched > 0.6 * len(list(case.model.parameters()))


@pytest.mark.parametrize("time", ["lookup", "one_hot"])
@pytest.mark.parametrize("group", ["item", "query", "coupon"])
def test_groups_may_have_any_number_of_features(tiny_log, group, time):
    case = make(tiny_log, {"time": time, "embedding_size": 3}, group)
    widths = [
        case.model.embedding(g).size - (case.model.embedding(g).time.buckets if time == "one_hot" else 0)
        for g in tiny_log.schema.groups
    ]
    assert widths == [12, 3, 9]
    close(case.model(case.batch).scores, [[x.score for x in row] for row in case.expected(case.reference())])


def test_histories_of_some_groups_rank_objects_of_any():
    log = random_log(5)
    for group in EVEN.groups:
        case = make(log, {}, group, groups=("query", "coupon"))
        assert list(case.batch.histories) == ["query", "coupon"]
        assert case.behaviors[0] == []  # this user did nothing but look at items
        close(case.model(case.batch).scores, [[x.score for x in row] for row in case.expected(case.reference())])


@pytest.mark.parametrize("name", ["paper", "unequal spaces", "two layers", "no layer", "dot"])
def test_explanations_are_the_weights_of_the_loops(name):
    case = make(random_log(7), OPTIONS[name], "query")
    found, model = case.model.explain(case.batch), case.reference()
    assert len(found.self_attention) == case.model.config.blocks
    names = list(EVEN.groups)
    for b, behaviors in enumerate(case.behaviors):
        # where does the explanation put each behavior of the log?
        where = {}
        for place, (g, position) in enumerate(zip(found.groups[b].tolist(), found.positions[b].tolist(), strict=True)):
            assert (g == -1) == (position == -1)
            if g >= 0:
                where[names[g], int(case.histories.groups[names[g]].rows[position])] = place
        assert set(where) == {(x.group, x.row) for x in behaviors}
        order = [where[x.group, x.row] for x in behaviors]
        empty = [place for place in range(case.batch.length) if place not in order]
        c, layers = model.encode(behaviors)
        for weights, expected in zip(found.self_attention, layers, strict=True):
            if behaviors:
                close(weights[b][:, order][:, :, order], expected)
                close(weights[b][:, order].sum(dim=-1), 1)
            assert not weights[b][:, empty].any()
            assert not weights[b][:, :, empty].any()
        for column in range(case.rows.shape[1]):
            weights = found.target_attention[b, :, column]
            if behaviors:
                close(weights[:, order], model.score(c, "query", case.object_id(b, column)).weights)
                close(weights.sum(dim=-1), 1)
            assert not weights[:, empty].any()


@pytest.mark.parametrize("name", ["paper", "unequal spaces", "two layers", "shared target attention"])
def test_explanations_rebuild_the_scores(name):
    """Values weighted by the explained matrices give C, the user vectors and the scores of the forward pass."""
    case = make(random_log(8), OPTIONS[name], "items")
    model, found = case.model, case.model.explain(case.batch)
    encoding = model.encode(case.batch)
    layout, s = encoding.layout, model.project(case.batch)
    for number, weights in enumerate(found.self_attention):
        block = model.block(number)
        values = layout.pad(block.attention.values(s)).split(block.attention.sizes, dim=-1)
        told = torch.cat([weights[:, k] @ v for k, v in enumerate(values)], dim=-1)
        s = block.norm(s + block.feed_forward(layout.pack(told)))
    close(s, encoding.behaviors.detach().numpy())
    values = layout.pad(model.target.attention.values(s)).split(model.target.attention.sizes, dim=-1)
    users = model.target.feed_forward(
        torch.cat([found.target_attention[:, k] @ v for k, v in enumerate(values)], dim=-1)
    )
    scores = model(case.batch)
    close(users, scores.users.detach().numpy())
    close((users * scores.targets).sum(dim=-1), scores.scores.detach().numpy())


def test_the_encoding_holds_what_its_fields_say():
    case = make(random_log(9), {"spaces": (1, 3, 2)}, "items")
    encoding, a = case.model.encode(case.batch), case.model.target.attention
    close(encoding.keys, a.keys(encoding.behaviors).detach().numpy())
    close(encoding.values, a.values(encoding.behaviors).detach().numpy())


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("name", ["paper", "unequal spaces", "two layers", "dot", "the original code"])
def test_a_history_scores_the_same_alone_and_beside_longer_ones(name, dtype, tolerance):
    case = make(random_log(10), OPTIONS[name], "items", dtype=dtype)
    together = case.model(case.batch).scores
    lengths = [len(b) for b in case.behaviors]
    assert min(lengths) == 0
    assert max(lengths) > 10
    for b in range(len(lengths)):
        one = torch.tensor([b])
        alone = build_batch(case.histories, case.samples[one], case.rows[one])
        assert alone.length == max(lengths[b], 1)
        scale = max(together[b].abs().max().item(), 1.0)
        close(case.model(alone).scores[0] / scale, together[b].detach().numpy() / scale, tolerance)


@pytest.mark.parametrize("name", ["paper", "unequal spaces", "two layers", "dot"])
def test_order_inside_a_history_only_permutes_explanations(name):
    case = make(random_log(11), OPTIONS[name], "items")
    generator = torch.Generator().manual_seed(0)
    size, length = case.batch.size, case.batch.length
    # behaviors take other places of their sample's row: mixed with other groups and with empty places
    turns = torch.stack([torch.randperm(length, generator=generator) for _ in range(size)])
    owner, place = case.batch.slots // length, case.batch.slots % length
    moved = replace(case.batch, slots=owner * length + turns[owner, place])
    before, after = case.model(case.batch), case.model(moved)
    first, second = case.model.explain(case.batch), case.model.explain(moved)
    for b in range(size):
        if not case.behaviors[b]:
            continue
        turn = turns[b]
        close(after.scores[b], before.scores[b].detach().numpy(), 1e-12)
        assert torch.equal(second.groups[b, turn], first.groups[b])
        assert torch.equal(second.positions[b, turn], first.positions[b])
        close(second.target_attention[b][:, :, turn], first.target_attention[b].numpy(), 1e-12)
        for x, y in zip(first.self_attention, second.self_attention, strict=True):
            close(y[b][:, turn][:, :, turn], x[b].numpy(), 1e-12)


def test_the_order_of_samples_and_candidates_only_permutes_scores():
    case = make(random_log(12), {}, "coupon")
    samples, columns = torch.randperm(len(case.samples)), torch.tensor([2, 0, 1])
    batch = build_batch(case.histories, case.samples[samples], case.rows[samples][:, columns])
    expected = case.model(case.batch).scores[samples][:, columns]
    close(case.model(batch).scores, expected.detach().numpy(), 1e-12)


@pytest.mark.parametrize("name", ["paper", "object bias", "the original code"])
def test_one_encoding_serves_any_number_of_candidates(name):
    case = make(random_log(13), OPTIONS[name], "query")
    encoding, catalog = case.model.encode(case.batch), case.histories.catalogs["query"]
    together = case.model(case.batch).scores.detach().numpy()
    for column in range(case.rows.shape[1]):
        one = replace(case.batch.candidates, features=catalog.take(case.rows[:, column]), shape=(len(case.rows), 1))
        close(case.model.score(encoding, one).scores[:, 0], together[:, column], 1e-12)


@pytest.mark.parametrize("name", list(OPTIONS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_empty_histories_have_finite_scores_and_gradients(name, dtype):
    case = make(random_log(14), OPTIONS[name], "items", dtype=dtype)
    nothing = replace(case.samples, times=torch.zeros_like(case.samples.times))
    nothing = moments(case.histories, "items", nothing.users, nothing.times)
    empty = build_batch(case.histories, nothing, case.rows)
    assert len(empty.slots) == 0
    for batch in (empty, case.batch):
        case.model.zero_grad()
        found = case.model(batch)
        assert found.scores.isfinite().all()
        (LOSSES["pointwise"](found.scores) + found.l2()).backward()
        assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in case.model.parameters())
    # without a history users differ in nothing
    scores = case.model(build_batch(case.histories, nothing, torch.arange(3).expand(len(nothing), 3))).scores
    torch.testing.assert_close(scores, scores[:1].expand_as(scores))
    assert not case.model.explain(empty).target_attention.any()


def test_dropout_acts_in_training_alone():
    case = make(random_log(15), {"dropout": 0.5, "embedding_dropout": 0.3, "target_residual": True}, "items")
    case.model.eval()
    assert torch.equal(case.model(case.batch).scores, case.model(case.batch).scores)
    plain = make(random_log(15), {"target_residual": True}, "items")
    assert torch.equal(case.model(case.batch).scores, plain.model(plain.batch).scores)
    case.model.train()
    assert not torch.equal(case.model(case.batch).scores, case.model(case.batch).scores)


@pytest.mark.parametrize("ranked", ["projected", "raw"])
def test_the_target_that_is_ranked_went_through_the_same_dropout(ranked):
    case = make(random_log(15), {"embedding_dropout": 0.5, "ranked": ranked, "linear_projection": True}, "items")
    case.model.train()
    assert not torch.equal(case.model(case.batch).targets, case.model(case.batch).targets)


def test_a_batch_moves_with_all_that_the_model_reads():
    case = make(random_log(16), {}, "coupon")
    moved = case.batch.to("cpu")
    assert torch.equal(case.model(moved).scores, case.model(case.batch).scores)
    far = case.batch.to("meta")
    read = [far.slots, *(x for g in far.histories.values() for x in (g.actions, g.elapsed))]
    for features in (far.candidates.features, *(g.features for g in far.histories.values())):
        for value in features.values():
            read.extend([value.values, value.offsets] if isinstance(value, Ragged) else [value])
    assert {x.device.type for x in read} == {"meta"}


@pytest.mark.parametrize("name", ["paper", "two layers, shared", "object bias"])
def test_models_are_saved_with_their_shared_tables(tmp_path, name):
    case = make(random_log(17), OPTIONS[name], "items")
    path = tmp_path / "model.safetensors"
    save_weights(case.model, path)
    other = ATRank(EVEN, case.histories.vocabularies, case.model.config).double()
    assert not torch.equal(other(case.batch).scores, case.model(case.batch).scores)
    again = path.with_name("again.safetensors")
    load_weights(other, path)
    save_weights(other, again)
    assert again.read_bytes() == path.read_bytes()
    assert torch.equal(other(case.batch).scores, case.model(case.batch).scores)
    assert len(list(other.parameters())) == len(list(case.model.parameters()))
    shop = [m.weight for n, m in other.named_modules(remove_duplicate=False) if n.endswith("tables.[shop/id]")]
    assert len(shop) == 4  # the model's own name for it, and one for each group
    assert len({id(weight) for weight in shop}) == 1
    if name == "two layers, shared":
        assert other.target.attention is other.block(-1).attention
    else:
        assert other.target.attention is not other.block(-1).attention


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": 7}, "hidden=7 cannot be divided into spaces=3"),
        ({"spaces": (2, 2)}, "sum to hidden=6; they sum to 4"),
        (
            {"ranked": "raw", "embedding_size": 3},
            r"ranked='raw' compares q_t of group 'items' \(9 wide\) with hidden=6",
        ),
        ({"ranked": "raw", "time": "one_hot"}, r"group 'items' \(22 wide\)"),
        ({"attention": "additive"}, "'bilinear' or 'dot'"),
        ({"attention": "dot", "spaces": (1, 3, 2)}, "needs spaces of one size"),
        ({"heads": 8}, "heads"),
        ({"dropout": 1.0}, "dropout"),
        ({"blocks": -1}, "blocks"),
    ],
)
def test_wrong_configurations_are_refused(options, message):
    vocabularies = GroupedHistories.from_log(random_log(18)).vocabularies
    with pytest.raises((ValueError, ValidationError), match=message):
        ATRank(EVEN, vocabularies, ATRankConfig(**SMALL | options))


def test_wrong_groups_are_refused(tiny_log):
    vocabularies = GroupedHistories.from_log(tiny_log).vocabularies
    with pytest.raises(ValueError, match="object_bias needs object_id among the features of group 'query'"):
        ATRank(tiny_log.schema, vocabularies, ATRankConfig(object_bias=True))
    with pytest.raises(ValueError, match=r"history groups: .*movie"):
        ATRank(tiny_log.schema, vocabularies, histories=["item", "movie"])


def test_the_defaults_are_the_paper_s_sizes(tiny_log):
    model = ATRank(tiny_log.schema, GroupedHistories.from_log(tiny_log).vocabularies)
    assert model.histories == ("item", "query", "coupon")
    assert model.block(0).attention.sizes == (16,) * 8
    assert all(table.embedding_dim == 64 for table in model.tables.values() if isinstance(table, nn.Embedding))
    assert (model.config.hidden, model.config.embedding_size, len(model.blocks)) == (128, 64, 1)
