"""Every model on a GPU: samples per second by batch, length, precision and compilation; agreement with the CPU; where a
step's time goes; one epoch of a real log, and how long its AUC takes.

    python -m benchmarks.gpu --out results/speed/gpu.json [--data LOG] [--minutes 8]
    python -m benchmarks.gpu --out FILE --device cpu --small      # the same, to see that it runs

What does not fit the time that is given, or the card's memory, is recorded as left out. The most telling come first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from atrank_lib import EventLog, Recipe, fit
from atrank_lib.batches import Samples
from atrank_lib.evaluation import fixed_candidates, score_candidates
from atrank_lib.fast import speed_up
from atrank_lib.grouping import GroupedHistories
from atrank_lib.ranking import Model
from atrank_lib.runs import MODELS, OPTIONS, hardware, versions
from atrank_lib.samples import Split, prepare
from atrank_lib.scale import Execution, ScaledSteps
from atrank_lib.scale.devices import Device, Placed, Precision
from atrank_lib.training import RECIPES, Part, Steps, Training
from benchmarks.ceiling import FLOPS, TRAINING
from benchmarks.ours import histories_of
from benchmarks.work import synthetic
from experiments.provenance import commit
from experiments.records import write_record

Work = Callable[[int], tuple[GroupedHistories, Samples]]  # generated histories of a length
READERS = [name for name in MODELS if name != "bpr-mf"]  # of histories


@dataclass(frozen=True)
class Cell:
    """One way to train a model on generated histories of one length."""

    model: str = "atrank"
    batch: int = 2_048
    length: int = 50
    precision: Precision = "float32"
    compiled: bool = False


def cells(small: bool) -> list[Cell]:
    """The most telling first: ATRank in every way, then every model, then long histories."""
    sizes, lengths = ((32, 64), (10, 20)) if small else ((512, 2_048, 8_192, 16_384), (50, 200))
    ways: list[tuple[Precision, bool]] = [
        ("float32", False),
        ("bfloat16", False),
        ("float32", True),
        ("bfloat16", True),
    ]
    atrank = [Cell("atrank", batch, lengths[0], *way) for batch in sizes for way in ways]
    others = [Cell(name, batch, lengths[0]) for batch in sizes[-2:] for name in READERS if name != "atrank"]
    halves = [Cell(name, sizes[-2], lengths[0], "bfloat16") for name in READERS if name != "atrank"]
    longer = [Cell(name, batch, lengths[1]) for batch in sizes for name in ("atrank", "din", "bst", "bi-lstm", "hstu")]
    return [*atrank, *others, *halves, *longer]


class Clocked(ScaledSteps):
    """Steps that tell how long forwards, backwards and moves take, each waited for; batches are what is left."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.spent = dict.fromkeys(("forwards", "backwards", "move"), 0.0)

    def clock(self, name: str, job: Callable[[], Any]) -> Any:
        wait(self.device)
        began = time.perf_counter()
        done = job()
        wait(self.device)
        self.spent[name] += time.perf_counter() - began
        return done

    def forward(self, batch: Any) -> Any:
        return self.clock("forwards", lambda: super(Clocked, self).forward(batch))

    def gradients(self, losses: list[torch.Tensor], generator: torch.Generator) -> None:
        self.clock("backwards", lambda: super(Clocked, self).gradients(losses, generator))

    def move(self, rate: float) -> None:
        self.clock("move", lambda: super(Clocked, self).move(rate))


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def model_of(name: str, histories: GroupedHistories) -> Model[Any]:
    torch.manual_seed(0)
    return speed_up(MODELS[name].build(histories.schema, histories.vocabularies, MODELS[name].Config()))


def train(
    cell: Cell, work: Work, device: Device, kind: type[ScaledSteps] = ScaledSteps
) -> tuple[list[dict[str, Any]], Any]:
    """Two epochs, of which the first warms up and compiles, and their steps."""
    histories, samples = work(cell.length)
    recipe = Recipe(batch_size=cell.batch, epochs=2, patience=None)
    kept: list[Steps] = []

    def steps(*given: Any, **named: Any) -> Steps:
        kept.append(
            kind(*given, **named, on=Execution(device=device, precision=cell.precision, compiled=cell.compiled))
        )
        return kept[0]

    split = Split({"item": samples}, {}, {})
    done = fit(model_of(cell.model, histories), histories, split, recipe, progress=False, steps=steps)
    return done.epochs, kept[0]


def peak(device: torch.device, small: bool) -> dict[str, float]:
    """What the card does at most: TFLOP/s of a large product in both precisions, and GB/s of copying."""
    n = 512 if small else 8_192
    found = {}
    for name, kind in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        a, b = (torch.randn(n, n, device=device, dtype=kind) for _ in range(2))
        found[f"tflops_{name}"] = 2 * n**3 / best(lambda a=a, b=b: a @ b, device) / 1e12
    source = torch.zeros(n * n, device=device)
    target = torch.empty_like(source)
    found["copy_gb"] = 8 * n * n / best(lambda: target.copy_(source), device) / 1e9
    return found


def best(job: Callable[[], Any], device: torch.device) -> float:
    """Seconds of a call: the best of ten, each of some calls in a row."""
    found = []
    for _ in range(10):
        wait(device)
        began = time.perf_counter()
        for _ in range(5):
            job()
        wait(device)
        found.append((time.perf_counter() - began) / 5)
    return min(found)


def agreement(work: Work, length: int, place: torch.device) -> Iterator[dict[str, Any]]:
    """By how much scores on the device differ from those of the CPU, as a share of the spread of scores."""
    histories, samples = work(length)
    tasks = {"item": samples[:256]}
    candidates = fixed_candidates(histories, tasks, negatives=1)
    for name in READERS:
        model = model_of(name, histories).eval()
        with torch.no_grad():
            expected = score_candidates(model, histories, tasks, candidates)["item"]
            there = Placed(model.to(place))
            found = score_candidates(there, histories, tasks, candidates)["item"]
        difference = (found - expected).abs().max() / expected.std()
        yield {"model": name, "difference": float(difference)}


def step_of(work: Work, cell: Cell, device: Device) -> dict[str, Any]:
    """Where the time of a step goes: shares of forwards, backwards, the move, and the rest, which is batches."""
    epochs, steps = train(cell, work, device, Clocked)
    seconds = sum(epoch["seconds"] for epoch in epochs)
    shares = {name: spent / seconds for name, spent in steps.spent.items()}
    return asdict(cell) | shares | {"batches": 1 - sum(shares.values())}


def real_epochs(data: Path, device: Device, until: float | None, minutes: float) -> Iterator[dict[str, Any]]:
    """Epochs of ATRank on a real log, recipe `modern` in large batches, until an AUC is reached or time is up."""
    histories, parts = prepare(EventLog.read(data), "validated")
    torch.manual_seed(0)
    kind = MODELS["atrank"]
    model = kind.build(histories.schema, histories.vocabularies, kind.Config(**OPTIONS["modern"]))
    recipe = RECIPES["modern"].model_copy(update={"batch_size": 2_048, "epochs": 40})
    steps = partial(ScaledSteps, on=Execution(device=device))
    training = Training(model, [Part(histories, parts)], recipe, seed=0, steps=steps)
    began = time.perf_counter()
    while training.goes_on():
        training.epoch()
        seconds, auc = time.perf_counter() - began, training.result.epochs[-1]["validation_auc"]
        yield {"seconds": seconds, "validation_auc": auc}
        if seconds > 60 * minutes or (until is not None and auc >= until):
            return


def main(
    out: Annotated[Path, typer.Option(help="File for the numbers, with their provenance.")],
    data: Annotated[Path | None, typer.Option(help="Folder of an event log, for its epochs.")] = None,
    device: Annotated[str, typer.Option(help="cuda, or cpu to see that it runs.")] = "cuda",
    until: Annotated[float | None, typer.Option(help="Validation AUC at which the log's epochs end.")] = None,
    minutes: Annotated[float, typer.Option(help="For all of it, about.")] = 8.0,
    small: Annotated[bool, typer.Option("--small", help="Few samples, in small batches.")] = False,
) -> None:
    began, on = time.perf_counter(), Execution.model_validate({"device": device})
    place, wanted, samples = on.place(), cells(small), 256 if small else 32_768
    work = cache(lambda length: histories_of(synthetic(length, False, samples)))  # made once for each length
    content: dict[str, Any] = {"kind": "gpu", "peak": peak(place, small), "rows": [], "left_out": []}
    content["agreement"] = list(agreement(work, wanted[0].length, place))
    content["step"] = [step_of(work, cell, on.device) for cell in (wanted[0], wanted[len(wanted) // 4])]
    if data is not None:
        content["epochs"] = list(real_epochs(data, on.device, until, minutes / 3))
    for cell in wanted:
        if time.perf_counter() - began > 60 * minutes:
            content["left_out"].append(asdict(cell) | {"why": "no time was left"})
            continue
        try:
            (_, epoch), _ = train(cell, work, on.device)
        except torch.OutOfMemoryError as error:
            content["left_out"].append(asdict(cell) | {"why": str(error).partition(". ")[0]})
            continue
        row = asdict(cell) | {"samples_per_second": epoch["samples_per_second"]}
        if cell.model in FLOPS:
            each = TRAINING * float(FLOPS[cell.model](torch.tensor([cell.length]).numpy(), 2)[0])
            most = content["peak"][f"tflops_{cell.precision}"] * 1e12
            row["share_of_peak"] = each * row["samples_per_second"] / most
        content["rows"].append(row)
        print(f"{cell}: {row['samples_per_second']:,.0f} samples/s", flush=True)
        torch.compiler.reset()
    name = torch.cuda.get_device_name(place) if place.type == "cuda" else hardware()
    source = {"data_name": "generated samples", "data_fingerprint": "seed 0", "small": small}
    told = {"device": name, "minutes": (time.perf_counter() - began) / 60, "hardware": hardware()}
    write_record(out, {**content, **source, **told, "commit": commit(Path.cwd()), "versions": versions()})


if __name__ == "__main__":
    typer.run(main)
