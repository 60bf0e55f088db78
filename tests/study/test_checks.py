from __future__ import annotations

import optuna
import pytest

from study.checks import checked_space, surroundings
from study.config import load_config
from study.samplers import make_sampler


def test_the_full_space_passes_for_the_preset_and_for_the_smallest_study() -> None:
    assert "strategy" in checked_space(load_config("emoji_clip")).entries
    smallest = ["data.languages=[en, tr]", "student.image.layers=1", "student.text.layers=1"]
    assert "strategy" in checked_space(load_config("emoji_clip", smallest)).entries


def test_a_space_is_told_the_sizes_and_languages_of_its_study() -> None:
    around = surroundings(load_config("emoji_clip", ["data.languages=[en, tr]"]))
    assert around.student_layers == {"image": 2, "text": 2}
    assert around.teacher_layers == {"image": 6, "text": 4}
    assert around.languages == ("en", "tr")


@pytest.mark.parametrize("sampler", ["gp", "tpe_grouped"])
def test_a_sampler_models_the_space_of_mixes_as_a_whole(sampler: str) -> None:
    """Every parameter that has a choice is proposed jointly with the others, none on its own."""
    config = load_config("emoji_clip", [f"search.sampler={sampler}", "search.space=mix"])
    space, around = checked_space(config), surroundings(config)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=make_sampler(config.search, 0, 0))
    for number in range(11):  # past what the samplers draw at random before they model anything
        trial = study.ask()
        space.suggest(trial, around)
        study.tell(trial, [number % 3, number % 5])
    trial = study.ask()
    space.suggest(trial, around)
    modelled = set(trial.relative_params)
    assert set(trial.params) - modelled <= {name for name in trial.params if len(space.values(name)) == 1}
    assert len(modelled) >= 12
