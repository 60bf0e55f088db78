from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from analysis.confirmation import confirm
from analysis.pareto import Directions

TWO: Directions = {"map": "maximise", "variance": "minimise"}


def runs(maps: list[float], variances: list[float], lift: float = 1.0) -> list[dict[str, float]]:
    return [{"map": m, "variance": v, "lift": lift} for m, v in zip(maps, variances, strict=True)]


def test_means_have_students_intervals_with_the_pooled_variance() -> None:
    trainings = {"a": runs([0.40, 0.44], [5.0, 7.0]), "b": runs([0.30, 0.31, 0.35], [2.0, 3.0, 4.0])}
    found = confirm(trainings, TWO, {})
    # Pooled over both: (2·0.02² + 0.02² + 0.01² + 0.03²) / 3, and 1 + 2 degrees of freedom.
    deviation = np.sqrt((2 * 0.02**2 + 0.02**2 + 0.01**2 + 0.03**2) / 3)
    margin = stats.t.ppf(0.975, 3) * deviation / np.sqrt([2, 3])
    for name, mean, half in (("a", 0.42, margin[0]), ("b", 0.32, margin[1])):
        assert found[name].mean["map"] == pytest.approx(mean)
        assert found[name].low["map"] == pytest.approx(mean - half)
        assert found[name].high["map"] == pytest.approx(mean + half)
    assert [found[name].seeds for name in "ab"] == [2, 3]


def test_support_is_the_chance_that_no_other_dominates() -> None:
    # With variances that do not vary, exactly one of the two is nondominated in each draw: the one of higher mAP.
    trainings = {"good": runs([0.50, 0.54], [5.0, 5.0]), "bad": runs([0.49, 0.53], [5.0, 5.0])}
    found = confirm(trainings, TWO, {})
    assert found["good"].support > found["bad"].support > 0.2
    assert found["good"].support + found["bad"].support == pytest.approx(1.0, abs=1e-9)
    sharp = {"good": runs([0.50, 0.501], [5.0, 5.1]), "bad": runs([0.30, 0.301], [9.0, 9.1])}
    found = confirm(sharp, TWO, {})
    assert (found["good"].support, found["bad"].support) == (pytest.approx(1.0, abs=0.01), pytest.approx(0, abs=0.01))
    assert (found["good"].is_supported, found["bad"].is_supported) == (True, False)


def test_a_single_seed_has_no_interval_and_places_go_by_the_scores() -> None:
    found = confirm({"a": runs([0.4], [5.0]), "b": runs([0.3], [6.0]), "c": []}, TWO, {})
    assert set(found) == {"a", "b"}
    assert (found["a"].low, found["a"].high, found["a"].support) == ({}, {}, 1.0)
    assert found["b"].support == 0.0


def test_a_mean_that_violates_a_constraint_supports_no_place() -> None:
    found = confirm({"a": runs([0.4, 0.5], [5.0, 5.5], lift=0.4)}, TWO, {"lift": {"min": 0.5}})
    assert found["a"].mean["lift"] == pytest.approx(0.4)
    assert found["a"].support == 0.0


def test_nothing_confirmed_is_nothing() -> None:
    assert confirm({}, TWO, {}) == {}
