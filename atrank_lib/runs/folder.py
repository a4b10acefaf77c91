"""A run's folder: locked while it is trained in, and looked into before anything is written to it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

LOCK = ".lock"
MADE = ("config.json", "vocabularies.json", "metrics.json", "model.safetensors", "checkpoints")
# as log.writing names them
_UNFINISHED = re.compile(r"\.(" + "|".join([*map(re.escape, MADE), r"epoch-\d+"]) + r")\.[0-9a-f]{12}")


class RunError(ValueError):
    """A run folder cannot be used as asked."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make a folder, and keep all others from training in it, until the block ends or this process does.

    The lock is the operating system's: no lock outlives its process. Folders that were made here and are empty at the
    end are removed, so a start that fails leaves no trace.

    Raises:
        RunError: another process trains in the folder.
        OSError: the folder cannot be made or written to.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    lock = FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(blocking=False)
        except (Timeout, FileNotFoundError):  # not found: the other one has just failed, and removed the folder
            raise RunError(
                f"another process trains in {folder}; wait for it, and then resume the run, or choose another folder"
            ) from None
        try:
            yield
        finally:
            with suppress(OSError):  # Windows removes no file that is open
                (folder / LOCK).unlink()
            lock.release()
    finally:
        with suppress(OSError):
            for path in made:
                path.rmdir()  # as long as they are empty


def tidy(folder: Path) -> None:
    """Remove the files and checkpoints that a killed process had not finished."""
    there = [*folder.iterdir(), *folder.glob("checkpoints/*")]
    _remove(path for path in there if _UNFINISHED.fullmatch(path.name))


def discard(folder: Path) -> None:
    """Remove what training wrote to a fresh folder, and nothing else."""
    _remove(folder / name for name in MADE)


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
