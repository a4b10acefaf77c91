"""Write the branch that the launch buttons point to: the notebooks as readers get them, and what Binder installs.

The folder `_build/notebooks-branch` is the whole branch. Its notebooks begin with a cell that installs the package at
the commit they were executed with, where it is not installed yet.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from atrank_lib.log.writing import writing_folder
from experiments.provenance import commit
from tools.build import settings
from tools.notebooks import chapters_to_take, requirement, write_notebook
from tools.project import ROOT, BookError, Project


def write_branch(project: Project, repository: str) -> Path:
    """Write the folder anew and return it."""
    config = settings(project, repository=repository)["repository"]
    if not config["url"]:
        raise BookError("no repository is configured: set repository.url in _config.yml, or REPOSITORY=https://...")
    at = commit(project.root)
    if not at.isalnum():
        raise BookError(f"the notebooks would install the package at {at!r}: commit your changes first")
    target = project.build / "notebooks-branch"
    with writing_folder(target, overwrite=True) as folder:
        for name, notebook in chapters_to_take(project, config["url"]).items():
            write_notebook(notebook, folder / f"{name}.ipynb")
        (folder / "requirements.txt").write_text(f"-c constraints.txt\n{requirement(project, config['url'])}\n")
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
