"""The simulated marketplace itself: its parameters, its objects, and which objects can lead to which.

A marketplace has three groups of behaviors, as in ATRank's multi-behavior data: `item` (browse, mark, buy),
`query` (search) and `coupon` (receive). A behavior on an object is either *background* (drawn by popularity)
or *caused* by one earlier behavior of the same user, through one *link feature* that the two objects share:

    w_j  = influence[g_j -> g] * action_weight[a_j] * 2^(-(t - t_j) / half_life[g_j])
           * quench^(number of buys in the category of j after j and before t)
    P(j) = w_j / (background + sum of all w)                               the cause is behavior j
    P(f) = links[g_j -> g][f]                                              the link runs through feature f
    P(o) = popularity(o) / popularity of all o' of g with f(o') = f(o_j)   if f(o) = f(o_j), else 0

A feature that the causing object lacks (a query without a brand), or that no object of the target group
shares, is left out and the other link probabilities grow to sum to one; an object without any possible link
causes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, model_validator

from atrank_lib.log import Feature, Group, Schema, TimeScale

GROUPS = ("item", "query", "coupon")
ACTIONS = {"item": ("browse", "mark", "buy"), "query": ("search",), "coupon": ("receive",)}
LINKS = ("category", "brand", "shop", "coupon_type")  # the features that a cause can work through
LINKS_OF = {"item": LINKS[:3], "query": LINKS[:2], "coupon": LINKS[2:]}
BUY = ACTIONS["item"].index("buy")
DAY = 86400.0  # seconds

SCHEMA = Schema(
    name="simulated marketplace",
    groups={
        "item": Group(
            actions=ACTIONS["item"],
            features={
                "object_id": Feature(kind="categorical"),
                "shop_id": Feature(kind="categorical", vocabulary="shop"),
                "brand_id": Feature(kind="categorical", vocabulary="brand"),
                "category_id": Feature(kind="categorical", vocabulary="category"),
                "price": Feature(kind="continuous"),
            },
        ),
        "query": Group(
            actions=ACTIONS["query"],
            features={"tokens": Feature(kind="tokens", vocabulary="token")},
            time=TimeScale(unit="hour"),
        ),
        "coupon": Group(
            actions=ACTIONS["coupon"],
            features={
                "object_id": Feature(kind="categorical"),
                "shop_id": Feature(kind="categorical", vocabulary="shop"),
                "coupon_type": Feature(kind="categorical"),
            },
            time=TimeScale(unit="hour"),
        ),
    },
)


class MarketplaceConfig(BaseModel):
    """Everything that decides a simulated marketplace; equal configs give equal logs.

    Times are in days. `influence[cause][effect]` and `links[cause][effect][feature]` are keyed by group
    names; a pair that is missing has no influence. `cross_influence` multiplies every influence between two
    *different* groups: 0 leaves the groups independent of each other, a negative control.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    users: int = Field(2000, ge=1)
    seed: int = Field(0, ge=0)
    behaviors: float = Field(40.0, ge=12, description="mean number of behaviors of a user")
    items: int = Field(1000, ge=2)
    queries: int = Field(300, ge=2)
    coupons: int = Field(150, ge=2)
    categories: int = Field(30, ge=1)
    brands: int = Field(60, ge=1)
    shops: int = Field(50, ge=1)
    coupon_types: int = Field(8, ge=1)
    popularity_exponent: float = Field(0.5, ge=0, description="popularity falls as rank^-exponent (Zipf)")
    group_mix: dict[str, PositiveFloat] = {"item": 0.6, "query": 0.25, "coupon": 0.15}
    action_mix: dict[str, PositiveFloat] = {"browse": 0.7, "mark": 0.15, "buy": 0.15}
    start: int = Field(1_500_000_000, ge=0, description="first possible timestamp, seconds")
    arrival_days: PositiveFloat = Field(60.0, description="users arrive uniformly over this many days")
    session_length: float = Field(4.0, ge=1, description="mean number of behaviors in a session")
    session_gap: PositiveFloat = Field(4.0, description="mean days between two sessions")
    behavior_gap: PositiveFloat = Field(0.01, description="mean days between two behaviors of a session")
    background: PositiveFloat = Field(1.0, description="weight of the background against the causes")
    influence: dict[str, dict[str, NonNegativeFloat]] = {
        "item": {"item": 1.0, "query": 1.0, "coupon": 1.0},
        "query": {"item": 3.0, "query": 3.0},
        "coupon": {"item": 5.0, "coupon": 5.0},
    }
    links: dict[str, dict[str, dict[str, NonNegativeFloat]]] = {
        "item": {
            "item": {"category": 0.4, "brand": 0.3, "shop": 0.3},
            "query": {"category": 0.7, "brand": 0.3},
            "coupon": {"shop": 1.0},
        },
        "query": {"item": {"category": 0.7, "brand": 0.3}, "query": {"category": 0.6, "brand": 0.4}},
        "coupon": {"item": {"shop": 1.0}, "coupon": {"shop": 0.6, "coupon_type": 0.4}},
    }
    action_weight: dict[str, PositiveFloat] = {
        "browse": 1.0,
        "mark": 3.0,
        "buy": 0.2,  # a need that is met leads to little
        "search": 1.0,
        "receive": 1.0,
    }
    half_lives: dict[str, PositiveFloat] = {"item": 5.0, "query": 1.5, "coupon": 0.5}
    quench: float = Field(0.05, ge=0, le=1, description="what is left of a behavior's influence after a later buy")
    cross_influence: float = Field(1.0, ge=0)

    @model_validator(mode="after")
    def _complete(self) -> MarketplaceConfig:
        wanted = {
            "group_mix": GROUPS,
            "half_lives": GROUPS,
            "action_mix": ACTIONS["item"],
            "action_weight": tuple(action for actions in ACTIONS.values() for action in actions),
        }
        for name, keys in wanted.items():
            if set(getattr(self, name)) != set(keys):
                given = ", ".join(getattr(self, name))
                raise ValueError(f"{name} must have exactly the keys {', '.join(keys)}; got {given}")
        for cause, effects in self.influence.items():
            for effect, weight in effects.items():
                if cause not in GROUPS or effect not in GROUPS:
                    raise ValueError(f"influence {cause} -> {effect}: groups are {', '.join(GROUPS)}")
                if weight > 0 and sum(self.links.get(cause, {}).get(effect, {}).values()) <= 0:
                    raise ValueError(
                        f"influence {cause} -> {effect} is {weight} but links has no feature for that pair"
                    )
        for cause, pairs in self.links.items():
            for effect, features in pairs.items():
                shared = [f for f in LINKS if f in LINKS_OF.get(cause, ()) and f in LINKS_OF.get(effect, ())]
                for feature in features:
                    if feature not in shared:
                        raise ValueError(f"links {cause} -> {effect}: they share {shared}, not {feature!r}")
        return self

    def strength(self) -> Float[np.ndarray, "G G"]:
        """Influence [cause, effect] with `cross_influence` multiplied in."""
        table = np.array([[self.influence.get(cause, {}).get(effect, 0.0) for effect in GROUPS] for cause in GROUPS])
        return np.where(np.eye(len(GROUPS), dtype=bool), table, table * self.cross_influence)


@dataclass(frozen=True)
class World:
    """All objects of a marketplace with their hidden link values, numbered through over the groups.

    first:       [G1 = G + 1] number of the first object of each group (GROUPS order); first[g + 1] - 1 is its
                 last
    value:       [F, N]  value of each link feature (LINKS order), -1 where the object has none
    popularity:  [N]     chance of each object in the background of its group; sums to one in each group
    """

    config: MarketplaceConfig
    first: Int[np.ndarray, " G1"]
    value: Int[np.ndarray, "F N"]
    popularity: Float[np.ndarray, " N"]

    @cached_property
    def group(self) -> Int[np.ndarray, " N"]:
        """Group code of each object."""
        return np.repeat(np.arange(len(GROUPS)), np.diff(self.first))

    @cached_property
    def values(self) -> int:
        """One more than the largest link value."""
        return int(self.value.max()) + 1

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
    def link(self) -> Float[np.ndarray, "N G F"]:
        """P(link feature | cause is this object, group of the effect); all 0 where no link is possible."""
        table = np.array(
            [[[self.config.links.get(c, {}).get(e, {}).get(f, 0.0) for f in LINKS] for e in GROUPS] for c in GROUPS]
        )
        reached = self._mass[:, np.arange(len(LINKS))[:, None], np.maximum(self.value, 0)] > 0  # [G, F, N]
        possible = reached.transpose(2, 0, 1) & (self.value >= 0).T[:, None, :]
        link = np.where(possible, table[self.group], 0.0)
        total = link.sum(-1, keepdims=True)
        return np.divide(link, total, out=np.zeros_like(link), where=total > 0)

    @cached_property
    def pull(self) -> Float[np.ndarray, "N G"]:
        """Influence of a behavior on this object over each group, without action, decay and quenching."""
        return self.config.strength()[self.group] * (self.link.sum(-1) > 0)

    @cached_property
    def pools(self) -> tuple[Int[np.ndarray, "G F1"], Float[np.ndarray, " P"], Int[np.ndarray, " P"]]:
        """Inverse-CDF sampling: (first cell, cumulative, objects).

        Cell `first_cell[g, f] + v` holds the objects of group g with value v of feature f; feature F is no
        feature at all: one cell with the whole group. The cumulative share runs from c to c + 1 in cell c, so
        one `searchsorted(cumulative, c + uniform)` draws from any cell.
        """
        cells, everything = [], np.zeros((1, len(self.group)), dtype=self.value.dtype)
        first_cell = np.arange(len(GROUPS) * (len(LINKS) + 1)).reshape(len(GROUPS), -1) * self.values
        for g in range(len(GROUPS)):
            for f, value in enumerate(np.concatenate([self.value, everything])):
                objects = np.arange(self.first[g], self.first[g + 1])
                objects = objects[value[objects] >= 0]
                cells.append(pd.DataFrame({"cell": first_cell[g, f] + value[objects], "object": objects}))
        table = pd.concat(cells).sort_values(["cell", "object"], ignore_index=True)
        weight = pd.Series(self.popularity[table["object"]]).groupby(table["cell"])
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
    return World(config, first, value, popularity), objects


def _names(prefix: str, count: int) -> np.ndarray:
    return np.array([f"{prefix}{k}" for k in range(count)], dtype=object)


def _zipf(count: int, exponent: float, rng: np.random.Generator) -> Float[np.ndarray, " count"]:
    """Shares that fall as rank^-exponent, ranks dealt at random."""
    share = np.arange(1.0, count + 1) ** -exponent
    return rng.permutation(share / share.sum())


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
