from __future__ import annotations

from typing import Any

import pytest
import yaml

from analysis.words import STRATEGIES, in_sentences
from search_spaces.space import KNOWN_RECIPES
from trainables.language_weights import language_weights
from trainables.recipe import STRATEGY_NAMES, LanguageWeighting, Recipe


def words(**fields: Any) -> str:
    return " ".join(in_sentences(Recipe(**fields).model_dump(mode="json")))


def test_every_strategy_has_a_name() -> None:
    assert set(STRATEGIES) == set(STRATEGY_NAMES)


@pytest.mark.parametrize(("name", "fields"), yaml.safe_load(KNOWN_RECIPES.read_text(encoding="utf-8")).items())
def test_known_recipes_say_their_strategy_and_settings(name: str, fields: dict[str, Any]) -> None:
    said = words(**fields)
    assert f"({name}" in said or said.startswith("A mix of")
    assert "with the family's own loss (weight 0.03)" in said
    assert "learn from evenly spaced layers of both towers of the teacher (weight 0.3)" in said
    assert said.endswith("All languages weigh the same. Learning rate 0.003, weight decay 0.1.")
    assert ("temperatures of 0.05 (teacher) and 0.05 (student)" in said) == (name in ("DR", "mix"))


def test_a_mix_names_its_parts_and_leaves_out_those_of_no_weight() -> None:
    said = words(strategy="mix", strategy_weights={"fd": 0.25, "ed": 0.0, "mcl": 1.5})
    assert said.startswith(
        "A mix of feature distillation (FD, weight 0.25) and multilingual contrastive learning (MCL, weight 1.5)."
    )
    assert "English" not in said


def test_layers_are_said_as_they_are_used() -> None:
    maps: dict[str, Any] = {"image_mapping": {"kind": "monotone", "layers": [1, 4]}, "text_mapping": {"kind": "none"}}
    matched = words(strategy="fd", layer_weight=0.5, **maps)
    assert "learn from layers 1 and 4 of the teacher's image tower (weight 0.5)." in matched
    assert "starts as a copy of these layers; its text layers start from random weights." in matched
    copied = words(strategy="fd", layer_weight=0.0, **maps)
    assert "No layers are matched." in copied
    assert "starts as a copy of layers 1 and 4 of the teacher's image tower" in copied
    assert "The student starts from random weights." in words(strategy="fd", initialise="random")
    unmapped = words(strategy="fd", image_mapping={"kind": "none"}, text_mapping={"kind": "none"})
    assert "layers start from random weights, all else as the teacher's" in unmapped


def test_languages_have_the_weights_that_training_gives_them() -> None:
    logits = {"en": 0.5, "ja": -1.0, "ar": 0.25}
    weights = language_weights(LanguageWeighting(kind="free", logits=logits), list(logits), {})
    expected = ", ".join(f"{language} {weight:.2f}" for language, weight in weights.items())
    said = words(strategy="fd", language_weighting={"kind": "free", "logits": logits})
    assert f"searched weights: {expected}." in said
    # γ > 0 favours what the teacher finds hard: see `language_weights`.
    assert "poorly weigh more" in words(strategy="fd", language_weighting={"kind": "difficulty", "gamma": 0.7})
    assert "well weigh more" in words(strategy="fd", language_weighting={"kind": "difficulty", "gamma": -0.7})


def test_a_recipe_of_another_make_says_what_it_has() -> None:
    assert in_sentences({"strategy": "new", "learning_rate": 0.5}) == ["New.", "Learning rate 0.5."]
