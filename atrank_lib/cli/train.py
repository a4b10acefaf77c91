"""`atrank train`: a run from an event log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import torch
import typer

from atrank_lib.cli.shared import DataOption
from atrank_lib.log.sharded import read_log
from atrank_lib.runs.config import MODELS, options_of
from atrank_lib.runs.run import train_run
from atrank_lib.samples import Protocol
from atrank_lib.scale.devices import Device, Execution, Precision
from atrank_lib.scale.processes import joined
from atrank_lib.training import RECIPES, RecipeName


def train(
    data: DataOption,
    out: Annotated[Path, typer.Option("--out", metavar="RUN", help="Folder for the trained run.")],
    model: Annotated[str, typer.Option(help=f"Which model: {', '.join(MODELS)}.")] = "atrank",
    targets: Annotated[str | None, typer.Option(help="Groups to predict, such as item,query; all by default.")] = None,
    histories: Annotated[str | None, typer.Option(help="Groups a history may hold; all by default.")] = None,
    protocol: Annotated[Protocol, typer.Option(help="What trains, validates, tests.")] = "validated",
    recipe: Annotated[RecipeName, typer.Option(help="Optimizer, its settings, and sizes to go with them.")] = "modern",
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of the recipe's.")] = None,
    max_steps: Annotated[int | None, typer.Option(min=1, help="Stop after this many steps.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Instead of the recipe's.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="All randomness follows from it.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last complete epoch in RUN.")] = False,
    threads: Annotated[
        int | None, typer.Option("--threads", "--workers", min=1, help="Of a CPU; as many as it has cores by default.")
    ] = None,
    device: Annotated[Device, typer.Option(help="auto: a GPU where there is one.")] = "cpu",
    precision: Annotated[Precision, typer.Option(help="Of the forward pass; weights stay float32.")] = "float32",
    compiled: Annotated[bool, typer.Option("--compile", help="Compile the dense layers; for GPUs.")] = False,
) -> None:
    """Train a model on an event log. RUN gets config.json, metrics.json, model.safetensors and the checkpoints.

    Under `torchrun --nproc_per_node N -m atrank_lib train ...` N processes share every batch.
    """
    changes = {"epochs": epochs, "batch_size": batch_size}
    on = Execution(device=device, precision=precision, compiled=compiled)
    with _threads(threads), joined(on) as processes:
        result = train_run(
            read_log(data),
            out,
            model=model,
            options=options_of(model, recipe),
            targets=_names(targets),
            histories=_names(histories),
            protocol=protocol,
            recipe=RECIPES[recipe].model_copy(update={k: v for k, v in changes.items() if v is not None}),
            seed=seed,
            max_steps=max_steps,
            resume=resume,
            on=on,
            processes=processes,
        )
    if not processes.first:
        return
    for entry in result.epochs:
        auc = entry["validation_auc"]
        typer.echo(
            f"epoch {entry['epoch']:>3}  loss {entry['loss']:.4f}  "
            + (f"validation AUC {auc:.4f}  " if auc is not None else "")
            + f"{entry['samples_per_second']:,.0f} samples/s"
        )
    typer.echo(f"best epoch {result.best_epoch}; the run is in {out}")


def _names(text: str | None) -> list[str] | None:
    """`item,query` as a list; None stays None (all groups)."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
