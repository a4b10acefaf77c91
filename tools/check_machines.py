"""Do tests and chapters hold on other machines? `make check-machines`, an hour or more.

Both run with each arithmetic of `tools.check_chapters` (instructions, kernels, threads), the chapters also with the
seeds 1 to 4 and with every cell run twice. One line a run, and below it what failed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Mapping

from tools.check_chapters import VARIANTS
from tools.project import ROOT

TESTS = ["pytest", "-q", "-m", "not site", "-p", "no:cacheprovider", "--dist", "worksteal", "-n"]
CHAPTERS = ["tools.check_chapters", "--jobs"]


def plan(jobs: str) -> dict[str, tuple[list[str], Mapping[str, str]]]:
    """What runs, by name and in order: a module with its arguments, and variables. The tests build the book first."""
    tests, chapters = [*TESTS, jobs], [*CHAPTERS, jobs]
    return {
        **{f"tests, {name}": (tests, variables) for name, variables in VARIANTS.items()},
        **{f"chapters, {name}": ([*chapters, "--variants", name], {}) for name in VARIANTS},
        "chapters, seeds 1 to 4": ([*chapters, "--seeds", "1-4"], {}),
        "chapters, every cell twice": ([*chapters, "--twice"], {}),
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="?", choices=["tests", "chapters"], help="leave the other out")
    parser.add_argument("--jobs", default=str(os.cpu_count() or 1), help="processes at the same time")
    options = parser.parse_args(arguments)
    failed = False
    for name, (module, variables) in plan(options.jobs).items():
        if options.only and not name.startswith(options.only):
            continue
        started = time.monotonic()
        command = [sys.executable, "-m", *module]
        run = subprocess.run(command, cwd=ROOT, env=os.environ | variables, capture_output=True, text=True)
        print(f"{name:<30} {'FAILED' if run.returncode else 'passes'} {time.monotonic() - started:7.0f} s", flush=True)
        if run.returncode:
            failed = True
            said = [*run.stderr.splitlines()[-30:], *run.stdout.splitlines()[-30:]]
            print("\n".join(said), file=sys.stderr, flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
