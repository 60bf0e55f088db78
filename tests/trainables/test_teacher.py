from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.trainables.models.tiny import every_family
from trainables.artifacts import artifact_path, is_complete
from trainables.data.prepared import CaptionedImages
from trainables.models.dual_encoder import DualEncoder
from trainables.models.factory import build_model, load_model
from trainables.models.siglip2 import Siglip2Encoder
from trainables.teacher import TeacherSource, fit_teacher, language_exposure, teacher_spec


def training_loss(model: DualEncoder, data: CaptionedImages) -> float:
    """The family's loss over all training images and their English captions."""
    with torch.no_grad():
        image = model.encode_image(model.preprocess(torch.tensor(data.images))).embedding
        text = model.encode_text(torch.tensor(data.tokens[0], dtype=torch.long)).embedding
        return float(model.task_loss(image, text[None], torch.ones(1, len(image)), model.logit_scale, model.logit_bias))


def is_fitted(source: TeacherSource) -> bool:
    return is_complete(artifact_path("teacher", source.fields()))


def changed(source: TeacherSource, **fit: object) -> TeacherSource:
    config = source.config
    return dataclasses.replace(source, config=config.model_copy(update={"fit": config.fit.model_copy(update=fit)}))


@every_family
def test_fitting_lowers_the_loss(teacher: DualEncoder, train_data: CaptionedImages) -> None:
    random = build_model(teacher.spec, seed=3).eval()
    assert training_loss(teacher, train_data) < 0.95 * training_loss(random, train_data)


def test_fitted_teacher_has_the_sizes_that_were_asked_for(teacher: DualEncoder, teacher_source: TeacherSource) -> None:
    assert teacher.spec == teacher_spec(teacher_source.config, teacher_source.tokenizer.vocab_size)
    assert (teacher.spec.text.context_length, teacher.spec.text.vocab_size) == (12, teacher_source.tokenizer.vocab_size)
    assert [len(teacher.layers(tower)) for tower in ("image", "text")] == [3, 3]


def test_teacher_is_fitted_once(teacher_source: TeacherSource, teacher_folder: Path) -> None:
    assert is_fitted(teacher_source)
    steps: list[int] = []
    assert fit_teacher(teacher_source, lambda done, total: steps.append(done)) == teacher_folder
    assert not steps


def test_fit_depends_on_its_source_alone_and_tells_its_progress(
    teacher_source: TeacherSource, teacher: DualEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLYDISTILL_CACHE", str(tmp_path))
    assert not is_fitted(teacher_source)
    torch.manual_seed(123)
    steps: list[tuple[int, int]] = []
    again = load_model(fit_teacher(teacher_source, lambda *progress: steps.append(progress)))
    assert steps == [(step, 8) for step in range(1, 9)]
    for name, tensor in again.state_dict().items():
        torch.testing.assert_close(tensor, teacher.state_dict()[name], rtol=1e-5, atol=1e-6)


def test_exposure_decides_what_the_teacher_learns(teacher_source: TeacherSource, teacher: DualEncoder) -> None:
    even = load_model(fit_teacher(changed(teacher_source, language_exposure="uniform"), lambda *_: None))
    weights = [model.layers("text")[0].state_dict() for model in (even, teacher)]
    assert all(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize("family", ["siglip2"], indirect=True, scope="session")
@pytest.mark.parametrize(("share", "softmax_steps"), [(0.75, 6), (0.0, 0)])
def test_siglip2_turns_to_its_own_loss_once_with_the_bias_that_suits_it(
    teacher_source: TeacherSource,
    share: float,
    softmax_steps: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("POLYDISTILL_CACHE", str(tmp_path))
    steps: list[int] = []
    turns: list[tuple[int, float, float]] = []  # steps done, bias before, slope of the loss by the bias after
    turn = Siglip2Encoder.turn_to_task

    def watched(model: Siglip2Encoder, *batch: Tensor) -> None:
        before = float(model.logit_bias.detach())
        turn(model, *batch)
        bias = model.logit_bias.detach().requires_grad_()
        loss = model.task_loss(*batch, model.logit_scale, bias)
        turns.append((len(steps), before, float(torch.autograd.grad(loss, bias)[0])))

    monkeypatch.setattr(Siglip2Encoder, "turn_to_task", watched)
    fitted = load_model(fit_teacher(changed(teacher_source, softmax_share=share), lambda done, _: steps.append(done)))
    assert turns == [(softmax_steps, -10.0, pytest.approx(0, abs=1e-4))]
    assert float(fitted.logit_bias.detach()) != -10


def test_what_a_clip_teacher_is_known_by_names_no_setting_of_another_family(teacher_source: TeacherSource) -> None:
    # Or else no teacher in a cache would be found again once a family has a setting more.
    assert set(teacher_source.fields()["config"]["fit"]) == {
        "steps",
        "batch_size",
        "learning_rate",
        "weight_decay",
        "language_exposure",
    }


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
    assert not is_fitted(wild)


def test_exposure_of_languages_is_even_or_zipfs() -> None:
    np.testing.assert_allclose(language_exposure("zipf", 4), [1, 1 / 2, 1 / 3, 1 / 4])
    np.testing.assert_allclose(language_exposure("uniform", 4), 1)
