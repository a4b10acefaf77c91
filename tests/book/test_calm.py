"""Calm pages: what a reader stumbled over once does not come back."""

from __future__ import annotations

import re
from pathlib import Path

import jupytext
import pandas as pd
import pytest
from bs4 import BeautifulSoup, Tag

from atrank_book.tables import typeset
from tools.project import ROOT, Project

CHAPTERS = Project.at(ROOT).chapters()
CODE_WIDTH = 85  # characters: what fits beside the navigation of a laptop


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_code_fits_a_laptop_and_claims_are_hidden(chapter: Path):
    for cell in jupytext.read(chapter).cells:
        if cell.cell_type != "code" or "remove-cell" in cell.metadata.get("tags", []):
            continue
        lines = cell.source.splitlines()
        assert not [line for line in lines if len(line) > CODE_WIDTH]
        assert not [line for line in lines if line.lstrip().startswith(("claim(", "begin("))]


@pytest.fixture(scope="module")
def articles(project: Project, pages: dict[str, BeautifulSoup]) -> dict[str, Tag]:
    found = {}
    for name in project.toc():
        article = pages[f"{name}.html"].select_one("article")
        assert article is not None
        found[name] = article
    return found


def folded(cell: Tag | None) -> bool:
    return cell is not None and "cell" in str(cell.get("class")).split("'") and bool(cell.select("details.hide"))


def test_folded_code_says_what_it_does_and_none_stands_alone_without_need(articles: dict[str, Tag]):
    for name, article in articles.items():
        bars = article.select("details.hide")
        for bar in bars:
            said = bar.select_one("summary span")
            assert said is not None
            assert re.match(r"Code(: .{3,}| of (this table|Fig\. [\d.]+)$)", said.get_text()), f"{name}: {said}"
            cell = bar.find_parent("div", class_="cell")
            assert isinstance(cell, Tag)
            if cell.select_one(".cell_output") is None:
                for beside in (cell.find_next_sibling(), cell.find_previous_sibling()):
                    assert not folded(beside), f"{name}: {said.get_text()!r} shows nothing: join it"


def test_no_page_shows_how_its_numbers_are_checked_or_an_answer_before_it_is_given(articles: dict[str, Tag]):
    for name, article in articles.items():
        if name in ("for_teachers", "how_to_use", "changelog"):
            continue
        code = "\n".join(block.get_text() for block in article.select(".cell_input"))
        assert not re.search(r"^\s*(claim|begin)\(", code, re.M), name
        shown = "\n".join(block.get_text() for block in article.select(".cell_output"))
        assert "nothing yet" not in shown, name
        assert not re.search(r"^(Name: .*, )?dtype: ", shown, re.M), f"{name}: pandas tells its types"


def test_a_chapter_leads_to_its_numbers(articles: dict[str, Tag]):
    ids = {element["id"] for element in articles["ledger"].select("[id]")}
    for chapter in CHAPTERS:
        links = articles[chapter.stem].select("a[href^='ledger.html#']")
        assert links, chapter.stem
        assert str(links[-1]["href"]).partition("#")[2] in ids


def test_tables_are_typeset(articles: dict[str, Tag]):
    tables = [(name, table) for name, article in articles.items() for table in article.select("table.dataframe")]
    assert len(tables) > 50
    for name, table in tables:
        cells = [cell.get_text().strip() for cell in table.select("td, th")]
        assert not {"NaN", "nan", "None", "<NA>"} & {*cells}, name
        assert not [cell for cell in cells if re.fullmatch(r"-[\d.]+", cell)], name
        for row in table.select("thead tr")[1:]:
            named = [cell for cell in row.select("th") if cell.get_text().strip()]
            assert len(named) > len(row.select("th, td")) / 2, f"{name}: names of an index in a row of their own: {row}"


def test_typesetting_keeps_the_numbers():
    frame = pd.DataFrame(
        {"low": [-0.5, float("nan")], "text": ["a", "b-1"], "mixed": ["2", "0.25"], "gone": [-0.0, 1.0]},
        index=pd.MultiIndex.from_tuples([("x", 1), ("x", 2)], names=["one", "two"]),
    )
    table = BeautifulSoup(typeset(frame.to_html()), "html.parser")
    rows = [[cell.get_text() for cell in row.select("td, th")] for row in table.select("tr")]
    assert rows[0] == ["one", "two", "low", "text", "mixed", "gone"]
    assert rows[1] == ["x", "1", "−0.5", "a", "2\u2008\u2007\u2007", "0.0"]
    assert rows[2] == ["2", "–", "b-1", "0.25", "1.0"]
    right = [cell.get_text() for cell in table.select("thead [style*=right]")]
    assert right == ["two", "low", "mixed", "gone"]
