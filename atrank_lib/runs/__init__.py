"""A trained run on disk: configuration, vocabularies, checkpoints, weights."""

from atrank_lib.runs.config import MODELS, OPTIONS, RunConfig, options_of, versions
from atrank_lib.runs.folder import RunError
from atrank_lib.runs.run import Run, load_run, train_run

__all__ = ["MODELS", "OPTIONS", "Run", "RunConfig", "RunError", "load_run", "options_of", "train_run", "versions"]
