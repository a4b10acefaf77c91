"""A trained run on disk: configuration, vocabularies, checkpoints, weights."""

from atrank_lib.runs.run import (
    MODELS,
    OPTIONS,
    Run,
    RunConfig,
    RunError,
    load_run,
    prepare,
    train_run,
    versions,
)

__all__ = ["MODELS", "OPTIONS", "Run", "RunConfig", "RunError", "load_run", "prepare", "train_run", "versions"]
