"""Wide & Deep against loops."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.cases import Case, even_log, linear, make


def values(case: Case, group: str, object_id: str) -> dict[str, int]:
    """The categorical values of an object: vocabulary to row, 0 for what the model does not know."""
    record = case.reference().records[group][object_id]
    found = {}
    for name, feature in case.log.schema.groups[group].features.items():
        if feature.kind == "categorical":
            vocabulary = feature.vocabulary or f"{group}.{name}"
            words = case.histories.vocabularies.words[vocabulary]
            found[vocabulary] = words.index(record[name]) + 1 if record[name] in words else 0
    return found


def expected(case: Case) -> list[list[float]]:
    model, scores = case.reference(), []
    p = model.p
    for b, behaviors in enumerate(case.behaviors):
        s = [model.project(x.group, model.behavior(x)) for x in behaviors]
        mean = sum(s, np.zeros(case.model.config.hidden)) / max(len(s), 1)
        row = []
        for i in range(case.rows.shape[1]):
            object_id = case.object_id(b, i)
            h = model.project(case.group, model.object(case.group, object_id))
            wide = 0.0
            for vocabulary, number in values(case, case.group, object_id).items():
                times = sum(values(case, x.group, x.object_id).get(vocabulary) == number for x in behaviors)
                name = vocabulary.replace(".", "/")
                wide += p[f"alone.[{name}].weight"][number, 0]
                wide += p[f"crossed.[{name}].weight"][number, 0] * math.log(1 + times)
            inner = np.maximum(linear(p, "deep.0", np.concatenate([mean, h])), 0)
            inner = np.maximum(linear(p, "deep.3", inner), 0)
            row.append(wide + float(linear(p, "top", inner)[0]))
        scores.append(row)
    return scores


@pytest.mark.parametrize(("seed", "group"), [(0, "items"), (1, "query"), (2, "coupon")])
def test_scores_agree_with_loops(seed, group, speed):
    case = make("wide-deep", even_log(seed), group, seed=seed, speed=speed)
    case.close(case.model(case.batch).scores, expected(case))
