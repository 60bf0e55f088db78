from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from analysis.languages import (
    TEACHER,
    chosen_trial,
    consistency,
    language_changes,
    language_groups,
    language_weights,
    two_way_slope,
    weight_effects,
    weights_of,
    worst_languages,
)
from analysis.load import StudyData, load_study
from tests.analysis.varied import PER_DOUBLING, TEACHER_MAP, matrices, varied_study, weights
from trainables.language_weights import language_weights as trained_with
from trainables.recipe import LanguageWeighting

if TYPE_CHECKING:
    from conftest import StudyFolder


def test_changes_are_differences_from_the_teacher_in_points(varied: StudyData) -> None:
    table = language_changes(varied)
    assert len(table) == 3 * 41
    teacher = table[table["trial"] == TEACHER].set_index("language")
    assert teacher["retrieval_map"].to_dict() == pytest.approx({code: 100 * ap for code, ap in TEACHER_MAP.items()})
    assert (teacher["retrieval_map_change"] == 0).all()
    row = table[(table["trial"] == "00003") & (table["language"] == "ar")].iloc[0]
    stored = varied.by_language.query("trial == '00003' and language == 'ar'").iloc[0]
    assert row["retrieval_map"] == pytest.approx(50 * (stored["map_i2t"] + stored["map_t2i"]))
    assert row["retrieval_map_change"] == pytest.approx(row["retrieval_map"] - 30)
    assert row["vqa_accuracy_change"] == pytest.approx(47 - 50)
    assert (row["name"], row["script"], row["family"]) == ("Arabic", "Arabic", "Afro-Asiatic")


def test_the_worst_language_and_the_gap_are_those_of_the_scores(varied: StudyData) -> None:
    table = worst_languages(varied).set_index(["trial", "task"])
    teacher = table.loc[(TEACHER, "retrieval_map")]
    assert teacher[["worst", "best", "gap", "most_lost"]].tolist() == ["ar", "en", pytest.approx(40.0), ""]
    vqa = table.loc[("00000", "vqa_accuracy")]
    assert vqa[["best", "best_score", "worst_score", "gap"]].tolist() == ["ar", *map(pytest.approx, (47.0, 45.0, 2.0))]
    assert vqa["most_lost_change"] == pytest.approx(-5.0)


def test_groups_are_means_over_their_languages_and_single_ones_have_no_interval(varied: StudyData) -> None:
    table = language_groups(varied)
    scripts = table[(table["grouping"] == "script") & (table["task"] == "vqa_accuracy")].set_index("group")
    assert scripts["change"].to_dict() == pytest.approx({"Arabic": -3.0, "Japanese": -5.0, "Latin": -5.0})
    assert scripts["low"].isna().all()
    assert set(table["grouping"]) == {"script", "family"}


def test_weights_are_those_that_trials_are_trained_with(varied: StudyData) -> None:
    table = language_weights(varied)
    for trial, recipe in zip(varied.trials["trial"], varied.trials["recipe"], strict=True):
        own = table[table["trial"] == trial].set_index("language")["weight"]
        assert own.to_dict() == pytest.approx(weights(json.loads(recipe)))
    weighting = {"kind": "difficulty", "gamma": -2.0}
    expected = trained_with(LanguageWeighting.model_validate(weighting), ["a", "b"], {"a": 1.0, "b": 0.2})
    assert weights_of(weighting, pd.Series({"a": 1.0, "b": 0.2})) == pytest.approx(expected)


def test_the_effect_of_a_weight_is_found_where_it_is_and_only_there(varied: StudyData) -> None:
    table = weight_effects(varied).set_index("task")
    retrieval = table.loc["retrieval_map"]
    assert retrieval["points_per_doubling"] == pytest.approx(PER_DOUBLING, abs=1e-6)
    assert table.loc["vqa_accuracy", "points_per_doubling"] == pytest.approx(0.0, abs=1e-6)
    uneven = [len(set(np.round([*weights(json.loads(recipe)).values()], 9))) > 1 for recipe in varied.trials["recipe"]]
    assert retrieval["trials"] == sum(uneven)


def test_a_two_way_slope_is_that_of_least_squares_with_an_indicator_of_each_trial_and_language() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(7, 4))
    y = 0.7 * x + rng.normal(size=(7, 1)) + rng.normal(size=(1, 4)) + 0.1 * rng.normal(size=(7, 4))
    trial, language = np.indices(x.shape)
    indicators = [trial.ravel() == place for place in range(7)] + [language.ravel() == place for place in range(1, 4)]
    design = np.column_stack([x.ravel(), *indicators]).astype(float)
    expected = np.linalg.lstsq(design, y.ravel(), rcond=None)[0][0]
    assert two_way_slope(x, y) == pytest.approx(expected)
    assert np.isnan(two_way_slope(np.ones((3, 2)), np.ones((3, 2))))


def test_consistency_is_read_from_the_ledger(varied: StudyData, study_folder: StudyFolder) -> None:
    table = consistency(varied, "00002")
    retrieval = table[table["task"] == "retrieval"].pivot(index="language", columns="other", values="agreement")
    expected = np.array(matrices(0.4)["retrieval"], dtype=float)
    np.testing.assert_equal(retrieval.loc[list(varied.languages), list(varied.languages)].to_numpy(), expected)
    assert consistency(varied).query("task == 'retrieval' and language == 'en' and other == 'ja'")[
        "agreement"
    ].tolist() == [0.6]
    study_folder.teacher().trial(0)
    assert consistency(load_study(study_folder.path), "00000").empty


def test_the_chosen_trial_is_of_the_front_or_else_the_best(study_folder: StudyFolder) -> None:
    study_folder.teacher()
    assert chosen_trial(load_study(study_folder.path)) == ""
    study_folder.trial(0, 0.2, lift=0.1)
    study_folder.trial(1, 0.3, lift=0.1)
    study_folder.trial(2, 0.9, state="stopped")
    assert chosen_trial(load_study(study_folder.path)) == "00001"
    study_folder.trial(3, 0.1)
    assert chosen_trial(load_study(study_folder.path)) == "00003"


@pytest.mark.parametrize("trials", [0, 1, 2])
def test_a_small_study_has_tables_without_effects(study_folder: StudyFolder, trials: int) -> None:
    data = load_study(varied_study(study_folder, trials).path)
    assert len(language_changes(data)) == 3 * (trials + 1)
    assert len(worst_languages(data)) == 2 * (trials + 1)
    assert weight_effects(data)["points_per_doubling"].isna().all()
    assert language_groups(data).empty == (trials == 0)
