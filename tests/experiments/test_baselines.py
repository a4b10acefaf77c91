"""Plain rules against loops over behaviors, and linear models against what defines them."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from atrank_lib.evaluation import fixed_candidates, user_auc
from atrank_lib.log.schema import SECONDS, TICKS
from atrank_lib.samples import prepare
from data_scripts.marketplace import MarketplaceConfig
from data_scripts.simulate import simulate
from experiments import baselines
from experiments.baselines import RULES, choose, interactions


@pytest.fixture(scope="module")
def prepared():
    return prepare(simulate(MarketplaceConfig(users=40, seed=0)).log, "validated")


@pytest.fixture(scope="module")
def day(prepared):
    return SECONDS["day"] * TICKS[prepared[0].schema.timestamp_unit]


def some(prepared, group="item", count=6):
    histories, parts = prepared
    samples = parts.test[group][:count]
    pick = torch.Generator().manual_seed(0)
    return samples, torch.randint(len(histories.catalogs[group]), (count, 9), generator=pick)


def before(histories, samples, row):
    """Every behavior before a sample: group, object, days ago in ticks."""
    user = int(samples.users[row])
    for number, (name, group) in enumerate(histories.groups.items()):
        for place in range(int(group.offsets[user]), int(samples.ends[row, number])):
            yield name, int(group.objects[place]), int(samples.times[row]) - int(group.timestamps[place])


def values(histories, group, item):
    """(vocabulary, value) of an object, without its id."""
    found = []
    for name, spec in histories.schema.groups[group].features.items():
        if spec.kind == "continuous" or name == "object_id":
            continue
        feature = histories.catalogs[group].features[name]
        held = [int(feature[item])] if isinstance(feature, torch.Tensor) else feature.take(torch.tensor([item])).values
        found += [(histories.schema.vocabulary(group, name), int(value)) for value in held if int(value)]
    return found


@pytest.mark.parametrize("half_life", [None, 3.0])
@pytest.mark.parametrize("group", ["item", "query", "coupon"])
def test_counting_is_that_of_loops(prepared, day, group, half_life):
    histories, parts = prepared
    samples, candidates = some(prepared, group)
    ours = baselines.shared(histories, parts.train[group], half_life=half_life)(samples, candidates)
    for row in range(len(samples)):
        for column in range(candidates.shape[1]):
            total, wanted = 0.0, values(histories, group, int(candidates[row, column]))
            for name, item, age in before(histories, samples, row):
                weight = 1.0 if half_life is None else 2 ** (-age / day / half_life)
                held = values(histories, name, item)
                total += weight * sum(held.count(value) for value in wanted)
            assert float(ours[row, column]) == pytest.approx(total, abs=1e-4)


def test_the_latest_match_decides(prepared):
    histories, parts = prepared
    samples, candidates = some(prepared)
    ours = baselines.shared(histories, parts.train["item"], latest=True)(samples, candidates)
    for row in range(len(samples)):
        own = [item for name, item, _ in before(histories, samples, row) if name == "item"][::-1]
        for column in range(candidates.shape[1]):
            total = 0.0  # for each feature of the candidate, how far back one must go
            for value in values(histories, "item", int(candidates[row, column])):
                backs = [back for back, item in enumerate(own) if value in values(histories, "item", item)]
                total += 1 / (1 + backs[0]) if backs else 0.0
            assert float(ours[row, column]) == pytest.approx(total, abs=1e-4)


def test_lately_is_a_count_of_training_targets(prepared, day):
    histories, parts = prepared
    samples, candidates = some(prepared)
    training = parts.train["item"]
    ours = baselines.lately(histories, training, days=5)(samples, candidates)
    for row in range(len(samples)):
        now = int(samples.times[row])
        for column in range(candidates.shape[1]):
            when = training.times[training.objects == candidates[row, column]]
            assert int(ours[row, column]) == int(((when >= now - 5 * day) & (when < now)).sum())


def test_what_was_touched_ends_before_the_validation_target(prepared):
    histories, parts = prepared
    touched = interactions(histories, parts.train["item"])
    own, validation = histories.groups["item"], parts.validation["item"]
    users = set()
    for row, user in enumerate(validation.users.tolist()):
        seen = own.objects[int(own.offsets[user]) : int(validation.positions[row])].unique()
        users.add(frozenset(seen.tolist()))
    assert {frozenset(touched[row].indices.tolist()) for row in range(touched.shape[0])} == users


def dense(prepared):
    histories, parts = prepared
    x = interactions(histories, parts.train["item"]).toarray().astype(float)
    samples, candidates = some(prepared)
    history = np.zeros((len(samples), x.shape[1]))
    for row in range(len(samples)):
        for name, item, _ in before(histories, samples, row):
            if name == "item":
                history[row, item] = 1
    return histories, parts.train["item"], x, samples, candidates, history


@pytest.mark.parametrize(("neighbors", "shrink"), [(None, 0.0), (None, 10.0), (3, 2.0)])
def test_neighbors_by_cosine(prepared, neighbors, shrink):
    histories, training, x, samples, candidates, history = dense(prepared)
    ours = baselines.item_knn(histories, training, neighbors=neighbors, shrink=shrink)(samples, candidates)
    together, counts = x.T @ x, x.sum(0)
    near = together / np.maximum(np.sqrt(np.outer(counts, counts)) + shrink, 1e-12)
    np.fill_diagonal(near, 0)
    if neighbors is not None:
        for j in range(len(near)):
            kept = np.argsort(-near[:, j], kind="stable")[:neighbors]
            near[np.setdiff1d(np.arange(len(near)), kept), j] = 0
    expected = np.take_along_axis(history @ near, candidates.numpy(), 1)
    assert ours.numpy() == pytest.approx(expected, abs=1e-4)


def test_ease_solves_its_problem(prepared):
    """|X - XB|^2 + l2 |B|^2 with a zero diagonal: the gradient is zero beside the diagonal."""
    histories, training, x, samples, candidates, history = dense(prepared)
    gram = x.T @ x + 50 * np.eye(x.shape[1])
    inverse = np.linalg.inv(gram)
    weights = np.where(np.eye(len(gram)), 0, -inverse / np.diag(inverse))
    gradient = gram @ weights - x.T @ x
    assert np.abs(np.where(np.eye(len(gram)), 0, gradient)).max() < 1e-8  # what we compare with is right
    expected = np.take_along_axis(history @ weights, candidates.numpy(), 1)
    ours = baselines.ease(histories, training, l2=50.0)(samples, candidates)
    assert ours.numpy() == pytest.approx(expected, abs=1e-3)


def test_least_squares_stand_still_where_they_end(prepared):
    """After many sweeps one more changes nothing, and a user's vector solves the user's own problem."""
    histories, training, *_, samples, candidates, _ = dense(prepared)
    fitted = partial(baselines.ials, histories, training, alpha=5.0, l2=20.0, factors=4)
    near, nearer = (fitted(sweeps=n)(samples, candidates) for n in (150, 151))
    assert near.numpy() == pytest.approx(nearer.numpy(), abs=1e-2)
    assert float(near.std()) > 1e-4


def test_validation_chooses(prepared):
    histories, parts = prepared
    found = choose("counted-recent", histories, parts, "item")
    assert found.setting in RULES["counted-recent"].grid
    assert 0 < found.validation_auc < 1
    aucs = []
    for setting in RULES["counted-recent"].grid:
        samples = parts.validation["item"]
        scorer = RULES["counted-recent"].make(histories, parts.train["item"], **setting)
        drawn = fixed_candidates(histories, {"item": samples})["item"]
        aucs.append(float(user_auc(samples, scorer(samples, drawn))))
    assert found.validation_auc == max(aucs)
