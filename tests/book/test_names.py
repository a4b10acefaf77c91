"""Words in the place of the simulator's names: one for each, the same everywhere, nothing else changed."""

from __future__ import annotations

import copy
import json

import pytest

from atrank_book.names import BRANDS, CATEGORIES, COUPONS, FILLERS, SHOPS, with_names, word
from atrank_book.page import browser_document
from atrank_lib.samples import prepare
from atrank_lib.variants import ATRankOptions, build
from data_scripts.simulate import MarketplaceConfig, simulate


def test_no_word_stands_for_two_things():
    words = [w for three in CATEGORIES for w in three] + [*BRANDS, *SHOPS, *COUPONS, *FILLERS.split()]
    assert len(words) == len(set(words)) == 12 * 3 + 16 + 12 + 8 + 40


@pytest.mark.parametrize(
    "name", ["category12", "brand16", "shop99", "type8", "word40", "item5", "a shop", "category1d", ""]
)
def test_what_has_no_word_keeps_its_name(name: str):
    assert word(name) == name


def test_a_document_keeps_all_but_the_names():
    market = simulate(
        MarketplaceConfig(users=30, behaviors=14, items=40, queries=20, coupons=10, categories=13, shops=13)
    )
    histories, _ = prepare(market.log, "validated")
    model = build(histories.schema, histories.vocabularies, ATRankOptions(embedding_size=4, hidden=4, spaces=1))
    plain = browser_document(model, histories, [])
    before = copy.deepcopy(plain)
    named = with_names(plain)
    assert plain == before  # a copy was changed
    assert {key for key in named if named[key] != plain[key]} == {"vocabularies", "groups"}
    for group, old in zip(named["groups"], plain["groups"], strict=True):
        ids = group["objects"].pop("ids")
        numbers = old["objects"].pop("ids")
        assert group == old
        assert len(ids) == len(set(ids)) == len(numbers)
        table = market.log.objects[group["name"]].set_index("object_id")
        for name, number in zip(ids, numbers, strict=True):
            thing = table.loc[number]
            if group["name"] == "query":
                assert name == "“" + " ".join(word(token) for token in thing["tokens"]) + "”"
                continue
            assert name.split()[-1] == number.removeprefix(group["name"])
            shown = {"item": "category", "coupon": "shop"}[group["name"]]
            value = thing[f"{shown}_id"]
            seen = value in histories.vocabularies.words[shown]
            assert name.startswith(word(value) if seen else group["name"])
    assert json.dumps(named["vocabularies"]).count("Mill Store") == 1
