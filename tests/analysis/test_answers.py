from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from analysis.answers import COLUMNS, answers
from analysis.load import StudyData, load_study
from tests.analysis.varied import varied_study

if TYPE_CHECKING:
    from conftest import StudyFolder


def test_questions_have_the_known_answers(varied: StudyData) -> None:
    table = answers(varied).set_index("question")
    retrieval = table.loc["Which strategy keeps retrieval?"]
    assert retrieval["answer"].startswith("FD: +5.")
    assert retrieval["estimate"] == pytest.approx(6.0, abs=0.4)
    assert (retrieval["trials"], retrieval["unit"]) == (40, "points")
    even = table.loc["Which strategy keeps VQA even over languages?"]
    assert even["answer"].startswith("DR: −0.")
    assert "constraints" in even["method"]
    layers = table.loc["What does matching image layers add to retrieval?"]
    assert layers["answer"].startswith("Nothing that can be told from 0")
    assert layers["low"] < 0 < layers["high"]
    assert table.loc["What does matching text layers add to retrieval?", "answer"] == (
        "The trials do not compare it with none."
    )
    assert "no recipe was trained again" in table.loc["How much do seeds alone move retrieval?", "answer"]


def test_two_strategies_that_do_alike_are_not_told_apart(study_folder: StudyFolder) -> None:
    study_folder.teacher()
    rng = np.random.default_rng(0)
    for number in range(24):
        study_folder.trial(number, 0.3 + 0.02 * rng.normal(), strategy="fd" if number % 2 else "ed")
    answer = answers(load_study(study_folder.path)).iloc[0]["answer"]
    assert answer.startswith("Not settled: ")
    assert "FD" in answer
    assert "ED" in answer


@pytest.mark.parametrize("trials", [0, 1, 11])
def test_too_few_trials_are_said_to_be_so(study_folder: StudyFolder, trials: int) -> None:
    table = answers(load_study(varied_study(study_folder, trials).path))
    assert list(table.columns) == list(COLUMNS)
    assert table["answer"].iloc[0] == f"Too few trials to say: {trials}, and 12 are needed."
    assert table["estimate"].isna().all()


def test_only_trials_that_keep_the_constraints_say_what_is_even(study_folder: StudyFolder) -> None:
    study_folder.teacher()
    for number in range(12):
        study_folder.trial(number, 0.3 + number / 100, strategy="fd" if number % 2 else "ed", lift=0.1)
    table = answers(load_study(study_folder.path)).set_index("question")
    assert table.loc["Which strategy keeps VQA even over languages?", "trials"] == 0
    assert table.loc["Which strategy keeps retrieval?", "trials"] == 12
