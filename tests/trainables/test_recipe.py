from __future__ import annotations

import pytest
from pydantic import ValidationError

from trainables.models.spec import ImageTower, TextTower
from trainables.recipe import LanguageWeighting, LayerMapping, Recipe


def test_single_strategy_has_weight_one_and_a_mix_its_positive_ones() -> None:
    assert Recipe(strategy="sd").weights == {"sd": 1.0}
    mix = Recipe(strategy="mix", strategy_weights={"fd": 0.5, "sd": 0.0, "dr": 2.0})
    assert mix.weights == {"fd": 0.5, "dr": 2.0}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"strategy": "mix"}, "a mix needs a positive weight"),
        ({"strategy": "mix", "strategy_weights": {"fd": 0.0}}, "a mix needs a positive weight"),
        ({"strategy": "fd", "strategy_weights": {"fd": 1.0}}, "only mix does"),
        ({"strategy": "kd"}, "strategy"),
        ({"strategy": "mix", "strategy_weights": {"kd": 1.0}}, "strategy_weights"),
        ({"strategy": "fd", "task_weight": -0.1}, "task_weight"),
        ({"strategy": "fd", "learning_rate": float("nan")}, "learning_rate"),
        ({"strategy": "fd", "lerning_rate": 1e-3}, "lerning_rate"),
    ],
)
def test_recipe_that_makes_no_sense_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Recipe.model_validate(values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "monotone"}, "needs layers"),
        ({"kind": "uniform", "layers": (1, 2)}, "takes no layers"),
        ({"kind": "monotone", "layers": (1, 1)}, "not strictly increasing"),
        ({"kind": "monotone", "layers": (3, 2)}, "not strictly increasing"),
        ({"kind": "monotone", "layers": (0, 2)}, "greater than or equal to 1"),
    ],
)
def test_mapping_that_makes_no_sense_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LayerMapping.model_validate(values)


def test_difficulty_exponent_is_bounded() -> None:
    with pytest.raises(ValidationError, match="gamma"):
        LanguageWeighting(kind="difficulty", gamma=2.5)


def test_recipe_travels_as_json() -> None:
    recipe = Recipe(
        strategy="mix",
        strategy_weights={"fd": 0.5, "dr": 2.0},
        image_mapping=LayerMapping(kind="monotone", layers=(1, 3)),
        language_weighting=LanguageWeighting(kind="free", logits={"en": 0.1}),
    )
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


def test_tower_sizes_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValidationError, match="width 96 is not a multiple of head_width 64"):
        TextTower(layers=2, width=96, context_length=8, vocab_size=300)
    with pytest.raises(ValidationError, match="image_size 30 is not a multiple of patch_size 12"):
        ImageTower(layers=2, width=64, patch_size=12, image_size=30)
