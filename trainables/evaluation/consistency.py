"""Cross-lingual consistency: how alike a model answers the same question in two languages, right or wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from trainables.data.prepared import Array

DEPTH = 10  # most similar images that are compared
_PERSISTENCE = 0.9
Matrix = list[list[float | None]]


def rank_biased_overlap(first: Array, second: Array, persistence: float = _PERSISTENCE) -> Array:
    """How much the tops of two rankings agree, float64 [M], from 0 (nothing in common) to 1 (the same).

    Extrapolated rank-biased overlap (Webber, Moffat & Zobel 2010, "A similarity measure for indefinite rankings",
    equation 32): X_k/k·p^k + (1 − p)/p·Σ_d X_d/d·p^d over depths d = 1…k, where X_d is how many of the first d are
    in both. Agreement at the top counts most: with p = 0.9 the first ten carry 86 % of the weight.

    Args:
        first: rankings int [M, k], best first, each without repetition; k at least 1.
        second: the same of the other language.
    """
    depth = first.shape[1]
    depths = np.arange(1, depth + 1)
    weights = (1 - persistence) / persistence * persistence**depths
    weights[-1] += persistence**depth
    # An entry in place i of one and j of the other is in both from depth max(i, j) on.
    worth = (weights / depths)[::-1].cumsum()[::-1]
    later = np.maximum(depths[:, None], depths[None, :])
    shared = first[:, :, None] == second[:, None, :]
    overlap: Array = shared.reshape(len(first), -1) @ worth[later - 1].ravel()
    return overlap


def kappa(first: Array, second: Array) -> float:
    """Cohen's kappa of two vectors of right and wrong, bool [N]: agreement beyond what both accuracies give by chance.

    1 is the same items right, 0 what independent answers give (Cohen 1960; as error consistency, Geirhos, Meding &
    Wichmann 2020, arXiv 2006.16736). NaN where N is 0, or both answer everything right or everything wrong.
    """
    if not len(first):
        return math.nan
    observed = float((first == second).mean())
    expected = float(first.mean() * second.mean() + (1 - first.mean()) * (1 - second.mean()))
    return (observed - expected) / (1 - expected) if expected < 1 else math.nan


def retrieval_consistency(rankings: Sequence[Array], present: Array) -> Matrix:
    """Mean `rank_biased_overlap` of each pair of languages over the captions that both have; None where there is none.

    Args:
        rankings: for each language the most similar images of its captions, int [M, k], k at most `DEPTH`.
        present: which captions a language has, bool [L, M]. A row shows the same item in every language.
    """

    def pair(one: int, other: int) -> float:
        both = present[one] & present[other]
        if not both.any():
            return math.nan
        return float(rank_biased_overlap(rankings[one][both], rankings[other][both]).mean())

    return _symmetric(len(present), pair)


def answer_consistency(correct: Array, asked: Array) -> Matrix:
    """`kappa` of each pair of languages over the items that both ask; None where it is not defined.

    Args:
        correct: bool [L, N].
        asked: whether a language asks an item, bool [L, N].
    """

    def pair(one: int, other: int) -> float:
        both = asked[one] & asked[other]
        return kappa(correct[one][both], correct[other][both])

    return _symmetric(len(asked), pair)


def mean_of_pairs(matrix: Matrix) -> float | None:
    """The mean over pairs of different languages, None if no pair has a value."""
    values = [value for place, row in enumerate(matrix) for value in row[:place] if value is not None]
    return sum(values) / len(values) if values else None


def over_languages(languages: Sequence[str], sets: Sequence[tuple[Sequence[str], Matrix]]) -> Matrix:
    """The mean over sets of each pair of ``languages``, None where no set has a value; each set has languages of its own."""

    def pair(one: int, other: int) -> float:
        both = [languages[one], languages[other]]
        places = [
            ([own.index(language) for language in both], matrix) for own, matrix in known if set(both) <= set(own)
        ]
        values = [value for (row, column), matrix in places if (value := matrix[row][column]) is not None]
        return sum(values) / len(values) if values else math.nan

    known = [(list(own), matrix) for own, matrix in sets]
    return _symmetric(len(languages), pair)


def _symmetric(size: int, pair: Callable[[int, int], float]) -> Matrix:
    matrix: Matrix = [[None] * size for _ in range(size)]
    for one in range(size):
        for other in range(one + 1):
            value = pair(one, other)
            matrix[one][other] = matrix[other][one] = None if math.isnan(value) else round(value, 5)
    return matrix
