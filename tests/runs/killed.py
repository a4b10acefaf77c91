"""What `test_resuming` runs in a process of its own: a training that is killed at some step.

python -m tests.runs.killed RUN STEP
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch

import atrank_lib.training as training
from atrank_lib.runs import train_run
from atrank_lib.training import Recipe
from tests.random_logs import random_log
from tests.runs.small import OPTIONS

CHANGING = OPTIONS.model_copy(update={"dropout": 0.3, "embedding_dropout": 0.1})
RECIPE = Recipe(
    epochs=3, patience=None, batch_size=16, l2=1e-4, decay_rate=0.5, decay_steps=99, average=0.9, learning_rate=0.01
)
learning_rate = training.learning_rate


def train(run: Path, resume: bool = False) -> None:
    log = random_log(4, users=7, behaviors=60, objects=30, times=40)
    train_run(log, run, options=CHANGING, recipe=RECIPE, seed=2, resume=resume, progress=False)


def main(run: str, last: str) -> None:
    def fatal(recipe: Recipe, step: int) -> float:
        if step == int(last):
            os.kill(os.getpid(), signal.SIGKILL)
        return learning_rate(recipe, step)

    torch.set_num_threads(1)
    training.learning_rate = fatal
    train(Path(run))


if __name__ == "__main__":
    main(*sys.argv[1:])
