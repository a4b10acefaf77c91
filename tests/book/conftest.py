"""The book as `make book` leaves it, built once for all tests of this folder."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup
from filelock import FileLock
from playwright.sync_api import Browser, Page, sync_playwright

from tests.book.chromium import CHROMIUM, DESKTOP, SILENT
from tools.project import ROOT, Project

# A page with formula, claim, figure and exercise: all the features that the pipeline has to carry.
CHAPTER = """# %% [markdown]
# # A page
#
# $$S_k = P_k S$$ (eq-NAME)
#
# From {eq}`eq-NAME`, the sum is {glue:text}`total:.2f` for a {glue:text}`kind`.

# %% tags=["parameters"]
profile = "fast"
data = ""
seed = 0

# %% tags=["remove-cell"]
from atrank_book.claims import begin, claim
begin("NAME", profile=profile, data=data, seed=seed)

# %%
total = claim("total", 0.1 + 0.2, low=0.0, high=1.0)
claim("kind", "Bike pump")
print("profile", profile)
"""


# The second chapter of the small book: it takes no log, claims nothing and starts at once.
SECOND = """# %% [markdown]
# # Another page

# %% tags=["parameters"]
profile = "fast"

# %%
print("profile", profile)
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What executes chapters, or reads what they or the site say, is a test of the book: `make check-book`."""
    for item in items:
        if {"project", "pages", "small_book"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("book")


Tool = Callable[..., "subprocess.CompletedProcess[str]"]
Once = Callable[[str, Callable[[Path], None]], Path]


def run_tool(project: Project, tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m tools.<tool>` as `make` does, in a process of its own."""
    command = [sys.executable, "-m", f"tools.{tool}", "--root", str(project.root), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="session")
def tool() -> Tool:
    return run_tool


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Once:
    """What is made once for all workers of a run: the first one makes it in a folder, the others wait."""
    own = tmp_path_factory.getbasetemp()
    shared = own if worker_id == "master" else own.parent

    def once(name: str, make: Callable[[Path], None]) -> Path:
        folder, done = shared / name, shared / f"{name}.done"
        with FileLock(shared / f"{name}.lock"):
            if not done.exists():
                folder.mkdir(exist_ok=True)
                make(folder)
                done.touch()
        return folder

    return once


@pytest.fixture(scope="session")
def project(once: Once) -> Project:
    """The book itself, executed and built with the tools that `make book` uses (nothing is done twice)."""
    project = Project.at(ROOT)

    def make(_: Path) -> None:
        for result in (run_tool(project, "execute", "--jobs", "2"), run_tool(project, "build")):
            assert result.returncode == 0, result.stdout + result.stderr

    once("book", make)
    return project


@pytest.fixture(scope="session")
def pages(project: Project) -> dict[str, BeautifulSoup]:
    """The pages of the site, by their files' names; to be read only, for to parse them takes long."""
    return {path.name: BeautifulSoup(path.read_text(), "html.parser") for path in sorted(project.html.glob("*.html"))}


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One browser for all tests: Playwright allows no second one in a process."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=SILENT)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Any]:
    """Open a file; the second value lists errors and whatever is asked of anybody else."""
    contexts = []

    def visit(
        file: Path, viewport: dict[str, int] = DESKTOP, link: str = "", **settings: Any
    ) -> tuple[Page, list[str]]:
        context = browser.new_context(viewport=viewport, **settings)  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        troubles: list[str] = []
        page.on("pageerror", lambda error: troubles.append(f"script error: {error}"))
        page.on("console", lambda m: troubles.append(m.text) if m.type in ("error", "warning") else None)
        page.on("request", lambda r: None if r.url.startswith(("file:", "data:")) else troubles.append(r.url))
        page.goto(file.as_uri() + link, wait_until="load")
        return page, troubles

    yield visit
    for context in contexts:
        context.close()


def make_small_book(root: Path) -> None:
    """A book of one page and two chapters, executed."""
    book = root / "book"
    for name in ("_static", "_ext"):
        shutil.copytree(ROOT / "book" / name, book / name)
    shutil.copy(ROOT / "book" / "references.bib", book)
    for name in ("_config.yml", "constraints.txt"):
        (root / name).write_bytes((ROOT / name).read_bytes())
    chapters = {"01_one": CHAPTER, "02_two": SECOND}
    for name, text in chapters.items():
        (book / f"{name}.py").write_text(text.replace("NAME", name))
    (book / "index.md").write_text("# A small book\n\n```{code-box}\n```\n")
    files = "".join(f"  - file: {name}\n" for name in [*chapters, "ledger"])
    (root / "_toc.yml").write_text(f"format: jb-book\nroot: index\nchapters:\n{files}")
    result = run_tool(Project.at(root), "execute")
    assert result.returncode == 0, result.stderr


@pytest.fixture
def small_book(once: Once, tmp_path: Path) -> Project:
    """A book of one page and two executed chapters, in a folder of its own."""
    shutil.copytree(once("small_book", make_small_book), tmp_path, dirs_exist_ok=True)
    return Project.at(tmp_path)
