"""Build the site from the executed notebooks into `_build/html`: warnings are errors, rebuilds identical."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

import atrank_book
from atrank_lib.runs import hardware
from experiments.provenance import commit
from tools.ledger import ledger_page, read_claims, title_of
from tools.project import COPIED, GENERATED, ROOT, BookError, Project, digest, environment

# Left behind by Sphinx, of no use to a reader: its caches, and a hash of its own settings.
LEFTOVERS = (".buildinfo", ".doctrees", "jupyter_execute")

MAKES_THE_SITE = ("build", "exercises", "labels", "ledger", "notebooks", "plain_markdown", "project", "rewriting")

EPOCH = str(int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()))


def write_ledger(project: Project) -> None:
    """Write ledger.md beside the notebooks."""
    notebooks = [project.notebooks / f"{chapter.stem}.ipynb" for chapter in project.chapters()]
    claims = [claim for notebook in notebooks for claim in read_claims(notebook)]
    titles = {notebook.stem: title_of(notebook) for notebook in notebooks}
    page = ledger_page(claims, titles, commit(project.root), hardware(), project.root / "results")
    (project.notebooks / "ledger.md").write_text(page)


def write_copied(project: Project) -> None:
    """Copy the pages that lie elsewhere beside the notebooks, those that the book has."""
    for name, source in COPIED.items():
        if name in project.toc():
            shutil.copyfile(project.root / source, project.notebooks / f"{name}.md")


def settings(project: Project, *, repository: str = "", whole_book: bool = False) -> dict[str, Any]:
    """`_config.yml` with the buttons that launch chapters, if it or the caller names a repository."""
    config: dict[str, Any] = yaml.safe_load((project.root / "_config.yml").read_text())
    repository = (repository or config["repository"]["url"] or "").rstrip("/")
    if repository and not re.fullmatch(r"https://[\w.-]+/[\w.-]+/[\w.-]+", repository):
        raise BookError(f"repository {repository!r}: write https://HOST/OWNER/NAME, in _config.yml or REPOSITORY=")
    config["repository"]["url"] = repository
    buttons = config.pop("launch_buttons")
    sphinx = config["sphinx"]
    if repository:  # as options of the theme, for those in _config.yml take the place of what Jupyter Book would set
        sphinx["config"]["html_theme_options"] |= {
            "repository_url": repository,
            "repository_branch": config["repository"]["branch"],
            "launch_buttons": buttons,
        }
    sphinx["config"]["whole_book"] = whole_book
    sphinx["local_extensions"] = {name: str(project.root / place) for name, place in sphinx["local_extensions"].items()}
    return config


def offer_notebooks(project: Project, html: Path, repository: str) -> None:
    """Put the notebooks that readers download in the place of those that the pages were made from."""
    from tools.notebooks import chapters_to_take, write_notebook  # here, as above

    for name, notebook in chapters_to_take(project, repository).items():
        write_notebook(notebook, html / "_sources" / f"{name}.ipynb")


def site_key(project: Project, config: dict[str, Any]) -> str:
    """What the site depends on, as one hash."""
    extensions = [path for path in (project.book / "_ext").glob("*.*") if path.suffix in (".py", ".js")]
    package = list((project.root / "atrank_lib").rglob("*.py"))  # its docstrings are the API reference
    copied = [path for path in map(project.root.joinpath, COPIED.values()) if path.is_file()]
    settings = [project.root / "_toc.yml", *copied, *extensions, *package]
    sources = project.chapters()  # offered beside their notebooks
    pages = [path for path in project.notebooks.rglob("*") if path.is_file() and path.stem not in GENERATED]
    provenance = (environment(), commit(project.root))
    tools, shown = Path(__file__).parent, Path(atrank_book.__file__).parent
    return digest(
        settings,
        project.root,
        *provenance,
        json.dumps(config | {"sphinx": config["sphinx"]["config"]}, sort_keys=True),
        digest(sources, project.root),
        digest(pages, project.notebooks),
        digest([shown / "colors.py"], shown),
        digest([tools / f"{name}.py" for name in MAKES_THE_SITE], tools),
    )


def run_sphinx(project: Project, staging: Path, config: dict[str, Any], builder: str = "html") -> Path:
    """Run Jupyter Book in an empty folder and return the folder of pages; BookError when it complains."""
    config_file = staging / "_config.yml"
    config_file.write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    custom = [] if builder == "html" else ["--builder", "custom", "--custom-builder", builder]
    # Collecting garbage takes a quarter of a build, and there is little of it.
    jupyter_book = "import gc; gc.disable(); from jupyter_book.cli.main import main; main()"
    command = [
        *(sys.executable, "-P", "-c", jupyter_book, "build", str(project.notebooks)),
        *("--config", str(config_file), "--toc", str(project.root / "_toc.yml")),
        *("--path-output", str(staging), "-W", "-n", "--keep-going", "-q", *custom),
    ]
    # A fixed hash seed and date: the same bytes in every build.
    variables = os.environ | {"PYTHONHASHSEED": "0", "SOURCE_DATE_EPOCH": EPOCH, "NO_COLOR": "1"}
    result = subprocess.run(command, env=variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if result.returncode:
        raise BookError(f"Jupyter Book refuses the pages:\n{result.stdout.strip()}")
    return staging / "_build" / builder


def build_site(project: Project, config: dict[str, Any]) -> str:
    """Build `_build/html` unless it is up to date; return what was done, never half of it."""
    project.check_toc()
    missing = [path.stem for path in project.chapters() if not (project.notebooks / f"{path.stem}.ipynb").exists()]
    if missing:
        raise BookError(f"not executed: {', '.join(missing)}: run `make book`")
    stamp = project.keys / "html"
    key = site_key(project, config)
    pages = [project.html / f"{name}.html" for name in project.toc()]
    if stamp.exists() and stamp.read_text() == key and all(page.is_file() for page in pages):
        return f"unchanged: {project.html / 'index.html'}"
    stamp.unlink(missing_ok=True)
    write_ledger(project)
    write_copied(project)
    with tempfile.TemporaryDirectory(prefix="site-", dir=project.build) as name:
        html = run_sphinx(project, Path(name), config)
        for leftover in LEFTOVERS:
            path = html / leftover
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        offer_notebooks(project, html, config["repository"]["url"])
        absent = [page.name for page in pages if not (html / page.name).is_file()]
        if absent:
            raise BookError(f"Jupyter Book built no page {', '.join(absent)}, though _toc.yml lists it")
        if project.html.exists():
            project.html.rename(Path(name) / "old")
        html.rename(project.html)
    stamp.write_text(key)
    return f"built {len(pages)} pages: {project.html / 'index.html'}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT, help="the book's checkout")
    parser.add_argument("--build", type=Path, help="folder for everything generated (default: ROOT/_build)")
    parser.add_argument("--repository", default="", help="https://HOST/OWNER/NAME: overrides _config.yml")
    options = parser.parse_args(arguments)
    project = Project.at(options.root, options.build)
    try:
        config = settings(project, repository=options.repository)
        with project.lock():
            print(build_site(project, config))
    except BookError as error:
        print(f"{error}\nno site is built.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
