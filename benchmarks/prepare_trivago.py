"""Time and peak memory of ``data_scripts.trivago`` on a table as large as the challenge's.

The table is generated: 16 million rows of 900,000 users, one in seven a clickout with 25 hotels, shares of actions as
in the challenge, hotels and searches with long tails::

    python benchmarks/prepare_trivago.py --folder FOLDER --rows 16000000

Memory is resident memory, sampled 20 times a second. Processor time tells a slow preparation from a busy machine.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from _memory import gigabytes, report, watch

HEADER = (
    "user_id,session_id,timestamp,step,action_type,reference,platform,city,device,current_filters,impressions,prices"
)
SHARES = {
    "interaction item image": 0.685,
    "clickout item": 0.136,
    "filter selection": 0.053,
    "search for destination": 0.031,
    "change of sort order": 0.029,
    "interaction item info": 0.018,
    "interaction item rating": 0.014,
    "interaction item deals": 0.012,
    "search for poi": 0.011,
    "search for item": 0.011,
}
ROWS_A_USER, HOTELS, PLACES, START, SHOWN = 17.5, 900_000, 30_000, 1_541_000_000, 25
BLOCK = 200_000


def write_table(file: Path, rows: int, seed: int) -> None:
    """The table, in the order of users and their time."""
    rng = np.random.default_rng(seed)
    kinds, shares = list(SHARES), np.array(list(SHARES.values()))
    with file.open("w", encoding="utf-8") as out:
        out.write(HEADER + "\n")
        for first in range(0, rows, BLOCK):
            n = min(BLOCK, rows - first)
            user = ((first + np.arange(n)) / ROWS_A_USER).astype(int)
            kind = rng.choice(len(kinds), n, p=shares / shares.sum())
            base = (user * 7_919) % HOTELS  # a user's hotels are near each other
            hotel = (base + (40 * rng.random(n) ** 3).astype(int)) % HOTELS + 1_000
            place = (PLACES * rng.random(n) ** 3).astype(int)
            lines = []
            for i, (u, k, h, p) in enumerate(
                zip(user.tolist(), kind.tolist(), hotel.tolist(), place.tolist(), strict=True)
            ):
                name, reference, shown = kinds[k], str(h), ","
                if name == "clickout item":
                    start = h - (u + i) % SHOWN
                    shown = (
                        "|".join(map(str, range(start, start + SHOWN)))
                        + ","
                        + "|".join(["83", "120", "61", "99", "240"] * 5)
                    )
                elif name.startswith("search for") and name != "search for item":
                    reference = f'"Place {p}, Land"'
                elif name in ("filter selection", "change of sort order"):
                    reference = f"Filter {p % 200}"
                time = START + (first + i) * 7 % 600_000
                where = f'DE,"City {h // 1_000}, Land",mobile,'
                lines.append(f"U{u:07d},s{u:012d},{time},{i % 40},{name},{reference},{where},{shown}")
            out.write("\n".join(lines) + "\n")


def main(
    folder: Annotated[Path, typer.Option(help="Where the table and the log go; the table is kept.")],
    rows: Annotated[int, typer.Option(help="Rows of the table.")] = 16_000_000,
    seed: Annotated[int, typer.Option(help="Seed of the generated table.")] = 0,
) -> None:
    """Generate the table, prepare it, and print one JSON line: seconds, peak memory, sizes, machine."""
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "train.csv"
    if not table.exists():
        write_table(table, rows, seed)
    options = ["--raw", str(table), "--out", str(folder / "log"), "--overwrite"]
    used = watch([sys.executable, "-m", "data_scripts.trivago", *options])
    report(used, rows=rows, table_gb=gigabytes(table), log_gb=gigabytes(*(folder / "log").iterdir()))


if __name__ == "__main__":
    typer.run(main)
