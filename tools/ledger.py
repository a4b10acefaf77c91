"""The results ledger: one table of every number the book claims, made from the executed notebooks."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict, cast

import nbformat

from atrank_lib.claims import format_range
from atrank_lib.provenance import versions


class Claim(TypedDict):
    """One record of `atrank_lib.claims.claim`."""

    name: str
    value: int | float | str
    low: float | None
    high: float | None
    chapter: str
    profile: str
    seed: int
    data: str


def read_claims(notebook: Path) -> list[Claim]:
    """The claims recorded in an executed notebook, in its order."""
    cells = nbformat.read(notebook, as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    found = [output.get("metadata", {}).get("atrank_claim") for output in outputs]
    return [cast(Claim, claim) for claim in found if claim]


def ledger_page(claims: list[Claim], commit: str, hardware: str) -> str:
    """The page as MyST Markdown."""
    libraries = ", ".join(f"{name} {number}" for name, number in versions().items())
    header = f"""# Results ledger

Every number that a chapter states about its own experiments, as recorded when this site was built. A number
outside its range stops the build, so what the text says about it still holds.

- Commit: {commit}
- Libraries: {libraries}
- Hardware: {hardware}
"""
    if not claims:
        return header + "\nNo chapter has recorded a number.\n"
    rows = ["| name | value | range | chapter | profile | seed | data |", "|---|---:|---|---|---|---:|---|"]
    rows += [row(claim) for claim in claims]
    return header + "\n" + "\n".join(rows) + "\n"


def row(claim: Claim) -> str:
    """One line of the table."""
    value = claim["value"]
    cells = [
        f"`{claim['name']}`",
        f"{value:.6g}" if isinstance(value, float) else str(value).replace("|", "\\|"),
        format_range(claim["low"], claim["high"]) or "recorded only",
        f"{{doc}}`{claim['chapter']}`",
        claim["profile"],
        str(claim["seed"]),
        claim["data"] or "simulated",
    ]
    return "| " + " | ".join(cells) + " |"
