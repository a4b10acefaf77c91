"""Run the chapters with other seeds, on other arithmetic, or with every cell twice: does each claim hold?

Every run of every chapter goes to its end: a failing cell is noted and the next one tried, so that one pass shows all
claims that do not hold. `--spread` says how far each claim moved over the runs, beside its range.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode

from atrank_book.claims import format_range
from tools.chapters import read_chapter
from tools.execute import ANSI, kernel_environment
from tools.ledger import Claim, claims_of
from tools.project import ROOT, Project

# Variables under which the same code computes other digits: other instructions, no compiled kernels, two threads. Torch
# asks oneDNN what the processor can, so both are told.
VARIANTS = {
    "as it is": {},
    "plain instructions": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "no kernels": {"ATRANK_KERNELS": "0"},
    "two threads": {"OMP_NUM_THREADS": "2"},
}


@dataclass(frozen=True)
class Setting:
    """One way to run a chapter."""

    seed: int = 0
    variant: str = "as it is"
    twice: bool = False

    def __str__(self) -> str:
        named = [] if self.variant == "as it is" else [self.variant]
        return ", ".join([f"seed {self.seed}", *named, *(["cells twice"] if self.twice else [])])


@dataclass
class Outcome:
    """What a run of a chapter gave: its claims, and one line for each cell that failed."""

    chapter: str
    setting: Setting
    claims: list[Claim] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def seeds(text: str) -> list[int]:
    """``0-4`` or ``1,7`` as numbers."""
    if not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of seeds: write 0-4 or 1,7")
    ends = [part.split("-") for part in text.split(",")]
    return [seed for part in ends for seed in range(int(part[0]), int(part[-1]) + 1)]


def prepared(chapter: Path, setting: Setting) -> NotebookNode:
    """The chapter as a notebook with its seed, every cell that computes twice if so asked."""
    notebook = read_chapter(chapter)
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            cell.source += f"\nseed = {setting.seed}"
    if setting.twice:
        notebook.cells = [again for cell in notebook.cells for again in repeated(cell)]
    return notebook


def repeated(cell: NotebookNode) -> Iterable[NotebookNode]:
    yield cell
    if cell.cell_type == "code":
        copy = deepcopy(cell)
        copy["id"] = f"{cell['id']}-again"
        yield copy


def run_chapter(chapter: Path, setting: Setting, build: Path) -> Outcome:
    """Run a chapter to its end, whatever fails on the way."""
    outcome = Outcome(chapter.stem, setting)
    notebook = prepared(chapter, setting)
    with tempfile.TemporaryDirectory(prefix=f"{chapter.stem}-", dir=build) as scratch:
        client = NotebookClient(
            notebook,
            kernel_name=kernel_of(setting.variant),
            timeout=None,
            allow_errors=True,
            resources={"metadata": {"path": scratch}},
        )
        try:
            client.execute()
        except (DeadKernelError, RuntimeError) as error:
            outcome.failures.append(f"the kernel stopped: {type(error).__name__}: {error}")
    outcome.claims = claims_of(notebook)
    outcome.failures += failed_cells(notebook)
    return outcome


def failed_cells(notebook: NotebookNode) -> list[str]:
    """One line for each cell that raised; names that are missing since an earlier cell failed are left out."""
    found: list[str] = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error" and not (found and output.ename == "NameError"):
                first = next(line for line in cell.source.splitlines() if line.strip())
                cause = ANSI.sub("", output.evalue).strip() or last_marked(output.traceback)
                found.append(f"code cell {cell.execution_count}, {first!r}: {output.ename}: {cause}")
    return found


def last_marked(traceback: list[str]) -> str:
    """The line that raised, for errors without a text (a bare ``assert``)."""
    lines = [line for part in traceback for line in ANSI.sub("", part).splitlines() if line.lstrip().startswith("--")]
    return lines[-1].split(maxsplit=2)[-1] if lines else ""


def kernel_of(variant: str) -> str:
    """The name of a variant's kernel: letters, digits and hyphens."""
    return variant.replace(" ", "-").lower()


def check(project: Project, chapters: list[Path], settings: list[Setting], jobs: int) -> list[Outcome]:
    """Run the chapters under all settings."""
    project.build.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="jupyter-") as folder, ThreadPoolExecutor(jobs) as pool:
        kernel_environment(Path(folder), {kernel_of(name): variables for name, variables in VARIANTS.items()})
        running = [
            pool.submit(run_chapter, chapter, setting, project.build) for setting in settings for chapter in chapters
        ]
        outcomes = []
        for future in running:
            outcome = future.result()
            done = "FAILED" if outcome.failures else "holds"
            print(f"{outcome.chapter}, {outcome.setting}: {done}", flush=True)
            outcomes.append(outcome)
    return outcomes


def spread(outcomes: list[Outcome]) -> list[str]:
    """Each claim with a range: how far it moved over the runs, and its range."""
    values: dict[tuple[str, str], list[Claim]] = {}
    for outcome in outcomes:
        for claim in outcome.claims:
            if format_range(claim["low"], claim["high"]):
                values.setdefault((outcome.chapter, claim["name"]), []).append(claim)
    lines = []
    for (chapter, name), claims in values.items():
        numbers = [float(claim["value"]) for claim in claims]
        ranges = {format_range(claim["low"], claim["high"]) for claim in claims}
        lines.append(f"{chapter} {name}: {min(numbers):.5g} to {max(numbers):.5g} in {' or '.join(sorted(ranges))}")
    return lines


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="chapters, such as 01_behaviors (default: all)")
    parser.add_argument("--root", type=Path, default=ROOT, help="the book's checkout")
    parser.add_argument("--build", type=Path, help="folder for everything generated (default: ROOT/_build)")
    parser.add_argument("--seeds", type=seeds, default=[0], help="such as 0-4 or 1,7 (default: 0)")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=["as it is"], help="arithmetic to try")
    parser.add_argument("--twice", action="store_true", help="run every cell twice in a row")
    parser.add_argument("--spread", action="store_true", help="print how far each claim moved, beside its range")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="chapters run at the same time")
    options = parser.parse_args(arguments)
    project = Project.at(options.root, options.build)
    chapters = {path.stem: path for path in project.chapters()}
    unknown = sorted(set(options.names) - set(chapters))
    if unknown:
        parser.error(f"no chapter {', '.join(unknown)}; there are {', '.join(chapters)}")
    settings = [Setting(seed, variant, options.twice) for variant in options.variants for seed in options.seeds]
    outcomes = check(project, [chapters[name] for name in options.names or chapters], settings, options.jobs)
    if options.spread:
        print("\n".join(spread(outcomes)))
    failed = [outcome for outcome in outcomes if outcome.failures]
    for outcome in failed:
        print(f"\nbook/{outcome.chapter}.py, {outcome.setting}:", file=sys.stderr)
        print("\n".join(f"  {line}" for line in outcome.failures), file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
