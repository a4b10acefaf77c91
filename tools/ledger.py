"""The results ledger: one table of every number the book claims, made from the executed notebooks."""

from __future__ import annotations

import html
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypedDict, cast

import nbformat
from nbformat import NotebookNode

from atrank_book.claims import format_range

LIBRARIES = ("atrank_lib", "torch", "numpy", "pandas", "pyarrow")

# book/_ext/ledger_filter.js shows the field.
FIND = """
<p id="ledger-find" hidden><label for="ledger-field">Find a number</label> <input id="ledger-field" type="search"
autocomplete="off" spellcheck="false"> <span id="ledger-said" role="status"></span></p>
"""


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


def title_of(notebook: Path) -> str:
    """The title of a chapter, with its number."""
    cells = nbformat.read(notebook, as_version=4).cells
    title = next(line for cell in cells for line in cell.source.splitlines() if line.startswith("# "))
    number = notebook.stem.partition("_")[0]
    return f"{int(number)}. {title.removeprefix('# ')}" if number.isdigit() else title.removeprefix("# ")


def ledger_page(
    claims: list[Claim], titles: dict[str, str], commit: str, hardware: str, results: Path | None = None
) -> str:
    """The page as MyST Markdown: the claims of each chapter, and the recorded runs in the folder `results`."""
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
    chapters = dict.fromkeys(claim["chapter"] for claim in claims)
    groups = [_chapter(name, titles[name], [c for c in claims if c["chapter"] == name]) for name in chapters]
    return header + FIND + "".join(groups) + recorded


def _chapter(name: str, title: str, claims: list[Claim]) -> str:
    """A heading to point to, `ledger-NAME`, and the chapter's numbers below it, folded."""
    runs = dict.fromkeys(
        f"profile {claim['profile']}, seed {claim['seed']}, {claim['data'] or 'simulated'}" for claim in claims
    )
    rows = ["| name | value | range |", "|---|---:|---|", *map(row, claims)]
    summary = f"{len(claims)} {'numbers' if len(claims) > 1 else 'number'}: {'; '.join(runs)}"
    return f"\n(ledger-{name})=\n## {title}\n" + folded(summary, [f"Stated in {{doc}}`{name}`.", "", *rows])


def folded(summary: str, lines: list[str]) -> str:
    """A table that opens when its summary is chosen."""
    opening = f'<details class="ledger-group">\n<summary>{html.escape(summary)}</summary>'
    return "\n".join(["", opening, "", *lines, "", "</details>", ""])


def records(results: Path) -> str:
    """Two tables of what was made beforehand, one line for each JSON file below `results`: runs, and the rest."""
    contents = {file: json.loads(file.read_text(encoding="utf-8")) for file in sorted(results.rglob("*.json"))}
    runs = {file: content for file, content in contents.items() if "average_user_auc" in content}
    others = {file: content for file, content in contents.items() if file not in runs}
    return (_runs(runs, results) if runs else "") + (_others(others, results) if others else "")


def _runs(runs: dict[Path, dict[str, Any]], results: Path) -> str:
    header = """
## Recorded runs

Made beforehand at full size and read from `results/`; each file also holds the recipe and the curve.
"""
    lines = [
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
    return header + folded(f"{len(runs)} runs", lines)


def _others(others: dict[Path, dict[str, Any]], results: Path) -> str:
    lines = ["| file | data | commit | hardware |", "|---|---|---|---|"]
    for file, content in others.items():
        data = f"{content['data_name']} ({content['data_fingerprint']})"
        cells = [f"`{file.relative_to(results)}`", data, f"`{content['commit'][:10]}`", content["hardware"]]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n## Recorded searches and timings\n" + folded(f"{len(others)} files", lines)


def row(claim: Claim) -> str:
    """One line of the table, with an id to point to."""
    value = claim["value"]
    cells = [
        f"`{claim['name']}`{{#ledger-{claim['chapter']}-{claim['name']}}}",
        f"{value:.6g}".replace("-", "−") if isinstance(value, float) else str(value).replace("|", "\\|"),
        format_range(claim["low"], claim["high"]).replace("-", "−") or "recorded only",
    ]
    return "| " + " | ".join(cells) + " |"
