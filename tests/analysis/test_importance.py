from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.importance import FanovaImportanceEvaluator, get_param_importances

from analysis.importance import COLUMNS, FEWEST, fanova, importance
from analysis.load import StudyData, load_study

if TYPE_CHECKING:
    from conftest import StudyFolder


@pytest.fixture(scope="module")
def table(varied: StudyData) -> pd.DataFrame:
    return importance(varied, draws=6)


def test_shares_are_those_of_the_known_effects(table: pd.DataFrame) -> None:
    retrieval = table[table["objective"] == "retrieval_map"].set_index("choice")
    assert list(table.columns) == list(COLUMNS)
    # Of equally frequent levels: variances 24 of strategy (6, 0, −6), 16 of start (±4).
    assert retrieval.loc["strategy", "importance"] == pytest.approx(24 / 40, abs=0.15)
    assert retrieval.loc["initialise", "importance"] == pytest.approx(16 / 40, abs=0.15)
    assert retrieval.index[:2].tolist() == ["strategy", "initialise"]
    assert retrieval["is_clear"][["strategy", "initialise"]].all()
    assert not retrieval.loc["learning_rate", "is_clear"]
    spread = table[table["objective"] == "vqa_variance"].iloc[0]
    assert (spread["choice"], spread["is_clear"]) == ("strategy", True)
    assert (table["low"].fillna(0) <= table["importance"].fillna(0)).all()


def test_a_conditional_choice_counts_among_the_trials_that_make_it(table: pd.DataFrame, varied: StudyData) -> None:
    retrieval = table[table["objective"] == "retrieval_map"].set_index("choice")
    temperature = retrieval.loc["replication.teacher_temperature"]
    assert temperature["condition"] == "DR takes part"
    assert temperature["trials"] == (varied.trials["strategy"] == "dr").sum() >= FEWEST
    assert retrieval.loc["strategy", "trials"] == 40
    # Among DR's trials there is no strategy to choose: what is left is the start's.
    assert temperature["importance"] < 0.2
    few = retrieval[retrieval["trials"] < FEWEST]
    assert len(few) > 0
    assert few["importance"].isna().all()
    assert not few["is_clear"].any()


def test_it_is_optunas_fanova_of_the_same_study() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study.optimize(
        lambda t: t.suggest_float("x", 0, 1) + 2 * (t.suggest_categorical("k", ["a", "b"]) == "a"), n_trials=60
    )
    theirs = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    choices = pd.DataFrame([trial.params for trial in study.trials])
    ours = fanova(choices, np.array([trial.value for trial in study.trials]), seed=0)
    assert ours["k"] == pytest.approx(theirs["k"], abs=0.03)
    assert ours["k"] == pytest.approx(1 / (1 + 1 / 12), abs=0.05)  # variances 1 and 1/12


def test_few_trials_have_no_importance(study_folder: StudyFolder) -> None:
    assert importance(load_study(study_folder.path)).empty
    study_folder.teacher()
    for number in range(4):
        study_folder.trial(number, 0.1 * number, strategy="fd" if number % 2 else "ed")
    study_folder.trial(4, state="failed")
    found = importance(load_study(study_folder.path))
    assert found["trials"].tolist() == [4, 4]
    assert found["importance"].isna().all()


def test_optuna_is_imported_only_where_it_is_needed() -> None:
    code = "import sys, analysis.answers, analysis.languages, analysis.importance, analysis.figures.matters; "
    code += "print({'optuna', 'sklearn', 'torch', 'ray', 'babel'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
