"""The text of the book is clean, and the checker that says so can tell."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from tools.check_prose import (
    check_alt,
    check_book,
    check_chapter,
    check_markdown_images,
    check_metrics,
    check_spelling,
)
from tools.project import ROOT, Project


def test_the_book_has_nothing_to_mend():
    findings = check_book(Project.at(ROOT))
    assert not findings, "\n".join(map(str, findings))


@pytest.mark.parametrize(
    "text",
    [
        "The AUC is 0.83 here.",
        "Accuracy rises by 5 % at once.",
        "Training is 40% faster.",
        "```{note}\nIts loss is 0.6931.\n```",
        "| AUC |\n|---|\n| 0.834 |",
        "```{exercise-start}\n:label: x\n```\nExpect 0.75 or so.\n```{exercise-end}\n```",
    ],
)
def test_a_metric_typed_by_hand_is_found(text):
    assert len(list(check_metrics(text))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "The AUC is {glue:text}`auc:.3f`.",
        "Dropout of 0.5, version 2.6 and 50 users.",
        "With $x = 0.25$ and\n$$\ny = 0.125\n$$\nwe are done.",
        "```python\nx = 0.834\n```\nas shown",
        "````{note}\n```python\nx = 0.834\n```\n````",
        "```{math}\n0.834\n```",
        "`x = 0.834`",
        "Python 3.11, 3.12 or 3.13 will do.",
        "The paper reports 0.8921 in Table 3.",
        "{cite:t}`zhou2018atrank` report 0.8921.",
        "Half of the users, 50 %, have no coupon.",
    ],
)
def test_other_numbers_are_left_alone(text):
    assert not list(check_metrics(text))


def test_a_finding_names_its_line():
    assert [line for line, _ in check_metrics("one\n\n```python\n0.111\n```\nAUC 0.834\n")] == [6]


@pytest.mark.parametrize("word", ["behaviour", "Behaviours", "colour", "normalised", "modelling"])
def test_british_spelling_is_found(word):
    assert len(list(check_spelling(f"a {word} here"))) == 1


@pytest.mark.parametrize("text", ["behavior color normalized modeling", "`colour` in code", "{cite}`colour2018`"])
def test_american_spelling_and_code_pass(text):
    assert not list(check_spelling(text))


@pytest.mark.parametrize("alt", [None, "", "figure.png", "loss_curve_of_training.png", "A short text"])
def test_a_poor_alt_text_is_found(alt):
    assert check_alt(alt, "figure")


def test_a_describing_alt_text_passes():
    assert check_alt("Line chart: the loss falls from 0.7 to 0.4 in ten steps.", "figure") is None


def test_images_in_markdown_need_alt_texts_too():
    good = "A screenshot of the first chapter in a browser"
    assert not list(check_markdown_images(f"![{good}](a.png)\n```{{figure}} b.png\n:alt: {good}\nCaption\n```\n"))
    assert [line for line, _ in check_markdown_images("\n![](a.png)\n```{image} b.png\n```\n")] == [2, 3]


def test_a_chapters_figures_and_prose_are_checked_where_they_stand(tmp_path: Path):
    chapter = tmp_path / "01_x.py"
    chapter.write_text(
        "# %% [markdown]\n# # Title\n#\n# The AUC is 0.834.\n\n"
        "# %%\nfig, ax = plt.subplots()\n\n"
        '# %% mystnb={"figure": {"caption": "See C.", "name": "fig-x"}, "image": {"alt": "short"}}\n'
        "fig, ax = plt.subplots()\n\n"
        '# %% mystnb={"figure": {"caption": "See C", "name": "fig-y"}, "image": {"alt": "A line, first up and down"}}\n'
        "plt.subplots()\n"
    )
    found = [(line, message.split()[0]) for line, message in sorted(check_chapter(chapter))]
    assert [line for line, _ in found] == [4, 7, 7, 7, 10]
    assert found[0][1] == "'0.834'"


CARDS = {
    path.stem: re.findall(r"\*\*Modules\*\*: (.*?)[.]\s", path.read_text().replace("\n# ", " "))
    for path in Project.at(ROOT).chapters()
}
ROWS = [
    line.split("|")[1:3]
    for line in (ROOT / "book" / "how_to_use.md").read_text().splitlines()
    if re.match(r"\| \d+ ", line)
]


@pytest.mark.parametrize(
    "named",
    [pytest.param(modules, id=name) for name, found in CARDS.items() for modules in found]
    + [pytest.param(modules, id=chapter.strip()) for chapter, modules in ROWS],
)
def test_modules_named_by_a_card_or_in_how_to_use_exist(named: str):
    names = re.findall(r"`([\w.]+)`", named)
    assert names
    for name in names:
        top = name.split(".")[0]
        assert find_spec(name if top in ("atrank_lib", "data_scripts", "experiments") else f"atrank_lib.{name}"), name


@pytest.mark.parametrize(
    ("caption", "says"),
    [
        ("Share of padding. Compare both ends of each line.", True),
        ("An AUC for each model; look at the gap before the line.", True),
        ("Learning curves of what we see, read from left to right.", False),
    ],
)
def test_a_caption_says_what_to_see(tmp_path, caption, says):
    settings = (
        f'{{"figure": {{"caption": "{caption}", "name": "fig-x"}}, "image": {{"alt": "A line, first up, then down"}}}}'
    )
    path = tmp_path / "01_x.py"
    path.write_text(f"# %% mystnb={settings}\nplt.subplots()\n")
    assert bool([message for _, message in check_chapter(path) if "what to see" in message]) != says


@pytest.mark.parametrize(
    ("caption", "count"),
    [
        ("Dark bars are behaviors, the black arrow is their sum.", 2),
        ("Squares are behaviors; the color of a dot is that of its group.", 0),
        ("Lighter models go dark.", 2),
    ],
)
def test_a_caption_names_no_color(tmp_path, caption, count):
    settings = (
        f'{{"figure": {{"caption": "{caption}", "name": "fig-x"}}, "image": {{"alt": "A line, first up, then down"}}}}'
    )
    path = tmp_path / "01_x.py"
    path.write_text(f"# %% mystnb={settings}\nplt.subplots()\n")
    assert len([message for _, message in check_chapter(path) if "in the dark" in message]) == count
