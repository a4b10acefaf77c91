"""The training modes, against the paper's and by counting."""

from __future__ import annotations

import pytest

from atrank_lib.log.schema import Schema
from atrank_lib.multitask import modes
from data_scripts.marketplace import SCHEMA as MARKET


def test_the_seven_modes_of_the_paper():
    found = {mode.name: (mode.histories, mode.targets) for mode in modes(MARKET)}
    everything = ("item", "query", "coupon")
    assert found == {
        "item2item": (("item",), ("item",)),
        "query2query": (("query",), ("query",)),
        "coupon2coupon": (("coupon",), ("coupon",)),
        "all2item": (everything, ("item",)),
        "all2query": (everything, ("query",)),
        "all2coupon": (everything, ("coupon",)),
        "all2all": (everything, everything),
    }


@pytest.mark.parametrize("groups", [1, 2, 5])
def test_the_number_of_modes_follows_from_the_schema(groups):
    schema = Schema(name="some", groups={f"g{k}": MARKET.groups["coupon"] for k in range(groups)})
    assert len(modes(schema)) == (1 if groups == 1 else 2 * groups + 1)
    assert [mode.name for mode in modes(schema, ["g0"])] == (["g02g0"] if groups == 1 else ["g02g0", "all2g0"])
