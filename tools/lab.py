"""The chapters in JupyterLab as readers see them: `make lab`. What is saved there is written to `book/NAME.py`.

The notebooks lie in `_build/lab`. Each is made from its chapter when it is opened, and keeps the outputs of what was
run in it. An edit that cannot be taken back to the chapter is refused with a message, and stays in the browser.
"""

from __future__ import annotations

import argparse
import os
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import nbformat
from jupyter_server.services.contents.largefilemanager import LargeFileManager
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell
from tornado.web import HTTPError

from atrank_lib.log.writing import write_text
from tools.execute import Run, execute_book
from tools.labels import Labels
from tools.notebooks import executed, notebook_of, plain_of, show, write_notebook
from tools.plain_markdown import Plain
from tools.project import ROOT, BookError, Project
from tools.taking_back import own, read, take_back

ABOUT = (
    "> Shown from `book/{name}.py`, in which what you save here is written; `git restore book/{name}.py` takes it "
    'back. `make lab` has installed the library; elsewhere, `pip install ".[book]"` in the folder of the book\'s '
    "sources does. Numbers in the text are those of the last `make book`."
)
NOT_YET = "(a number that `make book` has yet to find)"
KEY = "atrank_book"  # of a notebook's metadata: from what it was made


class ChapterManager(LargeFileManager):
    """Notebooks of chapters, as Jupyter's server reads and saves them; all other files are as they are."""

    project: Project = Project.at(ROOT)
    labels: tuple[str, Labels] | None = None

    def get(self, path: str, content: bool = True, *args: Any, **options: Any) -> dict[str, Any]:
        """A file; a chapter's notebook is made anew where the chapter, or a number that it quotes, has changed."""
        name = self.chapter(path)
        if name and content:
            try:
                self.refresh(name)
            except BookError as error:
                raise HTTPError(409, f"{error}") from error
        model: dict[str, Any] = super().get(path, content, *args, **options)
        return model

    def save(self, model: dict[str, Any], path: str = "") -> dict[str, Any]:
        """Save a file; of a chapter's notebook, take back the edits first."""
        name = self.chapter(path)
        if name and model.get("type") == "notebook" and model.get("content"):
            try:
                self.take_back(name, model["content"])
            except BookError as error:
                raise HTTPError(409, f"book/{name}.py is not changed: {error}") from error
        saved: dict[str, Any] = super().save(model, path)
        return saved

    def chapter(self, path: str) -> str:
        """The chapter that a notebook shows, or ""."""
        file = Path(path.strip("/"))
        shows = file.suffix == ".ipynb" and len(file.parts) == 1 and self.source(file.stem).is_file()
        return file.stem if shows else ""

    def source(self, name: str) -> Path:
        return self.project.book / f"{name}.py"

    def notebook(self, name: str) -> Path:
        return self.project.build / "lab" / f"{name}.ipynb"

    def plain(self, name: str) -> Plain:
        """How the texts of a chapter are shown; links lead to the other chapters."""
        files = [*self.project.book.glob("*.py"), *self.project.book.glob("*.md")]
        stamp = repr(sorted((str(file), file.stat().st_mtime_ns) for file in files))
        if self.labels is None or self.labels[0] != stamp:
            self.labels = stamp, Labels.of(self.project)
        beside = [chapter.stem for chapter in self.project.chapters()]
        return plain_of(self.project, self.labels[1], name, beside, unknown=NOT_YET)

    def refresh(self, name: str) -> None:
        """Make a chapter's notebook, unless it shows what it should."""
        text, path = self.source(name).read_text(encoding="utf-8"), self.notebook(name)
        saved = nbformat.read(path, as_version=4) if path.is_file() else None
        chapter = read(text)
        if (self.project.notebooks / f"{name}.ipynb").is_file():
            with_outputs(chapter, executed(self.project, name))
        shown = show(chapter, self.plain(name))
        about = new_markdown_cell(ABOUT.format(name=name), id="lab")
        made = notebook_of([about, *(one.cell for one in shown)])
        if saved is not None:
            same = [cell.source for cell in saved.cells] == [cell.source for cell in made.cells]
            if same and saved.metadata.get(KEY, {}).get("source") == digest(text):
                return
            with_outputs(made, saved)
        names = {one.cell.id: one.cell.id for one in own(shown)}
        made.metadata[KEY] = {"source": digest(text), "names": names, "made": uuid4().hex}
        self.notary.sign(made)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_notebook(made, path)

    def take_back(self, name: str, content: dict[str, Any]) -> None:
        """Write what was edited to the chapter, and note in `content` what it shows now."""
        source, edited = self.source(name), nbformat.from_dict(content)
        text, saved = source.read_text(encoding="utf-8"), nbformat.read(self.notebook(name), as_version=4)
        base = saved.metadata.get(KEY, {})
        if edited.metadata.get(KEY, {}).get("made") != base.get("made") or not base.get("names"):
            raise BookError("this notebook was made anew meanwhile: keep what you typed, and reload it from disk")
        if base["source"] != digest(text):
            raise BookError("it was changed elsewhere meanwhile: keep what you typed, and reload this from disk")
        renewed, names = take_back(text, edited, saved, base["names"], self.plain(name))
        if renewed != text:
            write_text(source, renewed)
        content["metadata"][KEY] = {"source": digest(renewed), "names": names, "made": base["made"]}


def digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def with_outputs(notebook: NotebookNode, other: NotebookNode) -> None:
    """Give cells the outputs that the same code has in another notebook."""
    found: dict[str, list[NotebookNode]] = {}
    for cell in other.cells:
        if cell.cell_type == "code":
            found.setdefault(cell.source, []).append(cell)
    for cell in notebook.cells:
        if cell.cell_type == "code" and found.get(cell.source):
            same = found[cell.source].pop(0)
            cell["outputs"], cell["execution_count"] = same.outputs, same.execution_count


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("options", nargs="*", help="passed on to `jupyter lab`, after --")
    options = parser.parse_args().options
    manager = ChapterManager()
    project = manager.project
    names = [chapter.stem for chapter in project.chapters()]
    if not all((project.notebooks / f"{name}.ipynb").is_file() for name in names):
        print("executing the chapters once: the numbers in their texts come from there", flush=True)
        with project.lock():
            print("\n".join(execute_book(Run(project, "fast", None, os.cpu_count() or 1))[1]))
    for name in names:
        try:
            manager.refresh(name)
        except BookError as error:
            print(f"{error}\nno notebook of it is made.", file=sys.stderr)
    folder = project.build / "lab"
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    command = [
        *(sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder}"),
        "--ServerApp.contents_manager_class=tools.lab.ChapterManager",
        "--ServerApp.jpserver_extensions=jupytext=False",  # it would put a manager of its own around ours
        *options,
    ]
    os.chdir(folder)
    os.execv(sys.executable, command)


if __name__ == "__main__":
    sys.exit(main())
