"""The program `atrank`."""

from atrank_lib.cli.commands import app, main

__all__ = ["app", "main"]
