"""The experiments of PROTOCOL.md in their order, as one queue that needs no hand and goes on where it was cut off.

Logs are made, from raw tables or simulated, when they are needed. What is to confirm waits: its log is not opened
before all that stands ahead of it is recorded and committed. What stands behind it goes on meanwhile.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from atrank_lib import EventLog
from atrank_lib.scale.devices import Execution
from data_scripts.marketplace import WORLDS
from experiments.cells import is_finished, run_all, run_cell
from experiments.models import CAME_AFTER
from experiments.plans import plan
from experiments.records import ExperimentError, place, read_record
from experiments.search import FINALISTS, search
from experiments.tables import EQUAL_STEPS, EVERY_MODE, EVERY_WORLD, PAPER_TO_CODE

Job = Callable[[], object]


@dataclass(frozen=True)
class Source:
    """How a log is made: a script of ``data_scripts`` with its arguments; ``{raw}`` stands for the raw tables."""

    script: str
    arguments: tuple[str, ...]

    def make(self, raw: Path | None, folder: Path) -> EventLog:
        """The log in this folder, made there unless it is there already.

        Raises:
            ExperimentError: the raw tables are not there, or the script failed.
        """
        if not folder.exists():
            wanted = [argument.format(raw=raw) for argument in self.arguments]
            if raw is None and wanted != list(self.arguments):
                raise ExperimentError(f"{folder.name} is made from raw tables; give their folder as --raw")
            command = [sys.executable, "-m", f"data_scripts.{self.script}", *wanted, "--out", str(folder)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise ExperimentError(f"{folder.name} could not be made: {(done.stderr or done.stdout).strip()}")
        return EventLog.read(folder)


@dataclass(frozen=True)
class Step:
    """Rows of a table, all by default, on a log. One that ``confirms`` waits for the records of all steps before it,
    committed; one whose models are ``searched``, for the searches, until the next time."""

    table: str
    log: str
    confirms: bool = False
    rows: tuple[str, ...] | None = None
    searched: tuple[str, ...] = ()  # models whose settings are searched on this log before the rows are trained


def _amazon(category: str, table: str) -> Source:
    return Source("amazon", ("--category", category, "--from-table", f"{{raw}}/{table}"))


LOGS = {
    "trivago": Source("trivago", ("--raw", "{raw}/trivago_100k")),
    "sports": _amazon("Sports_and_Outdoors", "amazon_sports_5core"),
    "beauty": _amazon("Beauty", "amazon_beauty_5core"),
    "marketplace": Source("simulate", ("--users", "2000", "--seed", "0")),
}
# worlds were tuned by the truth of logs of seed 0: these are others
LOGS |= {world: Source("simulate", ("--world", world, "--seed", "1")) for world in WORLDS if world not in LOGS}
_FROM_PAPER = tuple(name for name in PAPER_TO_CODE if not name.startswith("code-without"))
_AFTER = tuple(CAME_AFTER)
_LONGEST = ("cnn", "bst")  # with the recurrent ones; these answer the least
_LATER = {*_LONGEST, *_AFTER, *(name for name in EVERY_WORLD if name.endswith("-all-objects"))}
_WORLD = tuple(name for name in EVERY_WORLD if name not in _LATER)
_MODES = tuple(name for name in EVERY_MODE if not name.startswith(_LONGEST))
_STEPS = tuple(name for name in EQUAL_STEPS if not name.startswith(_LONGEST))
# what answers a question of its own comes first; what completes a table comes last
QUEUE = [
    Step("table3-converged", "sports"),
    Step("table3-converged", "beauty", confirms=True),
    Step("factorial", "sports"),
    Step("original", "sports", rows=_FROM_PAPER),
    Step("table3-original-code", "sports"),
    *(Step("worlds", world, rows=_WORLD) for world in WORLDS),
    Step("modes", "marketplace", rows=_MODES),
    Step("modes-steps", "marketplace", rows=_STEPS),
    Step("table3-global-time", "sports"),
    Step("table3-came-after", "sports", searched=_AFTER),
    Step("table3-losses", "sports", searched=_AFTER),
    Step("table3-came-after", "beauty", confirms=True),
    Step("shown", "trivago"),
    Step("modes", "marketplace"),
    Step("modes-steps", "marketplace"),
    *(Step("worlds", world) for world in WORLDS),
    Step("original", "sports"),
]
SETTINGS_OF = {"beauty": "sports"}  # nothing is searched on a log that confirms


def waiting(
    out: Path, runs: Path, raw: Path | None, on: Execution, logs: dict[str, Source] = LOGS, queue: list[Step] = QUEUE
) -> Iterator[tuple[str, Job]]:
    """The cells that are not recorded yet, each by its own name, in order: seed by seed, all rows of a step for each.

    Raises:
        ExperimentError: a log cannot be made, or records were made in another way.
    """
    behind: list[Path] = []  # folders whose records must be committed before anything is confirmed
    unfinished: list[Path] = []
    for step in queue:
        if step.confirms and (why := _not_yet(behind, unfinished)):
            print(f"{step.table} on {step.log} waits: {why}", file=sys.stderr)
            continue
        folder = runs / "logs" / step.log
        log = logs[step.log].make(raw, folder)
        settings = SETTINGS_OF.get(step.log)
        like = logs[settings].make(raw, runs / "logs" / settings) if settings else None
        searches = [name for name in step.searched if not _is_searched(place(out, "search", log) / f"{name}.json")]
        for name in searches:
            yield f"search {step.log} {name}", partial(search, folder, name, out)
        if searches:
            print(f"{step.table} on {step.log} waits: {', '.join(searches)} are not searched", file=sys.stderr)
            unfinished.append(out / step.table)
            continue
        cells = plan(step.table, log, out, step.rows, settings_of=like)
        left = [cell for cell in cells if not is_finished(cell, log.fingerprint())]
        print(f"{step.table} on {step.log}: {len(cells)} cells, {len(cells) - len(left)} recorded", file=sys.stderr)
        for cell in sorted(left, key=lambda cell: cell.seed):  # stable: rows in their order
            yield f"{step.table} {step.log} {cell.label}", partial(run_cell, folder, cell, runs, on)
        behind.append(cells[0].folder)
        if left:
            unfinished.append(cells[0].folder)


def _is_searched(file: Path) -> bool:
    """Whether a search went to the end of its finals."""
    return file.is_file() and len(read_record(file)["finals"]) == FINALISTS


def _not_yet(folders: list[Path], unfinished: list[Path]) -> str | None:
    """Why nothing can be confirmed yet."""
    if unfinished:
        return f"not all of {unfinished[0]} is recorded"
    for folder in folders:
        said = subprocess.run(["git", "status", "--porcelain", "--", "."], cwd=folder, capture_output=True, text=True)
        if said.returncode or said.stdout.strip():
            return f"not all of {folder} is committed"
    return None


def run_queue(out: Path, runs: Path, raw: Path | None, workers: int, on: Execution) -> list[str]:
    """Run what waits. Returns what failed; run it again to try that again, and for what waited for a commit."""
    return run_all(dict(waiting(out, runs, raw, on)), workers, "cells")
