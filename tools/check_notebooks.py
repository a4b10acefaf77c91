"""Run every downloaded notebook where only the built wheel is: `make check-notebooks`.

The libraries are those of this environment; our own packages come from a wheel that is built here, and the notebooks
run in a folder that holds nothing else.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tools.project import ROOT, Project

RUN = """
import sys, nbformat, atrank_book, atrank_lib, data_scripts, experiments
from nbclient import NotebookClient
for package in (atrank_book, atrank_lib, data_scripts, experiments):
    assert package.__file__.startswith(sys.prefix), f"{package.__file__} is not from the wheel"
notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=None, kernel_name="python3").execute()
"""


def build_wheel(root: Path, folder: Path) -> Path:
    """The wheel of a checkout, built from a copy of what git would give: nothing is left behind in `root`."""
    source = folder / "source"
    names = subprocess.run(
        ["git", "-C", str(root), "ls-files", "-co", "--exclude-standard", "-z"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\0")
    for name in filter(None, names):
        if (root / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((root / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run([*pip, "--wheel-dir", str(folder), str(source)], check=True, env=variables)
    return next(folder.glob("atrank_lib-*.whl"))


def fresh_environment(folder: Path, wheel: Path) -> Path:
    """A virtual environment with the wheel, which finds other libraries here; its Python."""
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    place = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    # A line of a .pth file adds a folder, but does not read the .pth files in it: no editable install comes along.
    libraries = [path for path in sys.path if Path(path).name == "site-packages"]
    (place / "libraries.pth").write_text("\n".join(libraries) + "\n")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", "--ignore-installed"]
    subprocess.run([*pip, str(wheel)], check=True)
    return python


def run_notebook(python: Path, notebook: Path, folder: Path) -> str:
    """Run a copy of a notebook in a folder of its own; what went wrong, or nothing."""
    (folder / "kernels" / "python3").mkdir(parents=True)
    (folder / "kernels" / "python3" / "kernel.json").write_text(
        f'{{"argv": ["{python}", "-m", "ipykernel_launcher", "-f", "{{connection_file}}"], "display_name": "Python 3", '
        '"language": "python"}'
    )
    work = folder / "work"
    work.mkdir()
    copy = work / notebook.name
    copy.write_bytes(notebook.read_bytes())
    variables = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "ATRANK_DATA_DIR")}
    variables |= {"OMP_NUM_THREADS": "1", "JUPYTER_PATH": str(folder), "IPYTHONDIR": str(folder), "TQDM_DISABLE": "1"}
    result = subprocess.run(
        [str(python), "-c", RUN, copy.name], cwd=work, env=variables, capture_output=True, text=True, check=False
    )
    return "" if result.returncode == 0 else result.stderr


def check_notebooks(project: Project, names: list[str], jobs: int) -> dict[str, str]:
    """The notebooks that fail, each with the end of what it said."""
    with tempfile.TemporaryDirectory(prefix="atrank-notebooks-") as name:
        folder = Path(name)
        python = fresh_environment(folder / "venv", build_wheel(project.root, folder))
        with ThreadPoolExecutor(jobs) as pool:
            running = {
                name: pool.submit(run_notebook, python, project.html / "_sources" / f"{name}.ipynb", folder / name)
                for name in names
            }
            failed = {}
            for name, future in running.items():
                said = future.result()
                print(f"{name}: {'FAILED' if said else 'runs'}", flush=True)
                if said:
                    failed[name] = "\n".join(said.strip().splitlines()[-15:])
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="chapters, such as 01_behaviors (default: all)")
    parser.add_argument("--root", type=Path, default=ROOT, help="the book's checkout")
    parser.add_argument("--build", type=Path, help="folder for everything generated (default: ROOT/_build)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="notebooks run at the same time")
    options = parser.parse_args()
    project = Project.at(options.root, options.build)
    names = options.names or [chapter.stem for chapter in project.chapters()]
    absent = [name for name in names if not (project.html / "_sources" / f"{name}.ipynb").is_file()]
    if absent:
        print(f"the site offers no notebook {', '.join(absent)}: run `make book`", file=sys.stderr)
        return 1
    failed = check_notebooks(project, names, options.jobs)
    for name, said in failed.items():
        print(f"\n{name}.ipynb does not run outside the checkout:\n{said}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
