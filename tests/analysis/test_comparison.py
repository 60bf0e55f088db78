from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy import stats

from analysis.comparison import attainment, common_reference, differences, runs
from analysis.figures.comparison import attained
from analysis.load import StudyData, load_study
from analysis.pareto import Directions

if TYPE_CHECKING:
    from conftest import StudyFolder

TWO: Directions = {"retrieval_map": "maximise", "vqa_variance": "minimise"}


@pytest.fixture
def study(new_study: Callable[[str], StudyFolder]) -> Callable[..., StudyData]:
    def made(name: str, *trials: tuple[float, float], variance: float = 10.0) -> StudyData:
        folder = new_study(name).teacher(0.6, variance)
        for number, (retrieval_map, of_variance) in enumerate(trials):
            folder.trial(number, retrieval_map, of_variance)
        return load_study(folder.path)

    return made


def test_runs_are_measured_from_the_worst_of_their_reference_points(study: Callable[..., StudyData]) -> None:
    one = study("one", (0.2, 5.0), (0.4, 15.0), variance=10.0)
    other = study("other", (0.5, 8.0), variance=12.0)
    groups = {"a": [one], "b": [other]}
    assert common_reference(groups) == {"retrieval_map": 0.0, "vqa_variance": 24.0}
    table = runs(groups)
    assert table["hypervolume"].tolist() == pytest.approx([0.2 * 19 + 0.2 * 9, 0.5 * 16])
    assert table[["retrieval_map", "vqa_variance"]].to_numpy().tolist() == [[0.4, 5.0], [0.5, 8.0]]
    assert (table["trials"].tolist(), table["front"].tolist()) == ([2, 1], [2, 1])


def test_a_permutation_test_counts_the_ways_to_deal_the_runs() -> None:
    first, second = [3.0, 5.0, 8.0, 9.0], [1.0, 2.0, 4.0]
    row = differences({"a": first, "b": second}).iloc[0]
    pooled = np.array(first + second)
    seen = np.mean(first) - np.mean(second)
    dealt = []
    for own in combinations(range(7), 4):
        others = np.setdiff1d(np.arange(7), own)
        dealt.append(pooled[list(own)].mean() - pooled[others].mean())
    greater = np.mean([each >= seen - 1e-12 for each in dealt])
    assert row["p"] == pytest.approx(min(1.0, 2 * greater))
    assert row["difference"] == pytest.approx(seen)
    assert row["better"] == pytest.approx(stats.mannwhitneyu(first, second).statistic / 12)
    assert row["smallest_p"] == pytest.approx(2 / 35)
    assert row["test"] == "exact permutation"


def test_many_runs_are_dealt_at_random_and_agree_with_students_test() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(0.0, 1.0, 20), rng.normal(0.8, 1.0, 20)
    row = differences({"a": first.tolist(), "b": second.tolist()}).iloc[0]
    assert row["test"] == "permutation, 9999 random"
    assert row["p"] == pytest.approx(stats.ttest_ind(first, second).pvalue, abs=0.01)


def test_pairs_are_corrected_as_holm_says() -> None:
    groups = {"a": [1.0, 2.0, 3.0, 4.0], "b": [11.0, 12.0, 13.0, 14.0], "c": [3.5, 4.5, 5.5, 6.5]}
    table = differences(groups)
    p = table["p"].to_numpy()
    assert [*zip(table["group"], table["other"], strict=True)] == [("a", "b"), ("a", "c"), ("b", "c")]
    low, middle, high = np.sort(p)
    expected = {low: 3 * low, middle: max(3 * low, 2 * middle), high: max(3 * low, 2 * middle, high)}
    assert table["p_holm"].tolist() == pytest.approx([min(1.0, expected[each]) for each in p])


def test_one_run_a_group_cannot_be_tested() -> None:
    table = differences({"a": [1.0], "b": [2.0, 3.0]})
    assert np.isnan(table["p"][0])
    assert table["test"][0] == "none: each group needs two runs or more"
    assert table["better"][0] == 0.0
    assert differences({"a": [1.0, 2.0]}).empty


def test_attainment_is_what_so_many_runs_reach(study: Callable[..., StudyData]) -> None:
    rng = np.random.default_rng(3)
    studies = [
        study(f"{place}", *zip(rng.uniform(0.1, 0.9, 5), rng.uniform(1.0, 19.0, 5), strict=True)) for place in range(5)
    ]
    fronts = [each.trials.loc[each.trials["on_front"], [*TWO]].to_numpy() for each in studies]
    found = attainment(studies, TWO)
    for percent in (25, 50, 75):
        surface, wanted = found[percent], int(np.ceil(5 * percent / 100))
        for retrieval_map in np.linspace(0.0, 1.0, 41):
            for variance in np.linspace(0.0, 20.0, 41):
                attained = sum(((f[:, 0] >= retrieval_map) & (f[:, 1] <= variance)).any() for f in fronts) >= wanted
                covered = bool(((surface[:, 0] >= retrieval_map) & (surface[:, 1] <= variance)).any())
                assert attained == covered


def test_runs_without_a_front_attain_nothing(study: Callable[..., StudyData]) -> None:
    studies = [study("a", (0.4, 5.0)), study("b"), study("c")]
    found = attainment(studies, TWO)
    assert found[25].tolist() == [[0.4, 5.0]]  # one of three is more than a quarter
    assert (len(found[50]), len(found[75])) == (0, 0)
    assert all(len(points) == 0 for points in attainment(studies[1:], TWO).values())


def test_a_group_without_a_front_takes_nothing_from_the_figure_of_the_others(study: Callable[..., StudyData]) -> None:
    axes = attained({"begun": [study("begun")], "done": [study("done", (0.2, 5.0), (0.4, 15.0))]}).axes[0]
    assert len(axes.get_xticks())
    assert [text.get_text() for text in axes.texts] == []
    rare = [study(name, *trials) for name, trials in zip("abcde", ([(0.2, 5.0)], [], [], [], []), strict=True)]
    assert "few" in attained({"rare": rare}).axes[0].texts[0].get_text()
