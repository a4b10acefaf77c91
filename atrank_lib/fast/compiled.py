"""``kernels.c``, compiled once by the machine's own C compiler and kept in the user's cache folder. What is loaded is
checked first: a file's name holds the checksum of its content, so a file that a full disk or a power cut left damaged
is found out and made again, and two processes that compile at once never disturb each other."""

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from ctypes import c_float, c_int, c_int64, c_void_p
from pathlib import Path
from typing import Any

import torch

logger = logging.getLogger(__name__)

_SOURCE = Path(__file__).with_name("kernels.c")  # which includes the other .c files beside it
_FLAGS = ("-O3", "-march=native", "-fopenmp", "-fno-math-errno", "-std=gnu11", "-shared", "-fPIC")


def cache_folder() -> Path:
    """Where compiled code is kept: ``atrank_lib`` in the user's cache folder (``XDG_CACHE_HOME``). FileNotFoundError
    where there is no home folder, as in a container whose user the system does not know."""
    chosen = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if chosen.is_absolute():  # the standard says to pass over others
        return chosen / "atrank_lib"
    try:
        return Path.home() / ".cache" / "atrank_lib"
    except RuntimeError:
        raise FileNotFoundError("there is no home folder to keep it in; name a folder in XDG_CACHE_HOME") from None


def compiler() -> list[str]:
    """The command that compiles C: ``CC``, which may hold options (``gcc -m64``, ``ccache gcc``), or what is found.
    Empty where there is none; ValueError for a quotation mark in ``CC`` that is not closed."""
    chosen = os.environ.get("CC", "").strip()
    if chosen:
        return [chosen] if shutil.which(chosen) else shlex.split(chosen)
    return [name for name in ("cc", "gcc", "clang") if shutil.which(name)][:1]


def build(folder: Path, command: Sequence[str]) -> Path:
    """Compile ``kernels.c`` into a folder, unless a whole one is there for this processor; returns the library's file.
    OSError or SubprocessError where the folder cannot be written, or the compiler fails."""
    machine = (platform.node(), platform.machine(), torch.backends.cpu.get_cpu_capability(), *command, *_FLAGS)
    sources = b"".join(file.read_bytes() for file in sorted(_SOURCE.parent.glob("*.c")))
    name = "kernels-" + _checksum(sources + "\0".join(machine).encode())
    for found in folder.glob(f"{name}-*.so"):
        if found.stem == f"{name}-{_checksum(found.read_bytes())}":
            return found
        found.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as beside:
        new = Path(beside) / "kernels.so"
        call = [*command, *_FLAGS, "-o", str(new), str(_SOURCE), "-lm"]
        subprocess.run(call, check=True, capture_output=True, text=True, errors="replace", timeout=300)
        return new.replace(folder / f"{name}-{_checksum(new.read_bytes())}.so")


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


@functools.cache
def library() -> Any:
    """The compiled code; None where it cannot be had, which is logged once: as a warning if it is ``CC`` that fails."""
    try:
        if not (command := compiler()):
            logger.info("no C compiler here, so torch's operators do all the work; results are the same, only later")
            return None
        found = ctypes.CDLL(str(build(cache_folder(), command)))
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        said = error.stderr.strip() if isinstance(error, subprocess.CalledProcessError) else ""
        level = logging.WARNING if os.environ.get("CC", "").strip() else logging.INFO
        message = "kernels.c cannot be compiled here (%s), so torch's operators do all the work"
        logger.log(level, message, (said or str(error)).partition("\n")[0])
        return None
    p, n, i = c_void_p, c_int64, c_int
    found.width.restype = found.look_up.restype = n
    found.linear.argtypes = [n, n, n, p, p, p, p, p, p, p, i]
    found.linear_back.argtypes = [n, n, n, p, p, p, p, p, p, p, p, n, n, i]
    found.attend.argtypes = [n, p, p, p, p, n, n, c_float, p, p, p, p, p, i]
    found.attend_back.argtypes = [n, p, p, p, p, n, n, c_float, *[p] * 9, i]
    found.look_up.argtypes = [n, n, n, p, p, p, p, p, p, p, i]
    found.look_up_back.argtypes = [n, n, n, p, p, p, p, p, i]
    found.catch_up.argtypes = [n, n, p, p, c_float, p, p, p, p, p, p, p, p, i]
    found.write_rows.argtypes = [n, n, p, n, p, p, i]
    for name in ("linear", "linear_back", "attend", "attend_back", "look_up_back", "catch_up", "write_rows"):
        getattr(found, name).restype = None
    return found
