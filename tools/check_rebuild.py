"""Build the book twice from nothing, in two different folders, and compare every byte."""

from __future__ import annotations

import argparse
import filecmp
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.project import ROOT, Project

PRODUCTS = ("html", "notebooks")


def differences(one: Path, other: Path) -> list[str]:
    """Names of the files that are not the same in both folders."""
    names = {path.relative_to(folder) for folder in (one, other) for path in folder.rglob("*") if path.is_file()}
    _, different, missing = filecmp.cmpfiles(one, other, sorted(map(str, names)), shallow=False)
    return sorted(different + missing)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT, help="the book's checkout")
    parser.add_argument("--jobs", default=str(os.cpu_count() or 1), help="chapters run at the same time")
    options = parser.parse_args()
    project = Project.at(options.root)
    project.build.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="rebuild-", dir=project.build) as name:
        builds = [Path(name) / "first", Path(name) / "second"]
        for build in builds:
            where = ["--root", str(project.root), "--build", str(build)]
            subprocess.run([sys.executable, "-m", "tools.execute", *where, "--jobs", options.jobs], check=True)
            subprocess.run([sys.executable, "-m", "tools.build", *where], check=True)
        changed = [
            f"{product}/{name}"
            for product in PRODUCTS
            for name in differences(builds[0] / product, builds[1] / product)
        ]
        count = sum(1 for product in PRODUCTS for path in (builds[0] / product).rglob("*") if path.is_file())
    for name in changed:
        print(f"differs: {name}", file=sys.stderr)
    print(f"{len(changed)} of {count} files differ between two builds" if changed else f"all {count} files identical")
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
