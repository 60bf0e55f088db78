"""What the title says of where trials ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from analysis.figures.progress import rungs
from analysis.load import load_study

if TYPE_CHECKING:
    from conftest import StudyFolder


@pytest.mark.parametrize(
    ("trials", "title"),
    [
        (
            ["fd complete", "ed complete", "ed stopped"],
            "Of 3 trials step 80 stopped 1; FD came through most often (100 %)",
        ),
        (["fd complete", "ed complete", "dr stopped"], "Of 3 trials step 80 stopped 1"),  # two came through as often
        (["fd complete", "fd stopped"], "Of 2 trials step 80 stopped 1"),
        (["fd stopped", "ed stopped"], "Of 2 trials step 80 stopped 2; none is complete"),
        (["fd complete", "ed failed"], "No rung stopped any of 2 trials"),
    ],
)
def test_a_strategy_is_named_that_came_through_more_often_than_all_others(
    study_folder: StudyFolder, trials: list[str], title: str
) -> None:
    study_folder.teacher()
    for number, (strategy, state) in enumerate(map(str.split, trials)):
        study_folder.trial(number, state=state, strategy=strategy)
    assert rungs(load_study(study_folder.path)).get_suptitle() == title
