"""Where things are, and what counts as a change."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[1]
# pages that are written for those who see the repository, and shown in the book too
COPIED = {"changelog": "CHANGELOG.md", "protocol": "experiments/PROTOCOL.md"}
GENERATED = {"ledger", *COPIED}  # pages without a source in book/
SECONDS = Path("results", "speed", "chapters.json")  # what each chapter takes: written by tools.chapter_times


class BookError(Exception):
    """What stops the book: the message names the place, the value and the remedy."""


@dataclass(frozen=True)
class Project:
    """The folders of one book. `build` is where everything generated goes."""

    root: Path
    build: Path

    @classmethod
    def at(cls, root: Path, build: Path | None = None) -> Project:
        root = root.resolve()
        return cls(root, build.resolve() if build else root / "_build")

    @property
    def book(self) -> Path:
        return self.root / "book"

    @property
    def notebooks(self) -> Path:
        """Executed notebooks and pages: what Jupyter Book reads."""
        return self.build / "notebooks"

    @property
    def html(self) -> Path:
        return self.build / "html"

    @property
    def keys(self) -> Path:
        """One file a chapter, saying from which inputs its notebook came."""
        return self.build / "keys"

    def chapters(self) -> list[Path]:
        return sorted(self.book.glob("*.py"))

    def sources(self) -> list[Path]:
        """What every chapter depends on besides itself: library, scripts, recorded results, versions."""
        found = [
            path
            for folder in ("atrank_lib", "book/atrank_book", "data_scripts", "experiments", "results")
            for path in (self.root / folder).rglob("*")
            if path.is_file() and path != self.root / SECONDS and not _cached(path.relative_to(self.root))
        ]
        return [*found, self.root / "constraints.txt"]

    def toc(self) -> list[str]:
        """Names of all pages in `_toc.yml`, the root page first."""

        def walk(node: object) -> Iterator[str]:
            if isinstance(node, dict):
                for key, value in node.items():
                    if key in ("root", "file"):
                        yield str(value)
                    else:
                        yield from walk(value)
            elif isinstance(node, list):
                for item in node:
                    yield from walk(item)

        return list(walk(yaml.safe_load((self.root / "_toc.yml").read_text())))

    def check_toc(self) -> None:
        """Raise BookError unless `_toc.yml` and `book/` list the same pages."""
        listed = set(self.toc())
        chapters = {path.stem for path in self.chapters()}
        present = chapters | {path.stem for path in self.book.glob("*.md")} | GENERATED
        for name in sorted(listed - present):
            raise BookError(
                f"_toc.yml lists {name!r}, but book/ holds neither {name}.py nor {name}.md: add or unlist it"
            )
        for name in sorted(chapters - listed):
            raise BookError(f"book/{name}.py is not listed in _toc.yml: add it, or no reader will find it")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Two builds into one folder wait for each other."""
        self.build.mkdir(parents=True, exist_ok=True)
        with FileLock(self.build / ".lock"):
            yield


def _cached(path: Path) -> bool:
    """What Python and ruff leave behind."""
    return any(part == "__pycache__" or part.startswith(".") for part in path.parts)


def recorded_seconds(project: Project) -> dict[str, float]:
    """What each chapter took when it was measured; empty where nobody measured."""
    record = project.root / SECONDS
    return dict(json.loads(record.read_text())["seconds"]) if record.is_file() else {}


def digest(files: Iterable[Path], root: Path, *values: str) -> str:
    """SHA-256 over the names below `root` and contents of `files`, and over `values`."""
    total = hashlib.sha256(repr(values).encode())
    for path in sorted(files):
        with path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        total.update(f"{path.relative_to(root).as_posix()} {content}\n".encode())
    return total.hexdigest()


@functools.cache
def environment() -> str:
    """Python and every installed package with its version: part of what an output depends on."""
    packages = {f"{d.metadata['Name']}=={d.version}" for d in importlib.metadata.distributions()}
    return "\n".join([platform.python_version(), platform.machine(), *sorted(packages)])
