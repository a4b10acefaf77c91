"""Where the tables of a Stack Exchange dump are: files of a folder, or members of its .7z archives."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from data_scripts._errors import PreparationError
from data_scripts._stackexchange_rows import COLUMNS

_HOST = r"([a-z0-9-]+\.)+[a-z]{2,}"
_SITE = r"([a-z0-9-]+\.)+(com|net|org)"  # what a folder's name is taken for


def site_of(dump: Path, site: str | None) -> str:
    """The site's host: of ``site``, which may be an address, or the name of the dump.

    >>> site_of(Path("dumps/beer.stackexchange.com.7z"), None), site_of(Path("beer"), "https://beer.stackexchange.com/")
    ('beer.stackexchange.com', 'beer.stackexchange.com')
    """
    if site is None:
        name = dump.resolve().name.removesuffix(".7z").lower()
        if not re.fullmatch(_SITE, name):
            raise PreparationError(f"{dump}: the name does not tell the site; pass --site, as beer.stackexchange.com")
        return name
    host = re.sub(r"^https?://|/+$", "", site.strip().lower())
    if not re.fullmatch(_HOST, host):
        raise PreparationError(f"--site {site!r}: not the address of a site, such as beer.stackexchange.com")
    return host


def tables_of(dump: Path, scratch: Path) -> dict[str, Path]:
    """The file of every table, XML or gzipped XML; what a .7z archive holds is unpacked into ``scratch``.

    Raises:
        PreparationError: a table is missing, or there twice; an archive is damaged, or cannot be unpacked here.
    """
    if dump.is_file() and dump.suffix.lower() == ".7z":
        return _unpack(dump, COLUMNS, scratch)
    if not dump.is_dir():
        raise PreparationError(f"{dump}: neither a folder nor a .7z archive; name the dump of one site")
    files = {}
    for name in COLUMNS:
        # Stack Overflow's dump is an archive for each table, such as stackoverflow.com-Posts.7z
        form = re.compile(rf"(.+-)?{name}\.(xml|xml\.gz|7z)", re.IGNORECASE)
        found = sorted(path for path in dump.iterdir() if form.fullmatch(path.name))
        if not found:
            raise PreparationError(f"{dump}: no {name}.xml, {name}.xml.gz or {name}.7z; put that table there")
        if len(found) > 1:
            there = " and ".join(path.name for path in found)
            raise PreparationError(f"{dump}: {there} are both the table {name}; keep one of them")
        files[name] = found[0]
    for name, path in files.items():
        if path.suffix.lower() == ".7z":
            files.update(_unpack(path, [name], scratch))
    return files


def _unpack(archive: Path, tables: Iterable[str], scratch: Path) -> dict[str, Path]:
    """The tables' own files out of an archive; no other member, no link and nothing in a folder is unpacked."""
    try:
        import py7zr
    except ImportError as error:
        raise PreparationError(
            f'{archive}: .7z archives need py7zr ({error}): pip install "atrank_lib[sevenzip]", or unpack it yourself '
            "and name the folder"
        ) from error
    try:
        with py7zr.SevenZipFile(archive) as packed:
            members = {info.filename.lower(): info.filename for info in packed.list() if info.is_file}
            files = {name: members.get(f"{name}.xml".lower()) for name in tables}
            found = [member for member in files.values() if member]
            if len(found) == len(files):
                packed.extract(scratch, found)
    except OSError:
        raise  # no space left, no permission
    except Exception as error:  # the decoder raises whatever the damaged bytes lead it to
        reason = str(error) or type(error).__name__
        raise PreparationError(f"{archive}: not a sound .7z archive ({reason}); fetch it again") from error
    missing = [f"{name}.xml" for name, member in files.items() if not member]
    if missing:
        has = ", ".join(sorted(members.values())[:10]) or "nothing"
        raise PreparationError(f"{archive}: no {', '.join(missing)} in it, but {has}; fetch the whole dump of the site")
    return {name: scratch / str(member) for name, member in files.items()}
