"""The built site in a real browser, the network cut: from the disk, and from a server on this machine."""

from __future__ import annotations

import functools
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
        "[...document.querySelectorAll('article img')].map(image => [image.alt, image.src, image.naturalWidth])"
    ):
        assert len(alt) >= 20, source
        assert width > 0, f"{source} does not load"
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function(f"document.documentElement.dataset.theme === '{scheme}'", timeout=10_000)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert not troubles


@pytest.mark.parametrize("name", PAGES)
def test_a_page_of_a_server_loads_alone_and_dark(visit, addresses, name: str):
    page, troubles = visit(f"{addresses['http']}/{name}.html", DESKTOP, "dark")
    shows_its_formulas(page)
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert not troubles


@pytest.mark.parametrize("way", ["file", "http"])
def test_search_finds_a_page_without_a_network(visit, addresses, way: str):
    page, troubles = visit(f"{addresses[way]}/search.html?q=ledger", DESKTOP)
    page.locator("#search-results li a", has_text="Results ledger").first.wait_for(timeout=10_000)
    assert not troubles


def test_a_chapter_can_be_downloaded_as_a_notebook(visit, addresses, project: Project):
    name = project.chapters()[0].stem
    page, _ = visit(f"{addresses['http']}/{name}.html", DESKTOP)
    link = page.locator("a[href$='.ipynb']").first.get_attribute("href")
    assert (project.html / link).read_bytes() == (project.notebooks / f"{name}.ipynb").read_bytes()


def test_no_page_names_a_script_or_style_of_another_host(project: Project):
    """What the browser would ask for only on a click, or in another browser, counts too."""
    for path in project.html.rglob("*.html"):
        for line in Path(path).read_text().splitlines():
            if "<script" in line or "<link" in line or "<img" in line:
                for start in ('src="http', 'href="http', 'src="//', 'href="//'):
                    assert start not in line, f"{path.name}: {line.strip()[:200]}"
