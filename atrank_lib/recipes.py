"""Recipes: how to train, apart from the model and the log, and the three that have names."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from atrank_lib.multitask import Mix, Steps, Weights
from atrank_lib.negatives import Popularity
from atrank_lib.ranking import Loss


class Recipe(BaseModel):
    """How to train: optimizer, learning rate and its decay, batch size, regularization.

    >>> Recipe(optimizer="sgd", learning_rate=1.0).model_dump(include={"optimizer", "learning_rate", "batch_size"})
    {'optimizer': 'sgd', 'learning_rate': 1.0, 'batch_size': 512}
    >>> RECIPES["modern"].model_copy(update={"epochs": 3}).epochs
    3
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    optimizer: Literal["sgd", "adam", "adamw"] = "adam"
    learning_rate: float = Field(1e-3, gt=0)
    decay_rate: float = Field(1.0, gt=0, le=1, description="learning rate x decay_rate^(step / decay_steps)")
    decay_steps: int = Field(336_000, ge=1)
    weight_decay: float = Field(0.0, ge=0)
    l2: float = Field(0.0, ge=0, description="weight of half the squared norms of e_u and h_t, summed over the batch")
    average: float = Field(0.0, ge=0, lt=1, description="evaluate weights averaged over steps with this decay; 0: off")
    gradient_clip: float | None = Field(5.0, gt=0, description="largest global norm of the gradient")
    batch_size: int = Field(512, ge=1)
    negatives: int = Field(1, ge=1)
    negative_kind: Popularity = "uniform"
    redraw_negatives: bool = Field(True, description="draw negatives anew in every epoch")
    loss: Loss = "pointwise"
    epochs: int = Field(8, ge=1)
    patience: int | None = Field(3, ge=1, description="epochs without a better validation AUC before stopping")
    max_length: int | None = Field(None, ge=1, description="latest behaviors of each group to train on; all by default")
    task_mix: Mix = Field("proportional", description="every sample once, or equal numbers of every task")
    task_weights: Weights | None = Field(None, description="of the tasks' losses; see multitask.TaskWeights")
    task_steps: Steps = Field(
        "shuffled", description="a step is a batch of one task; or one of every task, summed; or without conflicts"
    )


RecipeName = Literal["paper", "modern", "small"]
RECIPES: dict[RecipeName, Recipe] = {
    # the paper's hyperparameters; decay_steps and clipping are the original code's
    "paper": Recipe(
        optimizer="sgd", learning_rate=1.0, decay_rate=0.1, l2=5e-5, batch_size=32, epochs=20, patience=None
    ),
    "modern": Recipe(learning_rate=1.5e-3, batch_size=256, average=0.999, loss="pairwise", negatives=8),
    # for logs of some 100,000 behaviors, with sizes to match (runs.OPTIONS)
    "small": Recipe(learning_rate=3e-3, batch_size=128, average=0.995, loss="pairwise", negatives=4),
}


def learning_rate(recipe: Recipe, step: int) -> float:
    """Learning rate of the step numbered ``step`` from 0.

    >>> recipe = Recipe(learning_rate=1.0, decay_rate=0.1, decay_steps=100)
    >>> learning_rate(recipe, 0), learning_rate(recipe, 100)
    (1.0, 0.1)
    """
    return recipe.learning_rate * recipe.decay_rate ** (step / recipe.decay_steps)
