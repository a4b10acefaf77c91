"""Words for the simulated marketplace: `category3` is a lamp there, and `shop1` the Mill Store.

The simulator numbers what it makes. A reader remembers a tent better than `item52`, so pages that show single
objects take their words from here. They say nothing that the log does not: the number stays.
"""

from __future__ import annotations

import re
from typing import Any

# an item's name, and the three words that searches for its category use
CATEGORIES = (
    ("tent", "camping", "outdoor"),
    ("boots", "hiking", "leather"),
    ("guitar", "acoustic", "strings"),
    ("lamp", "desk", "bulb"),
    ("kettle", "tea", "kitchen"),
    ("novel", "book", "crime"),
    ("bicycle", "bike", "city"),
    ("puzzle", "game", "pieces"),
    ("camera", "photo", "lens"),
    ("coat", "wool", "rain"),
    ("drill", "tools", "cordless"),
    ("rug", "carpet", "hallway"),
)
BRANDS = (
    *("Wren", "Lark", "Heron", "Finch", "Plover", "Linnet", "Siskin", "Dunlin"),
    *("Curlew", "Avocet", "Petrel", "Fulmar", "Gannet", "Bittern", "Teal", "Knot"),
)
PLACES = "Harbor Mill Bridge Castle Garden Market River Station Tower Valley Park Lake"
SHOPS = tuple(f"{place} Store" for place in PLACES.split())
COUPONS = (
    *("tenth off", "fifth off", "two for one", "free shipping"),
    *("free gift", "double points", "first order", "weekend deal"),
)
FILLERS = (
    "cheap best new red blue green black white small large strong gift sale used online review set spare soft "
    "warm quiet fast simple classic modern women men kids family travel home weekend summer spring autumn "
    "birthday sturdy folding light seaside"
)


def word(name: str) -> str:
    """A word for a value of the simulator; itself where there is none.

    >>> [word(name) for name in ("category0", "category0b", "brand1", "shop2", "type3", "word0", "item5")]
    ['tent', 'camping', 'Lark', 'Bridge Store', 'free shipping', 'cheap', 'item5']
    """
    found = re.fullmatch(r"(category|brand|shop|type|word)(\d+)([abc]?)", name)
    if not found:
        return name
    kind, number, letter = found[1], int(found[2]), found[3]
    lists = {"brand": BRANDS, "shop": SHOPS, "type": COUPONS, "word": FILLERS.split()}
    words = [three["abc".index(letter or "a")] for three in CATEGORIES] if kind == "category" else lists[kind]
    return words[number] if number < len(words) else name


def with_names(document: dict[str, Any]) -> dict[str, Any]:
    """A page's document (``browser_document``) of a simulated log, with words in the place of the simulator's names."""
    vocabularies = {name: [word(value) for value in words] for name, words in document["vocabularies"].items()}

    def values(group: dict[str, Any], feature: str) -> list[Any]:
        (number,) = (i for i, entry in enumerate(group["features"]) if entry["name"] == feature)
        return group["objects"]["columns"][number]

    def ids(group: dict[str, Any]) -> list[str]:
        numbers = [re.sub(r"\D+", "", name) for name in group["objects"]["ids"]]
        if group["name"] == "query":
            words = vocabularies["token"]
            return [f"“{' '.join(words[t - 1] if t else '?' for t in tokens)}”" for tokens in values(group, "tokens")]
        if group["name"] == "coupon":
            shops = ["", *vocabularies["shop"]]
            return [f"{shops[s]} coupon {n}".strip() for s, n in zip(values(group, "shop_id"), numbers, strict=True)]
        things = ["item", *vocabularies["category"]]
        return [f"{things[c]} {n}" for c, n in zip(values(group, "category_id"), numbers, strict=True)]

    groups = [group | {"objects": group["objects"] | {"ids": ids(group)}} for group in document["groups"]]
    return document | {"vocabularies": vocabularies, "groups": groups}
