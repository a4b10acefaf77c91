"""The program `atrank`: one module a command."""

from __future__ import annotations

import typer

from atrank_lib.cli.check import check
from atrank_lib.cli.errors import plain_errors
from atrank_lib.cli.evaluate import evaluate
from atrank_lib.cli.export import export
from atrank_lib.cli.rank import rank
from atrank_lib.cli.score import score
from atrank_lib.cli.shared import escape_what_cannot_be_shown
from atrank_lib.cli.train import train
from data_scripts.drafting.command import init

__all__ = ["app", "main"]

COMMANDS = (init, check, train, evaluate, rank, score, export)

app = typer.Typer(
    name="atrank",
    help="ATRank: an attention-based user behavior model for recommendation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for command in COMMANDS:
    app.command()(plain_errors()(command))


def main() -> None:
    """Entry point of the program `atrank`."""
    escape_what_cannot_be_shown()
    app(prog_name="atrank")
