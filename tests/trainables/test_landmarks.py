from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from trainables.config import Paths, TrialPlan
from trainables.cost import encoding_cost
from trainables.data.prepared import CaptionedImages, VisualQuestions
from trainables.evaluation import speed
from trainables.evaluation.evaluate import evaluate
from trainables.landmarks import landmarks
from trainables.models.dual_encoder import DualEncoder
from trainables.models.factory import build_model


def test_landmarks_are_those_of_an_untrained_student_and_are_kept(
    plan: TrialPlan, data_paths: Paths, teacher: DualEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = tuple(
        {name: Path(path) for name, path in sets.items()} for sets in (data_paths.retrieval, data_paths.vqa)
    )
    found = landmarks(Path(data_paths.teacher), plan.student, *folders, None, 5, "fp32")
    data = {"": CaptionedImages.load(folders[0][""])}, {"": VisualQuestions.load(folders[1][""])}
    expected = evaluate(build_model(plan.student, 5).eval(), *data, "fp32")
    assert found["random_student"] == expected.scores()
    encoding = found["encoding"]
    assert (encoding["threads"], encoding["precision"]) == (torch.get_num_threads(), "float32")
    for name, spec in (("teacher", teacher.spec), ("student", plan.student)):
        cost, computed = encoding[name], encoding_cost(spec, images=1, texts=1)
        assert (cost["image_flops"], cost["text_flops"]) == (computed.image_flops, computed.text_flops)
        assert cost["parameters"] == build_model(spec, 0).parameter_count()
        assert min(cost["image_ms"], cost["text_ms"]) > 0.0
    monkeypatch.setattr(speed, "_BATCH", None)  # whatever would be measured now would fail
    assert landmarks(Path(data_paths.teacher), plan.student, *folders, None, 5, "fp32") == found


def test_milliseconds_grow_with_the_work(teacher: DualEncoder, few_captions: CaptionedImages) -> None:
    text = teacher.spec.text.model_copy(update={"layers": 24})
    deep = build_model(teacher.spec.model_copy(update={"text": text}), seed=0).eval()
    costs = speed.encoding({"shallow": teacher, "deep": deep}, few_captions, "fp32")
    assert costs["deep"]["text_ms"] > 2.0 * costs["shallow"]["text_ms"]
    assert costs["device"]
    assert costs["threads"] <= (os.cpu_count() or 1)
