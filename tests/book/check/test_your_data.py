"""The checkers of chapter 13 accept right answers and name the slip in wrong ones."""

from __future__ import annotations

import pandas as pd
import pytest

from atrank_book.check import your_data as check
from tests.book.check.hints import assert_hint

MUSIC = """
name: music
groups:
  song:
    actions: [play, skip, like]
    features:
      artist: {kind: categorical, vocabulary: artist}
      genres: {kind: tokens}
      seconds: {kind: continuous}
  concert:
    actions: [attend]
    features:
      artist: {kind: categorical, vocabulary: artist}
      city: {kind: categorical}
"""


def test_schema_accepts_the_right_answer():
    assert check.schema(MUSIC)
    assert check.schema(MUSIC.replace("vocabulary: artist", "vocabulary: people"))


@pytest.mark.parametrize(
    ("old", "new", "hint"),
    [
        (MUSIC, None, "nothing yet"),
        (MUSIC, "name: [", "not valid YAML"),
        ("  song:", "  songs:", "no group is called 'song'"),
        ("skip, ", "", "the actions of 'song' should be"),
        ("      seconds: {kind: continuous}\n", "", "lacks the feature 'seconds'"),
        ("genres: {kind: tokens}", "genres: {kind: categorical}", "every combination"),
        ("{kind: continuous}", "{kind: categorical}", "180 and 181"),
        ("city: {kind: categorical}", "city: {kind: tokens}", "neither a list nor a number"),
        (", vocabulary: artist", "", "name one vocabulary at both"),
        ("city: {kind: categorical}", "city: {kind: categorical, vocabulary: artist}", "no city"),
        ("kind: tokens", "kind: list", "use one of"),
        ("{kind: continuous}", "{kind: continuous, vocabulary: s}", "has no vocabulary"),
        ("  concert:", "  like: {actions: [like], features: {genres: {kind: tokens}}}\n  concert:", "two groups"),
    ],
)
def test_schema_names_the_slip(old, new, hint):
    assert old in MUSIC
    assert_hint(check.schema(MUSIC.replace(old, new) if new is not None else new), hint)


def seconds(texts, hours):
    return [int(pd.Timestamp(text).timestamp()) - 3600 * hours for text in texts]


def test_to_seconds_accepts_the_right_answer():
    assert check.to_seconds(seconds)
    assert check.to_seconds(lambda texts, hours: pd.Series(seconds(texts, hours)))


WRONG_SECONDS = {
    "nothing yet": lambda t, z: None,
    "the zone is ignored": lambda t, z: seconds(t, 0),
    "the sign of the zone": lambda t, z: seconds(t, -z),
    "these are milliseconds": lambda t, z: [1000 * s for s in seconds(t, z)],
    "these are microseconds": lambda t, z: [10**6 * s for s in seconds(t, z)],
    "these are nanoseconds": lambda t, z: [10**9 * s for s in seconds(t, z)],
    "in seconds, not in hours": lambda t, z: [s - z for s in seconds(t, 0)],
    "in minutes, not in hours": lambda t, z: [s - 60 * z for s in seconds(t, 0)],
    "one number for each": lambda t, z: seconds(t, z)[:1],
    "expected": lambda t, z: [int(pd.to_datetime(x, format="%Y-%d-%m %H:%M").timestamp()) if x[8:10] < "13" else 0
                              for x in t],
    "as floats": lambda t, z: [float(s) for s in seconds(t, z)],
    "wrong for 5 hours behind": lambda t, z: seconds(t, 8),
    "ValueError": lambda t, z: [int(x) for x in t],
}  # fmt: skip


@pytest.mark.parametrize("hint", WRONG_SECONDS)
def test_to_seconds_names_the_slip(hint):
    assert_hint(check.to_seconds(WRONG_SECONDS[hint]), hint)


def one_value(table, column):
    counts = table.groupby(column).nunique()
    return [name for name in counts if (counts[name] <= 1).all()]


def test_describing_accepts_the_right_answer():
    assert check.describing(one_value)


WRONG_DESCRIBING = {
    "nothing yet": lambda t, c: None,
    "the object itself": lambda t, c: [c, *one_value(t, c)],
    "within each object": lambda t, c: [name for name in t if t[name].nunique() == 1],
    "so `minutes` belongs": lambda t, c: [name for name in t if name not in (c, "viewer")],
    "so `viewer` belongs": lambda t, c: [*one_value(t, c), "viewer"],
    "a gap is no other value": lambda t, c: [
        name for name in t if name != c and (t.groupby(c)[name].nunique(dropna=False) == 1).all()
    ],
    "expected": lambda t, c: ["studio"],
    "KeyError": lambda t, c: t["nothing"],
}


@pytest.mark.parametrize("hint", WRONG_DESCRIBING)
def test_describing_names_the_slip(hint):
    assert_hint(check.describing(WRONG_DESCRIBING[hint]), hint)
