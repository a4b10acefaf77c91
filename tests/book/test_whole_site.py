"""Slow checks of the site that `make book-all` has built: run by `make check-site`.

axe-core and html-validate come from npm, pinned in tools/npm, into _build/npm.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from filelock import FileLock
from playwright.sync_api import Browser, Page
from pypdf import PdfReader

from tests.book.chromium import CHROMIUM, DESKTOP, PHONE
from tools.project import ROOT, Project
from tools.whole_book import NAME

PROJECT = Project.at(ROOT)
PAGES = [*PROJECT.toc(), "search", "genindex"]

# What the theme brings along and a page cannot mend, as (axe's rule, part of the element's HTML), each with a reason.
THEME = {
    ("label-content-name-mismatch", "search-button__button"): "the label leaves out the keys shown beside it",
    ("label-content-name-mismatch", "theme-switch-button"): "its icons have names of their own",
    ("region", "sidebar-primary-item"): "the title above the navigation is in no landmark",
}
MOST_ELEMENTS = 10_000  # of a page, beside what is folded
MOST_LAYOUTS = 40  # until it listens to its reader: a script that measures and changes by turns makes hundreds
JUMP = 0.05  # cumulative layout shift, half of what is good, says web.dev/cls

pytestmark = [
    pytest.mark.site,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium, or set CHROMIUM"),
]


@pytest.fixture(scope="session")
def html() -> Path:
    assert (PROJECT.html / "downloads").is_dir(), "the whole book is not there: run `make book-all`"
    return PROJECT.html


@pytest.fixture(scope="session")
def node() -> Path:
    """node_modules with the versions of tools/npm/package-lock.json."""
    if shutil.which("npm") is None:
        pytest.skip("no npm here: axe-core and html-validate do not run")
    source, target = ROOT / "tools" / "npm", PROJECT.build / "npm"
    target.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256((source / "package-lock.json").read_bytes()).hexdigest()
    stamp = target / "stamp"
    with FileLock(target / "lock"):
        if not stamp.exists() or stamp.read_text() != key:
            for name in ("package.json", "package-lock.json"):
                shutil.copyfile(source / name, target / name)
            command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
            done = subprocess.run(command, cwd=target, capture_output=True, text=True)
            assert done.returncode == 0, f"npm cannot install {source / 'package.json'}:\n{done.stderr}"
            stamp.write_text(key)
    return target / "node_modules"


@pytest.fixture
def opened(browser: Browser) -> Iterator[Any]:
    contexts = []

    def open_page(address: str, viewport: dict[str, int] = DESKTOP, **options: Any) -> Page:
        context = browser.new_context(viewport=viewport, **options)  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.goto(address)
        if "MathJax" in page.content():
            page.evaluate("() => MathJax.startup.promise")
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_of_our_making(opened, html: Path, node: Path, name: str, scheme: str):
    """All of axe-core's rules, contrast included; folded code and solutions are open."""
    page = opened((html / f"{name}.html").as_uri(), color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(element => element.open = true)")
    page.evaluate((node / "axe-core" / "axe.min.js").read_text())
    result = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
    found = [
        f"{violation['id']}: {' '.join(map(str, element['target']))}: {element['failureSummary']}"
        for violation in result["violations"]
        for element in violation["nodes"]
        if not any(violation["id"] == rule and part in element["html"] for rule, part in THEME)
    ]
    assert not found, "\n".join(found[:20])


def test_html_is_valid(html: Path, node: Path):
    """Every page, with the standard's rules. What Sphinx and pandas get wrong is mended by book/_ext/tidy_html.py."""
    config = ROOT / "tools" / "npm" / "htmlvalidate.json"
    pages = sorted(str(path) for path in html.glob("*.html"))
    command = [str(node / ".bin" / "html-validate"), "--config", str(config), "--formatter", "json", *pages]
    done = subprocess.run(command, capture_output=True, text=True)
    found = [
        f"{Path(report['filePath']).name}:{message['line']}: {message['ruleId']}: {message['message']}"
        for report in json.loads(done.stdout)
        for message in report["messages"]
    ]
    assert not found, "\n".join(found[:40])


def test_everything_is_reached_with_the_keyboard_alone(opened, html: Path):
    """The first tab skips to the content; further ones reach each row of the map and each card, visibly."""
    page = opened((html / "index.html").as_uri())
    page.keyboard.press("Tab")
    assert "Skip to main content" in page.evaluate("document.activeElement.textContent")
    reached = []
    for _ in range(120):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                """() => {
                  const e = document.activeElement;
                  const seen = e.matches('.model-map a') ? e.querySelector('.map-row') : e;
                  const style = getComputedStyle(seen);
                  const marked = style.outlineStyle !== 'none' || style.boxShadow !== 'none' || style.strokeWidth > '1';
                  return [e.getAttribute('href') ?? '', marked, e.closest('article') !== null];
                }"""
            )
        )
    inside = [(target, marked) for target, marked, in_article in reached if in_article and target]
    wanted = page.evaluate(
        "[...document.querySelectorAll('.model-map a, a.chapter-title')].map(a => a.getAttribute('href'))"
    )
    assert set(wanted) <= {target for target, _ in inside}
    assert all(marked for _, marked in inside), "focus is not visible"


def test_a_term_explains_itself_to_mouse_keyboard_and_finger(opened, html: Path):
    address = (html / "05_attention.html").as_uri()
    page = opened(address)
    card = page.locator("#definition-card")
    term = page.locator("article a.defined-term").first
    term.hover()
    assert card.is_visible()
    assert term.get_attribute("aria-describedby") == "definition-card"
    page.keyboard.press("Escape")
    assert card.is_hidden()
    term.focus()
    assert card.is_visible()
    formula = page.locator("article div.math[data-symbols]").first
    formula.focus()
    assert "All symbols" in card.inner_text()
    assert card.locator("mjx-container").count() > 0
    phone = opened(address, PHONE, has_touch=True, is_mobile=True)
    phone.locator("article a.defined-term").first.tap()
    assert phone.url == address
    card = phone.locator("#definition-card")
    assert card.is_visible()
    box = card.bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= PHONE["width"]
    card.locator("a").tap()
    phone.wait_for_url("**/glossary.html#*")


def test_a_card_brings_its_formulas_along(opened, html: Path):
    """A page without a formula has no MathJax until the card of a term has one."""
    page = opened((html / "index.html").as_uri())
    assert page.evaluate("window.MathJax === undefined")
    page.locator("article a.defined-term", has_text="behavior").first.focus()
    card = page.locator("#definition-card")
    card.locator("mjx-container").first.wait_for()
    assert r"\(" not in card.inner_text()


@pytest.mark.parametrize("name", PAGES)
def test_a_phone_has_little_to_lay_out_and_a_page_does_not_jump(browser: Browser, html: Path, name: str):
    """Counted, not timed: seconds would be this machine's, and of whatever else it does."""
    context = browser.new_context(viewport=PHONE)  # type: ignore[arg-type]
    page = context.new_page()
    page.add_init_script(
        "window.jumps = 0; new PerformanceObserver(list => { for (const e of list.getEntries())"
        " if (!e.hadRecentInput) window.jumps += e.value; }).observe({type: 'layout-shift', buffered: true});"
    )
    session = context.new_cdp_session(page)
    session.send("Performance.enable")
    page.goto((html / f"{name}.html").as_uri(), wait_until="domcontentloaded")
    done = {metric["name"]: metric["value"] for metric in session.send("Performance.getMetrics")["metrics"]}
    shown = page.evaluate("document.querySelectorAll('*:not(details:not([open]) > :not(summary) *)').length")
    if "MathJax" in page.content():
        page.wait_for_function("() => window.MathJax?.startup?.promise")
        page.evaluate("() => MathJax.startup.promise")
    page.wait_for_timeout(200)
    jumps = page.evaluate("window.jumps")
    context.close()
    assert shown < MOST_ELEMENTS
    assert done["LayoutCount"] < MOST_LAYOUTS
    assert jumps < JUMP


def test_the_pdf_holds_the_whole_book(html: Path):
    path = html / "downloads" / f"{NAME}.pdf"
    reader = PdfReader(path)
    assert len(reader.pages) > 5 * len(PROJECT.toc())
    text = " ".join(page.extract_text() for page in reader.pages)
    for title in ("Attention over Behaviors", "Self-attention", "Notation", "Results ledger"):
        assert title in text
    assert reader.outline
    sizes: Counter[float] = Counter()

    def count(text: str, cm: list[float], tm: list[float], font: object, size: float) -> None:
        sizes[round(abs(size * tm[3] * cm[3]))] += len(text.strip())

    reader.pages[0].extract_text(visitor_text=count)
    assert sizes.most_common(1)[0][0] == 10, "something is wider than the paper: Chromium prints the book smaller"
    links = [link.get_object() for page in reader.pages for link in page.get("/Annots", [])]
    assert "Solution to" not in text
    solutions = PdfReader(path.with_stem(f"{NAME}-solutions"))
    solved = " ".join(page.extract_text() for page in solutions.pages)
    assert solved.count("Solution to Exercise") == sum(
        page.read_text().count('<div class="solution ') for page in html.glob("*.html")
    )
    targets = [link["/A"]["/URI"] for link in links if "/URI" in link.get("/A", {})]
    assert targets
    assert not [target for target in targets if not target.startswith("http")]


def test_the_epub_is_well_formed_and_needs_no_script(html: Path):
    (path,) = (html / "downloads").glob("*.epub")
    with zipfile.ZipFile(path) as archive:
        assert archive.infolist()[0].filename == "mimetype"
        names = set(archive.namelist())
        for page in PROJECT.toc():
            assert f"{page}.xhtml" in names
        pages = {name: archive.read(name).decode() for name in names if name.endswith(".xhtml")}
    parsed = {name: ElementTree.fromstring(text) for name, text in pages.items()}
    linked = {element.get("href") for element in parsed["nav.xhtml"].iter() if element.get("href")}
    assert linked == {f"{page}.xhtml" for page in PROJECT.toc()}
    ids = {name: [element.get("id") for element in tree.iter() if element.get("id")] for name, tree in parsed.items()}
    for name, tree in parsed.items():
        assert len(ids[name]) == len(set(ids[name])), name
        for element in tree.iter():
            target, _, anchor = (element.get("href") or element.get("src") or "").partition("#")
            if not target.startswith(("http", "mailto:")):
                assert not target or target in names, f"{name} asks for {target}"
                assert not anchor or anchor in ids[target or name], f"{name} points to {target}#{anchor}"
    for name, text in pages.items():
        assert "<script" not in text, name
        assert "Solution to" not in text, name
        assert r"\(" not in text, name
    assert "<math" in pages["05_attention.xhtml"]


def test_the_zip_holds_pages_notebooks_and_sources(html: Path):
    (path,) = (html / "downloads").glob("*.zip")
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        names = {name.split("/", 1)[1] for name in archive.namelist()}
    for page in PROJECT.toc():
        assert f"site/{page}.html" in names
    for chapter in PROJECT.chapters():
        assert {f"notebooks/{chapter.stem}.ipynb", f"book/{chapter.name}"} <= names
    assert "atrank_lib/model.py" in names


def test_the_cover_offers_the_whole_book(html: Path):
    cover = (html / "index.html").read_text()
    for file in (html / "downloads").iterdir():
        assert f'href="downloads/{file.name}"' in cover
        assert file.stat().st_size > 100_000
