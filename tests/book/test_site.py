"""The built site in a real browser, the network cut: from the disk, and from a server on this machine."""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Response, Route

from tests.book.chromium import CHROMIUM, DESKTOP, PHONE
from tools.project import ROOT, Project

PAGES = [*Project.at(ROOT).toc(), "search", "genindex"]
LAPTOP = {"width": 1366, "height": 768}
JUMP = 0.05  # cumulative layout shift
WATCH = """window.jumps = 0; new PerformanceObserver(list => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.jumps += entry.value;
}).observe({type: "layout-shift", buffered: true});"""
# What is wider than its place, with all that is folded opened.
OPEN = """document.querySelectorAll("details").forEach(element => element.open = true);
document.querySelectorAll(".toggle-hidden").forEach(element => element.classList.remove("toggle-hidden"));"""
WIDE_CODE = """[...document.querySelectorAll("article .cell_input pre")]
  .filter(pre => pre.scrollWidth > pre.clientWidth + 1).map(pre => pre.textContent.slice(0, 80))"""
CUT_FORMULAS = """[...document.querySelectorAll("article .math mjx-container[display=true] > svg")].filter(svg =>
  svg.getBoundingClientRect().width > svg.closest("div.math").clientWidth + 1
  || svg.getBoundingClientRect().right > svg.closest("div.math").getBoundingClientRect().right + 1
).map(svg => svg.closest("[id]")?.id)"""
WIDE_TABLES = """[...document.querySelectorAll("article table")].filter(table => {
  for (let box = table.parentElement; box.tagName !== "ARTICLE"; box = box.parentElement)
    if (getComputedStyle(box).overflowX === "auto") return false;
  return table.getBoundingClientRect().right > innerWidth;
}).length"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium, or set CHROMIUM")


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a request a page asks for is checked in the browser."""


@pytest.fixture(scope="session")
def addresses(project: Project) -> Iterator[dict[str, str]]:
    """Where the site is found: as files, and on a local server."""
    handler = functools.partial(QuietHandler, directory=str(project.html))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield {"file": project.html.as_uri(), "http": f"http://127.0.0.1:{server.server_port}"}
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Any]:
    """Open an address in a fresh context; the second value lists foreign or failed requests and errors."""
    contexts = []

    def visit(address: str, viewport: dict[str, int], scheme: str = "light") -> tuple[Page, list[str]]:
        context = browser.new_context(viewport=viewport, color_scheme=scheme)  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.add_init_script(WATCH)
        troubles: list[str] = []
        home = urlparse(address).netloc

        def only_home(route: Route) -> None:
            url = urlparse(route.request.url)
            if url.scheme in ("file", "data", "blob") or (url.scheme == "http" and url.netloc == home):
                route.continue_()
            else:
                troubles.append(f"asks another host: {route.request.url}")
                route.abort()

        def on_console(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                troubles.append(f"console {message.type}: {message.text}")

        def on_response(response: Response) -> None:
            if response.status >= 400:
                troubles.append(f"missing: {response.url}")

        page.route("**/*", only_home)
        page.on("console", on_console)
        page.on("pageerror", lambda error: troubles.append(f"script error: {error}"))
        page.on("requestfailed", lambda request: troubles.append(f"failed: {request.url}"))
        page.on("response", on_response)
        page.goto(address, wait_until="load")
        if "MathJax" in page.content():
            page.evaluate("() => MathJax.startup.promise")
        return page, troubles

    yield visit
    for context in contexts:
        context.close()


def shows_its_formulas(page: Page) -> None:
    assert page.locator("main h1:visible").count() >= 1
    formulas = page.locator(".math").count()
    assert page.locator(".math mjx-container").count() >= formulas
    text = page.locator("main").inner_text()
    for raw in (r"\(", r"\[", "$$", "{glue", "{eq}", "{cite"):
        assert raw not in text
    assert page.locator("mjx-merror").count() == 0


@pytest.mark.parametrize("name", PAGES)
def test_a_page_of_the_disk_loads_alone_and_on_a_phone_only_wide_things_scroll(visit, addresses, name: str):
    page, troubles = visit(f"{addresses['file']}/{name}.html", PHONE)
    shows_its_formulas(page)
    for alt, source, width in page.evaluate(
        """() => Promise.all([...document.querySelectorAll("article img")].map(async (image) => {
          image.loading = "eager"; // those of the other mode too
          await image.decode();
          return [image.alt, image.src, image.naturalWidth];
        }))"""
    ):
        assert len(alt) >= 20, source
        assert width > 0, f"{source} does not load"
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function(f"document.documentElement.dataset.theme === '{scheme}'", timeout=10_000)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert page.evaluate("window.jumps") < JUMP
    page.evaluate(OPEN)
    assert page.evaluate(CUT_FORMULAS) == []
    assert page.evaluate(WIDE_TABLES) == 0
    assert not troubles


@pytest.mark.parametrize("name", PAGES)
def test_a_page_of_a_server_loads_alone_and_dark(visit, addresses, name: str):
    page, troubles = visit(f"{addresses['http']}/{name}.html", LAPTOP, "dark")
    shows_its_formulas(page)
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.evaluate(OPEN)
    assert page.evaluate(WIDE_CODE) == []
    assert not troubles


@pytest.mark.parametrize("way", ["file", "http"])
def test_search_finds_sections_and_shows_a_line_of_each(visit, addresses, way: str):
    page, troubles = visit(f"{addresses[way]}/search.html?q=mask+padding", DESKTOP)
    hit = page.locator("#search-results li", has_text="What is not there").first
    hit.wait_for(timeout=10_000)
    assert hit.locator("a").get_attribute("href") == "05_attention.html#what-is-not-there"
    assert "Self-attention" in hit.locator(".search-page").inner_text()
    assert {"padding", "mask"} & {mark.lower() for mark in hit.locator("mark").all_inner_texts()}
    page.locator(".bd-search-container input").fill("zyzzyva")
    assert "No section" in page.locator("#search-results [role=status]").inner_text()
    page.locator(".bd-search-container input").fill("SelfAttention")
    assert page.locator("#search-results a[href='api_model.html#atrank_lib.attention.SelfAttention']").count() == 1
    assert not troubles


def test_the_ledger_finds_a_number_and_a_link_opens_its_group(visit, addresses):
    page, troubles = visit(f"{addresses['file']}/ledger.html", DESKTOP)
    assert page.evaluate("document.documentElement.scrollHeight") < 6_000
    assert page.locator("tr:visible").count() == 0
    page.locator("#ledger-field").focus()
    page.keyboard.type("self permutation_error")
    (line,) = page.locator("tbody tr:visible").all()
    assert "permutation_error" in line.inner_text()
    assert "1 of" in page.locator("#ledger-said").inner_text()
    name = line.locator("[id]").first.get_attribute("id")
    page, _ = visit(f"{addresses['file']}/ledger.html#{name}", DESKTOP)
    assert page.locator(f"[id='{name}']").is_visible()
    assert not troubles


def test_the_keyboard_is_seen_wherever_it_is(visit, addresses):
    page, _ = visit(f"{addresses['file']}/05_attention.html", DESKTOP)
    seen = set()
    for _ in range(120):
        page.keyboard.press("Tab")
        kind, marked = page.evaluate(
            """() => {
              const element = document.activeElement, style = getComputedStyle(element);
              const ring = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1;
              return [`${element.tagName} ${element.className}`, ring || style.boxShadow !== "none"];
            }"""
        )
        seen.add(kind.split()[0])
        assert marked, f"no ring: {kind}"
    assert {"A", "BUTTON", "SUMMARY"} <= seen


def test_a_printed_page_shows_its_code_and_no_solution(visit, addresses):
    page, _ = visit(f"{addresses['file']}/05_attention.html", DESKTOP)
    page.emulate_media(media="print")
    assert page.locator(".solution").count() > 3
    assert page.locator(".solution:visible").count() == 0
    assert page.locator(".exercise:visible").count() > 3


def test_a_chapter_can_be_downloaded_as_a_notebook(visit, addresses, project: Project):
    name = project.chapters()[0].stem
    page, _ = visit(f"{addresses['http']}/{name}.html", DESKTOP)
    link = page.locator("a[href$='.ipynb']").first.get_attribute("href")
    cells = json.loads((project.html / link).read_text())["cells"]
    assert "pip install" in "".join(cells[0]["source"])
    assert "{glue" not in json.dumps(cells)


def test_no_page_names_a_script_or_style_of_another_host(project: Project):
    """What the browser would ask for only on a click, or in another browser, counts too."""
    for path in project.html.rglob("*.html"):
        for line in Path(path).read_text().splitlines():
            if "<script" in line or "<link" in line or "<img" in line:
                for start in ('src="http', 'href="http', 'src="//', 'href="//'):
                    assert start not in line, f"{path.name}: {line.strip()[:200]}"
