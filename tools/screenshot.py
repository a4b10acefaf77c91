"""Take the picture of a page that README.md shows: python -m tools.screenshot 04_projection --scroll 1830."""

from __future__ import annotations

import argparse
import os
import shutil

from playwright.sync_api import sync_playwright

from tools.project import ROOT, Project


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", nargs="?", default="01_behaviors", help="name of a built page")
    parser.add_argument("--scroll", type=int, default=0, help="pixels down the page")
    options = parser.parse_args()
    page_file = Project.at(ROOT).html / f"{options.page}.html"
    with sync_playwright() as playwright:
        chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(page_file.as_uri())
        page.evaluate("() => window.MathJax?.startup?.promise")
        page.evaluate("y => window.scrollTo(0, y)", options.scroll)
        page.wait_for_timeout(500)
        page.screenshot(path=ROOT / "book" / "_static" / "screenshot.png")
        browser.close()


if __name__ == "__main__":
    main()
