"""A trained run on disk: configuration, vocabularies, checkpoints, weights."""

from atrank_lib.runs.models import MODELS, OPTIONS
from atrank_lib.runs.run import (
    Run,
    RunConfig,
    RunError,
    load_run,
    train_run,
    versions,
)

__all__ = ["MODELS", "OPTIONS", "Run", "RunConfig", "RunError", "load_run", "train_run", "versions"]
