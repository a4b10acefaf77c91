"""Where a number comes from: commit, versions and hardware, as every recorded result carries them."""

from __future__ import annotations

import subprocess
from pathlib import Path


def commit(root: Path) -> str:
    """The commit checked out at `root`; says so where files differ from it, and where there is no repository.

    Files in ``results`` do not count: they are what is being recorded.
    """

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root.resolve():
            return "not a git checkout"
        changed = " with local changes" if git("status", "--porcelain", "--", ".", ":(exclude)results") else ""
        return git("rev-parse", "HEAD") + changed
    except (OSError, subprocess.CalledProcessError):
        return "not a git checkout"
