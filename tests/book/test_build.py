"""From text to notebook to site: what is run, what is skipped, and what a failure leaves behind."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import nbformat
import pytest

from tools import build, check_rebuild, execute
from tools.ledger import read_claims
from tools.project import Project, read_chapter


def run(project: Project, *arguments: str) -> int:
    return execute.main(["--root", str(project.root), "--jobs", "2", *arguments])


def site(project: Project) -> int:
    return build.main(["--root", str(project.root)])


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


def test_unchanged_chapters_and_site_are_left_alone(project: Project, capsys):
    started = time.monotonic()
    assert execute.main([]) == 0
    assert build.main([]) == 0
    assert time.monotonic() - started < 10
    said = capsys.readouterr().out.splitlines()
    assert len(said) == len(project.chapters()) + 1
    assert all(": unchanged" in line or line.startswith("unchanged: ") for line in said)


def test_a_small_book_from_text_to_site_and_what_makes_it_run_again(small_book: Project, capsys):
    (small_book.root / "atrank_lib").mkdir()
    library = small_book.root / "atrank_lib" / "module.py"
    library.write_text("x = 1\n")
    assert run(small_book) == 0
    assert site(small_book) == 0
    page = (small_book.html / "01_one.html").read_text()
    assert "0.30</span> for a" in page
    assert ">Bike pump</span>" in page
    assert "not a git checkout" in (small_book.html / "ledger.html").read_text()
    assert not (small_book.html / ".doctrees").exists()
    leftovers = {path.name for path in small_book.build.iterdir()} - {"notebooks", "html", "keys", ".lock"}
    assert not leftovers

    def said(*arguments: str) -> list[bool]:
        """Which of the two chapters ran."""
        capsys.readouterr()
        assert run(small_book, *arguments) == 0
        return ["executed" in line for line in capsys.readouterr().out.splitlines()]

    assert said() == [False, False]
    edit(small_book.book / "02_two.py", "Bike pump", "Wool hat")
    assert said() == [False, True]
    library.write_text("x = 2\n")
    assert said() == [True, True]
    assert said("--profile", "full") == [True, True]
    assert "profile full" in (small_book.notebooks / "01_one.ipynb").read_text()
    assert site(small_book) == 0
    assert "remove-cell" in (small_book.notebooks / "01_one.ipynb").read_text()
    os.truncate(small_book.notebooks / "02_two.ipynb", 10)
    assert said("--profile", "full") == [False, True]

    # a chapter that goes takes its notebook along
    (small_book.book / "02_two.py").unlink()
    edit(small_book.root / "_toc.yml", "  - file: 02_two\n", "")
    assert said("--profile", "full") == [False]
    assert not (small_book.notebooks / "02_two.ipynb").exists()


def test_a_readers_log_reaches_only_chapters_that_take_one(small_book: Project, tiny_log, tmp_path: Path, capsys):
    tiny_log.write(tmp_path / "logs" / "a")
    tiny_log.write(tmp_path / "logs" / "b")
    two = small_book.book / "02_two.py"
    edit(two, 'data = ""\n', "")
    edit(two, "data=data, ", "")
    assert run(small_book, "--data", str(tmp_path / "logs" / "a")) == 0
    records = {name: read_claims(small_book.notebooks / f"{name}.ipynb")[0]["data"] for name in ("01_one", "02_two")}
    assert records == {"01_one": f"tiny marketplace ({tiny_log.fingerprint()})", "02_two": ""}
    capsys.readouterr()
    # the same contents elsewhere are the same log; other contents are not
    assert run(small_book, "--data", str(tmp_path / "logs" / "b")) == 0
    assert capsys.readouterr().out.count("unchanged") == 2
    edit(tmp_path / "logs" / "b" / "schema.yaml", "tiny marketplace", "other marketplace")
    assert run(small_book, "--data", str(tmp_path / "logs" / "b")) == 0
    assert capsys.readouterr().out.count("unchanged") == 1
    with pytest.raises(SystemExit):
        run(small_book, "--data", str(tmp_path / "nowhere"))
    assert "no event log there" in capsys.readouterr().err


FAILING = {
    "1 / 0, 0, 1": ["line 18, code cell 3: total = claim", "ZeroDivisionError: division by zero"],
    "7.0, 0, 1": ["ClaimError", "'total' is 7.0, outside [0, 1]"],
    "0.3); claim('total', 0.3": ["claims 'total' a second time"],
    "0.3); import sys; print('oh no', file=sys.stderr": ["code cell 3: writes to stderr", "oh no"],
    "0.3); import os; print(os.getcwd()": ["holds a path of this machine"],
    "0.3); import os; os._exit(3": ["the kernel stopped"],
}


def test_failing_chapters_are_named_and_no_site_is_built(small_book: Project, capsys):
    good = (small_book.book / "01_one.py").read_text()
    names = [f"{number:02d}_bad" for number in range(3, 3 + len(FAILING))]
    for name, call in zip(names, FAILING, strict=True):
        (small_book.book / f"{name}.py").write_text(good.replace("0.1 + 0.2, low=0.0, high=1.0", call))
    edit(small_book.root / "_toc.yml", "  - file: ledger\n", "".join(f"  - file: {name}\n" for name in names))
    assert run(small_book) == 1
    captured = capsys.readouterr()
    reports = captured.err.split("\n\n")
    for name, expected in zip(names, FAILING.values(), strict=True):
        report = next(text for text in reports if str(Path("book") / f"{name}.py") in text)
        for part in expected:
            assert part in report
        assert not (small_book.notebooks / f"{name}.ipynb").exists()
    assert f"{len(FAILING)} failed: no site is built" in captured.err
    assert "01_one: executed" in captured.out  # the others still ran
    assert "02_two: executed" in captured.out
    assert site(small_book) == 1
    assert f"not executed: {', '.join(names)}" in capsys.readouterr().err
    assert not small_book.html.exists()


def test_a_failure_takes_the_earlier_notebook_along(small_book: Project):
    assert run(small_book) == 0
    edit(small_book.book / "01_one.py", "high=1.0", "high=0.1")
    assert run(small_book) == 1
    assert not (small_book.notebooks / "01_one.ipynb").exists()
    edit(small_book.book / "01_one.py", "high=0.1", "high=1.0")
    assert run(small_book) == 0


def test_warnings_stop_the_site_and_the_old_one_stays(small_book: Project, capsys):
    small_book.html.mkdir(parents=True)
    (small_book.html / "index.html").write_text("the old one")
    chapter = small_book.book / "01_one.py"
    edit(chapter, "{glue:text}`total:.2f`", "{glue:text}`unclaimed:.2f`")
    edit(chapter, "From {eq}", "From {ref}`nowhere` by {cite}`nobody2018` and {eq}")
    assert run(small_book) == 0
    assert site(small_book) == 1
    said = capsys.readouterr().err
    for part in ("unclaimed", "nowhere", "nobody2018", "01_one", "no site is built"):
        assert part in said
    assert (small_book.html / "index.html").read_text() == "the old one"


def test_toc_and_folder_must_agree(small_book: Project, capsys):
    (small_book.book / "03_three.py").write_text("# %%\n1\n")
    assert run(small_book) == 1
    assert "book/03_three.py is not listed in _toc.yml" in capsys.readouterr().err
    edit(small_book.root / "_toc.yml", "  - file: ledger\n", "  - file: 03_three\n  - file: 04_four\n")
    assert run(small_book) == 1
    assert "'04_four'" in capsys.readouterr().err


def test_the_rebuild_check_sees_a_changed_and_a_missing_file(tmp_path: Path):
    for folder in ("one", "other"):
        (tmp_path / folder / "deep").mkdir(parents=True)
        (tmp_path / folder / "same").write_text("same")
        (tmp_path / folder / "deep" / "changed").write_text(folder)
    (tmp_path / "other" / "extra").write_text("")
    found = check_rebuild.differences(tmp_path / "one", tmp_path / "other")
    assert found == [str(Path("deep") / "changed"), "extra"]
