from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from study.checks import checked_space, surroundings
from study.config import load_config
from study.errors import UserError
from study.samplers import make_sampler

STRATEGY = "strategy: {choice: [fd]}\n"


def check(folder: Path, text: str) -> str:
    """The message about a space with this text, which names its file first."""
    path = folder / "space.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as raised:
        checked_space(load_config("emoji_clip", [f"search.space={path}"]))
    message = str(raised.value)
    assert "\n" not in message
    assert message.removeprefix("search.space: ").startswith(f"{path}: ")
    return message.split(f"{path}: ")[1]


def test_the_full_space_passes_for_the_preset_and_for_the_smallest_study() -> None:
    assert "strategy" in checked_space(load_config("emoji_clip")).entries
    smallest = ["data.languages=[en, tr]", "student.image.layers=1", "student.text.layers=1"]
    assert "strategy" in checked_space(load_config("emoji_clip", smallest)).entries


def test_a_space_is_told_the_sizes_and_languages_of_its_study() -> None:
    around = surroundings(load_config("emoji_clip", ["data.languages=[en, tr]"]))
    assert around.student_layers == {"image": 2, "text": 2}
    assert around.teacher_layers == {"image": 6, "text": 4}
    assert around.languages == ("en", "tr")


@pytest.mark.parametrize(
    ("text", "entry", "hints"),
    [
        ("strategey: {choice: [fd]}", "strategey", ["no such field", "did you mean strategy?"]),
        (STRATEGY + "replication.queue: {int: [1, 9]}", "replication.queue", ["did you mean replication.queue_size?"]),
        (STRATEGY + "learning_rate.low: {int: [1, 9]}", "learning_rate.low", []),
        (STRATEGY + "strategy.x: {choice: [fd]}", "strategy.x", []),
        (STRATEGY + "image_mapping.layers.1: {int: [1, 2]}", "image_mapping.layers.1", []),
        ("strategy: {choice: [fd, xd]}", "strategy", ["'xd'", "'mcl'"]),
        (STRATEGY + "strategy_weights.xd: {float: [0, 1]}", "strategy_weights.xd", ["xd", "'mcl'"]),
        (STRATEGY + "image_mapping.kind: {choice: [upside]}", "image_mapping.kind", ["'upside'", "'monotone'"]),
        (STRATEGY + "learning_rate: {float: [0, 1]}", "learning_rate", ["0.0", "greater than 0"]),
        (STRATEGY + "language_weighting.gamma: {float: [-3, 0]}", "language_weighting.gamma", ["-3.0", "-2"]),
        (STRATEGY + "replication.queue_size: {choice: [1.5]}", "replication.queue_size", ["1.5"]),
        (STRATEGY + "layer_weight: {layers: image}", "layer_weight", ["number"]),
        (STRATEGY + "layer_weight: {languages: [0, 1]}", "layer_weight", ["number"]),
    ],
)  # fmt: skip
def test_an_entry_that_a_recipe_cannot_have_is_named_with_what_it_can_have(
    tmp_path: Path, text: str, entry: str, hints: list[str]
) -> None:
    message = check(tmp_path, text)
    assert message.startswith(f"{entry}: ")
    assert all(hint in message for hint in hints), message


@pytest.mark.parametrize(
    ("text", "hints"),
    [
        ("learning_rate: {float: [0.001, 0.01]}", ["strategy"]),
        ("strategy: {choice: [mix]}", ["mix", "positive weight"]),
        ("strategy: {choice: [fd, dr]}\nstrategy_weights.fd: {float: [0.1, 1]}", ["strategy_weights", "only mix"]),
        (STRATEGY + "image_mapping.kind: {choice: [monotone]}", ["image_mapping", "monotone", "needs layers"]),
        (
            STRATEGY + "image_mapping.kind: {choice: [last]}\nimage_mapping.layers: {layers: image}",
            ["image_mapping", "last", "takes no layers"],
        ),
        (
            STRATEGY + "text_mapping.kind: {choice: [monotone]}\ntext_mapping.layers: {layers: image}",
            ["2 student layers", "4 teacher layers"],
        ),
        (STRATEGY + "language_weighting.kind: {choice: [free]}", ["language_weighting", "logit"]),
    ],
)
def test_a_choice_that_lacks_its_settings_is_found_before_anything_runs(
    tmp_path: Path, text: str, hints: list[str]
) -> None:
    message = check(tmp_path, text)
    assert all(hint in message for hint in hints), message


def test_gp_takes_a_space_without_conditions_alone() -> None:
    with pytest.raises(UserError) as raised:
        checked_space(load_config("emoji_clip", ["search.sampler=gp"]))
    assert str(raised.value) == (
        "search.sampler: gp models a space as a whole, but 11 of the 20 entries of full are conditional (they have a "
        "when): take search.space: mix, or search.sampler: tpe"
    )
    assert "strategy" in checked_space(load_config("emoji_clip", ["search.sampler=gp", "search.space=mix"])).entries


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


def test_a_mistake_in_the_file_itself_names_the_key_that_led_to_it(tmp_path: Path) -> None:
    assert check(tmp_path, "strategy: {choise: [fd]}").startswith("strategy: needs exactly one of")
    with pytest.raises(UserError, match=r"^search\.space: no space 'fulll': did you mean full\?"):
        checked_space(load_config("emoji_clip", ["search.space=fulll"]))
