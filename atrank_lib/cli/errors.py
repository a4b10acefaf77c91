"""What the command line does with errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from atrank_lib.log.events import EventLogError
from atrank_lib.scale.processes import PeerError


@contextmanager
def plain_errors() -> Iterator[None]:
    """What the user can mend is one message on stderr and exit code 1; anything else is a bug and shows itself."""
    try:
        yield
    except PeerError:
        raise typer.Exit(1) from None
    except EventLogError as error:
        typer.echo("\n".join(map(str, error.problems)), err=True)
        raise typer.Exit(1) from None
    except (ValueError, OSError, FloatingPointError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    except KeyError as error:
        typer.echo(str(error.args[0]), err=True)
        raise typer.Exit(1) from None
