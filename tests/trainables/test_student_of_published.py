"""Students of every kind of published teacher: of its own size with a trimmed vocabulary, and half as wide."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.trainables.models.checkpoints import KINDS, Kind, save_checkpoint
from trainables.config import StudentConfig, StudentImageTower, StudentTextTower
from trainables.data import embedded
from trainables.data.prepared import CaptionedImages
from trainables.models.dual_encoder import DualEncoder
from trainables.models.factory import read_vocabulary
from trainables.models.pretrained import load_pretrained, open_checkpoint, pretrained_tokenizer
from trainables.models.tokenizer import Tokenizer
from trainables.recipe import Recipe
from trainables.student import make_student, student_spec
from trainables.vocabulary import trimmed_vocabulary


@pytest.mark.parametrize("kind", KINDS)
def test_students_of_every_kind(kind: Kind, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(str(save_checkpoint(kind, tmp_path / kind)), None)
    teacher = load_pretrained(checkpoint, None).eval()
    tokenizer = pretrained_tokenizer(checkpoint)
    size = teacher.spec.image.image_size
    folder = embedded.prepare_captions("validation", ("en", "ja", "ar"), size, tokenizer)
    trimmed = trimmed_vocabulary(tokenizer, [folder], [])
    ids = read_vocabulary(trimmed)
    assert ids is not None
    own = Tokenizer(trimmed)
    data = CaptionedImages.load(folder)
    tokens = torch.tensor(data.tokens[2][:40], dtype=torch.long)
    images = torch.tensor(np.asarray(data.images[:4]))

    def student(width: float) -> DualEncoder:
        image = width if teacher.spec.projects_images else 1.0
        config = StudentConfig(
            image=StudentImageTower(layers=1.0, width=image), text=StudentTextTower(layers=1.0, width=width)
        )
        spec = student_spec(config, teacher.spec, ids)
        return make_student(spec, teacher, Recipe(strategy="fd"), 1, vocabulary=ids).eval()

    whole, half = student(1.0), student(0.5)
    with torch.inference_mode():
        np.testing.assert_array_equal(whole.read(tokens).numpy(), own.encode(data.texts[2][:40]))
        torch.testing.assert_close(
            whole.encode_text(whole.read(tokens)).embedding, teacher.encode_text(tokens).embedding, atol=1e-5, rtol=0
        )
        pixels = teacher.preprocess(images)
        torch.testing.assert_close(whole.encode_image(pixels).embedding, teacher.encode_image(pixels).embedding)
        for narrow in (half.encode_text(half.read(tokens)), half.encode_image(half.preprocess(images))):
            assert narrow.embedding.isfinite().all()
            assert narrow.embedding.shape[1] == teacher.spec.embed_dim
    assert half.parameter_count() < whole.parameter_count() < teacher.parameter_count()
