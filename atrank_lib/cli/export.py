"""`atrank export`: a run for a web page, or as an ONNX graph."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from atrank_lib.cli.shared import RunOption, one_target
from atrank_lib.log import EventLog
from atrank_lib.log.writing import write_text
from atrank_lib.model import ATRank
from atrank_lib.runs.folder import RunError
from atrank_lib.runs.run import load_run
from atrank_lib.samples import split
from atrank_lib.serve.browser import browser_document, document_text, examples_of, some_samples
from atrank_lib.serve.onnx_graph import export_onnx


def export(
    run: RunOption,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="File to write.")],
    file_format: Annotated[
        Literal["browser", "onnx"],
        typer.Option("--format", help="browser: JSON for the book's live model; onnx: a graph for one user."),
    ],
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="browser: event log with the objects and examples.")
    ] = None,
    examples: Annotated[int, typer.Option(min=0, help="browser: how many histories of the test samples.")] = 6,
    target: Annotated[str | None, typer.Option(metavar="GROUP", help="onnx: group of the candidates.")] = None,
) -> None:
    """Write a trained ATRank for a web page, or as an ONNX graph. FILE appears complete or not at all."""
    trained = load_run(run)
    model = trained.model
    if not isinstance(model, ATRank):
        raise RunError(f"a run of model {trained.config.model!r} cannot be exported; only 'atrank' can")
    if file_format == "onnx":
        export_onnx(model, one_target(trained.config.targets, target, "--target"), out)
    elif data is None:
        raise ValueError("a page needs objects to rank: name an event log with --data")
    else:
        histories = trained.histories_of(EventLog.read(data))
        test = split(histories, trained.config.protocol, trained.config.targets).test
        found = [e for s in some_samples(test, examples) for e in examples_of(histories, s, model.histories)]
        write_text(out, document_text(browser_document(model, histories, found)) + "\n")
    typer.echo(f"{out}: {out.stat().st_size:,} bytes")
