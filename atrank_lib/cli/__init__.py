"""The program `atrank`."""

import typer

from atrank_lib.cli.commands import check, evaluate, export, rank, score, train
from atrank_lib.cli.doctor import doctor
from atrank_lib.cli.output import escape_what_cannot_be_shown, plain_errors
from data_scripts.drafting.command import init

__all__ = ["app", "main"]

COMMANDS = (init, check, train, evaluate, rank, score, export, doctor)

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
