"""Matrix factorization against loops."""

from __future__ import annotations

import pytest

from tests.cases import even_log, make


@pytest.mark.parametrize(("seed", "group"), [(0, "items"), (1, "query"), (2, "coupon")])
def test_scores_agree_with_loops(seed, group, speed):
    case = make("bpr-mf", even_log(seed), group, seed=seed, speed=speed)
    parameters = case.parameters
    renamed = {
        f"embeddings.{name.split('.', 1)[1].replace('].', '].objects.', 1)}": value
        for name, value in parameters.items()
        if name.startswith("objects.")
    }
    model = case.reference()
    model.p = parameters | renamed
    expected = []
    for user, b in zip(case.samples.users.tolist(), range(len(case.samples)), strict=True):
        known = list(case.histories.vocabularies.users)
        name = case.histories.user_ids[user]
        p = parameters[f"users.[{group}].weight"][known.index(name) + 1 if name in known else 0]
        row = []
        for i in range(case.rows.shape[1]):
            object_id = case.object_id(b, i)
            words = case.histories.vocabularies.words[f"{group}.object_id"]
            bias = parameters[f"biases.[{group}].weight"][words.index(object_id) + 1 if object_id in words else 0, 0]
            row.append(float(p @ model.object(group, object_id) + bias))
        expected.append(row)
    assert case.histories.user_ids[-1] not in case.histories.vocabularies.users  # one has the vector of unknown
    case.close(case.model(case.batch).scores, expected)
