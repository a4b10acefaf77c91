"""What `tools.check_chapters` finds: claims that hold for one seed alone, on one machine alone, or only once."""

from __future__ import annotations

import json

import pytest

from tools import chapter_times, check_chapters, check_machines
from tools.check_chapters import VARIANTS, seeds
from tools.project import ROOT, SECONDS, Project, recorded_seconds

FRAGILE = """
# %%
early = claim("early", 1.0 + seed, high=1.5)
after_early = early

# %%
claim("late", -after_early, low=-1.5)

# %%
import os
claim("threads", int(os.environ["OMP_NUM_THREADS"]), 1, 1)

# %%
os.mkdir("exports")
"""


def fragile(book: Project) -> None:
    chapter = book.book / "01_one.py"
    chapter.write_text(chapter.read_text() + FRAGILE)


def test_every_failing_cell_of_every_run_is_named_and_the_spread_told(small_book: Project, tool):
    fragile(small_book)
    result = tool(small_book, "check_chapters", "01_one", "--seeds", "0-1", "--spread")
    assert result.returncode == 1
    assert result.stdout.splitlines()[:2] == ["01_one, seed 0: holds", "01_one, seed 1: FAILED"]
    assert "01_one total: 0.3 to 0.3 in [0, 1]" in result.stdout
    place, *lines = result.stderr.strip().splitlines()
    assert place == "book/01_one.py, seed 1:"
    (line,) = lines  # that `after_early` is missing afterwards is no news
    assert "code cell 4, 'early = claim(\"early\", 1.0 + seed, high=1.5)': ClaimError" in line
    assert "'early' is 2.0, outside (−∞, 1.5] (seed 1," in line


def test_other_arithmetic_and_cells_that_run_twice(small_book: Project, tool):
    fragile(small_book)
    result = tool(small_book, "check_chapters", "--variants", "two threads", "--twice")
    assert result.stdout.splitlines() == [
        "01_one, seed 0, two threads, cells twice: FAILED",
        "02_two, seed 0, two threads, cells twice: holds",
    ]
    place, *lines = result.stderr.strip().splitlines()
    assert place == "book/01_one.py, seed 0, two threads, cells twice:"
    once, again, exports = lines  # with one thread, as by default, the claim holds: see above
    for line in (once, again):
        assert "'import os'" in line
        assert "'threads' is 2, outside [1, 1]" in line
    assert "'os.mkdir(\"exports\")': FileExistsError" in exports


def test_what_cannot_be_run_is_refused(small_book: Project, capsys):
    with pytest.raises(SystemExit, match="2"):
        check_chapters.main(["--root", str(small_book.root), "03_three"])
    assert "no chapter 03_three; there are 01_one, 02_two" in capsys.readouterr().err
    assert seeds("0-2,7") == [0, 1, 2, 7]
    with pytest.raises(Exception, match="write 0-4 or 1,7"):
        seeds("many")


def test_tests_and_chapters_are_planned_on_every_machine():
    runs = check_machines.plan("2")
    for name, variables in VARIANTS.items():
        assert runs[f"tests, {name}"][1] == variables
        assert runs[f"chapters, {name}"][0][-1] == name
    assert runs["chapters, seeds 1 to 4"][0][-1] == "1-4"
    assert {"ATEN_CPU_CAPABILITY", "ATRANK_KERNELS", "OMP_NUM_THREADS"} <= {key for v in VARIANTS.values() for key in v}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(3, "about 10 seconds"), (33, "about 30 seconds"), (58, "about a minute"), (130, "about 2 minutes")],
)
def test_seconds_in_words(seconds: float, words: str):
    assert chapter_times.in_words(seconds) == f"{words} on one core"


def test_a_chapter_says_what_was_measured(small_book: Project, tool):
    chapter, quick = small_book.book / "01_one.py", (small_book.book / "02_two.py").read_text()
    chapter.write_text(quick + "# %% [markdown]\n# **Runtime** (`fast`): hours; **Before this**: nothing.\n")
    measured = tool(small_book, "chapter_times")
    assert measured.returncode == 0, measured.stderr
    record = json.loads((small_book.root / SECONDS).read_text())
    assert set(record["seconds"]) == {"01_one", "02_two"}
    assert "cores" in record["hardware"]
    assert (
        f"**Runtime** (`fast`): {chapter_times.in_words(record['seconds']['01_one'])}; **Before" in chapter.read_text()
    )


def test_the_books_chapters_say_what_was_measured():
    project = Project.at(ROOT)
    assert set(recorded_seconds(project)) == {chapter.stem for chapter in project.chapters()}
    assert chapter_times.renewed(project) == {}, "run `python -m tools.chapter_times --recorded`"
