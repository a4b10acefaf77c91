"""One contender in a process of its own, told what to do line by line; `benchmarks.bench` starts it.

    python -m benchmarks.worker NAME --threads N

It answers one line of JSON for each line of JSON on its input: a setting to prepare, then numbers of samples to train
on. For every setting it forks, so that a library is imported once, and yet each setting's memory is its own. Needs
NumPy and torch alone, beside what the contender itself needs.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import sys
import time
from typing import Any, BinaryIO

from benchmarks.work import Setting

PEERS = {
    "fuxictr-din": "benchmarks.peers.fuxi",
    "fuxictr-bst": "benchmarks.peers.fuxi",
    "recbole-din": "benchmarks.peers.recbole",
    "rechub-din": "benchmarks.peers.rechub",
    "rechub-bst": "benchmarks.peers.rechub",
    "deepctr-din": "benchmarks.peers.deepctr",
}


def module_of(name: str) -> str:
    """Where a contender is defined."""
    return "benchmarks.plain" if name.startswith("plain") else PEERS.get(name, "benchmarks.ours")


def peak_mb() -> float:
    """Largest resident memory of this process so far; Linux counts in KiB, macOS in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def serve(module: Any, name: str, setting: Setting, threads: int, requests: BinaryIO, answer: Any) -> None:
    """Prepare one setting and train on request, until an empty one."""
    import torch

    torch.set_num_threads(threads)
    began = time.perf_counter()
    contender = module.Contender(name, setting)
    answer({"prepared": time.perf_counter() - began, "samples": contender.available})
    while samples := json.loads(requests.readline() or b"0"):
        cpu = time.process_time()
        seen, seconds = contender.train(samples)
        answer({"samples": seen, "seconds": seconds, "cpu_seconds": time.process_time() - cpu, "peak_mb": peak_mb()})


def main() -> None:
    parser = argparse.ArgumentParser(description="One contender of the benchmark.")
    parser.add_argument("name")
    parser.add_argument("--threads", type=int, required=True)
    arguments = parser.parse_args()
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer

    def answer(content: dict[str, Any]) -> None:
        replies.write(json.dumps(content) + "\n")
        replies.flush()

    module = importlib.import_module(module_of(arguments.name))
    answer({"versions": getattr(module, "VERSIONS", {})})
    # a buffer would let a child swallow the line after its last one, and both sides would wait for ever
    requests = open(0, "rb", buffering=0)  # noqa: SIM115  (open as long as the process runs)
    while line := requests.readline():
        child = os.fork()
        if not child:
            status = 1
            try:
                serve(module, arguments.name, Setting(**json.loads(line)), arguments.threads, requests, answer)
                status = 0
            finally:
                if status:
                    import traceback

                    traceback.print_exc()
                sys.stderr.flush()
                os._exit(status)
        if os.waitpid(child, 0)[1]:
            sys.exit(1)


if __name__ == "__main__":
    main()
