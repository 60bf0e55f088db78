from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.explorer import payload
from analysis.fronts import compromise, knee, members, recipe_in_words, selection
from analysis.load import load_study
from analysis.pareto import Directions, nondominated
from analysis.units import shown

if TYPE_CHECKING:
    from conftest import StudyFolder

TWO: Directions = {"map": "maximise", "variance": "minimise"}
THREE: Directions = {"map": "maximise", "variance": "minimise", "accuracy": "maximise"}


def test_the_knee_is_farthest_from_the_line_between_the_ends() -> None:
    # Scaled, with 0 the best: (1, 0), (.75, .5), (.4, .2), (0, 1). From x + y = 1: -.25, .4 over the root of 2.
    rows = [[0.0, 0.0], [0.25, 5.0], [0.6, 2.0], [1.0, 10.0]]
    assert knee(rows, TWO) == 2


def test_the_knee_stays_in_other_units_and_other_orders() -> None:
    rows = np.array([[0.0, 0.0], [0.3, 1.0], [0.6, 2.0], [0.9, 7.0], [1.0, 10.0]])
    found = knee(rows, TWO)
    assert found == 2
    assert knee(rows * [1000.0, 0.001] + [7.0, -3.0], TWO) == found
    assert knee(rows[::-1], TWO) == len(rows) - 1 - found


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [[1.0, 1.0]],
        [[1.0, 1.0], [2.0, 3.0]],
        [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]],  # straight
        [[1.0, 1.0], [2.0, 2.9], [3.0, 3.0]],  # bulges away from the ideal
        [[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]],  # copies of one
    ],
)
def test_a_front_without_a_bulge_has_no_knee(rows: list[list[float]]) -> None:
    assert knee(rows, TWO) is None


def test_three_objectives_have_a_knee_off_the_plane_through_their_ends() -> None:
    # The ends in cost, scaled: (0, 1, 1), (1, 0, 1), (1, 1, 0): the plane x + y + z = 2.
    ends = [[1.0, 10.0, 0.0], [0.0, 0.0, 0.0], [0.0, 10.0, 1.0]]
    assert knee([*ends, [0.5, 4.0, 0.4], [0.7, 2.0, 0.7]], THREE) == 4  # 1.5 and .8: the second is nearer to the ideal
    assert knee(ends, THREE) is None


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=3, max_size=12))
def test_the_knee_agrees_with_the_distance_to_a_line_by_cross_product(rows: list[tuple[int, int]]) -> None:
    values = np.unique(np.array(rows, dtype=float), axis=0)
    front = values[nondominated(values, TWO)]
    found = knee(front, TWO)
    if len(front) < 3:
        assert found is None
        return
    scaled = (front - front.min(axis=0)) / np.ptp(front, axis=0)
    first, last = scaled[scaled[:, 0].argmin()], scaled[scaled[:, 0].argmax()]
    along = (last - first) / np.linalg.norm(last - first)
    # On the right of the way from the first to the last end are higher map and lower variance.
    bulge = [float((row - first)[0] * along[1] - (row - first)[1] * along[0]) for row in scaled]
    if max(bulge) > 1e-6:
        assert found is not None
        assert bulge[found] == pytest.approx(max(bulge))
    else:
        assert found is None


def test_the_compromise_has_the_least_bad_worst_objective() -> None:
    rows = [[0.0, 0.0], [0.45, 2.0], [0.5, 4.0], [0.9, 9.0], [1.0, 10.0]]
    # Worst of both, scaled: 1, .55, .5, .9, 1.
    assert compromise(rows, TWO) == 2
    assert compromise([[1.0, 3.0], [0.5, 1.0]], TWO) == 0  # both are ends: the one better in the first objective
    assert compromise([[1.0, 3.0]], TWO) == 0
    assert compromise([], TWO) is None
    assert compromise([[1.0, 10.0, 0.0], [0.0, 0.0, 0.0], [0.0, 10.0, 1.0], [0.5, 5.0, 0.5]], THREE) == 3


def test_members_have_scores_intervals_and_test_in_the_units_of_figures(study_folder: StudyFolder) -> None:
    study_folder.teacher()
    study_folder.trial(0, 0.30, 4.0, strategy="ed")
    study_folder.trial(1, 0.40, 16.0)
    study_folder.trial(2, 0.10, 20.0)
    study_folder.confirmed(1, (0.38, 14.0), (0.40, 18.0))
    study_folder.tested(1, 0.37, 25.0)
    table = members(load_study(study_folder.path)).set_index("number")
    assert [*table.index] == [1, 0]
    row = table.loc[1]
    assert (row["retrieval_map"], row["vqa_variance"]) == (40.0, 4.0)
    assert row["retrieval_map_low"] == pytest.approx(40 - 1.959964)
    assert row["vqa_variance_high"] == pytest.approx((16 + 1.959964 * 2) ** 0.5)
    assert (row["retrieval_map_confirmed"], row["vqa_variance_confirmed"]) == (pytest.approx(39.0), pytest.approx(4.0))
    assert (row["retrieval_map_test"], row["vqa_variance_test"]) == (pytest.approx(37.0), 5.0)
    assert (row["pick"], row["seeds"], row["recipe"]) == ("compromise", 2, "fd, training (learning rate 0.001)")
    assert table.loc[0, ["retrieval_map_confirmed", "retrieval_map_test", "support"]].isna().all()


def test_the_metric_of_one_set_has_the_unit_and_the_interval_of_the_metric(study_folder: StudyFolder) -> None:
    study_folder.teacher()
    study_folder.trial(0, 0.40, 16.0)
    study_folder.tested(0, 0.37, 25.0)
    of_all = load_study(study_folder.path)
    names = {"vqa_variance": "vqa_variance@cvqa", "vqa_variance_noise": "vqa_variance_noise@cvqa"}
    of_set = replace(
        of_all,
        objectives={names.get(name, name): way for name, way in of_all.objectives.items()},
        trials=of_all.trials.rename(columns=names),
        test_metrics={"00000": {names.get(name, name): value for name, value in of_all.test_metrics["00000"].items()}},
    )
    ends = ["", "_low", "_high", "_test"]
    wanted = members(of_all).loc[0, [f"vqa_variance{end}" for end in ends]].tolist()
    assert members(of_set).loc[0, [f"vqa_variance@cvqa{end}" for end in ends]].tolist() == wanted
    numbers = selection(of_set).drop(columns=["metric", "teacher_worse", "flattered"])
    assert numbers.equals(selection(of_all)[numbers.columns])
    assert payload(of_set)["trials"][0]["bar"] == payload(of_all)["trials"][0]["bar"]
    assert shown("vqa_variance@cvqa").axis() == "VQA spread over languages, cvqa (s.d.\u00a0in\u00a0points)"


def test_selection_is_what_the_front_loses_beyond_its_teacher(study_folder: StudyFolder) -> None:
    # The builder's teacher loses .02 of mAP on test, and its variance grows from 16 to 17.
    study_folder.teacher(0.6, 16.0)
    study_folder.trial(0, 0.40, 9.0)
    study_folder.tested(0, 0.35, 16.0)
    study_folder.confirmed(0, (0.38, 9.0))
    study_folder.trial(1, 0.30, 4.0)
    table = selection(load_study(study_folder.path)).set_index("metric")
    assert table["trial"].tolist() == ["00000", "00000"]
    by_map, spread = table.loc["retrieval_map"], table.loc["vqa_variance"]
    assert (by_map["worse"], by_map["teacher_worse"]) == (pytest.approx(5.0), pytest.approx(2.0))
    assert (by_map["flattered"], by_map["luck"]) == (pytest.approx(3.0), pytest.approx(2.0))
    assert spread["worse"] == pytest.approx(4.0 - 3.0)
    assert spread["flattered"] == pytest.approx(1.0 - (17**0.5 - 4.0))
    assert (by_map["test_low"], by_map["test_high"]) == (pytest.approx(35 - 1.959964), pytest.approx(35 + 1.959964))


def test_nothing_to_say_is_a_table_without_rows(study_folder: StudyFolder) -> None:
    data = load_study(study_folder.path)
    assert (len(members(data)), len(selection(data))) == (0, 0)
    study_folder.teacher()
    study_folder.trial(0, state="failed")
    data = load_study(study_folder.path)
    assert (len(members(data)), len(selection(data))) == (0, 0)
    assert "retrieval_map_confirmed_low" in members(data)


def test_a_recipe_in_words_has_what_its_kinds_use() -> None:
    recipe = {
        "strategy": "mix",
        "strategy_weights": {"fd": 0.5, "dr": 1.25},
        "image_mapping": {"kind": "monotone", "layers": [2, 5]},
        "language_weighting": {"kind": "difficulty", "gamma": -1.0, "logits": {}},
        "replication": {"queue_size": 2048},
        "learning_rate": 0.00213,
    }
    words = recipe_in_words(recipe)
    assert words == (
        "mix, strategy weights (fd 0.5, dr 1.25), image mapping monotone (layers 2 5), "
        "language weighting difficulty (gamma -1), replication (queue size 2048), learning rate 0.00213"
    )
    assert "replication" not in recipe_in_words({**recipe, "strategy": "fd", "strategy_weights": {}})
    assert recipe_in_words({}) == ""
