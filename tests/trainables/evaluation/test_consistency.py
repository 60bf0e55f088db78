from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from trainables.evaluation.consistency import (
    answer_consistency,
    kappa,
    mean_of_pairs,
    rank_biased_overlap,
    retrieval_consistency,
)


def overlap_by_definition(first: list[int], second: list[int], p: float) -> float:
    """Equation 32 of Webber, Moffat & Zobel (2010), with sets."""
    k = len(first)
    shared = [len(set(first[:d]) & set(second[:d])) for d in range(1, k + 1)]
    return shared[-1] / k * p**k + (1 - p) / p * sum(x / d * p**d for d, x in enumerate(shared, start=1))


def test_overlap_of_rankings_is_that_of_the_definition() -> None:
    rng = np.random.default_rng(0)
    first = np.array([rng.permutation(15)[:10] for _ in range(50)])
    second = np.array([rng.permutation(15)[:10] for _ in range(50)])
    for p in (0.5, 0.9):
        expected = [overlap_by_definition(a, b, p) for a, b in zip(first.tolist(), second.tolist(), strict=True)]
        np.testing.assert_allclose(rank_biased_overlap(first, second, p), expected, rtol=1e-12)


def test_equal_rankings_agree_wholly_strange_ones_not_at_all_and_the_top_counts_most() -> None:
    ranking = np.arange(10)[None]
    assert rank_biased_overlap(ranking, ranking) == pytest.approx(1.0)
    assert rank_biased_overlap(ranking, ranking + 10) == pytest.approx(0.0)
    swapped_first, swapped_last = ranking.copy(), ranking.copy()
    swapped_first[0, :2], swapped_last[0, 8:] = [1, 0], [9, 8]
    assert rank_biased_overlap(ranking, swapped_first) < rank_biased_overlap(ranking, swapped_last)


def test_kappa_is_cohens() -> None:
    rng = np.random.default_rng(1)
    first = rng.random(200) < 0.6
    second = np.where(rng.random(200) < 0.7, first, rng.random(200) < 0.4)
    assert kappa(first, second) == pytest.approx(cohen_kappa_score(first, second))
    everything = np.ones(5, np.bool_)
    assert math.isnan(kappa(everything, everything))
    assert math.isnan(kappa(everything[:0], everything[:0]))


def test_languages_are_compared_on_what_they_share() -> None:
    present = np.array([[True, True, False], [True, False, True], [False, False, True]])
    rankings = [
        np.array([[0, 1], [2, 3], [9, 9]]),
        np.array([[0, 1], [9, 9], [4, 5]]),
        np.array([[9, 9], [8, 8], [5, 6]]),
    ]
    matrix = retrieval_consistency(rankings, present)
    assert matrix[0] == [1.0, 1.0, None]
    assert matrix[1][2] == matrix[2][1] == pytest.approx(overlap_by_definition([4, 5], [5, 6], 0.9), abs=1e-5)
    correct = np.array([[True, False, True, False], [True, False, False, True], [True, True, True, True]])
    asked = np.array([[True, True, True, True], [True, True, False, False], [False, False, False, False]])
    answers = answer_consistency(correct, asked)
    assert answers == [[1.0, 1.0, None], [1.0, 1.0, None], [None, None, None]]
    assert mean_of_pairs(answers) == 1.0
    assert mean_of_pairs([[1.0]]) is None
