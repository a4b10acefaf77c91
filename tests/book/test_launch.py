"""Launch buttons: none without a repository; with one, each leads to a notebook of the notebooks branch."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup

from tools.build import build_site, settings
from tools.notebooks_branch import write_branch
from tools.project import ROOT, BookError, Project

REPOSITORY = "https://github.com/reader/attention-book"


def buttons(page: BeautifulSoup) -> list[str]:
    return [str(link["href"]) for link in page.select(".dropdown-launch-buttons a")]


def notebook_of(address: str) -> str:
    """The path inside the branch that a launch button opens."""
    url = urlparse(address)
    if url.netloc == "mybinder.org":
        assert url.path == "/v2/gh/reader/attention-book/notebooks"
        return parse_qs(url.query)["urlpath"][0].removeprefix("lab/tree/")
    assert url.netloc == "colab.research.google.com"
    return url.path.removeprefix("/github/reader/attention-book/blob/notebooks/")


def read(project: Project, name: str) -> BeautifulSoup:
    return BeautifulSoup((project.html / f"{name}.html").read_text(), "html.parser")


def test_no_repository_no_buttons(project: Project, pages: dict[str, BeautifulSoup]):
    assert not any(buttons(pages[f"{name}.html"]) for name in project.toc())


def test_buttons_lead_to_notebooks_of_the_branch(small_book: Project, monkeypatch: pytest.MonkeyPatch):
    build_site(small_book, settings(small_book, repository=REPOSITORY))
    for name in ("notebooks", "notebooks_branch"):
        monkeypatch.setattr(f"tools.{name}.commit", lambda root: "0123abcd")
    branch = write_branch(small_book, REPOSITORY)
    for name in ("01_one", "02_two"):
        found = buttons(read(small_book, name))
        assert len(found) == 2
        for address in found:
            path = branch / notebook_of(address)
            assert path.suffix == ".ipynb"
            notebook = nbformat.read(path, as_version=4)
            nbformat.validate(notebook)
            assert f"atrank_lib[book] @ git+{REPOSITORY}@0123abcd" in notebook.cells[0].source
    assert not buttons(read(small_book, "ledger"))
    box = read(small_book, "index").select_one(".code-box")
    assert box is not None
    assert f"git clone {REPOSITORY}\ncd attention-book\n# the library\npip install .\n" in box.get_text()
    assert [link["href"] for link in box.select("a.reference")] == [REPOSITORY]
    assert f"git+{REPOSITORY}@0123abcd" in (branch / "requirements.txt").read_text()


@pytest.mark.parametrize("address", ["attention-book", "git@github.com:reader/book.git", "https://github.com/reader"])
def test_an_address_that_is_none_is_refused(small_book: Project, address: str):
    with pytest.raises(BookError, match=re.escape(repr(address))):
        settings(small_book, repository=address)


def test_no_branch_without_a_repository_or_from_changed_files(small_book: Project):
    with pytest.raises(BookError, match="no repository is configured"):
        write_branch(small_book, "")
    with pytest.raises(BookError, match="not a git checkout"):
        write_branch(small_book, REPOSITORY)


def test_the_workflow_publishes_that_branch_when_all_is_well():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "checks.yml").read_text())["jobs"]
    steps = jobs["publish"]["steps"]
    assert jobs["publish"]["needs"] == "check"
    commands = "\n".join(step.get("run", "") for step in steps)
    assert "make notebooks-branch" in commands
    branch = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["branch"]
    assert f"git init -q -b {branch}" in commands
    assert re.search(r"^notebooks-branch:", (ROOT / "Makefile").read_text(), re.M)
    uploaded = next(step["with"]["path"] for step in steps if "upload-pages" in step.get("uses", ""))
    assert Path(uploaded) == Path("_build/html")
