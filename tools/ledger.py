"""The results ledger: one table of every number the book claims, made from the executed notebooks."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypedDict, cast

import nbformat
from nbformat import NotebookNode

from atrank_book.claims import format_range

LIBRARIES = ("atrank_lib", "torch", "numpy", "pandas", "pyarrow")


class Claim(TypedDict):
    """One record of `atrank_book.claims.claim`."""

    name: str
    value: int | float | str
    low: float | None
    high: float | None
    chapter: str
    profile: str
    seed: int
    data: str


def read_claims(notebook: Path) -> list[Claim]:
    """The claims recorded in the file of an executed notebook, in its order."""
    return claims_of(nbformat.read(notebook, as_version=4))


def claims_of(notebook: NotebookNode) -> list[Claim]:
    """The claims recorded in an executed notebook, in its order."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    found = [output.get("metadata", {}).get("atrank_claim") for output in outputs]
    return [cast(Claim, claim) for claim in found if claim]


def ledger_page(claims: list[Claim], commit: str, hardware: str, results: Path | None = None) -> str:
    """The page as MyST Markdown: the claims, and the recorded runs in the folder `results`."""
    libraries = ", ".join([f"python {platform.python_version()}", *(f"{name} {version(name)}" for name in LIBRARIES)])
    header = f"""# Results ledger

Every number that a chapter states about its own experiments, as recorded when this site was built. A number
outside its range stops the build, so what the text says about it still holds.

- Commit: {commit}
- Libraries: {libraries}
- Hardware: {hardware}
"""
    recorded = records(results) if results is not None else ""
    if not claims:
        return header + "\nNo chapter has recorded a number.\n" + recorded
    rows = ["| name | value | range | chapter | profile | seed | data |", "|---|---:|---|---|---|---:|---|"]
    rows += [row(claim) for claim in claims]
    return header + "\n" + "\n".join(rows) + "\n" + recorded


def records(results: Path) -> str:
    """Two tables of what was made beforehand, one line for each JSON file below `results`: runs, and the rest."""
    contents = {file: json.loads(file.read_text(encoding="utf-8")) for file in sorted(results.rglob("*.json"))}
    runs = {file: content for file, content in contents.items() if "average_user_auc" in content}
    others = {file: content for file, content in contents.items() if file not in runs}
    return (_runs(runs, results) if runs else "") + (_others(others, results) if others else "")


def _runs(runs: dict[Path, dict[str, Any]], results: Path) -> str:
    lines = [
        "\n## Recorded runs\n",
        "Made beforehand at full size and read from `results/`; each file also holds the recipe and the curve.\n",
        "| file | model | seed | test AUC | 95 % interval | negatives | data | commit | hardware |",
        "|---|---|---:|---:|---|---:|---|---|---|",
    ]
    for file, run in runs.items():
        low, high = run["ci95"]
        cells = [
            f"`{file.relative_to(results)}`",
            run["model"],
            str(run["seed"]),
            f"{run['average_user_auc']:.4f}",
            f"{low:.4f} to {high:.4f}",
            str(run["negatives"]),
            f"{run['data_name']} ({run['data_fingerprint']})",
            f"`{run['commit'][:10]}`",
            run["hardware"],
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _others(others: dict[Path, dict[str, Any]], results: Path) -> str:
    lines = [
        "\n## Recorded searches and timings\n",
        "| file | data | commit | hardware |",
        "|---|---|---|---|",
    ]
    for file, content in others.items():
        data = f"{content['data_name']} ({content['data_fingerprint']})"
        cells = [f"`{file.relative_to(results)}`", data, f"`{content['commit'][:10]}`", content["hardware"]]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


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
