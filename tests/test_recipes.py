"""Recipes: the decay by its formula, the paper's numbers, and what is refused."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from atrank_lib.training import RECIPES, Recipe, learning_rate


def test_learning_rate_formula() -> None:
    recipe = Recipe(learning_rate=2.0, decay_rate=0.1, decay_steps=1_000)
    assert [learning_rate(recipe, s) for s in (0, 500, 1_000, 3_000)] == pytest.approx([2.0, 2 * 0.1**0.5, 0.2, 0.002])
    assert learning_rate(RECIPES["modern"], 10**6) == RECIPES["modern"].learning_rate
    assert learning_rate(RECIPES["paper"], 336_000) == pytest.approx(0.1)


def test_paper_recipe() -> None:
    paper = RECIPES["paper"]
    assert (paper.optimizer, paper.learning_rate, paper.batch_size, paper.l2) == ("sgd", 1.0, 32, 5e-5)


def test_errors() -> None:
    with pytest.raises(ValidationError, match="learning_rate"):
        Recipe(learning_rate=0)
    with pytest.raises(ValidationError, match="momentum"):
        Recipe.model_validate({"momentum": 0.9})
