"""A dual encoder's scores in every language on sets of captioned images and of visual questions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainables.config import Precision
from trainables.data.images import Images
from trainables.data.prepared import Array, CaptionedImages, VisualQuestions
from trainables.device import computing
from trainables.evaluation.consistency import Matrix, over_languages
from trainables.evaluation.scored import Gallery, Quiz, Retrieved
from trainables.evaluation.summary import Row, languages_over_sets, over_sets
from trainables.models.dual_encoder import DualEncoder

_IMAGES, _TEXTS = 256, 4096  # encoded at once; a tower may work through them in parts


@dataclass(frozen=True)
class Evaluation:
    """Scores, their summary, and the similarities behind them."""

    languages: dict[str, Row]  # a language's scores are means over the sets that have it, ``vqa_items`` their sum
    summary: Row
    sets: dict[
        str, dict[str, Row]
    ]  # by set and language; a set has the scores of its kind, two of one name those of both
    retrieved: dict[str, Retrieved]  # by retrieval set
    option_similarity: dict[str, Array]  # by VQA set
    # Retrieval and vqa: languages by languages, in the order of ``languages``; means over the sets.
    consistency: dict[str, Matrix]

    def scores(self) -> dict[str, Any]:
        """What a study's files hold: ``languages``, ``summary``, ``consistency``, and ``sets`` where any has a name."""
        scores = {"languages": self.languages, "summary": self.summary, "consistency": self.consistency}
        return {**scores, "sets": self.sets} if any(self.sets) else scores


def evaluate(
    model: DualEncoder,
    retrieval: Mapping[str, CaptionedImages],
    vqa: Mapping[str, VisualQuestions],
    precision: Precision,
) -> Evaluation:
    """Scores of ``model`` on all sets, by their names, with each image and text encoded once.

    The summary holds ``retrieval_map`` (mean over languages of the mean of both directions), ``vqa_accuracy``,
    ``vqa_variance`` in squared percentage points, and its root ``vqa_std``; ``retrieval_map_noise`` and
    ``vqa_variance_noise`` are standard errors over items; ``retrieval_consistency`` and ``vqa_consistency`` are means
    over pairs of languages, left out where no pair shares an item. They are means over the sets, whose own follow as
    ``NAME@SET``; a set without a name has none of its own.

    Raises:
        FloatingPointError: if an embedding is not finite.
    """
    was_training = model.training
    model.eval()
    # Only the towers run in the lower precision: similarities in it would tie.
    with torch.inference_mode():
        galleries = {
            name: Gallery(data, _encode_images(model, data.images, precision)) for name, data in retrieval.items()
        }
        quizzes = {name: Quiz(data, _encode_images(model, data.images, precision)) for name, data in vqa.items()}
        scored: list[tuple[str, Gallery | Quiz]] = [*galleries.items(), *quizzes.items()]
        for language in dict.fromkeys(language for _, one in scored for language in one.data.languages):
            here = [one for _, one in scored if language in one.data.languages]
            texts = _encode_texts(model, *(one.tokens(language) for one in here), precision=precision)
            for one, embeddings in zip(here, texts, strict=True):
                one.score(language, embeddings)
    model.train(was_training)
    sets: dict[str, dict[str, Row]] = {}
    for name, one in scored:
        for language, row in one.languages.items():
            sets.setdefault(name, {}).setdefault(language, {}).update(row)
    languages = languages_over_sets(sets)
    return Evaluation(
        languages=languages,
        summary={
            **over_sets({name: gallery.summary() for name, gallery in galleries.items()}),
            **over_sets({name: quiz.summary() for name, quiz in quizzes.items()}),
        },
        sets=sets,
        retrieved={name: gallery.retrieved() for name, gallery in galleries.items()},
        option_similarity={name: quiz.option_similarity() for name, quiz in quizzes.items()},
        consistency={
            task: over_languages(list(languages), [(one.data.languages, one.consistency) for one in of_task.values()])
            for task, of_task in (("retrieval", galleries), ("vqa", quizzes))
        },
    )


def _encode_images(model: DualEncoder, images: Images, precision: Precision) -> Tensor:
    """Embeddings [N, D] of uint8 [N, H, W, 3]."""
    device = next(model.parameters()).device
    with computing(device, precision):
        encoded = torch.cat(
            [
                model.encode_image(
                    model.preprocess(torch.tensor(images[start : start + _IMAGES], device=device))
                ).embedding
                for start in range(0, len(images), _IMAGES)
            ]
        )
    return _finite(encoded)


def _encode_texts(model: DualEncoder, *groups: Array, precision: Precision) -> list[Tensor]:
    """Embeddings [M, D] of each group of token rows int [M, T]; a text that several rows share is encoded once."""
    device = next(model.parameters()).device
    distinct, place = np.unique(np.concatenate(groups), axis=0, return_inverse=True)
    rows = torch.tensor(distinct, dtype=torch.long, device=device)
    with computing(device, precision):
        encoded = torch.cat([model.encode_text(model.read(part)).embedding for part in torch.split(rows, _TEXTS)])
    return list(torch.split(_finite(encoded)[torch.from_numpy(place).to(device)], [len(group) for group in groups]))


def _finite(embeddings: Tensor) -> Tensor:
    if not bool(torch.isfinite(embeddings).all()):
        raise FloatingPointError("an embedding is not finite")
    return embeddings
