"""Execute the chapters: jupytext text -> papermill, in parallel -> `_build/notebooks/NN_name.ipynb`.

A chapter whose inputs did not change is not run again. A chapter that fails leaves no notebook.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import nbformat
import papermill
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError

from tools.chapters import parameter_names, read_chapter
from tools.project import GENERATED, ROOT, BookError, Project, digest, environment, recorded_seconds

KERNEL_START_SECONDS = 300
TRACEBACK_LINES = 15
ANSI = re.compile(r"\x1b\[[0-9;]*m")
ADDRESS = re.compile(r" at 0x[0-9a-f]+")


class ChapterError(Exception):
    """A chapter that does not run, or whose output would not be the same on another machine."""


@dataclass(frozen=True)
class Run:
    """One execution of the book: what every chapter is given."""

    project: Project
    profile: str
    data: Path | None
    jobs: int

    def parameters(self, notebook: NotebookNode) -> dict[str, str]:
        """What differs from the chapter's own defaults; only for parameters that the chapter declares."""
        wanted = {}
        if self.profile != "fast":
            wanted["profile"] = self.profile
        if self.data:
            wanted["data"] = str(self.data)
        return {name: value for name, value in wanted.items() if name in parameter_names(notebook)}


def kernel_environment(folder: Path, kernels: Mapping[str, Mapping[str, str]] | None = None) -> None:
    """Make kernels of this very Python, one thread each, untouched by the user's own Jupyter settings.

    JUPYTER_PATH comes first in the search for kernels: one of the same name installed elsewhere does not count.

    Args:
        kernels: names of kernels, and the variables that each sets besides; by default `python3` with none.
    """
    variables = {
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONHASHSEED": "0",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "TQDM_DISABLE": "1",
        # Memory of one step serves the next: to hand it back each time costs a tenth of what training takes.
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": str(2**34),
        "MALLOC_TOP_PAD_": str(2**28),
        "THP_MEM_ALLOC_ENABLE": "1",
    }
    for name, others in (kernels or {"python3": {}}).items():
        spec = {
            "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=50"],
            "display_name": "Python 3",
            "language": "python",
            "env": variables | dict(others),
        }
        kernel = folder / "kernels" / name
        kernel.mkdir(parents=True)
        (kernel / "kernel.json").write_text(json.dumps(spec))
    os.environ.update(JUPYTER_PATH=str(folder), IPYTHONDIR=str(folder / "ipython"))


def chapter_key(run: Run, chapter: Path, parameters: dict[str, str]) -> str:
    """What the chapter's notebook depends on, as one hash; a log counts by its contents, not by its place."""
    root = run.project.root
    files = [chapter, *run.project.sources()]
    values = [json.dumps(parameters | ({"data": ""} if "data" in parameters else {})), environment()]
    if "data" in parameters and run.data:
        log = [path for path in run.data.rglob("*") if path.is_file()]
        values.append(digest(log, run.data))
    tools = Path(__file__).parent
    values.append(digest([tools / name for name in ("chapters.py", "execute.py", "project.py")], tools))
    return digest(files, root, *values)


def execute_chapter(run: Run, chapter: Path) -> float | None:
    """Execute one chapter; return the seconds it took, or None where its notebook was up to date."""
    target = run.project.notebooks / f"{chapter.stem}.ipynb"
    key_file = run.project.keys / chapter.stem
    notebook = read_chapter(chapter)
    parameters = run.parameters(notebook)
    key = chapter_key(run, chapter, parameters)
    if target.exists() and key_file.exists() and key_file.read_text() == f"{key} {digest([target], target.parent)}":
        return None
    key_file.unlink(missing_ok=True)
    target.unlink(missing_ok=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"{chapter.stem}-", dir=run.project.build) as name:
        scratch = Path(name)
        nbformat.write(notebook, scratch / "in.ipynb")
        try:
            papermill.execute_notebook(
                scratch / "in.ipynb",
                scratch / "out.ipynb",
                parameters=parameters,
                kernel_name="python3",
                # The kernel's folder: what a chapter writes there goes away with it. (Papermill's own `cwd`
                # would change the folder of this whole process, under the other chapters' feet.)
                resources={"metadata": {"path": str(scratch)}},
                progress_bar=False,
                start_timeout=KERNEL_START_SECONDS,
            )
        except PapermillExecutionError as error:
            raise ChapterError(describe_failure(run.project, chapter, error)) from error
        except (DeadKernelError, CellTimeoutError, RuntimeError) as error:
            place = chapter.relative_to(run.project.root)
            raise ChapterError(f"{place}: the kernel stopped: {type(error).__name__}: {error}") from error
        executed = nbformat.read(scratch / "out.ipynb", as_version=4)
        clean(executed)
        check_outputs(chapter.relative_to(run.project.root), executed, [run.project.root, Path(sys.prefix), scratch])
        nbformat.write(executed, scratch / "clean.ipynb")
        (scratch / "clean.ipynb").replace(target)
    key_file.write_text(f"{key} {digest([target], target.parent)}")
    return time.monotonic() - started


def describe_failure(project: Project, chapter: Path, error: PapermillExecutionError) -> str:
    """Chapter, line, cell and its first line, the error, and the end of the traceback."""
    first = next((line for line in error.source.splitlines() if line.strip()), "")
    text = chapter.read_text()
    at = text.find(error.source)
    line = f", line {text.count(chr(10), 0, at) + 1}" if at >= 0 else ""
    trace = ANSI.sub("", "\n".join(error.traceback)).splitlines()[-TRACEBACK_LINES:]
    return (
        f"{chapter.relative_to(project.root)}{line}, code cell {error.exec_count}: {first}\n"
        f"  {error.ename}: {error.evalue}\n" + "\n".join(f"  | {entry}" for entry in trace)
    )


def clean(notebook: NotebookNode) -> None:
    """Drop what differs from run to run: times, papermill's notes, how streams were cut up, addresses in memory."""
    for key in ("papermill", "widgets"):
        notebook.metadata.pop(key, None)
    for cell in notebook.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        tags = cell.metadata.get("tags", [])
        if "injected-parameters" in tags:
            cell["id"] = "injected-parameters"
            cell.metadata["tags"] = [*tags, "remove-cell"]
        if cell.cell_type != "code":
            continue
        merged: list[NotebookNode] = []
        for output in cell.outputs:
            if output.output_type == "stream" and merged and merged[-1].get("name") == output.name:
                merged[-1]["text"] += output.text
            else:
                merged.append(output)
            plain = output.get("data", {}).get("text/plain")
            if plain:
                output["data"]["text/plain"] = ADDRESS.sub("", plain)
        cell.outputs = merged


def check_outputs(place: Path, notebook: NotebookNode, private: list[Path]) -> None:
    """Raise ChapterError for output that is noise, or that tells of the machine it was made on."""
    claims: set[str] = set()
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            where = f"{place}, code cell {cell.execution_count}"
            if output.output_type == "stream" and output.name == "stderr":
                last = output.text.strip().splitlines()[-1:]
                raise ChapterError(f"{where}: writes to stderr (a warning or a progress bar?): {''.join(last)}")
            content = json.dumps(output)
            for path in private:
                if str(path) in content:
                    raise ChapterError(
                        f"{where}: its output holds a path of this machine, {path}: print a name instead"
                    )
            claim = output.get("metadata", {}).get("atrank_claim")
            if claim and claim["name"] in claims:
                raise ChapterError(f"{where}: claims {claim['name']!r} a second time: give each claim its own name")
            if claim:
                claims.add(claim["name"])


def sync_pages(project: Project) -> None:
    """Copy what is not a chapter (.md, .bib, _static/) beside the notebooks; drop what has no source."""
    chapters = {path.stem for path in project.chapters()}
    wanted = {
        path.relative_to(project.book): path
        for path in project.book.rglob("*")
        if path.is_file()
        and path.relative_to(project.book).parts[0] != "_ext"
        and not ({"__pycache__", ".ipynb_checkpoints"} & set(path.parts))
        and path.suffix in {".md", ".bib", ".css", ".js", ".svg", ".png", ".json"}
    }
    for old in project.notebooks.rglob("*"):
        name = old.relative_to(project.notebooks)
        made = (name.suffix == ".ipynb" and name.stem in chapters) or (name.suffix == ".md" and name.stem in GENERATED)
        kept = name in wanted or made
        if old.is_file() and not kept:
            old.unlink()
    for name, path in wanted.items():
        target = project.notebooks / name
        if not target.exists() or target.read_bytes() != path.read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def longest_first(project: Project) -> list[Path]:
    """The chapters by what they took when they were measured, so that no long one is left for the end."""
    measured = recorded_seconds(project)
    return sorted(project.chapters(), key=lambda chapter: -measured.get(chapter.stem, 0.0))


def execute_book(run: Run) -> tuple[dict[str, float], list[str]]:
    """Execute all chapters; return the seconds of those that ran, and one message a failed chapter."""
    project = run.project
    project.notebooks.mkdir(parents=True, exist_ok=True)
    project.keys.mkdir(parents=True, exist_ok=True)
    project.check_toc()
    seconds, failures = {}, []
    with tempfile.TemporaryDirectory(prefix="jupyter-") as folder, ThreadPoolExecutor(run.jobs) as pool:
        kernel_environment(Path(folder))
        running = {pool.submit(execute_chapter, run, chapter): chapter.stem for chapter in longest_first(project)}
        for future in as_completed(running):
            name = running[future]
            try:
                took = future.result()
            except ChapterError as error:
                failures.append(str(error))
                print(f"{name}: FAILED", flush=True)
                continue
            if took is not None:
                seconds[name] = took
            print(f"{name}: {'unchanged' if took is None else f'executed in {took:.1f} s'}", flush=True)
    sync_pages(project)
    return seconds, failures


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=ROOT, help="the book's checkout")
    parser.add_argument("--build", type=Path, help="folder for everything generated (default: ROOT/_build)")
    parser.add_argument("--profile", choices=["fast", "full"], default="fast", help="size of the experiments")
    parser.add_argument("--data", type=Path, help="an event log for the chapters that take one")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="chapters run at the same time")
    options = parser.parse_args(arguments)
    if options.data and not (options.data / "schema.yaml").is_file():
        parser.error(f"--data {options.data}: no event log there (schema.yaml is missing)")
    logging.getLogger("papermill").setLevel(logging.ERROR)
    run = Run(
        Project.at(options.root, options.build),
        options.profile,
        options.data.resolve() if options.data else None,
        options.jobs,
    )
    try:
        with run.project.lock():
            _, failures = execute_book(run)
    except BookError as error:
        failures = [str(error)]
    for failure in failures:
        print(f"\n{failure}", file=sys.stderr)
    if failures:
        print(f"\n{len(failures)} failed: no site is built.", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
