"""Attention among the behaviors of ragged histories, by all that PyTorch offers for them, and by the library's kernel.

    python -m benchmarks.ragged --out results/speed/ragged.json [--repeats 7]

Processor milliseconds of eq. 3 to 5 without their maps, forwards, and forwards and backwards; one thread, 8 spaces, 128
dimensions. The ways take turns, a repeat each. What a way cannot do here is recorded in its own words.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, cast

import torch
import typer
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention

from atrank_lib.batches import Packing
from atrank_lib.fast import kernels
from atrank_lib.runs import hardware, versions
from benchmarks.speed import MALLOC
from experiments.provenance import commit
from experiments.records import write_record

SPACES, HIDDEN = 8, 128
SETTINGS = {"32 of 1 to 50": (32, 50), "512 of 1 to 12": (512, 12)}  # samples, longest history
Attend = Callable[..., Tensor]


def split(x: Float[Tensor, "n d"]) -> Float[Tensor, "n k d_k"]:
    return x.unflatten(-1, (SPACES, -1))


def ways(lengths: Int[Tensor, " b"]) -> dict[str, Attend]:
    """Functions of packed queries, keys and values, each ``[n, d]``, that attend within every sample."""
    offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    owner = torch.arange(len(lengths)).repeat_interleave(lengths)
    packing = Packing.of(owner, torch.arange(len(owner)) - offsets[owner], size=len(lengths))
    block = create_block_mask(lambda b, h, i, j: owner[i] == owner[j], None, None, len(owner), len(owner), device="cpu")
    compiled = torch.compile(flex_attention)

    def padded(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (split(packing.pad(x)).transpose(1, 2) for x in (q, k, v))
        seen = scaled_dot_product_attention(q, k, v, attn_mask=packing.mask[:, None, None, :])
        return packing.pack(seen.transpose(1, 2).flatten(2))

    def nested(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (torch.nested.nested_tensor_from_jagged(split(x), offsets).transpose(1, 2) for x in (q, k, v))
        return scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2).values()

    def flex(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (split(x).transpose(0, 1)[None] for x in (q, k, v))
        return compiled(q, k, v, block_mask=block)[0].transpose(0, 1).flatten(1)

    def varlen(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        longest, starts = int(lengths.max()), offsets.int()
        return cast(Tensor, varlen_attn(split(q), split(k), split(v), starts, starts, longest, longest)).flatten(1)

    def kernel(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        rows, scale = kernels.Rows(offsets, offsets), (HIDDEN // SPACES) ** -0.5
        return kernels.attend(q, k, v, rows, SPACES, scale)

    return {"padded": padded, "nested": nested, "flex": flex, "varlen": varlen, "kernel": kernel}


def forwards(attend: Attend, tensors: list[Tensor]) -> None:
    with torch.no_grad():
        attend(*tensors)


def both(attend: Attend, tensors: list[Tensor]) -> None:
    attend(*tensors).sum().backward()


def milliseconds(job: Callable[[], None], seconds: float) -> float:
    """Processor time of a call."""
    calls, began = 0, time.process_time()
    while (taken := time.process_time() - began) < seconds:
        job()
        calls += 1
    return 1e3 * taken / calls


def measure(samples: int, longest: int, repeats: int, seconds: float) -> list[dict[str, Any]]:
    draws = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, longest + 1, (samples,), generator=draws)
    tensors = [torch.randn(int(lengths.sum()), HIDDEN, generator=draws) for _ in range(3)]
    learned = [x.clone().requires_grad_() for x in tensors]
    possible = ways(lengths)
    expected = possible["padded"](*tensors)
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for what, job, given in (("both", both, learned), ("forwards", forwards, tensors)):
        torch.compiler.reset()  # what could not be compiled once is not tried again
        for name, attend in possible.items():
            row: dict[str, Any] = {"way": name, "what": what, "rows": len(expected)}
            try:
                job(attend, given)  # compiled and warm
                torch.testing.assert_close(attend(*tensors), expected, atol=1e-4, rtol=1e-4)
            except NotImplementedError as error:
                found[name, what] = row | {"refused": str(error).partition(". ")[0]}
                continue
            found[name, what] = row | {"job": lambda a=attend, j=job, g=given: j(a, g), "each": []}
    able = [row for row in found.values() if "job" in row]
    for _ in range(repeats):
        for row in able:
            row["each"].append(milliseconds(row["job"], seconds))
    for row in able:
        each = row.pop("each")
        row.pop("job")
        row |= {"cpu_ms": statistics.median(each), "low": min(each), "high": max(each)}
    return list(found.values())


def main(
    out: Annotated[Path, typer.Option(help="File for the numbers, with their provenance.")],
    repeats: int = 7,
    seconds: Annotated[float, typer.Option(help="Of a repeat of one way, about.")] = 0.3,
) -> None:
    warnings.filterwarnings("ignore", message=".*nested")  # a prototype, it says
    torch.set_num_threads(1)
    rows = [
        {"setting": setting, **row}
        for setting, (samples, longest) in SETTINGS.items()
        for row in measure(samples, longest, repeats, seconds)
    ]
    for row in rows:
        print(f"{row['setting']:>16} {row['way']:>8} {row['what']:>9}  {row.get('cpu_ms', row.get('refused'))}")
    told = {"threads": 1, "environment": MALLOC, "rows": rows, "commit": commit(Path.cwd()), "versions": versions()}
    source = {"data_name": "generated samples", "data_fingerprint": "seed 0"}
    write_record(out, {"kind": "ragged", **source, **told, "hardware": hardware()})


if __name__ == "__main__":
    if not MALLOC.items() <= os.environ.items():  # read once, when a process starts
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks.ragged", *sys.argv[1:]], os.environ | MALLOC)
    typer.run(main)
