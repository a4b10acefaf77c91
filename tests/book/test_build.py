"""From text to notebook to site: what is run, what is skipped, and what a failure leaves behind."""

from __future__ import annotations

import json
import os
from pathlib import Path

import nbformat
import pytest

from tools import check_rebuild
from tools.chapters import read_chapter
from tools.ledger import read_claims
from tools.project import BookError, Project

# what the chapters of the small book compute
CLAIM = 'total = claim("total", 0.1 + 0.2, low=0.0, high=1.0)'
PRINT = 'print("profile", profile)'


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_every_chapter_carries_its_claims_as_glue(project: Project):
    assert project.chapters()
    for chapter in project.chapters():
        notebook = nbformat.read(project.notebooks / f"{chapter.stem}.ipynb", as_version=4)
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
        recorded = [output.metadata for output in outputs if "atrank_claim" in output.get("metadata", {})]
        assert recorded, f"{chapter.stem} claims nothing"
        for metadata in recorded:
            assert metadata["scrapbook"]["name"] == metadata["atrank_claim"]["name"]
            assert metadata["atrank_claim"]["chapter"] == chapter.stem
            assert metadata["atrank_claim"]["profile"] == "fast"


def test_every_chapter_declares_its_parameters(project: Project):
    for chapter in project.chapters():
        tagged = [cell for cell in read_chapter(chapter).cells if "parameters" in cell.metadata.get("tags", [])]
        assert len(tagged) == 1, f"{chapter.stem}: exactly one cell is tagged parameters"
        names: dict[str, object] = {}
        exec(tagged[0].source, names)
        assert (names["profile"], names.get("data", ""), names["seed"]) == ("fast", "", 0)


def test_notebooks_tell_nothing_of_the_machine(project: Project):
    for chapter in project.chapters():
        text = (project.notebooks / f"{chapter.stem}.ipynb").read_text()
        notebook = json.loads(text)
        assert str(project.root) not in text
        assert " at 0x" not in text  # an address in memory, another one in every run
        assert "papermill" not in notebook["metadata"]
        assert notebook["metadata"]["kernelspec"]["name"] == "python3"
        assert all("papermill" not in cell["metadata"] for cell in notebook["cells"])


def test_the_ledger_lists_every_claim(project: Project):
    page = (project.html / "ledger.html").read_text()
    for chapter in project.chapters():
        for claim in read_claims(project.notebooks / f"{chapter.stem}.ipynb"):
            assert f">{claim['name']}<" in page
        assert f'href="{chapter.stem}.html"' in page


def test_every_page_of_the_toc_is_built(project: Project):
    for name in project.toc():
        assert (project.html / f"{name}.html").stat().st_size > 1000


def test_unchanged_chapters_and_site_are_left_alone(project: Project, tool):
    said = (tool(project, "execute").stdout + tool(project, "build").stdout).splitlines()
    assert len(said) == len(project.chapters()) + 1
    assert all(": unchanged" in line or line.startswith("unchanged: ") for line in said)


def test_a_small_book_from_text_to_site(small_book: Project, tool):
    assert tool(small_book, "execute").returncode == 0
    built = tool(small_book, "build")
    assert built.returncode == 0, built.stderr
    page = (small_book.html / "01_one.html").read_text()
    assert ">0.30</span> for a" in page
    assert ">Bike pump</span>" in page
    assert "not a git checkout" in (small_book.html / "ledger.html").read_text()
    assert not (small_book.html / ".doctrees").exists()
    assert {path.name for path in small_book.build.iterdir()} == {"notebooks", "html", "keys", ".lock"}


def test_a_chapter_runs_again_when_what_it_depends_on_changed(small_book: Project, tool):
    (small_book.root / "atrank_lib").mkdir()
    library = small_book.root / "atrank_lib" / "module.py"
    library.write_text("x = 1\n")
    one, two = small_book.book / "01_one.py", small_book.book / "02_two.py"
    one.write_text(two.read_text())

    def ran(*arguments: str) -> list[bool]:
        """Which of the chapters ran, in their order."""
        result = tool(small_book, "execute", *arguments)
        assert result.returncode == 0, result.stderr
        return ["executed" in line for line in sorted(result.stdout.splitlines())]

    assert ran() == [True, True]
    assert ran() == [False, False]
    edit(two, "Another page", "A third page")
    assert ran() == [False, True]
    library.write_text("x = 2\n")
    assert ran() == [True, True]
    assert ran("--profile", "full") == [True, True]
    notebook = (small_book.notebooks / "01_one.ipynb").read_text()
    assert "profile full" in notebook
    assert "remove-cell" in notebook  # the injected parameters do not show on the page
    os.truncate(small_book.notebooks / "02_two.ipynb", 10)
    assert ran("--profile", "full") == [False, True]

    # a chapter that goes takes its notebook along
    two.unlink()
    edit(small_book.root / "_toc.yml", "  - file: 02_two\n", "")
    assert ran("--profile", "full") == [False]
    assert not (small_book.notebooks / "02_two.ipynb").exists()


def test_what_tools_leave_beside_the_sources_counts_for_nothing(tmp_path: Path):
    for name in (
        "atrank_lib/a.py",
        "atrank_lib/__pycache__/a.pyc",
        "book/atrank_book/.ruff_cache/x",
        "constraints.txt",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = {path.relative_to(tmp_path).as_posix() for path in Project(tmp_path, tmp_path).sources()}
    assert found == {"atrank_lib/a.py", "constraints.txt"}


def test_a_readers_log_reaches_only_chapters_that_take_one(small_book: Project, tool, tiny_log, tmp_path: Path):
    logs = tmp_path / "logs"
    tiny_log.write(logs / "a")
    tiny_log.write(logs / "b")
    assert tool(small_book, "execute", "--data", str(logs / "a")).returncode == 0
    record = read_claims(small_book.notebooks / "01_one.ipynb")[0]
    assert record["data"] == f"tiny marketplace ({tiny_log.fingerprint()})"
    assert "injected" not in (small_book.notebooks / "02_two.ipynb").read_text()
    # the same contents elsewhere are the same log; other contents are not
    assert tool(small_book, "execute", "--data", str(logs / "b")).stdout.count("unchanged") == 2
    edit(logs / "b" / "schema.yaml", "tiny marketplace", "other marketplace")
    assert tool(small_book, "execute", "--data", str(logs / "b")).stdout.count("unchanged") == 1
    nowhere = tool(small_book, "execute", "--data", str(logs / "nowhere"))
    assert nowhere.returncode != 0
    assert "no event log there" in nowhere.stderr


FAILING = {
    "1 / 0": ["line 8, code cell 2: 1 / 0", "ZeroDivisionError: division by zero"],
    "claim('total', 7.0, 0, 1)": ["line 18, code cell 3: claim", "ClaimError", "'total' is 7.0, outside [0, 1]"],
    "claim('total', 0.3); claim('total', 0.3)": ["claims 'total' a second time"],
    "import sys; print('oh no', file=sys.stderr)": ["code cell 2: writes to stderr", "oh no"],
    "import os; print(os.getcwd())": ["holds a path of this machine"],
    "import os; os._exit(3)": ["the kernel stopped"],
}


def test_failing_chapters_are_named_and_no_site_is_built(small_book: Project, tool):
    claiming, quick = (small_book.book / "01_one.py").read_text(), (small_book.book / "02_two.py").read_text()
    names = [f"{number:02d}_bad" for number in range(3, 3 + len(FAILING))]
    for name, code in zip(names, FAILING, strict=True):
        good, line = (claiming, CLAIM) if "claim" in code else (quick, PRINT)
        (small_book.book / f"{name}.py").write_text(good)
        edit(small_book.book / f"{name}.py", line, code)
    edit(small_book.root / "_toc.yml", "  - file: ledger\n", "".join(f"  - file: {name}\n" for name in names))
    earlier = small_book.notebooks / f"{names[0]}.ipynb"
    earlier.write_text("from an earlier run")
    edit(small_book.book / "02_two.py", "Another page", "A third page")
    result = tool(small_book, "execute", "--jobs", "3")
    assert result.returncode == 1
    reports = result.stderr.split("\n\n")
    for name, expected in zip(names, FAILING.values(), strict=True):
        report = next(text for text in reports if str(Path("book") / f"{name}.py") in text)
        for part in expected:
            assert part in report
        assert not (small_book.notebooks / f"{name}.ipynb").exists()
    assert f"{len(FAILING)} failed: no site is built" in result.stderr
    assert "01_one: unchanged" in result.stdout  # the others were still looked at, and ran where they had to
    assert "02_two: executed" in result.stdout
    built = tool(small_book, "build")
    assert built.returncode == 1
    assert f"not executed: {', '.join(names)}" in built.stderr
    assert not small_book.html.exists()


def test_warnings_stop_the_site_and_the_old_one_stays(small_book: Project, tool):
    small_book.html.mkdir(parents=True)
    (small_book.html / "index.html").write_text("the old one")
    wrong = "From {ref}`nowhere` by {cite}`nobody2018` and {glue:text}`unclaimed:.2f`"
    edit(small_book.book / "02_two.py", "# # Another page", f"# # Another page\n#\n# {wrong}")
    assert tool(small_book, "execute").returncode == 0
    result = tool(small_book, "build")
    assert result.returncode == 1
    for part in ("unclaimed", "nowhere", "nobody2018", "02_two", "no site is built"):
        assert part in result.stderr
    assert (small_book.html / "index.html").read_text() == "the old one"


def test_toc_and_folder_must_agree(small_book: Project):
    small_book.check_toc()
    (small_book.book / "03_three.py").write_text("# %%\n1\n")
    with pytest.raises(BookError, match=r"book/03_three.py is not listed in _toc.yml"):
        small_book.check_toc()
    edit(small_book.root / "_toc.yml", "  - file: ledger\n", "  - file: 03_three\n  - file: 04_four\n")
    with pytest.raises(BookError, match="lists '04_four'"):
        small_book.check_toc()


def test_the_rebuild_check_sees_a_changed_and_a_missing_file(tmp_path: Path):
    for folder in ("one", "other"):
        (tmp_path / folder / "deep").mkdir(parents=True)
        (tmp_path / folder / "same").write_text("same")
        (tmp_path / folder / "deep" / "changed").write_text(folder)
    (tmp_path / "other" / "extra").write_text("")
    found = check_rebuild.differences(tmp_path / "one", tmp_path / "other")
    assert found == [str(Path("deep") / "changed"), "extra"]
