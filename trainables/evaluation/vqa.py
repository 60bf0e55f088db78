"""Multiple-choice visual question answering by similarity, and how its accuracy varies over languages."""

from __future__ import annotations

import torch
from torch import Tensor

_RESAMPLES = 1000


def choose(images: Tensor, texts: Tensor, options: Tensor) -> Tensor:
    """The similarity of each option to its item's image.

    Args:
        images: unit vectors [N, D].
        texts: unit vectors of the distinct option texts [M, D].
        options: rows of ``texts``, int [N, C], -1 where an item has fewer options.

    Returns:
        float [N, C], -inf where there is no option.
    """
    similarity = torch.einsum("nd,ncd->nc", images, texts[options.clamp(min=0)])
    return similarity.masked_fill(options < 0, -torch.inf)


def correct_answers(similarity: Tensor, answer: Tensor) -> Tensor:
    """Whether each item's right option is strictly the most similar one, bool [N]: a tie is not an answer."""
    right = similarity.gather(1, answer[:, None])
    others = similarity.scatter(1, answer[:, None], -torch.inf)
    return (right > others).all(dim=1)


def accuracies(correct: Tensor, asked: Tensor) -> Tensor:
    """The share of right answers in each language, float64 [L].

    Args:
        correct: bool [L, N].
        asked: whether a language asks an item, bool [L, N]; each asks one at least.
    """
    return (correct & asked).sum(dim=1).double() / asked.sum(dim=1)


def variance_over_languages(correct: Tensor, asked: Tensor) -> float:
    """Population variance of `accuracies` over languages in squared percentage points."""
    accuracy = 100 * accuracies(correct, asked)
    return float(accuracy.var(correction=0))


def variance_noise(correct: Tensor, asked: Tensor, generator: torch.Generator) -> float:
    """Standard error of `variance_over_languages` by a bootstrap over items, in squared percentage points.

    Items are drawn with replacement, the same draw in every language (Efron & Tibshirani 1993, chapter 6). So languages
    that are asked the same items are paired, and those that have items of their own vary independently.
    """
    correct, asked = (correct & asked).cpu(), asked.cpu()
    items = correct.shape[1]
    draws = torch.multinomial(torch.ones(items), _RESAMPLES * items, replacement=True, generator=generator)
    counts = torch.zeros(_RESAMPLES, items, dtype=torch.float32)
    counts.scatter_add_(1, draws.view(_RESAMPLES, items), torch.ones(_RESAMPLES, items))
    drawn = counts @ asked.float().T  # [resamples, L], how many items of each language
    accuracy = 100 * (counts @ correct.float().T) / drawn
    # A language with few items may be left without any.
    accuracy = torch.where(drawn > 0, accuracy, 100 * accuracies(correct, asked).float())
    return float(accuracy.double().var(dim=1, correction=0).std(correction=1))
