"""The chapters that take an event log, executed on the real ones."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from atrank_lib import EventLog
from tools.chapters import parameter_names, read_chapter
from tools.ledger import read_claims
from tools.project import ROOT, Project

SCRIPTS = {
    "stackexchange": ("--site", "beer.stackexchange.com", "--dump", "stackexchange_beer"),
    "amazon": ("--category", "Sports_and_Outdoors", "--from-table", "amazon_sports_5core"),
    "completejourney": ("--raw-dir", "completejourney"),
}
WHOLE = {"01_behaviors", "02_grouping", "06_ranking"}  # every number of theirs is of the log
ASKED = {"07_competitors", "08_multitask", "09_interpret", "10_honest"}  # a section is; run on the smallest log


@pytest.mark.skipif("ATRANK_DATA_DIR" not in os.environ, reason="ATRANK_DATA_DIR is not set: no real data here")
@pytest.mark.parametrize("script", SCRIPTS)
def test_chapters_run_on_a_real_log(script: str, tmp_path: Path, tool):
    *options, folder = SCRIPTS[script]
    log = tmp_path / "log"
    command = [sys.executable, "-m", f"data_scripts.{script}", "--out", str(log), *options]
    subprocess.run([*command, str(Path(os.environ["ATRANK_DATA_DIR"]) / folder)], cwd=ROOT, check=True)

    root = tmp_path / "book_on_a_log"
    (root / "book").mkdir(parents=True)
    takes = {path.stem: path for path in Project.at(ROOT).chapters() if "data" in parameter_names(read_chapter(path))}
    assert set(takes) == WHOLE | ASKED
    names = sorted(WHOLE | ASKED if script == "stackexchange" else WHOLE)
    for name in names:
        shutil.copy(takes[name], root / "book")
    shutil.copy(ROOT / "constraints.txt", root)
    (root / "_toc.yml").write_text(
        "format: jb-book\nroot: ledger\nchapters:\n" + "".join(f"- file: {n}\n" for n in names)
    )

    done = tool(Project.at(root), "execute", "--data", str(log), "--jobs", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    for name in names:
        notebook = root / "_build" / "notebooks" / f"{name}.ipynb"
        claims = read_claims(notebook)
        assert claims
        if name in WHOLE:
            assert all("(" in claim["data"] for claim in claims)  # name and fingerprint of the log
        else:
            assert f"{EventLog.read(log).schema.name}: trained here" in notebook.read_text(encoding="utf-8")
