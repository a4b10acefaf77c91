"""The brief answers on a reader's own log, beside loops."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from atrank_lib import EventLog
from atrank_lib.evaluation import fixed_candidates
from atrank_lib.log.schema import Schema
from data_scripts.simulate import MarketplaceConfig, simulate
from experiments import own_log
from experiments.own_log import Own, answer
from experiments.records import ExperimentError, read_record, recorded


@pytest.fixture(scope="module")
def market() -> EventLog:
    return simulate(MarketplaceConfig(users=80, items=60, seed=1)).log


@pytest.fixture
def own(market: EventLog) -> Own:
    return Own.of(market, steps=3)


def test_rules_are_counted_and_models_stand_beside_the_best_one(own):
    table = own_log.readers(own).set_index("model")
    assert list(table.index) == [*own_log.RULES, *own_log.READERS]
    (group,) = own.targets(1)
    histories, parts = own.parts([group])
    samples = parts.test[group]
    counts = np.bincount(parts.train[group].objects, minlength=len(histories.catalogs[group]))
    rows = fixed_candidates(histories, parts.test, own_log.NEGATIVES)[group].numpy()
    labels = np.arange(rows.shape[1]) == 0
    assert table.loc["popularity", "AUC"] == pytest.approx(np.mean([roc_auc_score(labels, counts[r]) for r in rows]))
    (best,) = (name.removeprefix("minus ") for name in table.columns if name.startswith("minus "))
    assert best in own_log.RULES
    gaps = table["AUC"] - table.loc[best, "AUC"]
    assert table[f"minus {best}"].tolist() == pytest.approx(gaps.tolist())
    assert (table["from"] <= table[f"minus {best}"] + 1e-9).all()
    assert (table.loc[best, ["from", "to"]] == 0).all()
    assert set(table["users"]) == {len(samples)}


def test_modes_read_what_their_names_say_and_take_as_many_steps_a_target(own, monkeypatch):
    asked = []
    monkeypatch.setattr(own_log, "LEAST", 1)

    def fit(model, histories, parts, recipe, *, seed, max_steps, progress):
        asked.append((model.histories, sorted(parts.train), max_steps))

    monkeypatch.setattr(own_log, "fit", fit)
    table = own_log.modes(own).set_index("target")
    groups = own.targets()
    every = tuple(own.log.schema.groups)
    alone = [a for g in groups for a in (((g,), [g], own.steps), (every, [g], own.steps))]
    assert [(tuple(read), tasks, steps) for read, tasks, steps in asked] == [
        (every, sorted(groups), len(groups) * own.steps),
        *alone,
    ]
    gain = table["all2one"] - table["one2one"]
    assert table["all2one minus one2one"].tolist() == pytest.approx(gain.tolist())
    assert table.index.tolist() == groups


def test_attention_is_shared_out_among_kinds_of_behaviors(own):
    table = own_log.looks(own).set_index("behaviors that are")
    groups = [name for name in table.index if name.startswith("of ")]
    assert table.loc[groups, "of all"].sum() == pytest.approx(1)
    assert table.loc[groups, "of attention"].sum() == pytest.approx(1, abs=1e-5)
    (group,) = own.targets(1)
    histories, parts = own.parts([group])
    samples = parts.test[group][: own_log.LISTED]
    latest = every = 0
    for user, time, ends in zip(samples.users.tolist(), samples.times.tolist(), samples.ends.tolist(), strict=True):
        ages = [
            time - int(t)
            for g, end in zip(histories.groups.values(), ends, strict=True)
            for t in g.timestamps[int(g.offsets[user]) : end]
        ]
        latest += ages.count(min(ages))
        every += len(ages)
    assert table.loc["the latest", "of all"] == pytest.approx(latest / every)


def test_the_ways_of_asking_are_judged_on_the_same_models(own):
    table = own_log.protocols(own).set_index("asked")
    judged = table[[name for name in table.columns if name not in ("users", "+-", "first")]].astype(float)
    assert list(judged.columns)[1:] == ["din", "atrank"]
    assert table["first"].tolist() == judged.idxmax(axis=1).tolist()
    assert (table["+-"] > 0).all()
    one, many = table["+-"].iloc[:2]
    assert one > many  # one negative is a coin
    (group,) = own.targets(1)
    histories, parts = own.parts([group])
    samples, rule = parts.test[group][: own_log.LISTED], judged.columns[0]
    every = torch.arange(len(histories.catalogs[group]))
    scorer = own_log.choose(rule, histories, parts, group).scorer
    gains = []
    for i, user in enumerate(samples.users.tolist()):
        g = histories.groups[group]
        seen = g.objects[int(g.offsets[user]) : int(g.offsets[user + 1])].long()
        scores = scorer(samples[i : i + 1], every[None])[0]
        target = int(samples.objects[i])
        others = scores[~torch.isin(every, seen)]
        above, level = int((others > scores[target]).sum()), int((others == scores[target]).sum())
        places = range(above + 1, above + level + 2)
        gains.append(np.mean([1 / np.log2(1 + p) if p <= 10 else 0 for p in places]))
    assert judged.loc["NDCG@10 of all objects", rule] == pytest.approx(np.mean(gains), abs=1e-6)


def test_a_log_without_a_later_moment_says_so(own, monkeypatch):
    whole = Own.parts

    def parts(self, targets, protocol="validated"):
        if protocol == "global_time":
            raise ValueError("no test sample")
        return whole(self, targets, protocol)

    monkeypatch.setattr(Own, "parts", parts)
    assert own_log.protocols(own)["asked"].iloc[-1] == "one moment: no test sample"


def test_large_logs_are_cut_down(market, monkeypatch):
    monkeypatch.setattr(own_log, "USERS", 30)
    monkeypatch.setattr(own_log, "TARGETS", 7)
    own = Own.of(market)
    assert len(set().union(*(events["user_id"].unique() for events in own.log.events.values()))) == 30
    _, parts = own.parts(own.targets(1))
    assert [len(samples) for tasks in (parts.test, parts.validation) for samples in tasks.values()] == [7, 7]


def test_a_log_with_too_little_to_learn_from_is_refused():
    schema = Schema.model_validate(
        {
            "name": "tiny",
            "groups": {"page": {"actions": ["read"], "features": {"object_id": {"kind": "categorical"}}}},
        }
    )
    text = pd.Series(["u"] * 5, dtype="str")
    events = pd.DataFrame({"user_id": text, "timestamp": range(5), "action": "read", "object_id": text})
    objects = pd.DataFrame({"object_id": pd.Series(["u"], dtype="str")})
    log = EventLog.from_tables(schema, {"page": events}, {"page": objects})
    with pytest.raises(ExperimentError, match="no group of 'tiny' has 100 training samples"):
        Own.of(log).targets()


def test_an_answer_is_trained_on_the_log_that_is_given_and_recorded_else(market, tmp_path, capsys):
    market.write(tmp_path / "log")
    table = answer("looks", str(tmp_path / "log"), steps=2)
    assert capsys.readouterr().out == "simulated marketplace: trained here, 2 steps a model; target item\n"
    assert "target" not in table
    assert {"of item", "of query", "of coupon"} <= set(table["behaviors that are"])
    folder = recorded("own_log")
    assert folder is not None
    record = read_record(min(folder.glob("*.json")))
    for question in own_log.QUESTIONS:
        assert len(answer(question)) == len(record[question])
        assert capsys.readouterr().out.startswith(f"{record['data_name']}: recorded")
