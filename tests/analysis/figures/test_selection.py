from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from analysis.figures.selection import selection
from analysis.load import load_study

if TYPE_CHECKING:
    from conftest import StudyFolder


def test_the_headline_says_what_the_first_objective_loses_on_test_in_its_unit(study_folder: StudyFolder) -> None:
    study_folder.teacher(0.6, 16.0, test=False)
    study_folder.trial(0, 0.40, 9.0)
    study_folder.tested(0, 0.35, 16.0)
    data = load_study(study_folder.path)
    even_first = replace(data, objectives={"vqa_variance": "minimise", "retrieval_map": "maximise"})
    said = [selection(each).get_suptitle().replace("\n", " ") for each in (data, even_first)]
    assert said == [
        "On test the front is 5 points worse in retrieval mAP",
        "On test the front is 1 points worse in VQA spread over languages",
    ]
