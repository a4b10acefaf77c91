"""The metric against scikit-learn and the paper's double sum; evaluation is fixed by its seed alone."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score, roc_auc_score

from atrank_lib.evaluation import (
    AverageUserAUC,
    average_user_auc,
    evaluate,
    fixed_candidates,
    ndcg_at,
    paired_difference,
    recall_at,
    score_all,
    score_candidates,
    user_auc,
)
from atrank_lib.grouping import GroupedHistories
from atrank_lib.model import ATRank, ATRankConfig
from atrank_lib.samples import Split, build_batch, prepare, split
from tests.random_logs import SCHEMA, random_log

Rows = list[tuple[str, float, int]]
ROWS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c", "dd", "Zoë"]),
        # few values, so that ties abound, besides ordinary ones
        st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(-10, 10)),
        st.integers(0, 1),
    ),
    max_size=40,
)


def double_sum(rows: Rows) -> tuple[list[float], int]:
    """AUC of each user in the order of the names, and the number of users with one class only."""
    aucs, skipped = [], 0
    for user in sorted({u for u, _, _ in rows}):
        positive = [p for u, p, y in rows if u == user and y == 1]
        negative = [p for u, p, y in rows if u == user and y == 0]
        if not positive or not negative:
            skipped += 1
            continue
        total = sum(1.0 if p > q else 0.5 if p == q else 0.0 for p in positive for q in negative)
        aucs.append(total / len(positive) / len(negative))
    return aucs, skipped


@settings(max_examples=200, deadline=None)
@given(ROWS)
def test_average_user_auc(rows: Rows) -> None:
    users, scores, labels = (np.array([row[i] for row in rows]) for i in range(3))
    auc = average_user_auc(users, scores, labels)
    expected, skipped = double_sum(rows)
    assert (auc.users, auc.skipped_users) == (len(expected), skipped)
    np.testing.assert_allclose(auc.per_user, expected, atol=1e-12)
    if not expected:
        assert math.isnan(auc)
        assert all(map(math.isnan, auc.interval()))
        return
    assert float(auc) == pytest.approx(sum(expected) / len(expected))
    by_sklearn = [
        roc_auc_score(labels[users == u], scores[users == u])
        for u in sorted(set(users))
        if len(set(labels[users == u])) == 2
    ]
    np.testing.assert_allclose(auc.per_user, by_sklearn, atol=1e-12)


@pytest.mark.parametrize(
    "labels",
    [[1, 0, 1, 0, 1], [1.0, 0.0, 1.0, 0.0, 1.0], [True, False, True, False, True]],
    ids=["int", "float", "bool"],
)
def test_kinds_of_input(labels: list) -> None:
    for users in (["a", "a", "b", "b", "c"], [3, 3, 5, 5, 9], torch.tensor([0, 0, 1, 1, 2])):
        auc = average_user_auc(users, torch.tensor([0.9, 0.1, 0.5, 0.5, 0.3]), labels)
        assert (float(auc), auc.users, auc.skipped_users) == (0.75, 2, 1)
        assert auc.per_user.tolist() == [1.0, 0.5]


def test_infinite_scores_are_ranked() -> None:
    auc = average_user_auc([0, 0, 0], [-np.inf, np.inf, np.inf], [0, 1, 0])
    assert float(auc) == 0.75


def test_metric_errors() -> None:
    with pytest.raises(ValueError, match="differ in length: 2, 2, 1"):
        average_user_auc([0, 0], [0.1, 0.2], [1])
    with pytest.raises(ValueError, match="score 1 is NaN"):
        average_user_auc([0, 0], [0.1, float("nan")], [1, 0])
    with pytest.raises(ValueError, match="label 2"):
        average_user_auc([0, 0], [0.1, 0.2], [1, 2])


def test_interval_is_the_bootstrap() -> None:
    per_user = np.random.default_rng(3).choice([0.0, 0.25, 0.5, 1.0], 300, p=[0.1, 0.3, 0.2, 0.4])
    auc = AverageUserAUC(per_user, 0)
    rng = np.random.default_rng(7)
    means = []
    for _ in range(4_000):
        total = 0.0
        for user in rng.integers(0, len(per_user), len(per_user)):
            total += per_user[user]
        means.append(total / len(per_user))
    for level in (0.95, 0.5):
        plain = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
        # the ends of both are Monte Carlo estimates; a standard error of the mean is 0.02
        np.testing.assert_allclose(auc.interval(level, resamples=4_000), plain, atol=0.003)
    assert auc.interval() == auc.interval()
    assert auc.interval(seed=1) != auc.interval(seed=0)
    low, high = auc.interval(resamples=200)
    assert low < auc < high


def test_interval_of_equal_users() -> None:
    assert AverageUserAUC(np.ones(5), 0).interval() == (1.0, 1.0)


@pytest.fixture(scope="module")
def histories() -> GroupedHistories:
    return GroupedHistories.from_log(random_log(4, users=7, behaviors=60, objects=30, times=40))


@pytest.fixture(scope="module")
def parts(histories: GroupedHistories) -> Split:
    return split(histories, "paper")


@pytest.fixture
def model(histories: GroupedHistories) -> ATRank:
    torch.manual_seed(1)
    config = ATRankConfig(embedding_size=4, hidden=8, spaces=2, dropout=0.5)
    return ATRank(SCHEMA, histories.vocabularies, config)


def test_evaluate_by_loops(histories: GroupedHistories, parts: Split, model: ATRank) -> None:
    """One sample at a time, one candidate at a time; every target group apart."""
    result = evaluate(model, histories, parts.test, negatives=4, seed=3)
    candidates = fixed_candidates(histories, parts.test, 4, seed=3)
    model.eval()
    aucs = {}
    for name, samples in parts.test.items():
        rows: Rows = []
        for i in range(len(samples)):
            for column in range(5):
                batch = build_batch(histories, samples[i : i + 1], candidates[name][i : i + 1, column : column + 1])
                with torch.no_grad():
                    score = float(model(batch).scores)
                rows.append((str(int(samples.users[i])), round(score, 5), int(column == 0)))
        aucs[name] = double_sum(rows)[0]
    pooled = [auc for part in aucs.values() for auc in part]
    assert result.targets == {name: pytest.approx(np.mean(part), abs=1e-6) for name, part in aucs.items()}
    assert result.average_user_auc == pytest.approx(np.mean(pooled), abs=1e-6)
    assert (result.users, result.skipped_users, result.negatives) == (len(pooled), 0, 4)
    assert result.ci95[0] <= result.average_user_auc <= result.ci95[1]
    assert list(result.as_dict()) == ["average_user_auc", "ci95", "users", "skipped_users", "negatives", "targets"]


def test_evaluate_does_not_depend_on_batch_size(histories: GroupedHistories, parts: Split, model: ATRank) -> None:
    results = [evaluate(model, histories, parts.test, negatives=5, batch_size=size) for size in (1, 3, 1024)]
    assert results[0].as_dict() == results[1].as_dict() == results[2].as_dict()
    candidates = fixed_candidates(histories, parts.test, 5)
    one, all_at_once = (score_candidates(model, histories, parts.test, candidates, size) for size in (1, 1024))
    for name in parts.test:
        torch.testing.assert_close(one[name], all_at_once[name], rtol=1e-4, atol=1e-5)


def test_evaluate_depends_on_the_seed_alone(histories: GroupedHistories, parts: Split, model: ATRank) -> None:
    first = evaluate(model, histories, parts.test, negatives=2, seed=5)
    torch.manual_seed(99)
    torch.rand(17)
    assert evaluate(model, histories, parts.test, negatives=2, seed=5) == first
    drawn = [fixed_candidates(histories, parts.test, 20, seed=s)["item"] for s in (5, 5, 6)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_model_mode_is_put_back(histories: GroupedHistories, parts: Split, model: ATRank) -> None:
    for mode in (True, False):
        model.train(mode)
        evaluate(model, histories, parts.test)
        assert model.training is mode


def test_empty_target_groups_are_left_out(histories: GroupedHistories, parts: Split, model: ATRank) -> None:
    tasks = {**parts.test, "query": parts.test["query"][:0]}
    assert set(evaluate(model, histories, tasks).targets) == {"item", "coupon"}
    with pytest.raises(ValueError, match="no samples to evaluate"):
        evaluate(model, histories, parts.validation)


def test_popular_negatives_need_training(histories: GroupedHistories, parts: Split, model: ATRank) -> None:
    tasks = {"item": parts.test["item"]}
    with pytest.raises(ValueError, match="give `training`"):
        evaluate(model, histories, tasks, kind="popularity")
    drawn = fixed_candidates(histories, tasks, 20, kind="popularity", training=parts.train)["item"]
    assert set(drawn[:, 1:].flatten().tolist()) <= set(parts.train["item"].objects.tolist())
    assert evaluate(model, histories, tasks, kind="popularity", training=parts.train).users == len(parts.test["item"])


def test_user_auc_pools_the_samples_of_a_user(histories: GroupedHistories) -> None:
    """Under `global_time` a user has several targets: all of them against all of the user's negatives."""
    samples = split(histories, "paper", ["item"]).train["item"]
    scores = torch.randn((len(samples), 3), generator=torch.Generator().manual_seed(0))
    rows: Rows = [
        (str(int(samples.users[i])), float(scores[i, j]), int(j == 0)) for i in range(len(samples)) for j in range(3)
    ]
    assert len(samples) > len(set(samples.users.tolist()))
    auc = user_auc(samples, scores)
    np.testing.assert_allclose(auc.per_user, double_sum(rows)[0])


def test_recall_and_ndcg_agree_with_all_orders_of_ties():
    """Every way of breaking ties, one after the other."""
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 4, (40, 5)).astype(np.float32)
    for k in (1, 2, 3, 10):
        recalls, gains = [], []
        for row in scores:
            found = []
            for order in itertools.permutations(range(5)):
                place = sorted(order, key=lambda i: (-row[i], order.index(i))).index(0) + 1
                found.append((place <= k, 1 / math.log2(1 + place) if place <= k else 0.0))
            recalls.append(np.mean([hit for hit, _ in found]))
            gains.append(np.mean([gain for _, gain in found]))
        np.testing.assert_allclose(recall_at(torch.from_numpy(scores), k).numpy(), recalls, atol=1e-12)
        np.testing.assert_allclose(ndcg_at(torch.from_numpy(scores), k).numpy(), gains, atol=1e-12)


def test_ndcg_agrees_with_scikit_learn():
    scores = np.random.default_rng(1).normal(size=(30, 8)).astype(np.float32)
    truth = np.eye(1, 8).repeat(30, axis=0)
    expected = [ndcg_score(truth[i : i + 1], scores[i : i + 1], k=3) for i in range(30)]
    np.testing.assert_allclose(ndcg_at(torch.from_numpy(scores), 3).numpy(), expected, atol=1e-6)


def test_a_score_that_is_not_a_number_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        recall_at(torch.tensor([[float("nan"), 1.0]]), 1)


@pytest.mark.parametrize("chunk", [2, 1_000])
def test_scores_of_all_objects_are_those_of_each(chunk):
    log = random_log(4, users=7, behaviors=60, objects=30, times=40)
    histories, parts = prepare(log, "validated", ["item"])
    samples = parts.test["item"]
    torch.manual_seed(0)
    model = ATRank(log.schema, histories.vocabularies, ATRankConfig(embedding_size=4, hidden=8, spaces=2))
    scores = score_all(model, histories, samples, batch_size=3, chunk=chunk)
    objects = len(histories.catalogs["item"])
    assert scores.shape == (len(samples), objects + 1)
    everything = torch.cat([samples.objects[:, None], torch.arange(objects).repeat(len(samples), 1)], dim=1)
    expected = score_candidates(model, histories, {"item": samples}, {"item": everything})["item"]
    events = log.events["item"]
    ids = histories.catalogs["item"].object_ids
    for row, user in enumerate(samples.users.tolist()):
        touched = set(events.loc[events["user_id"] == histories.user_ids[user], "object_id"])
        for column in range(objects):
            known = ids[column] in touched
            assert scores[row, column + 1] == (
                float("-inf") if known else pytest.approx(float(expected[row, column + 1]), abs=1e-5)
            )
    torch.testing.assert_close(scores[:, 0], expected[:, 0])


def test_the_difference_of_two_models_pairs_users():
    rng = np.random.default_rng(0)
    hard = rng.random(4_000)
    a = (rng.random((2, 4_000)) < 0.2 + 0.7 * hard).astype(float)
    b = a.copy()
    b[:, :80] = 0.0  # the same users but for a few
    mean, low, high = paired_difference(a, b)
    assert mean == pytest.approx((a - b).mean())
    assert low < mean < high
    # the bootstrap of the paired differences has the standard error of their mean
    difference = (a - b).mean(axis=0)
    assert (high - low) / 2 == pytest.approx(1.96 * difference.std() / 4_000**0.5, rel=0.1)
    unpaired = 1.96 * (a.mean(0).var() / 4_000 + b.mean(0).var() / 4_000) ** 0.5
    assert (high - low) / 2 < unpaired / 3
    with pytest.raises(ValueError, match="the same users"):
        paired_difference(a, b[:, 1:])
