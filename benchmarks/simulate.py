"""Time and peak memory of ``data_scripts.simulate``, from start to the written log with its truth.

    python benchmarks/simulate.py --users 25000        (one million behaviors)

Everything runs in one process; its peak is the largest resident memory that the system recorded for it.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import pyarrow.parquet
import typer


def main(
    users: Annotated[int, typer.Option(help="Number of users, of 40 behaviors on average.")] = 25_000,
    seed: Annotated[int, typer.Option(help="Seed of the marketplace.")] = 0,
) -> None:
    """Simulate and write a marketplace, and print one JSON line: seconds, peak bytes, sizes, machine."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "log"
        command = [sys.executable, "-m", "data_scripts.simulate", "--users", str(users), "--seed", str(seed)]
        start = time.perf_counter()
        done = subprocess.run([*command, "--out", str(out)], stdout=subprocess.DEVNULL, check=False)
        seconds = time.perf_counter() - start
        if done.returncode:
            raise typer.Exit(done.returncode)
        tables = list(out.glob("*.events.parquet"))
        behaviors = sum(pyarrow.parquet.read_metadata(table).num_rows for table in tables)
        written = sum(file.stat().st_size for file in out.rglob("*.*"))
    # Linux counts in KiB, macOS in bytes
    unit = 1 if sys.platform == "darwin" else 1024
    result = {
        "users": users,
        "behaviors": behaviors,
        "seconds": round(seconds, 1),
        "behaviors_per_second": round(behaviors / seconds),
        "peak_gb": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit / 1e9, 2),
        "written_gb": round(written / 1e9, 3),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
    typer.echo(json.dumps(result))


if __name__ == "__main__":
    typer.run(main)
