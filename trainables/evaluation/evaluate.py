"""A dual encoder's scores in every language on captioned images and visual questions, and its best and worst cases."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from itertools import compress

import numpy as np
import torch
from torch import Tensor

from trainables.config import Precision
from trainables.data.prepared import Array, CaptionedImages, VisualQuestions
from trainables.device import computing
from trainables.evaluation.consistency import (
    DEPTH,
    Matrix,
    answer_consistency,
    mean_of_pairs,
    retrieval_consistency,
)
from trainables.evaluation.retrieval import RECALL_AT, ItemNoise, RetrievalScores, average_precision, retrieval_scores
from trainables.evaluation.vqa import accuracies, choose, correct_answers, variance_noise, variance_over_languages
from trainables.models.dual_encoder import DualEncoder

_IMAGES, _TEXTS = 256, 4096  # encoded at once; a tower may work through them in parts
_NOISE_SEED = 0
_SHOWN = 3  # most similar images kept for each caption


@dataclass(frozen=True)
class Similarities:
    """What the scores are computed from, kept for looking at single cases."""

    text_precision: Array  # [L, M] average precision of text→image, NaN for a caption that is missing or has no image
    best_images: Array  # [L, M, up to 3] rows of the most similar images
    option_similarity: Array  # [L, N, C]; -inf where there is no option, NaN where the language does not ask the item


@dataclass(frozen=True)
class Evaluation:
    """Scores by language, their summary, and the similarities behind them."""

    languages: dict[str, dict[str, float]]
    summary: dict[str, float]
    similarities: Similarities
    consistency: dict[str, Matrix]  # retrieval and vqa: languages by languages, in their order


def subset(
    captions: CaptionedImages, questions: VisualQuestions, share: float, seed: int
) -> tuple[CaptionedImages, VisualQuestions]:
    """A fixed random part of the items, for evaluation that is cheap enough to repeat; every language has some."""
    rng = np.random.default_rng(seed)
    items, place = np.unique(captions.text_item, return_inverse=True)
    named = np.zeros((len(captions.languages), len(items)), np.bool_)
    languages, rows = np.nonzero(captions.present)
    named[languages, place[rows]] = True
    items = items[_part(named, share, rng)]
    texts, images = np.isin(captions.text_item, items), np.isin(captions.image_item, items)
    asked = _part(questions.asked, share, rng)
    return (
        CaptionedImages(
            languages=captions.languages,
            images=captions.images[images],
            image_item=captions.image_item[images],
            tokens=captions.tokens[:, texts],
            present=captions.present[:, texts],
            text_item=captions.text_item[texts],
            texts=[list(compress(row, texts)) for row in captions.texts],
        ),
        dataclasses.replace(
            questions,
            images=questions.images[asked],
            options=questions.options[:, asked],
            answer=questions.answer[asked],
        ),
    )


def _part(has: Array, share: float, rng: np.random.Generator) -> Array:
    """Columns of ``has``, bool [L, N], drawn at random and in order: a share of all, and of those of each language."""
    drawn = rng.choice(has.shape[1], max(1, round(share * has.shape[1])), replace=False)
    for own in map(np.flatnonzero, has):
        missing = max(1, round(share * len(own))) - int(np.isin(own, drawn).sum())
        if missing > 0:  # never where all languages have the same items
            drawn = np.concatenate([drawn, rng.choice(np.setdiff1d(own, drawn), missing, replace=False)])
    return np.sort(drawn)


def evaluate(
    model: DualEncoder, captions: CaptionedImages, questions: VisualQuestions, precision: Precision
) -> Evaluation:
    """Scores of ``model``, with each image and text encoded once.

    The summary holds ``retrieval_map`` (mean over languages of the mean of both directions), ``vqa_accuracy``,
    ``vqa_variance`` in squared percentage points, and its root ``vqa_std``; ``retrieval_map_noise`` and
    ``vqa_variance_noise`` are standard errors over items; ``retrieval_consistency`` and ``vqa_consistency`` are means
    over pairs of languages, left out where no pair shares an item.

    Raises:
        FloatingPointError: if an embedding is not finite.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    # Only the towers run in the lower precision: similarities in it would tie.
    with torch.inference_mode():
        gallery = _encode_images(model, captions.images, precision)
        pictures = _encode_images(model, questions.images, precision)
        image_item = torch.tensor(captions.image_item, device=device)
        answer = torch.tensor(questions.answer, device=device)
        asked = questions.asked
        languages: dict[str, dict[str, float]] = {}
        correct, precisions, best, chosen = [], [], [], []
        noise = ItemNoise()
        for place, language in enumerate(captions.languages):
            present = np.asarray(captions.present[place])
            options = questions.options[place][asked[place]]
            used = np.unique(options[options >= 0])
            texts, answers_of = _encode_texts(
                model, captions.tokens[place][present], questions.tokens[used], precision=precision
            )
            text_item = torch.tensor(captions.text_item[present], device=device)
            of_images = average_precision(gallery, texts, image_item, text_item)
            of_texts = average_precision(texts, gallery, text_item, image_item)
            noise.add(*of_images, image_item)
            noise.add(*of_texts, text_item)
            rows = np.where(options >= 0, np.searchsorted(used, options), -1)
            here = torch.from_numpy(asked[place]).to(device)
            similarity = choose(pictures[here], answers_of, torch.from_numpy(rows).to(device))
            right = correct_answers(similarity, answer[here])
            correct.append(torch.zeros(len(here), dtype=torch.bool).masked_scatter(here.cpu(), right.cpu()))
            languages[language] = {
                **_named(retrieval_scores(*of_images), "i2t"),
                **_named(retrieval_scores(*of_texts), "t2i"),
                "vqa_accuracy": float(right.float().mean()),
                "vqa_items": len(right),
            }
            precision_here = np.full(len(present), np.nan)
            found, first = of_texts
            precision_here[present] = torch.where(first > 0, found, torch.nan).cpu().numpy()
            depth = min(DEPTH, len(gallery))
            nearest = np.zeros((len(present), depth), np.int64)
            nearest[present] = (texts @ gallery.T).topk(depth, dim=1).indices.cpu().numpy()
            precisions.append(precision_here)
            best.append(nearest)
            chosen.append(np.full((len(here), similarity.shape[1]), np.nan, np.float32))
            chosen[-1][asked[place]] = similarity.cpu().numpy()
    model.train(was_training)
    answers = torch.stack(correct), torch.from_numpy(asked)
    variance = variance_over_languages(*answers)
    summary = {
        "retrieval_map": float(np.mean([(row["map_i2t"] + row["map_t2i"]) / 2 for row in languages.values()])),
        "retrieval_map_noise": noise.standard_error(),
        "vqa_accuracy": float(accuracies(*answers).mean()),
        "vqa_variance": variance,
        "vqa_std": variance**0.5,
        "vqa_variance_noise": variance_noise(*answers, torch.Generator().manual_seed(_NOISE_SEED)),
    }
    consistency = {
        "retrieval": retrieval_consistency(best, np.asarray(captions.present)),
        "vqa": answer_consistency(answers[0].numpy(), asked),
    }
    for task, matrix in consistency.items():
        if (mean := mean_of_pairs(matrix)) is not None:
            summary[f"{task}_consistency"] = mean
    shown = np.stack(best)[:, :, :_SHOWN]
    return Evaluation(languages, summary, Similarities(np.stack(precisions), shown, np.stack(chosen)), consistency)


def lift_kept(accuracy: float, teacher_accuracy: float, chance: float) -> float:
    """The share of the teacher's VQA accuracy above chance that a student keeps.

    Raises:
        ValueError: if the teacher itself does not beat chance, so that there is nothing to keep.
    """
    if teacher_accuracy <= chance:
        raise ValueError(f"the teacher's VQA accuracy {teacher_accuracy:.3f} does not beat chance {chance:.3f}")
    return (accuracy - chance) / (teacher_accuracy - chance)


def _named(scores: RetrievalScores, direction: str) -> dict[str, float]:
    return {
        f"map_{direction}": scores.mean_average_precision,
        **{f"recall_{k}_{direction}": scores.recall[k] for k in RECALL_AT},
        f"mrr_{direction}": scores.mean_reciprocal_rank,
    }


def _encode_images(model: DualEncoder, images: Array, precision: Precision) -> Tensor:
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
