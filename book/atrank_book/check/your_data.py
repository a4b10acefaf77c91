"""Checkers for chapter 13: a schema, times of a wall clock, and which columns describe an object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
import yaml

from atrank_book.check.verdict import Mistake, answered, checker
from atrank_lib.log.schema import EventLogError, Schema

ToSeconds = Callable[[Sequence[str], int], Sequence[int]]
Describing = Callable[[pd.DataFrame, str], Sequence[str]]

MUSIC = {
    "song": (["play", "skip", "like"], {"artist": "categorical", "genres": "tokens", "seconds": "continuous"}),
    "concert": (["attend"], {"artist": "categorical", "city": "categorical"}),
}


@checker
def schema(answer: Any) -> str:
    """The schema of a music player: songs and concerts, with one vocabulary of artists."""
    text = str(answered(answer))
    try:
        found = Schema.checked(yaml.safe_load(text))
    except EventLogError as error:
        raise Mistake(str(error.problems[0])) from None
    except yaml.YAMLError as error:
        raise Mistake(f"not valid YAML: {' '.join(str(error).split())}; indent by blanks, two for each level") from None
    for group, (actions, kinds) in MUSIC.items():
        if group not in found.groups:
            raise Mistake(f"no group is called {group!r}; there are {', '.join(found.groups)}")
        own = found.groups[group]
        if set(own.actions) != set(actions):
            raise Mistake(f"the actions of {group!r} should be {actions}, not {list(own.actions)}")
        for feature, kind in kinds.items():
            if feature not in own.features:
                raise Mistake(f"group {group!r} lacks the feature {feature!r}")
            if own.features[feature].kind != kind:
                raise Mistake(_kind_hint(feature, own.features[feature].kind, kind))
    if set(found.groups) != set(MUSIC):
        raise Mistake(f"two groups are enough: {', '.join(MUSIC)}; actions on the same objects belong to one group")
    if found.vocabulary("song", "artist") != found.vocabulary("concert", "artist"):
        raise Mistake("the artists of songs and of concerts are the same people: name one vocabulary at both")
    if found.vocabulary("concert", "city") in (found.vocabulary("song", "artist"), found.vocabulary("song", "genres")):
        raise Mistake("cities share a vocabulary with something that is no city; leave theirs out")
    return "right: two groups, three kinds of features, and one table of artists"


def _kind_hint(feature: str, found: str, kind: str) -> str:
    reason = {
        "tokens": "holds a list of values, and as one value every combination would be a value of its own",
        "continuous": "is a number with an order and a size; as a category, 180 and 181 would have nothing in common",
        "categorical": "is one name out of many, neither a list nor a number",
    }[kind]
    return f"{feature!r} should be {kind}, not {found}: it {reason}"


@checker
def to_seconds(answer: ToSeconds) -> str:
    """Times of a wall clock, some hours ahead of UTC, as seconds since 1970."""
    texts, hours = ["1970-01-02 00:00", "2024-02-03 04:05", "2023-12-31 23:59", "2024-01-01 00:00"], 8
    found = list(answered(answer(list(texts), hours)))
    right = _seconds(texts, hours)
    if len(found) != len(texts):
        raise Mistake(f"{len(texts)} times went in, {len(found)} came out; give one number for each")
    slips = {
        "the zone is ignored: the wall clock is ahead of UTC": _seconds(texts, 0),
        "the sign of the zone is wrong: a clock that is ahead shows *more* than UTC, so take the hours off": _seconds(
            texts, -hours
        ),
        "these are milliseconds; the log wants seconds": [1000 * s for s in right],
        "these are nanoseconds, as pandas often stores times; the log wants seconds": [10**9 * s for s in right],
        "these are microseconds, as pandas often stores times; the log wants seconds": [10**6 * s for s in right],
        "the zone is taken off in seconds, not in hours": [s + 3600 * hours - hours for s in right],
        "the zone is taken off in minutes, not in hours": [s + 3600 * hours - 60 * hours for s in right],
    }
    numbers = [float(value) for value in found]
    for hint, wrong in slips.items():
        if numbers == [float(value) for value in wrong]:
            raise Mistake(hint)
    if numbers != [float(value) for value in right]:
        text, got, expected = next(x for x in zip(texts, numbers, right, strict=True) if x[1] != x[2])
        raise Mistake(f"{text}, {hours} hours ahead of UTC: got {got:.0f}, expected {expected}")
    if not all(float(value) == int(value) and not isinstance(value, float) for value in found):
        raise Mistake("the right moments, but as floats; a log holds whole numbers")
    again = list(answer([texts[0]], -5))
    if float(again[0]) != _seconds([texts[0]], -5)[0]:
        raise Mistake("right for 8 hours ahead, wrong for 5 hours behind (-5): use the number that is given")
    return "right, to the second"


def _seconds(texts: Sequence[str], hours: int) -> list[int]:
    return [int((pd.Timestamp(text) - pd.Timestamp(0)).total_seconds()) - 3600 * hours for text in texts]


@checker
def describing(answer: Describing) -> str:
    """Columns of a flat table that have one value for every object; gaps do not count."""
    flat = pd.DataFrame(
        {
            "film": ["f1", "f2", "f1", "f3", "f2", "f1"],
            "genre": ["drama", "tea", "drama", "drama", "tea", "drama"],
            "studio": ["a", None, None, "b", "c", "a"],
            "minutes": [3, 90, 80, 7, 90, 3],
            "viewer": ["ann", "bob", "bob", "ann", "ann", "cleo"],
            "country": ["de"] * 6,
        }
    )
    found = list(answered(answer(flat.copy(), "film")))
    right = ["genre", "studio", "country"]
    where = f" (got {found})"
    if "film" in found:
        raise Mistake("the object itself is among them; it describes nothing but itself" + where)
    if set(found) == {"country"}:
        raise Mistake("these are the columns with one value in the whole table; compare within each object" + where)
    if "minutes" in found:
        raise Mistake("f1 was watched for 3 and for 80 minutes, so `minutes` belongs to the event" + where)
    if "viewer" in found:
        raise Mistake("f1 has more than one viewer, so `viewer` belongs to the event" + where)
    if "studio" not in found:
        raise Mistake("a gap is no other value: `studio` is a, missing, a for f1 and still describes it" + where)
    if set(found) != set(right):
        raise Mistake(f"expected {right}" + where)
    return "right: genre, studio and country describe a film"
