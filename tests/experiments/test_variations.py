"""The same log with one thing changed, and which of its groups can be predicted."""

from __future__ import annotations

from atrank_lib.grouping import GroupedHistories
from atrank_lib.log.events import EventLog
from atrank_lib.samples import split
from experiments.variations import one_time_scale, predictable, some_users, unshared
from tests.random_logs import random_log
from tests.shown import shop_window


def test_groups_that_nobody_has_four_behaviors_of_are_history_alone(tiny_log: EventLog):
    for group in predictable(tiny_log):
        lengths = tiny_log.events[group].groupby("user_id").size()
        assert (lengths >= 4).any()
    short = {g: e.groupby("user_id").head(3) for g, e in tiny_log.events.items()}
    log = EventLog.from_tables(tiny_log.schema, short, tiny_log.objects)
    assert predictable(log) == ()


def test_predictable_counts_the_training_samples():
    log = random_log(4, users=9, behaviors=80, objects=30, times=40)
    train = split(GroupedHistories.from_log(log), "validated").train
    for group, samples in train.items():
        assert group in predictable(log, len(samples))
        assert group not in predictable(log, len(samples) + 1)


def test_unshared_features_have_tables_of_their_own():
    log = random_log(4, users=9, behaviors=80, objects=30, times=40)
    apart = unshared(log)
    names = [apart.schema.vocabulary(g, f) for g, group in apart.schema.groups.items() for f in group.features]
    shared = [log.schema.vocabulary(g, f) for g, group in log.schema.groups.items() for f in group.features]
    assert len(set(names)) == len(names) > len(set(shared))
    for g in log.schema.groups:
        assert apart.events[g].equals(log.events[g])


def test_one_time_scale_is_the_first_group_s():
    log = one_time_scale(random_log(4, users=9, behaviors=80, objects=30, times=40))
    first, *others = (group.time for group in log.schema.groups.values())
    assert others
    assert all(other == first for other in others)


def test_some_users_keep_what_they_were_shown():
    log = shop_window(users=9, behaviors=5)
    some = some_users(log, 4, seed=1)
    users = set(some.events["item"]["user_id"])
    assert len(users) == 4

    def lists(whole: EventLog) -> dict[tuple[str, int], set[str]]:
        events = whole.events["item"]
        seen = whole.impressions["item"].groupby("event")["object_id"].agg(set)
        return {(events["user_id"][row], int(events["timestamp"][row])): ids for row, ids in seen.items()}

    assert lists(some) == {(user, time): ids for (user, time), ids in lists(log).items() if user in users}
    for other in (unshared(log), one_time_scale(log)):
        assert lists(other) == lists(log)
