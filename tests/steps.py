"""Steps that move the rows at hand alone, however small a table is."""

from __future__ import annotations

from collections.abc import Mapping

from atrank_lib.fast import RowSteps
from atrank_lib.ranking import Model
from atrank_lib.training import Recipe
from experiments.tasks import TaskSteps


class InRows(RowSteps):
    def __init__(self, model: Model, recipe: Recipe, tasks: Mapping[str, int]) -> None:
        super().__init__(model, recipe, tasks, least=1)


class TasksInRows(TaskSteps, InRows):
    """And learn several tasks in other ways than the paper's."""
