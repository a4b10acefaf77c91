"""Provenance: the commit is the one checked out, versions and hardware are this machine's."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import torch

from atrank_lib.runs import hardware, versions
from experiments.provenance import commit


def test_versions_and_hardware_are_those_at_hand():
    assert versions()["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert {"python", "atrank_lib", "numpy", "pandas"} <= versions().keys()
    assert hardware().endswith(f", {os.cpu_count()} cores")


def test_the_commit_and_whether_files_differ_from_it(tmp_path: Path):
    assert commit(tmp_path) == "not a git checkout"

    def git(*arguments: str) -> str:
        author = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        command = ["git", "-C", str(tmp_path), *author, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "--quiet", "--message", "first")
    head = git("rev-parse", "HEAD")
    assert commit(tmp_path.resolve()) == head
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "record.json").write_text("{}")  # an earlier result makes no later one doubtful
    assert commit(tmp_path.resolve()) == head
    (tmp_path / "file").write_text("two")
    assert commit(tmp_path.resolve()) == f"{head} with local changes"
    (tmp_path / "inside").mkdir()
    assert commit((tmp_path / "inside").resolve()) == "not a git checkout"
