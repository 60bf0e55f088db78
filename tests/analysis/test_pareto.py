from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.pareto import (
    Directions,
    feasible,
    front_mask,
    hypervolume,
    hypervolume_contributions,
    nondominated,
    nondomination_rank,
    promotion_place,
    reference_point,
    violation,
)

TWO: Directions = {"map": "maximise", "variance": "minimise"}
THREE: Directions = {"map": "maximise", "variance": "minimise", "accuracy": "maximise"}
NAN = math.nan

# Few distinct values, so that ties, copies and unmeasured rows are common.
coordinate = st.sampled_from([0.0, 0.25, 1.0, 2.0, 3.5, NAN])
rows_and_directions = st.sampled_from([TWO, THREE]).flatmap(
    lambda directions: st.tuples(st.lists(st.tuples(*[coordinate] * len(directions)), max_size=9), st.just(directions))
)


def dominates(one: tuple[float, ...], other: tuple[float, ...], directions: Directions) -> bool:
    signs = [1 if direction == "maximise" else -1 for direction in directions.values()]
    gains = [sign * (a - b) for sign, a, b in zip(signs, one, other, strict=True)]
    return all(gain >= 0 for gain in gains) and any(gain > 0 for gain in gains)


def brute_force_ranks(rows: list[tuple[float, ...]], directions: Directions) -> list[int]:
    ranks = [len(rows)] * len(rows)
    left = {i for i, row in enumerate(rows) if all(map(math.isfinite, row))}
    rank = 0
    while left:
        front = {i for i in left if not any(dominates(rows[j], rows[i], directions) for j in left)}
        for i in front:
            ranks[i] = rank
        left -= front
        rank += 1
    return ranks


@settings(deadline=None)
@given(rows_and_directions)
def test_nondominated_and_ranks_agree_with_pairwise_comparison(
    case: tuple[list[tuple[float, ...]], Directions],
) -> None:
    rows, directions = case
    ranks = brute_force_ranks(rows, directions)
    finite = [all(map(math.isfinite, row)) for row in rows]
    assert nondomination_rank(rows, directions).tolist() == ranks
    expected = [rank == 0 and ok for rank, ok in zip(ranks, finite, strict=True)]
    assert nondominated(rows, directions).tolist() == expected


def test_all_copies_of_a_nondominated_row_are_kept() -> None:
    assert nondominated([[1, 1], [1, 1], [0, 2]], TWO).tolist() == [True, True, False]


def test_hypervolume_of_a_staircase_is_the_area_of_its_rectangles() -> None:
    # From the corner (0, 10): widths 1, 1, 2 and heights 8, 6, 3. The last two rows add nothing.
    rows = [[4.0, 7.0], [1.0, 2.0], [2.0, 4.0], [1.0, 9.0], [NAN, 0.0]]
    assert hypervolume(rows, TWO, {"map": 0.0, "variance": 10.0}) == pytest.approx(1 * 8 + 1 * 6 + 2 * 3)


def test_hypervolume_of_one_point_is_the_volume_of_its_box() -> None:
    reference = {"map": 0.0, "variance": 10.0, "accuracy": 0.2}
    assert hypervolume([[0.5, 4.0, 0.6]], THREE, reference) == pytest.approx(0.5 * 6.0 * 0.4)
    assert hypervolume([[3.0], [5.0]], {"map": "maximise"}, {"map": 1.0}) == pytest.approx(4.0)


@pytest.mark.parametrize("beyond", [[5.0, 10.0], [5.0, 11.0], [-1.0, 2.0], [0.0, 2.0]])
def test_rows_beyond_the_reference_point_contribute_nothing(beyond: list[float]) -> None:
    reference = {"map": 0.0, "variance": 10.0}
    alone = hypervolume([[2.0, 5.0]], TWO, reference)
    assert alone == pytest.approx(10.0)
    assert hypervolume([[2.0, 5.0], beyond], TWO, reference) == pytest.approx(alone)
    assert hypervolume([beyond], TWO, reference) == 0.0


def test_a_contribution_is_what_the_hypervolume_loses_with_the_row() -> None:
    rows = np.array([[4.0, 7.0], [1.0, 2.0], [2.0, 4.0], [NAN, 1.0]])
    reference = {"map": 0.0, "variance": 10.0}
    whole = hypervolume(rows, TWO, reference)
    without = [hypervolume(np.delete(rows, i, axis=0), TWO, reference) for i in range(len(rows))]
    np.testing.assert_allclose(hypervolume_contributions(rows, TWO, reference), whole - np.array(without))


@pytest.mark.parametrize(("rows", "expected"), [([3.0, 5.0, NAN], [0, 4, 0]), ([5.0, 5.0], [0, 0]), ([0.5], [0])])
def test_in_one_objective_only_a_single_best_row_contributes(rows: list[float], expected: list[float]) -> None:
    one: Directions = {"map": "maximise"}
    contributions = hypervolume_contributions([[row] for row in rows], one, {"map": 1.0})
    assert contributions.tolist() == expected


def test_reference_point_is_zero_or_twice_the_teacher() -> None:
    assert reference_point({"map": 0.6, "variance": 12.0}, TWO) == {"map": 0.0, "variance": 24.0}
    with pytest.raises(ValueError, match="variance"):
        reference_point({"map": 0.6}, TWO)


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        ({"lift": 0.5}, True),
        ({"lift": 0.9}, True),
        ({"lift": 0.49}, False),
        ({"lift": 0.91}, False),
        ({"lift": NAN}, False),
        ({}, False),
    ],
)
def test_feasible_means_within_bounds_and_known(metrics: dict[str, float], expected: bool) -> None:
    assert feasible(metrics, {"lift": {"min": 0.5, "max": 0.9}}) is expected


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        ({"lift": 0.5, "std": 4.0}, 0.0),
        ({"lift": 0.2, "std": 4.0}, 0.3),
        ({"lift": 1.0, "std": 4.0}, 0.1),
        ({"lift": 0.2, "std": 6.5}, 0.3 + 2.5),
        ({"lift": NAN, "std": 4.0}, math.inf),
        ({"std": 4.0}, math.inf),
    ],
)
def test_violation_adds_up_by_how_much_bounds_are_missed(metrics: dict[str, float], expected: float) -> None:
    constraints = {"lift": {"min": 0.5, "max": 0.9}, "std": {"min": None, "max": 4.0}}
    assert violation(metrics, constraints) == pytest.approx(expected)


def test_the_front_has_only_complete_feasible_measured_trials() -> None:
    trials = pd.DataFrame(
        [
            ("complete", 0.9, 1.0, 0.2),  # would dominate everything, but violates the constraint
            ("stopped", 0.8, 1.0, 0.9),
            ("running", 0.8, 1.0, 0.9),
            ("complete", 0.5, NAN, 0.9),
            ("complete", 0.4, 5.0, 0.9),
            ("complete", 0.3, 5.0, 0.9),
            ("complete", 0.2, 2.0, 0.5),
            ("failed", NAN, NAN, NAN),
        ],
        columns=["state", "map", "variance", "lift"],
    )
    mask = front_mask(trials, TWO, {"lift": {"min": 0.5, "max": None}})
    assert np.flatnonzero(mask).tolist() == [4, 6]


def promotion_order(rows: Any, directions: Directions, violations: list[float]) -> list[int]:
    """All rows by their place, which must tell them apart."""
    places = [promotion_place(rows, directions, violations, row) for row in range(len(rows))]
    assert sorted(places) == list(range(len(rows)))
    return [places.index(place) for place in range(len(rows))]


def test_promotion_takes_extremes_then_the_largest_contributions() -> None:
    # One front; between the extremes 0 and 4, the row 2 stands far out and the rows 1 and 3 hardly.
    rows = [[0.0, 0.0], [1.0, 3.9], [6.0, 4.0], [6.1, 9.0], [10.0, 10.0]]
    order = promotion_order(rows, TWO, [0.0] * 5)
    assert sorted(order[:2]) == [0, 4]
    assert order[2] == 2


def test_promotion_is_the_same_in_other_units() -> None:
    rows = np.array([[0.1, 30.0], [0.2, 31.0], [0.3, 45.0], [0.35, 46.0], [0.4, 60.0], [0.1, 60.0]])
    usual = promotion_order(rows, TWO, [0.0] * 6)
    assert promotion_order(rows * [1000.0, 0.01], TWO, [0.0] * 6) == usual


def test_promotion_puts_copies_behind_the_rest_of_their_front() -> None:
    rows = [[0.0, 0.0], [0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [0.0, 5.0]]
    order = promotion_order(rows, TWO, [0.0] * 5)
    assert set(order[:2]) == {0, 3}
    assert order[2:] == [2, 1, 4]


def test_promotion_puts_infeasible_rows_behind_feasible_ones_by_the_size_of_their_violation() -> None:
    # The better its objectives, the more a row violates; row 4 is not measured, row 5 misses by infinity.
    rows = [[9.0, 1.0], [5.0, 5.0], [3.0, 7.0], [1.0, 9.0], [NAN, 0.0], [9.0, 0.0]]
    assert promotion_order(rows, TWO, [0.3, 0.2, 0.0, 0.1, 0.0, math.inf]) == [2, 3, 1, 0, 5, 4]


@settings(deadline=None)
@given(rows_and_directions, st.data())
def test_promotion_never_puts_a_row_before_one_that_is_plainly_better(
    case: tuple[list[tuple[float, ...]], Directions], data: st.DataObject
) -> None:
    rows, directions = case
    size = st.sampled_from([0.0, 0.0, 0.1, 2.0, math.inf])
    violations = data.draw(st.lists(size, min_size=len(rows), max_size=len(rows)))
    order = promotion_order(rows, directions, violations)
    finite = [all(map(math.isfinite, row)) for row in rows]
    tiers = [(not ok, size if ok else 0.0) for ok, size in zip(finite, violations, strict=True)]
    assert [tiers[i] for i in order] == sorted(tiers)
    for position, later in enumerate(order):
        for earlier in order[:position]:
            if finite[later] and tiers[earlier] == tiers[later]:
                assert not dominates(rows[later], rows[earlier], directions)


def test_values_that_do_not_fit_the_objectives_are_refused() -> None:
    with pytest.raises(ValueError, match="variance"):
        nondominated([[1.0, 2.0, 3.0]], TWO)
    with pytest.raises(ValueError, match="violations"):
        promotion_place([[1.0, 2.0]], TWO, [0.0, 1.0], 0)


def test_importing_the_module_stays_light() -> None:
    # A scheduler imports it in every process that it starts.
    code = "import sys, analysis.pareto; print({'pandas', 'matplotlib', 'torch', 'ray'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"
