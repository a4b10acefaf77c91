"""The built pages: links, equations, symbols, cards, weight. No browser is needed."""

from __future__ import annotations

import re
import subprocess
import sys
from html import unescape
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from urllib.parse import unquote

import jupytext
import pytest
import yaml
from bs4 import BeautifulSoup
from docutils import nodes
from docutils.utils import new_document
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx_exercise.nodes import solution_node

from tools.chapter_times import in_words
from tools.check_prose import check_terms, prose_only
from tools.project import ROOT, Project, recorded_seconds

sys.path.insert(0, str(ROOT / "book" / "_ext"))
from chapter_cards import read_facts
from definitions import link_terms
from tex_symbols import Notation, read_rows, symbols_in
from tidy_html import tidy

EQUATIONS = range(1, 9)  # those of the paper
HEAVIEST = 1_500_000  # bytes of a page with all that it loads but MathJax, which a browser keeps
WORDS = Path(__file__).with_name("words.txt")


def test_internal_links_and_anchors_lead_somewhere(project: Project, pages: dict[str, BeautifulSoup]):
    anchors = {name: {element["id"] for element in page.find_all(id=True)} for name, page in pages.items()}
    broken = []
    for name, page in pages.items():
        for link in page.find_all("a", href=True):
            target, _, anchor = unquote(str(link["href"])).partition("#")
            if re.match(r"[a-z]+:", target):
                continue
            target = target.split("?")[0] or name
            if not (project.html / target).is_file():
                broken.append(f"{name}: no file {link['href']}")
            elif anchor and target in anchors and anchor not in anchors[target]:
                broken.append(f"{name}: no anchor {link['href']}")
    assert not broken, "\n".join(broken)


def test_ids_are_unique(pages: dict[str, BeautifulSoup]):
    for name, page in pages.items():
        ids = [element["id"] for element in page.find_all(id=True)]
        assert not {twice for twice in ids if ids.count(twice) > 1}, name


def prose(project: Project) -> dict[str, str]:
    texts = {path.name: path.read_text() for path in sorted(project.book.glob("*.md"))}
    for path in project.chapters():
        cells = jupytext.read(path).cells
        texts[path.name] = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return texts


def test_every_equation_cited_by_number_is_in_the_paper():
    for name, text in prose(Project.at(ROOT)).items():
        for found in re.finditer(
            r"\b(?:eq\.|eqs\.|equations?)\s+(\d+)(?:\s*(?:to|and|-|–)\s*(\d+))?", prose_only(text)
        ):
            for number in filter(None, found.groups()):
                assert int(number) in EQUATIONS, f"{name}: {found[0]!r}: the paper has equations 1 to 8"


def formulas(page: BeautifulSoup) -> list[str]:
    found = []
    for element in page.select("article .math"):
        tex = re.search(r"\\\((.*)\\\)|\\\[(.*)\\\]", element.get_text(), re.S)
        if tex:
            found.append(unescape(tex[1] or tex[2]))
    return found


def test_every_symbol_is_in_the_notation_table(pages: dict[str, BeautifulSoup]):
    notation = Notation(read_rows((ROOT / "book" / "notation.md").read_text()))
    unknown = {
        f"{name}: {symbol} in {formula.strip()[:60]!r}: add it to book/notation.md"
        for name, page in pages.items()
        if name not in ("glossary.html", "notation.html")
        for formula in formulas(page)
        for symbol in symbols_in(formula)
        if notation.explain(symbol, name.removesuffix(".html")) is None
    }
    assert not unknown, "\n".join(sorted(unknown))


@pytest.mark.parametrize(
    ("tex", "symbols"),
    [
        (r"S_k W_k\,S^\top", ["S_k", "W_k", r"S^\top"]),
        (r"e_u^t = \operatorname{LayerNorm}(h_t)", ["e_u^t", "u", "t", "h_t"]),
        (r"\sum_{i=1}^n u_{bg_i}", ["i", "n", "u_bg_i"]),
        (r"\mathcal{F}_{self}(\vec v_i) \ne 2^{-t/h}", [r"\mathcal{F}_self", r"\vec{v}_i", "t", "h"]),
        (r"\text{age} \le \lVert x \rVert", ["x"]),
    ],
)
def test_symbols_of_a_formula(tex: str, symbols: list[str]):
    found = [str(symbol) for symbol in symbols_in(tex)]
    assert [symbol for symbol in found if symbol in symbols] == [*dict.fromkeys(symbols)] or set(symbols) <= set(found)
    assert "age" not in "".join(found)


def test_a_symbol_means_what_its_chapter_says():
    rows = "| $h$ | half-life | | {doc}`03_time` |\n| $h_t$ | target | $d$ | |\n| $A_k$ | attention | | |\n"
    notation = Notation(read_rows(rows))

    def meaning(tex: str, page: str) -> str | None:
        row = notation.explain(symbols_in(tex)[0], page)
        return row.meaning if row else None

    assert meaning("h", "03_time") == "half-life"
    assert meaning("h", "04_other") is None
    assert meaning("h_t", "04_other") == "target"
    assert meaning("A_1", "04_other") == "attention"
    assert meaning("Z", "03_time") is None


def test_every_chapter_has_a_card(project: Project, pages: dict[str, BeautifulSoup]):
    cover = pages["index.html"]
    linked = [link["href"] for link in cover.select("a.chapter-title")]
    parts = yaml.safe_load((ROOT / "_toc.yml").read_text())["parts"]
    seconds = recorded_seconds(project)
    assert linked == [f"{chapter['file']}.html" for part in parts for chapter in part["chapters"]]
    for card in cover.select(".chapter-card"):
        link = card.select_one("a.chapter-title")
        assert link is not None
        if link.select_one(".chapter-number"):
            facts = dict(zip(*([e.get_text() for e in card.select(kind)] for kind in ("dt", "dd")), strict=True))
            measured = in_words(seconds[str(link["href"]).removesuffix(".html")])
            assert facts.get("Runs") == measured, f"{link['href']}: say **Runtime** in the note 'In this chapter'"
            assert re.fullmatch(r"\d+ minutes", facts["Read"])
            question = card.select_one(".chapter-question")
            assert question is not None, f"{link['href']}: say **Question** in the note 'In this chapter'"
            text = question.get_text()
            assert text.endswith("?")
            # it is read without the page around it
            assert not re.search(r"\b(he|she|him|her|they|this|these|that folder|Ana|Mia|Ben)\b", text), text


def test_the_map_links_to_the_chapters_it_names(project: Project, pages: dict[str, BeautifulSoup]):
    rows = pages["index.html"].select("svg.model-map a")
    numbered = [name for name in project.toc() if re.match(r"\d\d_", name)]
    assert len(rows) == 6
    for row, name in zip(rows, numbered, strict=False):
        assert row["href"] == f"{name}.html"
        assert row.get_text().split()[0] == str(int(name[:2]))


def test_the_cover_shows_a_figure_of_the_first_chapter(pages: dict[str, BeautifulSoup]):
    original = pages["01_behaviors.html"].select_one("figure#fig-one-user")
    shown = pages["index.html"].select_one("figure")
    assert original is not None
    assert shown is not None
    assert [image["src"] for image in shown.select("img")] == [image["src"] for image in original.select("img")]
    assert [image["alt"] for image in shown.select("img")] == [image["alt"] for image in original.select("img")]
    assert not shown.select(".caption-number")  # its number is that of the chapter
    assert [link["href"] for link in shown.select("figcaption a:not(.headerlink)")] == [
        "01_behaviors.html#fig-one-user"
    ]


def test_where_the_code_is_stands_in_the_same_words_on_three_pages(pages: dict[str, BeautifulSoup]):
    boxes = [pages[f"{name}.html"].select(".code-box") for name in ("index", "how_to_use", "for_teachers")]
    assert [len(found) for found in boxes] == [1, 1, 1]
    (text,) = {box.get_text() for (box,) in boxes}
    assert 'pip install ".[book]"' in text
    assert "http" not in text  # no repository is configured


def test_contents_of_pages_say_titles_and_no_labels(pages: dict[str, BeautifulSoup]):
    for name, page in pages.items():
        for entry in page.select(".page-toc a"):
            assert not re.search(r"\bch-\w|[{}`]", entry.get_text()), f"{name}: {entry.get_text()!r}"
    contents = [entry.get_text().strip() for entry in pages["for_teachers.html"].select(".page-toc a")]
    assert "Users as behaviors" in contents


def test_previous_and_next_say_where_they_go(project: Project, pages: dict[str, BeautifulSoup]):
    names = project.toc()
    for before, after in pairwise(names):
        link = pages[f"{before}.html"].select_one("a.right-next")
        title = pages[f"{after}.html"].select_one("article h1")
        assert link is not None
        assert title is not None
        assert link["href"] == f"{after}.html"
        said = link.select_one(".prev-next-title")
        assert said is not None
        assert said.get_text().strip() in " ".join(title.get_text().split())


def test_terms_and_symbols_have_definitions(project: Project, pages: dict[str, BeautifulSoup]):
    definitions = (project.html / "_static" / "definitions.js").read_text()
    terms = [str(link["href"]) for page in pages.values() for link in page.select("a.defined-term")]
    assert len(terms) > 50
    assert not [name for name, page in pages.items() if page.select("table a.defined-term")]
    for href in set(terms):
        assert f'"{href.split("#")[1]}": ' in definitions
    known = definitions.count("<dt>\\\\(")
    used = {
        int(n) for page in pages.values() for e in page.select("[data-symbols]") for n in str(e["data-symbols"]).split()
    }
    assert used == set(range(known))


def test_the_first_use_in_running_text_is_linked_and_none_in_a_table():
    glossary = addnodes.glossary(
        "", nodes.definition_list("", nodes.definition_list_item("", nodes.term("", "positive", ids=["term-positive"])))
    )
    page = new_document("page")
    page += nodes.table("", nodes.entry("", nodes.paragraph("", "edges must be positive")))
    page += nodes.paragraph("", "One positive, two positives.")
    environment = SimpleNamespace(found_docs={"glossary"}, get_doctree=lambda name: glossary)
    builder = SimpleNamespace(get_relative_uri=lambda start, end: f"{end}.html")
    link_terms(cast(Sphinx, SimpleNamespace(env=environment, builder=builder)), page, "page")
    (link,) = page.findall(nodes.reference)
    assert (link.astext(), link["refuri"]) == ("positive", "glossary.html#term-positive")
    assert link.parent.astext() == "One positive, two positives."


def test_no_page_is_heavy(project: Project, pages: dict[str, BeautifulSoup]):
    for name, page in pages.items():
        sources = {
            str(image["src"]) for image in page.select("article img") if not image.find_parent(class_="figure-dark")
        }
        own = {source for source in sources if not source.startswith("data:")}
        loaded = [str(tag.get("src") or tag.get("href")) for tag in page.select("script[src], link[rel=stylesheet]")]
        own |= {source.split("?")[0] for source in loaded if "mathjax" not in source}
        weight = (project.html / name).stat().st_size + sum((project.html / source).stat().st_size for source in own)
        assert weight < HEAVIEST, f"{name} weighs {weight / 1e6:.2f} MB"


def test_images_reserve_their_place(pages: dict[str, BeautifulSoup]):
    for name, page in pages.items():
        for image in page.select("article img"):
            assert image.get("width"), f"{name}: {image['src']} would make the page jump"
            assert image.get("height"), f"{name}: {image['src']} would make the page jump"


def test_a_chapter_is_offered_as_notebook_and_as_python(project: Project, pages: dict[str, BeautifulSoup]):
    for chapter in project.chapters():
        offered = {link["href"] for link in pages[f"{chapter.stem}.html"].select(".dropdown-download-buttons a")}
        assert offered == {f"_sources/{chapter.stem}.ipynb", f"_sources/{chapter.stem}.py"}
        assert (project.html / "_sources" / chapter.name).read_bytes() == chapter.read_bytes()


def test_words_are_spelled_as_in_american_dictionaries():
    places = ["book", *sorted(path.name for path in ROOT.glob("*.md")), "atrank_lib", "data_scripts", "experiments"]
    command = [
        sys.executable,
        "-m",
        "codespell_lib",
        "--builtin",
        "clear,rare,en-GB_to_en-US",
        "--skip",
        "*.json,*.png",
    ]
    result = subprocess.run([*command, "--ignore-words", str(WORDS), *places], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("text", ["a minibatch", "Self attention is pairwise.", "two datasets", "in Pytorch"])
def test_another_spelling_of_a_term_is_found(text: str):
    assert list(check_terms(text.replace("Self", "self")))


@pytest.mark.parametrize(
    "text", ["a mini-batch", "`pairwise`", "{ref}`pairwise <x>`", "pair-wise", "data_sets.pairwise"]
)
def test_the_spelling_of_the_book_and_code_pass(text: str):
    assert not list(check_terms(text))


def test_what_a_card_says_comes_from_the_note():
    page = new_document("page")
    note = nodes.admonition("", nodes.title("", "In this chapter"))
    note += nodes.paragraph("", "", nodes.strong("", "Question"), nodes.Text(": Is it\nso?"))
    note += nodes.paragraph("", "You will")
    note += nodes.paragraph("", "", nodes.strong("", "Runtime"), nodes.Text(" (fast): a minute; the tables are old."))
    page += [note, nodes.paragraph("", "word " * 985), nodes.literal_block("", "code " * 400)]
    page += solution_node("", nodes.paragraph("", "word " * 400))
    facts = read_facts(page)
    assert (facts.question, facts.runtime, facts.before, facts.minutes) == ("Is it so?", "a minute", (), 5)
    assert read_facts(new_document("page")).question == ""


def test_tidying_leaves_other_markup_alone():
    assert tidy('<th class="head"></th><th>x</th><p class="a">b</p>') == '<td></td><th>x</th><p class="a">b</p>'
