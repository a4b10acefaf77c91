"""What training has on this machine."""

import logging
import os
import time
from logging.handlers import BufferingHandler

import torch
import typer
from torch import nn

from atrank_lib.fast import compiled, kernels
from atrank_lib.runs.config import hardware, versions

SHAPES = ((1_600, 128), (51_200, 128))  # rows and width of a layer: a batch of 32 histories of 50, and of 1,024


def doctor() -> None:
    """Say what training has on this machine: processor, threads, compiler, kernels, GPU; and what is missing."""
    for name, told in report().items():
        typer.echo(f"{name:<10} {told}")


def report() -> dict[str, str]:
    """What ``doctor`` prints, line by line."""
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    spin = os.environ.get("GOMP_SPINCOUNT", "not set, so that waiting threads take time from other programs")
    found = {
        "versions": " ".join(f"{name} {version}" for name, version in versions().items()),
        "processor": f"{hardware()}; torch uses {torch.backends.cpu.get_cpu_capability()}",
        "threads": f"{torch.get_num_threads()} (OMP_NUM_THREADS chooses); GOMP_SPINCOUNT {spin}",
        "compiler": " ".join(compiled.compiler()) or "none: with gcc or clang, training on this processor is faster",
        "kernels": _kernels(),
        "GPU": ", ".join(gpus) + ": --device cuda" if gpus else "none that torch can use",
    }
    if kernels.ready(torch.zeros(1), SHAPES[0][1]):
        found["layers"] = "; ".join(_race(*shape) for shape in SHAPES)
    return found


def _kernels() -> str:
    """Whether they are in use, or what stands against it."""
    handler, logger = BufferingHandler(9), logging.getLogger(compiled.__name__)
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    compiled.library.cache_clear()  # which may have said why before
    found = compiled.library()
    logger.removeHandler(handler)
    logger.setLevel(before)
    if found is None:
        return f"not in use: {handler.buffer[-1].getMessage()}"
    if not kernels.ready(torch.zeros(1)):
        return "compiled, and turned off by ATRANK_KERNELS=0"
    return f"in use, with {found.width()} numbers in a register, from {compiled.cache_folder()}"


def _race(rows: int, width: int) -> str:
    """A layer forwards and backwards by kernels and by torch, in turns; the best of each."""
    torch.manual_seed(0)
    x, linear = torch.randn(rows, width, requires_grad=True), nn.Linear(width, width)
    ways = {"kernels": lambda: kernels.layers(x, [linear], [True])[0], "torch": lambda: linear(x).relu()}
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(7):
        for name, way in ways.items():
            began = time.perf_counter()
            way().sum().backward()
            best[name] = min(best[name], time.perf_counter() - began)
    speeds = (f"{name} {6 * rows * width**2 / seconds / 1e9:.0f}" for name, seconds in best.items())
    return f"[{rows}, {width}]: {', '.join(speeds)} GFLOP/s"
