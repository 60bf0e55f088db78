"""What the recipes of a study are held against beside its teacher: a student of random weights, and what encoding takes."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from trainables.artifacts import artifact, write_json
from trainables.config import Precision
from trainables.data.prepared import CaptionedImages, VisualQuestions
from trainables.device import default_device
from trainables.evaluation.evaluate import evaluate
from trainables.evaluation.speed import encoding
from trainables.models.factory import load_model, read_vocabulary
from trainables.models.spec import ModelSpec
from trainables.recipe import Recipe
from trainables.student import make_student

_STAGE_VERSION = 2  # raise it when the same models get other numbers
_UNTRAINED = Recipe(strategy="fd", initialise="random")


def landmarks(
    teacher: Path,
    student: ModelSpec,
    retrieval: Mapping[str, Path],
    vqa: Mapping[str, Path],
    vocabulary: Path | None,
    seed: int,
    precision: Precision,
) -> dict[str, Any]:
    """``random_student``, the scores of a student of random weights, and ``encoding``, as ``evaluation.speed`` has it.

    ``retrieval``, ``vqa``: the folders of the sets by their names.
    They are kept in the cache: studies of the same teacher, student, data, seed and machine share them.
    """
    device = default_device()
    fields = {
        "teacher": teacher.name,
        "student": student.model_dump(mode="json"),
        "captions": {name: folder.name for name, folder in retrieval.items()},
        "questions": {name: folder.name for name, folder in vqa.items()},
        "vocabulary": vocabulary.name if vocabulary else None,
        "seed": seed,
        "precision": precision,
        "machine": [platform.node(), str(device), torch.get_num_threads()],
        "stage": _STAGE_VERSION,
    }

    def build(folder: Path) -> None:
        original = load_model(teacher)
        words = read_vocabulary(vocabulary)
        untrained = make_student(student, original, _UNTRAINED, seed, vocabulary=words).to(device).eval()
        galleries = {name: CaptionedImages.load(folder) for name, folder in retrieval.items()}
        quizzes = {name: VisualQuestions.load(folder) for name, folder in vqa.items()}
        scores = evaluate(untrained, galleries, quizzes, precision)
        models = {"teacher": original.to(device).eval(), "student": untrained}
        content = {
            "random_student": scores.scores(),
            "encoding": encoding(models, next(iter(galleries.values())), precision),
        }
        write_json(folder / "landmarks.json", content)

    found = artifact("landmarks", fields, build) / "landmarks.json"
    content: dict[str, Any] = json.loads(found.read_text(encoding="utf-8"))
    return content
