"""Shared fixtures. Every shape annotation of the package is checked while the tests run."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from jaxtyping import install_import_hook

# before the first import of the package, or its functions stay unchecked; an int passes for a float
CHECKED = ["atrank_lib", "atrank_book", "experiments"]
install_import_hook(CHECKED, "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")

from atrank_lib.log.events import EventLog  # noqa: E402
from atrank_lib.log.schema import Schema  # noqa: E402

torch.set_num_threads(1)

DAY = 86_400


@pytest.fixture
def tiny_schema() -> Schema:
    """Three groups of behaviors: items, queries and coupons; items and coupons share the shops."""
    return Schema.model_validate(
        {
            "name": "tiny marketplace",
            "groups": {
                "item": {
                    "actions": ["browse", "mark", "buy"],
                    "features": {
                        "object_id": {"kind": "categorical"},
                        "shop_id": {"kind": "categorical", "vocabulary": "shop"},
                        "category_id": {"kind": "categorical", "vocabulary": "category"},
                        "price": {"kind": "continuous"},
                    },
                },
                "query": {
                    "actions": ["search"],
                    "features": {"tokens": {"kind": "tokens", "vocabulary": "token"}},
                    "time": {"unit": "hour"},
                },
                "coupon": {
                    "actions": ["receive"],
                    "features": {
                        "object_id": {"kind": "categorical"},
                        "shop_id": {"kind": "categorical", "vocabulary": "shop"},
                        "coupon_type": {"kind": "categorical"},
                    },
                    "time": {"edges": [1, 7, 30]},
                },
            },
        }
    )


def _events(rows: list[tuple[str, float, str, str]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["user_id", "timestamp", "action", "object_id"])
    return frame.assign(timestamp=(frame["timestamp"] * DAY).astype("int64"))


@pytest.fixture
def tiny_tables() -> tuple[dict[str, pd.DataFrame], dict[str, pd.DataFrame]]:
    """Events and objects of `tiny_log`, as plain frames to change at will.

    User anna has behaviors in all groups (two of them on the same day, in one group and across groups), bert
    in items and queries, carl in items alone, dora in coupons alone, and emil a single behavior.
    """
    events = {
        "item": _events(
            [
                ("anna", 0, "browse", "i1"),
                ("anna", 1, "browse", "i2"),
                ("anna", 1, "mark", "i2"),
                ("anna", 3.5, "buy", "i2"),
                ("anna", 9, "browse", "i4"),
                ("bert", 2, "browse", "i3"),
                ("bert", 5, "buy", "i3"),
                ("bert", 40, "browse", "i1"),
                ("carl", 4, "browse", "i5"),
                ("carl", 6, "browse", "i1"),
                ("carl", 7, "buy", "i5"),
                ("emil", 8, "browse", "i2"),
            ]
        ),
        "query": _events(
            [
                ("anna", 0.5, "search", "q1"),
                ("anna", 3.5, "search", "q2"),
                ("bert", 1, "search", "q3"),
                ("bert", 20, "search", "q1"),
            ]
        ),
        "coupon": _events(
            [
                ("anna", 1, "receive", "c1"),
                ("anna", 8, "receive", "c2"),
                ("dora", 2, "receive", "c1"),
                ("dora", 60, "receive", "c3"),
            ]
        ),
    }
    objects = {
        "item": pd.DataFrame(
            {
                "object_id": ["i1", "i2", "i3", "i4", "i5", "i6"],
                "shop_id": ["s1", "s1", "s2", "s2", None, "s3"],
                "category_id": ["shoes", "shoes", "tea", "tea", "tea", "ink"],
                "price": [10.0, 25.5, float("nan"), 3.0, 99.0, 0.5],
            }
        ),
        "query": pd.DataFrame(
            {"object_id": ["q1", "q2", "q3"], "tokens": [["red", "shoes"], ["tea"], ["green", "tea", "cup"]]}
        ),
        "coupon": pd.DataFrame(
            {
                "object_id": ["c1", "c2", "c3"],
                "shop_id": ["s1", "s3", "s2"],
                "coupon_type": ["percent", "fixed", "percent"],
            }
        ),
    }
    return events, objects


@pytest.fixture
def tiny_log(tiny_schema: Schema, tiny_tables: tuple[dict[str, pd.DataFrame], dict[str, pd.DataFrame]]) -> EventLog:
    """A valid log of five users and three groups, small enough to check by hand."""
    return EventLog.from_tables(tiny_schema, *tiny_tables)


@pytest.fixture(params=["torch", "kernels"])
def speed(request: pytest.FixtureRequest) -> str:
    """With torch's operators alone, or with kernels put in. Where nothing compiles both are torch's."""
    return request.param
