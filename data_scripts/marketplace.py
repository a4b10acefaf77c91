"""The simulated marketplace itself: how behaviors come about, its parameters, and worlds that differ in them.

A marketplace has three groups of behaviors, as in ATRank's multi-behavior data: `item` (browse, mark, buy),
`query` (search) and `coupon` (receive). The object o of a behavior in group g at time t is drawn from a mixture:

    p(o) = (background P(o | day) + taste P(o | favorite) + conjunction P(o | pair) + sum of all w_j P(o | j))
           / (background + taste + conjunction + sum of all w_j)

*Causes.* Each earlier behavior j of the same user can be the cause, through one *link feature* that its object o_j
and o share:

    w_j      = influence[g_j -> g] * action_weight[a_j] * 2^(-(t - t_j) / half_life[g_j])
               * quench^(number of buys in the category of j after j and before t)
    P(o | j) = sum over features f of links[g_j -> g][f] * P(o | f(o_j))
    P(o | v) = popularity(o) / popularity of all o' of g with f(o') = v     if f(o) = v, else 0

A feature that the causing object lacks (a query without a brand), or that no object of the target group
shares, is left out and the other link probabilities grow to sum to one; an object without any possible link
causes nothing.

*Background.* Popularity, which may drift: days are counted from `start`, and every `period` of them log popularity is
dealt anew, with z(o, period) from a normal distribution; after 64 periods the first one comes again.

    P(o | day) = popularity(o) * exp(drift * z(o, period of the day)) / the same summed over all objects of g

*Taste.* Each user has one favorite for good, an item drawn by popularity, which nobody sees. P(o | favorite) is that
of an item as a cause, but neither age nor buys weaken it.

*Conjunction.* Two behaviors together are the cause: with a the category of the user's latest item and b that of the
latest query, P(o | pair) = P(o | category table[a, b]), for items and queries, once a user has both. In each row and
each column of the planted table every category stands once: a alone, or b alone, tells nothing where the other
one's categories are equally frequent.

By default only causes and background are there; `WORLDS` has other marketplaces, in which other models should win.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
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
    taste: float = Field(0.0, ge=0, description="weight of a user's lasting favorite")
    drift: float = Field(0.0, ge=0, description="standard deviation of what each period adds to log popularity")
    period: int = Field(28, ge=1, description="days for which popularity stays as it is")
    conjunction: float = Field(0.0, ge=0, description="weight of the latest item and the latest query together")

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


WORLDS = {
    "marketplace": MarketplaceConfig(),
    # nothing but popularity and each user's favorite: what a user likes need not be read anew
    "lasting-taste": MarketplaceConfig(influence={}, taste=3.0),
    # causes too, but half of all behaviors come from the background
    "drift": MarketplaceConfig(background=8.0, drift=2.0, session_gap=12.0),
    # no sessions, so that the age of behaviors tells which one is the latest
    "conjunction": MarketplaceConfig(influence={}, conjunction=9.0, categories=5, session_length=1.0, session_gap=2.0),
    # many users who come rarely: by their next behavior the popularity that the last one tells of is gone
    "no-history": MarketplaceConfig(
        influence={},
        drift=1.5,
        users=6000,
        behaviors=13,
        items=300,
        queries=100,
        coupons=60,
        session_length=1.0,
        session_gap=30.0,
    ),
}
