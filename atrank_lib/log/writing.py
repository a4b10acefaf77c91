"""Files and folders that appear complete or not at all: written beside their place, then renamed. Names beside are
drawn anew each time, so that two processes with one target never mix what they write; they begin with a dot and end in
no suffix of the target, so that what a killed process leaves is taken for no table."""

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_REMEDIES = {
    errno.ENOSPC: "the disk is full; make room, or choose another place",
    errno.EDQUOT: "your share of the disk is used up; make room, or choose another place",
    errno.EFBIG: "the file is larger than is allowed here; raise the limit, or choose another place",
    errno.EACCES: "permission is denied; change the permissions, or choose another place",
    errno.EPERM: "permission is denied; change the permissions, or choose another place",
    errno.EROFS: "the disk can only be read; choose another place",
    errno.ENOENT: "there is no such file or folder; correct the name",
    errno.ENOTDIR: "a part of the name is a file, not a folder; correct the name",
    errno.EISDIR: "it is a folder; name a file",
    errno.EEXIST: "it exists already; choose another place",
    errno.ENOTEMPTY: "it exists already; choose another place",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
}


def explain(error: OSError, path: Path | None = None) -> str:
    """What an OSError says to a user: the file (``path``, or what the error names), the cause and the remedy."""
    if error.errno is None or error.strerror is None:  # a message of our own
        return " ".join(str(error).split())
    cause = _REMEDIES.get(error.errno, f"{error.strerror[:1].lower()}{error.strerror[1:]}; correct that, and try again")
    place = path if path is not None else error.filename
    return cause if place is None else f"{place}: {cause}"


@contextmanager
def writing_file(path: str | Path) -> Iterator[Path]:
    """A file beside ``path``, empty at first, which takes its place when the block ends well and else is removed. The
    file gets the permissions that the umask gives, whatever the writer in the block gave it. OSError where it
    cannot be written: one line says which file, why, and what to do; the class of the error is kept."""
    with explained(path) as (target, beside):
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, "is a directory")
        if Path(path).exists() and not target.is_file():  # a pipe or a device: nothing may be renamed over it
            yield Path(path)
            return
        if not target.parent.is_dir():
            raise FileNotFoundError(f"{path}: there is no folder {target.parent}; make it, or choose another place")
        try:
            beside.touch(exist_ok=False)
            mode = beside.stat().st_mode
            yield beside
            permit(beside, mode)
            beside.replace(target)
        finally:
            beside.unlink(missing_ok=True)


@contextmanager
def writing_folder(path: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """A folder beside ``path``, empty at first, which takes its place when the block ends well and else is removed.
    Folders above it are made. With ``overwrite``, what is at ``path`` is replaced as a whole; without, it is a
    FileExistsError if there is something. OSError where it cannot be written, as in ``writing_file``."""
    if os.path.lexists(path) and not overwrite:
        raise FileExistsError(f"{path} exists; choose another folder, or pass overwrite=True")
    with explained(path) as (target, beside):
        former = beside.with_name(f"{beside.name}.former")
        try:
            beside.mkdir(parents=True)
            mode = beside.stat().st_mode
            yield beside
            for folder, _, names in os.walk(beside):
                for name in names:
                    permit(Path(folder) / name, mode)
            if overwrite and target.exists():
                target.rename(former)
            beside.rename(target)
            shutil.rmtree(former, ignore_errors=True)
        finally:
            if os.path.lexists(former) and not target.exists():
                former.rename(target)
            shutil.rmtree(beside, ignore_errors=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a file as UTF-8, complete or not at all. Raises OSError as ``writing_file`` does."""
    with writing_file(path) as beside:
        beside.write_text(text, encoding="utf-8")


def permit(path: Path, mode: int) -> None:
    """Give a file what ``mode`` allows to read and to write: some writers keep theirs to the owner."""
    if not path.is_symlink() and path.stat().st_mode & 0o666 != mode & 0o666:
        path.chmod(mode & 0o666)


@contextmanager
def explained(path: str | Path, inside: bool = False) -> Iterator[tuple[Path, Path]]:
    """Where ``path`` leads, and a new name beside it (or inside); errors about them, or about no file, are one line."""
    target = Path(path).resolve()
    name = f".{target.name}.{uuid.uuid4().hex[:12]}"
    beside = target / name if inside else target.with_name(name)
    try:
        yield target, beside
    except OSError as error:
        about = error.filename
        place = beside if about is None or isinstance(about, int) else Path(os.fsdecode(about))
        if place == target or beside.is_relative_to(place):
            place = beside
        message = explain(error, place)
        if str(beside) not in message:  # it is about another file
            raise
        # the class that Python has for this errno, with nothing but the message
        kind = type(OSError(error.errno, "")) if error.errno else type(error)
        raise kind(message.replace(str(beside), str(Path(path)))) from error
