"""What a model makes of one set, a language at a time: its scores, and the similarities behind them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from trainables.data.prepared import Array, CaptionedImages, VisualQuestions
from trainables.evaluation.consistency import (
    DEPTH,
    Matrix,
    answer_consistency,
    mean_of_pairs,
    retrieval_consistency,
)
from trainables.evaluation.retrieval import RECALL_AT, ItemNoise, RetrievalScores, average_precision, retrieval_scores
from trainables.evaluation.summary import Row
from trainables.evaluation.vqa import accuracies, choose, correct_answers, variance_noise, variance_over_languages

_NOISE_SEED = 0
_SHOWN = 3  # most similar images kept for each caption


@dataclass(frozen=True)
class Retrieved:
    """What the scores of a retrieval set are computed from, kept for looking at single cases."""

    text_precision: Array  # [L, M] average precision of text→image, NaN for a caption that is missing or has no image
    best_images: Array  # [L, M, up to 3] rows of the most similar images


class Gallery:
    """Captioned images whose images are encoded."""

    def __init__(self, data: CaptionedImages, images: Tensor) -> None:
        """``images``: unit vectors [N, D]."""
        self.data = data
        self.languages: dict[str, Row] = {}  # scores by language
        self._images = images
        self._image_item = torch.tensor(data.image_item, device=images.device)
        self._noise = ItemNoise()
        shape = data.present.shape
        self._precision = np.full(shape, np.nan)
        self._best = np.zeros((*shape, min(DEPTH, len(images))), np.int64)

    def tokens(self, language: str) -> Array:
        """The texts whose embeddings `score` takes, int [M, T]."""
        place = self._place(language)
        tokens: Array = self.data.tokens[place][self._present(place)]
        return tokens

    def score(self, language: str, texts: Tensor) -> None:
        """Take in a language; ``texts``: unit vectors [M, D] of its `tokens`."""
        place = self._place(language)
        present = self._present(place)
        text_item = torch.tensor(self.data.text_item[present], device=texts.device)
        of_images = average_precision(self._images, texts, self._image_item, text_item)
        of_texts = average_precision(texts, self._images, text_item, self._image_item)
        self._noise.add(*of_images, self._image_item)
        self._noise.add(*of_texts, text_item)
        self.languages[language] = {
            **_named(retrieval_scores(*of_images), "i2t"),
            **_named(retrieval_scores(*of_texts), "t2i"),
        }
        found, first = of_texts
        self._precision[place, present] = torch.where(first > 0, found, torch.nan).cpu().numpy()
        nearest = (texts @ self._images.T).topk(self._best.shape[-1], dim=1).indices
        self._best[place, present] = nearest.cpu().numpy()

    def summary(self) -> Row:
        """``retrieval_map``, its standard error and ``retrieval_consistency``, once all languages are scored."""
        means = [(row["map_i2t"] + row["map_t2i"]) / 2 for row in self.languages.values()]
        return {
            "retrieval_map": float(np.mean(means)),
            "retrieval_map_noise": self._noise.standard_error(),
            **_mean("retrieval_consistency", self.consistency),
        }

    @cached_property
    def consistency(self) -> Matrix:
        """[L, L]: how alike the images rank for two languages, once all are scored."""
        return retrieval_consistency(list(self._best), np.asarray(self.data.present))

    def retrieved(self) -> Retrieved:
        return Retrieved(self._precision, self._best[:, :, :_SHOWN])

    def _place(self, language: str) -> int:
        return list(self.data.languages).index(language)

    def _present(self, place: int) -> Array:
        return np.asarray(self.data.present[place])


class Quiz:
    """Visual questions whose images are encoded."""

    def __init__(self, data: VisualQuestions, images: Tensor) -> None:
        """``images``: unit vectors [N, D]."""
        self.data = data
        self.languages: dict[str, Row] = {}  # scores by language
        self._images = images
        self._answer = torch.tensor(data.answer, device=images.device)
        self._correct = torch.zeros(data.options.shape[:2], dtype=torch.bool)
        self._similarity = np.full(data.options.shape, np.nan, np.float32)

    def tokens(self, language: str) -> Array:
        """The distinct options whose embeddings `score` takes, int [M, T]."""
        tokens: Array = self.data.tokens[self._used(self._place(language))]
        return tokens

    def score(self, language: str, texts: Tensor) -> None:
        """Take in a language; ``texts``: unit vectors [M, D] of its `tokens`."""
        place = self._place(language)
        asked = self._asked[place]
        options = self.data.options[place][asked]
        rows = np.where(options >= 0, np.searchsorted(self._used(place), options), -1)
        here = torch.from_numpy(asked).to(texts.device)
        similarity = choose(self._images[here], texts, torch.from_numpy(rows).to(texts.device))
        right = correct_answers(similarity, self._answer[here])
        self._correct[place].masked_scatter_(here.cpu(), right.cpu())
        self._similarity[place][asked] = similarity.cpu().numpy()
        self.languages[language] = {"vqa_accuracy": float(right.float().mean()), "vqa_items": len(right)}

    def summary(self) -> Row:
        """``vqa_accuracy``, ``vqa_variance``, its root and its standard error, and ``vqa_consistency``, once all languages
        are scored."""
        answers = self._correct, torch.from_numpy(self._asked)
        variance = variance_over_languages(*answers)
        return {
            "vqa_accuracy": float(accuracies(*answers).mean()),
            "vqa_variance": variance,
            "vqa_std": variance**0.5,
            "vqa_variance_noise": variance_noise(*answers, torch.Generator().manual_seed(_NOISE_SEED)),
            **_mean("vqa_consistency", self.consistency),
        }

    @cached_property
    def consistency(self) -> Matrix:
        """[L, L]: how alike two languages are answered, once all are scored."""
        return answer_consistency(self._correct.numpy(), self._asked)

    def option_similarity(self) -> Array:
        """[L, N, C]; -inf where there is no option, NaN where the language does not ask the item."""
        return self._similarity

    @cached_property
    def _asked(self) -> Array:
        return self.data.asked

    def _place(self, language: str) -> int:
        return list(self.data.languages).index(language)

    def _used(self, place: int) -> Array:
        options = self.data.options[place][self._asked[place]]
        return np.unique(options[options >= 0])


def _mean(name: str, matrix: Matrix) -> Row:
    mean = mean_of_pairs(matrix)
    return {} if mean is None else {name: mean}


def _named(scores: RetrievalScores, direction: str) -> dict[str, float]:
    return {
        f"map_{direction}": scores.mean_average_precision,
        **{f"recall_{k}_{direction}": scores.recall[k] for k in RECALL_AT},
        f"mrr_{direction}": scores.mean_reciprocal_rank,
    }
