"""Several files of a folder that appear together or not at all, beside others that stay as they are."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from atrank_lib.log.writing import explained, permit


@contextmanager
def writing_files(folder: str | Path, names: Sequence[str]) -> Iterator[Path]:
    """A folder for files that take their places in ``folder`` when the block ends well: all of ``names``, or none.

    Other files of ``folder`` stay as they are; it is made if it is missing.

    Raises:
        OSError: they cannot be written, as in ``writing_file``.
    """
    with explained(folder, inside=True) as (target, beside):
        former = beside.with_name(f"{beside.name}.former")
        begun: list[str] = []
        try:
            beside.mkdir(parents=True)
            former.mkdir()
            mode = beside.stat().st_mode
            yield beside
            for name in names:
                permit(beside / name, mode)
                begun.append(name)
                if (target / name).exists():
                    (target / name).rename(former / name)
                (beside / name).rename(target / name)
        except BaseException:
            for name in begun:
                if not (beside / name).exists():
                    (target / name).unlink(missing_ok=True)
                if (former / name).exists():
                    (former / name).rename(target / name)
            with suppress(OSError):  # what could not be put back stays in it
                former.rmdir()
            raise
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        shutil.rmtree(former, ignore_errors=True)
