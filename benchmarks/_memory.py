"""A command run and watched: how long it takes, and how much memory it and its processes hold at most."""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

INTERVAL = 0.05  # seconds between two looks


@dataclass(frozen=True)
class Watched:
    """What a command used; ``peak_bytes`` is resident memory, summed over the process and its descendants."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int

    def as_dict(self) -> dict[str, Any]:
        """Rounded, as it is recorded: seconds to tenths, memory in GB (10^9 bytes)."""
        used = {name: round(value, 1) for name, value in asdict(self).items() if name != "peak_bytes"}
        return used | {"peak_gb": round(self.peak_bytes / 1e9, 2)}


def watch(command: Sequence[str], env: dict[str, str] | None = None) -> Watched:
    """Run a command to its end; what it prints is not shown.

    Raises:
        subprocess.CalledProcessError: it fails; its errors have gone to stderr.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start, peak = time.perf_counter(), 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=env) as run:
        watched = psutil.Process(run.pid)
        while run.poll() is None:
            peak = max(peak, resident_memory(watched))
            time.sleep(INTERVAL)
    seconds = time.perf_counter() - start
    if run.returncode:
        raise subprocess.CalledProcessError(run.returncode, command)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    return Watched(seconds, cpu, peak)


def report(used: Watched, **more: Any) -> None:
    """Print one JSON line: what a command used, what else there is to say, and the machine."""
    print(json.dumps(used.as_dict() | more | {"cores": os.cpu_count(), "python": platform.python_version()}))


def gigabytes(*files: Path) -> float:
    """The size of some files in GB (10^9 bytes)."""
    return round(sum(file.stat().st_size for file in files) / 1e9, 2)


def resident_memory(process: psutil.Process) -> int:
    """Resident bytes now, summed over the process and its descendants."""
    total = 0
    try:
        for one in [process, *process.children(recursive=True)]:
            total += one.memory_info().rss
    except psutil.NoSuchProcess:
        pass
    return total
