"""The models by name and their options: all that the experiments know of how a model is configured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from atrank_lib import GroupedHistories
from atrank_lib.fast import speed_up
from atrank_lib.ranking import Model
from atrank_lib.runs import MODELS

# two floors, then the order of the paper's Table 3, with what came later in its place
COMPARED = ["popularity", "last-category", "bpr-mf", "wide-deep"]
COMPARED += ["bi-lstm", "bi-lstm-attention", "cnn", "din", "bst", "atrank"]
CAME_AFTER = ["sasrec", "hstu", "onetrans"]


def option_names(model: str) -> set[str]:
    """The options that a model has; a rule has none."""
    return set(MODELS[model].Config.model_fields) if model in MODELS else set()


def config(model: str, options: Mapping[str, Any]) -> BaseModel:
    """All options of a model: those not given have their defaults. An unknown one is a ValueError."""
    return MODELS[model].Config(**options)


def build(
    model: str, histories: GroupedHistories, options: Mapping[str, Any], read: Sequence[str] | None = None
) -> Model:
    """A model for these histories that reads some groups, or all; its weights drawn from torch's generator."""
    return speed_up(MODELS[model].build(histories.schema, histories.vocabularies, config(model, options), read))
