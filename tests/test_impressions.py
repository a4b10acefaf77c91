"""Impressions against loops: which behaviors are choices, what was shown beside them, and what context may say."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from sklearn.metrics import roc_auc_score
from torch import Tensor

from atrank_lib.batches import Features, Ragged, Samples
from atrank_lib.competitors.models import BPRMF, BST, DIN, BiLSTM
from atrank_lib.evaluation import evaluate, fixed_candidates, score_candidates, user_auc
from atrank_lib.fast.row_updates import RowSteps
from atrank_lib.grouping import GroupedHistories
from atrank_lib.impressions import ShownHistories, prepare_shown
from atrank_lib.log import EventLog
from atrank_lib.ranking import LOSSES, Model
from atrank_lib.samples import Split, build_batch, prepare, split
from atrank_lib.training import Recipe, Steps, fit
from atrank_lib.variants import ATRankOptions, build
from tests.shown import shop_window

LOG = shop_window()
SIZES = {"hidden": 16, "embedding_size": 8, "spaces": 2}
RECIPE = Recipe(learning_rate=1e-2, batch_size=32, epochs=2, negative_kind="impressions", negatives=None)


@pytest.fixture(scope="module")
def prepared() -> tuple[GroupedHistories, Split]:
    return prepare_shown(LOG, "validated", None, choices=True)


def shown_to(log: EventLog, row: int) -> dict[str, dict[str, object]]:
    """What was shown for a row of the events of items, by its id."""
    table = log.impressions["item"]
    return {str(one["object_id"]): dict(one) for one in table[table["event"] == row].to_dict("records")}


def rows_of(histories: GroupedHistories, samples: Samples) -> list[int]:
    return histories.groups["item"].rows[samples.positions].tolist()


def test_targets_are_choices(prepared: tuple[GroupedHistories, Split]) -> None:
    histories, parts = prepared
    expected: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    events = LOG.events["item"]
    for _, own in events.groupby("user_id"):
        rows = [row for row in own.index[1:].tolist() if len(shown_to(LOG, row)) > 1]  # the first one has no history
        expected["test"] += rows[-1:]
        expected["validation"] += rows[-2:-1]
        expected["train"] += rows[:-2]
    for part, rows in expected.items():
        assert sorted(rows_of(histories, getattr(parts, part)["item"])) == sorted(rows)
    # a group in which nobody knows what was shown is predicted as ever
    plain = split(GroupedHistories.from_log(LOG, histories.vocabularies))
    assert torch.equal(parts.test["other"].positions, plain.test["other"].positions)


def test_negatives_are_what_was_shown_beside(prepared: tuple[GroupedHistories, Split]) -> None:
    histories, parts = prepared
    samples, ids = parts.train["item"], histories.catalogs["item"].object_ids
    everything = fixed_candidates(histories, {"item": samples}, None, kind="impressions")["item"]
    some = fixed_candidates(histories, {"item": samples}, 3, kind="impressions")["item"]
    assert some.shape[1] == 4
    for row, target, whole, few in zip(rows_of(histories, samples), samples.objects, everything, some, strict=True):
        others = shown_to(LOG, row).keys() - {ids[int(target)]}
        assert whole[0] == few[0] == target
        assert Counter(ids[i] for i in whole[1:].tolist() if i >= 0) == Counter(others)
        drawn = [ids[i] for i in few[1:].tolist() if i >= 0]
        assert len(set(drawn)) == len(drawn) == min(3, len(others))
        assert set(drawn) <= others
    of_others = fixed_candidates(histories, {"other": parts.train["other"]}, 3, kind="impressions")["other"]
    assert int(of_others.min()) >= 0  # of a group without impressions: drawn from all


def test_draws_are_even(prepared: tuple[GroupedHistories, Split]) -> None:
    histories, parts = prepared
    lists, samples = histories.lists("item"), parts.train["item"]
    longest = int((lists.offsets[samples.positions + 1] - lists.offsets[samples.positions]).argmax())
    one = samples[torch.full((4_000,), longest)]
    drawn = lists.beside(one, 2, torch.Generator().manual_seed(0))
    counts = torch.bincount(drawn.flatten())
    assert chisquare(counts[counts > 0].numpy()).pvalue > 1e-3
    assert int((counts > 0).sum()) == 7


def test_context_is_that_of_the_list(prepared: tuple[GroupedHistories, Split]) -> None:
    histories, parts = prepared
    samples, catalog, known = parts.train["item"], histories.catalogs["item"], histories.vocabularies
    rows = fixed_candidates(histories, {"item": samples}, None, kind="impressions")["item"]
    found = build_batch(histories, samples, rows).candidates
    assert found.context is not None
    assert found.real is not None
    places, prices, labels = (found.context[name] for name in ("place", "price", "labels"))
    assert isinstance(places, Tensor)
    assert isinstance(prices, Tensor)
    assert isinstance(labels, Ragged)
    mean, deviation = known.scales["item.price"]
    words = known.words["item.labels"]
    for i, row in enumerate(rows_of(histories, samples)):
        listed = shown_to(LOG, row)
        for j, item in enumerate(rows[i].tolist()):
            k = i * rows.shape[1] + j
            own = labels.values[labels.offsets[k] : labels.offsets[k + 1]].tolist()
            assert bool(found.real[i, j]) == (item >= 0)
            if item < 0:
                assert (int(places[k]), prices[k].tolist(), own) == (0, [0, 1], [])
                continue
            said = listed[catalog.object_ids[item]]
            assert known.words["item.place"][int(places[k]) - 1] == said["place"]
            assert [words[label - 1] for label in own] == said["labels"]
            price = float(said["price"])  # type: ignore[arg-type]
            right = [0.0, 1.0] if np.isnan(price) else [(price - mean) / deviation, 0.0]
            assert prices[k].tolist() == pytest.approx(right, abs=1e-5)


def test_scales_and_words_of_context_are_those_of_training(prepared: tuple[GroupedHistories, Split]) -> None:
    histories, parts = prepared
    table = LOG.impressions["item"]
    trained = table[table["event"].isin(rows_of(histories, parts.train["item"]))]
    mean, deviation = histories.vocabularies.scales["item.price"]
    assert mean == pytest.approx(trained["price"].mean())
    assert deviation == pytest.approx(trained["price"].std(ddof=0))
    assert histories.vocabularies.words["item.place"] == tuple(sorted(set(trained["place"])))


def test_context_never_tells_the_target_from_what_was_not_shown(prepared: tuple[GroupedHistories, Split]) -> None:
    histories, parts = prepared
    samples = parts.train["item"][:5]
    rows = fixed_candidates(histories, {"item": samples}, 3)["item"]  # of all objects
    context = build_batch(histories, samples, rows).candidates.context
    assert context is not None
    assert isinstance(context["place"], Tensor)
    assert context["place"].tolist() == [0] * 20
    unknown = replace(samples, positions=torch.full_like(samples.positions, -1))  # a moment without a target
    context = build_batch(histories, unknown, rows).candidates.context
    assert context is not None
    assert isinstance(context["place"], Tensor)
    assert context["place"].tolist() == [0] * 20


def test_context_reaches_f_alone(prepared: tuple[GroupedHistories, Split]) -> None:
    """Whatever context says, the history's side and the target's vector keep their bits; with an inner product as f
    so do the scores."""
    histories, parts = prepared
    samples = parts.test["item"]
    rows = fixed_candidates(histories, {"item": samples}, None, kind="impressions")["item"]
    batch = build_batch(histories, samples, rows)
    context = batch.candidates.context
    assert context is not None
    price, place = context["price"], context["place"]
    assert isinstance(price, Tensor)
    assert isinstance(place, Tensor)
    changed: Features = {"price": 3.0 - price, "place": (place + 1) % 5, "labels": context["labels"]}
    for ranking in ("dot", "mlp"):
        torch.manual_seed(0)
        model = build(histories.schema, histories.vocabularies, ATRankOptions(ranking=ranking, **SIZES)).eval()
        other = replace(batch, candidates=replace(batch.candidates, context=changed))
        one, two = model.encode(batch), model.encode(other)
        for left, right in zip(vars(one).values(), vars(two).values(), strict=True):
            assert left is right or torch.equal(left, right)
        one, two = model(batch), model(other)
        assert torch.equal(one.targets, two.targets)
        assert torch.equal(one.users, two.users)
        assert torch.equal(one.scores, two.scores) == (ranking == "dot")
    named = {name for name, _ in model.named_parameters() if "context" in name}
    assert len(named) == 5  # two tables, a line, and the way to f, all below rank
    assert all(name.startswith("rank.context.") for name in named)


def test_context_without_vocabularies_names_the_way_to_them() -> None:
    histories, _ = prepare(LOG, "validated", ["item"])
    with pytest.raises(ValueError, match=r"context 'item\.place' has no vocabulary; `impressions\.prepare_shown`"):
        DIN(histories.schema, histories.vocabularies)


@pytest.mark.parametrize(("kind", "reads"), [(DIN, True), (BST, True), (BiLSTM, False), (BPRMF, False)])
def test_networks_that_rank_read_context_too(
    prepared: tuple[GroupedHistories, Split], kind: type[Model[Any]], reads: bool
) -> None:
    histories, parts = prepared
    samples = parts.test["item"][:9]
    rows = fixed_candidates(histories, {"item": samples}, None, kind="impressions")["item"]
    batch = build_batch(histories, samples, rows)
    context = batch.candidates.context
    assert context is not None
    other = replace(batch, candidates=replace(batch.candidates, context=None))
    torch.manual_seed(0)
    sizes = {name: size for name, size in SIZES.items() if name in kind.Config.model_fields}  # type: ignore[attr-defined]
    model = kind(histories.schema, histories.vocabularies, kind.Config(**sizes)).eval()  # type: ignore[attr-defined]
    assert torch.equal(model(batch).scores, model(other).scores) != reads


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_pass_over_empty_places(loss: str) -> None:
    scores = torch.randn(6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    real = (
        torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 0, 0, 1], [1] * 5]) > 0
    )
    given = scores.clone().requires_grad_()
    found = LOSSES[loss](given.masked_fill(~real, -torch.inf))  # type: ignore[index]
    found.backward()
    terms = []
    for row, there in zip(scores.tolist(), real.tolist(), strict=True):
        places = [j for j in range(5) if there[j]]
        if loss == "pairwise":
            terms += [np.log1p(np.exp(row[j] - row[0])) for j in places[1:]]
        elif loss == "softmax":
            terms.append(np.log(sum(np.exp(row[j] - row[0]) for j in places)))
        else:
            worth = 0.25 if loss == "calibrated" else 1.0
            terms += [worth * np.log1p(np.exp(-row[0])), *(np.log1p(np.exp(row[j])) for j in places[1:])]
    assert found.item() == pytest.approx(np.mean(terms))
    assert given.grad is not None
    assert torch.equal(given.grad != 0, real)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_score_that_is_no_number_is_never_an_empty_place(loss: str) -> None:
    scores = torch.tensor([[1.0, 0.0, torch.nan], [1.0, 0.0, 2.0]])
    assert LOSSES[loss](scores).isnan()  # type: ignore[index]
    samples = prepare_shown(LOG, "validated", ["item"])[1].test["item"][:2]
    with pytest.raises(ValueError, match="is NaN; a model must rank every candidate"):
        user_auc(samples, scores)


def test_evaluation_of_lists_is_scikit_learns(prepared: tuple[GroupedHistories, Split]) -> None:
    histories, parts = prepared
    torch.manual_seed(0)
    model = build(histories.schema, histories.vocabularies, ATRankOptions(ranking="mlp", **SIZES))
    tests = {"item": parts.test["item"]}
    rows = fixed_candidates(histories, tests, None, kind="impressions")
    scores = score_candidates(model, histories, tests, rows)["item"]
    expected = []
    for row, drawn in zip(scores, rows["item"], strict=True):
        there = (drawn >= 0).numpy()
        assert bool((row[~there] == -torch.inf).all())
        expected.append(roc_auc_score(np.arange(len(row))[there] == 0, row.numpy()[there]))
    assert sorted(user_auc(tests["item"], scores).per_user) == pytest.approx(sorted(expected))
    found = evaluate(model, histories, tests, negatives=None, kind="impressions")
    assert found.average_user_auc == pytest.approx(np.mean(expected))
    assert found.negatives is None


def test_training_learns_from_lists() -> None:
    """Places alone decide what is chosen here, so a model that is told them beats one that is not, by far."""
    log = shop_window(users=150, seed=1)
    histories, parts = prepare_shown(log, "validated", ["item"], choices=True)
    aucs = {}
    for ranking in ("dot", "mlp"):
        torch.manual_seed(0)
        model = build(histories.schema, histories.vocabularies, ATRankOptions(ranking=ranking, **SIZES))
        fit(model, histories, parts, RECIPE.model_copy(update={"epochs": 4}), progress=False)
        aucs[ranking] = evaluate(model, histories, parts.test, negatives=None, kind="impressions").average_user_auc
    assert aucs["mlp"] > 0.68 > 0.58 > aucs["dot"]


def test_row_updates_know_context(prepared: tuple[GroupedHistories, Split]) -> None:
    """A large table of context too is moved row by row, to the same weights."""
    histories, parts = prepared
    found = []
    for steps in (Steps, partial(RowSteps, least=2)):
        torch.manual_seed(0)
        model = build(histories.schema, histories.vocabularies, ATRankOptions(ranking="mlp", **SIZES))
        fit(model, histories, parts, RECIPE, progress=False, steps=steps)
        found.append({name: weight.detach() for name, weight in model.named_parameters()})
    for name, weight in found[0].items():
        torch.testing.assert_close(found[1][name], weight, atol=1e-5, rtol=1e-4, msg=name)


def test_a_log_without_impressions_is_as_ever() -> None:
    plain = EventLog.from_tables(
        LOG.schema.model_copy(
            update={"groups": {n: g.model_copy(update={"context": {}}) for n, g in LOG.schema.groups.items()}}
        ),
        LOG.events,
        LOG.objects,
    )
    histories, parts = prepare_shown(plain, "validated", None, choices=True)
    assert isinstance(histories, ShownHistories)
    known = split(GroupedHistories.from_log(plain, histories.vocabularies))
    for name, samples in parts.test.items():
        assert torch.equal(samples.positions, known.test[name].positions)
    assert build_batch(histories, parts.test["item"], parts.test["item"].objects[:, None]).candidates.context is None
