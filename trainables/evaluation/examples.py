"""The cases that a student gets most right and most wrong, with their pictures, so that no model is needed to look."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from trainables.artifacts import atomically
from trainables.data.prepared import Array, CaptionedImages, VisualQuestions
from trainables.evaluation.evaluate import Evaluation
from trainables.evaluation.scored import Retrieved

_CASES = 2  # best, and worst, a language of a set


def write_examples(
    path: Path, retrieval: Mapping[str, CaptionedImages], vqa: Mapping[str, VisualQuestions], evaluation: Evaluation
) -> None:
    """Write a Parquet file with a row a case: task, set, language, case, text, score, shown, options, answer, chosen.

    retrieval: ``text`` is the query, ``score`` its average precision, ``shown`` PNGs of the right image and of the
    three that came first. vqa: ``shown`` is the picture, ``score`` the margin of the right option over the best wrong
    one, ``options`` the texts, ``answer`` and ``chosen`` positions among them.
    """
    rows = [
        {**row, "set": name}
        for name, data in retrieval.items()
        for row in _retrieval_cases(data, evaluation.retrieved[name])
    ]
    rows += [
        {**row, "set": name}
        for name, data in vqa.items()
        for row in _vqa_cases(data, evaluation.option_similarity[name])
    ]
    schema = pa.schema(
        [
            ("task", pa.string()),
            ("set", pa.string()),  # empty for one without a name
            ("language", pa.string()),
            ("case", pa.string()),
            ("text", pa.string()),
            ("score", pa.float64()),
            ("shown", pa.list_(pa.binary())),
            ("options", pa.list_(pa.string())),
            ("answer", pa.int64()),
            ("chosen", pa.int64()),
        ]
    )
    # A file that pyarrow opens itself stays open if the disk is full.
    with atomically(path) as temporary, open(temporary, "wb") as file:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), file)


def _extremes(scores: Array) -> Iterator[tuple[str, int]]:
    """The rows with the highest and with the lowest finite scores."""
    order = np.argsort(scores, kind="stable")
    order = order[np.isfinite(scores[order])]
    for case, rows in (("best", order[::-1][:_CASES]), ("worst", order[:_CASES])):
        for row in rows:
            yield case, int(row)


def _png(pixels: Array) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels)).save(buffer, "PNG")
    return buffer.getvalue()


def _retrieval_cases(captions: CaptionedImages, retrieved: Retrieved) -> Iterator[dict[str, Any]]:
    for place, language in enumerate(captions.languages):
        for case, row in _extremes(retrieved.text_precision[place]):
            right = int(np.flatnonzero(captions.image_item == captions.text_item[row])[0])
            shown = [right, *retrieved.best_images[place, row]]
            yield {
                "task": "retrieval",
                "language": language,
                "case": case,
                "text": captions.texts[place][row],
                "score": float(retrieved.text_precision[place, row]),
                "shown": [_png(picture) for picture in captions.images[np.asarray(shown)]],
            }


def _vqa_cases(questions: VisualQuestions, similarities: Array) -> Iterator[dict[str, Any]]:
    answers, (texts,) = np.asarray(questions.answer), questions.texts
    items = np.arange(len(answers))
    for place, language in enumerate(questions.languages):
        similarity = similarities[place]
        others = similarity.copy()
        others[items, answers] = -np.inf
        margin = similarity[items, answers] - others.max(axis=1)
        for case, row in _extremes(margin):
            options = [texts[option] for option in questions.options[place, row] if option >= 0]
            yield {
                "task": "vqa",
                "language": language,
                "case": case,
                "text": options[int(answers[row])],
                "score": float(margin[row]),
                "shown": [_png(picture) for picture in questions.images[row : row + 1]],
                "options": options,
                "answer": int(answers[row]),
                "chosen": int(similarity[row].argmax()),
            }
