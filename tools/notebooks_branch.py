"""Write the branch that the launch buttons point to: the executed notebooks, and what Binder and Colab install.

The folder `_build/notebooks-branch` is the whole branch. Its notebooks begin with a cell that installs the package at
the commit they were executed with, where it is not installed yet.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell

from atrank_lib.log.writing import writing_folder
from experiments.provenance import commit
from tools.build import settings
from tools.project import ROOT, BookError, Project


def install_cell(requirement: str) -> str:
    return (
        "# On Colab this installs the book's package; elsewhere it is there already.\n"
        "import importlib.util\n\n"
        'if importlib.util.find_spec("atrank_lib") is None:\n'
        f'    %pip install -q "{requirement}"'
    )


def write_branch(project: Project, repository: str) -> Path:
    """Write the folder anew and return it."""
    config = settings(project, repository=repository)["repository"]
    if not config["url"]:
        raise BookError("no repository is configured: set repository.url in _config.yml, or REPOSITORY=https://...")
    at = commit(project.root)
    if not at.isalnum():
        raise BookError(f"the notebooks would install the package at {at!r}: commit your changes first")
    requirement = f"atrank_lib[book] @ git+{config['url']}@{at}"
    target = project.build / "notebooks-branch"
    with writing_folder(target, overwrite=True) as folder:
        for chapter in project.chapters():
            notebook = nbformat.read(project.notebooks / f"{chapter.stem}.ipynb", as_version=4)
            cell = new_code_cell(install_cell(requirement), metadata={"tags": ["remove-cell"]})
            cell["id"] = "install"
            notebook.cells.insert(0, cell)
            nbformat.write(notebook, folder / f"{chapter.stem}.ipynb")
        (folder / "requirements.txt").write_text(f"-c constraints.txt\n{requirement}\n")
        shutil.copyfile(project.root / "constraints.txt", folder / "constraints.txt")
        (folder / "runtime.txt").write_text("python-3.11\n")
        (folder / "README.md").write_text(
            f"The executed notebooks of {config['url']}, written by its workflow: change the chapters there.\n"
        )
    return target


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=ROOT, help="the book's checkout")
    parser.add_argument("--build", type=Path, help="folder for everything generated (default: ROOT/_build)")
    parser.add_argument("--repository", default="", help="https://HOST/OWNER/NAME: overrides _config.yml")
    options = parser.parse_args()
    try:
        print(write_branch(Project.at(options.root, options.build), options.repository))
    except BookError as error:
        print(f"{error}\nno branch is written.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
