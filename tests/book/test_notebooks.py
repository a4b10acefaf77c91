"""Notebooks outside the book: nothing of MyST is left in any, and they say what the site says, with its numbers."""

from __future__ import annotations

import builtins
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup, Tag
from nbconvert import HTMLExporter
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output
from playwright.sync_api import Browser

from tests.book.chromium import CHROMIUM
from tools.chapters import read_chapter
from tools.course import course, names_in
from tools.exercises import MINUTES, read_exercises
from tools.lab import ChapterManager
from tools.labels import Labels
from tools.notebooks import chapters_to_take, install_cells, notebook_of, plain_of, requirement, show
from tools.plain_markdown import INLINE, Plain
from tools.project import ROOT, BookError, Project

RAW = re.compile(
    r"\{[a-z:]+\}`|^[ >]*(?:`{3,}|:{3,})\{|^\([\w-]+\)=$|^:\w+: |^: |\[\^|\(eq-|glue:|# noqa|\bclaim\(|\bclaim$", re.M
)


@pytest.fixture(scope="session")
def taken(project: Project) -> dict[str, NotebookNode]:
    """What the site, the launch branch and the ZIP offer."""
    return chapters_to_take(project)


@pytest.fixture(scope="session")
def in_lab(project: Project, tmp_path_factory: pytest.TempPathFactory) -> dict[str, NotebookNode]:
    """What `make lab` shows."""
    shared = Project(project.root, tmp_path_factory.mktemp("build"))
    shared.notebooks.symlink_to(project.notebooks)
    manager = ChapterManager(root_dir=str(shared.build))
    manager.project = shared
    found = {}
    for chapter in shared.chapters():
        manager.refresh(chapter.stem)
        found[chapter.stem] = nbformat.read(manager.notebook(chapter.stem), as_version=4)
    return found


@pytest.fixture(scope="session")
def everywhere(
    project: Project, taken: dict[str, NotebookNode], in_lab: dict[str, NotebookNode]
) -> dict[str, NotebookNode]:
    """Every notebook that leaves the book, by where it is found."""
    files = {path: nbformat.reads(text, as_version=4) for path, text in course(project).items() if path.suffix != ".py"}
    return {
        **{f"site/{name}": notebook for name, notebook in taken.items()},
        **{f"lab/{name}": notebook for name, notebook in in_lab.items()},
        **{path.as_posix(): notebook for path, notebook in files.items()},
    }


def test_nothing_raw_is_left_in_any_notebook(project: Project, everywhere: dict[str, NotebookNode]):
    numbered = len(read_numbers(project))
    assert len(everywhere) == 2 * len(project.chapters()) + 3 * numbered
    for place, notebook in everywhere.items():
        nbformat.validate(notebook)
        for cell in notebook.cells:
            left = RAW.search(cell.source)
            assert not left, f"{place}: {cell.source[max(0, left.start() - 80) : left.end() + 80]!r}"
            for output in cell.get("outputs", []):
                assert "atrank_claim" not in output.get("metadata", {}), place
                assert not RAW.search(output.get("data", {}).get("text/markdown", "")), place
        assert "pip install" in notebook.cells[0].source, f"{place} does not say how to install the library"


def read_numbers(project: Project) -> list[str]:
    return [name for name, number in labels_of(project.root).numbers.items() if number]


@functools.cache
def page(project: Project, name: str) -> Tag:
    article = BeautifulSoup((project.html / f"{name}.html").read_text(), "html.parser").select_one("article.bd-article")
    assert article is not None
    return article


def words(text: str) -> str:
    return " ".join(text.replace("#", "").split())


def test_numbers_of_equations_figures_and_exercises_are_those_of_the_site(project: Project):
    labels = labels_of(project.root)
    checked = 0
    for label, target in labels.targets.items():
        start = label.split("-")[0]
        if start not in ("eq", "fig", "tab", "ex"):
            continue
        identity = f"equation-{label}" if start == "eq" else label
        element = page(project, target.page).find(id=identity)
        assert element is not None, label
        number = element.select_one(".eqno, .caption-number, .admonition-title")
        assert number is not None, label
        said = words(number.get_text())
        assert said == target.words or said.startswith(f"{target.words} ("), label
        checked += 1
    assert checked > 100


def test_no_cell_needs_what_a_cell_that_is_left_out_defines(taken: dict[str, NotebookNode]):
    """Else the page holds together, and its notebook stops."""
    for name, notebook in taken.items():
        kept = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
        code = "\n".join(line for source in kept for line in source.splitlines() if not line.lstrip().startswith("%"))
        read, defined = names_in(code)
        assert not read - defined - set(dir(builtins)), name


def test_recorded_numbers_stand_in_the_text_as_on_the_site(project: Project):
    labels = labels_of(project.root)
    total = 0
    for chapter in project.chapters():
        plain = plain_of(project, labels, chapter.stem, [])
        texts = [cell.source for cell in read_chapter(chapter).cells if cell.cell_type == "markdown"]
        quoted = [m["text"] for text in texts for m in INLINE.finditer(text) if m["role"] == "glue:text"]
        on_page = sorted(words(e.get_text()) for e in page(project, chapter.stem).select(".pasted-text"))
        assert sorted({words(plain.number(text)) for text in quoted}) == sorted(set(on_page)), chapter.stem
        total += len(quoted)
    assert total > 300


def test_works_are_cited_as_on_the_site(project: Project, taken: dict[str, NotebookNode]):
    labels = labels_of(project.root)
    keys = set()
    for chapter in project.chapters():
        plain = Plain(labels, chapter.stem)
        found = {key for cell in read_chapter(chapter).cells for key in plain.cited(cell.source)}
        text = words(page(project, chapter.stem).get_text())
        last = taken[chapter.stem].cells[-1].source
        for key in found:
            authors, year = labels.work(key)
            assert f"{authors}, {year}" in text or f"{authors} [{year}]" in text, key
            assert labels.full(key) in last, chapter.stem
        keys |= found
    assert len(keys) > 15


def test_exercises_have_a_title_a_kind_and_minutes_and_solutions_are_folded_at_the_end(
    project: Project, everywhere: dict[str, NotebookNode]
):
    for name in read_numbers(project):
        exercises = read_exercises(project.book / f"{name}.py")
        code = {cell.source for one in exercises for cell in one.solution if cell.cell_type == "code"}
        for place in (f"site/{name}", f"lab/{name}", f"solutions/{name}.ipynb", f"student/{name}.ipynb"):
            cells = everywhere[place].cells
            heads = [cell for cell in cells if re.match(r"### Exercise \d+\.\d+\. ", cell.source)]
            assert len(heads) == len(exercises), place
            for head, exercise in zip(heads, exercises, strict=True):
                assert f"\n*{exercise.kind}, about {MINUTES[exercise.kind]} minutes*" in head.source, place
            begins = next((n for n, cell in enumerate(cells) if cell.source.startswith("## Solutions")), len(cells))
            assert (begins < len(cells)) == (not place.startswith("student/"))
            assert all(cell in cells[:begins] for cell in heads)
            assert not any(cell.source in code for cell in cells[:begins])
            solving = [cell for cell in cells[begins:] if cell.source in code]
            assert len(solving) == (0 if place.startswith("student/") else len(code)), place
            assert all(cell.metadata["jupyter"]["source_hidden"] for cell in solving)
            for cell in cells[begins + 1 :]:
                answer = cell.cell_type == "markdown" and cell.id not in ("references", "solutions")
                text = re.sub(r"<details>.*</details>|### Solution of .*", "", cell.source, flags=re.S)
                assert not answer or not text.strip() or cell.id.endswith("caption"), (place, cell.source)


def test_tables_are_typeset_where_no_style_sheet_of_the_book_is(taken: dict[str, NotebookNode]):
    seen = 0
    for name, notebook in taken.items():
        for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
            shown = BeautifulSoup(output.get("data", {}).get("text/html", ""), "html.parser")
            for cell in shown.select("table.dataframe tbody :is(td, th)"):
                seen += 1
                assert cell.get("style") in ("text-align: left", "text-align: right"), name
                assert not re.fullmatch(r"NaN|None|-[\d.]+", cell.get_text().strip()), f"{name}: {cell}"
    assert seen > 1_000


@pytest.fixture
def rendered(browser: Browser, tmp_path: Path) -> Iterator[object]:
    """Open a notebook, converted by nbconvert, with the network cut; its formulas are set by the site's MathJax."""
    contexts = []

    def open_notebook(notebook: NotebookNode, mathjax: Path) -> object:
        body, _ = HTMLExporter(mathjax_url=mathjax.as_uri(), require_js_url="", embed_images=True).from_notebook_node(
            notebook
        )
        (tmp_path / "page.html").write_text(body, encoding="utf-8")
        contexts.append(browser.new_context(viewport={"width": 1366, "height": 900}))
        page = contexts[-1].new_page()
        page.route("http*://**", lambda route: route.abort())
        page.add_init_script(
            "window.MathJax = {tex: {inlineMath: [['$', '$'], ['\\\\(', '\\\\)']], processEscapes: true}, "
            "options: {enableMenu: false}, Hub: {Config() {}, Queue() {}}}"
        )
        page.goto((tmp_path / "page.html").as_uri(), wait_until="load")
        page.evaluate("() => MathJax.startup.promise")
        return page

    yield open_notebook
    for context in contexts:
        context.close()


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium, or set CHROMIUM")
@pytest.mark.parametrize("name", ["01_behaviors", "05_attention", "13_your_data"])
def test_a_rendered_notebook_shows_formulas_figures_and_folded_answers(
    project: Project, taken: dict[str, NotebookNode], rendered, name: str
):
    page = rendered(taken[name], project.html / "_static" / "mathjax" / "tex-svg.js")
    page.evaluate("document.querySelectorAll('mjx-assistive-mml').forEach(e => e.remove())")
    text = page.evaluate(
        "[...document.querySelectorAll('.jp-MarkdownCell, .jp-RenderedMarkdown')].map(e => e.innerText).join('\\n')"
    )
    assert len(text) > 10_000
    for raw in ("$$", "\\tag", "{glue", "{ref", "```", "**", ":label:", "\\("):
        assert raw not in text, text[max(0, text.find(raw) - 100) : text.find(raw) + 100]
    assert page.locator("mjx-merror").count() == 0
    assert page.locator("mjx-container").count() > 5
    figures = page.locator("img[src^='data:image/svg+xml']")
    captions = [cell for cell in taken[name].cells if cell.id.endswith("caption")]
    assert figures.count() == len(captions) > 0
    for alt, width in figures.evaluate_all("all => all.map(image => [image.alt, image.naturalWidth])"):
        assert len(alt) >= 20
        assert width > 0
    assert page.locator("details").count() > 0
    assert page.locator("details[open]").count() == 0
    assert page.locator("blockquote", has_text="In this chapter").count() == 1


@functools.cache
def labels_of(root: Path) -> Labels:
    return Labels.of(Project.at(root))


def plain(**options: object) -> Plain:
    values = {"auc": 0.9134, "pairs": 12, "who": "Ben"}
    return Plain(labels_of(ROOT), "05_attention", values, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("myst", "expected"),
    [
        ("(ch-x)=\n# X\n\ntext", "# 5. X\n\ntext"),
        ("```{important}\n{ref}`ch-time`.\n\n- so\n```\nand", "> **Important**\n>\n> *Time encoding*.\n>\n> - so\nand"),
        ("```{note} A title\n:class: x\nIt is $a\n+ b$.\n```", "> **A title**\n>\n> It is $a + b$."),
        ("$$\nc = d\n$$ (eq-bilinear)\n", "$$\nc = d\n\\tag{5.1}\n$$\n"),
        ("$$c = d$$ (eq-bilinear)", "$$c = d \\tag{5.1} $$"),
        ("See {eq}`eq-bilinear`, {eq}`eq-bucket`.", "See (5.1), *(3.1)*."),
        ("{ref}`there <ch-time>`, {doc}`notation`", "*there*, *Notation*"),
        ("{numref}`fig-attention-order` and {ref}`ex-shares`", "Fig. 5.3 and Exercise 5.1 (Warm-up: shares by hand)"),
        ("{cite:p}`zhou2018atrank` {cite:t}`ba2016layer`", "[Zhou et al., 2018] Ba et al. [2016]"),
        ("{glue:text}`auc:.2f` {glue:text}`pairs` {glue:text}`who`", "0.91 12 Ben"),
        ("`{ref}` and ``{glue:text}`x` ``", "`{ref}` and ``{glue:text}`x` ``"),
        ("```bash\n(x)=\n{ref}`no`\n```\n{eq}`eq-self`", "```bash\n(x)=\n{ref}`no`\n```\n(5.4)"),
        ("`name`\n: What\n  it is.\n\nEnd", "- **`name`**: What\n  it is.\n\nEnd"),
        ("Is it so?[^why]\n\n[^why]: Because.", "Is it so? (note why)\n\nNote why. Because."),
        (
            "```{list-table} Sizes\n:header-rows: 1\n\n* - a\n  - b\n* - {eq}`eq-self`\n  -\n```",
            "**Sizes**\n\n| a | b |\n|---|---|\n| (5.4) |  |",
        ),
    ],
)  # fmt: skip
def test_markdown_that_leaves_the_book(myst: str, expected: str):
    assert plain().text(myst) == expected
    assert plain().rewriting(myst).back(expected) == myst


def test_links_lead_to_notebooks_that_lie_beside():
    beside = plain(notebooks=frozenset({"03_time_encoding"}))
    assert beside.text("{ref}`ch-time`, {eq}`eq-bucket`") == (
        "[Time encoding](03_time_encoding.ipynb), [(3.1)](03_time_encoding.ipynb)"
    )
    assert beside.text("{ref}`ch-grouping`") == "*Behavior grouping*"


@pytest.mark.parametrize(
    ("myst", "said"),
    [
        ("{glue:text}`gone:.2f`", "'gone'"),
        ("{ref}`ch-gone`", "'ch-gone'"),
        ("{cite:p}`gone2020`", "'gone2020'"),
        ("{abbr}`AUC (area)`", "{abbr}"),
        ("```{mermaid}\n```", "{mermaid}"),
        ("```{note}\nnever closed", "never closed"),
    ],
)
def test_what_no_notebook_can_show_is_named_with_its_chapter(myst: str, said: str):
    with pytest.raises(BookError, match=re.escape(said)) as error:
        plain().text(myst)
    assert "05_attention" in str(error.value)


def chapter_of(*cells: NotebookNode) -> NotebookNode:
    notebook = notebook_of(cells, numbered=True)
    for cell in notebook.cells:
        cell.metadata.setdefault("tags", [])
    return notebook


def test_hidden_cells_stay_behind_but_for_the_one_that_opens_the_chapter():
    opens = 'from atrank_book.claims import begin, claim\n\nbegin("05_attention", seed=seed)'
    hidden, folded = {"tags": ["remove-cell"]}, {"tags": ["hide-input"]}
    figure = {"mystnb": {"figure": {"caption": "See $x$.", "name": "fig-attention-moved"}, "image": {"alt": "Dots"}}}
    drawn = new_output("display_data", {"image/svg+xml": "<svg/>", "text/plain": "<Figure>"})
    record = new_output("display_data", {"application/x": "1"}, metadata={"atrank_claim": {"name": "auc"}})
    shown = show(
        chapter_of(
            new_code_cell(opens, metadata=hidden),
            new_code_cell("claim(auc=auc)", metadata=hidden, outputs=[record]),
            new_code_cell("draw()", metadata=folded | figure, outputs=[drawn, record]),
            new_markdown_cell("It is {glue:text}`auc:.1f`."),
        ),
        plain(),
    )
    first, code, caption, text = (one.cell for one in shown)
    assert first.source.splitlines()[1:] == ["from atrank_book.claims import begin", "", opens.splitlines()[-1]]
    assert first.source.startswith("# ")
    assert code.metadata["jupyter"]["source_hidden"]
    assert [list(output.data) for output in code.outputs] == [["text/html", "text/plain"]]
    assert 'alt="Dots"' in code.outputs[0].data["text/html"]
    assert caption.source == "**Fig. 5.2.** See $x$."
    assert text.source == "It is 0.9."


def test_the_library_comes_from_the_repository_where_there_is_one(project: Project, monkeypatch: pytest.MonkeyPatch):
    assert requirement(project, "") == ""
    monkeypatch.setattr("tools.notebooks.commit", lambda root: "0123abcd")
    wanted = requirement(project, "https://github.com/reader/book")
    assert wanted == "atrank_lib[book] @ git+https://github.com/reader/book@0123abcd"
    text, code = install_cells(wanted)
    assert f'pip install "{wanted}"' in text.source
    assert f'%pip install -q "{wanted}"' in code.source
    monkeypatch.setattr("tools.notebooks.commit", lambda root: "0123abcd and changes")
    assert requirement(project, "https://github.com/reader/book").endswith("/book")
