from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from trainables.artifacts import artifact_path
from trainables.data.prepared import CaptionedImages
from trainables.models.dual_encoder import DualEncoder
from trainables.models.factory import build_model, load_model
from trainables.strategies import contrastive_task
from trainables.teacher import TeacherSource, fit_teacher, language_exposure, teacher_spec


def training_loss(model: DualEncoder, data: CaptionedImages) -> float:
    """CLIP's loss over all training images and their English captions."""
    with torch.no_grad():
        image = model.encode_image(model.preprocess(torch.tensor(data.images))).embedding
        text = model.encode_text(torch.tensor(data.tokens[0], dtype=torch.long)).embedding
        return float(contrastive_task(image, text[None], torch.ones(1, len(image)), model.logit_scale))


def changed(source: TeacherSource, **fit: object) -> TeacherSource:
    config = source.config
    return dataclasses.replace(source, config=config.model_copy(update={"fit": config.fit.model_copy(update=fit)}))


def test_fitting_lowers_the_loss(teacher: DualEncoder, train_data: CaptionedImages) -> None:
    random = build_model(teacher.spec, seed=3).eval()
    assert training_loss(teacher, train_data) < 0.95 * training_loss(random, train_data)


def test_fitted_teacher_has_the_sizes_that_were_asked_for(teacher: DualEncoder, teacher_source: TeacherSource) -> None:
    assert teacher.spec == teacher_spec(teacher_source.config, teacher_source.vocab_size)
    assert (teacher.spec.text.context_length, teacher.spec.text.vocab_size) == (12, teacher_source.vocab_size)
    assert len(teacher.clip.visual.transformer.resblocks) == 3


def test_teacher_is_fitted_once(teacher_source: TeacherSource, teacher_folder: Path) -> None:
    assert teacher_source.is_fitted()
    steps: list[int] = []
    assert fit_teacher(teacher_source, lambda done, total: steps.append(done)) == teacher_folder
    assert not steps


def test_fit_depends_on_its_source_alone_and_tells_its_progress(
    teacher_source: TeacherSource, teacher: DualEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLYDISTILL_CACHE", str(tmp_path))
    assert not teacher_source.is_fitted()
    torch.manual_seed(123)
    steps: list[tuple[int, int]] = []
    again = load_model(fit_teacher(teacher_source, lambda *progress: steps.append(progress)))
    assert steps == [(step, 8) for step in range(1, 9)]
    for name, tensor in again.state_dict().items():
        torch.testing.assert_close(tensor, teacher.state_dict()[name], rtol=1e-5, atol=1e-6)


def test_exposure_decides_what_the_teacher_learns(teacher_source: TeacherSource, teacher: DualEncoder) -> None:
    even = load_model(fit_teacher(changed(teacher_source, language_exposure="uniform"), lambda *_: None))
    assert not torch.equal(even.clip.text.token_embedding.weight, teacher.clip.text.token_embedding.weight)


def test_other_sources_have_other_folders(teacher_source: TeacherSource) -> None:
    sources = [
        teacher_source,
        changed(teacher_source, steps=9),
        dataclasses.replace(teacher_source, seed=4),
        dataclasses.replace(teacher_source, train=teacher_source.train.with_name("other")),
    ]
    assert len({artifact_path("teacher", source.fields()) for source in sources}) == 4


def test_fit_that_diverges_says_so_and_leaves_no_teacher(teacher_source: TeacherSource) -> None:
    wild = changed(teacher_source, learning_rate=1e30)
    with pytest.raises(FloatingPointError, match="lower its learning rate"):
        fit_teacher(wild, lambda done, total: None)
    assert not wild.is_fitted()


def test_exposure_of_languages_is_even_or_zipfs() -> None:
    np.testing.assert_allclose(language_exposure("zipf", 4), [1, 1 / 2, 1 / 3, 1 / 4])
    np.testing.assert_allclose(language_exposure("uniform", 4), 1)
