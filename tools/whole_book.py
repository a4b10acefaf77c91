"""Make the whole book to take along, PDF, EPUB and ZIP, and a site that offers them: `make book-all`."""

from __future__ import annotations

import argparse
import html
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from xml.etree import ElementTree

from bs4 import BeautifulSoup, Tag
from latex2mathml.converter import convert
from playwright.sync_api import sync_playwright

from atrank_book.colors import LIGHT
from atrank_lib.log.writing import writing_folder
from tools.build import build_site, run_sphinx, settings
from tools.project import ROOT, BookError, Project

NAME = "attention-over-behaviors"
ZIP_DATE = (2026, 1, 1, 0, 0, 0)
FORMULA = re.compile(r'<(span|div) class="math notranslate nohighlight"([^>]*)>(.*?)</\1>', re.S)
TEX = re.compile(r"\\\((.*)\\\)|\\\[(.*)\\\]", re.S)
VARIABLE = re.compile(r"var\(--([\w-]+)\)")  # of CSS, which readers of EPUB do not know
EPUB = {
    "version": "1",
    "epub_basename": NAME,
    "epub_identifier": NAME,
    "epub_uid": "book",
    "epub_show_urls": "no",
    "epub_tocdepth": 2,
    "epub_tocscope": "includehidden",  # all of `_toc.yml`: the cover shows it as cards
    "html_theme": "epub",
}
EPUB_STYLE = Path(__file__).with_name("epub.css")
PRINTED_WIDTH = 657  # pixels: A4 without its margins
# One thing that is wider than the paper makes Chromium print the whole book smaller.
FIT_TABLES = """() => {
  for (const table of document.querySelectorAll("main table")) {
    const fits = table.parentElement.clientWidth / table.scrollWidth;
    if (fits < 1) table.style.zoom = fits * 0.99;
  }
}"""
SOURCES = ("README.md", "LICENSE", "LICENSE-PROSE", "pyproject.toml", "constraints.txt", "environment.yml", "Makefile")


def soup(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(), "html.parser")


def single_page(project: Project, *, solutions: bool = False) -> str:
    """All pages of the site as one, in the order of `_toc.yml`, with links that stay inside it; or their solutions."""
    names = project.toc()
    pages = [soup(project.html / f"{name}.html") for name in names]
    # A page without formulas, as the cover is, comes without MathJax.
    shell = next((page for page in pages if page.find("script", src=re.compile("mathjax"))), pages[0])
    cover, head, body, root = pages[0].title, shell.head, shell.body, shell.html
    if cover is None or head is None or head.title is None or body is None or root is None:
        raise BookError(f"{names[0]}.html is no page of HTML")
    head.title.string = title = cover.text.split(" — ")[0]
    articles = [page.select_one("article.bd-article") for page in pages]
    body.clear()
    main = shell.new_tag("main", attrs={"class": "bd-main"})
    body.append(main)
    for name, article in zip(names, articles, strict=True):
        if article is None:
            raise BookError(f"{name}.html has no article: its theme has changed, and tools/whole_book.py must follow")
        solved = [solution.extract() for solution in article.select("div.solution")]
        if solutions:
            if not solved:
                continue
            root["class"] = "with-solutions"  # which book.css leaves out of what is printed
            head.title.string = f"{title}: solutions to the exercises"
            article = only(article, solved)
        inside_one_page(article, name, names)
        main.append(article)
    return str(shell)


def only(article: Tag, solutions: list[Tag]) -> Tag:
    """The title of a chapter and its solutions; what they point to lies in the book."""
    title = article.select_one("h1")
    article.clear()
    for part in filter(None, [title, *solutions]):
        article.append(part)
    ids = {element["id"] for element in article.find_all(id=True)}
    for link in article.find_all("a", href=True):
        if not str(link["href"]).startswith("http") and str(link["href"]).lstrip("#") not in ids:
            link.unwrap()
    return article


def inside_one_page(article: Tag, name: str, names: list[str]) -> None:
    """Give ids and links of one page names that are unique in the whole book; open what is folded."""
    article["id"] = f"page-{name}"
    for element in article.find_all(id=True):
        if not element.find_parent("svg") and element.name != "svg":
            element["id"] = f"{name}--{element['id']}"
    for link in article.find_all(href=True):
        target, _, anchor = str(link["href"]).partition("#")
        page = target.removesuffix(".html") if target else name
        if page in names and (not target or target.endswith(".html")):
            link["href"] = f"#{page}--{anchor}" if anchor else f"#page-{page}"
        elif not target.startswith("http"):
            del link["href"]
    for folded in article.find_all("details"):
        folded["open"] = ""
    for extra in article.select("a.headerlink, script, .figure-dark"):
        extra.decompose()
    for image in article.find_all("img", loading=True):
        del image["loading"]


def write_pdf(project: Project, target: Path, page_text: str) -> None:
    """Print a page of the whole book with Chromium: with an outline, tags for screen readers, and page numbers."""
    executable = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if not executable:
        raise BookError("no Chromium here, which prints the PDF: apt-get install chromium, or set CHROMIUM")
    page_file = project.html / "_whole_book.html"
    page_file.write_text(page_text)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
            page = browser.new_page(viewport={"width": PRINTED_WIDTH, "height": 930}, color_scheme="light")
            page.emulate_media(media="print")
            page.goto(page_file.as_uri(), timeout=120_000)
            page.evaluate("() => window.MathJax?.startup?.promise")
            page.evaluate("document.documentElement.dataset.theme = 'light'")
            page.evaluate(FIT_TABLES)
            footer = '<div style="font-size:8px;width:100%;text-align:center"><span class="pageNumber"></span></div>'
            page.pdf(
                path=target, format="A4", outline=True, tagged=True, print_background=True,
                display_header_footer=True, header_template="<span></span>", footer_template=footer,
                margin={"top": "18mm", "bottom": "18mm", "left": "18mm", "right": "18mm"},
            )  # fmt: skip
            browser.close()
    finally:
        page_file.unlink()


def mathml(match: re.Match[str]) -> str:
    """A formula as MathML, which readers of EPUB draw without a script."""
    tex = TEX.search(match[3])
    if not tex:
        return match[0]
    display = "inline" if tex[1] else "block"
    number = re.search(r'<span class="eqno">\s*(\([\d.]+\))', match[3])
    formula = convert(html.unescape(tex[1] or tex[2]).strip(), display=display)
    label = f'<span class="eqno">{number[1]}</span>' if number else ""
    return f"<{match[1]}{match[2]}>{label}{formula}</{match[1]}>"


def well_formed(text: str, files: set[str]) -> str:
    """A page of an e-book as XML: every element closed, nothing folded, links to `files` of the book.

    Without scripts and, as in print, without solutions.
    """
    page = BeautifulSoup(text, "html.parser")
    for element in page.select("script, details.hide > summary, div.solution"):
        element.decompose()
    for style in page.find_all("link", rel="stylesheet"):
        if style["href"] not in files:
            style.decompose()
    for link in page.find_all("a", href=True):
        target, mark, anchor = str(link["href"]).partition("#")
        if target not in files and f"{target.removesuffix('.html')}.xhtml" in files:
            link["href"] = f"{target.removesuffix('.html')}.xhtml{mark}{anchor}"
    for code in page.select("details.hide"):
        code.name, code["class"] = "div", "hidden-code"
    for folded in page.find_all("details"):
        folded["open"] = "open"
    for drawing in page.find_all(viewbox=True):  # this parser knows small letters only
        drawing["viewBox"] = drawing.attrs.pop("viewbox")
    body = re.sub(r"^\s*<!DOCTYPE[^>]*>", "", page.decode(formatter="minimal")).replace("\x0c", "")
    body = VARIABLE.sub(lambda match: LIGHT.get(match[1], match[0]), body)
    text = f"<!DOCTYPE html>\n{body.strip()}\n"
    ElementTree.fromstring(text)  # raises where it is not
    return text


def write_epub(project: Project, target: Path) -> None:
    """Build an EPUB with formulas in MathML."""
    config = settings(project)
    config["sphinx"]["config"] |= EPUB | {"epub_description": config["project"]}
    with tempfile.TemporaryDirectory(prefix="epub-", dir=project.build) as name:
        book = run_sphinx(project, Path(name), config, "epub")
        listed = {str(item.get("href")) for item in ElementTree.parse(book / "content.opf").iter() if item.get("href")}
        for page in sorted(book.glob("*.xhtml")):
            if page.name != "nav.xhtml":
                page.write_text(well_formed(FORMULA.sub(mathml, page.read_text()), listed))
        with (book / "_static" / "epub.css").open("a") as style:
            style.write(EPUB_STYLE.read_text())
        files = [book / "META-INF" / "container.xml", book / "content.opf", *(book / href for href in listed)]
        with zipfile.ZipFile(target, "w") as archive:
            add(archive, "mimetype", b"application/epub+zip", zipfile.ZIP_STORED)
            for file in sorted(set(files)):
                add(archive, file.relative_to(book).as_posix(), file.read_bytes())


def add(archive: zipfile.ZipFile, name: str, content: bytes, how: int = zipfile.ZIP_DEFLATED) -> None:
    archive.writestr(zipfile.ZipInfo(name, ZIP_DATE), content, how)


def write_zip(project: Project, target: Path) -> None:
    """Pages, the notebooks that they offer, and what they are made from."""
    folders = [("site", project.html)]
    names = ("book", "atrank_lib", "data_scripts", "experiments", "results", "tools")
    sources = [(name, project.root / name) for name in names]
    with zipfile.ZipFile(target, "w") as archive:
        for place, folder in [*folders, *sources]:
            for file in sorted(path for path in folder.rglob("*") if path.is_file()):
                inside = file.relative_to(folder)
                if not {"__pycache__", "downloads", ".ipynb_checkpoints"} & set(inside.parts):
                    add(archive, f"{NAME}/{place}/{inside.as_posix()}", file.read_bytes())
        for notebook in sorted((project.html / "_sources").glob("*.ipynb")):
            add(archive, f"{NAME}/notebooks/{notebook.name}", notebook.read_bytes())
        for name in (*SOURCES, "_config.yml", "_toc.yml"):
            add(archive, f"{NAME}/{name}", (project.root / name).read_bytes())


def make_whole_book(project: Project, repository: str) -> list[Path]:
    """Build the site that offers the files, then the files; all of them or none."""
    print(build_site(project, settings(project, repository=repository, whole_book=True)))
    target = project.html / "downloads"
    with writing_folder(target, overwrite=True) as folder:
        write_pdf(project, folder / f"{NAME}.pdf", single_page(project))
        write_pdf(project, folder / f"{NAME}-solutions.pdf", single_page(project, solutions=True))
        write_epub(project, folder / f"{NAME}.epub")
        write_zip(project, folder / f"{NAME}.zip")
    return sorted(target.iterdir())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT, help="the book's checkout")
    parser.add_argument("--build", type=Path, help="folder for everything generated (default: ROOT/_build)")
    parser.add_argument("--repository", default="", help="https://HOST/OWNER/NAME: overrides _config.yml")
    options = parser.parse_args()
    project = Project.at(options.root, options.build)
    try:
        with project.lock():
            for file in make_whole_book(project, options.repository):
                print(f"{file}: {file.stat().st_size / 1e6:.1f} MB")
    except (BookError, subprocess.SubprocessError) as error:
        print(f"{error}\nthe whole book is not made.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
