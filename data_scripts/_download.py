"""Download with resume: into ``NAME.part`` beside the destination, renamed when every byte is there."""

from __future__ import annotations

import os
import time
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from tqdm import tqdm

from data_scripts._errors import PreparationError

ATTEMPTS = 3  # in a row without a single new byte
TIMEOUT = 30.0  # seconds without an answer
PAUSE = 1.0  # seconds before another attempt, twice that before a third
BLOCK = 1 << 18


def cache_folder() -> Path:
    """Where downloads are kept: ``atrank_lib`` in the user's cache folder (``XDG_CACHE_HOME``).

    Raises:
        PreparationError: the user has no home folder.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "atrank_lib"
    except RuntimeError as error:
        raise PreparationError(f"no folder to keep downloads in ({error}); name one with --raw-dir") from error


def download(url: str, path: Path) -> None:
    """Fetch ``url`` to ``path``, going on from ``path.part`` where an earlier download stopped.

    Raises:
        PreparationError: no network, no such file, or the connection broke too often. What has arrived stays
            in ``path.part``, from which the next call goes on.
    """
    part = path.with_name(path.name + ".part")
    by_hand = f"To do it by hand, put the file at {path}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PreparationError(f"{path.parent}: cannot be created ({error}); choose another --raw-dir") from error
    failures = 0
    while failures < ATTEMPTS:
        before = _size(part)
        try:
            if _fetch(url, part):
                part.replace(path)
                return
            reason = "the connection closed early"
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise PreparationError(
                    f"{url}: the server answers {error.code} {error.reason}; check the category name. {by_hand}"
                ) from error
            reason = f"the server answers {error.code} {error.reason}"
        except (OSError, HTTPException) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        failures = 0 if _size(part) > before else failures + 1
        if failures < ATTEMPTS:
            time.sleep(PAUSE * failures)
    raise PreparationError(
        f"{url}: cannot be downloaded ({reason}); check the network and run again to resume. {by_hand}"
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _fetch(url: str, part: Path) -> bool:
    """One request for the missing bytes; True when the file is complete."""
    have = _size(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response: HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:
            raise
        # Nothing is missing behind the last byte, or the part is not of this file.
        if error.headers.get("Content-Range") == f"bytes */{have}":
            return True
        part.unlink()
        return False
    with response:
        resumed = response.status == 206
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise HTTPException(f"asked for bytes from {have}, offered {response.headers.get('Content-Range')!r}")
        length = response.headers.get("Content-Length")
        start = have if resumed else 0
        total = start + int(length) if length is not None else None
        with (
            part.open("ab" if resumed else "wb") as file,
            # disable=None: no bar where stderr is not a terminal
            tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=part.stem, disable=None) as bar,
        ):
            while block := response.read(BLOCK):
                file.write(block)
                bar.update(len(block))
    return total is None or _size(part) == total
