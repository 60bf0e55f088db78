from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from matplotlib.figure import Figure

from analysis.figures.consistency import consistency
from analysis.figures.languages import changes, groups, retrieval_against_vqa, worst
from analysis.figures.weights import weights
from analysis.languages import chosen_trial, language_changes, worst_languages
from tests.analysis.varied import PER_DOUBLING

if TYPE_CHECKING:
    from analysis.load import StudyData


def cells(figure: Figure, panel: int) -> np.ndarray:
    (mesh,) = figure.axes[panel].collections
    return np.ma.filled(np.ma.asarray(mesh.get_array()), np.nan)


def test_the_heat_map_has_a_row_a_recipe_and_a_column_a_language_and_the_mean(varied: StudyData) -> None:
    figure = changes(varied)
    table = language_changes(varied).pivot(index="trial", columns="language", values="retrieval_map_change")
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    shown = table.loc[[f"{int(label.split('#')[1].split()[0]):05d}" for label in labels], ["en", "ja", "ar"]]
    np.testing.assert_allclose(cells(figure, 0)[:, :3], shown)
    np.testing.assert_allclose(cells(figure, 0)[:, 3], shown.mean(axis=1))
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["en", "ja", "ar", "mean"]
    front = varied.trials.loc[varied.trials["on_front"], "number"].tolist()
    assert sorted(int(label.split("#")[1].split()[0]) for label in labels if "●" in label) == sorted(front)
    loses, least = shown.mean().idxmin(), shown.mean().idxmax()
    names = {"en": "English", "ja": "Japanese", "ar": "Arabic"}
    assert figure.get_suptitle().startswith(f"{names[loses]} loses most retrieval")
    assert names[least] in figure.get_suptitle()


def test_lines_go_from_the_worst_language_to_the_best(varied: StudyData) -> None:
    figure = worst(varied)
    teacher = worst_languages(varied).iloc[0]
    line = figure.axes[0].lines[0].get_xdata()
    assert line == pytest.approx([teacher["worst_score"], teacher["best_score"]])
    assert {text.get_text() for text in figure.axes[0].texts} <= {"en", "ja", "ar"}
    assert "gap" in figure.get_suptitle()


def test_languages_are_placed_by_both_scores(varied: StudyData) -> None:
    figure = retrieval_against_vqa(varied)
    student = language_changes(varied).query("trial == @chosen", local_dict={"chosen": chosen_trial(varied)})
    drawn = [line.get_xydata() for line in figure.axes[0].lines]
    np.testing.assert_allclose(drawn[1], student[["retrieval_map", "vqa_accuracy"]])
    assert len(drawn[0]) == 3


@pytest.mark.parametrize(
    ("accuracies", "said"),
    [
        ([0.4, 0.5, 0.6], "the same languages are weak in both"),
        ([0.6, 0.5, 0.4], "weak in one are strong in the other"),
    ],
)
def test_the_headline_says_how_retrieval_and_vqa_go_together(
    varied: StudyData, accuracies: list[float], said: str
) -> None:
    scores = varied.by_language.copy()
    rows = scores["trial"].eq(chosen_trial(varied)) & scores["split"].eq("validation")
    scores.loc[rows, "map_i2t"] = scores.loc[rows, "map_t2i"] = [0.1, 0.2, 0.3]
    scores.loc[rows, "vqa_accuracy"] = accuracies
    assert said in retrieval_against_vqa(replace(varied, by_language=scores)).get_suptitle().replace("\n", " ")


def test_the_matrix_has_the_teacher_above_and_the_student_below(varied: StudyData) -> None:
    matrix = cells(consistency(varied), 0).reshape(3, 3)
    assert (matrix[0, 1], matrix[1, 0]) == (0.6, 0.4)
    assert np.isnan(np.diag(matrix)).all()


def test_the_line_has_the_slope_of_a_doubling(varied: StudyData) -> None:
    figure = weights(varied)
    x, y = figure.axes[0].lines[0].get_data()
    assert np.ptp(y) / np.ptp(x) == pytest.approx(PER_DOUBLING)
    assert figure.get_suptitle().startswith(
        "Doubling a language's weight shows in its scores: Retrieval mAP +1.50 points"
    )


def test_groups_name_their_languages(varied: StudyData) -> None:
    labels = [text.get_text() for axes in groups(varied).axes[:2] for text in axes.get_yticklabels()]
    assert {"Latin\n(en)", "Arabic\n(ar)", "Japonic\n(ja)"} <= set(labels)
