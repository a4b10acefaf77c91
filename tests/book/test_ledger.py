"""The ledger page: one row a claim, and where it was made."""

from __future__ import annotations

import json
from pathlib import Path

from tools.ledger import Claim, ledger_page

CLAIM: Claim = {
    "name": "auc",
    "value": 0.123456789,
    "low": 0.1,
    "high": None,
    "chapter": "05_attention",
    "profile": "fast",
    "seed": 3,
    "data": "",
}
TITLES = {"05_attention": "5. Self-attention", "06_ranking": "6. Ranking"}


def test_a_claim_is_one_row_of_its_chapter():
    claims: list[Claim] = [
        {**CLAIM, "low": -0.1},
        {**CLAIM, "name": "kind", "value": "a|b", "low": None},
        {**CLAIM, "chapter": "06_ranking", "data": "my log (0a1b)"},
    ]
    page = ledger_page(claims, TITLES, "abc", "CPU")
    fifth, sixth = page.split("## 5. Self-attention")[1].split("## 6. Ranking")
    assert "| `auc`{#ledger-05_attention-auc} | 0.123457 | [−0.1, ∞) |" in fifth
    assert "| `kind`{#ledger-05_attention-kind} | a\\|b | recorded only |" in fifth
    assert "<summary>2 numbers: profile fast, seed 3, simulated</summary>" in fifth
    assert "<summary>1 number: profile fast, seed 3, my log (0a1b)</summary>" in sixth
    assert "Commit: abc" in page
    assert "Hardware: CPU" in page


def test_recorded_runs_are_listed_with_their_interval_and_origin(tmp_path: Path):
    run = {"model": "atrank", "seed": 2, "average_user_auc": 0.83456, "ci95": [0.83, 0.84], "negatives": 1}
    run |= {"data_name": "Sports", "data_fingerprint": "0a1b", "commit": "c" * 40, "hardware": "CPU"}
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "atrank-seed2.json").write_text(json.dumps(run))
    page = ledger_page([CLAIM], TITLES, "abc", "CPU", tmp_path)
    assert "| `log/atrank-seed2.json` | atrank | 2 | 0.8346 | 0.8300 to 0.8400 | 1 | Sports (0a1b) |" in page


def test_searches_and_timings_are_listed_by_themselves(tmp_path: Path):
    speed = {"data_name": "Sports", "data_fingerprint": "0a1b", "commit": "c" * 40, "hardware": "CPU", "rows": []}
    (tmp_path / "speed").mkdir()
    (tmp_path / "speed" / "cpu.json").write_text(json.dumps(speed))
    page = ledger_page([CLAIM], TITLES, "abc", "CPU", tmp_path)
    assert "| `speed/cpu.json` | Sports (0a1b) | `cccccccccc` | CPU |" in page
    assert "Recorded runs" not in page


def test_a_book_without_claims_says_so():
    assert "No chapter has recorded a number" in ledger_page([], {}, "abc", "CPU")
