"""The models that a run can hold, by name, and their options that go with a recipe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from pydantic import BaseModel

from atrank_lib.competitors import BPRMF, BST, CNN, DIN, BiLSTM, BiLSTMAttention, WideDeep
from atrank_lib.ranking import Model
from atrank_lib.variants import ATRankOptions, build


class Kind(NamedTuple):
    """How a model of some kind is made from a schema, vocabularies, options and histories."""

    Config: type[BaseModel]
    build: Callable[..., Model]


MODELS: dict[str, Kind] = {
    "atrank": Kind(ATRankOptions, build),
    "bpr-mf": Kind(BPRMF.Config, BPRMF),
    "bi-lstm": Kind(BiLSTM.Config, BiLSTM),
    "bi-lstm-attention": Kind(BiLSTMAttention.Config, BiLSTMAttention),
    "cnn": Kind(CNN.Config, CNN),
    "din": Kind(DIN.Config, DIN),
    "bst": Kind(BST.Config, BST),
    "wide-deep": Kind(WideDeep.Config, WideDeep),
}
# the options of any model that go with a recipe: the paper names no dropout, Adam needs it
OPTIONS: dict[str, dict[str, Any]] = {
    "paper": {},
    "modern": {"embedding_dropout": 0.2, "id_dropout": 0.5},
    "small": {"embedding_size": 32, "hidden": 64, "embedding_dropout": 0.1, "id_dropout": 0.5},
}


def options_of(model: str, recipe: str) -> dict[str, Any]:
    """The options that go with a recipe, as far as a model has them.

    Raises:
        ValueError: unknown model.

    >>> options_of("bpr-mf", "small")  # which has no hidden layer
    {'embedding_size': 32, 'embedding_dropout': 0.1, 'id_dropout': 0.5}
    """
    return {name: value for name, value in OPTIONS[recipe].items() if name in named(model).Config.model_fields}


def named(model: str) -> Kind:
    """The kind of a model.

    Raises:
        ValueError: there is none of this name.
    """
    if model not in MODELS:
        raise ValueError(f"model {model!r}; use one of {sorted(MODELS)}")
    return MODELS[model]
