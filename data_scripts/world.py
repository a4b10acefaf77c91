"""The objects of a simulated marketplace, how popular they are, and which can lead to which."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from data_scripts.marketplace import DAY, GROUPS, LINKS, MarketplaceConfig

PERIODS = 64  # of drift, until the first one comes again


@dataclass(frozen=True)
class World:
    """All objects of a marketplace with their hidden link values, numbered through over the groups.

    first:       [G1 = G + 1] number of the first object of each group (GROUPS order); first[g + 1] - 1 is its
                 last
    value:       [F, N]  value of each link feature (LINKS order), -1 where the object has none
    popularity:  [N]     chance of each object in the background of its group; sums to one in each group
    moment:      [D, N]  the same in each period of the drift; one row, popularity itself, without drift
    table:       [K, K]  category that follows from those of the latest item (row) and the latest query (column); empty
                 without conjunction
    """

    config: MarketplaceConfig
    first: Int[np.ndarray, " G1"]
    value: Int[np.ndarray, "F N"]
    popularity: Float[np.ndarray, " N"]
    moment: Float[np.ndarray, "D N"]
    table: Int[np.ndarray, "K K"] = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int32))

    @cached_property
    def group(self) -> Int[np.ndarray, " N"]:
        """Group code of each object."""
        return np.repeat(np.arange(len(GROUPS)), np.diff(self.first))

    @cached_property
    def values(self) -> int:
        """One more than the largest link value."""
        return int(self.sources.max()) + 1

    @cached_property
    def sources(self) -> Int[np.ndarray, "F M"]:
        """Link values of all that can be a cause: the N objects, then K pairs, one for each category."""
        pairs = np.full((len(LINKS), len(self.table)), -1, dtype=self.value.dtype)
        pairs[LINKS.index("category")] = np.arange(len(self.table))
        return np.concatenate([self.value, pairs], axis=1)

    def period(self, day: Int[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
        """The row of `moment` for each of some days."""
        return day // self.config.period % len(self.moment)

    def day(self, time: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """Whole days from `start` to each of some timestamps."""
        return (time - self.config.start) // int(DAY)

    @cached_property
    def _mass(self) -> Float[np.ndarray, "G F V"]:
        """Popularity of all objects of a group that share a value."""
        mass = np.zeros((len(GROUPS), len(LINKS), self.values))
        for f, value in enumerate(self.value):
            has = value >= 0
            np.add.at(mass, (self.group[has], f, value[has]), self.popularity[has])
        return mass

    @cached_property
    def share(self) -> Float[np.ndarray, "F N"]:
        """P(object | a link through feature f to its value); 0 where the object has no such feature."""
        mass = self._mass[self.group[None], np.arange(len(LINKS))[:, None], np.maximum(self.value, 0)]
        return np.divide(self.popularity[None], mass, out=np.zeros(self.value.shape), where=self.value >= 0)

    @cached_property
    def link(self) -> Float[np.ndarray, "M G F"]:
        """P(link feature | cause is this source, group of the effect); all 0 where no link is possible."""
        table = np.array(
            [[[self.config.links.get(c, {}).get(e, {}).get(f, 0.0) for f in LINKS] for e in GROUPS] for c in GROUPS]
        )
        wanted = np.concatenate([table[self.group], np.ones((len(self.table), *table.shape[1:]))])
        reached = self._mass[:, np.arange(len(LINKS))[:, None], np.maximum(self.sources, 0)] > 0  # [G, F, M]
        possible = reached.transpose(2, 0, 1) & (self.sources >= 0).T[:, None, :]
        link = np.where(possible, wanted, 0.0)
        total = link.sum(-1, keepdims=True)
        return np.divide(link, total, out=np.zeros_like(link), where=total > 0)

    @cached_property
    def pull(self) -> Float[np.ndarray, "M G"]:
        """Weight of a source over each group, without action, decay and quenching."""
        pairs = np.full((len(self.table), len(GROUPS)), self.config.conjunction)
        return np.concatenate([self.config.strength()[self.group], pairs]) * (self.link.sum(-1) > 0)

    @cached_property
    def charm(self) -> Float[np.ndarray, "M G"]:
        """Weight of a source over each group for a user whose favorite it is."""
        return self.config.taste * (self.link.sum(-1) > 0)

    @cached_property
    def pools(self) -> tuple[Int[np.ndarray, "G F1"], Float[np.ndarray, " P"], Int[np.ndarray, " P"]]:
        """Inverse-CDF sampling: (first cell, cumulative, objects).

        Cell `first_cell[g, f] + v` holds the objects of group g with value v of feature f; feature F is no
        feature at all: a cell with the whole group for each row of `moment`. The cumulative share runs from c to
        c + 1 in cell c, so one `searchsorted(cumulative, c + uniform)` draws from any cell.
        """
        cells = []
        first_cell = np.arange(len(GROUPS) * (len(LINKS) + 1)).reshape(len(GROUPS), -1)
        first_cell *= max(self.values, len(self.moment))
        for g in range(len(GROUPS)):
            objects = np.arange(self.first[g], self.first[g + 1])
            for f, value in enumerate(self.value):
                some = objects[value[objects] >= 0]
                cell = first_cell[g, f] + value[some]
                cells.append(pd.DataFrame({"cell": cell, "object": some, "weight": self.popularity[some]}))
            for period, popularity in enumerate(self.moment):
                cell = first_cell[g, -1] + period
                cells.append(pd.DataFrame({"cell": cell, "object": objects, "weight": popularity[objects]}))
        table = pd.concat(cells).sort_values(["cell", "object"], ignore_index=True)
        weight = table["weight"].groupby(table["cell"])
        cumulative = table["cell"] + weight.cumsum() / weight.transform("sum")
        last = ~table["cell"].duplicated(keep="last")
        cumulative = cumulative.where(~last, table["cell"] + 1.0)
        return first_cell, cumulative.to_numpy(), table["object"].to_numpy()


def build_world(config: MarketplaceConfig, rng: np.random.Generator) -> tuple[World, dict[str, pd.DataFrame]]:
    """Draw the objects: the hidden world, and the objects tables that the log shows.

    Brands and shops have home categories, so an item's category, brand and shop go together, but loosely: one
    item in five has a brand, and two in five a shop, from anywhere, and homes overlap. The links can be told
    apart.
    """
    sizes = {"item": config.items, "query": config.queries, "coupon": config.coupons}
    first = np.concatenate([[0], np.cumsum([sizes[g] for g in GROUPS])])
    value = np.full((len(LINKS), first[-1]), -1, dtype=np.int32)
    category_share = _zipf(config.categories, 0.4, rng)

    brand_home = rng.random((config.categories, config.brands)) < 3 / config.categories
    shop_home = rng.random((config.categories, config.shops)) < 5 / config.categories
    item = slice(first[0], first[1])
    category = rng.choice(config.categories, config.items, p=category_share).astype(np.int32)
    value[0, item] = category
    value[1, item] = _from_home(category, brand_home, 0.8, rng)
    value[2, item] = _from_home(category, shop_home, 0.6, rng)
    price = np.round(rng.lognormal(3.0, 0.8, config.categories)[category] * rng.lognormal(0.0, 0.4, config.items), 2)

    query = slice(first[1], first[2])
    category = rng.choice(config.categories, config.queries, p=category_share).astype(np.int32)
    value[0, query] = category
    named = rng.random(config.queries) < 0.5
    value[1, query] = np.where(named, _from_home(category, brand_home, 0.9, rng), -1)

    coupon = slice(first[2], first[3])
    value[2, coupon] = rng.integers(config.shops, size=config.coupons)
    value[3, coupon] = rng.integers(config.coupon_types, size=config.coupons)

    popularity = np.concatenate([_zipf(sizes[g], config.popularity_exponent, rng) for g in GROUPS])
    objects = {
        "item": pd.DataFrame(
            {
                "object_id": _names("item", config.items),
                "shop_id": _names("shop", config.shops)[value[2, item]],
                "brand_id": _names("brand", config.brands)[value[1, item]],
                "category_id": _names("category", config.categories)[value[0, item]],
                "price": price,
            }
        ),
        "query": pd.DataFrame(
            {
                "object_id": _names("query", config.queries),
                "tokens": _tokens(value[0, query], value[1, query], rng),
            }
        ),
        "coupon": pd.DataFrame(
            {
                "object_id": _names("coupon", config.coupons),
                "shop_id": _names("shop", config.shops)[value[2, coupon]],
                "coupon_type": _names("type", config.coupon_types)[value[3, coupon]],
            }
        ),
    }
    (more,) = rng.spawn(1)  # what came later draws elsewhere: marketplaces without it stay what they were
    moment = popularity[None]
    if config.drift:
        moment = moment * np.exp(config.drift * more.normal(size=(PERIODS, first[-1])))
        moment /= np.add.reduceat(moment, first[:-1], axis=1).repeat(np.diff(first), axis=1)
    table = _latin(config.categories if config.conjunction else 0, more)
    return World(config, first, value, popularity, moment, table), objects


def _names(prefix: str, count: int) -> np.ndarray:
    return np.array([f"{prefix}{k}" for k in range(count)], dtype=object)


def _zipf(count: int, exponent: float, rng: np.random.Generator) -> Float[np.ndarray, " count"]:
    """Shares that fall as rank^-exponent, ranks dealt at random."""
    share = np.arange(1.0, count + 1) ** -exponent
    return rng.permutation(share / share.sum())


def _latin(size: int, rng: np.random.Generator) -> Int[np.ndarray, "K K"]:
    """A table in which each value stands once in every row and every column."""
    rows, columns, values = (rng.permutation(size).astype(np.int32) for _ in range(3))
    return values[(rows[:, None] + columns) % max(size, 1)]


def _from_home(category: np.ndarray, home: np.ndarray, loyalty: float, rng: np.random.Generator) -> np.ndarray:
    """For each object a brand (or shop): with chance `loyalty` one at home in its category, else any."""
    anywhere = rng.integers(home.shape[1], size=len(category))
    homely = (home.sum(axis=1) > 0)[category] & (rng.random(len(category)) < loyalty)
    at_home = np.argmax(rng.random((len(category), home.shape[1])) * home[category], axis=1)
    return np.where(homely, at_home, anywhere)


def _tokens(category: np.ndarray, brand: np.ndarray, rng: np.random.Generator) -> list[list[str]]:
    """Search words: one or two of the category's three, the brand's if it has one, one to three fillers.

    No two queries share all their words, so that a query can be told from its tokens.
    """
    seen: set[tuple[str, ...]] = set()
    queries = []
    fillers = max(40, len(category) // 4)
    for c, b in zip(category, brand, strict=True):
        while True:
            words = [f"category{c}{'abc'[k]}" for k in rng.choice(3, size=rng.integers(1, 3), replace=False)]
            words += [f"brand{b}"] if b >= 0 else []
            words += [f"word{k}" for k in rng.choice(fillers, size=rng.integers(1, 4), replace=False)]
            if tuple(sorted(words)) not in seen:
                break
        seen.add(tuple(sorted(words)))
        queries.append([words[k] for k in rng.permutation(len(words))])
    return queries
