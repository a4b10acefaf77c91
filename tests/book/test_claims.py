"""Claims: what they accept, what they refuse and how, and the record they leave in a notebook."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from myst_nb.ext.glue import GLUE_PREFIX, glue

from atrank_book import claims
from atrank_book.claims import ClaimError, begin, claim, format_range
from atrank_lib.log.events import EventLog, EventLogError


@pytest.fixture(autouse=True)
def _no_chapter(monkeypatch):
    monkeypatch.setattr(claims, "_current", None)


@pytest.fixture
def shell():
    """An IPython session, as in a notebook."""
    yield InteractiveShell.instance()
    InteractiveShell.clear_instance()


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (3, 3),
        (0.5, 0.5),
        ("Bike pump", "Bike pump"),
        (np.str_("Bike pump"), "Bike pump"),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.array(0.5), 0.5),
        (torch.tensor(0.5), 0.5),
        (torch.tensor(3), 3),
    ],
)
def test_claim_returns_the_value_as_pythons_own(value, plain):
    begin("01_behaviors")
    found = claim("x", value)
    assert found == plain
    assert type(found) is type(plain)


def test_several_numbers_in_one_call(shell):
    begin("01_behaviors")
    with capture_output() as captured:
        assert claim(users=3, auc=(torch.tensor(0.75), 0.7, 0.8), gain=(0.1, 0), least=(0.1, None, 0.2)) is None
    records = [output.metadata["atrank_claim"] for output in captured.outputs]
    assert [(r["name"], r["value"], r["low"], r["high"]) for r in records] == [
        ("users", 3, None, None),
        ("auc", 0.75, 0.7, 0.8),
        ("gain", 0.1, 0.0, None),
        ("least", 0.1, None, 0.2),
    ]


def test_each_of_several_numbers_has_its_range():
    begin("01_behaviors")
    with pytest.raises(ClaimError, match=r"claim 'gain' is 0.1, outside \[0.2, 0.3\]"):
        claim(users=3, gain=(0.1, 0.2, 0.3))


@pytest.mark.parametrize("arguments", [("x",), ("x", 1)])
def test_one_number_or_several_but_not_both(arguments):
    begin("01_behaviors")
    with pytest.raises(TypeError, match=r"y=.*not both"):
        claim(*arguments, y=2)


@pytest.mark.parametrize(("low", "high"), [(0.5, 0.7), (0.6, None), (None, 0.6), (None, None)])
def test_a_range_is_closed_and_open_ends_are_open(low, high):
    begin("01_behaviors")
    assert claim("auc", 0.6, low, high) == 0.6


@pytest.mark.parametrize(
    ("low", "high", "said"), [(0.7, 0.9, "[0.7, 0.9]"), (None, 0.5, "(−∞, 0.5]"), (1, None, "[1, ∞)")]
)
def test_a_value_outside_its_range_says_where_and_with_what(low, high, said):
    begin("05_attention", profile="full", seed=7)
    with pytest.raises(ClaimError) as caught:
        claim("auc", 0.6, low, high)
    for part in ("05_attention", "'auc'", "0.6", said, "seed 7", "'full'", "simulated"):
        assert part in str(caught.value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_fails_without_a_range(value):
    begin("01_behaviors")
    with pytest.raises(ClaimError, match="not a finite number"):
        claim("loss", value)


@pytest.mark.parametrize("value", [None, True, np.True_, [1.0], torch.tensor([0.5]), np.ones(2), 1j])
def test_other_kinds_are_refused(value):
    begin("01_behaviors")
    with pytest.raises(TypeError, match=r"claim\('x'\).*is no number or text"):
        claim("x", value)


def test_text_has_no_range():
    begin("01_behaviors")
    with pytest.raises(TypeError, match="text has no range"):
        claim("name", "Bike pump", low=0)


def test_a_claim_outside_a_chapter_says_what_to_do():
    with pytest.raises(RuntimeError, match=r"call begin\(chapter\) first"):
        claim("x", 1)


def test_an_unknown_profile_is_refused():
    with pytest.raises(ValueError, match="'fast' or 'full'"):
        begin("01_behaviors", profile="medium")


def test_begin_makes_runs_repeatable(monkeypatch):
    threads = torch.get_num_threads()
    try:
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        begin("01_behaviors")
        assert torch.get_num_threads() == 2
        monkeypatch.delenv("OMP_NUM_THREADS")
        begin("01_behaviors", seed=3)
        first = torch.rand(3)
        assert torch.get_num_threads() == 1
        begin("01_behaviors", seed=3)
        assert torch.equal(first, torch.rand(3))
        begin("01_behaviors", seed=4)
        assert not torch.equal(first, torch.rand(3))
    finally:
        torch.set_num_threads(threads)


def test_on_a_readers_log_the_range_is_recorded_but_not_enforced(tiny_log: EventLog, tmp_path: Path, shell):
    tiny_log.write(tmp_path / "log")
    begin("01_behaviors", data=str(tmp_path / "log"))
    with capture_output() as captured:
        assert claim("auc", 0.1, low=0.9) == 0.1
    record = captured.outputs[0].metadata["atrank_claim"]
    assert record["low"] == 0.9
    assert record["data"] == f"tiny marketplace ({tiny_log.fingerprint()})"
    assert str(tmp_path) not in str(record)
    with pytest.raises(ClaimError, match="tiny marketplace"):
        claim("auc", math.nan)


def test_a_log_that_does_not_read_stops_the_chapter(tmp_path: Path):
    with pytest.raises(EventLogError):
        begin("01_behaviors", data=str(tmp_path))


@pytest.mark.parametrize("value", [0.1 + 0.2, 42, "it's a |pump|"])
def test_the_record_is_what_myst_nb_would_have_glued(value, shell):
    begin("03_time_encoding", seed=5)
    with capture_output() as ours:
        claim("x", value)
    with capture_output() as theirs:
        glue("x", value, display=False)
    assert claims.GLUE_PREFIX == GLUE_PREFIX
    assert ours.outputs[0].data == theirs.outputs[0].data
    assert ours.outputs[0].metadata["scrapbook"] == theirs.outputs[0].metadata["scrapbook"]
    assert ours.outputs[0].metadata["atrank_claim"] == {
        "name": "x",
        "value": value,
        "low": None,
        "high": None,
        "chapter": "03_time_encoding",
        "profile": "fast",
        "seed": 5,
        "data": "",
    }


def test_claims_work_without_notebook_and_plotting_packages():
    """In a plain process with torch alone, a claim still checks."""
    code = """
import sys
for name in ("IPython", "matplotlib", "seaborn", "myst_nb"):
    sys.modules[name] = None
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name == "matplotlib" else real(name, *a)
from atrank_book.claims import ClaimError, begin, claim
begin("01_behaviors")
assert claim("x", 0.5, 0, 1) == 0.5
try:
    claim("x", 2.0, 0, 1)
except ClaimError:
    print("checked")
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "checked", result.stderr


def test_ranges_as_text():
    assert format_range(None, None) == ""
    assert format_range(0.25, 1) == "[0.25, 1]"
