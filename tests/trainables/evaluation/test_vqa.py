from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from trainables.evaluation.vqa import accuracies, choose, correct_answers, variance_noise, variance_over_languages


def test_similarity_of_each_option_and_none_where_there_is_none() -> None:
    texts = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    images = torch.tensor([[0.8, 0.6], [0.0, 1.0]])
    found = choose(images, texts, torch.tensor([[2, 0, 1], [1, 2, -1]]))
    torch.testing.assert_close(found, torch.tensor([[0.96, 0.8, 0.6], [1.0, 0.8, -math.inf]]))


@pytest.mark.parametrize(
    ("similarity", "answer", "right"),
    [
        ([0.2, 0.9, 0.1], 1, True),
        ([0.2, 0.9, 0.1], 0, False),
        ([0.9, 0.9, 0.1], 0, False),  # a tie is not an answer
        ([0.9, 0.1, 0.1], 0, True),  # a tie below is no matter
        ([-0.5, -0.7, -math.inf], 0, True),  # two options
        ([-0.5, -0.3, -math.inf], 0, False),
        ([math.nan, 0.1, 0.2], 0, False),
        ([0.3, math.nan, 0.2], 0, False),
    ],
)
def test_only_the_strictly_most_similar_option_is_an_answer(similarity: list[float], answer: int, right: bool) -> None:
    assert correct_answers(torch.tensor([similarity]), torch.tensor([answer])).tolist() == [right]


def everything(correct: torch.Tensor | np.ndarray) -> torch.Tensor:
    """Every language asks every item."""
    return torch.ones(correct.shape, dtype=torch.bool)


@given(arrays.arrays(np.bool_, st.tuples(st.integers(1, 5), st.integers(1, 30))))
def test_variance_over_languages_is_in_squared_points(correct: np.ndarray) -> None:
    accuracy = [100 * sum(row) / len(row) for row in correct.tolist()]
    mean = sum(accuracy) / len(accuracy)
    expected = sum((value - mean) ** 2 for value in accuracy) / len(accuracy)
    assert variance_over_languages(torch.from_numpy(correct), everything(correct)) == pytest.approx(expected, abs=1e-9)


def test_variance_of_two_languages_is_the_square_of_half_their_difference() -> None:
    correct = torch.tensor([[True] * 3 + [False], [True] + [False] * 3])
    assert variance_over_languages(correct, everything(correct)) == pytest.approx(25.0**2)


@pytest.mark.parametrize(("items", "share"), [(40, 0.25), (200, 0.6)])
def test_noise_is_the_exact_spread_of_a_bootstrap(items: int, share: float) -> None:
    # One language answers a share of the items, the other none: the variance of a resample is (50·X/n)² points, X binomial.
    right = round(share * items)
    correct = torch.zeros(2, items, dtype=torch.bool)
    correct[0, :right] = True
    counts = np.arange(items + 1)
    chances = np.asarray([math.comb(items, int(x)) * share**x * (1 - share) ** (items - x) for x in counts])
    variances = (50 * counts / items) ** 2
    expected = math.sqrt((chances * variances**2).sum() - (chances * variances).sum() ** 2)
    found = variance_noise(correct, everything(correct), torch.Generator().manual_seed(0))
    assert found == pytest.approx(expected, rel=0.1)  # 1,000 resamples know a spread to about 2 %


def test_noise_agrees_with_a_larger_bootstrap_over_shared_items() -> None:
    rng = np.random.default_rng(0)
    difficulty = rng.random(120)
    correct = np.stack([rng.random(120) < level * difficulty for level in (1.0, 0.8, 0.5)])
    resamples = rng.integers(120, size=(20_000, 120))
    accuracies = 100 * correct[:, resamples].mean(axis=2)
    expected = float(accuracies.var(axis=0).std(ddof=1))
    found = variance_noise(torch.from_numpy(correct), everything(correct), torch.Generator().manual_seed(1))
    assert found == pytest.approx(expected, rel=0.1)


def test_languages_that_answer_alike_have_no_noise_since_items_are_paired() -> None:
    row = torch.rand(50, generator=torch.Generator().manual_seed(0)) < 0.5
    correct = row.repeat(4, 1)
    found = variance_noise(correct, everything(correct), torch.Generator().manual_seed(0))
    assert found == pytest.approx(0, abs=1e-6)


def test_noise_of_languages_with_items_of_their_own_is_that_of_independent_draws() -> None:
    rng = np.random.default_rng(0)
    asked = np.zeros((3, 210), np.bool_)
    asked[0, :40] = asked[1, 40:110] = asked[2, 110:] = True
    correct = asked & (rng.random((3, 210)) < np.asarray([[0.8], [0.5], [0.4]]))
    resampled = [
        100 * rng.choice(right[of], (20_000, of.sum())).mean(axis=1) for right, of in zip(correct, asked, strict=True)
    ]
    expected = float(np.var(resampled, axis=0).std(ddof=1))
    found = variance_noise(torch.from_numpy(correct), torch.from_numpy(asked), torch.Generator().manual_seed(0))
    assert found == pytest.approx(expected, rel=0.1)


def test_a_language_that_shares_its_items_with_others_is_paired_with_each() -> None:
    # English answers every item as the language that asks it: it is the mean of the two, whatever is drawn.
    rng = np.random.default_rng(1)
    asked = np.asarray([[True] * 160, [True] * 60 + [False] * 100, [False] * 60 + [True] * 100])
    right = rng.random(160) < 0.5
    correct = asked & right
    drawn = rng.choice(right[:60], (20_000, 60)), rng.choice(right[60:], (20_000, 100))
    own = [100 * part.mean(axis=1) for part in drawn]
    expected = float(np.var([0.375 * own[0] + 0.625 * own[1], *own], axis=0).std(ddof=1))
    found = variance_noise(torch.from_numpy(correct), torch.from_numpy(asked), torch.Generator().manual_seed(0))
    assert found == pytest.approx(expected, rel=0.1)


def test_noise_of_languages_that_lack_items_here_and_there_is_that_of_a_larger_bootstrap() -> None:
    rng = np.random.default_rng(2)
    asked = rng.random((6, 150)) < 0.5  # nearly every item is asked in a set of languages of its own
    correct = asked & (rng.random((6, 150)) < rng.random(150) * np.linspace(1, 0.5, 6)[:, None])
    drawn = rng.integers(150, size=(20_000, 150))
    accuracies = 100 * correct[:, drawn].sum(axis=2) / asked[:, drawn].sum(axis=2)
    expected = float(accuracies.var(axis=0).std(ddof=1))
    found = variance_noise(torch.from_numpy(correct), torch.from_numpy(asked), torch.Generator().manual_seed(0))
    assert found == pytest.approx(expected, rel=0.1)


def test_noise_is_finite_where_a_language_has_one_item() -> None:
    asked = torch.zeros(2, 30, dtype=torch.bool)
    asked[0], asked[1, 3] = True, True
    correct = (torch.arange(30) % 2 == 0).repeat(2, 1)
    found = variance_noise(correct, asked, torch.Generator().manual_seed(0))
    assert math.isfinite(found)
    assert found > 0


def test_what_a_language_is_not_asked_counts_neither_right_nor_wrong() -> None:
    asked = torch.tensor([[True, True, True, True], [True, True, False, False]])
    correct = torch.tensor([[True, False, False, False], [True, False, True, True]])
    assert accuracies(correct, asked).tolist() == [0.25, 0.5]
    assert variance_over_languages(correct, asked) == pytest.approx(12.5**2)


def test_noise_depends_on_the_generator_alone() -> None:
    correct = torch.rand(3, 50, generator=torch.Generator().manual_seed(0)) < torch.tensor([[0.3], [0.5], [0.8]])
    first, again, other = (
        variance_noise(correct, everything(correct), torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert first == again != other
