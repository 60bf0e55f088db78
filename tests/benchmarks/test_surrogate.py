from __future__ import annotations

import numpy as np
import pytest

from search_spaces.space import SearchSpace, Surroundings, load_space
from study.checks import surroundings
from study.config import load_config
from study.warm_start import starting_points
from tests.benchmarks.record import METRICS, Recording, read_recording
from tests.benchmarks.surrogate import Forest, Surrogate, encoded, held_out_errors, noise, recipe_of
from trainables.recipe import Recipe

ensemble = pytest.importorskip("sklearn.ensemble")


@pytest.fixture(scope="module")
def recording() -> Recording:
    return read_recording()


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return load_space("full")


@pytest.fixture(scope="module")
def around() -> Surroundings:
    return surroundings(load_config("emoji_clip"))


@pytest.fixture(scope="module")
def surrogate(recording: Recording, space: SearchSpace, around: Surroundings) -> Surrogate:
    return Surrogate(recording, space, around)


def test_held_out_recipes_are_predicted_better_than_by_the_mean(
    recording: Recording, space: SearchSpace, around: Surroundings
) -> None:
    errors = held_out_errors(recording, space, around).set_index(["metric", "step"])
    assert len(errors) == len(METRICS) * len(recording.levels)
    for metric in ("retrieval_map", "vqa_lift_kept"):
        assert (errors.loc[metric, "r2"] > 0.3).all()
        assert (errors.loc[metric, "spearman"] > 0.5).all()
    assert errors.loc[("vqa_variance", recording.levels[-1]), "r2"] > 0.3


def test_a_forest_in_arrays_predicts_what_scikit_learn_does() -> None:
    rng = np.random.default_rng(0)
    inputs, outputs = rng.normal(size=(40, 3)), rng.normal(size=(40, 2)) * [1.0, 50.0]
    scaled = (outputs - outputs.mean(axis=0)) / outputs.std(axis=0)
    model = ensemble.ExtraTreesRegressor(300, max_features=0.5, random_state=7).fit(inputs, scaled)
    new = rng.normal(size=(5, 3))
    expected = model.predict(new) * outputs.std(axis=0) + outputs.mean(axis=0)
    forest = Forest.fit(inputs, outputs, seed=7)
    np.testing.assert_allclose([forest.predict(row) for row in new], expected, rtol=1e-9)


def test_trainings_scatter_about_what_is_expected_as_much_as_recorded_ones(
    recording: Recording, space: SearchSpace, around: Surroundings, surrogate: Surrogate
) -> None:
    recipe = recipe_of(recording.recipes.iloc[0].to_dict(), space, around)
    rng = np.random.default_rng(0)
    means, trainings = zip(*(surrogate.training(recipe, rng) for _ in range(200)), strict=True)
    expected = surrogate.expected(recipe)
    np.testing.assert_array_equal(means, [expected] * 200)
    spread = np.log([training[-1, 0] for training in trainings]).std()  # of retrieval at the end
    recorded = noise(recording).reshape(len(recording.levels), len(METRICS))[-1, 0]
    assert 0 < spread < 4 * recorded
    assert all((training[:, :2] > 0).all() for training in trainings)


def test_noise_is_the_scatter_between_trainings_of_one_recipe(recording: Recording) -> None:
    twice = Recording(
        recording.levels,
        recording.reference,
        recording.recipes.iloc[[0, 0, 1]],
        recording.scores.iloc[[0, 0, 1]].copy(),
    )
    twice.scores.iloc[1] = twice.scores.iloc[0] * np.e
    level = noise(twice).reshape(len(recording.levels), len(METRICS))
    assert level[0, 0] == pytest.approx(np.sqrt(0.5))  # logarithms that differ by 1
    with pytest.raises(ValueError, match="trained twice"):
        noise(Recording(recording.levels, recording.reference, recording.recipes.iloc[:2], recording.scores.iloc[:2]))


def test_what_has_no_effect_is_not_encoded(space: SearchSpace, around: Surroundings) -> None:
    none = {"kind": "none"}
    settings = {"strategy": "fd", "task_weight": 0.1, "image_mapping": none, "text_mapping": none}
    one = Recipe.model_validate(settings | {"layer_weight": 0.1, "initialise": "mapped"})
    other = Recipe.model_validate(settings | {"layer_weight": 3.0, "initialise": "random"})
    np.testing.assert_array_equal(encoded(one, around), encoded(other, around))
    config = load_config("emoji_clip")
    known = [recipe_of(point.params, space, around) for point in starting_points(config, space)]
    assert len({encoded(recipe, around).tobytes() for recipe in known}) == len(known)
