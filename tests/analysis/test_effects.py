from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.effects import choice_effects, interactions, median_interval, seed_noise, strategy_effects
from analysis.load import StudyData, load_study
from tests.analysis.varied import START, STRATEGY, varied_study

if TYPE_CHECKING:
    from conftest import StudyFolder


def test_effects_of_strategies_are_the_known_ones(varied: StudyData) -> None:
    table = strategy_effects(varied)
    retrieval = table[table["objective"] == "retrieval_map"].set_index("strategy")
    for strategy, effect in STRATEGY.items():
        row = retrieval.loc[strategy]
        assert row["effect_low"] < effect < row["effect_high"]
        assert row["effect"] == pytest.approx(effect, abs=0.4)
        own = 100 * varied.trials.loc[varied.trials["strategy"] == strategy, "retrieval_map"]
        assert (row["trials"], row["best"], row["median"]) == (len(own), own.max(), own.median())
        assert row["low"] <= row["median"] <= row["high"]
    spread = table[table["objective"] == "vqa_variance"].set_index("strategy")
    assert spread.loc["dr", "effect"] == pytest.approx(-2 / 3, abs=0.1)  # 1 point less than both others
    own = varied.trials.loc[varied.trials["strategy"] == "dr", "vqa_variance"]
    assert spread.loc["dr", "best"] == pytest.approx(np.sqrt(own.min()))


def test_effects_of_levels_are_the_known_ones_and_the_others_hold_zero(varied: StudyData) -> None:
    table = choice_effects(varied)
    retrieval = table[table["objective"] == "retrieval_map"]
    start = retrieval[retrieval["choice"] == "initialise"].set_index("level")
    assert start.loc["mapped", "effect"] == pytest.approx(START["mapped"], abs=0.4)
    assert start["is_clear"].all()
    made = retrieval[~retrieval["choice"].isin(["strategy", "initialise"])]
    assert made["is_clear"].mean() < 0.2
    assert {"image_mapping.kind", "language_weighting.kind", "layer_weight", "learning_rate"} <= set(made["choice"])
    gamma = made[made["choice"] == "language_weighting.gamma"].iloc[0]
    assert gamma["condition"] == "weighting is difficulty"
    assert gamma["trials"] < 40
    assert "→" in gamma["level"]


def test_pairs_are_those_of_what_matters_and_additive_effects_have_none(varied: StudyData) -> None:
    table = interactions(varied)
    retrieval = table[table["objective"] == "retrieval_map"]
    assert len(retrieval) == 6
    assert {frozenset(pair) for pair in zip(retrieval["first"], retrieval["second"], strict=True)} >= {
        frozenset(["strategy", "initialise"])
    }
    assert not table["is_clear"].any()
    assert retrieval["size"].is_monotonic_decreasing


def test_seed_noise_is_the_pooled_deviation_of_confirmations(study_folder: StudyFolder) -> None:
    study_folder.teacher()
    for number in range(2):
        study_folder.trial(number)
    study_folder.confirmed(0, (0.40, 4.0), (0.44, 9.0))
    study_folder.confirmed(1, (0.30, 4.0), (0.31, 4.0), (0.35, 4.0))
    found = seed_noise(load_study(study_folder.path)).set_index("objective").loc["retrieval_map"]
    square = 2 * 2.0**2 + 2.0**2 + 1.0**2 + 3.0**2
    assert found["deviation"] == pytest.approx(np.sqrt(square / 3))
    assert found["high"] == pytest.approx(np.sqrt(square / stats.chi2.ppf(0.025, 3)))
    assert found["trainings"] == 5


def test_the_interval_of_a_median_is_that_of_order_statistics() -> None:
    """By the binomial distribution, the closed form without resampling."""
    values = np.sort(np.random.default_rng(0).normal(size=41))
    low, high = median_interval(values, np.random.default_rng(1))
    places = stats.binom.ppf([0.025, 0.975], 41, 0.5).astype(int)
    assert abs(np.searchsorted(values, low) - places[0]) <= 1
    assert abs(np.searchsorted(values, high) - places[1]) <= 1
    assert np.isnan(median_interval(values[:2], np.random.default_rng(0))).all()


@pytest.mark.parametrize("trials", [0, 1, 5])
def test_a_small_study_has_tables_without_effects(study_folder: StudyFolder, trials: int) -> None:
    data = load_study(varied_study(study_folder, trials).path)
    assert len(strategy_effects(data)) == 2 * data.trials["strategy"].nunique()
    assert strategy_effects(data)["effect"].isna().all()
    assert choice_effects(data)["effect"].isna().all()
    assert interactions(data).empty
    assert seed_noise(data)["deviation"].isna().all()


def test_trials_that_were_not_trained_to_the_end_do_not_count(study_folder: StudyFolder) -> None:
    varied_study(study_folder, 14)
    before = strategy_effects(load_study(study_folder.path))
    study_folder.trial(90, 0.99, state="stopped", strategy="mcl")
    study_folder.trial(91, 0.99, state="failed", strategy="mcl")
    study_folder.trial(92, 0.99, state=None, strategy="mcl")
    (study_folder.path / "trials/00092/recipe.json").write_text("{", encoding="utf-8")
    pd.testing.assert_frame_equal(strategy_effects(load_study(study_folder.path)), before)
