"""Packed behaviors in padded tables and in strips: each once, in its place, and back."""

from __future__ import annotations

import pytest
import torch
from atrank_lib.layout import Layout

from tests.ragged import LENGTHS, ragged

pytestmark = pytest.mark.usefixtures("strips")


def test_padding_and_packing_are_inverse():
    s, layout, places = ragged()
    assert layout.mask.sum(dim=1).tolist() == list(LENGTHS)
    padded = layout.pad(s)
    assert torch.equal(layout.pack(padded), s)
    assert not padded[~layout.mask].any()
    for b, numbers in enumerate(places):
        assert torch.equal(padded[b, : len(numbers)], s[numbers])


def test_strips_hold_every_behavior_once_in_its_place(strips):
    s, layout, places = ragged(lengths=(3, 0, 1, 5, 1, 3))
    assert len(layout.strips) == (1 if strips == "one strip" else 4)
    order = range(6) if layout.samples.there is None else layout.samples.there.tolist()
    tables = [row for table in layout.apart(s) for row in table]
    assert len(tables) == 6
    for sample, table in zip(order, tables, strict=True):
        n = len(places[sample])
        assert torch.equal(table[:n], s[places[sample]])
        assert not table[n:].any()
    packed = [strip.pack(table) for strip, table in zip(layout.strips, layout.apart(s), strict=True)]
    assert torch.equal(layout.behaviors.together(packed), s)


def test_one_long_history_has_a_strip_of_its_own():
    lengths = [4] * 500 + [300]
    slots = torch.tensor([b * 300 + t for b, n in enumerate(lengths) for t in range(n)])
    layout = Layout(slots, 501, 300)
    assert [(s.size, s.length, s.behaviors) for s in layout.strips] == [(500, 4, 2000), (1, 300, 300)]
    assert all(s.slots is None for s in layout.strips)  # nothing is padded


def test_only_a_sample_without_behaviors_sees_an_empty_place():
    _, layout, _ = ragged()
    visible = layout.visible()
    assert visible is not None
    changed = (visible != layout.mask).nonzero().tolist()
    assert changed == [[1, 0]]
    _, full, _ = ragged(lengths=(2, 2))
    assert full.visible() is None
