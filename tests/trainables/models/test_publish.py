"""A published model as its family's own library tokenises texts and prepares pictures for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.trainables.models.checkpoints import KINDS, TEXTS, Kind, save_checkpoint
from tests.trainables.models.test_parity import of_open_clip, of_transformers, pictures
from tests.trainables.models.tiny import FAMILIES, tiny_spec
from trainables.data.emoji import LANGUAGES, catalogue
from trainables.models.dual_encoder import DualEncoder
from trainables.models.factory import build_model
from trainables.models.pretrained import load_pretrained, open_checkpoint, pretrained_tokenizer
from trainables.models.publish import publish
from trainables.models.spec import Family
from trainables.models.tokenizer import Tokenizer


@pytest.fixture(scope="module", params=FAMILIES)
def published(
    request: pytest.FixtureRequest, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> tuple[DualEncoder, Path]:
    """A model of random weights, and the folder that it is published in."""
    model, folder = build_model(tiny_spec(request.param), seed=0).eval(), tmp_path_factory.mktemp(request.param)
    publish(model, tokenizer, folder, folder)
    return model, folder


def library_tokens(family: Family, folder: Path, texts: list[str]) -> torch.Tensor:
    if family == "clip":
        from open_clip import get_tokenizer

        found: torch.Tensor = get_tokenizer(f"local-dir:{folder}")(texts)
        return found
    from transformers import AutoProcessor

    tokens: torch.Tensor = AutoProcessor.from_pretrained(folder)(text=texts, return_tensors="pt")["input_ids"]
    return tokens


def library_pixels(family: Family, folder: Path, picture: Image.Image) -> torch.Tensor:
    if family == "clip":
        from open_clip import create_model_from_pretrained

        found: torch.Tensor = create_model_from_pretrained(f"local-dir:{folder}")[1](picture)
        return found[None]
    from transformers import AutoProcessor

    pixels: torch.Tensor = AutoProcessor.from_pretrained(folder)(images=[picture], return_tensors="pt")["pixel_values"]
    return pixels


def test_library_tokenises_names_in_all_languages_as_the_student_does(
    published: tuple[DualEncoder, Path], tokenizer: Tokenizer
) -> None:
    model, folder = published
    fit = Tokenizer(tokenizer.folder, model.spec.text.context_length)
    names = [name for entry in catalogue()[::10] for name in entry.names] + ["  two  spaces ", "it’s “fine”", "it's"]
    assert len(names) > 10 * len(LANGUAGES)
    np.testing.assert_array_equal(library_tokens(model.spec.family, folder, names).numpy(), fit.encode(names))


def test_library_squashes_pictures_of_any_size(published: tuple[DualEncoder, Path]) -> None:
    model, folder = published
    way = {"clip": Image.Resampling.BICUBIC, "siglip2": Image.Resampling.BILINEAR}[model.spec.family]
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (50, 90, 3), np.uint8))
    size = model.spec.image.image_size
    squashed = torch.tensor(np.asarray(picture.resize((size, size), way)))[None]
    found = library_pixels(model.spec.family, folder, picture)
    grey_level = 1.001 / 255 / min(model.spec.preprocess.deviation)  # transformers rounds otherwise than Pillow
    torch.testing.assert_close(found, model.preprocess(squashed), rtol=0, atol=grey_level)


@pytest.mark.parametrize("kind", KINDS)
def test_student_of_a_published_checkpoint_is_published_again(kind: Kind, tmp_path: Path) -> None:
    """Fewer layers, and a text tower of one head; what is read back could be a teacher itself."""
    teacher = open_checkpoint(str(save_checkpoint(kind, tmp_path / "teacher")), None)
    spec, words = load_pretrained(teacher, None).spec, pretrained_tokenizer(teacher)
    smaller = {"image": spec.image.resized(2, spec.image.width), "text": spec.text.resized(2, spec.text.head_width)}
    model = build_model(spec.model_copy(update=smaller), seed=1).eval()
    folder = tmp_path / "student"
    folder.mkdir()
    publish(model, words, folder, folder)

    size = model.spec.image.image_size
    reference = of_transformers(folder, size) if spec.family == "siglip2" else of_open_clip(folder)
    again = open_checkpoint(str(folder), None)
    for tokenizer in (words, pretrained_tokenizer(again)):
        np.testing.assert_array_equal(tokenizer.encode(TEXTS), reference.tokens.numpy())
    for ours in (model, load_pretrained(again, None).eval()):
        with torch.no_grad():
            image = ours.encode_image(ours.preprocess(torch.from_numpy(np.stack(pictures(size)))))
            text = ours.encode_text(reference.tokens)
        torch.testing.assert_close(image.embedding, reference.image, rtol=0, atol=1e-5)
        torch.testing.assert_close(text.embedding, reference.text, rtol=0, atol=1e-5)
        torch.testing.assert_close(ours.logit_scale.detach(), reference.logit_scale)
        torch.testing.assert_close(ours.logit_bias.detach(), reference.logit_bias)
