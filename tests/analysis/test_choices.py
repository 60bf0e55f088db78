from __future__ import annotations

import json

import pandas as pd
import pytest

from analysis.choices import active, choices_of, condition, label, scaled

RECIPE = {
    "strategy": "fd",
    "strategy_weights": {},
    "image_mapping": {"kind": "none", "layers": []},
    "text_mapping": {"kind": "none", "layers": []},
    "layer_weight": 0.5,
    "language_weighting": {"kind": "uniform", "gamma": 0.0, "logits": {}},
    "replication": {"teacher_temperature": 0.05},
    "learning_rate": 0.001,
}


def test_what_has_no_effect_in_a_recipe_is_no_choice_of_it() -> None:
    assert set(active(RECIPE)) == {
        "strategy",
        "image_mapping.kind",
        "text_mapping.kind",
        "language_weighting.kind",
        "learning_rate",
    }
    mix = {**RECIPE, "strategy": "mix", "strategy_weights": {"fd": 1.0, "dr": 0.2}}
    assert active(mix)["replication.teacher_temperature"] == 0.05
    assert active(mix)["strategy_weights.dr"] == 0.2
    assert "replication.teacher_temperature" not in active({**mix, "strategy_weights": {"fd": 1.0, "dr": 0.0}})
    mapped = {**RECIPE, "text_mapping": {"kind": "monotone", "layers": [2, 5]}}
    assert {name: active(mapped)[name] for name in ("layer_weight", "text_mapping.layers.2")} == {
        "layer_weight": 0.5,
        "text_mapping.layers.2": 5.0,
    }
    weighted = {**RECIPE, "language_weighting": {"kind": "difficulty", "gamma": 1.5, "logits": {}}}
    assert active(weighted)["language_weighting.gamma"] == 1.5


def test_choices_are_those_in_which_trials_differ_and_languages_that_go_together_are_one() -> None:
    recipes = [
        RECIPE,
        {**RECIPE, "language_weighting": {"kind": "free", "logits": {"en": 1.0, "ja": 1.0, "ar": -1.0}}},
        {**RECIPE, "language_weighting": {"kind": "free", "logits": {"en": 0.5, "ja": 0.5, "ar": -1.5}}},
    ]
    trials = pd.DataFrame({"trial": ["0", "1", "2"], "recipe": [json.dumps(recipe) for recipe in recipes]})
    choices = choices_of(trials)
    logits = ["language_weighting.logits.en+ja", "language_weighting.logits.ar"]
    assert list(choices.columns) == ["language_weighting.kind", *logits]
    assert choices[logits[0]].isna().tolist() == [True, False, False]
    assert [label(name) for name in logits] == ["logit of en, ja", "logit of ar"]
    assert condition(logits[0]) == "weighting is free"
    assert choices_of(trials[:0]).empty


def test_numbers_that_count_as_factors_are_on_a_logarithmic_scale() -> None:
    assert scaled("learning_rate", pd.Series([0.001, 0.1])).tolist() == pytest.approx([-3.0, -1.0])
    assert scaled("language_weighting.gamma", pd.Series([1.0, 2.0])).tolist() == [1.0, 2.0]
    assert scaled("task_weight", pd.Series([0.0, 0.1])).tolist() == [0.0, 0.1]
