"""A trained run on disk: configuration, vocabularies, checkpoints, weights."""

from atrank_lib.runs.config import MODELS, OPTIONS, RunConfig, hardware, options_of, versions
from atrank_lib.runs.folder import RunError
from atrank_lib.runs.run import Run, load_run, train_run

__all__ = ["MODELS", "OPTIONS", "Run", "RunConfig", "RunError", "hardware", "load_run", "options_of", "train_run"]
__all__ += ["versions"]
