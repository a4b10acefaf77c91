"""The same log with one thing changed, for experiments; and which of its groups can be predicted."""

from __future__ import annotations

import torch

from atrank_lib.log.events import EventLog


def predictable(log: EventLog, least: int = 1) -> tuple[str, ...]:
    """Groups with at least ``least`` training samples under the protocol ``validated``: the others are history alone.

    A user's first behavior of a group has nothing before it, the last one is the test, the one before validates, so a
    user with ``n`` behaviors has ``n - 3`` training samples.

    >>> predictable(log, least=300)
    ('item', 'query')
    """
    found = []
    for group, events in log.events.items():
        lengths = events["user_id"].value_counts().to_numpy()
        if (lengths - 3).clip(min=0).sum() >= least:
            found.append(group)
    return tuple(found)


def unshared(log: EventLog) -> EventLog:
    """The log with a vocabulary of its own for every feature: no embedding is shared between groups.

    >>> log.schema.vocabulary("coupon", "shop_id"), unshared(log).schema.vocabulary("coupon", "shop_id")
    ('shop', 'coupon.shop_id')
    """
    groups = {
        name: group.model_copy(
            update={"features": {f: spec.model_copy(update={"vocabulary": None}) for f, spec in group.features.items()}}
        )
        for name, group in log.schema.groups.items()
    }
    return EventLog.from_tables(
        log.schema.model_copy(update={"groups": groups}), log.events, log.objects, log.impressions
    )


def one_time_scale(log: EventLog) -> EventLog:
    """The log with the time scale of its first group for all groups: time is not encoded by group any more.

    >>> log = one_time_scale(log)
    >>> len({group.time for group in log.schema.groups.values()})
    1
    """
    first = next(iter(log.schema.groups.values())).time
    groups = {name: group.model_copy(update={"time": first}) for name, group in log.schema.groups.items()}
    return EventLog.from_tables(
        log.schema.model_copy(update={"groups": groups}), log.events, log.objects, log.impressions
    )


def some_users(log: EventLog, users: int, seed: int) -> EventLog:
    """The log of ``users`` users drawn by ``seed``, with all their behaviors and all objects."""
    names = sorted(set().union(*(events["user_id"].unique() for events in log.events.values())))
    if users >= len(names):
        return log
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed))[:users]
    chosen = {names[i] for i in order.tolist()}
    kept = {g: e["user_id"].isin(chosen).to_numpy() for g, e in log.events.items()}
    events = {g: e[kept[g]].reset_index(drop=True) for g, e in log.events.items()}
    shown = {
        g: s[kept[g][s["event"]]].assign(event=lambda s, g=g: kept[g].cumsum()[s["event"]] - 1)
        for g, s in log.impressions.items()
    }
    return EventLog.from_tables(log.schema, events, log.objects, shown)


def third(log: EventLog) -> EventLog:
    """The log of the third of the users that seed 0 draws.

    >>> len(third(log).events["item"]["user_id"].unique())
    13
    """
    users = set().union(*(events["user_id"].unique() for events in log.events.values()))
    return some_users(log, len(users) // 3, 0)


def without_place(log: EventLog) -> EventLog:
    """The log in which nobody knows where in a list an object stood."""
    groups = {
        name: group.model_copy(update={"context": {n: spec for n, spec in group.context.items() if n != "place"}})
        for name, group in log.schema.groups.items()
    }
    shown = {name: table.drop(columns="place", errors="ignore") for name, table in log.impressions.items()}
    return EventLog.from_tables(log.schema.model_copy(update={"groups": groups}), log.events, log.objects, shown)
